"""``gizwits-firmware``: images of Gizwits devices, by number."""

from __future__ import annotations

from hashlib import md5
from pathlib import Path
from typing import Any

from broker.admin.cells import Column, Columns
from broker.admin.client import at
from broker.admin.failures import Failure
from broker.admin.options import Subject, add_fields, body_of, given
from broker.admin.session import Session
from broker.admin.subjects.files import send

COLUMNS: Columns = (
    Column("id", right=True),
    "product",
    "type",
    "hard_version",
    "soft_version",
    Column("size", right=True),
    "active",
    "created_at",
)


def add(several: Any) -> None:
    subject = Subject(several, "gizwits-firmware", "firmware images of Gizwits devices")
    parser = subject.verb("list", _list, "the images", "--product lamp")
    parser.add_argument("--product", metavar="KEY")
    parser = subject.verb("show", _show, "an image and who gets it", "7")
    parser.add_argument("id")
    parser = subject.verb(
        "put",
        _put,
        "hand in an image; nobody gets it before it is active, or a campaign has its number",
        "lamp.bin --product lamp --type wifi --hard-version 000LINUX --soft-version 04020007",
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--product", metavar="KEY", required=True)
    parser.add_argument("--type", choices=("wifi", "mcu"), required=True)
    parser.add_argument("--hard-version", metavar="VERSION", required=True)
    parser.add_argument("--soft-version", metavar="VERSION", required=True)
    parser.add_argument("--filename", help="what devices see (default: firmware.bin)")
    parser = subject.verb(
        "change", _change, "switch an image on or off, or give it to other devices", "7 --set active:=true"
    )
    parser.add_argument("id")
    add_fields(parser)
    parser = subject.verb("remove", _remove, "delete an image", "7")
    parser.add_argument("id")


def _list(session: Session) -> None:
    query = given(product=session.arguments.product)
    session.list(at("gizwits", "firmware"), COLUMNS, query, empty="no images", paged=False)


def _show(session: Session) -> None:
    session.output.item(session.client.get(at("gizwits", "firmware", session.arguments.id)))


def _put(session: Session) -> None:
    arguments = session.arguments
    query = {
        "product": arguments.product,
        "type": arguments.type,
        "hard_version": arguments.hard_version,
        "soft_version": arguments.soft_version,
        "filename": arguments.filename,
    }
    digest = md5(usedforsecurity=False)  # what the API tells of an image
    answer = send(session, arguments.file, "POST", at("gizwits", "firmware"), query, digest)
    if str(answer["md5"]).lower() != digest.hexdigest():
        raise Failure(f"{arguments.file} did not arrive as it was sent: its MD5 is another one there")
    session.output.item(answer)


def _change(session: Session) -> None:
    path = at("gizwits", "firmware", session.arguments.id)
    session.output.item(session.client.call("PATCH", path, body_of(session.arguments)))


def _remove(session: Session) -> None:
    id = session.arguments.id
    session.confirm(f"Delete the firmware image {id}?")
    session.output.done(session.client.call("DELETE", at("gizwits", "firmware", id)), f"deleted {id}")
