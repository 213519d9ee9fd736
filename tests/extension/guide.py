"""``docs/extending.md``, taken apart: the files of its blocks, and its commands with what they print.

A block is a file if its fence has a ``title``; ``sh`` blocks are commands, and a ``text`` block right behind one is
what they print, where ``...`` stands for anything. Other ``text`` blocks are pictures.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

GUIDE: Final = Path(__file__).resolve().parents[2] / "docs" / "extending.md"
_FENCE: Final = re.compile(r'^```(?P<language>\w+)(?: title="(?P<title>[^"]+)")?\n(?P<content>.*?)^```$', re.M | re.S)


@dataclass(frozen=True)
class Block:
    """``title`` is a path, or empty; ``follows``: nothing but the end of another block stands before it."""

    language: str
    title: str
    content: str
    follows: bool


def blocks(text: str) -> Iterator[Block]:
    end = 0
    for found in _FENCE.finditer(text):
        between = text[end : found.start()]
        yield Block(found["language"], found["title"] or "", found["content"], end > 0 and not between.strip())
        end = found.end()


@dataclass(frozen=True)
class Command:
    """``expected`` is empty where the guide does not say what is printed."""

    script: str
    expected: str


def commands(found: list[Block]) -> list[Command]:
    """In their order."""
    made: list[Command] = []
    for block, behind in zip(found, [*found[1:], None], strict=True):
        if block.language == "sh":
            printed = behind is not None and behind.language == "text" and behind.follows
            made.append(Command(block.content, behind.content if printed and behind is not None else ""))
    return made


def is_as_said(printed: str, expected: str) -> bool:
    """Whether the lines of ``expected`` are there, one behind the other; others may stand between them."""
    at = 0
    for line in expected.splitlines():
        if line == "...":
            continue
        pattern = ".*?".join(re.escape(part) for part in line.split("..."))
        found = re.compile(f"^.*?{pattern}.*?$", re.M).search(printed, at)
        if found is None:
            return False
        at = found.end()
    return True
