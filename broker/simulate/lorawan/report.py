"""What came of a simulated day, in figures: one run, or two beside each other."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import msgspec

from broker.simulate.lorawan.day import Day, Scenario
from broker.simulate.lorawan.ledger import HOUR

#: Of the battery that "frames" are counted for: two AA cells of lithium, mAh.
BATTERY: Final = 2_400.0
MAX_FAULTS: Final = 20


class SharePart(msgspec.Struct, kw_only=True):
    """The fullest hour of one gateway in one sub-band. Frequencies in Hz, times in seconds, power in dBm EIRP."""

    gateway: str
    low: int
    high: int
    used: float
    allowed: float
    begins: float
    emissions: int
    power: float
    lawful: bool


class ViolationPart(msgspec.Struct, kw_only=True):
    """A downlink that its mote did not listen for."""

    at: float
    gateway: str
    mote: str
    why: str


class Report(msgspec.Struct, kw_only=True):
    """One run. Airtimes in seconds."""

    scenario: Scenario
    #: CPU seconds.
    cpu: float
    joined: int
    join_requests: int
    messages: int
    delivered: int
    delivered_twice: int
    confirmed: int
    acknowledged: int
    transmissions: int
    repeated: int
    delayed: int
    adr_requests: int
    uplink_airtime: float
    downlinks: int
    downlink_airtime: float
    #: Downlinks that a mote took, by window: continuous, RX1, RX2; those that it had before, or could not read.
    heard_downlinks: list[int]
    unread_downlinks: int
    #: State -> number, of the commands that were ordered; why they failed; how many payloads motes got.
    commands: dict[str, int]
    command_failures: dict[str, int]
    commands_received: int
    #: mAh that a class A mote used, on average, and messages that were delivered for a battery of `BATTERY`.
    charge: float
    battery_frames: float
    #: Of each hour: data rate -> transmissions.
    rates: list[dict[int, int]]
    #: Of the motes in the end: data rate, TXPower, NbTrans -> motes.
    final_rates: dict[int, int]
    final_powers: dict[int, int]
    final_repeats: dict[int, int]
    mac_asked: int
    mac_answered: int
    mac_refused: int
    status_messages: dict[str, int]
    shares: list[SharePart]
    overlaps: int
    violations: int
    violation_list: list[ViolationPart]
    #: What became of packets: at gateways (a packet counts at each), and of downlinks.
    air: dict[str, int]
    refused_by_gateways: dict[str, int]
    counters: dict[str, int]
    faults: list[str]

    @property
    def delivery(self) -> float:
        """Share of the messages that were delivered."""
        return self.delivered / self.messages if self.messages else 0.0

    @property
    def lawful(self) -> bool:
        return all(share.lawful for share in self.shares)


class Comparison(msgspec.Struct, kw_only=True):
    """The same day with ADR and without."""

    adr: Report
    without: Report

    @property
    def airtime_ratio(self) -> float:
        """How much more is in the air without ADR."""
        return self.without.uplink_airtime / self.adr.uplink_airtime if self.adr.uplink_airtime else 0.0


def report_of(day: Day, cpu: float) -> Report:
    """After `Day.run`."""
    return Report(scenario=day.scenario, cpu=cpu, **_messages(day), **_downlinks(day), **_motes(day), **_wrong(day))


def _messages(day: Day) -> dict[str, Any]:
    """What motes said, and what came of it."""
    tallies = [mote.tally for mote in day.motes]
    watcher = day.inside.watcher
    return {
        "joined": sum(mote.joined for mote in day.motes),
        "join_requests": sum(tally.joins for tally in tallies),
        "messages": sum(tally.messages for tally in tallies),
        "delivered": sum(map(len, watcher.delivered.values())),
        "delivered_twice": watcher.twice,
        "confirmed": sum(tally.confirmed for tally in tallies),
        "acknowledged": sum(tally.acknowledged for tally in tallies),
        "transmissions": sum(tally.transmissions for tally in tallies),
        "repeated": sum(tally.repeated for tally in tallies),
        "delayed": sum(tally.delayed for tally in tallies),
        "adr_requests": sum(tally.adr_requests for tally in tallies),
        "uplink_airtime": sum(tally.sent_seconds for tally in tallies),
        "rates": _rates(day),
    }


def _downlinks(day: Day) -> dict[str, Any]:
    """What gateways sent, and what motes heard of it."""
    tallies = [mote.tally for mote in day.motes]
    watcher = day.inside.watcher
    return {
        "downlinks": sum(len(gateway.ledger) for gateway in day.forwarders),
        "downlink_airtime": sum(gateway.ledger.seconds for gateway in day.forwarders),
        "heard_downlinks": [sum(tally.downlinks[window] for tally in tallies) for window in range(3)],
        "unread_downlinks": sum(tally.unread for tally in tallies),
        "commands": dict(Counter(watcher.states.get(id, "lost") for id in day.orders)),
        "command_failures": dict(watcher.failures),
        "commands_received": sum(tally.commanded for tally in tallies),
        "status_messages": dict(watcher.statuses),
        "shares": _shares(day),
        "refused_by_gateways": _sum(gateway.errors for gateway in day.forwarders),
    }


def _motes(day: Day) -> dict[str, Any]:
    """Batteries, and how motes are set in the end."""
    motes = day.motes
    on_battery = [mote for mote in motes if not mote.traits.class_c] or motes
    charges = [mote.tally.charge(day.scenario.hours * HOUR) for mote in on_battery]
    delivered = sum(len(day.inside.watcher.delivered.get(mote.name, ())) for mote in on_battery)
    return {
        "charge": sum(charges) / len(charges) / HOUR,
        "battery_frames": BATTERY * HOUR * delivered / sum(charges),
        "final_rates": _count(mote.mac.rate for mote in motes),
        "final_powers": _count(mote.mac.power for mote in motes),
        "final_repeats": _count(mote.mac.repeats for mote in motes),
        "mac_asked": sum(mote.mac.asked for mote in motes),
        "mac_answered": sum(mote.mac.answered for mote in motes),
        "mac_refused": sum(mote.mac.refused for mote in motes),
    }


def _wrong(day: Day) -> dict[str, Any]:
    """What was lost, and what should not have been."""
    counted = day.inside.network.counted.as_dict()
    return {
        "overlaps": sum(gateway.ledger.overlaps() for gateway in day.forwarders),
        "violations": day.air.violated,
        "violation_list": [ViolationPart(**one._asdict()) for one in day.air.violations],
        "air": {name: getattr(day.air.counted, name) for name in day.air.counted.__slots__},
        "counters": {
            name.removeprefix("lorawan_").removesuffix("_total"): int(value) for name, value in counted.items() if value
        },
        "faults": [f"{where}: {error!r}" for where, error in day.inside.faults[:MAX_FAULTS]],
    }


def _count(values: Any) -> dict[int, int]:
    return dict(sorted(Counter(values).items()))


def _sum(parts: Any) -> dict[str, int]:
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return dict(total)


def _rates(day: Day) -> list[dict[int, int]]:
    hours: list[dict[int, int]] = []
    for number in range(-int(-day.scenario.hours // 1)):
        total: Counter[int] = Counter()
        for mote in day.motes:
            total.update(mote.tally.rates.get(number, {}))
        hours.append(dict(sorted(total.items())))
    return hours


def _shares(day: Day) -> list[SharePart]:
    found = []
    for gateway in day.forwarders:
        for share in gateway.ledger.shares(day.plan):
            found.append(
                SharePart(
                    gateway=gateway.eui,
                    low=share.band.low,
                    high=share.band.high,
                    used=share.used,
                    allowed=share.allowed,
                    begins=share.begins,
                    emissions=share.emissions,
                    power=share.power,
                    lawful=share.lawful,
                )
            )
    return found


def lifetime(report: Report) -> float:
    """Days that a battery of `BATTERY` lasts."""
    hours = report.scenario.hours
    return BATTERY / (report.charge / hours) / 24.0 if report.charge else 0.0
