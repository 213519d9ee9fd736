"""The code blocks of a page, with what a comment before each says of how it is to be run.

::

    <!-- expect: PATTERN -->              run it in the terminal where everything is done; it has to print this
    <!-- eventually: PATTERN -->          the same, again and again until it does
    <!-- background, until: PATTERN -->   a terminal of its own, which stays; it has to print this
    <!-- background -->                   the same, and it may be silent
    <!-- seen in: WORD; PATTERN -->       the terminal that runs WORD has to print this then; text is not run
    <!-- not run: REASON -->
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent.parent

_BLOCK: Final = re.compile(
    r"(?:^<!-- (?P<how>[^\n]*?) -->\n)?^```(?P<language>[\w-]*)[^\n]*\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)
SHELL: Final = "sh"


@dataclass(frozen=True, slots=True)
class Block:
    language: str
    code: str
    #: The comment's words before the colon, and those behind it; empty when there is none.
    how: str = ""
    what: str = ""


def blocks_of(page: Path) -> list[Block]:
    """The fenced blocks of a page, in their order."""
    found = []
    for match in _BLOCK.finditer(page.read_text("utf-8")):
        how, _, what = (match["how"] or "").partition(": ")
        found.append(Block(match["language"], match["code"], how, what))
    return found
