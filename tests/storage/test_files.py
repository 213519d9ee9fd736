"""Files: whole or not at all, whatever happens in between. Real threads, real files, SQLite."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import threading
import time
from errno import EIO
from pathlib import Path
from typing import Any, BinaryIO

from twisted.internet import reactor as reactor_module
from twisted.internet.defer import CancelledError, Deferred, DeferredList, gatherResults
from twisted.internet.error import ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from broker.model.errors import Invalid, NotFound, Unavailable
from broker.storage import file_folder, files
from broker.storage.file_folder import DOUBTFUL
from broker.storage.files import FileInfo, FileStore
from broker.storage.sqlite import SqliteStorage

reactor: Any = reactor_module
ROOT = Path(__file__).resolve().parents[2]


class FilesCase(TestCase):
    timeout = 60

    def setUp(self) -> Any:
        self.place = Path(self.mktemp())
        self.folder = self.place / "files"
        return Deferred.fromCoroutine(self.start())

    def tearDown(self) -> Any:
        return Deferred.fromCoroutine(self.stop())

    async def start(self, **settings: Any) -> None:
        self.storage = SqliteStorage(self.place / "broker.sqlite", reactor, lambda: 77.5)
        await self.storage.open()
        self.files = FileStore(self.storage, self.folder, reactor, lambda: 77.5, **settings)
        await self.files.open()

    async def stop(self) -> None:
        await self.files.close()
        await self.storage.close()

    async def put(self, name: str, *chunks: bytes, area: str = "firmware", **meta: Any) -> FileInfo:
        writer = self.files.create(area, name, meta)
        for chunk in chunks:
            writer.write(chunk)
        return await writer.finish()

    def content(self, info: FileInfo) -> bytes:
        return self.files.path(info).read_bytes()

    def on_disk(self) -> list[str]:
        """Every file below the folder, marks as well."""
        return sorted(
            str(Path(folder, name).relative_to(self.folder))
            for folder, _, names in os.walk(self.folder)
            for name in names
        )

    async def unavailable(self, answer: Any) -> str:
        with self.assertRaises(Unavailable) as caught:
            await answer
        return str(caught.exception.message)


class WholeFileTests(FilesCase):
    async def test_there_and_back(self) -> None:
        data = os.urandom(700_000)
        chunks = [data[start : start + 65_536] for start in range(0, len(data), 65_536)]
        info = await self.put("relay 2.1 固件.bin", *chunks, version="2.1", models=["a", "b"])
        self.assertEqual(
            info,
            FileInfo(
                area="firmware",
                id=info.id,
                name="relay 2.1 固件.bin",
                size=len(data),
                md5=hashlib.md5(data, usedforsecurity=False).hexdigest(),
                sha256=hashlib.sha256(data).hexdigest(),
                created_at=77.5,
                meta={"version": "2.1", "models": ["a", "b"]},
            ),
        )
        self.assertEqual(self.content(info), data)
        await self.stop()
        await self.start()
        self.assertEqual(await self.files.get("firmware", info.name), info)
        self.assertEqual(await self.files.get("firmware", info.id), info)
        self.assertEqual(self.content(info), data)
        self.assertEqual(self.on_disk(), [f"firmware/{info.id}"])

    async def test_an_empty_one(self) -> None:
        info = await self.put("empty", b"")
        self.assertEqual((info.size, info.md5, self.content(info)), (0, "d41d8cd98f00b204e9800998ecf8427e", b""))

    async def test_without_a_name(self) -> None:
        info = await self.put("", b"x")
        self.assertEqual(info.name, info.id)
        self.assertEqual(await self.files.get("firmware", info.id), info)

    async def test_modes(self) -> None:
        info = await self.put("f", b"x")
        self.assertEqual(stat.S_IMODE(self.files.path(info).stat().st_mode), 0o600)
        for folder in (self.folder, self.folder / "firmware", self.folder / DOUBTFUL):
            self.assertEqual(stat.S_IMODE(folder.stat().st_mode), 0o700)

    async def test_nobody_sees_it_before_its_end(self) -> None:
        writer = self.files.create("firmware", "f")
        writer.write(b"x" * 300_000)
        await writer.drained()
        self.assertIsNone(await self.files.get("firmware", "f"))
        self.assertIsNone(await self.files.get("firmware", writer.id))
        self.assertEqual(await self.files.list("firmware"), [])
        info = await writer.finish()
        self.assertEqual(await self.files.list("firmware"), [info])
        with self.assertRaises(Unavailable):
            await writer.finish()

    async def test_one_takes_the_place_of_another(self) -> None:
        old = await self.put("f", b"old")
        with self.files.path(old).open("rb") as reading:
            new = await self.put("f", b"newer")
            self.assertEqual(reading.read(), b"old")
        self.assertNotEqual(old.id, new.id)
        self.assertEqual(await self.files.get("firmware", "f"), new)
        self.assertIsNone(await self.files.get("firmware", old.id))
        self.assertEqual(self.on_disk(), [f"firmware/{new.id}"])
        with self.assertRaises(NotFound):
            await self.files.remove(old)
        self.assertEqual(self.content(new), b"newer")

    async def test_many_of_one_name_at_once(self) -> None:
        infos = await gatherResults([Deferred.fromCoroutine(self.put("f", b"%d" % n)) for n in range(12)])
        kept = await self.files.get("firmware", "f")
        assert kept is not None
        self.assertIn(kept, infos)
        self.assertEqual(self.content(kept), b"%d" % infos.index(kept))
        await self.stop()
        await self.start()
        self.assertEqual(self.on_disk(), [f"firmware/{kept.id}"])

    async def test_remove(self) -> None:
        info = await self.put("f", b"x")
        other = await self.put("g", b"y")
        removing = await DeferredList([self.files.remove(info), self.files.remove(info)], consumeErrors=True)
        self.assertEqual(sorted(success for success, _ in removing), [False, True])
        for key in ("f", info.id):
            self.assertIsNone(await self.files.get("firmware", key))
        self.assertEqual(self.on_disk(), [f"firmware/{other.id}"])

    async def test_removed_by_another_before_it_was_marked(self) -> None:
        """Whoever comes second leaves no mark behind."""
        info = await self.put("f", b"x")
        real = self.storage.write_records
        second: list[Deferred[None]] = []

        def write_records(changes: Any) -> Deferred[None]:
            self.patch(self.storage, "write_records", real)
            first = self.files.remove(info)
            second.append(first)
            return first.addCallback(lambda _: self.files._doubt(info)).addCallback(lambda _: real(changes))

        self.patch(self.storage, "write_records", write_records)
        with self.assertRaises(NotFound):
            await self.files.remove(info)
        await second[0]
        self.assertEqual(self.on_disk(), [])

    async def test_lists(self) -> None:
        for name in ("b2", "a", "b1", "c"):
            await self.put(name, b"")
        await self.put("b9", b"", area="firmware-old")

        async def names(*given: Any, **more: Any) -> list[str]:
            return [info.name for info in await self.files.list(*given, **more)]

        self.assertEqual(await names("firmware"), ["a", "b1", "b2", "c"])
        self.assertEqual(await names("firmware", "b"), ["b1", "b2"])
        self.assertEqual(await names("firmware", limit=2, after="a"), ["b1", "b2"])
        self.assertEqual(await names("firmware-old"), ["b9"])
        self.assertEqual(await names("backups"), [])

    async def test_names(self) -> None:
        wrong = ("/", "a/b", "..", ".", "a\\b", "a\n", "\0", "\ud800", "file-" + "0" * 32, "x" * 256, "温" * 86)
        for name in wrong:
            with self.assertRaises(Invalid):
                self.files.create("firmware", name)
        for area in ("", "A", "a/b", "..", ".doubtful", "a.b", "x" * 33):
            with self.assertRaises(Invalid):
                self.files.create(area, "f")
        for name in ("x" * 255, "-", "~", "...", "file-0", "../x".replace("/", "_")):
            self.assertEqual((await self.put(name, b"x")).name, name)


class FlowTests(FilesCase):
    def held(self) -> threading.Event:
        """Files are made only once this is set."""
        may_go_on = threading.Event()
        self.addCleanup(may_go_on.set)
        real = file_folder.create

        def create(path: Path) -> BinaryIO:
            may_go_on.wait(30)
            return real(path)

        self.patch(file_folder, "create", create)
        return may_go_on

    async def test_pausing(self) -> None:
        may_go_on = self.held()
        writer = self.files.create("firmware", "f")
        self.assertFalse(writer.paused)
        self.assertTrue(writer.drained().called)
        writer.write(b"x" * (files.HIGH_WATER - 1))
        self.assertFalse(writer.paused)
        writer.write(b"y")
        self.assertTrue(writer.paused)
        drained = writer.drained()
        self.assertFalse(drained.called)
        may_go_on.set()
        await drained
        self.assertFalse(writer.paused)
        writer.write(b"z")
        info = await writer.finish()
        self.assertEqual(self.content(info), b"x" * (files.HIGH_WATER - 1) + b"yz")

    async def test_writing_again_from_drained(self) -> None:
        """What is written while the answer is given waits its turn: never two jobs of one file at once."""
        writer = self.files.create("firmware", "f")
        expected = b""
        for n in range(20):
            chunk = bytes([n]) * files.HIGH_WATER
            writer.write(chunk)
            writer.write(b"-")
            expected += chunk + b"-"
            await writer.drained()
        info = await writer.finish()
        self.assertEqual(info.sha256, hashlib.sha256(expected).hexdigest())
        self.assertEqual(self.content(info), expected)

    async def test_abort(self) -> None:
        for chunks in ((), (b"x" * 400_000,), (b"x",) * 5):
            writer = self.files.create("firmware", "f")
            for chunk in chunks:
                writer.write(chunk)
            await writer.abort()
            await writer.abort()
            writer.write(b"later")
            self.assertEqual(self.on_disk(), [])
            await self.unavailable_after_end(writer)
        self.assertEqual(self.files.writers, set())

    async def unavailable_after_end(self, writer: Any) -> None:
        with self.assertRaises(Unavailable):
            await writer.finish()

    async def test_abort_while_it_is_written(self) -> None:
        may_go_on = self.held()
        writer = self.files.create("firmware", "f")
        writer.write(b"x")
        writer.write(b"y" * files.HIGH_WATER)
        drained = writer.drained()
        aborting = writer.abort()
        self.assertFalse(aborting.called)
        may_go_on.set()
        await aborting
        await drained
        self.assertEqual(self.on_disk(), [])

    async def test_close_waits_for_what_is_being_finished_and_forgets_the_rest(self) -> None:
        finishing, growing = self.files.create("firmware", "f"), self.files.create("firmware", "g")
        finishing.write(b"x" * 200_000)
        growing.write(b"y")
        finished = finishing.finish()
        await self.files.close()
        self.assertTrue(finished.called)
        info = await finished
        self.assertEqual(self.on_disk(), [f"firmware/{info.id}"])
        await self.unavailable_after_end(growing)
        with self.assertRaises(Unavailable):
            self.files.create("firmware", "h")
        self.assertFalse([one.name for one in threading.enumerate() if "files" in one.name])

    async def test_whoever_cancels_changes_nothing(self) -> None:
        writer = self.files.create("firmware", "f")
        writer.write(b"x")
        finishing = writer.finish()
        finishing.cancel()
        with self.assertRaises(CancelledError):
            await finishing
        await writer.abort()
        info = await self.files.get("firmware", "f")
        assert info is not None
        self.assertEqual(self.content(info), b"x")

    async def test_too_many_at_once(self) -> None:
        self.patch(files, "MAX_WRITERS", 2)
        one = self.files.create("firmware", "f")
        self.files.create("firmware", "g")
        with self.assertRaises(Unavailable):
            self.files.create("firmware", "h")
        await one.abort()
        self.files.create("firmware", "h")

    async def test_taking_it_from_a_source(self) -> None:
        class Source:
            def __init__(self, error: Exception | None) -> None:
                self.error = error

            async def into(self, sink: Any) -> int:
                sink.write(b"x" * 300_000)
                await sink.drained()
                if self.error is not None:
                    raise self.error
                return 300_000

        with self.assertRaises(Invalid):
            await self.files.create("firmware", "f").take(Source(Invalid("gone")))
        self.assertEqual((self.on_disk(), self.files.writers), ([], set()))
        info = await self.files.create("firmware", "f").take(Source(None))
        self.assertEqual((info.size, self.on_disk()), (300_000, [f"firmware/{info.id}"]))


class TroubleTests(FilesCase):
    async def test_full_disk(self) -> None:
        """The kernel says it, of a device that is always full."""
        old = await self.put("f", b"old")
        real = file_folder.create

        def full(path: Path) -> BinaryIO:
            real(path).close()
            return open("/dev/full", "wb")

        self.patch(file_folder, "create", full)
        writer = self.files.create("firmware", "f")
        writer.write(b"x" * 300_000)
        await writer.drained()
        assert writer.problem is not None
        self.assertEqual(writer.problem.message, "the disk has no room for this file")
        self.assertFalse(writer.paused)
        with self.assertRaises(Unavailable):
            writer.write(b"more")
        self.assertEqual(await self.unavailable(writer.finish()), writer.problem.message)
        self.assertEqual(self.on_disk(), [f"firmware/{old.id}"])
        self.assertEqual(await self.files.get("firmware", "f"), old)
        self.patch(file_folder, "create", real)
        self.assertEqual(self.content(await self.put("f", b"new")), b"new")

    async def test_room_is_left_for_the_database(self) -> None:
        await self.stop()
        await self.start(reserve=1 << 62)
        self.assertEqual(await self.unavailable(self.put("f", b"x")), "the disk has no room for this file")
        self.assertEqual(self.on_disk(), [])

    async def test_the_disk_fails_at_the_end(self) -> None:
        def fail(descriptor: int) -> None:
            raise OSError(EIO, os.strerror(EIO))

        patch = self.patch(os, "fsync", fail)
        why = await self.unavailable(self.put("f", b"x"))
        patch.restore()
        self.assertEqual(why, "the file cannot be kept: Input/output error")
        self.assertEqual((self.on_disk(), await self.files.list("firmware")), ([], []))

    async def test_the_storage_fails_at_the_end(self) -> None:
        old = await self.put("f", b"old")
        failing = self.patch(self.storage, "write_records", self.broken)
        self.assertEqual(await self.unavailable(self.put("f", b"new")), "out of order")
        self.assertEqual(await self.unavailable(self.files.remove(old)), "out of order")
        failing.restore()
        self.assertEqual(await self.files.get("firmware", "f"), old)
        await self.stop()
        await self.start()
        self.assertEqual(self.on_disk(), [f"firmware/{old.id}"])
        self.assertEqual(self.content(old), b"old")

    def broken(self, changes: Any) -> Deferred[None]:
        failed: Deferred[None] = Deferred()
        failed.errback(Failure(Unavailable("out of order")))
        return failed

    async def test_a_fault_of_ours_is_logged_and_contained(self) -> None:
        def fault(path: Path) -> BinaryIO:
            raise ZeroDivisionError

        self.patch(file_folder, "create", fault)
        writer = self.files.create("firmware", "f")
        writer.write(b"x")
        why = await self.unavailable(writer.finish())
        self.assertIn("fault of the broker", why)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual((self.on_disk(), self.files.writers), ([], set()))

    async def test_a_folder_that_cannot_be_used(self) -> None:
        self.place.joinpath("file").write_text("")
        store = FileStore(self.storage, self.place / "file", reactor, time.time)
        self.assertIn("cannot use the folder", await self.unavailable(store.open()))
        await store.close()


class SweepTests(FilesCase):
    def crash(self, at: str) -> None:
        """Everything that would come after ``at`` does not happen, as if the process had been killed there."""

        def killed(*_: Any) -> Any:
            raise OSError(EIO, "killed")

        async def lost() -> None:
            raise Unavailable("killed")

        self.patches = [self.patch(file_folder.FileFolder, name, killed) for name in ("trust", "erase")]
        if at == "before the record":
            self.patch(self.storage, "write_records", lambda changes: Deferred.fromCoroutine(lost()))

    async def restart(self) -> None:
        await self.stop()
        for patch in self.patches:
            patch.restore()
        await self.start()

    async def test_a_file_before_its_record(self) -> None:
        old = await self.put("f", b"old")
        self.crash("before the record")
        await self.unavailable(self.put("f", b"new"))
        self.assertEqual(len(self.on_disk()), 4)
        await self.restart()
        self.assertEqual(self.on_disk(), [f"firmware/{old.id}"])
        self.assertEqual(await self.files.get("firmware", "f"), old)

    async def test_a_file_after_its_record(self) -> None:
        await self.put("f", b"old")
        self.crash("after the record")
        new = await self.put("f", b"new")
        self.assertEqual(len(self.on_disk()), 4)
        await self.restart()
        self.assertEqual(self.on_disk(), [f"firmware/{new.id}"])
        self.assertEqual(self.content(new), b"new")

    async def test_a_removal(self) -> None:
        info = await self.put("f", b"x")
        self.crash("after the record")
        await self.files.remove(info)
        self.assertEqual(len(self.on_disk()), 2)
        await self.restart()
        self.assertEqual(self.on_disk(), [])

    async def test_what_is_not_in_doubt_is_left_alone(self) -> None:
        """Somebody put an older database back: that is no reason to remove what it does not know."""
        stranger = self.folder / "firmware" / ("file-" + "1" * 32)
        await self.put("f", b"x")
        stranger.write_bytes(b"y")
        await self.stop()
        await self.start()
        self.assertTrue(stranger.exists())


CHILD = """
import os, sys, time
from pathlib import Path
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from broker.storage.files import FileStore
from broker.storage.sqlite import SqliteStorage

async def begin():
    storage = SqliteStorage(Path(sys.argv[1]) / "broker.sqlite", reactor, time.time)
    await storage.open()
    files = FileStore(storage, Path(sys.argv[1]) / "files", reactor, time.time)
    await files.open()
    writer = files.create("firmware", "whole")
    writer.write(b"whole")
    await writer.finish()
    half, again = files.create("firmware", "half"), files.create("firmware", "whole")
    while True:
        half.write(b"x" * 100_000)
        again.write(b"y" * 100_000)
        await half.drained()
        await again.drained()
        os.write(1, b"written\\n")

Deferred.fromCoroutine(begin()).addErrback(lambda failure: (failure.printTraceback(), os._exit(4)))
reactor.run()
"""


class Child(ProcessProtocol):
    """Is killed after some lines."""

    def __init__(self) -> None:
        self.ended: Deferred[None] = Deferred()
        self._output = b""
        self._errors = b""

    def outReceived(self, data: bytes) -> None:
        self._output += data
        if self._output.count(b"\n") >= 10:
            assert self.transport is not None
            self.transport.signalProcess("KILL")

    def errReceived(self, data: bytes) -> None:
        self._errors += data

    def processEnded(self, reason: Failure) -> None:
        if isinstance(reason.value, ProcessTerminated) and reason.value.signal == 9:
            self.ended.callback(None)
        else:
            self.ended.errback(AssertionError(f"ended by itself: {reason.value} {self._errors.decode()}"))


class KillTests(FilesCase):
    async def test_kill_in_the_middle_of_uploads(self) -> None:
        await self.stop()
        child = Child()
        arguments = [sys.executable, "-c", CHILD, str(self.place.absolute())]
        reactor.spawnProcess(child, sys.executable, arguments, env={**os.environ, "PYTHONPATH": str(ROOT)})
        await child.ended
        left = self.on_disk()
        self.assertEqual((len(left), sum(name.startswith(DOUBTFUL) for name in left)), (5, 2), left)
        await self.start()
        infos = await self.files.list("firmware")
        self.assertEqual([info.name for info in infos], ["whole"])
        self.assertEqual(self.content(infos[0]), b"whole")
        self.assertEqual(self.on_disk(), [f"firmware/{infos[0].id}"])
