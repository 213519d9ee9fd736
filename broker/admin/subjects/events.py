"""``events``: what has happened to the fleet. ``event-rules``: what is an event, and who hears of it."""

from __future__ import annotations

import argparse
from typing import Any

from broker.admin.cells import Column, Columns
from broker.admin.client import at
from broker.admin.live import Stream
from broker.admin.options import Subject, add_fields, add_paging, body_of, checked, count, duration, given, past
from broker.admin.plain import read_duration
from broker.admin.session import Session
from broker.admin.subjects.stream import follow

EVENTS: Columns = ("at", "severity", "kind", "device", "protocol", "details", "id")
KINDS: Columns = ("kind", "severity", "clears", "text")
RULES: Columns = (
    "id",
    "name",
    "enabled",
    "kinds",
    Column("devices", show=lambda item: {name: value for name, value in (item.get("devices") or {}).items() if value}),
    "offline_after",
    "sinks",
    "rate_limit",
)
#: Option -> field of a rule's filter.
FILTERS = {
    "device": "ids",
    "protocol": "protocols",
    "product": "products",
    "application": "applications",
    "parent": "parents",
}
NOTES = """\
examples:
  broker-admin events list --kind gateway_offline --since 1d
  broker-admin events follow
  broker-admin event-rules add --name nights --kind gateway_offline --protocol gateway88 --offline-after 15m \\
      --sink SINK --rate-limit 10/1h
"""


def add(several: Any) -> None:
    subject = Subject(several, "events", "what has happened to the fleet", NOTES)
    parser = subject.verb("list", _list, "events, the newest first", "--kind gateway_offline --since 1d")
    parser.add_argument("--kind", action="append", help="may be repeated")
    parser.add_argument("--device", metavar="ID")
    parser.add_argument("--since", type=past, metavar="TIME", help="a duration ago, a date, or UNIX seconds")
    add_paging(parser)
    parser = subject.verb("follow", _follow, "events as they happen, until Ctrl-C", "--device 02123456789A")
    parser.add_argument("--device", action="append", metavar="ID", help="may be repeated")
    parser.add_argument("--count", type=count, metavar="N", help="end after so many")
    subject.verb("kinds", _kinds, "which kinds of events there are")
    subject = Subject(several, "event-rules", "rules: what is an event, and who hears of it", NOTES)
    subject.verb("list", _list_rules, "all rules, the oldest first")
    parser = subject.verb("show", _show_rule, "a rule", "RULE")
    parser.add_argument("id")
    parser = subject.verb("add", _add_rule, "make a rule; it counts at once", "--kind device_offline --sink SINK")
    _add_rule_options(parser)
    parser = subject.verb(
        "change",
        _change_rule,
        "change a rule; what is left out stays, its filter is replaced as a whole",
        "RULE --set enabled:=false",
    )
    parser.add_argument("id")
    _add_rule_options(parser)
    parser = subject.verb("remove", _remove_rule, "forget a rule; what is in queues is still delivered", "RULE")
    parser.add_argument("id")


def _add_rule_options(parser: Any) -> None:
    parser.add_argument("--kind", action="append", dest="kinds", metavar="KIND", help="of events; may be repeated")
    parser.add_argument("--sink", action="append", dest="sinks", metavar="ID", help="who hears of it; may be repeated")
    for name in FILTERS:
        parser.add_argument(f"--{name}", action="append", metavar="ID", help="only of these devices; may be repeated")
    parser.add_argument("--query", metavar="TEXT", help="only of devices with this in id or name")
    for name, about in (
        ("offline-after", "a device is offline after so long"),
        ("debounce", "a device is there, or gone, after so long"),
        ("flap-window", "the time in which a device may come and go"),
    ):
        parser.add_argument(f"--{name}", type=duration, metavar="DURATION", help=about)
    parser.add_argument("--flap-count", type=count, metavar="N", help="so often")
    add_rate_limit(parser)
    add_fields(parser, name="its name")


def _rate_limit(text: str) -> dict[str, Any]:
    number, slash, period = text.partition("/")
    if not slash or not number.isdigit():
        raise ValueError(f"{text!r} is no rate, such as 10/1h")
    return {"events": int(number), "seconds": read_duration(period if period[:1].isdigit() else f"1{period}")}


def add_rate_limit(parser: Any) -> None:
    parser.add_argument(
        "--rate-limit", type=checked(_rate_limit), metavar="N/DURATION", help="at most so many, as 10/1h"
    )


def rule_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """The body that the options describe."""
    body = body_of(arguments) | given(
        kinds=arguments.kinds,
        sinks=arguments.sinks,
        offline_after=arguments.offline_after,
        debounce=arguments.debounce,
        flap_window=arguments.flap_window,
        flap_count=arguments.flap_count,
        rate_limit=arguments.rate_limit,
    )
    wish = given(q=arguments.query) | {
        field: values for name, field in FILTERS.items() if (values := getattr(arguments, name)) is not None
    }
    return body | ({"devices": wish} if wish else {})


def _list(session: Session) -> None:
    arguments = session.arguments
    query = given(kind=arguments.kind, device=arguments.device, since=arguments.since)
    session.list(at("events"), EVENTS, query, empty="no such events")


def _follow(session: Session) -> None:
    arguments = session.arguments
    follow(session, Stream(session.client, kind=["broker_event"], device=arguments.device), arguments.count)


def _kinds(session: Session) -> None:
    session.list(at("event-kinds"), KINDS, paged=False)


def _list_rules(session: Session) -> None:
    session.list(at("event-rules"), RULES, empty="no rules", paged=False)


def _show_rule(session: Session) -> None:
    session.output.item(session.client.get(at("event-rules", session.arguments.id)))


def _add_rule(session: Session) -> None:
    session.output.item(session.client.call("POST", at("event-rules"), rule_of(session.arguments)))


def _change_rule(session: Session) -> None:
    path = at("event-rules", session.arguments.id)
    session.output.item(session.client.call("PATCH", path, rule_of(session.arguments)))


def _remove_rule(session: Session) -> None:
    id = session.arguments.id
    session.confirm(f"Forget the rule {id}?")
    session.output.done(session.client.call("DELETE", at("event-rules", id)), f"forgotten {id}")
