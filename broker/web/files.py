"""Files as answers: streamed from disk as fast as the client reads, whole or a range of them (RFC 9110, 13 and 14).

::

    head ──> chunk read in a thread ──> outbox ──> socket full? wait until it has room ──> next chunk

One chunk of one download is in memory at a time. Of several ranges none is served, but the whole file, as the RFC
allows. A file that turns out shorter than was said ends the connection: nothing else tells the client.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, Final, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from broker.model.errors import NotFound, Unavailable
from broker.web.answers import Answer, Fields
from broker.web.problems import RangeNotSatisfiable

#: Bytes read at once. What a client is given a minute for (``slow_reader_timeout``) is one of these.
CHUNK: Final = 65_536

_RANGE: Final = re.compile(r"bytes=[ \t]*(\d{0,18})-(\d{0,18})[ \t]*", re.ASCII | re.IGNORECASE)

log = Logger(namespace="broker.web.files")
T = TypeVar("T")


@dataclass(slots=True)
class FileAnswer:
    """A file as the answer. ``size`` None: as it is on disk. ``etag`` without quotes, empty for none.

    ``headers`` are written byte for byte, with whole files and with parts. ``sent`` is called when the last byte of the
    file has been handed to the client's connection, be it that the parts before it were asked for by themselves.
    """

    path: Path
    size: int | None = None
    content_type: str = "application/octet-stream"
    headers: Fields = ()
    etag: str = ""
    sent: Callable[[], None] | None = None


def requested_range(text: str, size: int) -> tuple[int, int] | None:
    """First byte and length of what a Range header asks for; None: the whole file (none, several, not understood).

    Raises RangeNotSatisfiable.
    """
    found = _RANGE.fullmatch(text)
    if found is None or not (found[1] or found[2]):
        return None
    if found[1]:
        first = int(found[1])
        last = int(found[2]) if found[2] else size - 1
        if found[2] and last < first:
            return None
    else:
        first = max(0, size - int(found[2]))
        last = size - 1
    if first >= size:
        raise RangeNotSatisfiable(
            f"the file has {size} bytes", headers=((b"Content-Range", b"bytes */%d" % size),), size=size
        )
    return first, min(last, size - 1) - first + 1


async def send_file(request: Any, answer: FileAnswer) -> None:
    """Answer with a file. Raises NotFound, Unavailable, RangeNotSatisfiable before anything is written."""
    in_thread = _threads_of(request.connection.home.reactor)
    try:
        file, size = await in_thread(lambda: _open(answer.path, answer.size))
    except FileNotFoundError:
        raise NotFound("the file is not there any more") from None
    except OSError as error:
        raise Unavailable(f"the file cannot be read: {error.strerror}") from None
    try:
        await _send(request, answer, file, size, in_thread)
    finally:
        file.close()


async def _send(request: Any, answer: FileAnswer, file: IO[bytes], size: int, in_thread: Any) -> None:
    etag = f'"{answer.etag}"' if answer.etag else ""
    fields: Fields = ((b"Accept-Ranges", b"bytes"), *answer.headers)
    if etag:
        fields = ((b"ETag", etag.encode()), *fields)
    if etag and _matches(_header(request, b"if-none-match"), etag):
        request.answer(Answer(304, headers=fields))
        return
    first, length, status = 0, size, 200
    wanted = _header(request, b"range")
    condition = _header(request, b"if-range")
    if wanted and request.method == b"GET" and (not condition or condition == etag):
        part = requested_range(wanted, size)
        if part is not None:
            first, length = part
            status = 206
            fields = ((b"Content-Range", b"bytes %d-%d/%d" % (first, first + length - 1, size)), *fields)
    media = answer.content_type.encode()
    if request.method == b"HEAD":
        request.begin(status, media, length, fields)
    else:
        # The first bytes go out in one piece with the head: some clients look for them in what they receive first.
        chunk = await _read(request, file, first, min(CHUNK, length), in_thread) if length else b""
        request.begin(status, media, length, fields, chunk)
        await _send_bytes(request, file, first, length, chunk, in_thread)
        if answer.sent is not None and first + length == size and not request.gone:
            answer.sent()
    request.end()


async def _read(request: Any, file: IO[bytes], offset: int, length: int, in_thread: Any) -> bytes:
    """Nothing when it cannot be read."""
    try:
        chunk: bytes = await in_thread(partial(os.pread, file.fileno(), length, offset))
    except OSError as error:
        log.error("{request}: reading failed: {error}", request=request, error=error)
        return b""
    return chunk


async def _send_bytes(request: Any, file: IO[bytes], first: int, length: int, chunk: bytes, in_thread: Any) -> None:
    """What is left of ``length`` bytes from ``first`` on, after the ``chunk`` that is sent already."""
    left = length
    while True:
        left -= len(chunk)
        if request.gone or not left:
            return
        if not chunk:
            log.error("{request}: the file ends {left} bytes early", request=request, left=left)
            request.connection.abort("unavailable")
            return
        await request.connection.room()
        if request.gone:
            return
        chunk = await _read(request, file, first + length - left, min(CHUNK, left), in_thread)
        if chunk and not request.gone:
            request.connection.send(chunk)


def _threads_of(reactor: Any) -> Callable[[Callable[[], T]], Deferred[T]]:
    pool = reactor.getThreadPool()
    return lambda call: deferToThreadPool(reactor, pool, call)


def _open(path: Path, size: int | None) -> tuple[IO[bytes], int]:
    file = path.open("rb")
    try:
        return file, os.fstat(file.fileno()).st_size if size is None else size
    except OSError:
        file.close()
        raise


def _header(request: Any, name: bytes) -> str:
    return b",".join(request.requestHeaders.getRawHeaders(name, [])).decode("latin-1").strip()


def _matches(given: str, etag: str) -> bool:
    """Whether an If-None-Match names this tag; weakly, as the RFC has it."""
    tags = {tag.strip().removeprefix("W/") for tag in given.split(",")}
    return etag in tags or "*" in tags
