"""Who is sending now, who hears it, and what drowns: the air between motes and gateways.

::

    mote     ──up──>    each gateway: strong enough, on a channel of its, a demodulator free, not sending itself,
                        not drowned by another packet on that frequency
    gateway  ──down──>  each mote that listens on that frequency and data rate at that very moment, likewise

Downlinks have inverted polarity: they and uplinks do not disturb each other. A downlink that its mote does not listen
for is a `Violation`; one that is lost on the way is not.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol

from broker.simulate.lorawan import radio
from broker.simulate.lorawan.ledger import Ledger
from broker.simulate.lorawan.radio import Modulation

#: Seconds by which a downlink may begin beside the start of a window (LoRaWAN 1.0.3, 3.3).
TOLERANCE: Final = 20e-6
#: Violations that are kept in full; more are counted.
MAX_KEPT: Final = 100


class Window(NamedTuple):
    """When and on what a mote listens. ``number``: 1, 2; 0 is the continuous one of class C."""

    start: float
    frequency: int
    modulation: Modulation
    number: int


class Violation(NamedTuple):
    """A downlink outside the windows of its mote. Times in seconds."""

    at: float
    gateway: str
    mote: str
    why: str


class Listener(Protocol):
    """What the air has to know of a mote."""

    ledger: Ledger
    name: str

    def listens(self, start: float, frequency: int, modulation: Modulation) -> Window | None:
        """The window that a packet which begins then falls into."""

    def deaf(self, start: float) -> bool:
        """Whether it cannot listen: it is sending itself."""

    def hears(self, frame: bytes, window: Window, start: float, end: float, snr: float) -> None:
        """A packet ended that fell into one of its windows, and was not lost."""

    def windows_text(self) -> str:
        """For people: where it listened last."""


class Station(Protocol):
    """What the air has to know of a gateway. ``number`` is its place in `Air.stations`."""

    number: int
    name: str
    ledger: Ledger
    #: Frequencies that it hears.
    heard: frozenset[int]
    demodulators: int
    #: Demodulators that are busy.
    busy: int

    def sending(self, start: float, end: float) -> bool:
        """Whether its transmitter is on in any of that time."""

    def received(
        self, frame: bytes, frequency: int, modulation: Modulation, rssi: float, snr: float, end: float
    ) -> None:
        """A packet has just ended, and is whole."""


class Packet:
    """One transmission. ``powers``: dBm at each gateway (uplinks); ``over``: packets that overlap it.

    ``place``: the number of the gateway that sends it (downlinks); ``owners``: the motes that it is for.
    """

    __slots__ = (
        "end",
        "frame",
        "frequency",
        "modulation",
        "over",
        "owners",
        "place",
        "power",
        "powers",
        "start",
        "steady",
    )

    def __init__(
        self, frame: bytes, frequency: int, modulation: Modulation, start: float, end: float, power: float
    ) -> None:
        self.frame = frame
        self.frequency = frequency
        self.modulation = modulation
        self.start = start
        self.end = end
        self.power = power
        self.powers: list[float] = []
        self.place = -1
        self.owners: list[Listener] = []
        self.over: list[Packet] = []
        #: From then on it must not be disturbed.
        self.steady = start + (radio.PREAMBLE - radio.PREAMBLE_NEEDED) * modulation.symbol


class Losses:
    """Uplinks by what became of them at each gateway, and downlinks at the mote that they were for."""

    __slots__ = ("collided", "down_deaf", "down_drowned", "down_weak", "half_duplex", "heard", "no_demodulator", "weak")

    def __init__(self) -> None:
        self.heard = self.weak = self.no_demodulator = self.half_duplex = self.collided = 0
        self.down_weak = self.down_drowned = self.down_deaf = 0


class Air:
    """``loss``: a share of packets that is lost for no reason at all. ``keep``: every emission is remembered."""

    def __init__(
        self,
        reactor: Any,
        dice: random.Random,
        *,
        loss: float = 0.0,
        fading: float = radio.FADING,
        orthogonal: bool = False,
        keep: bool = True,
    ) -> None:
        self.reactor = reactor
        self.dice = dice
        self.keep = keep
        self.loss = loss
        self.fading = fading
        #: Spreading factors do not disturb one another at all.
        self.orthogonal = orthogonal
        self.stations: list[Station] = []
        #: dB between a mote and each station.
        self._paths: dict[Any, list[float]] = {}
        self._motes: dict[int, list[Listener]] = {}
        self._windows: dict[tuple[int, Modulation], list[tuple[float, Listener]]] = {}
        self._continuous: dict[tuple[int, Modulation], dict[Listener, None]] = {}
        self._up: dict[int, list[Packet]] = {}
        self._down: dict[int, list[Packet]] = {}
        self.counted = Losses()
        self.violations: list[Violation] = []
        self.violated = 0
        self.downlinks = 0

    def place(self, mote: Listener, paths: list[float]) -> None:
        """A mote is there; ``paths``: dB to each station."""
        self._paths[mote] = paths

    def later(self, when: float, call: Callable[..., object], *arguments: object) -> Any:
        """Call it at a time; a real reactor may already be past that."""
        return self.reactor.callLater(max(0.0, when - self.reactor.seconds()), call, *arguments)

    # -- who listens -----------------------------------------------------------------------------------------------

    def named(self, mote: Listener, old: int | None, new: int | None) -> None:
        """A mote has another address: then the air knows for whom a downlink is."""
        if old is not None and mote in self._motes.get(old, ()):
            self._motes[old].remove(mote)
        if new is not None:
            self._motes.setdefault(new, []).append(mote)

    def opens(self, mote: Listener, window: Window) -> None:
        """A mote will listen."""
        now = self.reactor.seconds()
        key = (window.frequency, window.modulation)
        known = self._windows.setdefault(key, [])
        if known and known[0][0] < now - 1.0:
            known[:] = [one for one in known if one[0] >= now - 1.0]
        known.append((window.start, mote))

    def tuned(self, mote: Listener, old: Window | None, new: Window | None) -> None:
        """A class C mote listens all the time."""
        if old is not None:
            self._continuous.get((old.frequency, old.modulation), {}).pop(mote, None)
        if new is not None:
            self._continuous.setdefault((new.frequency, new.modulation), {})[mote] = None

    # -- up --------------------------------------------------------------------------------------------------------

    def up(
        self, mote: Listener, frame: bytes, frequency: int, modulation: Modulation, power: float, start: float
    ) -> float:
        """A mote begins to send; when it ends."""
        end = start + modulation.airtime(len(frame), crc=True)
        packet = Packet(frame, frequency, modulation, start, end, power)
        mote.ledger.sent(start, end - start, frequency, power)
        gauss, fading = self.dice.gauss, self.fading
        packet.powers = [power - path + gauss(0.0, fading) for path in self._paths[mote]]
        others = self._up.setdefault(frequency, [])
        if others:
            others[:] = [other for other in others if other.end > start]
            for other in others:
                other.over.append(packet)
                packet.over.append(other)
        others.append(packet)
        locked: list[Station] = []
        sensitivity = modulation.sensitivity
        counted = self.counted
        for station, strength in zip(self.stations, packet.powers, strict=True):
            if (
                strength < sensitivity
                or frequency not in station.heard
                or (self.loss and self.dice.random() < self.loss)
            ):
                counted.weak += 1
            elif station.busy >= station.demodulators:
                counted.no_demodulator += 1
            else:
                station.busy += 1
                locked.append(station)
        if locked:
            self.later(end, self._up_ended, packet, locked)
        return end

    def _up_ended(self, packet: Packet, locked: list[Station]) -> None:
        counted = self.counted
        floor = packet.modulation.noise
        for station in locked:
            station.busy -= 1
            strength = packet.powers[station.number]
            if station.sending(packet.start, packet.end):
                counted.half_duplex += 1
            elif packet.over and self._drowned(packet, strength, station):
                counted.collided += 1
            else:
                counted.heard += 1
                station.received(
                    packet.frame, packet.frequency, packet.modulation, strength, strength - floor, packet.end
                )

    def _drowned(self, packet: Packet, strength: float, station: Station) -> bool:
        spreading = packet.modulation.spreading
        for other in packet.over:
            if not self._disturbs(packet, other):
                continue
            if strength - other.powers[station.number] < radio.rejection(spreading, other.modulation.spreading):
                return True
        return False

    def _disturbs(self, packet: Packet, other: Packet) -> bool:
        if other.end <= packet.steady or other.start >= packet.end:
            return False
        return not self.orthogonal or other.modulation.spreading == packet.modulation.spreading

    # -- down ------------------------------------------------------------------------------------------------------

    def down(
        self, station: Station, frame: bytes, frequency: int, modulation: Modulation, power: float, start: float
    ) -> float:
        """A gateway begins to send; when it ends."""
        end = start + modulation.airtime(len(frame), crc=False)
        packet = Packet(frame, frequency, modulation, start, end, power)
        packet.place = station.number
        station.ledger.sent(start, end - start, frequency, power)
        self.downlinks += 1
        others = self._down.setdefault(frequency, [])
        others[:] = [other for other in others if other.end > start]
        for other in others:
            other.over.append(packet)
            packet.over.append(other)
        others.append(packet)
        listening = self._listening(start, frequency, modulation)
        self._judge(packet, station, [mote for mote, _ in listening])
        if listening:
            self.later(end, self._down_ended, packet, station, listening)
        return end

    def _listening(self, start: float, frequency: int, modulation: Modulation) -> list[tuple[Listener, Window]]:
        key = (frequency, modulation)
        candidates = [mote for at, mote in self._windows.get(key, ()) if abs(at - start) <= TOLERANCE]
        candidates.extend(self._continuous.get(key, ()))
        found: dict[Listener, Window] = {}
        for mote in candidates:
            window = mote.listens(start, frequency, modulation)
            if window is not None:
                found[mote] = window
        return list(found.items())

    def _judge(self, packet: Packet, station: Station, listening: list[Listener]) -> None:
        """Whether the mote that it is for listens."""
        frame = packet.frame
        if frame[0] >> 5 == 1:
            packet.owners = listening
            if not listening:
                self._violation(packet, station, "?", "nobody waits for a join-accept here and now")
            return
        address = int.from_bytes(frame[1:5], "little")
        owners = packet.owners = list(self._motes.get(address, ()))
        if not owners:
            self._violation(packet, station, f"{address:08X}", "nobody has this address")
        elif any(owner in listening for owner in owners):
            return
        elif any(owner.deaf(packet.start) for owner in owners):
            self.counted.down_deaf += 1
        else:
            self._violation(packet, station, owners[0].name, owners[0].windows_text())

    def _violation(self, packet: Packet, station: Station, mote: str, why: str) -> None:
        self.violated += 1
        if len(self.violations) < MAX_KEPT:
            sent = f"{packet.frequency / 1e6:.4f} MHz {packet.modulation.datr}"
            self.violations.append(Violation(packet.start, station.name, mote, f"{sent}: {why}"))

    def _down_ended(self, packet: Packet, station: Station, listening: list[tuple[Listener, Window]]) -> None:
        floor = packet.modulation.noise
        sensitivity = packet.modulation.sensitivity
        for mote, window in listening:
            paths = self._paths[mote]
            strength = packet.power - paths[station.number] + self.dice.gauss(0.0, self.fading)
            if strength < sensitivity or (self.loss and self.dice.random() < self.loss):
                self.counted.down_weak += mote in packet.owners
                continue
            if any(
                self._disturbs(packet, other)
                and strength - (other.power - paths[other.place])
                < radio.rejection(packet.modulation.spreading, other.modulation.spreading)
                for other in packet.over
            ):
                self.counted.down_drowned += mote in packet.owners
                continue
            mote.hears(packet.frame, window, packet.start, packet.end, strength - floor)
