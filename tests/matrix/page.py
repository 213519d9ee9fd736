"""``docs/matrix.md``, from what a run has found. Without its times the page is the same for every run that is well."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.matrix.plugin import ROOT
from tests.matrix.run import ROWS, SIDES, Cells

PAGE: Final = ROOT / "docs" / "matrix.md"
_TIME: Final = re.compile(r"\d+\.\d+ s")

HEAD: Final = """\
# Every device with every application

This page is written by `make matrix`, from a run in which all of it happened: one broker (`twistd broker`) with every
listener, one device of each protocol, one application of each kind, real sockets between them. `tests/matrix/` is that
run, and a part of `make test`, which fails when a cell here does not hold any more, or when this page is another one.

| row | what happened |
|---|---|
| uplink | the device said something, and the application heard it, in its own form |
| command | the application gave the device a command, the device got it, and the application was told that it is done |
| presence | the application was told that the device came, and that it went |
| refusal | the device refused a command, or could not be told it, and the application was told so |
| rights | of a device that it is not bound to the application heard nothing, and a command to it was turned away |

The time is the application's: from when it began to wait, or sent its command, to the answer. All cells of a row ran
at the same time, so commands to one device stood in one queue; with LoRaWAN each takes its time in the air, and a
presence ends after 6 s of silence in this run. Modbus/TCP is `examples/plugins/modbus`, installed as a package of its
own: the broker has no line about it.
"""


def page(cells: Cells, titles: Mapping[str, str], took: Mapping[str, float]) -> str:
    """The text. ``titles``: of the protocols; ``took``: seconds of each row."""
    notes: list[str] = []
    lines = [HEAD]
    header = ["", *(side.title for side in SIDES)]
    for protocol, title in titles.items():
        lines += [f"## {title}", "", *_table(header, [_row(cells, protocol, row, notes) for row in ROWS]), ""]
    lines += ["## Where a document has no word for it", ""]
    lines += [f"{number}. {note}" for number, note in enumerate(notes, 1)]
    total = sum(took.values())
    lines += [
        "",
        f"All {len(cells)} cells took {total:.2f} s, with the broker, the devices and the applications on one",
    ]
    lines += ["machine.", ""]
    return "\n".join(lines)


def without_times(text: str) -> str:
    """What is the same in every run."""
    return _TIME.sub("- s", text)


def _row(cells: Cells, protocol: str, row: str, notes: list[str]) -> list[str]:
    found = [row]
    for side in SIDES:
        cell = cells[protocol, side.name, row]
        if cell.problem:
            found.append("**fails**")
        elif cell.impossible:
            if cell.impossible not in notes:
                notes.append(cell.impossible)
            found.append(f"({notes.index(cell.impossible) + 1})")
        else:
            found.append(f"{cell.seconds:.2f} s")
    return found


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(line)} |" for line in (header, ["---"] * len(header), *rows)]


def write(text: str, path: Path = PAGE) -> None:
    path.write_text(text, encoding="utf-8")
