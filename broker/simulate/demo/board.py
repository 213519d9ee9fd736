"""What was seen: of each protocol by each application, the last uplink, and the last command with its answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from broker.simulate.demo.cast import Subject, short


class Cell:
    """One protocol as one application sees it. ``*_at`` are the reactor's seconds."""

    __slots__ = (
        "answer",
        "answered_at",
        "answers",
        "command",
        "failures",
        "protocol",
        "side",
        "succeeded",
        "took",
        "uplink",
        "uplink_at",
        "uplinks",
    )

    def __init__(self, protocol: str, side: str) -> None:
        self.protocol = protocol
        self.side = side
        self.uplinks = self.answers = self.failures = 0
        self.uplink = ""
        self.uplink_at = self.answered_at = 0.0
        #: The last command that was answered: what it was, how that went, and how many seconds it took.
        self.command = self.answer = ""
        self.succeeded = False
        self.took = 0.0

    @property
    def obeyed(self) -> bool:
        """A command has succeeded."""
        return self.answers > self.failures

    @property
    def whole(self) -> bool:
        """Something came from a device, and a command has succeeded."""
        return self.uplinks > 0 and self.obeyed


class Board:
    """``on_change`` hears of each cell that has changed, ``on_note`` of what else there is to say."""

    def __init__(self, cells: Iterable[tuple[str, str]], seconds: Callable[[], float]) -> None:
        self.cells = {key: Cell(*key) for key in cells}
        self.seconds = seconds
        self.on_change: list[Callable[[Cell], object]] = []
        self.on_note: list[Callable[[str], object]] = []
        self.on_whole: list[Callable[[], object]] = []
        self._missing = set(self.cells)

    @property
    def whole(self) -> bool:
        """Whether everything was seen at least once."""
        return not self._missing

    def uplink(self, side: str, subject: Subject, what: str) -> None:
        """A device's message has reached an application."""
        cell = self.cells[subject.protocol, side]
        cell.uplinks += 1
        cell.uplink = f"{short(subject)} {what}"
        cell.uplink_at = self.seconds()
        self._changed(cell)

    def answer(self, side: str, subject: Subject, command: str, succeeded: bool, answer: str, took: float) -> None:
        """A command of an application has come to its end."""
        cell = self.cells[subject.protocol, side]
        cell.answers += 1
        cell.failures += not succeeded
        cell.command = f"{short(subject)} {command}"
        cell.answer = answer
        cell.succeeded = succeeded
        cell.took = took
        cell.answered_at = self.seconds()
        self._changed(cell)

    def note(self, what: str) -> None:
        """Anything else that is worth a line."""
        self._tell(self.on_note, what)

    def _changed(self, cell: Cell) -> None:
        self._tell(self.on_change, cell)
        if self._missing and cell.whole:
            self._missing.discard((cell.protocol, cell.side))
            if not self._missing:
                self._tell(self.on_whole)

    def _tell(self, listeners: list[Callable[..., object]], *what: Any) -> None:
        for listener in list(listeners):
            listener(*what)
