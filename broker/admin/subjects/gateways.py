"""``gateways``: what 0x88 gateways can be told, and one replaced by another."""

from __future__ import annotations

import time
from typing import Any, Final

from broker.admin.cells import Column, Columns
from broker.admin.client import at
from broker.admin.failures import Refused
from broker.admin.options import (
    Subject,
    add_ordering,
    add_paging,
    duration,
    given,
    json_object,
    ordering_of,
    positive,
    yes_no,
)
from broker.admin.session import Session
from broker.admin.subjects.commands import verdict, wait_for

BACKUPS: Columns = ("id", "gateway", Column("size", right=True), "created_at", "sha256")
OVERVIEW: Columns = (
    "gateway",
    "name",
    "online",
    Column("newest.id", "NEWEST BACKUP"),
    "age",
    Column("newest.size", right=True),
    "due",
    Column("failures", right=True),
    "warning",
    "error",
)
REPLACEMENTS: Columns = ("gateway", "by", "at", "backup", "command", "before")
#: The status with which the API asks for a confirmation, and says of what.
CONFLICT: Final = 409

NOTES = """\
examples:
  broker-admin gateways firmware 02123456789A relay-2.4.bin 2.4 --backup yes --wait 10m
  broker-admin gateways replace 02123456789A --by 0212345678FF
  broker-admin gateways backups
"""


def add(several: Any) -> None:
    subject = Subject(several, "gateways", "0x88 gateways: firmware, backups, recovery, replacement", NOTES)
    parser = subject.verb(
        "firmware", _firmware, "have a gateway install a firmware image", "02123456789A relay-2.4.bin 2.4 --wait 10m"
    )
    parser.add_argument("mac")
    parser.add_argument("file", help="name or id of a file: broker-admin files put")
    parser.add_argument("version", help="what the gateway reports when it runs it")
    parser.add_argument(
        "--backup", type=yes_no, metavar="yes|no", help="make a backup before (default: as the broker is set)"
    )
    _add_order(parser)
    parser = subject.verb("backup", _backup, "have a gateway hand in its data", "02123456789A --wait 2m")
    parser.add_argument("mac")
    _add_order(parser)
    parser = subject.verb(
        "backups", _backups, "the backups of a gateway, or how every gateway is off for them", "", "02123456789A"
    )
    parser.add_argument("mac", nargs="?")
    parser.add_argument("--query", metavar="TEXT", help="of all gateways: looked for in id and name")
    add_paging(parser)
    parser = subject.verb(
        "recovery", _recovery, "have a gateway go back to a backup", "02123456789A file-1f2e --wait 5m"
    )
    parser.add_argument("mac")
    parser.add_argument("backup", help="id of a backup, also of another gateway: broker-admin gateways backups")
    _add_order(parser)
    parser = subject.verb(
        "remote-control", _remote_control, "have a gateway carry out a command of its own", "02123456789A '{\"on\": 1}'"
    )
    parser.add_argument("mac")
    parser.add_argument("cmd", type=json_object, metavar="JSON", help="an object")
    parser.add_argument("--answer-within", type=positive, metavar="SECONDS", help="how long the gateway may take")
    _add_order(parser)
    parser = subject.verb(
        "replace",
        _replace,
        "have another gateway stand in for one: applications notice nothing",
        "02123456789A --by 0212345678FF",
        "02123456789A --by 0212345678FF --backup none --yes",
    )
    parser.add_argument("mac", help="the gateway that applications know")
    parser.add_argument("--by", required=True, metavar="MAC", help="the new one")
    parser.add_argument("--backup", default="newest", help="id of the backup that it is given, newest or none")
    parser.add_argument("--certificate", help="the client certificate that the new one is bound to")
    parser = subject.verb("unreplace", _unreplace, "go back to the gateway before", "02123456789A")
    parser.add_argument("mac")
    parser = subject.verb("replacements", _replacements, "which gateway stands in for which", "", "02123456789A")
    parser.add_argument("mac", nargs="?")


def _add_order(parser: Any) -> None:
    add_ordering(parser)
    parser.add_argument(
        "--wait", type=duration, metavar="DURATION", help="wait so long for its end; the exit status tells how it went"
    )


def _order(session: Session, name: str, body: dict[str, Any]) -> int:
    arguments = session.arguments
    path = at("gateways", arguments.mac, name)
    taken = session.client.call("POST", path, ordering_of(arguments) | body)
    if arguments.wait is None:
        session.output.item(taken)
        return 0
    return verdict(session, wait_for(session, taken["id"], time.monotonic() + arguments.wait), True)


def _firmware(session: Session) -> int:
    arguments = session.arguments
    session.confirm(f"Have {arguments.mac} install {arguments.file}, version {arguments.version}?")
    body = {"file": arguments.file, "version": arguments.version} | given(backup=arguments.backup)
    return _order(session, "firmware", body)


def _backup(session: Session) -> int:
    return _order(session, "backup", {})


def _backups(session: Session) -> None:
    arguments = session.arguments
    if arguments.mac is None:
        session.list(at("backups"), OVERVIEW, given(q=arguments.query), empty="no gateways")
    else:
        session.list(at("gateways", arguments.mac, "backups"), BACKUPS, empty="no backups")


def _recovery(session: Session) -> int:
    arguments = session.arguments
    session.confirm(f"Have {arguments.mac} go back to the backup {arguments.backup}?")
    try:
        return _order(session, "recovery", {"backup": arguments.backup})
    except Refused as error:
        if error.code != CONFLICT or "confirm" not in error.detail:
            raise
        session.confirm(f"{error.detail}. Do it?")
        return _order(session, "recovery", {"backup": arguments.backup, "confirm": True})


def _remote_control(session: Session) -> int:
    arguments = session.arguments
    return _order(session, "remote_control", {"cmd": arguments.cmd} | given(timeout=arguments.answer_within))


def _replace(session: Session) -> None:
    arguments = session.arguments
    path = at("gateways", arguments.mac, "replacement")
    backup = None if arguments.backup == "none" else arguments.backup
    body = {"by": arguments.by, "backup": backup} | given(certificate=arguments.certificate)
    if not arguments.yes:
        try:
            session.client.call("POST", path, body)
        except Refused as error:
            # The refusal of a call without a confirmation says what would happen.
            if error.code != CONFLICT or "confirm: true" not in error.detail:
                raise
            session.confirm(f"{error.detail.partition('. confirm: true')[0]}. Do it?")
    answer = session.client.call("POST", path, body | {"confirm": True})
    session.output.item(answer)
    if answer.get("id"):
        session.output.note(f"its backup is on the way: broker-admin commands watch {answer['id']}")


def _unreplace(session: Session) -> None:
    mac = session.arguments.mac
    path = at("gateways", mac, "replacement")
    now = session.client.get(path)
    session.confirm(f"{now['by']} would no longer be {now['gateway']}, but the gateway before it again. Do it?")
    session.output.done(session.client.call("DELETE", path), f"{now['by']} no longer stands in for {now['gateway']}")


def _replacements(session: Session) -> None:
    mac = session.arguments.mac
    if mac is None:
        session.list(at("replacements"), REPLACEMENTS, empty="no gateway stands in for another", paged=False)
    else:
        session.output.item(session.client.get(at("gateways", mac, "replacement")))
