"""Where events are delivered: webhooks and e-mail. The administrator's; an address may be any, also of this network."""

from __future__ import annotations

import re
import string
from collections.abc import Callable
from secrets import token_hex
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from msgspec import UNSET
from twisted.internet.defer import CancelledError

from broker.applications.http.calls.sink_shapes import (
    DeadLetterPage,
    HowMany,
    LetterQuery,
    NewSink,
    PageFilter,
    SinkChanges,
    SinkPage,
    SinkPath,
    SinkShape,
    TestResult,
    WhichLetters,
    letter_shape,
    sink_shape,
)
from broker.events.across import DUTY
from broker.events.courier import Courier
from broker.events.side import EventSide, opened
from broker.events.sinks import EMAIL, WEBHOOK, DeadLetter, Sink
from broker.model.errors import Conflict, Invalid, NotFound, Unavailable
from broker.model.secrets import make_secret
from broker.web.problems import Problem
from broker.web.routes import ADMIN, API, Call, Route

#: Headers that are ours.
TAKEN: Final = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "content-type", "idempotency-key", "broker-signature"}
)
_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_ADDRESS: Final = re.compile(r"[^@\s<>,;:\"\\\x00-\x1f\x7f]+@[^@\s<>,;:\"\\\x00-\x1f\x7f]+", re.ASCII)
_SENDER: Final = re.compile(rf"(?:[^<>@\x00-\x1f\x7f]*<)?({_ADDRESS.pattern})>?", re.ASCII)
#: Of which kind of sink a field is.
FIELDS: Final = {"url": WEBHOOK, "secret": WEBHOOK, "headers": WEBHOOK, "to": EMAIL, "sender": EMAIL, "subject": EMAIL}


async def list_sinks(call: Call) -> Any:
    """All sinks, and how they are doing."""
    side = opened(call.core.event_side)
    return SinkPage([sink_shape(side, sink) for sink in side.sinks], None)


async def add_sink(call: Call) -> Any:
    """Make a sink. It is sent what rules name it for."""
    side, wish = opened(call.core.event_side), call.body
    values = _given(wish)
    if wish.kind == WEBHOOK:
        values.setdefault("secret", make_secret())
    sink = Sink(id=f"sink-{token_hex(6)}", created_at=call.core.clock(), **values)
    _check(side, sink, values)
    await side.sinks.add(sink.id, sink)
    shape = sink_shape(side, sink)
    if wish.kind == WEBHOOK:
        shape.secret = sink.secret
    return shape


async def get_sink(call: Call) -> Any:
    """One sink."""
    side = opened(call.core.event_side)
    return sink_shape(side, side.sinks.get(call.path["id"]))


async def change_sink(call: Call) -> Any:
    """Change a sink; the next attempt is made at once. A secret that was made is in the answer, this once."""
    side, wish = opened(call.core.event_side), call.body
    values = _given(wish)
    made = values.get("secret", UNSET) is None
    if made:
        values["secret"] = make_secret()

    def change(sink: Sink) -> Sink:
        changed = msgspec.structs.replace(sink, **values)
        _check(side, changed, values)
        return changed

    sink = await side.sinks.change(call.path["id"], change)
    shape = sink_shape(side, sink)
    if made:
        shape.secret = sink.secret
    return shape


async def delete_sink(call: Call) -> Any:
    """Forget a sink with all that waits for it, and its dead letters. Conflict while a rule names it."""
    side, id = opened(call.core.event_side), call.path["id"]
    users = [rule.id for rule in side.rules if id in rule.sinks]
    if users:
        raise Conflict(f"rules name this sink: {', '.join(users)}"[:300])
    await side.sinks.remove(id)


async def test_sink(call: Call) -> Any:
    """Send a test event now, past the queue, and tell how it went."""
    side = opened(call.core.event_side)
    sink = side.sinks.get(call.path["id"])
    began = call.core.monotonic()
    try:
        outcome = await side.try_out(sink)
    except CancelledError:
        raise Unavailable("the broker stops") from None
    return TestResult(
        delivered=outcome.delivered,
        status=outcome.status,
        detail=outcome.detail,
        seconds=round(call.core.monotonic() - began, 3),
    )


async def list_dead_letters(call: Call) -> Any:
    """Events that were given up: refused for good, too old, or too many."""
    wish: PageFilter = call.query
    found = await _courier(call).dead_letters(wish.limit + 1, wish.cursor)
    page = found[: wish.limit]
    cursor = page[-1][0] if len(found) > wish.limit else None
    return DeadLetterPage([letter_shape(letter) for _, letter in page], cursor)


async def retry_dead_letters(call: Call) -> Any:
    """Put them back into the queue, in the places that they had."""
    ids = None if call.body.events is None else set(call.body.events)
    count = await _courier(call).revive(_among(ids))
    if ids and not count:
        raise NotFound("none of these events is among the dead letters")
    return HowMany(count)


async def drop_dead_letters(call: Call) -> Any:
    """Forget them."""
    return HowMany(await _courier(call).drop(_among(set(call.query.event) or None)))


def _courier(call: Call) -> Courier:
    return opened(call.core.event_side).courier_of(call.path["id"])


def _among(ids: set[str] | None) -> Callable[[DeadLetter], bool]:
    return lambda letter: ids is None or letter.event.id in ids


def _given(wish: Any) -> dict[str, Any]:
    return {name: value for name in wish.__struct_fields__ if (value := getattr(wish, name)) is not UNSET}


def _check(side: EventSide, sink: Sink, given: dict[str, Any]) -> None:
    """Raises Invalid."""
    for name, kind in FIELDS.items():
        if name in given and sink.kind != kind:
            raise Invalid(f"{'from' if name == 'sender' else name} is a field of {kind} sinks")
    if sink.kind == WEBHOOK:
        _check_url(sink.url)
        for name, value in sink.headers.items():
            if _HEADER.fullmatch(name) is None or name.lower() in TAKEN:
                raise Invalid(f"headers: {name[:40]!r} cannot be set")
            if not value.isascii() or not value.isprintable():
                raise Invalid(f"headers: the value of {name[:40]} has to be printable ASCII")
        return
    if not side.mail.host:
        raise Invalid("there is no mail server: [mail] host is not set")
    if not sink.to:
        raise Invalid("to: at least one address is needed")
    for address in sink.to:
        if _ADDRESS.fullmatch(address) is None:
            raise Invalid(f"to: {address[:80]!r} is no address")
    sender = sink.sender or side.mail.sender
    if _SENDER.fullmatch(sender) is None:
        raise Invalid("from: an address is needed, here or as [mail] from")
    if not string.Template(sink.subject).is_valid() or not sink.subject.isprintable():
        raise Invalid("subject: one line; a dollar sign stands before a name, or twice")


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not url.isascii() or not url.isprintable() or " " in url:
        raise Invalid("url has to be an http:// or https:// address")
    if parts.username is not None or parts.password is not None:
        raise Invalid("url: a name and password do not belong there; use headers")


_SINKS = f"{API}/sinks"
_SINK = f"{_SINKS}/{{id}}"
_LETTERS = f"{_SINK}/dead-letters"
_FULL = {429: (Problem, "There are as many as events.max_sinks allows")}

ROUTES = (
    Route("GET", _SINKS, list_sinks, ADMIN, answers=SinkPage, duty=DUTY),
    Route("POST", _SINKS, add_sink, ADMIN, body=NewSink, answers=SinkShape, status=201, also=_FULL, duty=DUTY),
    Route("GET", _SINK, get_sink, ADMIN, answers=SinkShape, duty=DUTY, path_shape=SinkPath),
    Route("PATCH", _SINK, change_sink, ADMIN, body=SinkChanges, answers=SinkShape, duty=DUTY, path_shape=SinkPath),
    Route(
        "DELETE",
        _SINK,
        delete_sink,
        ADMIN,
        status=204,
        also={409: (Problem, "A rule names it")},
        duty=DUTY,
        path_shape=SinkPath,
    ),
    Route("POST", f"{_SINK}/test", test_sink, ADMIN, answers=TestResult, duty=DUTY, path_shape=SinkPath),
    Route(
        "GET",
        _LETTERS,
        list_dead_letters,
        ADMIN,
        query=PageFilter,
        answers=DeadLetterPage,
        duty=DUTY,
        path_shape=SinkPath,
    ),
    Route(
        "POST",
        f"{_LETTERS}/retry",
        retry_dead_letters,
        ADMIN,
        body=WhichLetters,
        bodiless=True,
        answers=HowMany,
        duty=DUTY,
        path_shape=SinkPath,
    ),
    Route(
        "DELETE", _LETTERS, drop_dead_letters, ADMIN, query=LetterQuery, answers=HowMany, duty=DUTY, path_shape=SinkPath
    ),
)
