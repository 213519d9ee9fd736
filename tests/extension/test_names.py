"""The public names are those of the page, and the examples import nothing else of the broker."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from twisted.trial.unittest import SynchronousTestCase

import broker.extension
from broker.model.messages import Uplink
from tests.extension.names import PAGE, lines, modules, page

ROOT: Final = Path(__file__).resolve().parents[2]
EXAMPLES: Final = ROOT / "examples" / "plugins"
#: What a file of twisted/plugins may import: anything more would be loaded whenever plugins are looked for.
DECLARING: Final = "broker.listening.plugin"


def entries(text: str) -> set[str]:
    """The lines of a page, those of members with what they belong to before them."""
    found: set[str] = set()
    owner = ""
    for line in text.splitlines():
        if line.startswith("    "):
            found.add(f"{owner}: {line.strip()}")
        else:
            owner = line
            found.add(line)
    return found


class PublicNameTests(SynchronousTestCase):
    def test_the_page_is_true(self) -> None:
        written, found = entries(PAGE.read_text("utf-8")), entries(page())
        gone = sorted(written - found)
        self.assertEqual(gone, [], "others rely on what is gone, or has another signature now")
        # What is added to a class may wait for the page, a name of its own may not.
        new = sorted(line for line in found - written if ": " not in line)
        self.assertEqual(new, [], "python -m tests.extension.names")

    def test_every_name_is_there(self) -> None:
        self.assertEqual(sorted(broker.extension.__all__), sorted(set(broker.extension.__all__)))
        for module, names in modules().items():
            for name, thing in names.items():
                self.assertTrue(list(lines(name, thing)), f"{module}.{name}")

    def test_a_change_is_seen(self) -> None:
        class Other(Uplink):
            def as_json(self, pretty: bool = False) -> bytes:
                return b""

        Other.__module__ = Uplink.__module__
        before, after = list(lines("Uplink", Uplink)), list(lines("Uplink", Other))
        self.assertIn("    as_json(self) -> bytes", before)
        self.assertIn("    as_json(self, pretty: bool = False) -> bytes", after)
        self.assertNotEqual(before, after)
        self.assertEqual(entries("class A\n    x\nB\n    x\n"), {"class A", "class A: x", "B", "B: x"})


def imported(text: str) -> Iterator[tuple[str, str]]:
    """Module and name of each import of the broker's; no name for a module as such."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and of_broker(node.module or ""):
            yield from ((node.module or "", alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if of_broker(alias.name))


def of_broker(module: str) -> bool:
    return module == "broker" or module.startswith("broker.")


def private(text: str, declares: bool) -> list[str]:
    """What is imported of the broker's and is not public."""
    allowed: dict[str, Any] = modules()
    if declares:
        allowed = {DECLARING: allowed[DECLARING]}
    return [f"{module} {name}".rstrip() for module, name in imported(text) if name not in allowed.get(module, ())]


class ExampleTests(SynchronousTestCase):
    def test_they_import_public_names_alone(self) -> None:
        files = sorted(EXAMPLES.rglob("*.py"))
        self.assertGreater(len(files), 10)
        for file in files:
            declares = file.parent.name == "plugins" and file.parent.parent.name == "twisted"
            self.assertEqual(private(file.read_text("utf-8"), declares), [], file)

    def test_what_is_found(self) -> None:
        for text, declares, found in (
            ("from broker.extension import Core, Uplink", False, []),
            ("from broker.listening.plugin import ProtocolPlugin", True, []),
            ("from broker.extension import Core", True, ["broker.extension Core"]),
            ("from broker.extension import Turn", False, ["broker.extension Turn"]),
            ("from broker.core import Core", False, ["broker.core Core"]),
            ("def f():\n    import broker.service", False, ["broker.service"]),
            ("import broker_modbus.codec, twisted.web", False, []),
            ("from broker import __version__", False, ["broker __version__"]),
        ):
            self.assertEqual(private(text, declares), found, text)
