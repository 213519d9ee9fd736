"""What ends a command: one line for people, and an exit status for programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

FAILED: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130
#: As a program that SIGPIPE has ended.
BROKEN_PIPE: Final = 141


class Failure(Exception):
    """The command has failed; the text says why, in one line."""

    status = FAILED


class Misuse(Failure):
    """The command line asks for something that cannot be."""

    status = USAGE


class Refused(Failure):
    """The API has refused a call; ``code`` is the HTTP status, ``problem`` its document (empty without one)."""

    def __init__(self, code: int, reason: str, problem: Mapping[str, Any]) -> None:
        self.code = code
        self.problem = problem
        title = str(problem.get("title") or reason or "refused")
        detail = problem.get("detail")
        text = f"{title} ({code})" if not detail else f"{detail} ({code} {title})"
        details = problem.get("details")
        if isinstance(details, dict) and details:
            text += "; " + ", ".join(f"{name}: {value}" for name, value in details.items())
        if code == 401:
            text += "; the token is that of --token-file, BROKER_ADMIN_TOKEN or var/admin.token"
        super().__init__(text)

    @property
    def detail(self) -> str:
        """The detail alone, for where a refusal is a question in disguise."""
        return str(self.problem.get("detail") or self)
