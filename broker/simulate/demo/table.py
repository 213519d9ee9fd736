"""The board as a table that stays on the terminal; notes scroll by above it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table as RichTable
from rich.text import Text
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from broker.simulate.demo.board import Board, Cell
from broker.simulate.demo.cast import PROTOCOLS, SIDES
from broker.simulate.demo.lines import MAX_WAITING
from broker.simulate.demo.words import took

#: Seconds between two pictures, and notes that may come with one.
REFRESH: Final = 0.5
NOTES: Final = 2
#: Seconds for which something that has just come stands out.
FRESH: Final = 1.0
#: Columns of a terminal below which a cell begins with figures, as there is little room for words.
NARROW: Final = 120
TITLES: Final = {"novacloud": "NovaCloud", "gateway88": "0x88 gateways", "gizwits": "Gizwits", "lorawan": "LoRaWAN"}


class Table:
    """``caption`` stands below the table all the time. ``failed`` hears why nothing can be drawn any more."""

    def __init__(
        self, reactor: Any, board: Board, console: Console, caption: str, failed: Callable[[Failure], object]
    ) -> None:
        self._board = board
        self._console = console
        self._caption = caption
        self._failed = failed
        self._waiting: deque[str] = deque(maxlen=MAX_WAITING)
        # The reactor draws: rich's own thread would draw in the middle of a change.
        self._live = Live(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
        self._ticks = LoopingCall(self._draw)
        self._ticks.clock = reactor
        board.on_note.append(self.note)

    def start(self) -> None:
        try:
            self._live.start()
        except OSError:
            self._failed(Failure())
        else:
            self._ticks.start(REFRESH).addErrback(self._failed)

    def stop(self) -> None:
        """Leave the last picture, and the cursor where it was."""
        was_drawing = self._ticks.running
        if was_drawing:
            self._ticks.stop()
        try:
            while was_drawing and self._waiting:
                self._draw()
            self._live.stop()
        except OSError:
            pass  # a terminal that is gone needs no cursor

    def note(self, what: str) -> None:
        """A line in its turn; the oldest go when there are too many."""
        self._waiting.append(what)

    def _draw(self) -> None:
        for _ in range(min(NOTES, len(self._waiting))):
            self._console.print(escape(self._waiting.popleft()), highlight=False)
        self._live.update(self.picture(), refresh=True)

    def picture(self) -> RichTable:
        """The table as it is now: a line for what devices say, one for commands and their answers."""
        table = RichTable(expand=True, pad_edge=False, caption=escape(self._caption), caption_justify="left")
        table.add_column("", min_width=max(len(title) for title, _ in SIDES.values()), no_wrap=True)
        for protocol in PROTOCOLS:
            table.add_column(TITLES[protocol], ratio=1, no_wrap=True, overflow="ellipsis")
        for side, (title, way) in SIDES.items():
            cells = [self._board.cells.get((protocol, side)) for protocol in PROTOCOLS]
            table.add_row(Text(title, style="bold"), *(self._said(cell) for cell in cells))
            table.add_row(Text(way, style="dim"), *(self._answered(cell) for cell in cells))
        return table

    def _said(self, cell: Cell | None) -> Text:
        if cell is None:
            return Text("no passcode to bind", style="dim")
        if not cell.uplinks:
            return Text("...", style="dim")
        words = f"{cell.uplinks} {cell.uplink.partition(' ')[2]}" if self._is_narrow() else cell.uplink
        return Text(f"↑ {words}", style=self._style(cell.uplink_at, "green"))

    def _answered(self, cell: Cell | None) -> Text:
        if cell is None:
            return Text("")
        if not cell.answers:
            return Text("...", style="dim")
        outcome = f"✓ {took(cell.took)}" if cell.succeeded else f"✗ {cell.answer}"
        name, _, command = cell.command.partition(" ")
        words = f"{outcome} {command}" if self._is_narrow() else f"{command} {outcome} {name}"
        return Text(f"↓ {words}", style=self._style(cell.answered_at, "cyan" if cell.succeeded else "red"))

    def _is_narrow(self) -> bool:
        return self._console.width < NARROW

    def _style(self, at: float, colour: str) -> str:
        return f"bold {colour}" if self._board.seconds() - at < FRESH else colour
