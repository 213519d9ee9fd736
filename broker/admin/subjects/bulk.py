"""``devices import`` and ``devices export``: many devices, a JSON object a line.

An import goes to the broker in slices, so that it can be watched, and so that what was registered is known when it
breaks off. What it answers is that of one import: how many were registered, which lines were refused and why.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

from broker.admin.cells import Columns
from broker.admin.client import at
from broker.admin.failures import FAILED, Failure, Misuse
from broker.admin.options import Subject, count
from broker.admin.output import Bar
from broker.admin.plain import json_line
from broker.admin.session import Session

#: Lines of a slice: a quarter of a second of the broker's time at most.
SLICE: Final = 500
#: Bytes after which a slice is full, however few lines it has.
SLICE_BYTES: Final = 1_000_000
#: A longer line cannot be a device.
MAX_LINE: Final = 1_000_000

FAILURES: Columns = ("line", "error")


def add(subject: Subject) -> None:
    parser = subject.verb(
        "import",
        _import,
        "register the devices of a file, a JSON object a line",
        "fleet.ndjson",
        "- --secrets made.ndjson < fleet.ndjson",
        more='The fields are those of a single device: {"protocol": ..., "id": ..., "secret": ...}. A line that is '
        "refused does not stop the others; the exit status is then 1.",
    )
    parser.add_argument("file", metavar="FILE", help="- for stdin")
    parser.add_argument(
        "--secrets", type=Path, metavar="FILE", help="write secrets that are made there, {id, secret} a line"
    )
    parser.add_argument(
        "--from-line", type=count, default=1, metavar="N", help="leave out the lines before (after a break)"
    )
    parser = subject.verb(
        "export", _export, "write all devices, a JSON object a line", "> devices.ndjson", "--protocol lorawan -o motes"
    )
    parser.add_argument("query", nargs="?", metavar="QUERY", help="looked for in id and name")
    parser.add_argument("--protocol")
    parser.add_argument("--product", metavar="KEY")
    parser.add_argument(
        "--filter", action="append", default=[], metavar="FIELD=TEXT", help="any other filter of the API"
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="instead of stdout")


def read_filters(texts: list[str]) -> dict[str, Any]:
    """``FIELD=TEXT`` each. Raises Misuse."""
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise Misuse(f"--filter {text}: FIELD=TEXT is needed")
        found.setdefault(name, []).append(value)
    return found


@dataclass
class Imported:
    """What has come of an import so far."""

    created: int = 0
    failed: list[dict[str, Any]] = field(default_factory=list)
    secrets: list[dict[str, str]] = field(default_factory=list, repr=False)

    def take(self, answer: dict[str, Any], numbers: list[int]) -> None:
        """The answer to a slice whose lines have these numbers in the file."""
        self.created += answer["created"]
        for one in answer["failed"]:
            self.failed.append({"line": numbers[one["line"] - 1], "error": one["error"]})
        self.secrets += answer.get("secrets") or []

    def as_dict(self) -> dict[str, Any]:
        """In the shape of the API's own answer."""
        found: dict[str, Any] = {"created": self.created, "failed": self.failed}
        return found | ({"secrets": self.secrets} if self.secrets else {})


def slices(source: BinaryIO, first: int) -> Iterator[tuple[list[int], list[bytes], int]]:
    """Line numbers, lines and how many bytes were read for them. Raises Failure for a line without end."""
    numbers: list[int] = []
    lines: list[bytes] = []
    held = read = number = 0
    while line := source.readline(MAX_LINE + 1):
        number += 1
        read += len(line)
        if len(line) > MAX_LINE:
            raise Failure(f"line {number} is longer than {MAX_LINE} bytes; a device a line is expected")
        if number < first or not line.strip():
            continue
        numbers.append(number)
        lines.append(line if line.endswith(b"\n") else line + b"\n")
        held += len(line)
        if len(lines) >= SLICE or held >= SLICE_BYTES:
            yield numbers, lines, read
            numbers, lines, held, read = [], [], 0, 0
    if lines or read:
        yield numbers, lines, read


def _import(session: Session) -> int:
    arguments, output = session.arguments, session.output
    imported, done = Imported(), arguments.from_line
    client = session.client
    with ExitStack() as opened:
        source, length = _source(arguments.file, opened)
        secrets = None if arguments.secrets is None else opened.enter_context(_private(arguments.secrets))
        bar: Bar = opened.enter_context(output.progress(f"importing {arguments.file}", length))
        try:
            for numbers, lines, read in slices(source, arguments.from_line):
                if lines:
                    before = len(imported.secrets)
                    imported.take(client.post_lines(at("devices", "import"), b"".join(lines)), numbers)
                    done = numbers[-1] + 1
                    if secrets is not None:
                        secrets.write("".join(json_line(one) + "\n" for one in imported.secrets[before:]))
                        secrets.flush()
                bar.advance(read)
        except (Failure, KeyboardInterrupt):
            output.note(
                f"broke off: {imported.created} devices were registered before line {done}; "
                f"the lines after may be as well. --from-line {done} goes on"
            )
            _report(session, imported)
            raise
    _report(session, imported)
    return FAILED if imported.failed else 0


def _report(session: Session, imported: Imported) -> None:
    output = session.output
    if output.as_json:
        output.json(imported.as_dict())
        return
    output.table(imported.failed, FAILURES)
    if session.arguments.secrets is None:
        output.table(imported.secrets, ("id", "secret"))
    output.done(None, f"registered {imported.created}, refused {len(imported.failed)}")
    if imported.secrets:
        where = "shown this once" if session.arguments.secrets is None else f"in {session.arguments.secrets}"
        output.note(f"{len(imported.secrets)} secrets were made; they are {where}")


def _source(name: str, opened: ExitStack) -> tuple[BinaryIO, int | None]:
    """A file, and how long it is, if that is known. Raises Misuse."""
    if name == "-":
        return sys.stdin.buffer, None
    try:
        source = opened.enter_context(os.fdopen(os.open(name, os.O_RDONLY), "rb"))
        length = os.fstat(source.fileno()).st_size
    except OSError as error:
        raise Misuse(f"{name}: {error.strerror}") from None
    return source, length or None


def _private(path: Path) -> Any:
    """A new file that only its owner may read. Raises Misuse: it exists, or cannot be made."""
    try:
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8")
    except OSError as error:
        raise Misuse(f"--secrets {path}: {error.strerror}") from None


def _export(session: Session) -> None:
    arguments, output = session.arguments, session.output
    query = read_filters(arguments.filter)
    query |= {"q": arguments.query, "protocol": arguments.protocol, "product": arguments.product}
    pages = session.client.pages(at("devices"), query)
    if arguments.output is None:
        for device in pages:
            output.json(device)
        return
    written = 0
    part = arguments.output.with_name(arguments.output.name + ".part")
    try:
        with open(part, "w", encoding="utf-8") as target, output.progress(f"exporting to {arguments.output}") as bar:
            for device in pages:
                target.write(json_line(device) + "\n")
                written += 1
                bar.advance(1)
        part.replace(arguments.output)
    except OSError as error:
        raise Failure(f"{arguments.output}: {error.strerror}") from None
    output.done(None, f"wrote {written} devices to {arguments.output}")
