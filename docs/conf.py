"""How Sphinx builds the manual: `make docs`. The pages are plain Markdown, which reads as well without."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from broker import __version__
from tools.reference.contents import missing_pages

project = "broker"
author = "The broker authors"
version = release = __version__
extensions = ["myst_parser"]
root_doc = "index"
exclude_patterns = ["conf.py"]
nitpicky = True

# Links like [limits](configuration.md#limits) are checked, to their heading.
myst_heading_anchors = 4
# Blocks in the pages are as their readers write them: JSON with "..." in it is no mistake.
highlight_language = "none"
suppress_warnings = ["misc.highlighting_failure", "myst.header"]

html_theme = "furo"
html_title = f"broker {__version__}"
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False

_CHAPTER = re.compile(r"^## (.+)\n((?:\n?- \[.*\]\([\w-]+\.md\)\n)+)", re.MULTILINE)


def _read(app: Any, name: str, source: list[str]) -> None:
    """The contents of index.md are the navigation, too. Pages of the sources outside docs/ come along as they are."""
    source[0] = re.sub(r"\]\(\.\./([\w.]+)\)", r"](path:../\1)", source[0])
    for page in missing_pages(Path(app.srcdir)):
        source[0] = re.sub(rf"\[([^\]]*)\]\({page}\.md[^)]*\)", r"\1", source[0])
    if name == root_doc:
        for title, links in _CHAPTER.findall(source[0]):
            pages = "\n".join(re.findall(r"\(([\w-]+)\.md\)", links))
            source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n{pages}\n```\n"


def setup(app: Any) -> None:
    app.connect("source-read", _read)
