"""AS923 and its groups -2, -3, -4.

=====================  ================================================================================================
channels, data rates   1.0.3rA, 2.8.2 and 2.8.3, as in 1.0.2rB; groups: RP002-1.0.4, 2.10, AS923_FREQ_OFFSET -1.8, -6.6
                       and -5.9 MHz. Further channels differ from country to country, so motes are told of none
TXPower                2.8.3: 16 dBm EIRP, 2 dB a step, 0 to 7
dwell time             2.8.3: 400 ms up and down by TxParamSetupReq. Motes begin with that of uplinks (LoRaMac-node:
                       AS923_DEFAULT_UPLINK_DWELL_TIME) and without that of downlinks (RP002, default settings)
CFList, ChMaskCntl     2.8.4, type 0; 2.8.5
sizes                  2.8.6. DR2 without dwell time: 59 in 1.0.2, 1.0.3 and RP002-1.0.0, 123 from RP002-1.0.1 on; the
                       first group has the smaller, the others did not exist before. DR4 with dwell time: 133 (RP002)
RX1, RX2               2.8.7: as the uplink; 923.2 MHz plus the group's offset, DR2
duty cycle             1 % in the band of the two channels (TTS, pkg/band/as_923.go; LoRaMac-node defines it and leaves
                       it switched off)
=====================  ================================================================================================

The RX1 data rate is MIN(5, MAX(least, uplink - offset)) in 1.0.2 and 1.0.3, offsets 6 and 7 being -1 and -2, least 2
with a downlink dwell time; from RP002-1.0.1 on it goes up to 7. The first group has the one, the others the other: they
differ after DR6 and DR7, and with offsets 6 and 7 after DR4 and DR5.
"""

from __future__ import annotations

from typing import Final

from broker.devices.lorawan.regions.masks import MaskRules
from broker.devices.lorawan.regions.plan import FSK, LORA, Band, DataRate, RateTable, Region, channels, steps

_OFFSETS: Final = (0, 1, 2, 3, 4, 5, -1, -2)


def _table(least: int, most: int) -> RateTable:
    return tuple(tuple(min(most, max(least, rate - offset)) for offset in _OFFSETS) for rate in range(8))


def _group(name: str, offset: int, second: int, fastest: int) -> Region:
    """``offset``: AS923_FREQ_OFFSET; ``second``: M of DR2 without dwell time; ``fastest``: of RX1."""
    return Region(
        name=name,
        family="as923",
        rates=(*LORA, DataRate(7, 250_000), FSK),
        rates_up=tuple(range(8)),
        rates_down=tuple(range(8)),
        uplink_rates=range(6),
        max_payload=(59, 59, second, 123, 250, 250, 250, 250),
        repeater_payload=(59, 59, second, 123, 230, 230, 230, 230),
        dwell_payload=(0, 0, 19, 61, 133, 250, 250, 250),
        channels_up=channels((923_200_000 + offset, 923_400_000 + offset), 0, 5),
        channels_down=(),
        extra=(),
        mask_rules=MaskRules(16, all_on=6),
        rx1=_table(0, fastest),
        rx1_dwell=_table(2, fastest),
        rx2_frequency=923_200_000 + offset,
        rx2_rate=2,
        max_eirp=16.0,
        powers=steps(16.0, 7),
        power=16,
        bands=(Band(923_000_000 + offset, 923_500_000 + offset, 0.01),),
        dwell_time_up=True,
        tx_param_setup=True,
    )


AS923: Final = _group("as923", 0, 59, 5)
AS923_2: Final = _group("as923-2", -1_800_000, 123, 7)
AS923_3: Final = _group("as923-3", -6_600_000, 123, 7)
AS923_4: Final = _group("as923-4", -5_900_000, 123, 7)
