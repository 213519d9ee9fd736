"""What broker processes say of one another: shapes without behaviour."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, frozen=True)
class Taken:
    """An entry of the directory. ``mine``: it is ours now. ``node``: who has it (before we took it: who had it), or "".

    ``note``: what was kept with it.
    """

    mine: bool
    node: str
    note: str
