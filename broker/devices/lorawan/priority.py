"""Whose downlinks may use how much of a band's air time.

Commands have a priority of 0 to 64 (PRIOR of customer servers; 255 at most over HTTP); what the network itself owes
motes stands above them.
"""

from __future__ import annotations

from typing import Final

#: What commands have that name none.
NORMAL: Final = 32
#: Acknowledgements and MAC commands.
ANSWER: Final = 1000
#: Join-accepts.
JOIN: Final = 1001
