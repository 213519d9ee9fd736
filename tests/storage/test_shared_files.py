"""A folder of files that several processes have in common; or should have."""

from __future__ import annotations

import os
from typing import Any

from broker.model.errors import Unavailable
from broker.storage.file_folder import DOUBTFUL, FOLDER, STALE
from broker.storage.files import FileStore
from tests.storage.test_files import FilesCase, reactor


class SharedTests(FilesCase):
    async def start(self, **settings: Any) -> None:
        await super().start(owner="a", **settings)
        self.others: list[FileStore] = []

    async def stop(self) -> None:
        for other in self.others:
            await other.close()
        await super().stop()

    async def another(self, folder: str = "files", owner: str = "b") -> FileStore:
        """The files of a process that starts now, on the same storage."""
        other = FileStore(self.storage, self.place / folder, reactor, lambda: 77.5, owner=owner)
        await other.open()
        self.others.append(other)
        return other

    async def test_what_one_has_the_other_has(self) -> None:
        info = await self.put("relay.bin", b"image")
        other = await self.another()
        self.assertEqual(await other.get("firmware", "relay.bin"), info)
        self.assertEqual(other.path(info).read_bytes(), b"image")
        await other.remove(info)
        self.assertEqual(self.on_disk(), [])

    async def test_one_that_starts_leaves_alone_what_another_is_writing(self) -> None:
        writer = self.files.create("firmware", "relay.bin")
        writer.write(b"ima")
        await self.until_on_disk()
        await self.another()
        writer.write(b"ge")
        info = await writer.finish()
        self.assertEqual(self.content(info), b"image")

    async def until_on_disk(self) -> None:
        while not any(name.startswith("firmware/") for name in self.on_disk()):
            await self.files.in_thread(lambda: None)

    async def test_what_nobody_can_be_writing_any_more_goes(self) -> None:
        mark, content = self.folder / DOUBTFUL / f"firmware.file-{'0' * 32}@gone", self.folder / "firmware"
        content.mkdir()
        content = content / f"file-{'0' * 32}"
        for path in (mark, content):
            path.write_bytes(b"")
        await self.another()
        self.assertEqual(len(self.on_disk()), 2)
        old = os.stat(content).st_mtime - STALE - 60
        for path in (mark, content):
            os.utime(path, (old, old))
        await self.another(owner="c")
        self.assertEqual(self.on_disk(), [])

    async def test_the_same_folder(self) -> None:
        await self.files.meet(())
        other = await self.another()
        await other.meet(("a.1",))
        self.assertEqual((self.files.trouble, other.trouble), ("", ""))
        self.assertEqual(self.on_disk(), [FOLDER])

    async def test_another_folder(self) -> None:
        await self.files.meet(())
        other = await self.another("elsewhere")
        await other.meet(("a.1",))
        self.assertIn("elsewhere is not the one that the other processes have", other.trouble)
        # The one that is the first when nobody else is there has the right one.
        again = await self.another("elsewhere", "c")
        await again.meet(())
        self.assertEqual(again.trouble, "")
        await self.files.meet(("c.1",))
        self.assertIn("files is not the one", self.files.trouble)

    async def test_a_folder_that_cannot_be_named(self) -> None:
        (self.folder / FOLDER).mkdir()
        with self.assertRaises(Unavailable):
            await self.files.meet(())
