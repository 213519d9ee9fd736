"""What several gateways heard becomes one frame: deduplication.

The first copy of a frame opens a window; what comes with the same bytes until it ends is another gateway's copy. A mote
that sends the same frame again does so seconds later, in a window of its own.
"""

from __future__ import annotations

from typing import Any

from broker.devices.lorawan.codec import Rxpk
from broker.devices.lorawan.frames import Uplink
from broker.devices.lorawan.gateway import Gateway

#: dB assumed of a gateway that does not say.
NO_SNR = -20.0


class Reception:
    """One gateway's copy. ``arrived``: monotonic seconds; ``local``: the gateway's own, in microseconds."""

    __slots__ = ("arrived", "datr", "frequency", "gateway", "local", "rssi", "snr")

    def __init__(self, gateway: Gateway, packet: Rxpk, frequency: int, arrived: float) -> None:
        self.gateway = gateway
        self.frequency = frequency
        self.datr = packet.datr
        self.rssi = packet.rssi
        self.snr = NO_SNR if packet.lsnr is None else packet.lsnr
        self.arrived = arrived
        self.local = None if packet.tmst is None else gateway.local(packet.tmst, arrived)

    def as_dict(self) -> dict[str, Any]:
        """As it stands in an uplink's ``meta``."""
        return {"eui": self.gateway.eui, "rssi": self.rssi, "snr": self.snr}


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

    def sort(self) -> None:
        """The best first: by SNR, then by RSSI."""
        if len(self.receptions) > 1:
            self.receptions.sort(key=quality, reverse=True)


def quality(reception: Reception) -> tuple[float, float]:
    return reception.snr, -200.0 if reception.rssi is None else reception.rssi
