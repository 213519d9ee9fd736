"""KR920-923.

=====================  ================================================================================================
channels, data rates   1.0.3rA, 2.9.2 and 2.9.3, as in 1.0.2rB. Further channels: the rest of those at which 14 dBm are
                       allowed, 922.7 to 923.3 MHz, as ChirpStack and TTS have them
TXPower                2.9.3: 14 dBm EIRP, 2 dB a step, 0 to 7; 10 dBm from 920.9 to 921.9 MHz
CFList, ChMaskCntl     2.9.4, type 0; 2.9.5
sizes                  2.9.6
RX1, RX2               2.9.7: as the uplink, offsets 0 to 5; 921.9 MHz, DR0
=====================  ================================================================================================

Motes listen before they talk; there is no duty cycle. Gateways may send with 23 dBm EIRP, which is not in the gain
tables of common gateways; 20 is.
"""

from __future__ import annotations

from typing import Final

from broker.devices.lorawan.regions.masks import MaskRules
from broker.devices.lorawan.regions.plan import LORA, Region, channels, row_of, steps

KR920: Final = Region(
    name="kr920",
    family="kr920",
    rates=LORA,
    rates_up=tuple(range(6)),
    rates_down=tuple(range(6)),
    uplink_rates=range(6),
    max_payload=(59, 59, 59, 123, 250, 250),
    repeater_payload=(59, 59, 59, 123, 230, 230),
    dwell_payload=None,
    channels_up=channels(row_of(922_100_000, 200_000, 3), 0, 5),
    channels_down=(),
    extra=row_of(922_700_000, 200_000, 4),
    mask_rules=MaskRules(16, all_on=6),
    rx1=(
        (0, 0, 0, 0, 0, 0),
        (1, 0, 0, 0, 0, 0),
        (2, 1, 0, 0, 0, 0),
        (3, 2, 1, 0, 0, 0),
        (4, 3, 2, 1, 0, 0),
        (5, 4, 3, 2, 1, 0),
    ),
    rx1_dwell=None,
    rx2_frequency=921_900_000,
    rx2_rate=0,
    max_eirp=14.0,
    powers=steps(14.0, 7),
    power=20,
)
