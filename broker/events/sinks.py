"""Sinks: where events are delivered. Their secrets are in the database (mode 0600) and never shown again or logged."""

from __future__ import annotations

from typing import Any, Final, Literal, NoReturn

import msgspec
from twisted.internet.defer import TimeoutError

from broker.events.book import Kept
from broker.events.buckets import RateLimit
from broker.events.event import Event

WEBHOOK: Final = "webhook"
EMAIL: Final = "email"
#: Table of what waits for sinks: ``<sink>/<number>``; and of what was given up.
QUEUE: Final = "event_queue"
DEAD_LETTERS: Final = "event_dead_letters"


class Sink(Kept, frozen=True, kw_only=True):
    """``batch``: events in one delivery at most.

    Of a webhook: ``url``, ``secret`` (signs what is sent), ``headers``. Of an e-mail: ``to``, ``sender`` (empty: that
    of ``[mail]``), ``subject`` with ``$kind``, ``$severity``, ``$device``, ``$name``, ``$count`` in it.
    """

    kind: Literal["webhook", "email"]
    name: str = ""
    enabled: bool = True
    batch: int = 1
    rate_limit: RateLimit | None = None
    url: str = ""
    secret: str = ""
    headers: dict[str, str] = {}
    to: tuple[str, ...] = ()
    sender: str = ""
    subject: str = ""

    def __repr__(self) -> str:
        return f"<Sink {self.id} {self.kind}>"


class Queued(msgspec.Struct, kw_only=True):
    """An event that waits for a sink, since ``at`` (UNIX seconds)."""

    event: Event
    at: float
    rules: tuple[str, ...] = ()


class DeadLetter(msgspec.Struct, kw_only=True):
    """An event that was given up, at ``at`` (UNIX seconds), after so many attempts, and why."""

    event: Event
    at: float
    attempts: int
    reason: str
    status: int | None = None


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a delivery went.

    ``delivered``; else ``final`` says that trying again is of no use, ``retry_after`` how many seconds the other end
    wants to be left alone. ``detail`` is for people and holds no secret; ``status`` is the code of HTTP or SMTP.
    """

    delivered: bool
    final: bool = False
    status: int | None = None
    detail: str = ""
    retry_after: float | None = None


def delivered(status: int, detail: str = "") -> Outcome:
    return Outcome(delivered=True, status=status, detail=detail)


def not_now(detail: str, status: int | None = None, retry_after: float | None = None) -> Outcome:
    return Outcome(delivered=False, status=status, detail=detail[:300], retry_after=retry_after)


def never(detail: str, status: int | None = None) -> Outcome:
    return Outcome(delivered=False, final=True, status=status, detail=detail[:300])


def too_late(result: Any, seconds: float) -> NoReturn:
    """For `Deferred.addTimeout`: whatever cancelling made of it."""
    raise TimeoutError(f"not within {seconds:g} s")


def queue_key(sink: str, number: int) -> str:
    return f"{sink}/{number:016x}"
