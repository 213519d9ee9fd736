"""Regional parameters as data: what a mote and a gateway of a region agree on without saying it.

A row is a `Region` (`plan`), one file a family. Each file's head has the source of its figures: LoRaWAN 1.0.2 Regional
Parameters rev. B (1.0.2rB), 1.0.3 Regional Parameters rev. A (1.0.3rA), and RP002-1.0.x, which took their place; the
sections are numbered as in 1.0.3rA and RP002-1.0.4. They were compared with LoRaMac-node (src/mac/region), ChirpStack
(lrwn/src/region) and The Things Stack (TTS, pkg/band). Where revisions differ, a row has what motes of every revision
take, unless its head says otherwise.

In all of these documents a region's sections are: .2 channels, .3 data rates and power, .4 CFList, .5 LinkADRReq, .6
sizes, .7 receive windows.
"""

from __future__ import annotations

from typing import Final

from broker.devices.lorawan.regions.as923 import AS923, AS923_2, AS923_3, AS923_4
from broker.devices.lorawan.regions.cn470 import CN470, CN470_A20, CN470_A26, CN470_B20, CN470_B26
from broker.devices.lorawan.regions.eu868 import EU868
from broker.devices.lorawan.regions.in865 import IN865
from broker.devices.lorawan.regions.kr920 import KR920
from broker.devices.lorawan.regions.plan import Band, Channel, DataRate, JoinChannel, Region, data_rate
from broker.devices.lorawan.regions.us915 import AU915, US915

REGIONS: Final[dict[str, Region]] = {
    region.name: region
    for region in (
        EU868,
        CN470,
        CN470_A20,
        CN470_B20,
        CN470_A26,
        CN470_B26,
        AS923,
        AS923_2,
        AS923_3,
        AS923_4,
        IN865,
        KR920,
        US915,
        AU915,
    )
}

__all__ = [
    "AS923",
    "AS923_2",
    "AS923_3",
    "AS923_4",
    "AU915",
    "CN470",
    "CN470_A20",
    "CN470_A26",
    "CN470_B20",
    "CN470_B26",
    "EU868",
    "IN865",
    "KR920",
    "REGIONS",
    "US915",
    "Band",
    "Channel",
    "DataRate",
    "JoinChannel",
    "Region",
    "data_rate",
]
