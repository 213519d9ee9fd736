"""``devices``: the registry, with presence and last values."""

from __future__ import annotations

from typing import Any

from broker.admin.cells import Column, Columns
from broker.admin.client import at
from broker.admin.options import Subject, add_fields, add_paging, body_of, given, yes_no
from broker.admin.session import Session
from broker.admin.subjects import bulk

COLUMNS: Columns = (
    "id",
    "protocol",
    "name",
    "product",
    "online",
    Column("presence.state", "PRESENCE"),
    "last_seen",
    Column("applications", "APPS"),
)
VALUES: Columns = ("key", "value", "at")

NOTES = """\
A filter is a field of the registry; QUERY is looked for in ids and names.

examples:
  broker-admin devices list --protocol gateway88 --online no
  broker-admin devices add novacloud --name greenhouse
  broker-admin devices import fleet.ndjson --secrets secrets.ndjson
"""


def add(several: Any) -> None:
    subject = Subject(several, "devices", "devices: register, look, change, remove, many at once", NOTES)
    parser = subject.verb("list", _list, "devices by id, filtered", "hall", "--protocol gateway88 --online no --all")
    add_filters(parser)
    add_paging(parser)
    parser = subject.verb("show", _show, "a device with its presence and last values", "02123456789A")
    parser.add_argument("id")
    parser = subject.verb(
        "add",
        _add,
        "register a device; its id and secret are made when left out, and the secret is shown this once",
        "novacloud --name greenhouse",
        "lorawan --id 70B3D57ED0000001 --set join_eui=0000000000000001 --set class=C",
        "gateway88 --id 02123456789A --name hall",
    )
    parser.add_argument("protocol", help="novacloud, gateway88, gizwits, lorawan, or another one that is built in")
    add_fields(
        parser,
        id="its id",
        secret="its secret",
        product="key of its product",
        name="its name",
        dev_eui="DevEUI",  # nosec B106
    )
    parser = subject.verb(
        "change", _change, "change a device; what is left out stays", "02123456789A --name roof --set disabled:=true"
    )
    parser.add_argument("id")
    add_fields(
        parser,
        product="key of its product",
        name="its name",
        dev_eui="DevEUI",
        secret="a secret of your choice",  # nosec B106
    )
    parser.add_argument("--new-secret", action="store_true", help="make a new secret; the old one is void at once")
    parser = subject.verb("remove", _remove, "delete devices, with their history and commands", "02123456789A --yes")
    parser.add_argument("ids", nargs="+", metavar="ID")
    bulk.add(subject)


def add_filters(parser: Any) -> None:
    parser.add_argument("query", nargs="?", metavar="QUERY", help="looked for in id and name")
    parser.add_argument("--protocol")
    parser.add_argument("--product", metavar="KEY")
    parser.add_argument("--tag")
    parser.add_argument("--online", type=yes_no, metavar="yes|no")
    parser.add_argument(
        "--filter", action="append", default=[], metavar="FIELD=TEXT", help="any other filter of the API"
    )


def filters_of(session: Session) -> dict[str, Any]:
    arguments = session.arguments
    others = bulk.read_filters(arguments.filter)
    return others | given(
        q=arguments.query,
        protocol=arguments.protocol,
        product=arguments.product,
        tag=arguments.tag,
        online=arguments.online,
    )


def _list(session: Session) -> None:
    session.list(at("devices"), COLUMNS, filters_of(session), empty="no such devices")


def _show(session: Session) -> None:
    device = session.client.get(at("devices", session.arguments.id))
    output = session.output
    if output.as_json:
        output.json(device)
        return
    shown = {name: value for name, value in device.items() if name not in ("values", "unmapped")}
    output.item(shown)
    for name in ("values", "unmapped"):
        readings = device.get(name) or {}
        if readings:
            output.heading(f"{name} ({len(readings)})")
            output.table(({"key": key, **reading} for key, reading in readings.items()), VALUES)


def _add(session: Session) -> None:
    body = {"protocol": session.arguments.protocol, **body_of(session.arguments)}
    device = session.client.call("POST", at("devices"), body)
    session.output.item(device, "the secret is shown this once" if device.get("secret") else "")


def _change(session: Session) -> None:
    arguments = session.arguments
    body = body_of(arguments)
    if arguments.new_secret:
        session.confirm(f"The secret of {arguments.id} will be void; the device has to be given the new one.")
        body["secret"] = None
    device = session.client.call("PATCH", at("devices", arguments.id), body)
    session.output.item(device, "the secret is shown this once" if device.get("secret") else "")


def _remove(session: Session) -> None:
    ids = session.arguments.ids
    what = ids[0] if len(ids) == 1 else f"{len(ids)} devices ({', '.join(ids[:5])}{' ...' if len(ids) > 5 else ''})"
    session.confirm(f"Delete {what}, with history and commands?")
    for id in ids:
        session.client.call("DELETE", at("devices", id))
        session.output.done(None, f"deleted {id}")
