"""IN865-867.

=====================  ================================================================================================
channels, data rates   1.0.3rA, 2.10.2 and 2.10.3, as in 1.0.2rB; DR6 is reserved. Further channels are left to the
                       network; motes are told of none
TXPower                2.10.3: 30 dBm EIRP, 2 dB a step, 0 to 10 (RP002-1.0.5: 29.2 dBm, 0 to 14)
CFList, ChMaskCntl     2.10.4, type 0; 2.10.5
sizes                  2.10.6
RX1, RX2               2.10.7: as the uplink, MIN(5, MAX(0, uplink - offset)), offsets 6 and 7 being -1 and -2;
                       866.55 MHz, DR2. ChirpStack has RP002's table, which differs after FSK alone (DR7): up to DR7
=====================  ================================================================================================

There is no duty cycle (LoRaMac-node, RegionIN865.h; TTS, pkg/band/in_865_867.go).
"""

from __future__ import annotations

from typing import Final

from broker.devices.lorawan.regions.masks import MaskRules
from broker.devices.lorawan.regions.plan import FSK, LORA, Region, channels, steps

IN865: Final = Region(
    name="in865",
    family="in865",
    rates=(*LORA, None, FSK),
    rates_up=(0, 1, 2, 3, 4, 5, 7),
    rates_down=(0, 1, 2, 3, 4, 5, 7),
    uplink_rates=range(6),
    max_payload=(59, 59, 59, 123, 250, 250, 0, 250),
    repeater_payload=(59, 59, 59, 123, 230, 230, 0, 230),
    dwell_payload=None,
    channels_up=channels((865_062_500, 865_402_500, 865_985_000), 0, 5),
    channels_down=(),
    extra=(),
    mask_rules=MaskRules(16, all_on=6),
    rx1=(
        (0, 0, 0, 0, 0, 0, 1, 2),
        (1, 0, 0, 0, 0, 0, 2, 3),
        (2, 1, 0, 0, 0, 0, 3, 4),
        (3, 2, 1, 0, 0, 0, 4, 5),
        (4, 3, 2, 1, 0, 0, 5, 5),
        (5, 4, 3, 2, 1, 0, 5, 5),
        (),
        (5, 5, 5, 4, 3, 2, 5, 5),
    ),
    rx1_dwell=None,
    rx2_frequency=866_550_000,
    rx2_rate=2,
    max_eirp=30.0,
    powers=steps(30.0, 10),
    power=20,
)
