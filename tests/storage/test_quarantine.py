"""The quarantine: what strangers do to it, what the administrator does with it. SQLite behind it, time by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from broker.model.errors import Conflict, Invalid, NotFound, Unavailable
from broker.storage.quarantine import FRESH, MAX_ID_BYTES, MAX_INFO, Entry, Quarantine
from broker.storage.sqlite import SqliteStorage


class QuarantineTests(TestCase):
    timeout = 60

    def setUp(self) -> Any:
        self.clock = Clock()
        self.path = Path(self.mktemp())
        self.storage = SqliteStorage(self.path, reactor, self.clock.seconds)
        self.addCleanup(self.storage.close)
        self.quarantine = Quarantine(self.storage, self.clock.seconds, max_entries=3)
        self.writes: list[int] = []
        self.count_writes()
        return self.storage.open()

    def count_writes(self) -> None:
        real = self.storage.write_records

        def write_records(changes: Any) -> Deferred[None]:
            self.writes.append(len(changes))
            return real(changes)

        self.patch(self.storage, "write_records", write_records)

    async def on_disk(self) -> list[str]:
        return [key for key, _ in await self.storage.list_records("quarantine")]

    async def restarted(self) -> Quarantine:
        again = Quarantine(self.storage, self.clock.seconds, max_entries=3)
        await again.open()
        return again

    async def ids(self, *given: Any, **more: Any) -> list[str]:
        return [entry.id for entry in await self.quarantine.list(*given, **more)]

    async def test_an_entry(self) -> None:
        self.clock.advance(5)
        self.quarantine.seen("toy", "AA", "192.0.2.1", {"model": "x"})
        self.clock.advance(5)
        self.quarantine.seen("toy", "AA", "192.0.2.2")
        wanted = Entry(
            protocol="toy", id="AA", peer="192.0.2.2", first_seen=5.0, last_seen=10.0, count=2, info={"model": "x"}
        )
        self.assertEqual(await self.quarantine.list(), [wanted])
        self.assertEqual(await (await self.restarted()).list(), [wanted])

    async def test_lists(self) -> None:
        for protocol, id in (("toy", "C"), ("toy", "A"), ("toys", "B"), ("game", "D")):
            self.quarantine.seen(protocol, id, "p")
        self.assertEqual(await self.ids(), ["D", "A", "C", "B"])
        self.assertEqual(await self.ids("toy"), ["A", "C"])
        self.assertEqual(await self.ids("toy", 1, "toy/A"), ["C"])
        self.assertEqual(await self.ids("other"), [])
        self.assertEqual(self.writes, [4])

    async def test_what_is_repeated_is_not_written_each_time(self) -> None:
        for _ in range(100):
            self.quarantine.seen("toy", "A", "p", {"n": [1, 2]})
        await self.quarantine.flush()
        for _ in range(100):
            self.clock.advance(FRESH / 101)
            self.quarantine.seen("toy", "A", "p", {"n": (1, 2)})
            self.quarantine.tick()
        self.assertEqual(self.writes, [1])
        [entry] = await self.quarantine.list()
        self.assertEqual((entry.count, entry.last_seen), (200, self.clock.seconds()))
        self.clock.advance(FRESH)
        self.quarantine.seen("toy", "A", "p")
        await self.quarantine.flush()
        self.quarantine.seen("toy", "A", "other")
        await self.quarantine.flush()
        self.quarantine.seen("toy", "A", "other", {"n": 3})
        await self.quarantine.flush()
        await self.quarantine.flush()
        self.assertEqual(self.writes, [1, 1, 1, 1])

    async def test_whoever_was_not_seen_for_the_longest_time_goes(self) -> None:
        for id in "ABC":
            self.quarantine.seen("toy", id, "p")
        await self.quarantine.flush()
        self.quarantine.seen("toy", "A", "p")
        self.quarantine.seen("toy", "D", "p")
        self.quarantine.seen("game", "B", "p")
        await self.quarantine.flush()
        self.assertEqual(await self.on_disk(), ["game/B", "toy/A", "toy/C", "toy/D"])
        self.quarantine = await self.restarted()
        self.clock.advance(1)
        self.quarantine.seen("toy", "A", "p")
        self.quarantine.seen("toy", "E", "p")
        self.quarantine.seen("toy", "F", "p")
        self.assertEqual(await self.ids("toy"), ["A", "E", "F"])
        self.assertEqual(await self.on_disk(), ["game/B", "toy/A", "toy/E", "toy/F"])

    async def test_a_flood(self) -> None:
        for n in range(5000):
            self.quarantine.seen("toy", f"{n}", "p", {"n": n})
        await self.quarantine.flush()
        self.assertEqual(self.writes, [3])
        # While they are being written, too.
        self.quarantine.seen("toy", "x", "p")
        flushing = self.quarantine.flush()
        for n in range(5000):
            self.quarantine.seen("toy", f"{n}", "p")
        await flushing
        await self.quarantine.flush()
        self.assertEqual(await self.on_disk(), ["toy/4997", "toy/4998", "toy/4999"])
        self.assertLess(max(self.writes), 10)

    async def test_what_strangers_say(self) -> None:
        for id in ("", "\0", "a\nb", "\ud800", "x" * (MAX_ID_BYTES + 1)):
            self.quarantine.seen("toy", id, "p")
        self.assertEqual(await self.ids(), [])
        deep: dict[str, Any] = {}
        for _ in range(200):
            deep = {"d": deep}
        other: Any = {1: float("nan"), "t": (1,), "b": 2}
        infos = ({"x": "y" * MAX_INFO}, {"x": "\ud800"}, {"x": object()}, deep, {"x": 1 << 80})
        for info in infos:
            self.quarantine.seen("toy", "A", "p", info)
            await self.quarantine.flush()
            self.quarantine.seen("toy", "A", "p", other)
            [entry] = await self.quarantine.list()
            self.assertEqual(entry.info, {"1": None, "t": [1], "b": 2})
        self.assertEqual(await (await self.restarted()).list(), [entry])

    async def test_an_info_is_copied(self) -> None:
        info = {"list": [1]}
        self.quarantine.seen("toy", "A", "p", info)
        info["list"].append(2)
        [entry] = await self.quarantine.list()
        self.assertEqual(entry.info, {"list": [1]})

    async def test_storage_that_fails(self) -> None:
        failing = self.patch(self.storage, "write_records", lambda changes: fail(Unavailable("full")))
        self.quarantine.seen("toy", "A", "p")
        self.quarantine.tick()
        self.quarantine.seen("toy", "B", "p")
        for answer in (self.quarantine.list(), self.quarantine.forget("A", "toy")):
            with self.assertRaises(Unavailable):
                await answer
        await self.quarantine.close()
        failing.restore()
        self.quarantine.tick()
        self.assertEqual(await self.ids(), ["A", "B"])

    async def test_approve(self) -> None:
        heard: list[tuple[Entry, dict[str, Any]]] = []

        def approve(entry: Entry, fields: dict[str, Any]) -> Deferred[dict[str, Any]]:
            heard.append((entry, fields))
            return succeed({"id": entry.id, "secret": "s"}) if fields else fail(Invalid("which product?"))

        self.quarantine.approvers["toy"] = approve
        self.quarantine.seen("toy", "A", "p", {"model": "x"})
        with self.assertRaises(Invalid):
            await self.quarantine.approve("A", {})
        self.assertEqual(await self.ids(), ["A"])
        self.assertEqual(await self.quarantine.approve("A", {"product": "p"}), {"id": "A", "secret": "s"})
        self.assertEqual((heard[1][0].info, heard[1][1]), ({"model": "x"}, {"product": "p"}))
        self.assertEqual(await self.on_disk(), [])
        with self.assertRaises(NotFound):
            await self.quarantine.approve("A", {"product": "p"})
        self.quarantine.seen("game", "B", "p")
        with self.assertRaises(Invalid):
            await self.quarantine.approve("B", {})

    async def test_what_was_approved_stays_approved(self) -> None:
        async def approve(entry: Entry, fields: dict[str, Any]) -> dict[str, Any]:
            self.patch(self.storage, "write_records", lambda changes: fail(Unavailable("full")))
            return {"id": "A"}

        self.quarantine.approvers["toy"] = approve
        self.quarantine.seen("toy", "A", "p")
        self.assertEqual(await self.quarantine.approve("A", {}), {"id": "A"})

    async def test_forget(self) -> None:
        self.quarantine.seen("toy", "A", "p")
        await self.quarantine.forget("A")
        self.assertEqual(await self.on_disk(), [])
        for id in ("A", "never", "\ud800"):
            with self.assertRaises((NotFound, Invalid)):
                await self.quarantine.forget(id)
        self.quarantine.seen("toy", "A", "p")
        self.assertEqual([entry.count for entry in await self.quarantine.list()], [1])

    async def test_a_mac_as_people_write_it(self) -> None:
        for written in ("02:12:34:56:78:9a", "02-12-34-56-78-9A", "02123456789a"):
            self.quarantine.seen("toy", "02123456789A", "p")
            await self.quarantine.forget(written)
            self.assertEqual(await self.on_disk(), [])
        self.quarantine.seen("toy", "ab:c", "p")
        await self.quarantine.forget("ab:c")
        self.assertEqual(await self.on_disk(), [])

    async def test_one_id_of_two_protocols(self) -> None:
        self.quarantine.seen("toy", "A", "p")
        self.quarantine.seen("game", "A", "p")
        with self.assertRaises(Conflict) as caught:
            await self.quarantine.forget("A")
        self.assertIn("game, toy", caught.exception.message)
        await self.quarantine.forget("A", "toy")
        self.assertEqual(await self.on_disk(), ["game/A"])

    async def test_a_tick_writes_once(self) -> None:
        self.quarantine.tick()
        self.quarantine.seen("toy", "A", "p")
        self.quarantine.tick()
        self.quarantine.seen("toy", "B", "p")
        self.quarantine.tick()
        self.assertEqual(self.writes, [1])
        await self.quarantine.flush()
        self.assertEqual(self.writes, [1, 1])
        self.assertEqual(await self.on_disk(), ["toy/A", "toy/B"])
