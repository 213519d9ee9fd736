"""All rows of all tables."""

from __future__ import annotations

from typing import Final

from tests.conformance import rows_connect, rows_frames, rows_packets, rows_properties, rows_texts
from tests.conformance.rows import Row

ROWS: Final[tuple[Row, ...]] = (
    *rows_frames.ROWS,
    *rows_connect.ROWS,
    *rows_packets.ROWS,
    *rows_texts.ROWS,
    *rows_properties.ROWS,
)
