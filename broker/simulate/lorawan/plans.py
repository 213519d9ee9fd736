"""What a mote knows of its region, as its maker would have written it down.

On purpose not the broker's tables (`broker.devices.lorawan.regions`): two that were written apart and agree are worth
more than one that agrees with itself. Sources: LoRaWAN 1.0.2 Regional Parameters rev. B, 1.0.3 rev. A; RP002-1.0.1 to
-1.0.3 for AS923-2 to -4, IN865 with its offsets 6 and 7, and the CN470 plans of 20 and 26 MHz; sub-bands of EU868 from
ETSI EN 300 220-2 (ERC/REC 70-03 bands h1.1 to h1.7); those of AS923 as TTS has them.

Frequencies are in Hz, powers in dBm EIRP; `payloads` is M, the largest MACPayload, by data rate.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from broker.simulate.lorawan.radio import Modulation


class Channel(NamedTuple):
    """An uplink channel; ``down``: where RX1 is, if not on the same frequency."""

    frequency: int
    low: int
    high: int
    down: int | None = None


class SubBand(NamedTuple):
    """A range with the largest share of any hour that one transmitter may send in it, and its largest power."""

    low: int
    high: int
    duty: float
    power: float


class JoinChannel(NamedTuple):
    """Where CN470 motes of RP002 join: the answer comes on ``down`` in both windows; ``rx2`` holds from then on."""

    frequency: int
    down: int
    rx2: int


class Plan(NamedTuple):
    """One region."""

    name: str
    rates: dict[int, Modulation]
    channels: tuple[Channel, ...]
    #: (lowest, highest) frequency that its radio takes.
    range: tuple[int, int]
    rx2_frequency: int
    rx2_rate: int
    #: Data rate of RX1: (uplink, offset, downlink dwell time) -> number.
    rx1_rate: Callable[[int, int, bool], int]
    offsets: int
    #: ChMaskCntl -> the channels that are switched on, of what was on: None when there is no such control.
    mask: Callable[[Plan, frozenset[int], int, int], frozenset[int] | None]
    payloads: dict[int, int]
    eirp: float
    powers: int
    #: Data rates that it tries to join with, again and again.
    join_rates: tuple[int, ...]
    #: Channels can be added (NewChannelReq, CFList of type 0).
    dynamic: bool = True
    #: Knows TxParamSetupReq; M with an uplink dwell time of 400 ms; whether that is how it begins.
    payloads_dwell: dict[int, int] | None = None
    dwell_at_first: bool = False
    bands: tuple[SubBand, ...] = ()
    join_channels: tuple[JoinChannel, ...] = ()

    def payload(self, rate: int, dwell: bool) -> int:
        """M, 0 for a data rate that is not to be used."""
        sizes = self.payloads_dwell if dwell and self.payloads_dwell is not None else self.payloads
        return sizes.get(rate, 0)

    def lowest(self, dwell: bool) -> int:
        """The slowest data rate of uplinks."""
        return min(rate for rate in self.uplink_rates if self.payload(rate, dwell))

    @property
    def uplink_rates(self) -> list[int]:
        """Numbers of the data rates that its first channels know."""
        return sorted({rate for channel in self.channels for rate in range(channel.low, channel.high + 1)})

    def band_of(self, frequency: int) -> SubBand | None:
        for band in self.bands:
            if band.low <= frequency < band.high:
                return band
        return None


_LORA: Final = {number: Modulation(12 - number, 125_000) for number in range(6)}
_EIGHT: Final = {**_LORA, 6: Modulation(7, 250_000), 7: Modulation(0, 50_000)}
_FAST: Final = {8 + number: Modulation(12 - number, 500_000) for number in range(6)}
_US: Final = {number: Modulation(10 - number, 125_000) for number in range(4)} | {4: Modulation(8, 500_000)} | _FAST
_AU: Final = {**_LORA, 6: Modulation(8, 500_000), **_FAST}

_LONG: Final = {0: 59, 1: 59, 2: 59, 3: 123, 4: 250, 5: 250}
_LONG_EIGHT: Final = {**_LONG, 6: 250, 7: 250}
_DWELL: Final = {2: 19, 3: 61, 4: 133, 5: 250, 6: 250}
_JOIN_ALL: Final = (5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0)


def _slower(uplink: int, offset: int, dwell: bool) -> int:
    """EU868, KR920, CN470: RX1DROffset steps slower."""
    return max(0, uplink - offset)


def _either_way(fastest: int) -> Callable[[int, int, bool], int]:
    """AS923, IN865: offsets 6 and 7 are one and two steps faster."""

    def rx1(uplink: int, offset: int, dwell: bool) -> int:
        step = offset if offset < 6 else 5 - offset
        return min(fastest, max(2 if dwell else 0, uplink - step))

    return rx1


def _us_rx1(uplink: int, offset: int, dwell: bool) -> int:
    if uplink == 4:
        return max(8, 13 - max(0, offset - 1)) if offset else 13
    return max(8, min(13, uplink + 10 - offset))


def _au_rx1(uplink: int, offset: int, dwell: bool) -> int:
    if uplink == 6:
        return 13 if offset < 2 else 14 - offset
    return max(8, 8 + uplink - offset)


def _bits(number: int, first: int) -> set[int]:
    return {first + bit for bit in range(16) if number >> bit & 1}


def _mask_16(plan: Plan, on: frozenset[int], control: int, mask: int) -> frozenset[int] | None:
    """Up to 16 channels; 6: all that are defined, which the caller knows: marked by -1."""
    if control == 0:
        return frozenset(_bits(mask, 0))
    return frozenset({-1}) if control == 6 else None


def _mask_72(plan: Plan, on: frozenset[int], control: int, mask: int) -> frozenset[int] | None:
    """US915, AU915: 64 channels of 125 kHz and 8 of 500 kHz."""
    wide = frozenset(channel for channel in _bits(mask & 0xFF, 64))
    if control < 4:
        return on - set(range(16 * control, 16 * control + 16)) | _bits(mask, 16 * control)
    if control == 4:
        return on - set(range(64, 72)) | wide
    if control == 5:  # banks of eight with their wide channel
        banks = [bank for bank in range(8) if mask >> bank & 1]
        return frozenset(8 * bank + number for bank in banks for number in range(8)) | {64 + bank for bank in banks}
    return frozenset(range(64)) | wide if control == 6 else wide if control == 7 else None


def _mask_blocks(all_on: int, all_off: int | None) -> Callable[[Plan, frozenset[int], int, int], frozenset[int] | None]:
    """CN470: blocks of 16."""

    def mask_of(plan: Plan, on: frozenset[int], control: int, mask: int) -> frozenset[int] | None:
        if control == all_on:
            return frozenset(range(len(plan.channels)))
        if control == all_off:
            return frozenset()
        if 16 * control >= len(plan.channels):
            return None
        return on - set(range(16 * control, 16 * control + 16)) | _bits(mask, 16 * control)

    return mask_of


def _channels(*frequencies: int, low: int = 0, high: int = 5) -> tuple[Channel, ...]:
    return tuple(Channel(frequency, low, high) for frequency in frequencies)


EU868: Final = Plan(
    name="eu868",
    rates=_EIGHT,
    channels=_channels(868_100_000, 868_300_000, 868_500_000),
    range=(863_000_000, 870_000_000),
    rx2_frequency=869_525_000,
    rx2_rate=0,
    rx1_rate=_slower,
    offsets=6,
    mask=_mask_16,
    payloads=_LONG_EIGHT,
    eirp=16.0,
    powers=8,
    join_rates=_JOIN_ALL,
    bands=(
        SubBand(863_000_000, 865_000_000, 0.001, 16.15),
        SubBand(865_000_000, 868_000_000, 0.01, 16.15),
        SubBand(868_000_000, 868_600_000, 0.01, 16.15),
        SubBand(868_700_000, 869_200_000, 0.001, 16.15),
        SubBand(869_400_000, 869_650_000, 0.1, 29.15),
        SubBand(869_700_000, 870_000_000, 0.01, 16.15),
    ),
)

IN865: Final = EU868._replace(
    name="in865",
    rates={**_LORA, 7: Modulation(0, 50_000)},
    channels=_channels(865_062_500, 865_402_500, 865_985_000),
    range=(865_000_000, 867_000_000),
    rx2_frequency=866_550_000,
    rx2_rate=2,
    rx1_rate=_either_way(5),
    offsets=8,
    payloads={**_LONG, 7: 250},
    eirp=30.0,
    powers=11,
    bands=(),
)

KR920: Final = EU868._replace(
    name="kr920",
    rates=_LORA,
    channels=_channels(922_100_000, 922_300_000, 922_500_000),
    range=(920_900_000, 923_300_000),
    rx2_frequency=921_900_000,
    payloads=_LONG,
    eirp=14.0,
    bands=(),
)


def _as923(name: str, offset: int, second: int, fastest: int) -> Plan:
    """``second``: M of DR2; ``fastest``: of RX1. Both grew with RP002-1.0.1, which has the groups -2 to -4."""
    return EU868._replace(
        name=name,
        channels=_channels(923_200_000 + offset, 923_400_000 + offset),
        range=(915_000_000, 928_000_000),
        rx2_frequency=923_200_000 + offset,
        rx2_rate=2,
        rx1_rate=_either_way(fastest),
        offsets=8,
        payloads={**_LONG_EIGHT, 2: second},
        payloads_dwell=_DWELL,
        dwell_at_first=True,
        join_rates=(5, 5, 4, 4, 3, 3, 2, 2),
        bands=(SubBand(923_000_000 + offset, 923_500_000 + offset, 0.01, 16.0),),
    )


def _wide(
    name: str,
    rates: dict[int, Modulation],
    first: int,
    first_wide: int,
    highest: int,
    wide_rate: int,
    range_: tuple[int, int],
) -> Plan:
    """US915, AU915."""
    downs = [923_300_000 + 600_000 * number for number in range(8)]
    narrow = [Channel(first + 200_000 * number, 0, highest, downs[number % 8]) for number in range(64)]
    wides = [Channel(first_wide + 1_600_000 * number, wide_rate, wide_rate, downs[number]) for number in range(8)]
    return Plan(
        name=name,
        rates=rates,
        channels=(*narrow, *wides),
        range=range_,
        rx2_frequency=923_300_000,
        rx2_rate=8,
        rx1_rate=_us_rx1,
        offsets=4,
        mask=_mask_72,
        payloads={},
        eirp=30.0,
        powers=11,
        join_rates=(highest, wide_rate, 0, wide_rate),
        dynamic=False,
    )


_DOWN: Final = {8: 61, 9: 137, 10: 250, 11: 250, 12: 250, 13: 250}
US915: Final = _wide("us915", _US, 902_300_000, 903_000_000, 3, 4, (902_000_000, 928_000_000))._replace(
    payloads={0: 19, 1: 61, 2: 133, 3: 250, 4: 250, **_DOWN}
)
AU915: Final = _wide("au915", _AU, 915_200_000, 915_900_000, 5, 6, (915_000_000, 928_000_000))._replace(
    rx1_rate=_au_rx1,
    offsets=6,
    payloads={**_LONG, 6: 250, **_DOWN},
    payloads_dwell={**_DWELL, **_DOWN},
    join_rates=(5, 6, 2, 6),
)

CN470: Final = Plan(
    name="cn470",
    rates=_LORA,
    channels=tuple(
        Channel(470_300_000 + 200_000 * number, 0, 5, 500_300_000 + 200_000 * (number % 48)) for number in range(96)
    ),
    range=(470_000_000, 510_000_000),
    rx2_frequency=505_300_000,
    rx2_rate=0,
    rx1_rate=_slower,
    offsets=6,
    mask=_mask_blocks(6, None),
    payloads=_LONG,
    eirp=19.15,
    powers=8,
    join_rates=_JOIN_ALL,
    dynamic=False,
)


def _cn470(
    name: str, channels: list[tuple[int, int]], joins: tuple[JoinChannel, ...], rx2: int, all_on: int, all_off: int
) -> Plan:
    """A plan of RP002: uplink and downlink frequencies in kHz."""

    def rx1(uplink: int, offset: int, dwell: bool) -> int:
        return max(1, uplink - offset)

    rates = {number: rate for number, rate in _LORA.items() if number}
    return CN470._replace(
        name=name,
        rates={**rates, 6: Modulation(7, 500_000), 7: Modulation(0, 50_000)},
        channels=tuple(Channel(up * 1000, 1, 5, down * 1000) for up, down in channels),
        rx2_frequency=rx2,
        rx2_rate=1,
        rx1_rate=rx1,
        mask=_mask_blocks(all_on, all_off),
        payloads={1: 31, 2: 94, 3: 192, 4: 250, 5: 250, 6: 250, 7: 250},
        join_rates=(5, 5, 4, 4, 3, 3, 2, 2, 1, 1),
        join_channels=joins,
    )


_A20_RX2: Final = (485_300, 486_900, 488_500, 490_100, 491_700, 493_300, 494_900, 496_500)
_A20_JOIN: Final = (
    *((470_900 + 1_600 * number, 484_500 + 1_600 * number) for number in range(4)),
    *((504_100 + 1_600 * number, 490_900 + 1_600 * number) for number in range(4)),
)

PLANS: Final[dict[str, Plan]] = {
    plan.name: plan
    for plan in (
        EU868,
        IN865,
        KR920,
        US915,
        AU915,
        CN470,
        _as923("as923", 0, 59, 5),
        _as923("as923-2", -1_800_000, 123, 7),
        _as923("as923-3", -6_600_000, 123, 7),
        _as923("as923-4", -5_900_000, 123, 7),
        _cn470(
            "cn470-a20",
            [(470_300 + 200 * number, 483_900 + 200 * number) for number in range(32)]
            + [(503_500 + 200 * number, 490_300 + 200 * number) for number in range(32)],
            tuple(
                JoinChannel(up * 1000, down * 1000, rx2 * 1000)
                for (up, down), rx2 in zip(_A20_JOIN, _A20_RX2, strict=True)
            ),
            486_900_000,
            6,
            7,
        ),
        _cn470(
            "cn470-b20",
            [(476_900 + 200 * number,) * 2 for number in range(32)]
            + [(496_900 + 200 * number,) * 2 for number in range(32)],
            (
                JoinChannel(479_900_000, 479_900_000, 478_300_000),
                JoinChannel(499_900_000, 499_900_000, 498_300_000),
            ),
            498_300_000,
            6,
            7,
        ),
        _cn470(
            "cn470-a26",
            [(470_300 + 200 * number, 490_100 + 200 * (number % 24)) for number in range(48)],
            tuple(JoinChannel(470_300_000 + 2_000_000 * number, 492_500_000, 492_500_000) for number in range(5)),
            492_500_000,
            3,
            4,
        ),
        _cn470(
            "cn470-b26",
            [(480_300 + 200 * number, 500_100 + 200 * (number % 24)) for number in range(48)],
            tuple(JoinChannel(480_300_000 + 2_000_000 * number, 502_500_000, 502_500_000) for number in range(5)),
            502_500_000,
            3,
            4,
        ),
    )
}
