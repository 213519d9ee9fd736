"""``applications``: who may see and command which devices."""

from __future__ import annotations

from typing import Any

from broker.admin.cells import Columns
from broker.admin.client import at
from broker.admin.options import Subject, add_fields, body_of
from broker.admin.session import Session

COLUMNS: Columns = ("id", "kind", "name", "cs_eui", "disabled")
SHOWN_ONCE = "the secret is shown this once"
NOTES = """\
examples:
  broker-admin applications add mqtt --name dashboards
  broker-admin applications bind APP DEVICE DEVICE2
"""


def add(several: Any) -> None:
    subject = Subject(several, "applications", "applications and the devices that they may use", NOTES)
    subject.verb("list", _list, "all applications")
    parser = subject.verb("show", _show, "an application and its devices", "dashboards")
    parser.add_argument("id")
    parser = subject.verb(
        "add",
        _add,
        "register an application; its secret is shown this once",
        "mqtt --name dashboards",
        "loracenter --id cs --cs-eui AA555A0000000000 --app-key 00112233445566778899AABBCCDDEEFF",
    )
    parser.add_argument("kind", choices=("mqtt", "http", "gizwits", "loracenter"))
    add_fields(parser, id="its id", name="its name", secret="its secret", cs_eui="CsEUI", app_key="AppKey")  # nosec B106
    parser = subject.verb("change", _change, "change an application; what is left out stays", "cs --set disabled:=true")
    parser.add_argument("id")
    add_fields(parser, name="its name", cs_eui="CsEUI", app_key="AppKey", secret="a secret of your choice")  # nosec B106
    parser.add_argument("--new-secret", action="store_true", help="make a new secret; the old one is void at once")
    parser = subject.verb("remove", _remove, "delete an application; what it has open is closed", "dashboards")
    parser.add_argument("id")
    for name, run, about in (
        ("bind", _bind, "give an application the right to devices"),
        ("unbind", _unbind, "take that right back"),
    ):
        parser = subject.verb(name, run, about, "dashboards 02123456789A 02123456789B")
        parser.add_argument("id")
        parser.add_argument("devices", nargs="+", metavar="DEVICE")


def _list(session: Session) -> None:
    session.list(at("applications"), COLUMNS, empty="no applications", paged=False)


def _show(session: Session) -> None:
    session.output.item(session.client.get(at("applications", session.arguments.id)))


def _add(session: Session) -> None:
    body = {"kind": session.arguments.kind, **body_of(session.arguments)}
    session.output.item(session.client.call("POST", at("applications"), body), SHOWN_ONCE)


def _change(session: Session) -> None:
    arguments = session.arguments
    body = body_of(arguments)
    if arguments.new_secret:
        session.confirm(f"The secret of {arguments.id} will be void, and what it has open closed.")
        body["secret"] = None
    application = session.client.call("PATCH", at("applications", arguments.id), body)
    session.output.item(application, SHOWN_ONCE if application.get("secret") else "")


def _remove(session: Session) -> None:
    id = session.arguments.id
    session.confirm(f"Delete the application {id}?")
    session.output.done(session.client.call("DELETE", at("applications", id)), f"deleted {id}")


def _bind(session: Session) -> None:
    arguments = session.arguments
    for device in arguments.devices:
        session.client.call("PUT", at("applications", arguments.id, "devices", device))
        session.output.done(None, f"{device} is bound to {arguments.id}")


def _unbind(session: Session) -> None:
    arguments = session.arguments
    for device in arguments.devices:
        session.client.call("DELETE", at("applications", arguments.id, "devices", device))
        session.output.done(None, f"{device} is no longer bound to {arguments.id}")
