"""Backups of a data folder that is in use: whole, of one moment, and something that a broker starts from."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import patch

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from broker.model.errors import Conflict, Unavailable
from broker.storage import backup
from broker.storage.backup import back_up
from broker.storage.schema import APPLICATION_ID
from tests.real import PATIENCE, RealBroker


def nobody(what: str, done: int, total: int) -> None:
    """Who hears how far it is."""


class BackupCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.data = self.folder / "var"
        (self.data / "files" / "firmware").mkdir(parents=True)
        (self.data / "files" / "firmware" / "1").write_bytes(b"image")
        (self.data / "admin.token").write_text("secret\n")
        (self.data / "admin.token").chmod(0o600)
        (self.data / "broker.lock").write_text("1\n")
        self.database = self.data / "broker.sqlite"
        with closing(sqlite3.connect(self.database, isolation_level=None)) as db:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            db.execute("CREATE TABLE one (n INTEGER, text TEXT)")
            db.execute("CREATE TABLE other (n INTEGER, text TEXT)")
            db.execute("PRAGMA synchronous=OFF")
            db.execute("BEGIN")
            rows = [(number, "x" * 200) for number in range(2_000)]
            db.executemany("INSERT INTO one VALUES (?, ?)", rows)
            db.executemany("INSERT INTO other VALUES (?, ?)", rows)
            db.execute("COMMIT")
        self.target = self.folder / "monday"

    def counts(self, path: Path) -> tuple[int, int]:
        with closing(sqlite3.connect(path)) as db:
            (one,) = db.execute("SELECT count(*) FROM one").fetchone()
            (other,) = db.execute("SELECT count(*) FROM other").fetchone()
            return one, other


class BackupTests(BackupCase):
    def test_what_is_in_it(self) -> None:
        size = back_up(self.data, self.database, self.target, nobody)
        found = sorted(path.relative_to(self.target).as_posix() for path in self.target.rglob("*") if path.is_file())
        self.assertEqual(found, ["admin.token", "broker.sqlite", "files/firmware/1", "whole"])
        self.assertEqual((self.target / "files/firmware/1").read_bytes(), b"image")
        self.assertEqual(self.counts(self.target / "broker.sqlite"), (2_000, 2_000))
        self.assertGreater(size, 800_000)

    def test_for_its_owner_alone(self) -> None:
        back_up(self.data, self.database, self.target, nobody)
        modes = {
            name: stat.S_IMODE(os.stat(self.target / name).st_mode) for name in ("", "broker.sqlite", "admin.token")
        }
        self.assertEqual(modes, {"": 0o700, "broker.sqlite": 0o600, "admin.token": 0o600})

    def test_of_one_moment(self) -> None:
        """While somebody writes both tables in each transaction, no copy has one without the other."""
        stop, wrote = threading.Event(), threading.Event()

        def write() -> None:
            with closing(sqlite3.connect(self.database, isolation_level=None, timeout=PATIENCE)) as db:
                db.execute("PRAGMA synchronous=OFF")
                number = 10_000
                while not stop.is_set():
                    db.execute("BEGIN IMMEDIATE")
                    db.execute("INSERT INTO one VALUES (?, ?)", (number, "y" * 200))
                    db.execute("INSERT INTO other VALUES (?, ?)", (number, "y" * 200))
                    db.execute("COMMIT")
                    number += 1
                    wrote.set()

        def told(what: str, done: int, total: int) -> None:
            """Between any two steps something is written."""
            if what == "pages" and done < total:
                wrote.clear()
                assert wrote.wait(PATIENCE)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            assert wrote.wait(PATIENCE)
            with patch.object(backup, "STEP", 40):
                back_up(self.data, self.database, self.target, told)
        finally:
            stop.set()
            writer.join()
        one, other = self.counts(self.target / "broker.sqlite")
        self.assertEqual(one, other)
        self.assertGreater(one, 2_000)
        self.assertGreater(self.counts(self.database)[0], one)

    def test_a_database_elsewhere(self) -> None:
        """It has the usual name in the backup, and a stray file of that name in the folder is not taken for it."""
        elsewhere = self.folder / "big.db"
        self.database.rename(elsewhere)
        self.database.write_text("stray")
        back_up(self.data, elsewhere, self.target, nobody)
        self.assertEqual(self.counts(self.target / "broker.sqlite"), (2_000, 2_000))

    def test_without_a_database(self) -> None:
        back_up(self.data, None, self.target, nobody)
        self.assertFalse((self.target / "broker.sqlite").exists())
        self.assertTrue((self.target / "whole").exists())

    def test_a_file_that_goes_meanwhile(self) -> None:
        gone = self.data / "files" / "firmware" / "2"
        gone.symlink_to(self.folder / "nowhere")
        back_up(self.data, self.database, self.target, nobody)
        self.assertFalse((self.target / "files/firmware/2").exists())
        self.assertTrue((self.target / "whole").exists())


class RefusalTests(BackupCase):
    def refused(self, kind: type[Exception], data: Path, database: Path | None) -> str:
        error: Any = self.assertRaises(kind, back_up, data, database, self.target, nobody)
        self.assertFalse((self.target / "whole").exists())
        return str(error)

    def test_a_target_that_is_there(self) -> None:
        self.target.mkdir()
        self.assertIn("is there already", self.refused(Conflict, self.data, self.database))
        self.assertEqual(list(self.target.iterdir()), [])

    def test_no_data_folder(self) -> None:
        self.assertIn("there is no data folder", self.refused(Unavailable, self.folder / "nothing", self.database))
        self.assertFalse(self.target.exists())

    def test_no_database(self) -> None:
        self.assertIn("there is no database", self.refused(Unavailable, self.data, self.folder / "no.sqlite"))

    def test_somebody_elses_database(self) -> None:
        with closing(sqlite3.connect(self.database)) as db:
            db.execute("PRAGMA application_id = 7")
        self.assertIn("is not a broker's database", self.refused(Unavailable, self.data, self.database))

    def test_no_database_at_all(self) -> None:
        self.database.write_bytes(b"garbage " * 1_000)
        self.assertIn("cannot be copied", self.refused(Unavailable, self.data, self.database))

    def test_a_place_that_cannot_be_made(self) -> None:
        (self.folder / "file").write_text("")
        self.target = self.folder / "file" / "monday"
        self.assertIn("cannot be made", self.refused(Unavailable, self.data, self.database))


class RealBackupTests(TestCase):
    timeout = 120

    def test_a_broker_starts_from_it(self) -> Deferred[None]:
        return deferToThread(self.copied_and_started)

    def copied_and_started(self) -> None:
        folder = Path(self.mktemp()).absolute()
        folder.mkdir(parents=True)
        broker = RealBroker(folder, {"storage.url": "sqlite:"})
        self.addCleanup(broker.kill)
        broker.start()
        ids = [broker.made("/devices", {"protocol": "novacloud"})["id"] for _ in range(5)]
        status, _ = broker.call("PUT", "/files/relay.bin", b"image")
        self.assertEqual(status, 201)
        copied = folder / "monday"
        done = subprocess.run(
            [sys.executable, "-m", "broker.storage", "backup", str(copied)],
            cwd=folder,
            env={**os.environ, "BROKER__BROKER__DATA_DIR": str(broker.data_dir)},
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual((done.returncode, done.stderr.count("Traceback")), (0, 0), done.stderr)
        self.assertIn(f"copied to {copied}", done.stdout)
        token = broker.admin_token
        broker.made("/devices", {"protocol": "novacloud"})
        self.assertEqual(broker.stop(), 0)

        again = RealBroker(folder, {"storage.url": "sqlite:", "broker.data_dir": f'"{copied}"'})
        again.data_dir = copied
        self.addCleanup(again.kill)
        again.start()
        self.assertEqual(again.admin_token, token)
        found = again.call("GET", "/devices")[1]["items"]
        self.assertEqual(sorted(one["id"] for one in found), sorted(ids))
        self.assertEqual(again.call("GET", "/files/relay.bin")[1]["size"], 5)
        self.assertEqual(again.stop(), 0)
