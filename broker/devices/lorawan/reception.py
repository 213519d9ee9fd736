"""What several gateways heard becomes one frame: deduplication.

The first copy of a frame opens a window; what comes with the same bytes until it ends is another gateway's copy. A mote
that sends the same frame again does so seconds later, in a window of its own.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from broker.devices.lorawan.codec import Rxpk
from broker.devices.lorawan.frames import Uplink
from broker.devices.lorawan.gateway import Gateway
from broker.devices.lorawan.gps import unix_time

#: dB assumed of a gateway that does not say.
NO_SNR = -20.0
#: Seconds that a gateway's idea of the time may be away from ours: with more, one of the two clocks is not set.
MAX_ASTRAY = 60.0


class Reception(msgspec.Struct, gc=False, eq=False):
    """One gateway's copy. ``arrived``: monotonic seconds; ``local``: the gateway's own, in microseconds.

    There are three of a frame, and they refer to nothing that refers to them: the garbage collector need not look.
    """

    gateway: Gateway
    #: Hz.
    frequency: int
    datr: str | int
    rssi: float | None
    snr: float
    arrived: float
    local: int | None
    #: When the packet ended by GPS: milliseconds since the GPS epoch, and UTC in ISO 8601, as the gateway says it.
    tmms: int | None = None
    time: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """As it stands in an uplink's ``meta``."""
        return {"eui": self.gateway.eui, "rssi": self.rssi, "snr": self.snr}


def received(gateway: Gateway, packet: Rxpk, frequency: int, arrived: float) -> Reception:
    """What a gateway says now; sets its clock."""
    snr, tmst = packet.lsnr, packet.tmst
    return Reception(
        gateway,
        frequency,
        packet.datr,
        packet.rssi,
        NO_SNR if snr is None else snr,
        arrived,
        None if tmst is None else gateway.clock.take(tmst, arrived),
        packet.tmms,
        packet.time,
    )


class Heard:
    """A frame and all that heard it. ``arrived``: monotonic seconds; ``at``: UNIX seconds."""

    __slots__ = ("arrived", "at", "frame", "phy", "receptions")

    def __init__(self, phy: bytes, frame: Uplink, first: Reception, at: float) -> None:
        self.phy = phy
        self.frame = frame
        self.arrived = first.arrived
        self.at = at
        self.receptions = [first]

    def also(self, other: Reception) -> bool:
        """Another copy. False when that gateway had it already: then the better of its two is kept."""
        for number, known in enumerate(self.receptions):
            if known.gateway is other.gateway:
                if other.snr > known.snr:
                    self.receptions[number] = other
                return False
        self.receptions.append(other)
        return True

    def ended_at(self) -> float:
        """UNIX seconds at which the frame ended: as a gateway with GPS has it, else when we heard of it."""
        for reception in self.receptions:
            if reception.tmms is not None:
                at = unix_time(reception.tmms / 1000)
                if abs(at - self.at) <= MAX_ASTRAY:
                    return at
        for reception in self.receptions:
            if reception.time is not None:
                try:
                    told = datetime.fromisoformat(reception.time)
                    at = (told if told.tzinfo else told.replace(tzinfo=UTC)).timestamp()
                except (ValueError, OverflowError):
                    continue
                if abs(at - self.at) <= MAX_ASTRAY:
                    return at
        return self.at

    def sort(self) -> None:
        """The best first: by SNR, then by RSSI."""
        if len(self.receptions) > 1:
            self.receptions.sort(key=quality, reverse=True)


def quality(reception: Reception) -> tuple[float, float]:
    return reception.snr, -200.0 if reception.rssi is None else reception.rssi
