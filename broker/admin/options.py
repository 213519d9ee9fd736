"""Options that many sub-commands have, and how their values are read."""

from __future__ import annotations

import argparse
import os
import sys
import time
from base64 import b64encode
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

from broker.admin import plain
from broker.admin.failures import Misuse
from broker.admin.session import TOKEN_FILE, TOKEN_VARIABLE, Run
from broker.model.jsontext import decode, decode_object

URL_VARIABLE: Final = "BROKER_ADMIN_API"
DEFAULT_URL: Final = "http://127.0.0.1:8080"

EXIT_STATUS: Final = "exit status: 0 done, 1 failed or refused, 2 not understood, 130 Ctrl-C"


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of examples."""


@cache
def common() -> argparse.ArgumentParser:
    """The options of every command; they have no defaults here, so that they may stand anywhere on the line."""
    parser = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    group = parser.add_argument_group("the broker and the output")
    group.add_argument(
        "--api", metavar="URL", help=f"where the HTTP API is (default: {URL_VARIABLE}, or {DEFAULT_URL})"
    )
    group.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help=f"the administrator's token (default: {TOKEN_VARIABLE}, or {TOKEN_FILE})",
    )
    group.add_argument("--ca", metavar="FILE", help="with https: trust certificates that this one vouches for")
    group.add_argument("--insecure", action="store_true", help="with https: do not check who answers")
    group.add_argument(
        "--timeout", type=positive, metavar="SECONDS", help="give up after so long without an answer (default: 60)"
    )
    group.add_argument("--json", action="store_true", help="print what the API answers; lists and streams: one a line")
    group.add_argument("--yes", "-y", action="store_true", help="ask nothing")
    return parser


def defaults() -> dict[str, Any]:
    """What `common` leaves out."""
    return {
        "api": os.environ.get(URL_VARIABLE) or DEFAULT_URL,
        "token_file": None,  # nosec B105 # no password
        "ca": None,
        "insecure": False,
        "timeout": 60.0,
        "json": False,
        "yes": False,
    }


class Subject:
    """A word of the command line with its verbs: ``broker-admin devices list``."""

    def __init__(self, several: Any, name: str, about: str, notes: str = "") -> None:
        self._parser = several.add_parser(
            name,
            help=about,
            description=f"{about[0].upper()}{about[1:]}.",
            epilog=notes or None,
            formatter_class=Formatter,
        )
        self._name = name
        self._verbs = self._parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(self, name: str, run: Run, about: str, *examples: str, more: str = "") -> argparse.ArgumentParser:
        """``about``: one line; ``examples``: what follows ``broker-admin <subject> <verb>``."""
        return verb(self._verbs, name, run, about, *examples, more=more, prefix=f"{self._name} ")


def verb(
    several: Any, name: str, run: Run, about: str, *examples: str, more: str = "", prefix: str = ""
) -> argparse.ArgumentParser:
    lines = [f"  broker-admin {prefix}{name} {example}".rstrip() for example in examples]
    parser: argparse.ArgumentParser = several.add_parser(
        name,
        help=about,
        description=f"{about[0].upper()}{about[1:]}." + (f" {more}" if more else ""),
        epilog="\n".join((["examples:", *lines, ""] if lines else []) + [EXIT_STATUS]),
        formatter_class=Formatter,
        parents=[common()],
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    return parser


# -- groups of options ---------------------------------------------------------------------------------------------


def add_paging(parser: Any) -> None:
    parser.add_argument("--limit", type=count, default=100, metavar="N", help="so many at most (default: %(default)s)")
    parser.add_argument("--all", action="store_true", help="all of them")


def add_fields(parser: Any, **fields: str) -> None:
    """``--name TEXT`` for each of ``fields`` (with what its help says), and ``--set`` for every other field."""
    for name, about in fields.items():
        parser.add_argument(f"--{name.replace('_', '-')}", dest=f"field_{name}", metavar="TEXT", help=about)
    parser.add_argument(
        "--set",
        dest="fields",
        action="append",
        default=[],
        metavar="FIELD=TEXT",
        help="any other field of the body; FIELD:=JSON for what is no text, such as null or true",
    )
    parser.add_argument(
        "--body", metavar="FILE", help="the body as a JSON object (- for stdin); other options go on top"
    )


def body_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """The body that `add_fields` describes. Raises Misuse."""
    body: dict[str, Any] = {} if arguments.body is None else json_file(arguments.body)
    for name, value in vars(arguments).items():
        if name.startswith("field_") and value is not None:
            body[name.removeprefix("field_")] = value
    for text in arguments.fields:
        name, value = read_field(text)
        body[name] = value
    return body


def add_ordering(parser: Any) -> None:
    """What every order to a device may say."""
    parser.add_argument("--ref", help="your own reference; it comes back with the command")
    parser.add_argument(
        "--expires", type=duration, metavar="DURATION", help="how long it may wait for the device; 0: now or not at all"
    )


def ordering_of(arguments: argparse.Namespace) -> dict[str, Any]:
    return given(ref=arguments.ref, expires=arguments.expires)


def given(**fields: Any) -> dict[str, Any]:
    """Those that are not None."""
    return {name: value for name, value in fields.items() if value is not None}


# -- values --------------------------------------------------------------------------------------------------------


def read_field(text: str) -> tuple[str, Any]:
    """``name=text`` or ``name:=json``. Raises Misuse."""
    name, equals, value = text.partition("=")
    if not equals or not name.rstrip(":"):
        raise Misuse(f"--set {text}: FIELD=TEXT or FIELD:=JSON is needed")
    if not name.endswith(":"):
        return name, value
    try:
        return name[:-1], decode(value)
    except ValueError as error:
        raise Misuse(f"--set {text}: no JSON: {error}") from None


def read_file(name: str) -> bytes:
    """A file, or stdin. Raises OSError."""
    return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()


def json_file(name: str) -> dict[str, Any]:
    """The JSON object in a file, or on stdin. Raises Misuse."""
    try:
        return decode_object(read_file(name))
    except OSError as error:
        raise Misuse(f"{name}: {error.strerror}") from None
    except ValueError as error:
        raise Misuse(f"{name}: {error}") from None


def checked(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """For argparse: the ValueError's own text is the message."""

    def value(text: str) -> Any:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return value


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e9:
        raise ValueError(f"{text!r} is no number above 0")
    return value


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ValueError(f"{text!r} is no whole number from 1 on")
    return int(text)


def _yes_no(text: str) -> bool:
    words = {"yes": True, "true": True, "no": False, "false": False}
    if text.lower() not in words:
        raise ValueError(f"{text!r} is neither yes nor no")
    return words[text.lower()]


def _base64_of_hex(text: str) -> str:
    return b64encode(bytes.fromhex(text)).decode("ascii")


positive = checked(_positive)
count = checked(_count)
yes_no = checked(_yes_no)
duration = checked(plain.read_duration)
past = checked(lambda text: plain.read_moment(text, time.time()))
deadline = checked(lambda text: plain.read_deadline(text, time.time()))
json_object = checked(decode_object)
json_value = checked(decode)
hex_bytes = checked(_base64_of_hex)
