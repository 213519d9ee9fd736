"""``lorawan-gateways``: the packet forwarders of LoRaWAN. ``lorawan-motes``: the MAC layer of motes."""

from __future__ import annotations

from typing import Any

from broker.admin.cells import Column, Columns
from broker.admin.client import at
from broker.admin.options import Subject, add_fields, add_paging, body_of, given, yes_no
from broker.admin.session import Session

COLUMNS: Columns = (
    "eui",
    "name",
    "region",
    "registered",
    "online",
    "last_seen",
    "address",
    Column("stat.rxnb", "HEARD", right=True),
    Column("stat.txnb", "SENT", right=True),
)


def add(several: Any) -> None:
    subject = Subject(several, "lorawan-gateways", "LoRaWAN gateways (packet forwarders)")
    parser = subject.verb("list", _list, "the gateways, by EUI", "--online no")
    parser.add_argument("--online", type=yes_no, metavar="yes|no")
    add_paging(parser)
    parser = subject.verb("show", _show, "a gateway with the last that it said of itself", "AA555A0000000001")
    parser.add_argument("eui")
    parser = subject.verb(
        "add",
        _add,
        "register a gateway",
        "AA555A0000000001 --name roof --region eu868",
        'AA555A0000000001 --set \'position:={"long": 13.4, "lati": 52.5, "alti": 40}\'',
    )
    parser.add_argument("eui", help="16 hexadecimal digits")
    add_fields(parser, name="its name", region="such as eu868")
    parser = subject.verb("change", _change, "change a gateway; what is left out stays", "AA555A0000000001 --name roof")
    parser.add_argument("eui")
    add_fields(parser, name="its name", region="such as eu868")
    parser = subject.verb("remove", _remove, "forget a gateway", "AA555A0000000001")
    parser.add_argument("eui")
    subject = Subject(several, "lorawan-motes", "the MAC layer of LoRaWAN motes (they are devices otherwise)")
    parser = subject.verb(
        "show", _show_mote, "what a mote's MAC layer is set to, and what is pending", "70B3D57ED0000001"
    )
    parser.add_argument("eui", help="DevEUI")
    parser = subject.verb(
        "change", _change_mote, "what a mote's MAC layer is to be set to", "70B3D57ED0000001 --set adr:=false"
    )
    parser.add_argument("eui", help="DevEUI")
    add_fields(parser)


def _list(session: Session) -> None:
    session.list(at("lorawan", "gateways"), COLUMNS, given(online=session.arguments.online), empty="no gateways")


def _show(session: Session) -> None:
    session.output.item(session.client.get(at("lorawan", "gateways", session.arguments.eui)))


def _add(session: Session) -> None:
    body = {"eui": session.arguments.eui, **body_of(session.arguments)}
    session.output.item(session.client.call("POST", at("lorawan", "gateways"), body))


def _change(session: Session) -> None:
    path = at("lorawan", "gateways", session.arguments.eui)
    session.output.item(session.client.call("PATCH", path, body_of(session.arguments)))


def _remove(session: Session) -> None:
    eui = session.arguments.eui
    session.confirm(f"Forget the gateway {eui}? It will not be listened to any more.")
    session.output.done(session.client.call("DELETE", at("lorawan", "gateways", eui)), f"forgotten {eui}")


def _show_mote(session: Session) -> None:
    session.output.item(session.client.get(at("lorawan", "motes", session.arguments.eui)))


def _change_mote(session: Session) -> None:
    path = at("lorawan", "motes", session.arguments.eui)
    session.output.item(session.client.call("PATCH", path, body_of(session.arguments)))
