"""The data folder: made at the first start, locked for one process, and the administrator's token in it.

::

    <data_dir>/             0700
        broker.lock         held while a broker runs; the number in it is that broker's process
        admin.token         0600, made when the configuration names no token
        broker.sqlite ...   (`broker.storage`)
        files/              (`broker.storage.file_folder`)
        tls/                (`broker.tls`)
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from broker.model.secrets import make_secret

TOKEN_FILE = "admin.token"  # nosec B105 # no password
LOCK_FILE = "broker.lock"


class DataDirError(Exception):
    """The folder cannot be used; the text is one line."""


class DataDir:
    """An open, locked data folder; without ``lock``, one that our parent has locked. Raises DataDirError."""

    def __init__(self, path: Path, lock: bool = True) -> None:
        self.path = path.absolute()
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(self.path / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._refusal("cannot be used", error) from None
        if not lock:
            return
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = os.read(self._lock, 20).decode("ascii", "replace").strip() or "unknown"
            os.close(self._lock)
            raise DataDirError(f"the data folder {self.path} is in use by another broker, process {owner}") from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        """Let another process have the folder."""
        os.close(self._lock)

    def admin_token(self) -> tuple[str, Path]:
        """The kept token and its file; both are made at the first call ever. Raises DataDirError."""
        file = self.path / TOKEN_FILE
        try:
            kept = file.read_text("utf-8").strip() if file.exists() else ""
            if kept:
                return kept, file
            file.unlink(missing_ok=True)
            token = make_secret()
            with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as opened:
                opened.write(token + "\n")
        except (OSError, UnicodeDecodeError) as error:
            raise self._refusal(f"{TOKEN_FILE} cannot be used", error) from None
        return token, file

    def _refusal(self, what: str, error: Exception) -> DataDirError:
        return DataDirError(f"the data folder {self.path}: {what}: {getattr(error, 'strerror', None) or error}")


def exposed(*paths: Path) -> list[tuple[Path, int]]:
    """Those of these files and folders that others than their owner may read or change, with their modes.

    Whoever may enter a folder, but neither list nor change it, sees nothing that does not say so itself.
    """
    found = []
    for path in paths:
        try:
            mode = path.stat().st_mode & 0o777
        except OSError:
            continue  # it is not there yet, or whoever needs it will say what is wrong with it
        if mode & (0o066 if path.is_dir() else 0o077):
            found.append((path, mode))
    return found
