"""How long a packet is in the air, sans-IO (Semtech AN1200.13; lgw_time_on_air of lora_gateway's loragw_hal.c).

::

    Tsym = 2**SF / BW
    n    = 8 + max(ceil((8 L - 4 SF + 28 + 16 CRC) / (4 (SF - 2 DE))) * (CR + 4), 0)      explicit header
    T    = (preamble + 4.25 + n) Tsym                                    DE: SF 11 and 12 at 125 kHz, SF 12 at 250
"""

from __future__ import annotations

from functools import lru_cache

from broker.devices.lorawan.regions import DataRate

PREAMBLE = 8
#: Of FSK: preamble 5, sync word 3, length 1, CRC 2 bytes.
FSK_OVERHEAD = 11


@lru_cache(maxsize=8192)
def airtime(rate: DataRate, size: int, crc: bool = False) -> float:
    """Seconds that ``size`` bytes take at coding rate 4/5. Downlinks have no CRC."""
    if not rate.spreading:
        return (size + FSK_OVERHEAD) * 8 / rate.bandwidth
    spreading = rate.spreading
    symbol = (1 << spreading) / rate.bandwidth
    slow = 2 if symbol > 0.016 else 0
    bits = 8 * size - 4 * spreading + 28 + (16 if crc else 0)
    blocks = -(-bits // (4 * (spreading - slow)))
    return (PREAMBLE + 4.25 + 8 + max(blocks * 5, 0)) * symbol
