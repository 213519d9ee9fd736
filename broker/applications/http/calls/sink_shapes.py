"""Sinks, and what they were not delivered, as the API shows and takes them."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from broker.applications.http.calls.devices import Cursor, Limit, Text
from broker.applications.http.calls.events import EventShape, event_shape
from broker.events.buckets import RateLimit
from broker.events.side import EventSide
from broker.events.sinks import WEBHOOK, DeadLetter, Sink
from broker.model.discreet import Discreet

Url = Annotated[str, Meta(max_length=2048)]
Secret = Annotated[str, Meta(min_length=8, max_length=256)]
HeaderText = Annotated[str, Meta(max_length=1024)]
Headers = Annotated[dict[Text, HeaderText], Meta(max_length=20)]
Addresses = Annotated[tuple[Text, ...], Meta(max_length=50)]
Batch = Annotated[int, Meta(ge=1, le=100)]


class NewSink(Discreet, msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A sink to make."""

    #: How it is told, which cannot be changed.
    kind: Literal["webhook", "email"]
    #: Its name for people.
    name: Text = ""
    #: Whether events are sent; while it is false they wait.
    enabled: bool = True
    #: Events in one delivery at most.
    batch: Batch = 1
    #: How many events are told singly, the others being told as one; null: all.
    rate_limit: RateLimit | None = None
    #: webhook: where events are posted to, http or https, without a name and password; needed.
    url: Url | UnsetType = UNSET
    #: webhook: signs what is sent; left out, it is made and is in the answer, this once.
    secret: Secret | UnsetType = UNSET
    #: webhook: further headers of each request, printable ASCII.
    headers: Headers | UnsetType = UNSET
    #: email: the addresses that it goes to; at least one is needed.
    to: Addresses | UnsetType = UNSET
    #: email: the address that it comes from; left out, that of ``[mail]``.
    sender: Text | UnsetType = msgspec.field(name="from", default=UNSET)
    #: email: one line with $kind, $severity, $device, $name, $count in it; left out or empty: one of the broker's.
    subject: Text | UnsetType = UNSET


class SinkChanges(Discreet, msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What is to change; what is left out stays."""

    #: Its name for people.
    name: Text | UnsetType = UNSET
    #: Whether events are sent; while it is false they wait.
    enabled: bool | UnsetType = UNSET
    #: Events in one delivery at most.
    batch: Batch | UnsetType = UNSET
    #: How many events are told singly, the others being told as one; null: all.
    rate_limit: RateLimit | UnsetType | None = UNSET
    #: webhook: where events are posted to, http or https, without a name and password.
    url: Url | UnsetType = UNSET
    #: webhook: signs what is sent; null: one is made and is in the answer, this once.
    secret: Secret | UnsetType | None = UNSET
    #: webhook: further headers of each request, all of them anew.
    headers: Headers | UnsetType = UNSET
    #: email: all of the addresses that it goes to.
    to: Addresses | UnsetType = UNSET
    #: email: the address that it comes from; empty: that of ``[mail]``.
    sender: Text | UnsetType = msgspec.field(name="from", default=UNSET)
    #: email: one line with $kind, $severity, $device, $name and $count in it; empty: one of the broker's.
    subject: Text | UnsetType = UNSET


class Trouble(msgspec.Struct, kw_only=True):
    """Why a sink does not take events."""

    #: What went wrong last, for people.
    detail: str
    #: The code of HTTP or SMTP that was answered; null: there was no answer.
    status: int | None
    #: Since when no delivery succeeds (UNIX seconds).
    since: float
    #: When it is tried again (UNIX seconds); null: none is waited for.
    next_attempt: float | None


class SinkShape(Discreet, msgspec.Struct, kw_only=True):
    """A sink and how it is doing."""

    #: The id that the broker gave it.
    id: str
    #: webhook or email.
    kind: str
    #: Its name for people; may be empty.
    name: str
    #: Whether events are sent; while it is false they wait.
    enabled: bool
    #: Events in one delivery at most.
    batch: int
    #: How many events are told singly, the others being told as one; null: all.
    rate_limit: RateLimit | None
    #: When it was made (UNIX seconds).
    created_at: float
    #: How many events wait.
    queued: int
    #: How many events were given up and are kept.
    dead_letters: int
    #: How many events were delivered since the process that delivers them has begun to.
    delivered: int
    #: What keeps it from taking events now; null: nothing.
    trouble: Trouble | None
    #: webhook: where events are posted to.
    url: str | UnsetType = UNSET
    #: webhook: the names of further headers, sorted; their values are not shown.
    headers: list[str] | UnsetType = UNSET
    #: email: the addresses that it goes to.
    to: tuple[str, ...] | UnsetType = UNSET
    #: email: the address that it comes from; empty: that of ``[mail]``.
    sender: str | UnsetType = msgspec.field(name="from", default=UNSET)
    #: email: its subject, with $kind, $severity, $device, $name and $count in it; empty: one of the broker's.
    subject: str | UnsetType = UNSET
    #: webhook: the secret, this once: in the answer to the call that made the sink, or in which it was made anew.
    secret: str | UnsetType = UNSET


class SinkPage(msgspec.Struct):
    """All sinks, the oldest first."""

    #: The sinks.
    items: list[SinkShape]
    #: Always null: this is the whole list.
    next: str | None


class TestResult(msgspec.Struct, kw_only=True):
    """How a test event fared."""

    #: Whether the other end took it.
    delivered: bool
    #: The code of HTTP or SMTP that was answered; null: there was no answer.
    status: int | None
    #: What was said, or went wrong, for people; may be empty.
    detail: str
    #: How long that took.
    seconds: float


class DeadLetterShape(msgspec.Struct, kw_only=True):
    """An event that was given up."""

    #: The event.
    event: EventShape
    #: When it was given up (UNIX seconds).
    at: float
    #: How often it was tried.
    attempts: int
    #: Why it was given up, for people.
    reason: str
    #: The last code of HTTP or SMTP that was answered; null: there was none.
    status: int | None


class DeadLetterPage(msgspec.Struct):
    """One page, the oldest first."""

    #: The dead letters of this page.
    items: list[DeadLetterShape]
    #: The ``cursor`` of the following page; null on the last one.
    next: str | None


class PageFilter(msgspec.Struct, kw_only=True):
    """Which page."""

    #: Entries of one page at most.
    limit: Limit = 100
    #: The ``next`` of the page before; left out, the first page.
    cursor: Cursor | None = None


class WhichLetters(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Which dead letters."""

    #: The ids of their events; null or left out: all.
    events: Annotated[list[Text], Meta(max_length=1000)] | None = None


class LetterQuery(msgspec.Struct, kw_only=True):
    """Which dead letters."""

    #: The id of an event; may be given more than once; left out, it stands for all.
    event: list[str] = []


class HowMany(msgspec.Struct):
    """How many it were."""

    #: Dead letters that this was done to.
    count: int


class SinkPath(msgspec.Struct):
    """Which sink."""

    #: The id that the broker gave the sink.
    id: str


def sink_shape(side: EventSide, sink: Sink) -> SinkShape:
    courier = side.couriers[sink.id]
    trouble = None
    if courier.trouble is not None:
        trouble = Trouble(
            detail=courier.trouble.detail,
            status=courier.trouble.status,
            since=round(courier.trouble_since or 0.0, 3),
            next_attempt=None if courier.next_attempt is None else round(courier.next_attempt, 3),
        )
    shape = SinkShape(
        id=sink.id,
        kind=sink.kind,
        name=sink.name,
        enabled=sink.enabled,
        batch=sink.batch,
        rate_limit=sink.rate_limit,
        created_at=round(sink.created_at, 3),
        queued=courier.queued,
        dead_letters=courier.dead,
        delivered=courier.delivered,
        trouble=trouble,
    )
    if sink.kind == WEBHOOK:
        shape.url, shape.headers = sink.url, sorted(sink.headers)
    else:
        shape.to, shape.sender, shape.subject = sink.to, sink.sender, sink.subject
    return shape


def letter_shape(letter: DeadLetter) -> DeadLetterShape:
    return DeadLetterShape(
        event=event_shape(letter.event),
        at=round(letter.at, 3),
        attempts=letter.attempts,
        reason=letter.reason,
        status=letter.status,
    )
