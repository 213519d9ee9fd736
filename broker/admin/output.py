"""What a command says: answers on stdout, everything about them on stderr.

With ``--json`` stdout holds what the API has answered and nothing else: one JSON value, or NDJSON for lists and
streams. Otherwise it is tables: with frames and colours on a terminal, plain columns elsewhere. Texts are never
markup, so nothing that a device says can look like ours.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Literal, TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from broker.admin.cells import Columns, columns, rows_of
from broker.admin.plain import json_line, safe

#: Where there is no terminal nothing is cut or folded.
_ENDLESS: Final = 100_000
#: Rows that are put into one table; longer lists are several, so that they are seen while they come.
_TABLE: Final = 1_000


class _Screen(Console):
    """A console that leaves a broken pipe to whoever runs the command."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def screen(stream: TextIO) -> Console:
    """A console for what is not markup; in colour only on a terminal."""
    terminal = stream.isatty()
    return _Screen(
        file=stream,
        force_terminal=terminal,
        no_color=None if terminal else True,
        width=None if terminal else _ENDLESS,
        markup=False,
        emoji=False,
        highlight=False,
        soft_wrap=not terminal,
    )


class Bar:
    """How far something is. ``total`` None: nobody knows how far it will go."""

    def __init__(self, progress: Progress, task: Any) -> None:
        self._progress = progress
        self._task = task

    def advance(self, amount: float) -> None:
        self._progress.update(self._task, advance=amount)

    def show(self, completed: float, total: float | None, text: str) -> None:
        self._progress.update(self._task, completed=completed, total=total, description=safe(text))


class Output:
    """Where a command's answers and notes go."""

    def __init__(self, as_json: bool, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self.as_json = as_json
        self._out = sys.stdout if out is None else out
        self._err = sys.stderr if err is None else err
        self._screen = screen(self._out)
        self._notes = screen(self._err)

    @property
    def is_terminal(self) -> bool:
        """Whether somebody looks at bars."""
        return self._notes.is_terminal

    # -- answers ---------------------------------------------------------------------------------------------------

    def json(self, value: Any) -> None:
        """One line of JSON."""
        self._out.write(json_line(value) + "\n")
        self._out.flush()

    def item(self, value: Any, note: str = "") -> None:
        """One thing, all of it: its fields one below the other."""
        if self.as_json:
            self.json(value)
        elif isinstance(value, Mapping):
            grid = Table.grid(padding=(0, 2))
            grid.add_column(style="bold", overflow="fold")
            grid.add_column(overflow="fold")
            for label, text in rows_of(value):
                grid.add_row(Text(label), text)
            self._print(grid)
        else:
            self.line(Text(json_line(value)))
        if note:
            self.note(note)

    def table(self, items: Iterable[Any], wanted: Columns, empty: str = "") -> int:
        """Things of one kind, a row each; how many they were."""
        count, shown = 0, columns(wanted)
        rows: list[list[Text]] = []
        for item in items:
            count += 1
            if self.as_json:
                self.json(item)
                continue
            rows.append([column.of(item) for column in shown])
            if len(rows) >= _TABLE:
                self._table(rows, wanted)
                rows = []
        if rows:
            self._table(rows, wanted)
        elif not count and empty and not self.as_json:
            self.note(empty)
        return count

    def event(self, value: Any, line: Text) -> None:
        """One of many that come one by one."""
        if self.as_json:
            self.json(value)
        else:
            self.line(line)

    def heading(self, text: str) -> None:
        """Before the next of several tables; nothing with --json."""
        if not self.as_json:
            self.line(Text(""))
            self.line(Text(safe(text), style="bold"))

    def done(self, value: Any, text: str) -> None:
        """Something was done: with --json what the API has answered, if anything, else ``text``."""
        if not self.as_json:
            self.line(Text(safe(text)))
        elif value is not None:
            self.json(value)

    def line(self, text: Text) -> None:
        self._screen.print(text, soft_wrap=True)

    # -- notes -----------------------------------------------------------------------------------------------------

    def note(self, text: str, style: str = "") -> None:
        """Something about the answer, on stderr."""
        self._notes.print(Text(safe(text), style=style), soft_wrap=True)

    @contextmanager
    def progress(self, text: str, total: float | None = None) -> Iterator[Bar]:
        """A bar while something goes on; on stderr, and only where that is a terminal."""
        with Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn("{task.percentage:>3.0f}%", markup=False),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=self._notes,
            disable=not self.is_terminal,
            transient=False,
        ) as progress:
            yield Bar(progress, progress.add_task(safe(text), total=total))

    # -- inside ----------------------------------------------------------------------------------------------------

    def _table(self, rows: list[list[Text]], wanted: Columns) -> None:
        terminal = self._screen.is_terminal
        table = Table(box=SIMPLE_HEAD if terminal else None, pad_edge=False, show_edge=False, header_style="bold")
        for number, column in enumerate(columns(wanted)):
            # The first is what the thing is called: it gives way last.
            justify: Literal["left", "right"] = "right" if column.right else "left"
            table.add_column(column.heading, justify=justify, overflow="fold", no_wrap=number == 0)
        for row in rows:
            table.add_row(*row)
        self._print(table)

    def _print(self, table: Table) -> None:
        if self._screen.is_terminal:
            self._screen.print(table)
            return
        with self._screen.capture() as captured:
            self._screen.print(table)
        for line in captured.get().splitlines():
            self._out.write(line.rstrip() + "\n")
        self._out.flush()
