"""docs/threat-model.md names tests and settings that are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.limits.table import exists, numbers, tables

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "threat-model.md"
#: Settings that are no numbers.
OTHERS = frozenset({"proxy_protocol", "proxy_from", "client_certificates", "pin_certificates", "exempt_loopback"})


def is_there(name: str) -> bool:
    """A package, a module, a class or a function of the tests."""
    path = ROOT.joinpath(*name.split("."))
    if path.is_dir() or path.with_suffix(".py").is_file():
        return True
    module, _, last = name.rpartition(".")
    file = ROOT.joinpath(*module.split(".")).with_suffix(".py")
    if file.is_file() and any(
        isinstance(one, ast.ClassDef) and one.name == last for one in ast.parse(file.read_text("utf-8")).body
    ):
        return True
    return exists(name.removeprefix("tests."))


class PageTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.words = re.findall(r"`([^`\n]+)`", PAGE.read_text("utf-8"))

    def test_tests(self) -> None:
        named = [word for word in self.words if re.fullmatch(r"tests(\.\w+)+", word)]
        self.assertGreater(len(named), 30)
        self.assertEqual([name for name in named if not is_there(name)], [])
        self.assertFalse(is_there("tests.hostile.test_nothing"))
        self.assertFalse(is_there("tests.hostile.test_logins.nothing"))

    def test_settings(self) -> None:
        known = {key.rpartition(".")[2] for table in tables().values() for key in numbers(table)} | OTHERS
        named = {
            word.partition(" = ")[0] for word in self.words if re.fullmatch(r"(max|proxy|client|pin|lock)_\w+.*", word)
        }
        self.assertGreaterEqual(len(named), 8)
        self.assertEqual(named - known, set())

    def test_files_and_targets(self) -> None:
        makefile = (ROOT / "Makefile").read_text("utf-8")
        for word in self.words:
            if word.startswith("make "):
                self.assertIn(f"\n{word.removeprefix('make ')}: ", makefile)
            if word.startswith("tools/"):
                self.assertTrue((ROOT / word).is_file(), word)
