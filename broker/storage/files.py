"""Files: firmware, backups, whatever a protocol or the administrator hands in. Content on disk, the rest in records.

::

    writer = files.create("firmware", "relay-2.1.bin", {"version": "2.1"})
    writer.write(chunk) ...                while writer.paused: stop reading until writer.drained() answers
    info = await writer.finish()           on disk, and there for everybody; takes the place of one of the same name
    await writer.abort()                   or nothing ever was
    info = await writer.take(upload)       all of this for a `broker.web.uploads.Upload`

Nobody sees a file before its record is committed, and no record is committed before the content is on disk (fsync of
the file and its folder). What a crash leaves half done is swept by `FileStore.open`; see `file_folder` for how it is
found. Content is written and hashed in threads, one job of a file at a time, in the order of the writes.

An id is made for each file and never again used, a name is the caller's. No part of a path comes from outside: the
file on disk is called by its id.

Errors: Invalid (a name that cannot be one), NotFound, Unavailable (full disk, storage that does not answer, too many
files at once): then nothing was kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from errno import EDQUOT, ENOSPC
from pathlib import Path
from secrets import token_hex
from typing import Any, Final, Protocol, TypeVar

import msgspec
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from broker.model.errors import BrokerError, Conflict, Invalid, NotFound, Unavailable
from broker.storage.deferred import deferred
from broker.storage.file_folder import Draft, FileFolder
from broker.storage.interface import IStorage
from broker.storage.records import Records

T = TypeVar("T")
log = Logger()

#: The area of `PUT /api/v1/files/{name}`: what the administrator hands in for any protocol.
UPLOADS: Final = "uploads"
#: Bytes of one file that may wait for the disk before its sender should pause, and at which it may go on.
HIGH_WATER: Final = 262_144
LOW_WATER: Final = 65_536
#: Files that may grow at the same time: each may hold HIGH_WATER, and what its sender sends on.
MAX_WRITERS: Final = 256
#: Bytes of the disk that files leave free, so that a large upload does not take the database's room.
RESERVE: Final = 67_108_864
THREADS: Final = 2
#: Times that a file's record is tried while others put files of the same name in place.
TRIES: Final = 20
MAX_NAME_BYTES: Final = 255

_AREA: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_ID: Final = re.compile(r"file-[0-9a-f]{32}")


class FileInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A file that is there. ``md5`` and ``sha256`` in lower-case hex; ``created_at`` in UNIX seconds."""

    area: str
    id: str
    name: str
    size: int
    md5: str
    sha256: str
    created_at: float
    meta: dict[str, Any]


FileList = list[FileInfo]


class _Named(msgspec.Struct):
    """What an id leads to."""

    name: str


class _Place(msgspec.Struct):
    """Which folder has the content."""

    name: str


class Source(Protocol):
    """Where content comes from: writes it to a `FileWriter`, no faster than that takes it."""

    async def into(self, sink: Any) -> int: ...


class FileStore:
    """``reactor`` gives callFromThread, ``clock`` UNIX seconds."""

    def __init__(
        self,
        storage: IStorage,
        folder: Path,
        reactor: Any,
        clock: Callable[[], float],
        *,
        reserve: int = RESERVE,
        owner: str = "",
        make_id: Callable[[], str] = lambda: f"file-{token_hex(16)}",
    ) -> None:
        #: Files that are being written.
        self.writers: set[FileWriter] = set()
        self._storage = storage
        self._folder = FileFolder(folder, reserve, owner)
        self._reactor = reactor
        self._clock = clock
        self._make_id = make_id
        #: ``<area>/<name>`` -> the file, and ``<area>/<id>`` -> its name.
        self._files = Records(storage, "files", FileInfo)
        self._names = Records(storage, "file_ids", _Named)
        self._places = Records(storage, "file_folder", _Place)
        #: Why files of other processes are not here, a sentence; empty: they are.
        self.trouble = ""
        self._pool: ThreadPool | None = None

    @deferred
    async def meet(self, others: Collection[str]) -> None:
        """Look whether our folder is the one that the other processes have; ``trouble`` says what is found.

        A process that is the first has the right one. Fails with Unavailable.
        """
        try:
            mine = await self.in_thread(self._folder.name, token_hex(16))
        except OSError as error:
            raise Unavailable(f"cannot use the folder {self._folder.path}: {error.strerror or error}") from None
        known = await self._places.get("folder")
        if known is None:
            try:
                await self._places.add("folder", _Place(mine))
                return
            except Conflict:  # another process was faster
                known = await self._places.get("folder")
        if known is not None and known.name == mine:
            return
        if not others:
            await self._places.put("folder", _Place(mine))
            return
        self.trouble = (
            f"the folder {self._folder.path} is not the one that the other processes have: firmware, backups and"
            " uploads of each are missing at the others (docs/cluster.md)"
        )

    @deferred
    async def open(self) -> None:
        """Make the folder and sweep what a crash left. The storage has to be open. Raises Unavailable."""
        self._pool = ThreadPool(0, THREADS, "files")
        self._pool.start()
        try:
            await self.in_thread(self._folder.make)
            for area, id in await self.in_thread(self._folder.doubtful):
                await self.in_thread(await self._right_end(area, id), area, id)
        except OSError as error:
            self._stop_pool()
            raise Unavailable(f"cannot use the folder {self._folder.path}: {error.strerror or error}") from None
        except BaseException:
            self._stop_pool()
            raise

    @deferred
    async def close(self) -> None:
        """Forget files that nobody has asked to finish, wait for the others. Harmless when called twice."""
        await gatherResults([writer.abort() for writer in list(self.writers)])
        self._stop_pool()

    def create(self, area: str, name: str = "", meta: dict[str, Any] | None = None) -> FileWriter:
        """Begin a file. Without a name it is called by its id. Raises Invalid, Unavailable."""
        if not _AREA.fullmatch(area):
            raise Invalid(f"{area!r} cannot be an area of files"[:200])
        if self._pool is None:
            raise Unavailable("the files are closed")
        if len(self.writers) >= MAX_WRITERS:
            raise Unavailable(f"{MAX_WRITERS} files are being written already")
        if name:
            check_name(name)
        id = self._make_id()
        writer = FileWriter(self, Draft(self._folder, area, id), area, id, name or id, meta or {})
        self.writers.add(writer)
        return writer

    @deferred
    async def get(self, area: str, id_or_name: str) -> FileInfo | None:
        """A file by its id or by its name."""
        name = id_or_name
        if _ID.fullmatch(id_or_name):
            named = await self._names.get(f"{area}/{id_or_name}")
            if named is None:
                return None
            name = named.name
        return await self._files.get(f"{area}/{name}")

    def path(self, info: FileInfo) -> Path:
        """Where the content is: to be opened and read, nothing else. It stays until the file is removed."""
        return self._folder.path_of(info.area, info.id)

    @deferred
    async def remove(self, info: FileInfo) -> None:
        """NotFound when this file is gone, be it that another one of its name took its place."""
        found = await self._files.look(f"{info.area}/{info.name}")
        if found is None or found[0].id != info.id:
            raise NotFound(f"no file {info.name!r}"[:300])
        await self._doubt(info)
        gone = [
            self._files.change(f"{info.area}/{info.name}", None, found[1]),
            self._names.change(f"{info.area}/{info.id}", None),
        ]
        try:
            await self._storage.write_records(gone)
        except Conflict:  # somebody was faster, and may have erased it before it was marked here
            await self._look_again(info)
            raise NotFound(f"no file {info.name!r}"[:300]) from None
        await self._erase(info)

    @deferred
    async def list(self, area: str, prefix: str = "", limit: int = 1000, after: str | None = None) -> FileList:
        """By name; ``prefix`` and ``after`` are of names."""
        start = None if after is None else f"{area}/{after}"
        page = await self._files.page(f"{area}/{prefix}", limit, start)
        return [info for _, info in page]

    # -- for the writers -------------------------------------------------------------------------------------------

    def in_thread(self, work: Callable[..., T], *given: Any) -> Deferred[T]:
        if self._pool is None:
            raise Unavailable("the files are closed")
        return deferToThreadPool(self._reactor, self._pool, work, *given)

    @deferred
    async def keep(self, writer: FileWriter, size: int, md5: str, sha256: str) -> FileInfo:
        """Commit the record of a file whose content is on disk, in the place of the one that had its name."""
        area, id, name = writer.area, writer.id, writer.name
        info = FileInfo(
            area=area,
            id=id,
            name=name,
            size=size,
            md5=md5,
            sha256=sha256,
            created_at=self._clock(),
            meta=writer.meta,
        )
        for _ in range(TRIES):
            found = await self._files.look(f"{area}/{name}")
            changes = [self._names.change(f"{area}/{id}", _Named(name))]
            if found is None:
                changes.append(self._files.change(f"{area}/{name}", info, None))
            else:
                await self._doubt(found[0])
                changes.append(self._files.change(f"{area}/{name}", info, found[1]))
                changes.append(self._names.change(f"{area}/{found[0].id}", None))
            try:
                await self._storage.write_records(changes)
                break
            except Conflict:
                if found is not None:
                    await self._look_again(found[0])
        else:
            raise Unavailable(f"others put files of the name {name!r} in place all the time"[:300])
        await self._tidy(self._folder.trust, info)
        if found is not None:
            await self._erase(found[0])
        return info

    # -- inside ----------------------------------------------------------------------------------------------------

    async def _doubt(self, info: FileInfo) -> None:
        """Where even a mark finds no room, removing goes on without it: it is what makes room."""
        await self._tidy(self._folder.doubt, info)

    async def _right_end(self, area: str, id: str) -> Callable[[str, str], None]:
        """What is to be done with a file that was marked as doubtful."""
        known = await self._names.get(f"{area}/{id}") is not None
        return self._folder.trust if known else self._folder.erase

    async def _look_again(self, info: FileInfo) -> None:
        """Marked, and then it was somebody else who removed it."""
        await self._tidy(await self._right_end(info.area, info.id), info)

    async def _erase(self, info: FileInfo) -> None:
        await self._tidy(self._folder.erase, info)

    async def _tidy(self, work: Callable[[str, str], None], info: FileInfo) -> None:
        """What may fail without harm: the record alone says what is there, and marks are looked at again."""
        try:
            await self.in_thread(work, info.area, info.id)
        except (OSError, Unavailable) as error:
            log.warn("file {area}/{id}: {why}", area=info.area, id=info.id, why=str(error))

    def _stop_pool(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.stop()


class FileWriter:
    """A file that grows. Made by `FileStore.create`, ended by `finish` or `abort`."""

    def __init__(self, store: FileStore, draft: Draft, area: str, id: str, name: str, meta: dict[str, Any]) -> None:
        self.area = area
        self.id = id
        self.name = name
        self.meta = meta
        #: Why nothing more is written; `finish` raises it. Whoever sends may as well stop.
        self.problem: BrokerError | None = None
        self._store = store
        self._draft = draft
        self._chunks: list[bytes] = []
        self._waiting = 0
        self._working = False
        self._over = False
        self._listeners: list[tuple[int, Deferred[None]]] = []
        self._leaving: list[Deferred[None]] = []

    @property
    def paused(self) -> bool:
        """Whether so much waits for the disk that the sender should stop."""
        return self._waiting >= HIGH_WATER

    def drained(self) -> Deferred[None]:
        """Answers when the sender may go on; at once where it need not stop. Never fails: see ``problem``."""
        return self._below(LOW_WATER if self.paused else HIGH_WATER)

    def write(self, data: bytes) -> None:
        """Take the next bytes; they are not to be changed afterwards. After the end they are dropped.

        Raises ``problem``, where there is one.
        """
        if self.problem is not None:
            raise self.problem
        if not data or self._over:
            return
        self._chunks.append(data)
        self._waiting += len(data)
        if not self._working:
            self._working = True
            Deferred.fromCoroutine(self._work())

    @deferred
    async def take(self, source: Source) -> FileInfo:
        """All that the source has, as a finished file; or nothing, and what the source or `finish` raised."""
        try:
            await source.into(self)
        except BaseException:
            await self.abort()
            raise
        return await self.finish()

    def finish(self) -> Deferred[FileInfo]:
        """The file, when it is on disk and there for everybody. Unavailable: then nothing was kept.

        Whoever cancels this hears no more of it; what happens to the file stays the same.
        """
        if self._over:
            raise Unavailable("this file was ended already")
        self._over = True
        done: Deferred[FileInfo] = Deferred()
        Deferred.fromCoroutine(self._finish()).addBoth(self._leave, done)
        return done

    @deferred
    async def abort(self) -> None:
        """Forget it; nothing stays. After `finish` has begun this only waits for its end."""
        if not self._over:
            self._over = True
            self._waiting -= sum(map(len, self._chunks))
            self._chunks.clear()
            await self._below(0)
            await self._discard()
            self._store.writers.discard(self)
        elif self in self._store.writers:
            left: Deferred[None] = Deferred()
            self._leaving.append(left)
            await left

    async def _finish(self) -> FileInfo:
        try:
            await self._below(0)
            if self.problem is not None:
                raise self.problem
            md5, sha256 = await self._store.in_thread(self._draft.settle)
            info = await self._store.keep(self, self._draft.size, md5, sha256)
        except OSError as error:
            await self._discard()
            raise unavailable(error) from None
        except BaseException:
            await self._discard()
            raise
        return info

    def _below(self, mark: int) -> Deferred[None]:
        """Answers when no more than ``mark`` bytes wait."""
        reached: Deferred[None] = Deferred()
        self._listeners.append((mark, reached))
        self._tell()
        return reached

    def _tell(self) -> None:
        reached = [listener for listener in self._listeners if self._waiting <= listener[0]]
        self._listeners = [listener for listener in self._listeners if self._waiting > listener[0]]
        for _, listener in reached:
            listener.callback(None)

    async def _work(self) -> None:
        """Write what waits, all of it at a time, until nothing does."""
        while self._chunks:
            chunks, self._chunks = self._chunks, []
            if self.problem is None:
                await self._append(chunks)
            self._waiting -= sum(map(len, chunks))
            self._tell()
        self._working = False

    async def _append(self, chunks: list[bytes]) -> None:
        try:
            await self._store.in_thread(self._draft.append, chunks)
        except OSError as error:
            self.problem = unavailable(error)
        except BrokerError as error:
            self.problem = error
        except Exception:
            log.failure("fault while a file was written")
            self.problem = Unavailable("the file could not be written by a fault of the broker; the log has it")

    async def _discard(self) -> None:
        try:
            await self._store.in_thread(self._draft.discard)
        except (OSError, Unavailable) as error:
            log.warn("file {area}/{id}: {why}", area=self.area, id=self.id, why=str(error))

    def _leave(self, result: FileInfo | Failure, done: Deferred[FileInfo]) -> None:
        self._store.writers.discard(self)
        if isinstance(result, Failure):
            done.errback(result)
        else:
            done.callback(result)
        leaving, self._leaving = self._leaving, []
        for left in leaving:
            left.callback(None)


def check_name(name: str) -> None:
    """Raises Invalid for what cannot be the name of a file."""
    if not name.isprintable() or "/" in name or "\\" in name or name in (".", "..") or _ID.fullmatch(name):
        raise Invalid("a file's name is one segment of printable characters that does not look like a file's id")
    if len(name.encode("utf-8", "replace")) > MAX_NAME_BYTES:
        raise Invalid(f"a file's name has at most {MAX_NAME_BYTES} bytes")


def unavailable(error: OSError) -> Unavailable:
    """What a failure of the disk means, in one sentence."""
    if error.errno in (ENOSPC, EDQUOT):
        return Unavailable("the disk has no room for this file")
    return Unavailable(f"the file cannot be kept: {error.strerror or error}")
