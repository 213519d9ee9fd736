"""The two sessions of a SQLite storage: the one connection that writes, with group commit, and the one that only reads.

The writer's batch is one transaction::

    BEGIN IMMEDIATE
      SAVEPOINT op; ...; RELEASE op      one operation; if it fails, ROLLBACK TO op and only it has failed
      SELECT ...                         a look-up in between sees every operation before it
    COMMIT                               one fsync for all (WAL, synchronous=FULL), then all answers

No answer leaves before the COMMIT has returned. If BEGIN or COMMIT fails (locked, full, damaged), all writes of the
batch fail with Unavailable, nothing of them is kept, and look-ups are done again without them. An operation that takes
the whole transaction with it (a large one on a disk that is nearly full) fails, and the others are done once more
without it. Nothing is remembered of a failure: the next batch tries anew, so the storage recovers by itself when space
or the lock returns.

Exactly one connection writes and checkpoints; the reader is ``mode=ro`` with ``query_only`` and never checkpoints.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from broker.model.errors import BrokerError, Invalid, Unavailable
from broker.storage.lane import Job
from broker.storage.place import Place
from broker.storage.schema import migrate

#: SQLite's result codes (the low byte of an extended code), in words for an operator.
TROUBLES = {
    sqlite3.SQLITE_FULL: "the disk, or the database, is full",
    sqlite3.SQLITE_BUSY: "the database is locked by another program",
    sqlite3.SQLITE_LOCKED: "the database is locked by another program",
    sqlite3.SQLITE_CORRUPT: "the database file is damaged",
    sqlite3.SQLITE_NOTADB: "the file is not a SQLite database, or is damaged",
    sqlite3.SQLITE_IOERR: "the database cannot be read or written (input/output error)",
    sqlite3.SQLITE_READONLY: "the database cannot be written (read-only)",
    sqlite3.SQLITE_CANTOPEN: "the database file cannot be opened",
    sqlite3.SQLITE_NOMEM: "there is not enough memory for the database",
}
#: Operations of one batch that may fail together with their transaction before the others are given up, too.
MAX_CULPRITS = 3
#: Bytes of the write-ahead log that are kept on disk after a burst.
WAL_SIZE_LIMIT = 64 * 1024 * 1024
#: Page cache of each connection, in KiB.
CACHE_KIB = 16_384


def unavailable(error: sqlite3.Error) -> Unavailable:
    """What a failure of SQLite means, in one sentence."""
    code = getattr(error, "sqlite_errorcode", None)
    known = TROUBLES.get(code & 0xFF) if code is not None else None
    return Unavailable(known or f"the database failed: {error}")


class _Lost(Exception):
    """One operation's failure ended the whole transaction, as SQLite may do when the disk is full."""

    def __init__(self, culprit: Job) -> None:
        self.culprit = culprit
        error = culprit.error
        self.trouble = error if isinstance(error, Unavailable) else Unavailable("the transaction was lost")


class WriteSession:
    """The connection that writes. ``opened(connection)`` runs once after the schema is in place."""

    def __init__(
        self, place: Place, busy_timeout: float, opened: Callable[[sqlite3.Connection], None] = lambda _: None
    ) -> None:
        self._place = place
        self._busy_timeout = busy_timeout
        self._opened = opened
        self._connection: sqlite3.Connection | None = None
        #: When a transaction was last committed (`time.monotonic`), and whether something failed since health was
        #: last proven: written here, read by whoever asks for the health.
        self.proven_at = float("-inf")
        self.doubtful = False
        #: Transactions committed and failed, for the metrics.
        self.commits = 0
        self.failed_commits = 0

    def open(self) -> None:
        self._place.take()
        path = self._place.path
        try:
            self._connection = connection = sqlite3.connect(
                path, timeout=self._busy_timeout, isolation_level=None, cached_statements=256
            )
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute(f"PRAGMA journal_size_limit={WAL_SIZE_LIMIT}")
            connection.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
            connection.execute("PRAGMA temp_store=MEMORY")
            migrate(connection)
            self._opened(connection)
        except sqlite3.Error as error:
            raise Unavailable(f"cannot open the database {path}: {unavailable(error).message}") from None
        except Unavailable as error:
            raise Unavailable(f"cannot open the database {path}: {error.message}") from None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._place.release()

    def run(self, jobs: list[Job]) -> None:
        connection = self._connection
        assert connection is not None
        if any(job.writes for job in jobs):
            jobs = self._transact(connection, jobs)
        for job in jobs:
            if not job.writes:
                attempt(connection, job)

    def _transact(self, connection: sqlite3.Connection, jobs: list[Job]) -> list[Job]:
        """Carry out all jobs in one transaction; the jobs that are not done, if nothing was kept."""
        doing = jobs
        for _ in range(MAX_CULPRITS + 1):
            try:
                self._try_together(connection, doing)
                self.commits += 1
                self.proven_at = time.monotonic()
                return []
            except sqlite3.Error as error:
                trouble = unavailable(error)
                self._undo(connection)
                break
            except _Lost as lost:
                trouble = lost.trouble
                doing = [job for job in doing if job is not lost.culprit]
                self._undo(connection)
        self.failed_commits += 1
        self.doubtful = True
        for job in doing:
            job.error = trouble if job.writes else None
        return doing

    def _try_together(self, connection: sqlite3.Connection, jobs: list[Job]) -> None:
        """Raises sqlite3.Error, or _Lost where one of the jobs is to blame, when none of the writes is kept."""
        connection.execute("BEGIN IMMEDIATE")
        for job in jobs:
            job.error = None
            if not job.writes:
                attempt(connection, job)
                continue
            connection.execute("SAVEPOINT op")
            attempt(connection, job)
            if job.error is not None:
                self.doubtful = self.doubtful or isinstance(job.error, Unavailable)
                if not connection.in_transaction:
                    raise _Lost(job)
                connection.execute("ROLLBACK TO op")
            connection.execute("RELEASE op")
        connection.execute("COMMIT")

    def _undo(self, connection: sqlite3.Connection) -> None:
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            # Nothing can be done here that SQLite does not do itself: the next BEGIN tells, and is answered.
            return


class ReadSession:
    """A second connection for what may take long. Each job sees everything that was committed when it began."""

    def __init__(self, path: Path, busy_timeout: float) -> None:
        self._path = path
        self._busy_timeout = busy_timeout
        self._connection: sqlite3.Connection | None = None

    def open(self) -> None:
        uri = f"{self._path.absolute().as_uri()}?mode=ro"
        try:
            self._connection = connection = sqlite3.connect(
                uri, uri=True, timeout=self._busy_timeout, isolation_level=None
            )
            connection.execute("PRAGMA query_only=1")
            connection.execute("PRAGMA wal_autocheckpoint=0")
            connection.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
        except sqlite3.Error as error:
            raise Unavailable(f"cannot read the database {self._path}: {unavailable(error).message}") from None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def run(self, jobs: list[Job]) -> None:
        connection = self._connection
        assert connection is not None
        for job in jobs:
            attempt(connection, job)


def attempt(connection: sqlite3.Connection, job: Job) -> None:
    """Do one job and keep its result or its error in it."""
    try:
        job.result = job.work(connection)
    except BrokerError as error:
        job.error = error
    except sqlite3.Error as error:
        job.error = unavailable(error)
    except UnicodeEncodeError:
        job.error = Invalid("a name holds half of a surrogate pair, which is not text")
    except Exception as error:  # a fault of ours: the lane logs it when it answers
        job.error = error
