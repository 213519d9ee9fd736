"""Reports for people: tables, one column a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from broker.simulate.lorawan.ledger import HOUR
from broker.simulate.lorawan.plans import PLANS
from broker.simulate.lorawan.report import BATTERY, Report, lifetime

#: Widths of the table.
LABEL: Final = 44
VALUE: Final = 16
#: Violations and lines of shares that are shown.
MAX_SHOWN: Final = 10

Row = tuple[str, Callable[[Report], str]]

_ROWS: Final[tuple[Row, ...]] = (
    ("motes joined", lambda run: f"{run.joined} of {run.scenario.motes}"),
    ("join-requests", lambda run: str(run.join_requests)),
    ("messages", lambda run: str(run.messages)),
    ("delivered", lambda run: str(run.delivered)),
    ("delivery rate", lambda run: f"{100 * run.delivery:.2f} %"),
    ("delivered more than once", lambda run: str(run.delivered_twice)),
    ("confirmed, of these acknowledged", lambda run: f"{run.confirmed}, {run.acknowledged}"),
    ("transmissions (repeated)", lambda run: f"{run.transmissions} ({run.repeated})"),
    ("airtime up, s", lambda run: f"{run.uplink_airtime:.0f}"),
    ("  of one transmission, ms", lambda run: f"{_mean(run.uplink_airtime, run.transmissions):.1f}"),
    ("downlinks", lambda run: str(run.downlinks)),
    ("airtime down, s", lambda run: f"{run.downlink_airtime:.0f}"),
    ("  of one downlink, ms", lambda run: f"{_mean(run.downlink_airtime, run.downlinks):.1f}"),
    ("downlinks taken: RX1, RX2, class C", lambda run: "{1}, {2}, {0}".format(*run.heard_downlinks)),
    ("downlinks lost on the way", lambda run: str(sum(run.air[f"down_{why}"] for why in ("weak", "drowned", "deaf")))),
    ("downlinks outside their windows", lambda run: str(run.violations)),
    ("commands ordered", lambda run: str(sum(run.commands.values()))),
    ("  succeeded", lambda run: str(run.commands.get("succeeded", 0))),
    ("  failed", lambda run: str(run.commands.get("failed", 0))),
    ("  still under way", lambda run: str(_under_way(run))),
    ("  payloads that motes got", lambda run: str(run.commands_received)),
    ("MAC commands to motes", lambda run: str(run.mac_asked)),
    ("  answered (refused)", lambda run: f"{run.mac_answered} ({run.mac_refused})"),
    ("ADRACKReq of motes", lambda run: str(run.adr_requests)),
    ("charge of a mote, mAh", lambda run: f"{run.charge:.3f}"),
    (f"battery of {BATTERY:.0f} mAh: days", lambda run: f"{lifetime(run):.0f}"),
    ("  frames delivered", lambda run: f"{run.battery_frames:.0f}"),
    ("CPU seconds", lambda run: f"{run.cpu:.1f}"),
)


def _mean(seconds: float, number: int) -> float:
    return 1000.0 * seconds / number if number else 0.0


def _under_way(run: Report) -> int:
    return sum(number for state, number in run.commands.items() if state in ("queued", "sent", "pending"))


def table(runs: Sequence[Report], names: Sequence[str]) -> list[str]:
    """The figures, one column a run."""
    lines = [" " * LABEL + "".join(f"{name:>{VALUE}}" for name in names)]
    for label, value in _ROWS:
        lines.append(f"{label:<{LABEL}}" + "".join(f"{value(run):>{VALUE}}" for run in runs))
    return lines


def rates(run: Report) -> list[str]:
    """How many transmissions of each hour had which data rate."""
    plan = PLANS[run.scenario.region]
    known = sorted({rate for hour in run.rates for rate in hour})
    heads = [f"{plan.rates[rate].datr}" for rate in known]
    lines = ["hour  " + "".join(f"{head:>12}" for head in heads)]
    told = ""
    for number, hour in enumerate(run.rates):
        total = sum(hour.values()) or 1
        parts = "".join(f"{100 * hour.get(rate, 0) / total:>10.1f} %" for rate in known)
        if parts != told:
            lines.append(f"{number:>4}  {parts}")
        elif lines[-1] != "   ...":
            lines.append("   ...")
        told = parts
    last = "  ".join(f"{plan.rates[rate].datr}: {motes}" for rate, motes in run.final_rates.items())
    powers = "  ".join(f"{plan.eirp - 2 * power:g} dBm: {motes}" for power, motes in run.final_powers.items())
    repeats = "  ".join(f"{number}: {motes}" for number, motes in run.final_repeats.items())
    lines += [f"motes in the end    {last}", f"  their power       {powers}", f"  their NbTrans     {repeats}"]
    return lines


def shares(run: Report) -> list[str]:
    """The fullest hour of each gateway and sub-band, the fullest first."""
    if not run.shares:
        return ["no sub-band of this region has a duty cycle"]
    lines = [f"{'gateway':<18}{'sub-band, MHz':<22}{'fullest hour':>14}{'allowed':>10}{'share':>9}{'dBm':>7}  from"]
    for one in sorted(run.shares, key=lambda one: one.used / one.allowed, reverse=True):
        band = f"{one.low / 1e6:.3f} - {one.high / 1e6:.3f}"
        verdict = "" if one.lawful else "  OVER"
        lines.append(
            f"{one.gateway:<18}{band:<22}{one.used:>12.3f} s{one.allowed:>8.1f} s{100 * one.used / HOUR:>7.3f} %"
            f"{one.power:>7.1f}  {max(0.0, one.begins) / HOUR:5.2f} h{verdict}"
        )
    return lines


def wrong(run: Report) -> list[str]:
    """All that should not be: empty when nothing is."""
    lines = [f"outside its window: {one.mote} at {one.at:.3f} s, {one.why}" for one in run.violation_list[:MAX_SHOWN]]
    if run.violations > MAX_SHOWN:
        lines.append(f"and {run.violations - MAX_SHOWN} more")
    over = [one for one in run.shares if not one.lawful]
    lines += [f"over the limit: {one.gateway} in {one.low / 1e6} MHz: {one.used:.3f} s" for one in over[:MAX_SHOWN]]
    if run.overlaps:
        lines.append(f"{run.overlaps} transmissions of a gateway overlap another of its own")
    if run.delivered_twice:
        lines.append(f"{run.delivered_twice} messages were delivered more than once")
    lines += [f"fault: {fault}" for fault in run.faults]
    return lines
