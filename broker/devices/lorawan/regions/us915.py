"""US902-928 and AU915-928: 64 channels of 125 kHz and 8 of 500 kHz up, 8 of 500 kHz down.

=====================  ================================================================================================
US915                  1.0.3rA, 2.3.2 to 2.3.7, as in 1.0.2rB; RP002-1.0.4, 2.5
- channels             902.3 MHz + n 0.2 (DR0 to DR3), 903.0 + n 1.6 (DR4); down 923.3 + n 0.6
- TXPower              30 dBm (conducted, with an antenna of 6 dBi at most), 2 dB a step, 0 to 10 in 1.0.2rB; more is
                       later (0 to 14 in RP002)
- sizes                those of uplinks keep within 400 ms, so no dwell time is switched on or off; with repeaters DR3
                       and DR4 are 250 in 1.0.3rA, 230 in RP002
- RX1, RX2             downlink channel n modulo 8, offsets 0 to 3; 923.3 MHz, DR8
AU915                  1.0.3rA, 2.6.2 to 2.6.7, as in 1.0.2rB; RP002-1.0.4, 2.8
- channels             915.2 MHz + n 0.2 (DR0 to DR5), 915.9 + n 1.6 (DR6); down 923.3 + n 0.6
- TXPower              30 dBm EIRP, as above
- dwell time           400 ms up by TxParamSetupReq; motes begin with it (LoRaMac-node: AU915_DEFAULT_UPLINK_DWELL_TIME;
                       TTS: BootDwellTime). Downlinks have their sizes with and without
- RX1, RX2             as above, offsets 0 to 5
both: CFList           type 1 since 1.0.3rA; motes of 1.0.2 ignore it
- ChMaskCntl           0 to 4, 6 (125 kHz on) and 7 (off), whose ChMask tells of the 500 kHz channels; 5, blocks, is
                       later; RP002-1.0.4 and its erratum of 2023-05-08: a bit is eight channels and one of 500 kHz
=====================  ================================================================================================

DR14 and DR15 are reserved, as are DR5 to DR7 of US915 and DR7 of AU915 (LR-FHSS since RP002, which no packet forwarder
of Semtech's UDP protocol hears). A downlink may have up to 26 dBm and more, which is not in the gain tables of common
gateways; 20 is.
"""

from __future__ import annotations

from typing import Final

from broker.devices.lorawan.regions.masks import MaskRules
from broker.devices.lorawan.regions.plan import LORA, DataRate, Region, channels, row_of, steps

_DOWN: Final = tuple(DataRate(spreading, 500_000) for spreading in (12, 11, 10, 9, 8, 7))
_RULES: Final = MaskRules(72, all_on=6, all_off=7, wide=64, blocks=5)
_POWER: Final = 20
_CHANNELS_DOWN: Final = row_of(923_300_000, 600_000, 8)

US915: Final = Region(
    name="us915",
    family="us915",
    rates=(*LORA[2:], DataRate(8, 500_000), None, None, None, *_DOWN),
    rates_up=(0, 1, 2, 3, 4),
    rates_down=(8, 9, 10, 11, 12, 13),
    uplink_rates=range(4),
    max_payload=(19, 61, 133, 250, 250, 0, 0, 0, 61, 137, 250, 250, 250, 250),
    repeater_payload=(19, 61, 133, 230, 230, 0, 0, 0, 41, 117, 230, 230, 230, 230),
    dwell_payload=None,
    channels_up=channels(row_of(902_300_000, 200_000, 64), 0, 3)
    + channels(row_of(903_000_000, 1_600_000, 8), 4, 4, first=64),
    channels_down=_CHANNELS_DOWN,
    extra=(),
    mask_rules=_RULES,
    rx1=(
        (10, 9, 8, 8),
        (11, 10, 9, 8),
        (12, 11, 10, 9),
        (13, 12, 11, 10),
        (13, 13, 12, 11),
    ),
    rx1_dwell=None,
    rx2_frequency=923_300_000,
    rx2_rate=8,
    max_eirp=30.0,
    powers=steps(30.0, 10),
    power=_POWER,
    cf_list_type=1,
)

AU915: Final = Region(
    name="au915",
    family="au915",
    rates=(*LORA, DataRate(8, 500_000), None, *_DOWN),
    rates_up=(0, 1, 2, 3, 4, 5, 6),
    rates_down=(8, 9, 10, 11, 12, 13),
    uplink_rates=range(6),
    max_payload=(59, 59, 59, 123, 250, 250, 250, 0, 61, 137, 250, 250, 250, 250),
    repeater_payload=(59, 59, 59, 123, 230, 230, 230, 0, 41, 117, 230, 230, 230, 230),
    dwell_payload=(0, 0, 19, 61, 133, 250, 250, 0, 61, 137, 250, 250, 250, 250),
    channels_up=channels(row_of(915_200_000, 200_000, 64), 0, 5)
    + channels(row_of(915_900_000, 1_600_000, 8), 6, 6, first=64),
    channels_down=_CHANNELS_DOWN,
    extra=(),
    mask_rules=_RULES,
    rx1=(
        (8, 8, 8, 8, 8, 8),
        (9, 8, 8, 8, 8, 8),
        (10, 9, 8, 8, 8, 8),
        (11, 10, 9, 8, 8, 8),
        (12, 11, 10, 9, 8, 8),
        (13, 12, 11, 10, 9, 8),
        (13, 13, 12, 11, 10, 9),
    ),
    rx1_dwell=None,
    rx2_frequency=923_300_000,
    rx2_rate=8,
    max_eirp=30.0,
    powers=steps(30.0, 10),
    power=_POWER,
    dwell_time_up=True,
    tx_param_setup=True,
    cf_list_type=1,
)
