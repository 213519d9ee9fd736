"""``python -m tests.matrix``: run the matrix and write ``docs/matrix.md``; exit status 1 if a cell is not well."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted.internet.threads import deferToThread

from tests.matrix.page import PAGE, page, write
from tests.matrix.run import Matrix
from tests.matrix.stage import Stage


async def work(reactor: Any, folder: Path) -> None:
    stage = Stage(folder)
    try:
        await deferToThread(stage.start)
        matrix = Matrix(reactor, stage)
        await matrix.run()
    finally:
        await deferToThread(stage.stop)
    wrong = {key: cell.problem for key, cell in matrix.cells.items() if cell.problem}
    for key, problem in wrong.items():
        print(" x ".join(key), problem, sep=": ", file=sys.stderr)
    for row, seconds in matrix.took.items():
        print(f"{row}: {seconds:.1f} s")
    if wrong:
        raise SystemExit(1)
    write(page(matrix.cells, {device.protocol: device.title for device in matrix.devices}, matrix.took))
    print(f"{PAGE} was written: {len(matrix.cells)} cells")


def main() -> None:
    with TemporaryDirectory() as folder:
        react(lambda reactor: Deferred.fromCoroutine(work(reactor, Path(folder))))


if __name__ == "__main__":
    main()
