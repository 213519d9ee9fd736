"""Comments of the source (`broker.model.comments`) as Markdown."""

from __future__ import annotations

import ast
import re

from broker.model.comments import comments_before


def counter_comments(source: str) -> dict[str, str]:
    """Attribute -> comment, of the plain integers that an ``__init__`` in this source sets."""
    found: list[tuple[int, int, str]] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assign) and isinstance(target := node.targets[0], ast.Attribute):
            found.append((node.lineno, node.end_lineno or node.lineno, target.attr))
    comments = comments_before(source.splitlines(), sorted(found))
    return {name: markdown(comment) for name, comment in comments.items() if comment}


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
