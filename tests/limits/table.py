"""docs/limits.md from the settings and the rows: `python -m tests.limits.table > docs/limits.md`."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import structs

from broker.listening.settings import Limits
from broker.settings.tables import GENERAL
from broker.tap import found_protocols, load_sides
from broker.web.settings import WebSettings
from tests.limits.general import OF_TABLES
from tests.limits.rows import OF_LISTENERS, SHARED, WEB, Row

TESTS: Final = Path(__file__).resolve().parent.parent
PAGE: Final = TESTS.parent / "docs" / "limits.md"
#: What stands above the tables.
HEAD: Final = TESTS / "limits" / "head.md"


def page() -> str:
    """The whole page."""
    return "\n".join(_lines()) + "\n"


def tables() -> dict[str, Any]:
    """Name -> the settings with their defaults: the general tables, then the listeners."""
    sides = {name: side.Settings() for name, side in sorted(load_sides(found_protocols()).items())}
    return {**{name: table() for name, table in GENERAL.items() if name != "limits"}, **sides}


def listeners() -> dict[str, Any]:
    return {name: table for name, table in tables().items() if name not in GENERAL}


def numbers(table: msgspec.Struct, path: str = "") -> dict[str, float]:
    """Every number in a table: dotted key -> default."""
    found: dict[str, float] = {}
    for field in structs.fields(table):
        value = getattr(table, field.name)
        if isinstance(value, msgspec.Struct):
            found |= numbers(value, f"{path}{field.name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[path + field.name] = value
    return found


def of_web() -> frozenset[str]:
    """The listeners that speak HTTP."""
    return frozenset(name for name, table in listeners().items() if isinstance(table, WebSettings))


def _lines() -> Iterator[str]:
    yield HEAD.read_text("utf-8")
    yield "## Every listener: `[limits]`, `[listeners.<name>.limits]`"
    yield ""
    yield from _shared()
    yield ""
    yield "## HTTP: " + ", ".join(f"`[listeners.{name}]`" for name in sorted(of_web()))
    yield ""
    yield from _table(WEB, {row.key: _of_each(row.key) for row in WEB})
    for name, rows in OF_LISTENERS.items():
        yield ""
        yield f"## `[listeners.{name}]`"
        yield ""
        yield from _table(rows, numbers(tables()[name]))
    for name, rows in OF_TABLES.items():
        yield ""
        yield f"## `[{name}]`"
        yield ""
        yield from _table(rows, numbers(tables()[name]))


def _shared() -> Iterator[str]:
    usual = numbers(Limits())
    defaults = {}
    for key, value in usual.items():
        others = {name: numbers(table)[f"limits.{key}"] for name, table in listeners().items() if name != "lorawan"}
        own = ", ".join(f"{name} {_number(other)}" for name, other in others.items() if other != value)
        defaults[key] = _number(value) + (f" ({own})" if own else "")
    yield from _table(SHARED, defaults)


def _of_each(key: str) -> str:
    values = {name: numbers(listeners()[name])[key] for name in sorted(of_web())}
    if len(set(values.values())) == 1:
        return _number(next(iter(values.values())))
    return ", ".join(f"{name} {_number(value)}" for name, value in values.items())


def _table(rows: tuple[Row, ...], defaults: Mapping[str, Any]) -> Iterator[str]:
    yield "| setting | default | beyond it | shown by |"
    yield "|---|---|---|---|"
    for row in rows:
        default = defaults[row.key]
        text = default if isinstance(default, str) else _number(default)
        yield f"| `{row.key}` | {text} | {row.beyond} | `tests.{row.shown_by}` |"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:g}"


@cache
def defined(module: Path) -> frozenset[str]:
    """The functions of a module, and its methods as ``Class.method``."""
    tree = ast.parse(module.read_text("utf-8"))
    functions = ast.FunctionDef | ast.AsyncFunctionDef
    methods = {
        f"{one.name}.{inner.name}"
        for one in tree.body
        if isinstance(one, ast.ClassDef)
        for inner in one.body
        if isinstance(inner, functions)
    }
    return frozenset(methods | {one.name for one in tree.body if isinstance(one, functions)})


def exists(shown_by: str) -> bool:
    """Whether there is such a test, or such an attack."""
    parts = shown_by.split(".")
    for length in range(len(parts) - 1, 0, -1):
        module = TESTS.joinpath(*parts[:length]).with_suffix(".py")
        if module.is_file():
            return ".".join(parts[length:]) in defined(module)
    return False


if __name__ == "__main__":
    sys.stdout.write(page())
