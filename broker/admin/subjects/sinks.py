"""``sinks``: where events are delivered, and what could not be."""

from __future__ import annotations

import argparse
from typing import Any

from broker.admin.cells import Column, Columns
from broker.admin.client import at
from broker.admin.failures import FAILED
from broker.admin.options import Subject, add_fields, add_paging, body_of, count, given
from broker.admin.session import Session
from broker.admin.subjects.events import add_rate_limit

COLUMNS: Columns = (
    "id",
    "kind",
    "name",
    "enabled",
    Column("to", "WHERE TO", show=lambda item: item.get("url") or item.get("to")),
    Column("queued", right=True),
    Column("delivered", right=True),
    Column("dead_letters", right=True),
    Column("trouble.detail", "TROUBLE"),
)
LETTERS: Columns = (
    "event.at",
    "event.kind",
    "event.device",
    Column("at", "GIVEN UP"),
    Column("attempts", right=True),
    "reason",
    Column("event.id", "EVENT"),
)
NOTES = """\
examples:
  broker-admin sinks add webhook --url https://example.net/hook --set 'headers:={"X-Team": "ops"}'
  broker-admin sinks add email --to ops@example.net --subject '[$severity] $kind: $name'
  broker-admin sinks test SINK
  broker-admin sinks dead-letters SINK
"""


def add(several: Any) -> None:
    subject = Subject(several, "sinks", "webhooks and e-mail addresses that events are delivered to", NOTES)
    subject.verb("list", _list, "all sinks, and how they are doing")
    parser = subject.verb("show", _show, "a sink", "SINK")
    parser.add_argument("id")
    parser = subject.verb(
        "add",
        _add,
        "make a sink; rules name it",
        "webhook --url https://example.net/hook",
        "email --to ops@example.net",
    )
    parser.add_argument("kind", choices=("webhook", "email"))
    _add_options(parser)
    parser = subject.verb("change", _change, "change a sink; what is left out stays", "SINK --set enabled:=false")
    parser.add_argument("id")
    _add_options(parser)
    parser.add_argument("--new-secret", action="store_true", help="make a new secret; the old one is void at once")
    parser = subject.verb("remove", _remove, "forget a sink with all that waits for it, and its dead letters", "SINK")
    parser.add_argument("id")
    parser = subject.verb("test", _test, "send a test event now; the exit status tells how it went", "SINK")
    parser.add_argument("id")
    parser = subject.verb("dead-letters", _letters, "events that were given up, the oldest first", "SINK")
    parser.add_argument("id")
    add_paging(parser)
    for name, run, about in (
        ("retry", _retry, "put dead letters back into the queue, all or these"),
        ("drop", _drop, "forget dead letters, all or these"),
    ):
        parser = subject.verb(name, run, about, "SINK", "SINK EVENT EVENT")
        parser.add_argument("id")
        parser.add_argument("events", nargs="*", metavar="EVENT")


def _add_options(parser: Any) -> None:
    add_fields(
        parser,
        name="its name",
        url="webhook: where to",
        secret="webhook: what its signature is made with (left out: made, and shown this once)",  # nosec B106
        subject="email: with $kind, $severity, $device, $name, $count",
    )
    parser.add_argument("--to", action="append", metavar="ADDRESS", help="email: may be repeated")
    parser.add_argument(
        "--from", dest="sender", metavar="ADDRESS", help="email: where it is not the broker's usual one"
    )
    parser.add_argument("--batch", type=count, metavar="N", help="events in one delivery at most")
    add_rate_limit(parser)


def _body(arguments: argparse.Namespace) -> dict[str, Any]:
    body = body_of(arguments) | given(to=arguments.to, batch=arguments.batch, rate_limit=arguments.rate_limit)
    return body | ({} if arguments.sender is None else {"from": arguments.sender})


def _show_made(session: Session, sink: Any) -> None:
    session.output.item(sink, "the secret is shown this once" if sink.get("secret") else "")


def _list(session: Session) -> None:
    session.list(at("sinks"), COLUMNS, empty="no sinks", paged=False)


def _show(session: Session) -> None:
    session.output.item(session.client.get(at("sinks", session.arguments.id)))


def _add(session: Session) -> None:
    body = {"kind": session.arguments.kind, **_body(session.arguments)}
    _show_made(session, session.client.call("POST", at("sinks"), body))


def _change(session: Session) -> None:
    arguments = session.arguments
    body = _body(arguments)
    if arguments.new_secret:
        session.confirm(f"The secret of {arguments.id} will be void; its target has to be given the new one.")
        body["secret"] = None
    _show_made(session, session.client.call("PATCH", at("sinks", arguments.id), body))


def _remove(session: Session) -> None:
    id = session.arguments.id
    session.confirm(f"Forget the sink {id}, with all that waits for it?")
    session.output.done(session.client.call("DELETE", at("sinks", id)), f"forgotten {id}")


def _test(session: Session) -> int:
    answer = session.client.call("POST", at("sinks", session.arguments.id, "test"))
    session.output.item(answer)
    return 0 if answer.get("delivered") else FAILED


def _letters(session: Session) -> None:
    session.list(at("sinks", session.arguments.id, "dead-letters"), LETTERS, empty="no dead letters")


def _retry(session: Session) -> None:
    arguments = session.arguments
    path = at("sinks", arguments.id, "dead-letters", "retry")
    answer = session.client.call("POST", path, {"events": arguments.events} if arguments.events else {})
    session.output.done(answer, f"{answer['count']} events are in the queue again")


def _drop(session: Session) -> None:
    arguments = session.arguments
    which = f"{len(arguments.events)} dead letters" if arguments.events else "all dead letters"
    session.confirm(f"Forget {which} of {arguments.id}?")
    path = at("sinks", arguments.id, "dead-letters")
    answer = session.client.call("DELETE", path, query={"event": arguments.events})
    session.output.done(answer, f"{answer['count']} events are forgotten")
