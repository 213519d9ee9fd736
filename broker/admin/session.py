"""What a sub-command works with: the API, the output, its arguments, and somebody to ask."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from broker.admin.cells import Columns
from broker.admin.client import Address, Client, Query, tls_context
from broker.admin.failures import Failure, Misuse
from broker.admin.output import Output
from broker.admin.plain import safe

TOKEN_FILE: Final = Path("var/admin.token")
TOKEN_VARIABLE: Final = "BROKER_ADMIN_TOKEN"
LOOPBACK: Final = ("localhost", "127.", "::1")


class Session:
    """One run of the command line."""

    def __init__(self, arguments: argparse.Namespace, output: Output) -> None:
        self.arguments = arguments
        self.output = output

    @cached_property
    def client(self) -> Client:
        """Made when it is first needed. Raises Misuse, Failure: no token."""
        arguments = self.arguments
        address = Address.parse(arguments.api)
        context = None
        if address.scheme == "https":
            context = tls_context(arguments.ca, arguments.insecure)
            if arguments.insecure:
                self.output.note(
                    f"WARNING: --insecure: whoever answers as {address.host} is believed, and is given the token",
                    style="bold red",
                )
        elif not address.host.startswith(LOOPBACK):
            self.output.note(f"warning: http:// to {address.host}: the token can be read on the way", style="yellow")
        return Client(address, read_token(arguments.token_file), context, arguments.timeout)

    def list(
        self, path: str, wanted: Columns, query: Query | None = None, *, empty: str = "nothing", paged: bool = True
    ) -> None:
        """Show the items of a list as a table, as many as were asked for."""
        limit = None if not paged or self.arguments.all else self.arguments.limit
        pages = self.client.pages(path, query, limit, paged)
        count = self.output.table(pages, wanted, empty)
        if pages.more:
            self.output.note(f"the first {count}; there are more: --limit N or --all")

    def confirm(self, question: str) -> None:
        """Go on only if somebody says yes. Raises Failure: they do not; Misuse: there is nobody to ask."""
        if self.arguments.yes:
            return
        if not sys.stdin.isatty():
            raise Misuse(f"{question} There is nobody to ask: --yes does it without a question")
        sys.stderr.write(f"{safe(question)} [y/N] ")
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise Failure("nothing was done")


def read_token(file: Path | None) -> str:
    """The administrator's token: of the file, else of the environment, else of the usual file. Raises Failure."""
    token = os.environ.get(TOKEN_VARIABLE, "").strip() if file is None else ""
    source = TOKEN_VARIABLE
    if not token:
        path = file or TOKEN_FILE
        source = str(path)
        try:
            token = path.read_text("utf-8").strip()
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no text"
            raise Failure(
                f"no token: {path}: {why}; the broker writes it to admin.token in its data folder "
                f"(--token-file FILE, or {TOKEN_VARIABLE})"
            ) from None
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise Failure(f"no token: what {source} holds is none")
    return token


Run = Callable[[Session], Any]
