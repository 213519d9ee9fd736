"""What the source says of fields: the ``#:`` comments that stand before them."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from typing import Any, Final

_MARK: Final = "#:"


def field_comments(kind: type[Any]) -> dict[str, tuple[str, ...]]:
    """Comment -> the fields that it is about, in the order of the class's source.

    A comment is also about the fields that follow on the next lines without one of their own: ``#: Longest side``
    before ``width`` and ``height`` is about both. Fields without any stand under a NUL and their name.
    """
    source = textwrap.dedent(inspect.getsource(kind))
    lines = source.splitlines()
    (tree,) = ast.parse(source).body
    assert isinstance(tree, ast.ClassDef)
    return _grouped(
        lines, [(node.lineno, node.end_lineno or node.lineno, name) for node in tree.body if (name := _field(node))]
    )


def counter_comments(source: str) -> dict[str, str]:
    """Attribute -> comment, of the plain integers that an ``__init__`` in this source sets."""
    lines = source.splitlines()
    found: list[tuple[int, int, str]] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assign) and isinstance(target := node.targets[0], ast.Attribute):
            found.append((node.lineno, node.end_lineno or node.lineno, target.attr))
    grouped = _grouped(lines, sorted(found))
    return {name: comment for comment, names in grouped.items() for name in names if not comment.startswith("\0")}


def _field(node: ast.stmt) -> str:
    return node.target.id if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) else ""


def _grouped(lines: list[str], fields: list[tuple[int, int, str]]) -> dict[str, tuple[str, ...]]:
    grouped: dict[str, tuple[str, ...]] = {}
    latest, ended = "", -1
    for first, last, name in fields:
        comment = _before(lines, first - 1)
        if not comment:
            comment = latest if latest and first == ended + 1 else f"\0{name}"
        grouped[comment] = (*grouped.get(comment, ()), name)
        latest, ended = ("" if comment.startswith("\0") else comment), last
    return grouped


def _before(lines: list[str], index: int) -> str:
    """The comment that ends on the line before this one."""
    words: list[str] = []
    while index > 0 and lines[index - 1].strip().startswith(_MARK):
        index -= 1
        words.insert(0, lines[index].strip().removeprefix(_MARK).strip())
    return markdown(" ".join(words))


def markdown(text: str) -> str:
    """Comments of the source as Markdown: code in double backquotes there, and pages of the manual by their path."""
    text = re.sub(r"``(.+?)``", r"`\1`", " ".join(text.split()))
    return re.sub(r"\bdocs/(\w+)\.md\b", r"[\1.md](\1.md)", text)


def cell(text: str) -> str:
    """Text for a cell of a table. What looks like a tag stands in code."""
    text = text.replace("|", "\\|")
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(
        part if part.startswith("`") else re.sub(r"(<[^<>\s]+>\S*[^\s.,;:)]|<[^<>\s]+>)", r"`\1`", part)
        for part in parts
    )
