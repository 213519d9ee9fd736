"""EU863-870.

=====================  ================================================================================================
channels, data rates   1.0.3rA, 2.2.2 and 2.2.3, as in 1.0.2rB; RP002-1.0.4, 2.4.2 and 2.4.3 (DR8 to DR11, LR-FHSS,
                       are left out: no packet forwarder of Semtech's UDP protocol hears them)
TXPower                2.2.3: 16 dBm EIRP, 2 dB a step, 0 to 7
CFList                 2.2.4, type 0; the five further channels are those of ChirpStack, TTS and most gateways, which
                       the document leaves to the network
ChMaskCntl             2.2.5
sizes                  2.2.6
RX1, RX2               2.2.7: as the uplink, offsets 0 to 5; 869.525 MHz, DR0
duty cycle             ETSI EN 300 220-2 V3.2.1, annex B, bands K, L, M, N, P, R; the same in LoRaMac-node
                       (RegionEU868.h) and TTS (pkg/band/eu_863_870.go)
=====================  ================================================================================================

869.4 to 869.65 MHz allows 27 dBm ERP (ETSI, band P), 29 dBm EIRP as ChirpStack has it.
"""

from __future__ import annotations

from typing import Final

from broker.devices.lorawan.regions.masks import MaskRules
from broker.devices.lorawan.regions.plan import FSK, LORA, Band, DataRate, Region, channels, row_of, steps

EU868: Final = Region(
    name="eu868",
    family="eu868",
    rates=(*LORA, DataRate(7, 250_000), FSK),
    rates_up=tuple(range(8)),
    rates_down=tuple(range(8)),
    uplink_rates=range(6),
    max_payload=(59, 59, 59, 123, 250, 250, 250, 250),
    repeater_payload=(59, 59, 59, 123, 230, 230, 230, 230),
    dwell_payload=None,
    channels_up=channels((868_100_000, 868_300_000, 868_500_000), 0, 5),
    channels_down=(),
    extra=row_of(867_100_000, 200_000, 5),
    mask_rules=MaskRules(16, all_on=6),
    rx1=(
        (0, 0, 0, 0, 0, 0),
        (1, 0, 0, 0, 0, 0),
        (2, 1, 0, 0, 0, 0),
        (3, 2, 1, 0, 0, 0),
        (4, 3, 2, 1, 0, 0),
        (5, 4, 3, 2, 1, 0),
        (6, 5, 4, 3, 2, 1),
        (7, 6, 5, 4, 3, 2),
    ),
    rx1_dwell=None,
    rx2_frequency=869_525_000,
    rx2_rate=0,
    max_eirp=16.0,
    powers=steps(16.0, 7),
    power=16,
    bands=(
        Band(863_000_000, 865_000_000, 0.001),
        Band(865_000_000, 868_000_000, 0.01),
        Band(868_000_000, 868_600_000, 0.01),
        Band(868_700_000, 869_200_000, 0.001),
        Band(869_400_000, 869_650_000, 0.1, eirp=29.0),
        Band(869_700_000, 870_000_000, 0.01),
    ),
)
