"""The catalogue of events and the source say the same."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Final

from twisted.trial.unittest import SynchronousTestCase

from broker.events.catalogue import KINDS
from broker.events.rules import ON_REQUEST, PRESENCE_KINDS

ROOT: Final = Path(__file__).resolve().parents[2]
#: Calls ``receiver.method(kind, ..)``, by the end of the receiver's name.
EMITTERS: Final = (("events", "emit"), ("events", "made"), ("watch", "tell"), ("self", "_tell"))
#: Here the kinds are only named.
LEFT_OUT: Final = ("broker/events/catalogue.py", "broker/events/rules.py", "broker/simulate/")

#: Told by campaigns and by the care for backups, which are parts of their own.
BY_OTHERS: Final = frozenset(
    {"campaign_finished", "campaign_stopped", "backup_failed", "backup_too_old", "gateway_replaced"}
)


@cache
def parsed(text: str) -> ast.Module:
    return ast.parse(text)


@cache
def sources() -> dict[str, str]:
    files = sorted((ROOT / "broker").rglob("*.py"))
    texts = {str(file.relative_to(ROOT)): file.read_text(encoding="utf-8") for file in files}
    return {name: text for name, text in texts.items() if not name.startswith(LEFT_OUT)}


def emitted(texts: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """(place, kind) of every literal that an emitter of events is given."""
    for name, text in texts.items():
        for node in ast.walk(parsed(text)):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or not node.args:
                continue
            receiver = ast.unparse(node.func.value)
            if receiver == "self" and not name.startswith("broker/events/"):
                continue
            if any(receiver.endswith(end) and node.func.attr == method for end, method in EMITTERS):
                for part in ast.walk(node.args[0]):
                    if isinstance(part, ast.Constant) and isinstance(part.value, str):
                        yield f"{name}:{part.lineno}", part.value


def named(texts: Mapping[str, str]) -> set[str]:
    """Every text in the source."""
    return {
        node.value
        for text in texts.values()
        for node in ast.walk(parsed(text))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


class CatalogueTests(SynchronousTestCase):
    def test_what_is_emitted_is_in_the_catalogue(self) -> None:
        found = [(place, kind) for place, kind in emitted(sources()) if kind not in KINDS]
        self.assertEqual(found, [])
        self.assertGreater(len(list(emitted(sources()))), 8)

    def test_what_is_in_the_catalogue_is_named_where_it_comes_up(self) -> None:
        self.assertLessEqual(set(KINDS) - named(sources()), BY_OTHERS)

    def test_what_clears_what(self) -> None:
        for name, kind in KINDS.items():
            if kind.clears is not None:
                self.assertIn(kind.clears, KINDS, name)
        self.assertLessEqual(PRESENCE_KINDS | ON_REQUEST, set(KINDS))

    def test_the_rules_can_fail(self) -> None:
        self.assertEqual([kind for _, kind in emitted({"x.py": 'events.emit("made_up", None, {})'})], ["made_up"])
        self.assertEqual([kind for _, kind in emitted({"x.py": 'self._tell("a" if b else "c")'})], [])
        text = {"broker/events/x.py": 'self._tell("a" if b else "c")'}
        self.assertEqual([kind for _, kind in emitted(text)], ["a", "c"])
