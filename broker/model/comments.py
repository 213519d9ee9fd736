"""What the source says of the fields of a class: the ``#:`` comments that stand before them.

::

    #: Seconds that it may take.        about ``timeout``
    timeout: float = 5.0
    #: Longest side, metres.            about ``width``, and ``height``, which follows at once with none of its own
    width: float
    height: float

The OpenAPI document and the reference of the settings have their texts from here. Source is read when somebody asks,
from the files that a wheel brings along as well; where there is none, there are no comments.
"""

from __future__ import annotations

import ast
import inspect
import linecache
import sys
from typing import Any, Final

import msgspec

_MARK: Final = "#:"


def field_comments(kind: type[Any]) -> dict[str, str]:
    """Field of a Struct -> its comment, empty if it has none; the fields of base classes first.

    A field that a class sets anew without a word keeps the comment that it had.
    """
    texts: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        if issubclass(one, msgspec.Struct) and one is not msgspec.Struct:
            for name, text in _own_comments(one).items():
                if text or name not in texts:
                    texts[name] = text
    return texts


def comments_before(lines: list[str], places: list[tuple[int, int, str]]) -> dict[str, str]:
    """Name -> comment, empty if it has none; of what stands in these lines: (first line, last line, name), from 1."""
    texts: dict[str, str] = {}
    ended = 0
    latest = ""
    for first, last, name in places:
        latest = _before(lines, first - 1) or (latest if first == ended + 1 else "")
        texts[name] = latest
        ended = last
    return texts


def _own_comments(kind: type[Any]) -> dict[str, str]:
    lines = _source(kind)
    if not lines:
        return {}
    (tree,) = ast.parse("".join(lines)).body
    assert isinstance(tree, ast.ClassDef)
    fields = [node for node in tree.body if isinstance(node, ast.AnnAssign)]
    return comments_before(
        lines,
        [
            (node.lineno, node.end_lineno or node.lineno, node.target.id)
            for node in fields
            if isinstance(node.target, ast.Name)
        ],
    )


def _source(kind: type[Any]) -> list[str]:
    """The lines of a class that stands by itself in its module. (`inspect.getsource` parses the module for each.)"""
    lines = linecache.getlines(getattr(sys.modules[kind.__module__], "__file__", None) or "")
    heads = (f"class {kind.__name__}(", f"class {kind.__name__}:")
    for number, line in enumerate(lines):
        if line.startswith(heads):
            return inspect.getblock(lines[number:])
    return []


def _before(lines: list[str], index: int) -> str:
    """The comment that ends on the line before this one."""
    words: list[str] = []
    while index > 0 and lines[index - 1].strip().startswith(_MARK):
        index -= 1
        words.insert(0, lines[index].strip().removeprefix(_MARK).strip())
    return " ".join(" ".join(words).split())
