"""From a frame to a PULL_RESP: which gateway, which window, and what the gateway says to it.

::

    book ──> launch ──> TX_ACK without an error                        done(None)
                ▲  │──> nothing for tx_ack_timeout                     done(None) with version 1, else done(SILENT)
                │  └──> TX_ACK with an error ──> the next slot
                └──────────────────────────────────┘  none left: done(error)

A slot is a place and time at which a frame could go out: a gateway, its clock, a frequency and a data rate. The slots
of class A are RX1 of each gateway that heard the uplink, then RX2 of each. A slot is used when its time is far enough
away, its gateway is on-line and not transmitting then, and the duty cycle of the band allows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from broker.devices.lorawan import codec
from broker.devices.lorawan.agenda import Agenda
from broker.devices.lorawan.airtime import airtime
from broker.devices.lorawan.counters import LorawanCounters
from broker.devices.lorawan.gateway import Address, Gateway
from broker.devices.lorawan.priority import NORMAL
from broker.devices.lorawan.reception import Reception
from broker.devices.lorawan.regions import DataRate, Region
from broker.devices.lorawan.settings import Settings
from broker.devices.lorawan.windows import Plan, Rx, Slot, by_margin, fits, rx2

#: Why a downlink failed, as the words of TX_ACK and ours, with the numbers that customer servers are told.
CODES: Final[dict[str, int]] = {
    "NO_GATEWAY": 1,
    "SILENT": 1,
    "TOO_LATE": 2,
    "TOO_EARLY": 3,
    "COLLISION_PACKET": 4,
    "COLLISION_BEACON": 4,
    "TX_FREQ": 5,
    "TX_POWER": 6,
    "GPS_UNLOCKED": 7,
    "NOT_ACKNOWLEDGED": 8,
    "TOO_LONG": 9,
    "EXPIRED": 10,
}
#: What every gateway can send with, dBm.
SAFE_POWER: Final = 14
#: Seconds from now to a class C downlink: the forwarder needs some to prepare.
CLASS_C_LEAD: Final = 0.33
#: Seconds in which it has to have left.
CLASS_C_PATIENCE: Final = 60.0
#: How often a class C downlink steps over another booking.
MAX_STEPS: Final = 20
RX2_AFTER_RX1: Final = 1.0
#: Seconds after which a gateway of version 1, which knows no TX_ACK, is taken to have sent.
NO_ACK: Final = 1.0


class Transmission:
    """One frame on its way. ``done(transmission, error)`` is called once; ``slot`` is then where it was last."""

    __slots__ = ("booked", "done", "frame", "power", "priority", "seconds", "slot", "slots", "what")

    def __init__(
        self,
        frame: bytes,
        slots: Iterable[Slot],
        done: Callable[[Transmission, str | None], None],
        what: Any,
        priority: int = NORMAL,
    ) -> None:
        self.frame = frame
        self.slots = list(slots)
        self.done = done
        #: Whatever the caller wants to find again.
        self.what = what
        #: Decides how much of a band's air time is open to it (`priority`).
        self.priority = priority
        self.slot: Slot | None = None
        self.power = 0
        self.seconds = 0.0
        self.booked: tuple[int, int] | None = None


Write = Callable[[bytes, Address], None]


class Transmitter:
    """Sends to gateways. ``write(data, address)``; ``random_bytes`` makes tokens."""

    def __init__(
        self,
        settings: Settings,
        counted: LorawanCounters,
        agenda: Agenda,
        monotonic: Callable[[], float],
        write: Write,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self.settings = settings
        self._counted = counted
        self._agenda = agenda
        self._monotonic = monotonic
        self._write = write
        self._random_bytes = random_bytes
        #: What waits for a TX_ACK, by EUI and token.
        self._awaiting: dict[tuple[str, bytes], Transmission] = {}

    # -- where and when --------------------------------------------------------------------------------------------

    def windows(self, receptions: Sequence[Reception], region: Region | None, size: int, rx: Rx) -> Plan:
        """RX1 and RX2 after an uplink. ``size``: bytes of the whole frame."""
        first: list[Slot] = []
        second: list[Slot] = []
        windows = 0
        for reception in by_margin(receptions):
            gateway = reception.gateway
            if reception.local is None or gateway.address is None or not gateway.online:
                continue
            plan = region or gateway.region
            number = plan.rate_of(reception.datr)
            frequency = plan.rx1_frequency(reception.frequency)
            if number is not None and frequency is not None:
                windows += 1
                rate = plan.rx1_rate(number, rx.offset)
                if fits(size, plan, rate):
                    first.append(self._window(reception, plan, frequency, rate, rx.delay))
            windows += 1
            frequency, rate = rx2(plan, rx)
            if fits(size, plan, rate):
                second.append(self._window(reception, plan, frequency, rate, rx.delay + RX2_AFTER_RX1))
        return Plan(first + second, windows > 0 and not first and not second)

    def _window(self, reception: Reception, plan: Region, frequency: int, rate: int, delay: float) -> Slot:
        assert reception.local is not None
        latest = reception.arrived + delay - self.settings.downlink_margin
        start = reception.local + round(delay * 1e6)
        return Slot(reception.gateway, start, latest, frequency, plan.rates[rate], plan.band_of(frequency))

    def continuous(self, gateways: Iterable[Gateway], region: Region | None, size: int, rx: Rx) -> Plan:
        """Class C: the parameters of RX2, as soon as it goes.

        A gateway behind a slow line, or whose clock was set anew, finds the time that it is told past: then ``imme``.
        """
        now = self._monotonic()
        slots: list[Slot] = []
        untimed: list[Slot] = []
        long = False
        for gateway in gateways:
            if gateway.address is None or not gateway.online:
                continue
            plan = region or gateway.region
            frequency, number = rx2(plan, rx)
            if not fits(size, plan, number):
                long = True
                continue
            rate, band = plan.rates[number], plan.band_of(frequency)
            local = gateway.estimate(now)
            start = None if local is None else self._free_from(gateway, local, rate, size)
            slot = Slot(gateway, start, now + CLASS_C_PATIENCE, frequency, rate, band)
            slots.append(slot)
            if start is not None:
                untimed.append(slot._replace(start=None))
        return Plan(slots + untimed, long and not slots)

    def _free_from(self, gateway: Gateway, local: int, rate: DataRate, size: int) -> int:
        start = local + int(CLASS_C_LEAD * 1e6)
        length = int(airtime(rate, size) * 1e6)
        for _ in range(MAX_STEPS):
            later = gateway.conflict(start, start + length)
            if later is None:
                break
            start = later
        return start

    def duty_wait(self, plan: Plan, size: int, priority: int = NORMAL) -> float:
        """Seconds until the first of the slots is within its duty cycle; 0 when one is now."""
        if not self.settings.duty_cycle:
            return 0.0
        now = self._monotonic()
        waits = [
            0.0 if slot.band is None else slot.gateway.duty_wait(slot.band, airtime(slot.rate, size), now)
            for slot in plan.slots
        ]
        return min(waits, default=0.0)

    # -- sending ---------------------------------------------------------------------------------------------------

    def book(self, transmission: Transmission) -> str | None:
        """Reserve the first slot that can be used, for `launch` or `release`. What is wrong if there is none."""
        error = self._book_next(transmission)
        if error == "COLLISION_PACKET":
            self._counted.busy += 1
        elif error == "DUTY":
            self._counted.duty += 1
        elif error is not None:
            self._counted.late += 1
        return error

    def launch(self, transmission: Transmission) -> None:
        """Send what is booked, or in a later slot if that is past by now."""
        slot = transmission.slot
        assert slot is not None
        if self._monotonic() <= slot.latest:
            self._put(transmission, slot)
            return
        self.release(transmission)
        error = self.book(transmission)
        if error is None:
            self._put(transmission, transmission.slot)
        else:
            transmission.done(transmission, error)

    def release(self, transmission: Transmission) -> None:
        """Give the slot back."""
        slot = transmission.slot
        if slot is None:
            return
        if transmission.booked is not None:
            slot.gateway.unbook(*transmission.booked)
            transmission.booked = None
        if slot.band is not None:
            slot.gateway.unuse(slot.band, transmission.seconds)

    def _book_next(self, transmission: Transmission) -> str | None:
        error = "NO_GATEWAY"
        now = self._monotonic()
        while transmission.slots:
            slot = transmission.slots.pop(0)
            gateway = slot.gateway
            if gateway.address is None or not gateway.online:
                continue
            if now > slot.latest:
                error = "TOO_LATE"
                continue
            seconds = airtime(slot.rate, len(transmission.frame))
            span = None if slot.start is None else (slot.start, slot.start + int(seconds * 1e6))
            if span is not None and gateway.conflict(*span) is not None:
                error = "COLLISION_PACKET"
                continue
            if slot.band is not None and self.settings.duty_cycle:
                if gateway.duty_wait(slot.band, seconds, now) > 0:
                    error = "DUTY"
                    continue
                gateway.use(slot.band, seconds, now)
            if span is not None:
                gateway.book(*span)
            transmission.slot, transmission.booked, transmission.seconds = slot, span, seconds
            transmission.power = self.settings.power or gateway.region.power
            return None
        return error

    def _put(self, transmission: Transmission, slot: Slot | None) -> None:
        assert slot is not None
        gateway = slot.gateway
        address = gateway.address
        assert address is not None
        token = self._random_bytes(2)
        while (gateway.eui, token) in self._awaiting:
            token = self._random_bytes(2)
        key = (gateway.eui, token)
        tmst = None if slot.start is None else slot.start % (1 << 32)
        packet = codec.txpk(transmission.frame, slot.frequency, slot.rate.datr, transmission.power, tmst)
        self._awaiting[key] = transmission
        patience = self.settings.tx_ack_timeout if gateway.version > 1 else min(NO_ACK, self.settings.tx_ack_timeout)
        self._agenda.at(self._monotonic() + patience, self._silent, (key, transmission))
        self._counted.downlinks += 1
        gateway.sent += 1
        self._write(codec.pull_resp(gateway.version, token, packet), address)

    # -- what the gateway says -------------------------------------------------------------------------------------

    def answered(self, gateway: Gateway, token: bytes, error: str | None) -> None:
        """A TX_ACK."""
        transmission = self._awaiting.pop((gateway.eui, token), None)
        if transmission is None:
            self._counted.stray_acks += 1
            return
        if error is None:
            transmission.done(transmission, None)
            return
        self._counted.tx_errors += 1
        slot = transmission.slot
        assert slot is not None
        if error == "TX_POWER" and transmission.power > SAFE_POWER:
            transmission.power = SAFE_POWER
            self._put(transmission, slot)
            return
        self.release(transmission)
        if self._book_next(transmission) is None:
            self._put(transmission, transmission.slot)
        else:
            transmission.done(transmission, error)

    def _silent(self, waited: tuple[tuple[str, bytes], Transmission]) -> None:
        key, transmission = waited
        if self._awaiting.get(key) is not transmission:
            return
        del self._awaiting[key]
        assert transmission.slot is not None
        if transmission.slot.gateway.version == 1:
            transmission.done(transmission, None)
            return
        self._counted.tx_silent += 1
        transmission.done(transmission, "SILENT")
