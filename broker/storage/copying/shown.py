"""A bar for people who wait. On a terminal it moves; elsewhere each step that is through is a line."""

from __future__ import annotations

from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


class Bar:
    """``out``: where to."""

    def __init__(self, out: TextIO, quiet: bool = False) -> None:
        self._out = out
        self._quiet = quiet
        self._what = ""
        self._line = ""
        self._progress: Progress | None = None
        self._task = TaskID(0)
        if out.isatty() and not quiet:
            columns = TextColumn("{task.description:<24}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
            self._progress = Progress(*columns, console=Console(file=out))
            self._progress.start()

    def progress(self, what: str, done: int, total: int) -> None:
        """``done`` of ``total`` rows."""
        if self._progress is not None:
            if what != self._what:
                self._task = self._progress.add_task(what)
            # What is empty is through as well.
            self._progress.update(self._task, completed=done or not total, total=total or 1)
        elif what != self._what:
            self._say()
        self._what = what
        self._line = f"{what:<24} {done:,} of {total:,}"

    def _say(self) -> None:
        if self._line and not self._quiet:
            print(self._line, file=self._out, flush=True)
        self._line = ""

    def end(self) -> None:
        """The last step is through, or it ends here."""
        if self._progress is not None:
            self._progress.stop()
        else:
            self._say()
