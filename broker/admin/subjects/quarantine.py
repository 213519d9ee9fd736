"""``quarantine``: who was seen and is not registered."""

from __future__ import annotations

from typing import Any

from broker.admin.cells import Column, Columns
from broker.admin.client import at
from broker.admin.options import Subject, add_fields, add_paging, body_of, given
from broker.admin.session import Session

COLUMNS: Columns = ("id", "protocol", "peer", "first_seen", "last_seen", Column("count", right=True), "info")


def add(several: Any) -> None:
    subject = Subject(several, "quarantine", "devices and gateways that were seen and are not registered")
    parser = subject.verb("list", _list, "who waits, by protocol and id", "--protocol lorawan")
    parser.add_argument("--protocol")
    add_paging(parser)
    parser = subject.verb(
        "approve", _approve, "register one, with the fields that its protocol takes", "02123456789A --name hall"
    )
    parser.add_argument("id")
    parser.add_argument("--protocol", help="where several have seen the same id")
    add_fields(parser, name="its name", product="key of its product")
    parser = subject.verb("forget", _forget, "forget some, until they are seen again", "02123456789A")
    parser.add_argument("ids", nargs="+", metavar="ID")
    parser.add_argument("--protocol", help="where several have seen the same id")


def _list(session: Session) -> None:
    session.list(at("quarantine"), COLUMNS, {"protocol": session.arguments.protocol}, empty="nobody waits")


def _approve(session: Session) -> None:
    arguments = session.arguments
    path = at("quarantine", arguments.id, "approve")
    answer = session.client.call("POST", path, body_of(arguments), given(protocol=arguments.protocol))
    session.output.item(answer, "the secret is shown this once" if answer.get("secret") else "")


def _forget(session: Session) -> None:
    arguments = session.arguments
    for id in arguments.ids:
        session.client.call("DELETE", at("quarantine", id), query=given(protocol=arguments.protocol))
        session.output.done(None, f"forgotten {id}")
