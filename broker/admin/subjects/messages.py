"""``messages``: what a device has said, and goes on saying."""

from __future__ import annotations

import time
from typing import Any, Final

from broker.admin.client import Pages, at
from broker.admin.live import Stream
from broker.admin.options import add_paging, given, past, verb
from broker.admin.plain import json_line
from broker.admin.session import Session
from broker.admin.subjects.stream import message_line

#: Seconds after which history has what had come before: the broker writes it once a second.
SETTLING: Final = 2.0


def add(several: Any) -> None:
    parser = verb(
        several,
        "messages",
        _messages,
        "what a device has said, the oldest first",
        "02123456789A --since 2h",
        "02123456789A --kind event --limit 20 --follow",
        more="Of many the newest are shown. With --json each is a line, as the API has it.",
    )
    parser.add_argument("device")
    parser.add_argument("--kind", help="data, status, event, raw, ...")
    parser.add_argument("--since", type=past, metavar="TIME", help="a duration ago, a date, or UNIX seconds")
    parser.add_argument("--until", type=past, metavar="TIME", help="likewise; this moment is not included")
    parser.add_argument("--follow", "-f", action="store_true", help="go on with what comes, until Ctrl-C")
    add_paging(parser)


def _messages(session: Session) -> None:
    arguments, output = session.arguments, session.output
    # Open before history is asked: what comes in between is in one of them, or in both.
    stream = None
    if arguments.follow:
        kinds = None if arguments.kind is None else [arguments.kind]
        stream = Stream(session.client, device=[arguments.device], kind=kinds)
    query = given(kind=arguments.kind, since=arguments.since, until=arguments.until)
    pages = _history(session, query, None if arguments.all else arguments.limit)
    found = list(pages)
    if pages.more:
        output.note(f"the newest {len(found)}; there are more: --limit N or --all")
    for message in reversed(found):
        output.event(message, message_line(message))
    if stream is None:
        if not found and not output.as_json:
            output.note("no messages")
        return
    for message in _meanwhile(session, stream, found):
        output.event(message, message_line(message))
    for message in stream:
        kind = message.pop("type", None)
        if kind in ("uplink", "dropped"):
            output.event(message, message_line(message, kind))


def _history(session: Session, query: dict[str, Any], limit: int | None) -> Pages:
    return session.client.pages(at("devices", session.arguments.device, "messages"), query, limit)


def _meanwhile(session: Session, stream: Stream, shown: list[Any]) -> list[Any]:
    """What had not been written when history was read, and what has come since, the oldest first."""
    arguments = session.arguments
    until = time.monotonic() + SETTLING
    new: dict[str, Any] = {}
    while (left := until - time.monotonic()) > 0:
        message = stream.receive(left)
        if message is not None and message.pop("type", None) == "uplink":
            new[_key(message)] = message
    query = given(kind=arguments.kind, since=shown[0]["at"] if shown else arguments.since)
    for message in _history(session, query, None if shown or arguments.all else arguments.limit):
        new.setdefault(_key(message), message)
    known = {_key(message) for message in shown}
    return sorted((one for key, one in new.items() if key not in known), key=lambda one: float(one["at"]))


def _key(message: Any) -> str:
    content = message.get("payload", message.get("payload_base64"))
    return json_line([round(float(message.get("at") or 0.0), 3), message.get("kind"), content])
