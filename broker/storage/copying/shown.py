"""A bar for people who wait. On a terminal it stays in its line; elsewhere each step that is through is a line."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TextIO

WIDTH: Final = 30
#: Seconds between two looks.
EVERY: Final = 0.1


class Bar:
    """``out``: where to. ``clock``: seconds."""

    def __init__(self, out: TextIO, quiet: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self._out = out
        self._quiet = quiet
        self._clock = clock
        self._terminal = out.isatty()
        self._what = ""
        self._last = ""
        self._began = 0.0
        self._from = 0
        self._shown = float("-inf")
        self._open = False

    def progress(self, what: str, done: int, total: int) -> None:
        """``done`` of ``total`` rows."""
        if self._quiet:
            return
        now = self._clock()
        if what != self._what:
            self.end()
            self._what, self._began, self._from, self._shown = what, now, done, float("-inf")
        seconds = now - self._began
        speed = f"  {(done - self._from) / seconds:,.0f}/s" if seconds > EVERY else ""
        filled = WIDTH if done >= total else WIDTH * done // total
        self._last = f"{what:<24} [{'#' * filled}{'.' * (WIDTH - filled)}] {done:,} of {total:,}{speed}"
        self._open = True
        if self._terminal and (now - self._shown >= EVERY or done >= total):
            self._shown = now
            self._out.write(f"\r{self._last}\x1b[K")
            self._out.flush()

    def end(self) -> None:
        """The step is through, or it ends here."""
        if self._open:
            self._out.write("\n" if self._terminal else f"{self._last}\n")
            self._out.flush()
            self._open = False
