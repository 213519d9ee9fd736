"""From a frame to a PULL_RESP: which gateway, which window, and what the gateway says to it.

::

    book ──> launch ──> TX_ACK without an error, or with a warning         done(None)
                ▲  │──> nothing for tx_ack_timeout                         done(None) with version 1, else done(SILENT)
                │  ├──> TX_POWER ──> the same slot with less power
                │  └──> another error ──> air time given back ──> the next slot
                └─────────────────────────────────────────────────┘  none left: done(error)

A slot (`windows`) is used when its time is far enough away, its gateway is on-line and not transmitting then, and the
duty cycle of the band allows it (`ledger`), up to the ceiling of the frame's priority. Of those the first is taken in
which no other gateway near the mote sends on the same frequency, if there is one. What a gateway said nothing about may
have been sent, so it stays accounted for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from broker.devices.lorawan import codec
from broker.devices.lorawan.agenda import Agenda
from broker.devices.lorawan.air import Emission
from broker.devices.lorawan.airlog import AirLog
from broker.devices.lorawan.bookings import GUARD
from broker.devices.lorawan.counters import LorawanCounters
from broker.devices.lorawan.gateway import Address, Gateway
from broker.devices.lorawan.ledger import HOUR
from broker.devices.lorawan.priority import NORMAL
from broker.devices.lorawan.reception import Reception
from broker.devices.lorawan.regions import Region
from broker.devices.lorawan.settings import Settings
from broker.devices.lorawan.windows import Plan, Rx, Slot, after_uplink, at_any_time

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
#: dBm: what gain tables of the reference forwarder have (global_conf.json of packet_forwarder); others are refused.
POWERS: Final = (27, 26, 25, 23, 20, 16, 14, 13, 12, 11, 10, 6, 3, 0, -3, -6)
#: After TX_POWER: every gain table has 14, and those of weak ones 10.
LESS_POWER: Final = (20, 14, 10)
#: Errors of TX_ACK that another time may not have.
BUSY: Final = ("COLLISION_PACKET", "COLLISION_BEACON")
#: How often a class C downlink is put off at the same gateway when that says that it is busy.
MAX_PUT_OFF: Final = 3
#: Seconds before its time that a class C downlink has to leave.
CLASS_C_MARGIN: Final = 0.1
#: Seconds after which a gateway of version 1, which knows no TX_ACK, is taken to have sent.
NO_ACK: Final = 1.0


class Transmission:
    """One frame on its way. ``done(transmission, error)`` is called once; ``slot`` is then where it was last."""

    __slots__ = (
        "done",
        "emission",
        "ends",
        "frame",
        "not_before",
        "origin",
        "power",
        "priority",
        "put_off",
        "seconds",
        "slot",
        "slots",
        "what",
    )

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
        #: The one that it was made of, where that was as soon as it goes.
        self.origin: Slot | None = None
        self.emission: Emission | None = None
        self.power = 0
        #: On air, and when it is over (monotonic).
        self.seconds = 0.0
        self.ends = 0.0
        #: As soon as it goes, but not before this on the gateway's clock, by gateway; how often that was moved.
        self.not_before: dict[Gateway, int] = {}
        self.put_off = 0


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
        air: AirLog,
    ) -> None:
        self.settings = settings
        self._counted = counted
        self._agenda = agenda
        self._monotonic = monotonic
        self._write = write
        self._random_bytes = random_bytes
        self._air = air
        #: What waits for a TX_ACK, by EUI and token.
        self._awaiting: dict[tuple[str, bytes], Transmission] = {}

    # -- where and when --------------------------------------------------------------------------------------------

    def windows(self, receptions: Sequence[Reception], region: Region | None, size: int, rx: Rx) -> Plan:
        """RX1 and RX2 after an uplink. ``size``: bytes of the whole frame."""
        return after_uplink(receptions, region, size, rx, self.settings, self._monotonic())

    def continuous(self, gateways: Iterable[Gateway], region: Region | None, size: int, rx: Rx) -> Plan:
        """Class C: the parameters of RX2, as soon as it goes."""
        return at_any_time(gateways, region, size, rx, self.settings, self._monotonic())

    def duty_wait(self, plan: Plan, size: int, priority: int = NORMAL) -> float:
        """Seconds until the first of the slots is within its duty cycle; 0 when one is now."""
        if not self.settings.duty_cycle:
            return 0.0
        now = self._monotonic()
        least = 0
        share = self.settings.ceilings.of(priority)
        for number, slot in enumerate(plan.slots):
            wait = slot.gateway.air.wait(slot.emission(size, now), share)
            wait = HOUR if wait is None else wait
            least = wait if number == 0 else min(least, wait)
            if not least:
                break
        return least / 1e6

    # -- sending ---------------------------------------------------------------------------------------------------

    def book(self, transmission: Transmission) -> str | None:
        """Reserve the best slot that can be used, for `launch` or `release`. What is wrong if there is none."""
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
        if self._monotonic() <= slot.latest and slot.gateway.address is not None:
            self._put(transmission, slot)
            return
        self.release(transmission)
        if transmission.origin is not None:
            transmission.slots.insert(0, transmission.origin)
        error = self.book(transmission)
        if error is None:
            self._put(transmission, transmission.slot)
        else:
            transmission.done(transmission, error)

    def release(self, transmission: Transmission) -> None:
        """Give the slot back; harmless twice."""
        slot, emission = transmission.slot, transmission.emission
        if slot is not None and emission is not None:
            transmission.emission = None
            slot.gateway.give_back(emission)
            self._air.remove(slot.gateway, emission)

    def _book_next(self, transmission: Transmission) -> str | None:
        """Slots that cannot be used are dropped; those behind the one that is taken stay for another attempt."""
        error = "NO_GATEWAY"
        now = self._monotonic()
        slots = transmission.slots
        clashing: tuple[int, Emission] | None = None
        place = 0
        while place < len(slots):
            slot = slots[place]
            emission = slot.emission(len(transmission.frame), now, transmission.not_before.get(slot.gateway, 0))
            wrong = self._wrong(transmission, slot, emission, now)
            if wrong is not None:
                error = wrong if wrong != "NO_GATEWAY" else error
                del slots[place]
            elif slot.clash(emission.start, emission.end) is not None:
                clashing = clashing or (place, emission)
                place += 1
            else:
                self._reserve(transmission, place, emission, now)
                return None
        if clashing is None:
            return error
        self._counted.clashes += 1
        self._reserve(transmission, *clashing, now)
        return None

    def _wrong(self, transmission: Transmission, slot: Slot, emission: Emission, now: float) -> str | None:
        """Why a slot cannot be used."""
        gateway = slot.gateway
        if gateway.address is None or not gateway.online:
            return "NO_GATEWAY"
        if now > slot.latest:
            return "TOO_LATE"
        if slot.start is None and not slot.at_once:
            # It lies where the transmitter is free: too late is all that it can be.
            if emission.start - gateway.clock.reading(now) > (slot.latest - now) * 1e6:
                return "COLLISION_PACKET"
        elif slot.at_once:
            if gateway.bookings.conflict_at_once(emission.start, emission.end):
                return "COLLISION_PACKET"
        elif gateway.bookings.conflict(emission.start, emission.end) is not None:
            return "COLLISION_PACKET"
        if self.settings.duty_cycle and gateway.air.wait(emission, self.settings.ceilings.of(transmission.priority)):
            return "DUTY"
        return None

    def _reserve(self, transmission: Transmission, place: int, emission: Emission, now: float) -> None:
        slot = transmission.slots.pop(place)
        gateway = slot.gateway
        gateway.reserve(emission)
        self._air.add(gateway, emission)
        ahead = (emission.start - gateway.clock.reading(now)) / 1e6
        transmission.origin = None
        if slot.start is None and not slot.at_once:
            transmission.origin = slot
            slot = slot._replace(start=emission.start, latest=now + ahead - CLASS_C_MARGIN)
        transmission.slot, transmission.emission = slot, emission
        transmission.seconds = emission.length / 1e6
        transmission.ends = now + ahead + (emission.end - emission.start) / 1e6
        transmission.power = power_of(slot)

    def _put(self, transmission: Transmission, slot: Slot | None) -> None:
        assert slot is not None
        gateway = slot.gateway
        address = gateway.address
        assert address is not None
        token = self._random_bytes(2)
        while (gateway.eui, token) in self._awaiting:
            token = self._random_bytes(2)
        key = (gateway.eui, token)
        tmst = None if slot.start is None else gateway.clock.tmst(slot.start)
        packet = codec.txpk(transmission.frame, slot.frequency, slot.rate.datr, transmission.power, tmst)
        self._awaiting[key] = transmission
        patience = self.settings.tx_ack_timeout if gateway.version > 1 else min(NO_ACK, self.settings.tx_ack_timeout)
        self._agenda.at(self._monotonic() + patience, self._silent, (key, transmission))
        self._counted.downlinks += 1
        gateway.sent += 1
        self._write(codec.pull_resp(gateway.version, token, packet), address)

    def clear(self) -> None:
        """Nobody waits for an answer of a gateway any more."""
        self._awaiting.clear()

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
        if error == "TX_POWER" and self._with_less(transmission):
            return
        self.release(transmission)
        self._put_off(transmission, error)
        if self._book_next(transmission) is None:
            self._counted.retried += 1
            self._put(transmission, transmission.slot)
        else:
            transmission.done(transmission, error)

    def _with_less(self, transmission: Transmission) -> bool:
        """The same slot again, with less power. The gateway is not asked for more than that any more."""
        slot = transmission.slot
        assert slot is not None
        less = next((power for power in LESS_POWER if power < transmission.power), None)
        if less is None or self._monotonic() > slot.latest or slot.gateway.address is None:
            return False
        transmission.power = slot.gateway.max_power = less
        self._put(transmission, slot)
        return True

    def _put_off(self, transmission: Transmission, error: str) -> None:
        """Class C: a gateway that is busy may have time later, if no other one has now."""
        slot, origin = transmission.slot, transmission.origin
        if origin is None or slot is None or error not in BUSY or transmission.put_off >= MAX_PUT_OFF:
            return
        transmission.put_off += 1
        transmission.not_before[slot.gateway] = (slot.start or 0) + int(transmission.seconds * 1e6) + GUARD
        timed = sum(not other.at_once for other in transmission.slots)
        transmission.slots.insert(timed, origin)

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


def power_of(slot: Slot) -> int:
    """dBm at the antenna's connector: what is allowed, less what the antenna adds, from a common gain table."""
    gateway = slot.gateway
    most = slot.eirp - gateway.antenna_gain
    if gateway.max_power is not None:
        most = min(most, gateway.max_power)
    return next((power for power in POWERS if power <= most), POWERS[-1])


def milliseconds(wait: float) -> int:
    """Whole milliseconds that are not less; seconds here are whole microseconds."""
    return -(-round(wait * 1e6) // 1000)
