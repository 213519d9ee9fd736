"""The board as lines: a few a second, whatever happens. For pipes, files, and terminals that cannot do more.

::

    cell  novacloud x mqtt-dashboard   climate-1 temperature=21.4 ...   climate-2 fan_speed=2: succeeded, 14 ms

First each cell as soon as all of it was seen; then the one that was not shown for the longest time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from broker.simulate.demo.board import Board, Cell
from broker.simulate.demo.words import cut, took

#: Seconds between two lines, and between two cells once all have been shown.
PACE: Final = 0.2
LEISURE: Final = 1.0
#: Columns of what a device says, and of a command with its answer.
SAID: Final = 48
ANSWERED: Final = 64
#: Lines that may wait; what comes on top is counted.
MAX_WAITING: Final = 200


def line_of(cell: Cell) -> str:
    """A cell in a line."""
    answer = f"{cell.command}: {cell.answer}, {took(cell.took)}" if cell.command else "-"
    place = f"{cell.protocol} x {cell.side}"
    return f"cell  {place:<28} {cut(cell.uplink, SAID):<{SAID}}  {cut(answer, ANSWERED)}".rstrip()


class Lines:
    """``say`` prints a line. ``failed`` hears why it cannot."""

    def __init__(
        self, reactor: Any, board: Board, say: Callable[[str], object], failed: Callable[[Failure], object]
    ) -> None:
        self._reactor = reactor
        self._say = say
        self._failed = failed
        self._waiting: deque[str] = deque()
        self._left_out = 0
        #: Cells to be shown as soon as possible, and all that were shown, the oldest first.
        self._first: list[Cell] = []
        self._shown: dict[Cell, None] = {}
        self._changed: set[Cell] = set()
        self._next_cell = 0.0
        self._ticks = LoopingCall(self._tick)
        self._ticks.clock = reactor
        board.on_change.append(self._on_change)
        board.on_note.append(self.note)

    def start(self) -> None:
        self._ticks.start(PACE, now=False).addErrback(self._failed)

    def stop(self) -> None:
        """What waits is said at once."""
        if self._ticks.running:
            self._ticks.stop()
        while self._waiting:
            self._say(self._waiting.popleft())
        self._say_left_out()

    def note(self, what: str) -> None:
        """A line in its turn."""
        if len(self._waiting) < MAX_WAITING:
            self._waiting.append(self._dated(f"note  {what}"))
        else:
            self._left_out += 1

    def _on_change(self, cell: Cell) -> None:
        if cell in self._shown:
            self._changed.add(cell)
        elif cell.whole:
            self._shown[cell] = None
            self._first.append(cell)

    def _tick(self) -> None:
        if self._first:
            self._show(self._first.pop(0))
        elif self._waiting:
            self._say(self._waiting.popleft())
        elif self._left_out:
            self._say_left_out()
        elif self._reactor.seconds() >= self._next_cell and self._changed:
            cell = next(one for one in self._shown if one in self._changed)
            # It goes to the end of the queue.
            del self._shown[cell]
            self._shown[cell] = None
            self._show(cell)

    def _show(self, cell: Cell) -> None:
        self._changed.discard(cell)
        self._next_cell = self._reactor.seconds() + LEISURE
        self._say(self._dated(line_of(cell)))

    def _say_left_out(self) -> None:
        if self._left_out:
            self._say(self._dated(f"note  {self._left_out} more lines were left out"))
            self._left_out = 0

    def _dated(self, text: str) -> str:
        return f"{datetime.now().astimezone():%H:%M:%S}  {text}"
