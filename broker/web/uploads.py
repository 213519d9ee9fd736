"""Bodies that are read while they come, never whole in memory: files that are uploaded.

::

    socket ──chunk──> Upload.feed ──> [multipart: the first file's bytes] ──> waiting ──> await upload.read() ...
                 ▲                                                              │
                 └── reading pauses while HIGH_WATER bytes wait ────────────────┘

The handler of an ``upload`` route is called when the head has come and the caller is proven. A body may be the file
itself, or ``multipart/form-data`` (RFC 7578), of which the first part with a file name is the file; small fields before
it are in `Upload.fields`, what comes after it is read and thrown away. A handler that answers before the body is
complete refuses the rest: the connection is closed after the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from typing import Protocol as Shape

from twisted.internet.defer import Deferred

from broker.model.errors import BrokerError, Invalid
from broker.web.multipart import FormReader, boundary_of
from broker.web.problems import TooLarge

#: Bytes that may wait for the handler before the client is made to wait.
HIGH_WATER: Final = 262_144


class UploadAborted(Invalid):
    """The client went away before its body was complete. Nobody is left to be told."""


class Sink(Shape):
    """What `Upload.into` writes to, such as a `broker.storage.files.FileWriter`."""

    @property
    def paused(self) -> bool: ...

    def write(self, data: bytes) -> Any: ...

    def drained(self) -> Deferred[Any]: ...


class Upload:
    """The body of one request. One `read` at a time.

    ``limit``: bytes of the whole body; ``pause`` and ``resume`` hold the client back and let it go on.
    """

    def __init__(
        self, content_type: str, length: int | None, limit: int, pause: Callable[[], None], resume: Callable[[], None]
    ) -> None:
        #: Bytes of the file, where they are known before they came: None in chunks and in multipart.
        self.length = length
        #: Of the file's part in multipart, known when the first `read` returns; else empty and the request's type.
        self.name = ""
        self.filename = ""
        self.content_type = content_type
        #: Fields of the form that stood before the file.
        self.fields: dict[str, str] = {}
        #: Bytes of the file that the handler has read.
        self.taken = 0
        self._limit = limit
        self._pause = pause
        self._resume = resume
        self._came = 0
        self._chunks: list[bytes] = []
        self._waiting = 0
        self._held = False
        self._ended = False
        self._error: BrokerError | None = None
        self._reader: Deferred[None] | None = None
        self._form: FormReader | None = None
        boundary = boundary_of(content_type)
        if boundary is not None:
            self.length = None
            self._form = FormReader(boundary, self._file_begins, self._keep)

    # -- for the handler -------------------------------------------------------------------------------------------

    async def read(self) -> bytes:
        """The next bytes of the file, as many as there are; empty at the end.

        Raises Invalid (not the multipart that it says it is, no file in it), TooLarge, UploadAborted.
        """
        while not self._chunks:
            if self._error is not None:
                raise self._error
            if self._ended:
                return b""
            self._reader = Deferred()
            await self._reader
        data = b"".join(self._chunks)
        self._chunks = []
        self._waiting = 0
        self.taken += len(data)
        if self._held:
            self._held = False
            self._resume()
        return data

    async def into(self, sink: Sink) -> int:
        """Write all of the file to ``sink``, no faster than that takes it; the number of bytes. Raises as `read`.

        Finishing the sink, or aborting it after an error, is the caller's.
        """
        before = self.taken
        while data := await self.read():
            sink.write(data)
            while sink.paused:
                await sink.drained()
        return self.taken - before

    # -- from the request ------------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Bytes of the body came."""
        if self._error is not None:
            return
        self._came += len(data)
        if self._came > self._limit:
            self.fail(TooLarge(f"at most {self._limit} bytes are taken here", limit=self._limit))
        elif self._form is None:
            self._keep(data)
        else:
            try:
                self._form.feed(data)
            except Invalid as error:
                self.fail(error)
                return
            self.fields = self._form.fields
        self._wake()

    def end(self) -> None:
        """The body is complete."""
        if self._form is not None and self._error is None:
            try:
                self._form.end()
            except Invalid as error:
                self.fail(error)
        self._ended = True
        self._wake()

    def fail(self, error: BrokerError) -> None:
        """There will be no more; what waits is forgotten."""
        if self._error is None:
            self._error = error
            self._chunks = []
            self._waiting = 0
        self._wake()

    # -- inside ----------------------------------------------------------------------------------------------------

    def _file_begins(self, name: str, filename: str, content_type: str) -> None:
        self.name, self.filename, self.content_type = name, filename, content_type

    def _keep(self, data: bytes) -> None:
        self._chunks.append(data)
        self._waiting += len(data)
        if self._waiting >= HIGH_WATER and not self._held:
            self._held = True
            self._pause()

    def _wake(self) -> None:
        reader = self._reader
        if reader is not None and (self._chunks or self._ended or self._error is not None):
            self._reader = None
            reader.callback(None)
