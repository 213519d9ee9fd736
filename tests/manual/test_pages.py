"""The manual: what comes from the code is not stale, it builds without a warning, and what pages name is there.

Sphinx follows links between pages, to their headings too; links that lead out of `docs/`, and those of the pages beside
it, are followed here.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from contextlib import redirect_stderr
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from broker import __version__
from broker.admin import cli as admin_cli
from broker.model.names import CLOSE_REASONS
from broker.simulate import __main__ as simulate_cli
from broker.storage import __main__ as storage_cli
from tests.manual.blocks import ROOT
from tools.reference.__main__ import DOCS, pages, stale
from tools.reference.contents import CHAPTERS, missing_pages, unknown_pages, with_contents

#: Pages beside docs/ that are read as they are.
OUTSIDE: Final = ("README.md", "README.zh.md", "CHANGELOG.md", "CONTRIBUTING.md", "NOTES.md")
_LINK: Final = re.compile(r"(?<!`)\]\(([^)\s]+)\)")
_HEADING: Final = re.compile(r"^#+ (.+)$", re.MULTILINE)
#: Addresses that a browser would load by itself.
_LOADED: Final = re.compile(
    r"<(?:script|img|link|iframe)\b[^>]*?(?:src|href)=\"((?:https?:)?//[^\"]+)\"|url\(['\"]?(https?://[^)]+)\)"
)


def anchor_of(heading: str) -> str:
    """As GitHub and MyST make it."""
    plain = re.sub(r"\[(.*?)\]\(.*?\)|`", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def broken_links(page: Path) -> list[str]:
    """Links of a page to files of the project that are not there, or to headings that they have not."""
    found = []
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    for link in _LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if target.parent == DOCS and target.stem in missing_pages(DOCS):
            continue
        if not target.is_file():
            found.append(f"{page.name}: {link} is not there")
        elif anchor and anchor not in map(anchor_of, _HEADING.findall(target.read_text("utf-8"))):
            found.append(f"{page.name}: {link}: there is no such heading")
    return found


#: Programs of ours -> the parser of what follows.
PARSERS: Final = {
    "broker-admin": cache(admin_cli.parser),
    "python -m broker.admin": cache(admin_cli.parser),
    "python -m broker.simulate": cache(simulate_cli.parser),
    "python -m broker.storage": cache(storage_cli.parser),
}


_OURS: Final = r"broker-admin|python -m broker\.(?:admin|simulate|storage)"
_PROGRAM: Final = re.compile(rf"^(?:\$ )?(?:\.venv/bin/)?((?:{_OURS}) .*)$")
#: What stands for something that the reader knows.
_NOT_MEANT: Final = re.compile(r"\.\.\.| (SUBJECT|COMMAND|PROTOCOL)\b|--help")


def command_lines(text: str) -> list[str]:
    """Commands of ours in a page: in its blocks, and between single backquotes."""
    blocks = re.findall(r"^```(?:sh|text|)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    outside = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines += [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", outside)]
    found = [match[1] for line in lines for part in line.split("; ") if (match := _PROGRAM.match(part))]
    return [line for line in found if not _NOT_MEANT.search(line)]


def misunderstood(line: str) -> str:
    """Why a command line cannot be; empty if it can."""
    line = re.split(r" \|\|? | >| && ", line)[0]
    words = shlex.split(line, comments=True)
    name = next(one for one in PARSERS if line.startswith(one))
    with redirect_stderr(StringIO()) as said:
        try:
            PARSERS[name]().parse_args(words[len(name.split()) :])
        except SystemExit:
            return said.getvalue().strip().rpartition("\n")[2]
    return ""


class WrittenPagesTests(TestCase):
    timeout = 120

    def test_what_comes_from_the_code_is_not_stale(self) -> Deferred[None]:
        def look() -> None:
            self.assertEqual(stale(pages()), [], "`make reference` writes them")

        return deferToThread(look)


class ContentsTests(SynchronousTestCase):
    def test_every_page_is_linked(self) -> None:
        self.assertEqual(unknown_pages(DOCS), [], "name them in tools/reference/contents.py")
        self.assertEqual((DOCS / "index.md").read_text("utf-8"), with_contents(DOCS), "`make reference` writes it")

    def test_a_page_may_be_missing_and_may_not_be_left_out(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        index = (DOCS / "index.md").read_text("utf-8")
        (folder / "index.md").write_text(index)
        self.assertNotIn("(limits.md)", with_contents(folder))
        (folder / "limits.md").write_text("# Limits of every listener\n")
        self.assertIn("- [Limits of every listener](limits.md)\n", with_contents(folder))
        (folder / "stray.md").write_text("# Stray\n")
        self.assertEqual(unknown_pages(folder), ["stray.md"])

    def test_no_page_twice(self) -> None:
        names = [name for chapter in CHAPTERS.values() for name in chapter]
        self.assertEqual(len(names), len(set(names)))


class BuildTests(TestCase):
    timeout = 180

    async def test_it_builds_without_a_warning(self) -> None:
        """All but the writing, which `make docs` does as well."""
        await deferToThread(self.build, "dummy", DOCS)

    def test_nothing_is_loaded_from_elsewhere(self) -> Deferred[None]:
        """By the theme, which is on any page, or by a page itself."""
        for page in DOCS.glob("*.md"):
            self.assertNotRegex(page.read_text("utf-8"), r"!\[[^]]*\]\(\w+:|<(img|script|iframe|link)\b", page.name)
        small = Path(self.mktemp()).absolute()
        small.mkdir(parents=True)
        (small / "index.md").write_text("# One page\n")

        def look() -> None:
            out = self.build("html", small)
            loaded = [found for file in out.rglob("*") if file.suffix in (".html", ".css") for found in _loaded(file)]
            self.assertEqual(loaded, [], "the pages have to work without a network")

        return deferToThread(look)

    def build(self, builder: str, pages: Path) -> Path:
        out = Path(self.mktemp()).absolute()
        command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-E", "-b", builder]
        done = subprocess.run(
            [*command, "-c", str(DOCS), str(pages), str(out)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return out


def _loaded(file: Path) -> list[str]:
    return [f"{file.name}: {''.join(found)}" for found in _LOADED.findall(file.read_text("utf-8"))]


class LinkTests(SynchronousTestCase):
    def test_links_inside_the_project(self) -> None:
        checked = [*(ROOT / name for name in OUTSIDE), *sorted(DOCS.glob("*.md"))]
        self.assertEqual([line for page in checked for line in broken_links(page)], [])

    def test_the_check_can_fail(self) -> None:
        page = Path(self.mktemp())
        page.write_text(
            f"# One heading\n[a](#one-heading) [b](#two) [c]({page.name}#one-heading) [d](gone.md) [e](https://x)"
        )
        self.assertEqual(
            broken_links(page),
            [f"{page.name}: #two: there is no such heading", f"{page.name}: gone.md is not there"],
        )


class NamesTests(SynchronousTestCase):
    """What the manual tells its readers to look at and to type exists."""

    def setUp(self) -> None:
        self.texts = {page.name: page.read_text("utf-8") for page in sorted(DOCS.glob("*.md"))}

    def test_metrics(self) -> None:
        known = set(re.findall(r"`(broker_\w+|process_\w+)`", self.texts["metrics.md"]))
        for name, text in self.texts.items():
            if name not in ("metrics.md", "cluster.md"):
                used = set(re.findall(r"\b(broker_[a-z0-9_]+[a-z0-9]|process_\w+_fds)\b(?!\*)", text))
                unknown = {
                    one for one in used if one not in known and not one.endswith("_") and f"`{one}_*`" not in text
                }
                self.assertEqual(unknown - _NO_METRICS, set(), name)

    def test_every_close_reason_has_its_symptom(self) -> None:
        told = set(re.findall(r"`(\w+)`", self.texts["troubleshooting.md"]))
        self.assertEqual(set(CLOSE_REASONS) - told - _PLAIN_ENDS, set())

    def test_command_lines(self) -> None:
        """Every one of our own that a page tells its readers to type is understood. What it says is not done here."""
        readmes = {name: (ROOT / name).read_text("utf-8") for name in ("README.md", "README.zh.md")}
        found = [(name, line) for name, text in {**self.texts, **readmes}.items() for line in command_lines(text)]
        self.assertGreater(len(found), 60)
        wrong = [f"{name}: {line}: {why}" for name, line in found if (why := misunderstood(line))]
        self.assertEqual(wrong, [])

    def test_the_check_of_command_lines_can_fail(self) -> None:
        block = "```sh\nbroker-admin devices list \\\n  --online yes  # all\nbroker-admin devices dance\n```\n"
        text = f"{block}`broker-admin status`"
        first, second, third = command_lines(text)
        self.assertEqual([misunderstood(first), misunderstood(third)], ["", ""])
        self.assertIn("dance", misunderstood(second))

    def test_the_version_is_in_the_changelog(self) -> None:
        self.assertIn(f"## [{__version__}] - ", (ROOT / "CHANGELOG.md").read_text("utf-8"))


#: Words that look like metrics.
_NO_METRICS: Final = frozenset({"broker_event"})
#: Ends that are nobody's trouble.
_PLAIN_ENDS: Final = frozenset({"client_closed", "shutdown", "replaced", "resting"})
