"""Regional parameters as data: what a mote and a gateway of a region agree on without saying it.

Sources: LoRaWAN 1.0.2 Regional Parameters rev. B and 1.0.3 Regional Parameters rev. A (EU863-870 chapter 2.2, CN470-510
2.7, AS923 2.8), RP002-1.0.1 (groups AS923-2, -3, -4), compared with LoRaMac-node (src/mac/region) and ChirpStack
(lrwn/src/region); duty cycles of EU868 from ETSI EN 300 220-2, bands K, L, M, N, P, R.

Frequencies are in Hz, powers in dBm EIRP, sizes in bytes. `Region.max_payload` is M, the largest MACPayload of each
data rate without a repeater; a frame's FRMPayload has 8 bytes less, and those that its FOpts take.

``cn470`` is the plan of 1.0.2 and 1.0.3 (96 channels up, 48 down), not that of RP002-1.0.1: the two differ on air.
AS923 is kept without a downlink dwell time, as motes begin.

`Region.power` is at most what the region allows, and one that is in the gain tables of common gateways (17 dBm of CN470
and the 29 dBm of one band of EU868 are not).
"""

from __future__ import annotations

from typing import Final, NamedTuple


class DataRate(NamedTuple):
    """LoRa: spreading factor and bandwidth in Hz. FSK: spreading 0 and bits a second."""

    spreading: int
    bandwidth: int

    @property
    def datr(self) -> str | int:
        """As Semtech's JSON writes it."""
        return f"SF{self.spreading}BW{self.bandwidth // 1000}" if self.spreading else self.bandwidth

    @property
    def required_snr(self) -> float:
        """The SNR (dB) at which it can just be received (SX1276 data sheet, table 13)."""
        return -2.5 * (self.spreading - 4) if self.spreading else 0.0


class Band(NamedTuple):
    """A range of frequencies with the largest share of the time that a gateway may send in it."""

    low: int
    high: int
    duty: float


class Region(NamedTuple):
    """One row of `REGIONS`."""

    name: str
    #: As GETGWINFO of customer servers calls it.
    family: str
    #: By data rate number, the same up and down.
    rates: tuple[DataRate, ...]
    max_payload: tuple[int, ...]
    rx2_frequency: int
    rx2_rate: int
    #: Steps that RX1 is slower than the uplink, by RX1DROffset; negative: faster.
    rx1_steps: tuple[int, ...]
    #: The fastest data rate in RX1.
    rx1_fastest: int
    power: int
    #: Uplink and downlink channels that are not the same: (first up, number, first down, number, step).
    channels: tuple[int, int, int, int, int] | None
    bands: tuple[Band, ...]
    #: Further channels that a join-accept tells of, at most five (CFList type 0).
    cf_list: tuple[int, ...]

    def rate_of(self, datr: str | int) -> int | None:
        """The number of a data rate as a gateway writes it."""
        return _NUMBERS[self.name].get(datr)

    def rx1_rate(self, uplink: int, offset: int) -> int:
        """The data rate of RX1 after an uplink of this one."""
        step = self.rx1_steps[min(offset, len(self.rx1_steps) - 1)]
        return min(self.rx1_fastest, max(0, uplink - step))

    def rx1_frequency(self, uplink: int) -> int | None:
        """The frequency of RX1 after an uplink on this one; None for one that is no channel."""
        if self.channels is None:
            return uplink
        first, count, first_down, count_down, step = self.channels
        number, rest = divmod(uplink - first + step // 2, step)
        # Gateways round to some hundred hertz.
        if not 0 <= number < count or abs(rest - step // 2) > 5_000:
            return None
        return first_down + number % count_down * step

    def band_of(self, frequency: int) -> Band | None:
        """The band with a duty cycle that a frequency lies in."""
        for band in self.bands:
            if band.low <= frequency < band.high:
                return band
        return None

    def cf_list_bytes(self) -> bytes:
        """The CFList of a join-accept: five frequencies / 100 in three bytes LE, type 0; or nothing."""
        if not self.cf_list:
            return b""
        told = (*self.cf_list, 0, 0, 0, 0)[:5]
        return b"".join((frequency // 100).to_bytes(3, "little") for frequency in told) + b"\0"


_LORA: Final = tuple(DataRate(spreading, 125_000) for spreading in (12, 11, 10, 9, 8, 7))
_EIGHT: Final = (*_LORA, DataRate(7, 250_000), DataRate(0, 50_000))

EU868: Final = Region(
    name="eu868",
    family="eu868",
    rates=_EIGHT,
    max_payload=(59, 59, 59, 123, 250, 250, 250, 250),
    rx2_frequency=869_525_000,
    rx2_rate=0,
    rx1_steps=(0, 1, 2, 3, 4, 5),
    rx1_fastest=7,
    power=16,
    channels=None,
    bands=(
        Band(863_000_000, 865_000_000, 0.001),
        Band(865_000_000, 868_000_000, 0.01),
        Band(868_000_000, 868_600_000, 0.01),
        Band(868_700_000, 869_200_000, 0.001),
        Band(869_400_000, 869_650_000, 0.1),
        Band(869_700_000, 870_000_000, 0.01),
    ),
    cf_list=(867_100_000, 867_300_000, 867_500_000, 867_700_000, 867_900_000),
)

CN470: Final = Region(
    name="cn470",
    family="cn470",
    rates=_LORA,
    max_payload=(59, 59, 59, 123, 250, 250),
    rx2_frequency=505_300_000,
    rx2_rate=0,
    rx1_steps=(0, 1, 2, 3, 4, 5),
    rx1_fastest=5,
    power=16,
    channels=(470_300_000, 96, 500_300_000, 48, 200_000),
    bands=(),
    cf_list=(),
)


def _as923(name: str, offset: int) -> Region:
    """A group of AS923: all frequencies are ``offset`` away from those of the first (RP002-1.0.1, 2.10)."""
    return Region(
        name=name,
        family="as923",
        rates=_EIGHT,
        max_payload=(59, 59, 59, 123, 250, 250, 250, 250),
        rx2_frequency=923_200_000 + offset,
        rx2_rate=2,
        rx1_steps=(0, 1, 2, 3, 4, 5, -1, -2),
        rx1_fastest=5,
        power=16,
        channels=None,
        bands=(Band(923_000_000 + offset, 923_500_000 + offset, 0.01),),
        cf_list=(),
    )


REGIONS: Final[dict[str, Region]] = {
    region.name: region
    for region in (
        EU868,
        CN470,
        _as923("as923", 0),
        _as923("as923-2", -1_800_000),
        _as923("as923-3", -6_600_000),
        _as923("as923-4", -5_900_000),
    )
}

_NUMBERS: Final[dict[str, dict[str | int, int]]] = {
    name: {rate.datr: number for number, rate in enumerate(region.rates)} for name, region in REGIONS.items()
}
