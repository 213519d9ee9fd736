"""The physical layer in numbers: what is lost on the way, what noise leaves of it, what drowns what.

* Path loss: log-distance with log-normal shadowing, ``PL = 128.95 + 23.2 log10(km)``, sigma 7.8 dB, as measured in Oulu
  (J. Petäjäjärvi et al., "On the Coverage of LPWANs", ITST 2015, land). The shadow of a pair of mote and gateway stays;
  each packet fades by some dB more.
* Noise: ``-174 + 10 log10(bandwidth)`` dBm and the receiver's noise figure.
* Demodulation: the SNR that a spreading factor needs (Semtech SX1276 data sheet, table 13).
* Capture: of two packets of one spreading factor the one that is 6 dB stronger survives, and so does one of which the
  other covers only the beginning of the preamble: five symbols of it are enough (M. Bor et al., "Do LoRa Low-Power
  Wide-Area Networks Scale?", MSWiM 2016). Other spreading factors are noise below the thresholds of D. Croce et al.,
  "Impact of LoRa Imperfect Orthogonality", IEEE Communications Letters 22 (2018), table I.
* Airtime: Semtech AN1200.13. Calculated here, and not by the broker's function, which it is to judge.
* Current: SX1276 data sheet, table 6, at 3.3 V.
"""

from __future__ import annotations

import itertools
import math
from functools import lru_cache
from typing import Final, NamedTuple

#: dB at one kilometre, and for each tenfold distance.
LOSS_AT_KILOMETRE: Final = 128.95
LOSS_PER_DECADE: Final = 23.2
#: Standard deviations, dB: of a place, and of one packet.
SHADOWING: Final = 7.8
FADING: Final = 2.0
#: No gateway is nearer than this to a mote's antenna, km.
NEAREST: Final = 0.02
#: dB of a gateway's receiver, and of a mote's.
NOISE_FIGURE: Final = 6.0
#: dB by which one of two packets of the same spreading factor has to be stronger.
CAPTURE: Final = 6.0
#: Symbols of the preamble that a receiver needs, and that there are.
PREAMBLE_NEEDED: Final = 5
PREAMBLE: Final = 8

#: dB that a packet may be weaker than one of another spreading factor: rows are the packet's, SF7 to SF12.
_REJECTION: Final = (
    (CAPTURE, -8.0, -9.0, -9.0, -9.0, -9.0),
    (-11.0, CAPTURE, -11.0, -12.0, -13.0, -13.0),
    (-15.0, -13.0, CAPTURE, -13.0, -14.0, -15.0),
    (-19.0, -18.0, -17.0, CAPTURE, -17.0, -18.0),
    (-22.0, -22.0, -21.0, -20.0, CAPTURE, -20.0),
    (-25.0, -25.0, -25.0, -24.0, -23.0, CAPTURE),
)

#: dBm -> mA of the transmitter; between them the current is taken to be straight.
_SENDING: Final = ((7.0, 20.0), (13.0, 29.0), (17.0, 87.0), (20.0, 120.0))
RECEIVING: Final = 11.5
#: mA of a mote that does nothing.
SLEEPING: Final = 0.0015
#: Symbols after which a receiver that hears no preamble gives up.
WINDOW_SYMBOLS: Final = 8


class Modulation(NamedTuple):
    """LoRa: spreading factor and bandwidth (Hz). FSK: spreading 0 and bits a second."""

    spreading: int
    bandwidth: int

    @property
    def datr(self) -> str | int:
        """As Semtech's JSON has it."""
        return f"SF{self.spreading}BW{self.bandwidth // 1000}" if self.spreading else self.bandwidth

    @property
    def symbol(self) -> float:
        """Seconds."""
        return (1 << self.spreading) / self.bandwidth if self.spreading else 8 / self.bandwidth

    @property
    def required_snr(self) -> float:
        """dB."""
        return -2.5 * (self.spreading - 4) if self.spreading else 0.0

    @property
    def noise(self) -> float:
        """dBm of a receiver's noise."""
        return _noise(self.bandwidth if self.spreading else 2 * self.bandwidth)

    @property
    def sensitivity(self) -> float:
        """dBm."""
        return self.noise + self.required_snr

    def airtime(self, size: int, crc: bool) -> float:
        """Seconds of a packet of ``size`` bytes: coding rate 4/5, explicit header, eight symbols of preamble."""
        return _airtime(self, size, crc)


@lru_cache(maxsize=16)
def _noise(bandwidth: int) -> float:
    return -174.0 + 10.0 * math.log10(bandwidth) + NOISE_FIGURE


@lru_cache(maxsize=8192)
def _airtime(of: Modulation, size: int, crc: bool) -> float:
    if not of.spreading:
        return 8 * (5 + 3 + 1 + size + 2) / of.bandwidth
    low_rate = of.symbol > 0.016
    numerator = 8 * size - 4 * of.spreading + 28 + 16 * crc
    payload = 8 + max(math.ceil(numerator / (4 * (of.spreading - 2 * low_rate))) * 5, 0)
    return (PREAMBLE + 4.25 + payload) * of.symbol


def path_loss(kilometres: float) -> float:
    """dB, without shadowing."""
    return LOSS_AT_KILOMETRE + LOSS_PER_DECADE * math.log10(max(kilometres, NEAREST))


def rejection(wanted: int, other: int) -> float:
    """dB that a packet of spreading ``wanted`` has to be above one of ``other``."""
    if not 7 <= wanted <= 12 or not 7 <= other <= 12:
        return CAPTURE
    return _REJECTION[wanted - 7][other - 7]


def sending_current(power: float) -> float:
    """mA while ``power`` dBm are sent."""
    lowest, highest = _SENDING[0], _SENDING[-1]
    if power <= lowest[0]:
        return lowest[1]
    for (low, below), (high, above) in itertools.pairwise(_SENDING):
        if power <= high:
            return below + (above - below) * (power - low) / (high - low)
    return highest[1]
