"""The folder of the files that `broker.storage.files` keeps: what blocks, for its threads.

::

    <data_dir>/files/                  0700
        .doubtful/<area>.<id>@<owner>  empty: whether that file belongs to a record has to be looked at
        .folder                        which folder this is, where several processes should have the same one
        <area>/<id>                    0600, the content

A file is there when a record names it, so nothing here is renamed: the commit of the record is what makes a file
appear, whole, or disappear. Whatever may be left over by a crash (a file before its record, one whose record goes) is
marked as doubtful first, and `FileStore` looks at the marks when it opens. So a start costs nothing for the files that
nobody touched, and none is ever removed merely because a database does not know it. Several processes may share the
folder: each looks at its own marks, and at those of others that are so old that nobody can be writing any more.

Everything here raises OSError.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from errno import ENOSPC
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

DOUBTFUL = ".doubtful"
FOLDER = ".folder"
#: Seconds without a change after which what another process has begun is left over: nothing is written so slowly.
STALE = 86_400.0


class FileFolder:
    """``reserve``: bytes of the disk that files leave free, for the database. ``owner``: the name of this process."""

    def __init__(self, path: Path, reserve: int, owner: str = "") -> None:
        self.path = path
        self.reserve = reserve
        self._owner = quote(owner, safe="")[:100]

    def path_of(self, area: str, id: str) -> Path:
        return self.path / area / id

    def make(self) -> None:
        """The folder itself, if it is missing."""
        (self.path / DOUBTFUL).mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.chmod(0o700)

    def doubtful(self) -> list[tuple[str, str]]:
        """(area, id) of what a crash may have left over."""
        found = []
        for name in os.listdir(self.path / DOUBTFUL):
            what, _, owner = name.partition("@")
            area, _, id = what.partition(".")
            if id and (owner in ("", self._owner) or self._is_stale(area, id, name)):
                found.append((area, id))
        return found

    def _is_stale(self, area: str, id: str, mark: str) -> bool:
        newest = 0.0
        for path in (self.path / DOUBTFUL / mark, self.path_of(area, id)):
            with suppress(FileNotFoundError):
                newest = max(newest, path.stat().st_mtime)
        return newest < time.time() - STALE

    def doubt(self, area: str, id: str) -> None:
        self._mark(area, id).touch(mode=0o600)

    def trust(self, area: str, id: str) -> None:
        """Whosever mark it is: nobody else is at this file."""
        for mark in (self.path / DOUBTFUL).glob(f"{area}.{id}*"):
            mark.unlink(missing_ok=True)

    def erase(self, area: str, id: str) -> None:
        """The content and the mark."""
        self.path_of(area, id).unlink(missing_ok=True)
        self.trust(area, id)

    def name(self, fresh: str) -> str:
        """Which folder this is: ``fresh``, if nobody has said it before."""
        path = self.path / FOLDER
        try:
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
                file.write(fresh.encode())
            return fresh
        except FileExistsError:
            return path.read_text("ascii", "replace").strip()

    def check_room(self) -> None:
        """ENOSPC when the disk has no more free than what is reserved."""
        disk = os.statvfs(self.path)
        if disk.f_bavail * disk.f_frsize <= self.reserve:
            raise OSError(ENOSPC, os.strerror(ENOSPC))

    def _mark(self, area: str, id: str) -> Path:
        return self.path / DOUBTFUL / (f"{area}.{id}@{self._owner}" if self._owner else f"{area}.{id}")


class Draft:
    """The content of one file while it grows. One call at a time, from any thread."""

    def __init__(self, folder: FileFolder, area: str, id: str) -> None:
        self.size = 0
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._sha256 = hashlib.sha256()
        self._folder = folder
        self._area = area
        self._id = id
        self._file: BinaryIO | None = None

    def append(self, chunks: Sequence[bytes]) -> None:
        self._folder.check_room()
        file = self._open()
        for chunk in chunks:
            file.write(chunk)
            self._md5.update(chunk)
            self._sha256.update(chunk)
            self.size += len(chunk)
        # Now, so that a full disk is noticed while the sender can still be told.
        file.flush()

    def settle(self) -> tuple[str, str]:
        """Everything is on disk when this returns: (md5, sha256), in hex."""
        file = self._open()
        file.flush()
        os.fsync(file.fileno())
        file.close()
        self._sync_area()
        return self._md5.hexdigest(), self._sha256.hexdigest()

    def discard(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            # What a full disk did not take is written again by `close`, which fails again.
            with suppress(OSError):
                file.close()
        self._folder.erase(self._area, self._id)

    def _open(self) -> BinaryIO:
        if self._file is None:
            self._folder.doubt(self._area, self._id)
            path = self._folder.path_of(self._area, self._id)
            path.parent.mkdir(mode=0o700, exist_ok=True)
            self._file = create(path)
        return self._file

    def _sync_area(self) -> None:
        for path in (self._folder.path / self._area, self._folder.path):
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def create(path: Path) -> BinaryIO:
    """A new file, to be written."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")
