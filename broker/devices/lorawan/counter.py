"""Which 32-bit frame counter the 16 bits in the air stand for (LoRaWAN 1.0.3, 4.3.1.5), sans-IO.

``expected`` is one more than the counter of the last frame that was accepted. The nearest counter from there on is
meant, with no largest gap (1.0.4 has none any more). The one frame before is told apart: a mote sends a frame again
when its acknowledgement was lost. Anything further back comes out as a jump of nearly 65,536 ahead, for which no MIC
holds, so a replay is refused by its MIC.
"""

from __future__ import annotations

from typing import Final

MAX_COUNTER: Final = 0xFFFF_FFFF


def reconstruct(expected: int, fcnt16: int) -> int | None:
    """The full counter of a new frame; None when none is left of the 32 bits."""
    full = expected + ((fcnt16 - expected) & 0xFFFF)
    return full if full <= MAX_COUNTER else None


def repeated(expected: int, fcnt16: int) -> bool:
    """Whether these may be the bits of the frame that was accepted last."""
    return expected > 0 and fcnt16 == (expected - 1) & 0xFFFF
