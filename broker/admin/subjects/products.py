"""``products``: kinds of devices, with what they measure and what they can be told."""

from __future__ import annotations

from typing import Any

from broker.admin.cells import Column, Columns
from broker.admin.client import at
from broker.admin.options import Subject, add_fields, body_of
from broker.admin.session import Session

COLUMNS: Columns = (
    "key",
    "protocol",
    "name",
    Column("sensors", show=lambda item: len(item.get("sensors") or ()), right=True),
    Column("actuators", show=lambda item: len(item.get("actuators") or ()), right=True),
)
NOTES = """\
Sensors and actuators are lists of objects:

  broker-admin products add lamp gizwits --name Lamp \\
      --set 'sensors:=[{"value_key": "lux", "name": "Light", "unit": "lx"}]' \\
      --set 'actuators:=[{"command_key": "on", "name": "On"}]'
"""


def add(several: Any) -> None:
    subject = Subject(several, "products", "products: kinds of devices", NOTES)
    subject.verb("list", _list, "all products")
    parser = subject.verb("show", _show, "a product with its sensors and actuators", "lamp")
    parser.add_argument("key")
    parser = subject.verb("add", _add, "add a product", "lamp gizwits --name Lamp", "lamp gizwits --body lamp.json")
    parser.add_argument("key")
    parser.add_argument("protocol")
    add_fields(parser, name="its name; left out: its key")
    parser = subject.verb("change", _change, "change a product; lists are replaced as a whole", "lamp --name 'Lamp 2'")
    parser.add_argument("key")
    add_fields(parser, name="its name")
    parser = subject.verb("remove", _remove, "delete a product that no device has", "lamp")
    parser.add_argument("key")


def _list(session: Session) -> None:
    session.list(at("products"), COLUMNS, empty="no products", paged=False)


def _show(session: Session) -> None:
    product = session.client.get(at("products", session.arguments.key))
    output = session.output
    if output.as_json:
        output.json(product)
        return
    output.item({name: value for name, value in product.items() if name not in ("sensors", "actuators")})
    for name, columns in (("sensors", ("value_key", "name", "unit")), ("actuators", ("command_key", "name"))):
        if product.get(name):
            output.heading(name)
            output.table(product[name], columns)


def _add(session: Session) -> None:
    arguments = session.arguments
    body = {"key": arguments.key, "protocol": arguments.protocol, **body_of(arguments)}
    session.output.item(session.client.call("POST", at("products"), body))


def _change(session: Session) -> None:
    arguments = session.arguments
    session.output.item(session.client.call("PATCH", at("products", arguments.key), body_of(arguments)))


def _remove(session: Session) -> None:
    key = session.arguments.key
    session.confirm(f"Delete the product {key}?")
    session.output.done(session.client.call("DELETE", at("products", key)), f"deleted {key}")
