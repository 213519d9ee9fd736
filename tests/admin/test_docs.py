"""The page about the command line names every command that there is, and no other."""

from __future__ import annotations

import shlex

from twisted.trial.unittest import SynchronousTestCase

from broker.admin.cli import parse, parser
from tests.admin.bed import ROOT
from tests.admin.test_parser import leaves

PAGE = "docs/admin.md"


def table() -> list[str]:
    """The commands with the first sentence of their --help."""
    lines = ["| command | what it does |", "|---|---|"]
    for words, made in leaves(parser()):
        about = (made.description or "").partition(". ")[0].rstrip(".")
        arguments = " ".join(
            str(action.metavar or action.dest) + ("..." if action.nargs in ("+", "*") else "")
            for action in made._actions
            if not action.option_strings
        )
        lines.append(f"| `{' '.join(words)}{' ' if arguments else ''}{arguments}` | {about[0].lower()}{about[1:]} |")
    return lines


def commands(text: str) -> list[list[str]]:
    """The command lines in a page's blocks, without what a shell makes of the rest."""
    found = []
    for block in text.split("```")[1::2]:
        for line in block.replace("\\\n", " ").splitlines():
            line = line.removeprefix("$ ")
            if line.startswith("broker-admin ") and "SUBJECT" not in line:
                words = shlex.split(line)[1:]
                ends = [words.index(mark) for mark in ("|", "||") if mark in words]
                found.append(words[: min(ends, default=len(words))])
    return found


class PageTests(SynchronousTestCase):
    def test_every_command_is_there(self) -> None:
        text = (ROOT / PAGE).read_text("utf-8")
        found = [line for line in text.splitlines() if line.startswith("|")]
        begin = found.index(table()[0])
        self.assertEqual(found[begin : begin + len(table())], table(), f"{PAGE} has the table of {__name__}.table()")

    def test_examples_are_understood(self) -> None:
        for page, least in ((PAGE, 15), ("README.md", 2)):
            found = commands((ROOT / page).read_text("utf-8"))
            self.assertGreaterEqual(len(found), least, page)
            for words in found:
                self.assertTrue(callable(parse(words).run), words)
