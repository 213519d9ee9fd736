"""Tables, single things, bars and notes: on terminals, in pipes and as JSON."""

from __future__ import annotations

from typing import Any

from rich.text import Text
from twisted.trial.unittest import SynchronousTestCase

from broker.admin.cells import Column, Columns, cell, rows_of
from broker.admin.output import Output
from tests.admin.bed import Stream, environment
from tests.admin.test_plain import HOSTILE

COLUMNS: Columns = ("id", "name", Column("newest.size", "SIZE", right=True), "online")


class Screen:
    """An output, and what was written to its streams."""

    def __init__(self, as_json: bool = False, terminal: bool = False, columns: int = 100) -> None:
        self.out, self.err = Stream(terminal=terminal), Stream(terminal=terminal)
        with environment(COLUMNS=str(columns), TERM="xterm-256color"):
            self.output = Output(as_json, self.out, self.err)

    @property
    def lines(self) -> list[str]:
        return self.out.text().splitlines()


class TableTests(SynchronousTestCase):
    def test_plain_columns_in_a_pipe(self) -> None:
        screen = Screen()
        wide = "x" * 190
        items = [
            {"id": "a", "name": "hall", "newest": {"size": 1_500}, "online": True},
            {"id": "bbbb", "name": wide, "newest": None, "online": False},
        ]
        self.assertEqual(screen.output.table(items, COLUMNS), 2)
        head, first, second = screen.lines
        self.assertEqual(head.split(), ["ID", "NAME", "SIZE", "ONLINE"])
        self.assertEqual(first.split(), ["a", "hall", "1.5", "kB", "yes"])
        self.assertEqual(second.split(), ["bbbb", wide, "-", "no"])
        self.assertEqual(first.index("hall"), second.index("xxxx"))
        self.assertNotIn("\x1b", screen.out.text())

    def test_a_terminal_has_colours_and_whole_ids(self) -> None:
        screen = Screen(terminal=True, columns=60)
        id = "0c0be035-f89a-44c6-a510-8968724dd2c4"
        screen.output.table([{"id": id, "name": "n " * 60, "newest": None, "online": True}], COLUMNS)
        text = screen.out.text()
        self.assertIn("\x1b[", text)
        self.assertIn(id, text)
        self.assertIn("─", text)

    def test_values_cannot_speak_to_the_terminal(self) -> None:
        for terminal in (False, True):
            for text in HOSTILE:
                screen = Screen(terminal=terminal)
                screen.output.table([{"id": f"a{text}b", "name": "[red]x[/red] :smile:"}], COLUMNS)
                screen.output.item({f"k{text}": {"x": text}, "list": [text, text]})
                screen.output.note(f"note {text}")
                screen.output.heading(text)
                screen.output.done(None, text)
                for written in (screen.out.text(), screen.err.text()):
                    for line in written.split("\n"):
                        if terminal:
                            continue
                        self.assertTrue(line.isprintable(), ascii(line))
                    # Of its own escapes a terminal's output has only colours.
                    self.assertNotIn(text if len(text) > 1 else "\x07", written)
                self.assertIn("[red]x[/red] :smile:", screen.out.text())

    def test_json_and_nothing_else(self) -> None:
        screen = Screen(as_json=True)
        items: list[Any] = [{"id": "a", "more": [1]}, {"id": "b"}]
        screen.output.table(items, COLUMNS, "nothing")
        screen.output.heading("values")
        screen.output.done(None, "deleted")
        screen.output.item({"id": "c"}, "a note")
        screen.output.event({"id": "d"}, Text("line"))
        self.assertEqual(screen.lines, ['{"id":"a","more":[1]}', '{"id":"b"}', '{"id":"c"}', '{"id":"d"}'])
        self.assertEqual(screen.err.text(), "a note\n")

    def test_nothing_to_show_is_said_beside_the_answer(self) -> None:
        screen = Screen()
        self.assertEqual(screen.output.table([], COLUMNS, "no devices"), 0)
        self.assertEqual((screen.out.text(), screen.err.text()), ("", "no devices\n"))

    def test_long_lists_are_several_tables(self) -> None:
        screen = Screen()
        screen.output.table(({"id": str(number)} for number in range(2_500)), COLUMNS)
        self.assertEqual(sum(line.startswith("ID") for line in screen.lines), 3)
        self.assertEqual(len(screen.lines), 2_503)


class CellTests(SynchronousTestCase):
    def test_by_the_name_of_the_field(self) -> None:
        for name, value, text in (
            ("size", 3_000_000, "3.0 MB"),
            ("age", 90.0, "1m 30s"),
            ("online", False, "no"),
            ("anything", None, "-"),
            ("anything", [], "-"),
            ("anything", ["a", 1], "a, 1"),
            ("anything", {"a": [1]}, '{"a":[1]}'),
            ("frequency", 868100000, "868100000"),
            ("value", 21.5, "21.5"),
        ):
            self.assertEqual(cell(name, value).plain, text)
        self.assertRegex(cell("created_at", 1_795_976_913.0).plain, r"^20\d\d-\d\d-\d\d \d\d:\d\d:\d\d$")
        self.assertEqual(cell("status", "failed").style, "red")
        self.assertEqual(cell("name", "failed").style, "")

    def test_long_values_are_cut_in_tables_only(self) -> None:
        long = {"payload": "x" * 1_000}
        self.assertEqual(len(Column("payload").of(long)), 200)
        ((_, whole),) = rows_of(long)
        self.assertEqual(len(whole), 1_000)

    def test_objects_are_rows_with_dotted_names(self) -> None:
        rows = rows_of({"a": {"b": {"c": 1}}, "d": [{"e": 1}, {"e": 2}], "f": {}})
        found = [(label, text.plain) for label, text in rows]
        self.assertEqual(found, [("a.b.c", "1"), ("d[0]", '{"e":1}'), ("d[1]", '{"e":2}'), ("f", "-")])


class ProgressTests(SynchronousTestCase):
    def test_a_bar_on_a_terminal_only(self) -> None:
        screen = Screen(terminal=True)
        with screen.output.progress("sending [x]\x1b[2J", 10) as bar:
            bar.advance(10)
        text = screen.err.text()
        self.assertIn("sending [x]\\x1b[2J", text)
        self.assertIn("100%", text)
        self.assertEqual(screen.out.text(), "")
        screen = Screen()
        with screen.output.progress("sending", 10) as bar:
            bar.advance(10)
        self.assertEqual((screen.out.text(), screen.err.text()), ("", ""))
