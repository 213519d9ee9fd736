"""The storage in memory that these tests use answers as the one on disk does."""

from __future__ import annotations

import random
from typing import Any

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from broker.model.errors import BrokerError
from broker.model.records import DeviceQuery, DeviceRecord
from broker.storage.interface import ANY, Change
from broker.storage.sqlite import SqliteStorage
from tests.devices.lorawan.storage import MemoryStorage


class FakeTests(TestCase):
    memory: Any
    disk: Any

    async def both(self, name: str, *args: Any) -> None:
        answers: list[Any] = []
        for storage in (self.memory, self.disk):
            try:
                answers.append(await getattr(storage, name)(*args))
            except BrokerError as error:
                answers.append(type(error))
        self.assertEqual(answers[0], answers[1], (name, args))

    async def test_like_the_one_on_disk(self) -> None:
        self.memory = MemoryStorage()
        self.disk = SqliteStorage(self.mktemp(), reactor, lambda: 1.0)
        await self.disk.open()
        try:
            await self.compare(random.Random(6))
        finally:
            await self.disk.close()

    async def compare(self, dice: random.Random) -> None:
        keys = ["a", "aa", "ab", "b", "ba"]
        for _ in range(100):
            changes = [
                Change(
                    dice.choice(["one", "two"]),
                    dice.choice(keys),
                    dice.choice([None, b"", b"x"]),
                    dice.choice([ANY, ANY, None, b"x"]),
                )
                for _ in range(dice.randint(0, 3))
            ]
            await self.both("write_records", changes)
            await self.both("get_record", "one", dice.choice(keys))
            await self.both(
                "list_records", "one", dice.choice(["", "a"]), dice.randint(1, 4), dice.choice([None, *keys])
            )
        records = [DeviceRecord(id=f"d{number}", protocol=("toy", "lorawan")[number % 2]) for number in range(9)]
        await self.both("add_devices", records)
        pages = []
        for storage in (self.memory, self.disk):
            cursor: str | None = None
            found: list[list[str]] = []
            while cursor is not None or not found:
                page, cursor = await storage.list_devices(DeviceQuery(protocol="lorawan"), 3, cursor)
                found.append([one.id for one in page])
            pages.append(found)
        self.assertEqual(*pages)
        await self.both("delete_device", "d1")
        for id in ("d1", "d3"):
            known = [await storage.get_device(id) for storage in (self.memory, self.disk)]
            self.assertEqual(*[None if one is None else one.id for one in known])
