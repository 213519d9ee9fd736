"""The contents of the manual, in docs/index.md: every page that is there, under its heading."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

#: What comes before the contents; everything behind it is written.
MARK: Final = "<!-- contents: written by `python -m tools.reference` -->\n"
#: Heading -> pages. Pages that are not there (yet) are left out; one that is there has to be in this table.
CHAPTERS: Final = {
    "Begin": ("getting-started", "concepts", "topics", "mqtt", "faq"),
    "Devices": (
        "novacloud",
        "gateway-0x88",
        "gateways",
        "gizwits",
        "lorawan",
        "lorawan-multicast",
        "chirpstack",
        "campaigns",
    ),
    "Applications": ("matrix", "gizwits-apps", "loracenter", "console", "admin", "events"),
    "Operations": (
        "install",
        "deploy",
        "upgrade",
        "backup",
        "certificates",
        "redis",
        "cluster",
        "monitoring",
        "tuning",
        "scaling",
        "benchmarks",
        "limits",
        "threat-model",
        "troubleshooting",
    ),
    "Reference": ("configuration", "http-api", "metrics", "extending", "public-names"),
}  # fmt: skip


def with_contents(folder: Path) -> str:
    """docs/index.md with its contents as they should be."""
    page = (folder / "index.md").read_text("utf-8")
    head, mark, _ = page.partition(MARK)
    assert mark, "docs/index.md has lost the mark of its contents"
    parts = [head + mark]
    for title, names in CHAPTERS.items():
        there = [name for name in names if (folder / f"{name}.md").is_file()]
        if there:
            parts.append(
                f"\n## {title}\n\n" + "".join(f"- [{title_of(folder / f'{one}.md')}]({one}.md)\n" for one in there)
            )
    return "".join(parts)


def unknown_pages(folder: Path) -> list[str]:
    """Pages that no chapter has."""
    known = {f"{name}.md" for names in CHAPTERS.values() for name in names} | {"index.md"}
    return sorted(path.name for path in folder.glob("*.md") if path.name not in known)


def missing_pages(folder: Path) -> list[str]:
    """Names of pages that have a place and are not there: others may name them already."""
    return [name for names in CHAPTERS.values() for name in names if not (folder / f"{name}.md").is_file()]


def title_of(page: Path) -> str:
    found = re.search(r"^# (.+)$", page.read_text("utf-8"), re.MULTILINE)
    assert found is not None, f"{page} has no title"
    return found[1]
