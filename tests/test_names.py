"""The catalogue of names and the source say the same: nothing is emitted that is not in it, and nothing idle is in it.

Emitters are calls by which a reason gets out (`EMITTERS`); what they are given as a literal, also behind a condition or
as a default, has to be in their catalogue. A name counts as used where a literal of it is handed to a call, returned,
a value of a table, or assigned to something called a reason.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from twisted.trial.unittest import SynchronousTestCase

from broker.model.names import CLOSE_REASONS, DROP_REASONS, PRESENCE_REASONS

ROOT: Final = Path(__file__).resolve().parent.parent

#: The simulated clients give reasons of their own, to people; the catalogue itself is no use of its names.
LEFT_OUT: Final = ("broker/simulate/", "broker/model/names.py")


@dataclass(frozen=True)
class Emitter:
    """A call ``receiver.method(..., reason, ...)``; an empty receiver stands for any."""

    method: str
    position: int
    catalogue: frozenset[str]
    receiver: str = ""


CLOSING: Final = frozenset(CLOSE_REASONS)
DROPPING: Final = frozenset(DROP_REASONS)
PRESENCE: Final = frozenset(PRESENCE_REASONS) | CLOSING

EMITTERS: Final = (
    Emitter("close", 0, CLOSING),
    Emitter("abort", 0, CLOSING),
    Emitter("close_link", 0, CLOSING),
    Emitter("refuse", 0, CLOSING, "stats"),
    Emitter("drop", 0, DROPPING, "stats"),
    Emitter("detach", 2, PRESENCE),
    Emitter("Presence", 2, PRESENCE),
)


def sources() -> dict[str, str]:
    files = sorted((ROOT / "broker").rglob("*.py"))
    texts = {str(file.relative_to(ROOT)): file.read_text(encoding="utf-8") for file in files}
    return {name: text for name, text in texts.items() if not name.startswith(LEFT_OUT)}


def last_name(node: ast.expr) -> str:
    """``c`` of ``a.b.c``, and of ``c``."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def literals(node: ast.AST | None) -> Iterator[ast.Constant]:
    """The texts that an expression may turn out as: of an f-string its parts, which are never a name of ours."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node
    elif isinstance(node, ast.IfExp):
        yield from literals(node.body)
        yield from literals(node.orelse)
    elif isinstance(node, ast.BoolOp | ast.JoinedStr):
        for part in node.values:
            yield from literals(part)
    elif isinstance(node, ast.Call) and last_name(node.func) == "get" and len(node.args) == 2:
        yield from literals(node.args[1])


def unknown(texts: Mapping[str, str]) -> list[str]:
    """What is emitted and in no catalogue, as ``file:line: ...``."""
    found: list[str] = []
    for name, text in texts.items():
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.Call):
                continue
            for emitter in EMITTERS:
                receiver = last_name(node.func.value).lstrip("_") if isinstance(node.func, ast.Attribute) else ""
                if last_name(node.func) != emitter.method or emitter.receiver not in ("", receiver):
                    continue
                given = [node.args[emitter.position]] if len(node.args) > emitter.position else []
                given += [keyword.value for keyword in node.keywords if keyword.arg == "reason"]
                found.extend(
                    f"{name}:{literal.lineno}: {emitter.method} is given {literal.value!r}, which is in no catalogue"
                    for expression in given
                    for literal in literals(expression)
                    if literal.value not in emitter.catalogue
                )
    return found


def carried(text: str) -> Iterator[str]:
    """Every literal that stands where a reason may be handed on."""
    for node in ast.walk(ast.parse(text)):
        places: Iterable[ast.AST | None] = ()
        if isinstance(node, ast.Call):
            places = [*node.args, *(keyword.value for keyword in node.keywords)]
        elif isinstance(node, ast.Return):
            places = [node.value]
        elif isinstance(node, ast.Dict):
            places = node.values
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            places = [node.value] if any(last_name(target).endswith("reason") for target in targets) else []
        elif isinstance(node, ast.arguments):
            places = [*node.defaults, *node.kw_defaults]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            # A reason in the words of a database.
            yield from re.findall(r"= '([a-z_]+)'", node.value)
        for place in places:
            yield from (str(literal.value) for literal in literals(place))


def unused(texts: Mapping[str, str], names: Iterable[str]) -> list[str]:
    used = {literal for text in texts.values() for literal in carried(text)}
    return sorted(set(names) - used)


class CatalogueTests(SynchronousTestCase):
    def test_what_is_emitted_is_in_the_catalogue(self) -> None:
        found = unknown(sources())
        self.assertEqual(found, [], "\n" + "\n".join(found))

    def test_what_is_in_the_catalogue_is_emitted(self) -> None:
        catalogues = {
            "CLOSE_REASONS": CLOSE_REASONS,
            "DROP_REASONS": DROP_REASONS,
            "PRESENCE_REASONS": PRESENCE_REASONS,
        }
        texts = sources()
        self.assertEqual(
            {title: unused(texts, names) for title, names in catalogues.items()}, {title: [] for title in catalogues}
        )


#: A line of source, and how many names in it are in no catalogue.
LINES: Final = (
    ('self.close("idle")', 0),
    ('self.close("made_up")', 1),
    ('self.close("idle" if late else "made_up")', 1),
    ('self.close(known or "made_up")', 1),
    ('self.close(TABLE.get(code, "made_up"))', 1),
    ('self.close(f"made_up_{code}")', 1),
    ('connection.close(reason="made_up")', 1),
    ("self.close(reason)", 0),
    ("file.close()", 0),
    ('self.abort("made_up", 1)', 1),
    ('live.link.close_link("made_up")', 1),
    ('self.home.stats.refuse("made_up")', 1),
    ('self._stats.drop("idle")', 1),
    ('stats.drop("queue_full", 2)', 0),
    ('self.refuse("prose for people")', 0),
    ('stats.close("made_up")', 1),
    ('devices.detach(live, self, "made_up")', 1),
    ('devices.detach(live, self, "restart")', 0),
    ('Presence(ref, True, "made_up", now)', 1),
    ('Presence(ref, False, "idle", now)', 0),
)

#: A line of source, and whether it uses the name ``idle``.
USES: Final = (
    ('self.close("idle")', True),
    ('end(1, "idle")', True),
    ('end(why="idle" if late else "flood")', True),
    ('reason = "idle"', True),
    ('self.presence_reason: str = "idle"', True),
    ('def end(reason: str = "idle"): pass', True),
    ('def why(): return "idle"', True),
    ('CODES = {4: "idle"}', True),
    ("SQL = \"UPDATE devices SET presence_reason = 'idle'\"", True),
    ('"idle"', False),
    ('word = "idle"', False),
    ('if reason == "idle": pass', False),
    ('TEXTS = {"idle": "too long ago"}', False),
    ('WORDS = ("idle",)', False),
    ('text = "the idle ones"', False),
)


class RuleTests(SynchronousTestCase):
    """The rules can fail, and only where they should."""

    def test_lines_with_unknown_names(self) -> None:
        for line, count in LINES:
            self.assertEqual(len(unknown({"x.py": line})), count, line)

    def test_the_place_is_told(self) -> None:
        (found,) = unknown({"broker/x.py": '\n\nself.close("made_up")'})
        self.assertEqual(found, "broker/x.py:3: close is given 'made_up', which is in no catalogue")

    def test_lines_that_use_a_name(self) -> None:
        for line, used in USES:
            self.assertEqual(unused({"x.py": line}, ["idle"]), [] if used else ["idle"], line)

    def test_the_source_is_read(self) -> None:
        self.assertIn("broker/listening/connection.py", sources())
        self.assertNotIn("broker/model/names.py", sources())
