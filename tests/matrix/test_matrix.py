"""Every device with every application, in one broker; and that docs/matrix.md says what this run has found."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.matrix.page import PAGE, page, without_times
from tests.matrix.run import ROWS, SIDES, Cell, Matrix
from tests.matrix.stage import Stage

reactor: Any = _reactor

PROTOCOLS = ("gateway88", "gizwits", "lorawan", "novacloud", "modbus")
#: Cells that a document makes impossible. No others may be so.
IMPOSSIBLE = {
    *((protocol, "gizwits-mqtt", "presence") for protocol in PROTOCOLS),
    *((protocol, "gizwits-mqtt", "refusal") for protocol in PROTOCOLS),
    *((protocol, "loracenter", "presence") for protocol in PROTOCOLS if protocol != "gateway88"),
}


class MatrixTests(TestCase):
    timeout = 280

    async def test_every_cell(self) -> None:
        folder = Path(self.mktemp()).resolve()
        folder.mkdir(parents=True)
        stage = Stage(folder)
        try:
            await deferToThread(stage.start)
            matrix = Matrix(reactor, stage)
            await matrix.run()
        finally:
            status = await deferToThread(stage.stop)
        cells = matrix.cells
        everything = set(product(PROTOCOLS, (side.name for side in SIDES), ROWS))
        self.assertEqual(set(cells), everything)
        wrong = [f"{' x '.join(key)}: {cell.problem}" for key, cell in cells.items() if cell.problem]
        self.assertEqual(wrong, [], "\n".join(wrong))
        self.assertEqual({key for key, cell in cells.items() if cell.impossible}, IMPOSSIBLE)
        self.assertEqual(status, 0)
        output = "\n".join(stage.broker.output)
        self.assertNotIn("Traceback", output)
        titles = {device.protocol: device.title for device in matrix.devices}
        found = without_times(page(cells, titles, matrix.took))
        written = without_times(PAGE.read_text("utf-8"))
        self.assertEqual(found, written, "run `make matrix` and look at what has changed")


class PageTests(SynchronousTestCase):
    def test_a_cell_that_fails_and_one_that_cannot_be(self) -> None:
        cells = {(protocol, side.name, row): Cell(1.5) for protocol, side, row in product(("p",), SIDES, ROWS)}
        cells["p", "http", "uplink"].problem = "AssertionError: no"
        cells["p", "stream", "command"].impossible = cells["p", "stream", "rights"].impossible = "Document 1.2"
        text = page(cells, {"p": "P"}, {"uplink": 1.0, "command": 2.0})
        self.assertEqual(text.count("**fails**"), 1)
        self.assertEqual(text.count("| (1) |"), 2)
        self.assertIn("\n1. Document 1.2\n", text)
        self.assertIn("took 3.00 s", text)
        for cell in cells.values():
            cell.seconds = 0.25
        self.assertNotEqual(page(cells, {"p": "P"}, {"uplink": 3.0}), text)
        self.assertEqual(without_times(page(cells, {"p": "P"}, {"uplink": 4.5})), without_times(text))
