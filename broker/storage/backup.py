"""A copy of the data folder, made while the broker runs: ``python -m broker.storage backup``.

::

    TARGET/                 0700, made here
        broker.sqlite       the database, as of one moment
        files/ tls/ ...     what else lies in the data folder
        whole               when and from where; the last thing that is written

The database comes first, then the files: a file is there before its record and goes after it, so all that the copied
records name is copied as well, but for what is removed meanwhile. SQLite's backup reads one snapshot through a
connection that may only read (`mode=ro`), so the broker stays the only one that writes and checkpoints. Until it is
done, the write-ahead log grows.

Blocks; nothing of the broker's is changed. A target that has no ``whole`` is one that was broken off.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import quote

from broker.model.errors import Conflict, Unavailable
from broker.storage.schema import APPLICATION_ID

DATABASE: Final = "broker.sqlite"
WHOLE: Final = "whole"
#: Of the running process, or SQLite's own beside the database.
LEFT_OUT: Final = ("broker.lock", "*.sock")
#: Pages of the database between two words about how far it is.
STEP: Final = 4_096
#: Seconds for which SQLite waits where it cannot read at once.
PATIENCE: Final = 10.0


def back_up(data_dir: Path, database: Path | None, target: Path, told: Callable[[str, int, int], object]) -> int:
    """Copy both to ``target``, which must not be there; the bytes that were copied.

    ``database``: None where it is not SQLite's. ``told(what, done, total)`` hears how far it is. Raises Conflict for a
    target that is there, Unavailable for what cannot be read or written.
    """
    if not data_dir.is_dir():
        raise Unavailable(f"there is no data folder {data_dir}")
    try:
        target.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        raise Conflict(f"{target} is there already: a backup makes its own folder") from None
    except OSError as error:
        raise Unavailable(f"{target} cannot be made: {error.strerror}") from None
    try:
        if database is not None:
            _copy_database(database, target / DATABASE, told)
        _copy_files(data_dir, target, database, told)
        size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
        when = datetime.now(UTC).isoformat(timespec="seconds")
        _write(target / WHOLE, f"{when} {data_dir.absolute()}\n")
        _sync(target)
    except OSError as error:
        raise Unavailable(f"{target}: {error.strerror or error}") from None
    return size


def _copy_database(source: Path, copy: Path, told: Callable[[str, int, int], object]) -> None:
    if not source.is_file():
        raise Unavailable(f"there is no database {source}")
    os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        reading = sqlite3.connect(
            f"file:{quote(str(source.absolute()))}?mode=ro", uri=True, timeout=PATIENCE, isolation_level=None
        )
        try:
            (mark,) = reading.execute("PRAGMA application_id").fetchone()
            if mark != APPLICATION_ID:
                raise Unavailable(f"{source} is not a broker's database")
            _copy_pages(reading, copy, told)
        finally:
            reading.close()
    except sqlite3.Error as error:
        raise Unavailable(f"the database {source} cannot be copied: {error}") from None


def _copy_pages(reading: sqlite3.Connection, copy: Path, told: Callable[[str, int, int], object]) -> None:
    writing = sqlite3.connect(copy, isolation_level=None)
    try:
        # One snapshot for all steps: without it, each change of the broker's would begin the copy anew.
        reading.execute("BEGIN")
        reading.execute("SELECT count(*) FROM sqlite_master").fetchone()
        reading.backup(writing, pages=STEP, progress=lambda _, left, total: told("pages", total - left, total))
        reading.execute("COMMIT")
        # One file, without a log beside it, until a broker opens it.
        writing.execute("PRAGMA journal_mode=DELETE")
        (verdict,) = writing.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise Unavailable(f"the copy is damaged: {verdict}")
    finally:
        writing.close()
    descriptor = os.open(copy, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _copy_files(data_dir: Path, target: Path, database: Path | None, told: Callable[[str, int, int], object]) -> None:
    """Everything but the database, which may lie elsewhere or have another name."""
    own = [DATABASE] if database is None else [DATABASE, database.name]
    ignored = shutil.ignore_patterns(*LEFT_OUT, *(f"{name}*" for name in own), WHOLE)
    paths = [path for path in sorted(data_dir.iterdir()) if path.name not in ignored(str(data_dir), [path.name])]
    for number, path in enumerate(paths):
        told("files", number, len(paths))
        if path.is_dir():
            shutil.copytree(path, target / path.name, copy_function=_copy_file)
        else:
            _copy_file(str(path), str(target / path.name))
    told("files", len(paths), len(paths))


def _copy_file(source: str, copy: str) -> str:
    """Content, mode and times. One that is removed meanwhile is none of the backup's."""
    try:
        shutil.copy2(source, copy)
    except FileNotFoundError:
        if os.path.exists(source):
            raise
    return copy


def _write(path: Path, text: str) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as opened:
        opened.write(text)
        opened.flush()
        os.fsync(opened.fileno())


def _sync(folder: Path) -> None:
    """Have the names in the folder on disk, too."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
