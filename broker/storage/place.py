"""Where a SQLite database lives: its files and their modes, and the lock that keeps a second broker out.

Beside the database lie SQLite's own ``-wal`` and ``-shm``, which take over its mode, and ``<database>.lock``, held with
flock(2) as long as the storage is open: two processes that write and checkpoint one WAL at the same instant can damage
it (SQLite before 3.51.3), and two brokers would overrule each other's presence in any case.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from broker.model.errors import Unavailable


class Place:
    """The files of one database. All methods block; they are called in the writer's thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    def take(self) -> None:
        """Make the directory (0700) and the file (0600) if they are missing, and lock. Raises Unavailable."""
        self.hold()
        try:
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            for path in (self.path, *(Path(f"{self.path}{end}") for end in ("-wal", "-shm"))):
                if path.exists():
                    path.chmod(0o600)
        except OSError as error:
            self.release()
            raise Unavailable(f"cannot use the database {self.path}: {error.strerror or error}") from None

    def hold(self) -> None:
        """Only make the directory, and lock: the database may not be there yet. Raises Unavailable."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._take_lock()
        except OSError as error:
            raise Unavailable(f"cannot use the database {self.path}: {error.strerror or error}") from None

    def release(self) -> None:
        """Let another broker in; harmless when nothing is held. The lock file stays: removing it would be a race."""
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    def _take_lock(self) -> None:
        lock = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(lock, 32).decode("ascii", "replace").strip()
            os.close(lock)
            whose = f" (process {holder})" if holder else ""
            raise Unavailable(f"another broker{whose} is using the database {self.path}") from None
        except OSError:
            os.close(lock)
            raise
        self._lock = lock
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
