"""``lorawan-groups``: multicast groups of motes, and what is sent to them."""

from __future__ import annotations

from typing import Any

from broker.admin.cells import Column, Columns
from broker.admin.client import at
from broker.admin.failures import Misuse
from broker.admin.options import (
    Subject,
    add_fields,
    add_ordering,
    add_paging,
    body_of,
    count,
    given,
    hex_bytes,
    ordering_of,
)
from broker.admin.session import Session

GROUPS: Columns = (
    "id",
    "name",
    "region",
    "dev_addr",
    Column("frequency", right=True),
    Column("data_rate", "DR", right=True),
    Column("members", right=True),
    Column("waiting", right=True),
    Column("counter", right=True),
    "application",
)
MEMBERS: Columns = ("dev_eui", "reachable", "gateways")
MESSAGES: Columns = (
    "id",
    "status",
    Column("turn", show=lambda item: f"{item.get('turn')}/{item.get('tries')}", right=True),
    "waiting",
    Column("gateways", show=lambda item: len(item.get("gateways") or ()), right=True),
    Column("missed", show=lambda item: len(item.get("missed") or ()), right=True),
    "created_at",
    "error",
)


def add(several: Any) -> None:
    subject = Subject(several, "lorawan-groups", "LoRaWAN multicast groups and what is sent to them")
    parser = subject.verb("list", _list, "the groups, by id")
    parser.add_argument("--application", metavar="ID", help="only those of this application")
    add_paging(parser)
    parser = subject.verb("show", _show, "a group", "street-lamps")
    parser.add_argument("id")
    parser = subject.verb("keys", _keys, "the address and the keys of a group, for its motes", "street-lamps")
    parser.add_argument("id")
    parser = subject.verb(
        "add", _add, "make a group; its keys are in the answer", "--id street-lamps --member 70B3D57ED0000001"
    )
    parser.add_argument("--member", action="append", metavar="DEVEUI", help="a mote to begin with; may be repeated")
    add_fields(parser, id="its id", name="its name", region="such as eu868", application="whose it is")
    parser = subject.verb(
        "change", _change, "change a group; what is left out stays", "street-lamps --set data_rate:=3"
    )
    parser.add_argument("id")
    add_fields(parser, name="its name", region="such as eu868", application="whose it is")
    parser = subject.verb("remove", _remove, "forget a group, with what waits for it", "street-lamps")
    parser.add_argument("id")
    parser = subject.verb("members", _members, "the motes of a group", "street-lamps")
    parser.add_argument("id")
    add_paging(parser)
    for name, method, about in (
        ("join", "PUT", "take motes into a group"),
        ("leave", "DELETE", "take motes out of it"),
    ):
        parser = subject.verb(name, _member, about, "street-lamps 70B3D57ED0000001 70B3D57ED0000002")
        parser.add_argument("id")
        parser.add_argument("devices", nargs="+", metavar="DEVEUI")
        parser.set_defaults(method=method, told=name)
    parser = subject.verb("send", _send, "send bytes to all members", "street-lamps --hex 0102 --port 5 --tries 3")
    parser.add_argument("id")
    parser.add_argument("--hex", type=hex_bytes, metavar="BYTES")
    parser.add_argument("--base64", metavar="TEXT", help="the same in base64")
    parser.add_argument("--port", type=count, required=True)
    parser.add_argument("--tries", type=count, default=1, help="how often it is sent (default: %(default)s)")
    parser.add_argument("--priority", type=count)
    add_ordering(parser)
    parser = subject.verb("messages", _messages, "what was sent to a group and what waits", "street-lamps")
    parser.add_argument("id")
    add_paging(parser)
    for name, run, about in (
        ("message", _message, "a message and what became of it at each gateway"),
        ("cancel", _cancel, "take a message back: what has not been sent of it is not sent any more"),
    ):
        parser = subject.verb(name, run, about, "street-lamps MESSAGE")
        parser.add_argument("id")
        parser.add_argument("message")


def _at(session: Session, *more: str) -> str:
    return at("lorawan", "groups", session.arguments.id, *more)


def _list(session: Session) -> None:
    query = given(application=session.arguments.application)
    session.list(at("lorawan", "groups"), GROUPS, query, empty="no groups")


def _show(session: Session) -> None:
    session.output.item(session.client.get(_at(session)))


def _keys(session: Session) -> None:
    session.output.item(session.client.get(_at(session, "keys")))


def _add(session: Session) -> None:
    body = body_of(session.arguments) | given(devices=session.arguments.member)
    session.output.item(session.client.call("POST", at("lorawan", "groups"), body))


def _change(session: Session) -> None:
    session.output.item(session.client.call("PATCH", _at(session), body_of(session.arguments)))


def _remove(session: Session) -> None:
    id = session.arguments.id
    session.confirm(f"Forget the group {id}, with what waits for it?")
    session.output.done(session.client.call("DELETE", _at(session)), f"forgotten {id}")


def _members(session: Session) -> None:
    session.list(_at(session, "devices"), MEMBERS, empty="no members")


def _member(session: Session) -> None:
    arguments = session.arguments
    words = {"join": "is in", "leave": "is no longer in"}
    for device in arguments.devices:
        session.client.call(arguments.method, _at(session, "devices", device))
        session.output.done(None, f"{device} {words[arguments.told]} {arguments.id}")


def _send(session: Session) -> None:
    arguments = session.arguments
    if (arguments.hex is None) == (arguments.base64 is None):
        raise Misuse("one of --hex and --base64 is needed")
    body = {
        "payload_base64": arguments.base64 if arguments.hex is None else arguments.hex,
        "port": arguments.port,
        "tries": arguments.tries,
    }
    body |= given(priority=arguments.priority) | ordering_of(arguments)
    session.output.item(session.client.call("POST", _at(session, "messages"), body))


def _messages(session: Session) -> None:
    session.list(_at(session, "messages"), MESSAGES, empty="no messages")


def _message(session: Session) -> None:
    session.output.item(session.client.get(_at(session, "messages", session.arguments.message)))


def _cancel(session: Session) -> None:
    message = session.arguments.message
    answer = session.client.call("DELETE", _at(session, "messages", message))
    session.output.done(answer, f"cancelled {message}")
