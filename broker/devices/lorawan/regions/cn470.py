"""CN470-510: the plan of LoRaWAN 1.0.1 to RP002-1.0.0, and the four that took its place in RP002-1.0.1.

They have nothing in common on the air, so which one it is has to be said. ``cn470`` is the old one, 96 channels up and
48 down; ``cn470-a20`` and so on are called after the type (A, B) and the antenna (20 and 26 MHz) of the new ones.

=====================  ================================================================================================
old: channels, rates   1.0.3rA, 2.7.2 and 2.7.3, as in 1.0.2rB; the same in TTS (pkg/band/cn_470_510.go)
- TXPower              2.7.3: 19.15 dBm EIRP (17 dBm ERP), 2 dB a step, 0 to 7
- CFList               2.7.4: motes take none
- ChMaskCntl           2.7.5: 0 to 5, 6 all on, 7 reserved
- sizes, RX1, RX2      2.7.6 and 2.7.7: downlink channel n modulo 48; offsets 0 to 5; 505.3 MHz, DR0
new: channels          RP002-1.0.4, 2.9.2: four channel plans, 20 common join channels; the same in
                       LoRaMac-node (RegionCN470A20.c, A26, B20, B26) and TTS (pkg/band/cn_470_510_20_a.go and on)
- join channels        2.9.2: RX1 of a join-accept as printed beside the join channel, which with 26 MHz is not the one
                       of the same channel's data frames
- data rates           2.9.3: DR0 is there, but no payload fits into it in China's time limit; DR6 SF7 at 500 kHz
- CFList               2.9.4, type 1
- ChMaskCntl           2.9.5: with 20 MHz 6 all on, 7 all off; with 26 MHz 3 all on, 4 all off
- sizes                2.9.6; DR3 172 in RP002-1.0.1 (TTS keeps it), 192 since
- RX1, RX2             2.9.7: downlink channel n modulo 64 (20 MHz) or 24 (26 MHz), offsets 0 to 5, not below DR1;
                       DR1; with 20 MHz by the join channel, for ABP 486.9 (A) and 498.3 MHz (B); with 26 MHz 492.5
                       and 502.5 MHz. LoRaMac-node has 494.0 MHz for join channel 6 of A20, where no channel is; the
                       row is in steps of 1.6 MHz: 494.9, which the IoT Edge LoRaWAN starter kit has, too
=====================  ================================================================================================

There is no duty cycle (TTS: 1). 19 and 17 dBm are not in the gain tables of common gateways, 16 is.
"""

from __future__ import annotations

from typing import Final

from broker.devices.lorawan.regions.masks import MaskRules
from broker.devices.lorawan.regions.plan import (
    FSK,
    LORA,
    DataRate,
    JoinChannel,
    RateTable,
    Region,
    channels,
    row_of,
    steps,
)

_STEP: Final = 200_000
_MAX_EIRP: Final = 19.15
_POWER: Final = 16

CN470: Final = Region(
    name="cn470",
    family="cn470",
    rates=LORA,
    rates_up=tuple(range(6)),
    rates_down=tuple(range(6)),
    uplink_rates=range(6),
    max_payload=(59, 59, 59, 123, 250, 250),
    repeater_payload=(59, 59, 59, 123, 230, 230),
    dwell_payload=None,
    channels_up=channels(row_of(470_300_000, _STEP, 96), 0, 5),
    channels_down=row_of(500_300_000, _STEP, 48),
    extra=(),
    mask_rules=MaskRules(96, all_on=6),
    rx1=(
        (0, 0, 0, 0, 0, 0),
        (1, 0, 0, 0, 0, 0),
        (2, 1, 0, 0, 0, 0),
        (3, 2, 1, 0, 0, 0),
        (4, 3, 2, 1, 0, 0),
        (5, 4, 3, 2, 1, 0),
    ),
    rx1_dwell=None,
    rx2_frequency=505_300_000,
    rx2_rate=0,
    max_eirp=_MAX_EIRP,
    powers=steps(_MAX_EIRP, 7),
    power=_POWER,
    cf_list_type=None,
)

#: Common join channels by number: frequencies up, in RX1, and in RX2 of the plan that they belong to.
_JOINS: Final = (
    (470_900_000, 484_500_000, 485_300_000),  # A, 20 MHz
    (472_500_000, 486_100_000, 486_900_000),
    (474_100_000, 487_700_000, 488_500_000),
    (475_700_000, 489_300_000, 490_100_000),
    (504_100_000, 490_900_000, 491_700_000),
    (505_700_000, 492_500_000, 493_300_000),
    (507_300_000, 494_100_000, 494_900_000),
    (508_900_000, 495_700_000, 496_500_000),
    (479_900_000, 479_900_000, 478_300_000),  # B, 20 MHz
    (499_900_000, 499_900_000, 498_300_000),
    (470_300_000, 492_500_000, 492_500_000),  # A, 26 MHz
    (472_300_000, 492_500_000, 492_500_000),
    (474_300_000, 492_500_000, 492_500_000),
    (476_300_000, 492_500_000, 492_500_000),
    (478_300_000, 492_500_000, 492_500_000),
    (480_300_000, 502_500_000, 502_500_000),  # B, 26 MHz
    (482_300_000, 502_500_000, 502_500_000),
    (484_300_000, 502_500_000, 502_500_000),
    (486_300_000, 502_500_000, 502_500_000),
    (488_300_000, 502_500_000, 502_500_000),
)
_RX1: Final[RateTable] = (
    (0, 0, 0, 0, 0, 0),
    (1, 1, 1, 1, 1, 1),
    (2, 1, 1, 1, 1, 1),
    (3, 2, 1, 1, 1, 1),
    (4, 3, 2, 1, 1, 1),
    (5, 4, 3, 2, 1, 1),
    (6, 5, 4, 3, 2, 1),
    (7, 6, 5, 4, 3, 2),
)
_WIDE_ANTENNA: Final = MaskRules(48, all_on=3, all_off=4)
_NARROW_ANTENNA: Final = MaskRules(64, all_on=6, all_off=7)


def _plan(name: str, up: tuple[int, ...], down: tuple[int, ...], rules: MaskRules, rx2: int, joins: range) -> Region:
    """A plan of RP002-1.0.1 and on; ``joins``: numbers of its common join channels."""
    return Region(
        name=name,
        family="cn470",
        rates=(*LORA, DataRate(7, 500_000), FSK),
        rates_up=tuple(range(8)),
        rates_down=tuple(range(8)),
        uplink_rates=range(1, 6),
        max_payload=(0, 31, 94, 192, 250, 250, 250, 250),
        repeater_payload=(0, 31, 94, 192, 230, 230, 230, 230),
        dwell_payload=None,
        channels_up=channels(up, 1, 5),
        channels_down=down,
        extra=(),
        mask_rules=rules,
        rx1=_RX1,
        rx1_dwell=None,
        rx2_frequency=rx2,
        rx2_rate=1,
        max_eirp=_MAX_EIRP,
        powers=steps(_MAX_EIRP, 7),
        power=_POWER,
        join_channels=tuple(JoinChannel(index, *_JOINS[index]) for index in joins),
        cf_list_type=1,
    )


CN470_A20: Final = _plan(
    "cn470-a20",
    row_of(470_300_000, _STEP, 32) + row_of(503_500_000, _STEP, 32),
    row_of(483_900_000, _STEP, 64),
    _NARROW_ANTENNA,
    486_900_000,
    range(8),
)
CN470_B20: Final = _plan(
    "cn470-b20",
    row_of(476_900_000, _STEP, 32) + row_of(496_900_000, _STEP, 32),
    row_of(476_900_000, _STEP, 32) + row_of(496_900_000, _STEP, 32),
    _NARROW_ANTENNA,
    498_300_000,
    range(8, 10),
)
CN470_A26: Final = _plan(
    "cn470-a26",
    row_of(470_300_000, _STEP, 48),
    row_of(490_100_000, _STEP, 24),
    _WIDE_ANTENNA,
    492_500_000,
    range(10, 15),
)
CN470_B26: Final = _plan(
    "cn470-b26",
    row_of(480_300_000, _STEP, 48),
    row_of(500_100_000, _STEP, 24),
    _WIDE_ANTENNA,
    502_500_000,
    range(15, 20),
)
