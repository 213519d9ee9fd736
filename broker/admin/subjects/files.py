"""``files``: firmware images and other files that the broker keeps."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

from broker.admin.cells import Column, Columns
from broker.admin.client import CHUNK, Query, at
from broker.admin.failures import Failure, Misuse, Refused
from broker.admin.options import Subject, add_paging, given
from broker.admin.output import Bar
from broker.admin.plain import size
from broker.admin.session import Session

COLUMNS: Columns = ("name", Column("size", right=True), "created_at", "sha256", "id")


def add(several: Any) -> None:
    subject = Subject(several, "files", "files for devices, firmware above all")
    parser = subject.verb("list", _list, "files by name", "--prefix relay-")
    parser.add_argument("--prefix", help="what the names begin with")
    add_paging(parser)
    parser = subject.verb("show", _show, "what is known of a file", "relay-2.4.bin")
    parser.add_argument("name")
    parser = subject.verb("put", _put, "hand in a file", "relay-2.4.bin", "build/out.bin --name relay-2.4.bin")
    parser.add_argument("file", type=Path)
    parser.add_argument("--name", help="under which it is kept (default: that of the file)")
    parser = subject.verb("get", _get, "fetch the bytes of a file", "relay-2.4.bin", "relay-2.4.bin -o - | sha256sum")
    parser.add_argument("name")
    parser.add_argument("-o", "--output", metavar="FILE", help="- for stdout (default: its name, in this folder)")
    parser = subject.verb("remove", _remove, "delete a file", "relay-2.4.bin")
    parser.add_argument("name")


def _list(session: Session) -> None:
    session.list(at("files"), COLUMNS, given(prefix=session.arguments.prefix), empty="no files")


def _show(session: Session) -> None:
    session.output.item(session.client.get(at("files", session.arguments.name)))


def _put(session: Session) -> None:
    arguments = session.arguments
    name = arguments.name or arguments.file.name
    before = _known(session, name)
    if before is not None:
        session.confirm(f"{name} is there already ({size(before['size'])}). Replace it?")
    digest = sha256()
    answer = send(session, arguments.file, "PUT", at("files", name), {}, digest)
    if answer["sha256"] != digest.hexdigest():
        raise Failure(f"{name} did not arrive as it was sent: its SHA-256 is another one there")
    session.output.item(answer)


def send(session: Session, file: Path, method: str, path: str, query: Query, digest: Any) -> Any:
    """Upload a file, with a bar; ``digest`` is a hash that is fed with it. Raises Misuse: it cannot be read."""
    with ExitStack() as opened:
        try:
            source = opened.enter_context(open(file, "rb"))
            length = os.fstat(source.fileno()).st_size
        except OSError as error:
            raise Misuse(f"{file}: {error.strerror}") from None
        bar = opened.enter_context(session.output.progress(f"sending {file.name}", length))
        return session.client.upload(path, _pieces(source, length, digest, bar), length, method, query)


def _pieces(source: BinaryIO, length: int, digest: Any, bar: Bar) -> Iterator[bytes]:
    """So many bytes. Raises Failure when the file cannot be read, or has become shorter."""
    left = length
    while left:
        try:
            piece = source.read(min(CHUNK, left))
        except OSError as error:
            raise Failure(f"{source.name}: {error.strerror}") from None
        if not piece:
            raise Failure(f"the file has become shorter by {left} bytes while it was sent")
        left -= len(piece)
        digest.update(piece)
        yield piece
        bar.advance(len(piece))


def _known(session: Session, name: str) -> Any:
    try:
        return session.client.get(at("files", name))
    except Refused as error:
        if error.code == 404:
            return None
        raise


def _get(session: Session) -> None:
    arguments = session.arguments
    info = session.client.get(at("files", arguments.name))
    if arguments.output == "-":
        _fetch(session, info, sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    path = Path(arguments.output or Path(arguments.name).name)
    if path.exists():
        session.confirm(f"{path} exists. Overwrite it?")
    part = path.with_name(f"{path.name}.part")
    try:
        try:
            with open(part, "wb") as target:
                _fetch(session, info, target)
            part.replace(path)
        finally:
            with suppress(FileNotFoundError):  # it has become the file
                part.unlink()
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}") from None
    session.output.done(info, f"{path}: {size(info['size'])}, SHA-256 {info['sha256']}")


def _fetch(session: Session, info: Any, target: BinaryIO) -> None:
    """Raises Failure when it is not what was announced, OSError of ``target``."""
    digest = sha256()
    with session.output.progress(f"fetching {info['name']}", info["size"]) as bar:
        for piece in session.client.download(at("files", info["name"], "content")):
            digest.update(piece)
            target.write(piece)
            bar.advance(len(piece))
    if digest.hexdigest() != info["sha256"]:
        raise Failure(f"{info['name']} did not arrive whole, or was replaced meanwhile: its SHA-256 is another one")


def _remove(session: Session) -> None:
    name = session.arguments.name
    session.confirm(f"Delete the file {name}?")
    session.output.done(session.client.call("DELETE", at("files", name)), f"deleted {name}")
