"""What every storage has to do (broker.storage.interface). Each implementation derives a test case from this one."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, TypeVar

import msgspec
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from broker.model.errors import BrokerError, Conflict, Invalid, NotFound, Unavailable
from broker.model.messages import PENDING, SENT, SUCCEEDED, Command
from broker.model.records import (
    Actuator,
    ApplicationRecord,
    DeviceQuery,
    DeviceRecord,
    LiveState,
    Product,
    Sensor,
    StoredMessage,
)
from broker.storage.interface import IStorage

E = TypeVar("E", bound=BrokerError)

ANY = DeviceQuery()


def device(id: str = "d1", **fields: Any) -> DeviceRecord:
    return DeviceRecord(**{"id": id, "protocol": "toy", "created_at": 100.5, **fields})


def product(key: str = "p1") -> Product:
    return Product(
        key=key,
        name="Größe 温度",
        protocol="toy",
        sensors=(Sensor(value_key="t", name="Temperature", unit="°C"),),
        actuators=(Actuator(command_key="fan"),),
        created_at=5.0,
    )


def application(id: str = "a1", **fields: Any) -> ApplicationRecord:
    return ApplicationRecord(**{"id": id, "kind": "mqtt", "secret": "s", "created_at": 7.0, **fields})


def message(device: str = "d1", at: float = 1.0, **fields: Any) -> StoredMessage:
    return StoredMessage(
        **{"device": device, "protocol": "toy", "kind": "data", "at": at, "payload": {"at": at}, **fields}
    )


def live(device: str = "d1", **fields: Any) -> LiveState:
    state = {
        "online": True,
        "reason": "connected",
        "presence_at": 50.0,
        "last_seen": 60.0,
        "values": {},
        "unmapped": {},
    }
    return LiveState(**{"device": device, **state, **fields})


def command(id: str = "c1", device: str = "d1", **fields: Any) -> Command:
    plain = {"protocol": "toy", "payload": {"fan": 1}, "origin": "admin", "created_at": 10.0, "expires_at": 20.0}
    return Command(id=id, device=device, **{**plain, **fields})


def everything(command: Command | None) -> dict[str, Any]:
    assert command is not None
    return {name: getattr(command, name) for name in Command.__slots__}


class StorageCase(TestCase):
    """Derived classes give `make`: a storage, not yet open, of this test's one place."""

    timeout = 60

    def make(self) -> Any:
        raise NotImplementedError

    def setUp(self) -> Any:
        self.storage = self.make()
        return self.storage.open()

    def tearDown(self) -> Any:
        return self.storage.close()

    async def reopen(self) -> None:
        await self.storage.close()
        self.storage = self.make()
        await self.storage.open()

    async def refused(self, error: type[E], answer: Awaitable[Any]) -> E:
        try:
            await answer
        except error as raised:
            self.assertTrue(raised.message)
            return raised
        self.fail(f"not refused with {error.__name__}")


class StorageContract(StorageCase):
    """All but records, which have a contract of their own (`tests.storage.records_contract`)."""

    async def add(self, *records: DeviceRecord) -> None:
        self.assertEqual(await self.storage.add_devices(records), [None] * len(records))

    def journal(self, change: str, command: Command) -> Deferred[Exception | None]:
        """Give a command to the journal; what ``done`` was called with."""
        done: Deferred[Exception | None] = Deferred()
        getattr(self.storage, change)(command, done.callback)
        return done

    async def keep(self, command: Command) -> None:
        self.assertIsNone(await self.journal("add_command", command))

    # the whole

    def test_interface(self) -> None:
        verifyObject(IStorage, self.storage)

    async def test_health(self) -> None:
        self.assertEqual(await self.storage.health(), "")

    async def test_closed(self) -> None:
        await self.storage.close()
        await self.refused(Unavailable, self.storage.add_product(product()))
        await self.refused(Unavailable, self.storage.list_devices(ANY, 10, None))
        self.assertIsInstance(await self.journal("add_command", command()), Unavailable)
        self.assertNotEqual(await self.storage.health(), "")
        await self.storage.close()

    async def test_close_finishes_what_waits(self) -> None:
        waiting = [self.storage.add_devices([device(f"d{n}")]) for n in range(50)]
        closing = self.storage.close()
        self.assertEqual(await gatherResults(waiting), [[None]] * 50)
        await closing
        self.storage = self.make()
        await self.storage.open()
        page, _ = await self.storage.list_devices(ANY, 100, None)
        self.assertEqual(len(page), 50)

    async def test_answers_come_in_the_order_of_the_calls(self) -> None:
        order: list[str] = []
        waiting = []
        for n in range(200):
            waiting.append(
                self.storage.add_devices([device(f"d{n}")]).addCallback(lambda _, n=n: order.append(f"w{n}"))
            )
            waiting.append(self.storage.get_device(f"d{n}").addCallback(lambda found: order.append(f"r{found.id[1:]}")))
        await gatherResults(waiting)
        self.assertEqual(order, [f"{kind}{n}" for n in range(200) for kind in "wr"])

    async def test_a_refused_write_leaves_its_neighbours(self) -> None:
        answers = [
            self.storage.add_product(product("p1")),
            self.storage.add_product(product("p1")),
            self.storage.bind("nobody", "nothing"),
            self.storage.add_product(product("p2")),
        ]
        await answers[0]
        await self.refused(Conflict, answers[1])
        await self.refused(NotFound, answers[2])
        await answers[3]
        await self.reopen()
        self.assertEqual([one.key for one in await self.storage.list_products()], ["p1", "p2"])

    # products

    async def test_products(self) -> None:
        one, two = product("b"), product("a")
        await self.storage.add_product(one)
        await self.storage.add_product(two)
        self.assertEqual(await self.storage.get_product("b"), one)
        self.assertIsNone(await self.storage.get_product("c"))
        self.assertEqual(await self.storage.list_products(), [two, one])
        await self.refused(Conflict, self.storage.add_product(one))
        changed = msgspec.structs.replace(one, name="new", sensors=())
        await self.storage.save_product(changed)
        self.assertEqual(await self.storage.get_product("b"), changed)
        await self.refused(NotFound, self.storage.save_product(product("c")))
        await self.add(device(product="b"))
        await self.refused(Conflict, self.storage.delete_product("b"))
        await self.storage.delete_product("a")
        await self.refused(NotFound, self.storage.delete_product("a"))
        self.assertEqual(await self.storage.list_products(), [changed])

    # devices

    async def test_device_comes_back_whole(self) -> None:
        await self.storage.add_product(product())
        whole = device(
            name="名字 ' \" \\ %",
            product="p1",
            dev_eui="00AA",
            secret="x$y",
            disabled=True,
            attributes={"mac": "AA", "list": [1, 2.5, None, {"deep": True}]},
            info={"version": "1"},
            presence_reason="connected",
            presence_at=1.25,
            last_seen=2.5,
        )
        await self.add(whole)
        self.assertEqual(await self.storage.get_device("d1"), whole)
        await self.reopen()
        self.assertEqual(await self.storage.get_device("d1"), whole)
        self.assertIsNone(await self.storage.get_device("D1"))

    async def test_add_devices_says_why_not(self) -> None:
        await self.add(device("d1", dev_eui="E1"))
        answers = await self.storage.add_devices(
            [
                device("d2"),
                device("d1"),
                device("d2"),
                device("d3", dev_eui="E1"),
                device("E1"),
                device("d4", dev_eui="d1"),
                device("d5", product="none"),
                device("d6", dev_eui="d6"),
            ]
        )
        self.assertEqual([answer is None for answer in answers], [True, *[False] * 6, True])
        self.assertTrue(all(answer for answer in answers[1:7]))
        page, _ = await self.storage.list_devices(ANY, 10, None)
        self.assertEqual([one.id for one in page], ["d1", "d2", "d6"])

    async def test_save_device(self) -> None:
        await self.add(device("d1", info={"kept": 1}), device("d2", dev_eui="E2"))
        await self.storage.save_live([live("d1")])
        changed = device("d1", name="n", dev_eui="E1", secret="z", disabled=True, attributes={"a": 1}, info={"not": 1})
        await self.storage.save_device(changed)
        found = await self.storage.get_device("d1")
        expected = msgspec.structs.replace(
            changed, info={"kept": 1}, online=True, presence_reason="connected", presence_at=50.0, last_seen=60.0
        )
        self.assertEqual(found, expected)
        await self.refused(NotFound, self.storage.save_device(device("d9")))
        await self.refused(NotFound, self.storage.save_device(device("d1", product="none")))
        await self.refused(Conflict, self.storage.save_device(device("d1", dev_eui="E2")))
        await self.refused(Conflict, self.storage.save_device(device("d1", dev_eui="d2")))
        self.assertEqual(await self.storage.get_device("d1"), expected)

    async def test_find_by_dev_eui(self) -> None:
        await self.add(device("d1", dev_eui="E1"), device("E2"))
        for eui, id in (("E1", "d1"), ("E2", "E2")):
            found = await self.storage.find_by_dev_eui(eui)
            self.assertEqual(found.id, id)
        self.assertIsNone(await self.storage.find_by_dev_eui("E3"))

    async def test_save_info(self) -> None:
        await self.add(device())
        await self.storage.save_info("d1", {"a": [1]})
        self.assertEqual((await self.storage.get_device("d1")).info, {"a": [1]})
        await self.refused(NotFound, self.storage.save_info("d2", {}))

    async def test_delete_device_takes_everything_with_it(self) -> None:
        await self.add(device("d1"), device("d2"))
        await self.storage.add_application(application())
        for id in ("d1", "d2"):
            await self.storage.bind("a1", id)
            await self.storage.save_live([live(id, values={"t": (1, 1.0)})])
            await self.storage.add_messages([message(id)])
            await self.keep(command(f"c-{id}", id))
        await self.storage.delete_device("d1")
        await self.refused(NotFound, self.storage.delete_device("d1"))
        self.assertIsNone(await self.storage.get_device("d1"))
        self.assertEqual(await self.storage.get_values("d1"), ({}, {}))
        self.assertEqual(await self.storage.list_messages("d1", None, None, None, 10, None), ([], None))
        self.assertIsNone(await self.storage.get_command("c-d1"))
        self.assertEqual(await self.storage.devices_of("a1"), ["d2"])
        await self.add(device("d1"))
        self.assertEqual(await self.storage.get_values("d1"), ({}, {}))
        self.assertEqual(await self.storage.list_messages("d1", None, None, None, 10, None), ([], None))
        self.assertEqual(await self.storage.list_commands("d1", 10, None), ([], None))
        self.assertEqual((await self.storage.get_values("d2"))[0], {"t": (1, 1.0)})

    async def pages(self, query: DeviceQuery, limit: int) -> list[list[str]]:
        found, cursor = [], None
        while True:
            page, cursor = await self.storage.list_devices(query, limit, cursor)
            found.append([one.id for one in page])
            if cursor is None:
                return found

    async def test_count_devices(self) -> None:
        self.assertEqual(await self.storage.count_devices(), {})
        await self.storage.add_devices([device("a"), device("b"), device("c", protocol="gateway88")])
        self.assertEqual(await self.storage.count_devices(), {"toy": 2, "gateway88": 1})
        await self.storage.delete_device("b")
        self.assertEqual(await self.storage.count_devices(), {"toy": 1, "gateway88": 1})

    async def test_list_devices(self) -> None:
        await self.storage.add_product(product())
        await self.storage.add_application(application())
        await self.add(
            device("a", name="North Hall"),
            device("b", protocol="other", product="p1"),
            device("c", name="100%_", product="p1"),
            device("d", name="100x1"),
            device("e", protocol="other"),
        )
        await self.storage.save_live([live("b"), live("c")])
        for id in "abde":
            await self.storage.bind("a1", id)
        for query, ids in (
            (ANY, "abcde"),
            (DeviceQuery(protocol="other"), "be"),
            (DeviceQuery(product="p1"), "bc"),
            (DeviceQuery(online=True), "bc"),
            (DeviceQuery(online=False), "ade"),
            (DeviceQuery(application="a1"), "abde"),
            (DeviceQuery(application="a2"), ""),
            (DeviceQuery(q="nORTH"), "a"),
            (DeviceQuery(q="%_"), "c"),
            (DeviceQuery(q="\\"), ""),
            (DeviceQuery(q="e"), "e"),
            (DeviceQuery(application="a1", protocol="other", online=False), "e"),
            (DeviceQuery(protocol="toy", product="p1", online=True, q="100"), "c"),
        ):
            for limit in (1, 2, 10):
                pages = await self.pages(query, limit)
                self.assertEqual("".join(id for page in pages for id in page), ids, query)
                self.assertTrue(all(len(page) <= limit for page in pages), query)
        self.assertEqual(await self.pages(ANY, 5), [["a", "b", "c", "d", "e"]])

    # applications

    async def test_applications(self) -> None:
        one = application("b", name="n", cs_eui="0A", app_key="k", disabled=True, kind="loracenter")
        await self.storage.add_application(one)
        await self.storage.add_application(application("a"))
        self.assertEqual(await self.storage.get_application("b"), one)
        self.assertIsNone(await self.storage.get_application("c"))
        self.assertEqual(await self.storage.find_by_cs_eui("0A"), one)
        self.assertIsNone(await self.storage.find_by_cs_eui("0B"))
        self.assertEqual([found.id for found in await self.storage.list_applications()], ["a", "b"])
        await self.refused(Conflict, self.storage.add_application(application("a")))
        await self.refused(Conflict, self.storage.add_application(application("c", cs_eui="0A")))
        changed = msgspec.structs.replace(one, name="m", secret="z", disabled=False)
        await self.storage.save_application(changed)
        self.assertEqual(await self.storage.get_application("b"), changed)
        await self.refused(Conflict, self.storage.save_application(application("a", cs_eui="0A")))
        await self.refused(NotFound, self.storage.save_application(application("c")))
        await self.storage.delete_application("b")
        await self.refused(NotFound, self.storage.delete_application("b"))
        self.assertIsNone(await self.storage.get_application("b"))

    async def test_bindings(self) -> None:
        await self.add(device("d1"), device("d2"))
        await self.storage.add_application(application("a1"))
        await self.storage.add_application(application("a2"))
        await self.refused(NotFound, self.storage.bind("a1", "d9"))
        await self.refused(NotFound, self.storage.bind("a9", "d1"))
        for app, id in (("a1", "d2"), ("a1", "d1"), ("a2", "d1"), ("a1", "d1")):
            await self.storage.bind(app, id)
        self.assertEqual(await self.storage.devices_of("a1"), ["d1", "d2"])
        self.assertEqual(await self.storage.applications_of("d1"), ["a1", "a2"])
        await self.storage.unbind("a1", "d1")
        await self.refused(NotFound, self.storage.unbind("a1", "d1"))
        self.assertEqual(await self.storage.devices_of("a1"), ["d2"])
        await self.storage.delete_application("a1")
        await self.storage.add_application(application("a1"))
        self.assertEqual(await self.storage.devices_of("a1"), [])
        self.assertEqual(await self.storage.applications_of("d2"), [])

    # live states

    async def test_values(self) -> None:
        await self.add(device())
        many = {"a": (1, 1.0), "b": ("text", 2.0), "c": ({"x": [None, True]}, 3.5), "键": (2**63, 4.0)}
        await self.storage.save_live([live(values=many, unmapped={"u": (0.1, 5.0)}), live("unknown")])
        self.assertEqual(await self.storage.get_values("d1"), (many, {"u": (0.1, 5.0)}))
        self.assertEqual(await self.storage.get_values("unknown"), ({}, {}))
        await self.storage.save_live([live(values={"a": (2, 9.0)})])
        self.assertEqual((await self.storage.get_values("d1"))[0], {**many, "a": (2, 9.0)})

    async def test_values_move_and_vanish(self) -> None:
        await self.add(device())
        await self.storage.save_live(
            [live(values={"a": (1, 1.0), "b": (1, 1.0)}, unmapped={"c": (1, 1.0), "d": (1, 1.0)})]
        )
        await self.storage.save_live(
            [
                live(
                    values={"c": (3, 3.0)},
                    unmapped={"a": (2, 2.0)},
                    removed_values=("b", "a"),
                    removed_unmapped=("d", "c"),
                )
            ]
        )
        self.assertEqual(await self.storage.get_values("d1"), ({"c": (3, 3.0)}, {"a": (2, 2.0)}))
        # a key is in one of the two, named as removed or not
        await self.storage.save_live([live(unmapped={"c": (4, 4.0)})])
        self.assertEqual(await self.storage.get_values("d1"), ({}, {"a": (2, 2.0), "c": (4, 4.0)}))

    async def test_presence(self) -> None:
        await self.add(device(info={"old": 1}))
        await self.storage.save_live([live(info={"new": 1})])
        found = await self.storage.get_device("d1")
        self.assertEqual((found.online, found.presence_reason, found.presence_at), (True, "connected", 50.0))
        self.assertEqual((found.last_seen, found.info), (60.0, {"new": 1}))
        await self.storage.save_live([live(last_seen=70.0)])
        found = await self.storage.get_device("d1")
        self.assertEqual((found.online, found.last_seen, found.info), (True, 70.0, {"new": 1}))
        await self.storage.save_live([live(online=False, reason="idle", presence_at=71.0)])
        found = await self.storage.get_device("d1")
        self.assertEqual((found.online, found.presence_reason, found.presence_at), (False, "idle", 71.0))

    async def test_open_puts_everybody_offline(self) -> None:
        await self.add(device("d1"), device("d2"))
        gone = live("d2", online=False, reason="idle")
        await self.storage.save_live([live("d1", values={"t": (1, 1.0)}), gone])
        await self.reopen()
        found = await self.storage.get_device("d1")
        self.assertEqual((found.online, found.presence_reason), (False, "restart"))
        self.assertEqual(found.last_seen, 60.0)
        self.assertEqual((await self.storage.get_device("d2")).presence_reason, "idle")
        self.assertEqual((await self.storage.get_values("d1"))[0], {"t": (1, 1.0)})

    async def test_what_json_cannot_hold_is_left_out(self) -> None:
        await self.add(device())
        await self.storage.save_live([live(values={"odd": (object(), 1.0), "even": (2, 1.0)}, info={"o": object()})])
        await self.storage.add_messages([message(at=1.0), message(at=2.0, payload={"o": object()}), message(at=3.0)])
        self.assertEqual((await self.storage.get_values("d1"))[0], {"even": (2, 1.0)})
        page, _ = await self.storage.list_messages("d1", None, None, None, 10, None)
        self.assertEqual([one.at for one in page], [3.0, 1.0])

    # history

    async def times(self, limit: int = 100, **wish: Any) -> list[float]:
        """``at`` of all messages of d1 over all pages."""
        found: list[float] = []
        cursor = None
        filters = [wish.get(name) for name in ("kind", "since", "until")]
        while True:
            page, cursor = await self.storage.list_messages("d1", *filters, limit, cursor)
            self.assertLessEqual(len(page), limit)
            found += [one.at for one in page]
            if cursor is None:
                return found

    async def test_messages_come_back_whole(self) -> None:
        await self.add(device())
        kept = [
            message(at=1.5, payload={"t": 1, "键": None, "big": 2**64}, meta={"rssi": -1}),
            message(at=2.5, kind="raw", payload=b"\x00\xff"),
            message(at=3.5, payload=b"{}"),
            message(at=4.5, payload={}),
        ]
        await self.storage.add_messages([*kept, message("unknown")])
        page, cursor = await self.storage.list_messages("d1", None, None, None, 4, None)
        self.assertEqual((page, cursor), (kept[::-1], None))
        self.assertEqual(await self.storage.list_messages("unknown", None, None, None, 4, None), ([], None))

    async def test_list_messages(self) -> None:
        await self.add(device(), device("d2"))
        await self.storage.add_messages([message(at=float(n), kind="data" if n % 2 else "raw") for n in range(10)])
        await self.storage.add_messages([message("d2", at=3.0), message(at=2.25)])
        newest = [9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.25, 2.0, 1.0, 0.0]
        for limit in (1, 3, 11, 100):
            self.assertEqual(await self.times(limit), newest)
            self.assertEqual(await self.times(limit, kind="raw"), [8.0, 6.0, 4.0, 2.0, 0.0])
            self.assertEqual(await self.times(limit, since=2.25, until=5.0), [4.0, 3.0, 2.25])
            self.assertEqual(await self.times(limit, kind="data", since=8.5), [9.0])

    async def test_devices_behind_one_and_devices_that_went(self) -> None:
        await self.storage.add_devices(
            [
                device("a", attributes={"parent": "g", "x": 1}),
                device("b", attributes={"parent": "g"}),
                device("c", attributes={"parent": 'o"'}),
                device("g"),
            ]
        )
        away = [live(id, online=False, presence_at=at) for id, at in (("a", 10.0), ("b", 20.0), ("c", 30.0))]
        await self.storage.save_live(away)
        for query, wanted in (
            (DeviceQuery(parent="g"), [["a"], ["b"]]),
            (DeviceQuery(parent='o"'), [["c"]]),
            (DeviceQuery(parent="x"), [[]]),
            (DeviceQuery(online=False, changed_since=20.0), [["b"], ["c"]]),
            (DeviceQuery(changed_since=31.0), [[]]),
        ):
            self.assertEqual(await self.pages(query, 1), wanted, query)
        moved = device("a", attributes={"x": 1})
        await self.storage.save_device(moved)
        self.assertEqual(await self.pages(DeviceQuery(parent="g"), 10), [["b"]])

    async def test_devices_by_tag(self) -> None:
        await self.add(
            device("a", attributes={"tags": ["floor 1", "ü"]}),
            device("b", attributes={"tags": ["floor 1"], "parent": "g"}),
            device("c", attributes={"tags": ["floor 10"]}),
            device("d"),
        )
        for query, wanted in (
            (DeviceQuery(tag="floor 1"), [["a"], ["b"]]),
            (DeviceQuery(tag="ü"), [["a"]]),
            (DeviceQuery(tag="floor"), [[]]),
            (DeviceQuery(tag="floor 1", parent="g"), [["b"]]),
        ):
            self.assertEqual(await self.pages(query, 1), wanted, query)
        await self.storage.save_device(device("a", attributes={"tags": ["ü", "floor 10"]}))
        await self.storage.delete_device("c")
        self.assertEqual(await self.pages(DeviceQuery(tag="floor 1"), 9), [["b"]])
        self.assertEqual(await self.pages(DeviceQuery(tag="floor 10"), 9), [["a"]])

    async def test_pages_of_messages_of_one_moment(self) -> None:
        await self.add(device())
        await self.storage.add_messages([message(at=1.0, payload={"n": n}) for n in range(7)])
        found: list[int] = []
        cursor = None
        while not found or cursor:
            page, cursor = await self.storage.list_messages("d1", None, None, None, 2, cursor)
            found += [one.payload["n"] for one in page]
        self.assertEqual(found, [6, 5, 4, 3, 2, 1, 0])

    async def test_wrong_cursors(self) -> None:
        await self.add(device())
        for cursor in ("", "x", "1", "1_x", "_", "1_99999999999999999999999"):
            answer = self.storage.list_messages("d1", None, None, None, 2, cursor)
            if cursor.endswith("9"):
                self.assertEqual(await answer, ([], None))
            else:
                await self.refused(Invalid, answer)
        await self.refused(Invalid, self.storage.list_commands("d1", 2, "x"))
        self.assertEqual(await self.storage.list_commands("d1", 2, "9" * 40), ([], None))

    async def test_names_that_are_not_text(self) -> None:
        await self.refused(Invalid, self.storage.get_device("\ud800"))
        await self.refused(Invalid, self.storage.list_devices(DeviceQuery(q="\ud800"), 1, None))

    async def test_prune_by_age(self) -> None:
        await self.add(device(), device("d2"))
        await self.storage.add_messages([message(at=float(n)) for n in range(10)])
        await self.storage.add_messages([message("d2", at=float(n)) for n in range(5)])
        self.assertEqual(await self.storage.prune(7.0, 100), 12)
        self.assertEqual(await self.times(), [9.0, 8.0, 7.0])
        self.assertEqual(await self.storage.list_messages("d2", None, None, None, 9, None), ([], None))
        self.assertEqual(await self.storage.prune(7.0, 100), 0)

    async def test_prune_by_number(self) -> None:
        await self.add(*(device(f"d{n}") for n in range(1200)))
        await self.storage.add_messages([message(at=float(n % 1500)) for n in range(1700)])
        await self.storage.add_messages([message(f"d{n}") for n in range(2, 1200)] * 3)
        self.assertEqual(await self.storage.prune(0.0, 2), 1698 + 1198)
        self.assertEqual(await self.times(), [1499.0, 1498.0])
        page, _ = await self.storage.list_messages("d1199", None, None, None, 9, None)
        self.assertEqual(len(page), 2)
        self.assertEqual(await self.storage.prune(0.0, 0), 2 + 2 * 1198)

    async def test_prune_both(self) -> None:
        await self.add(device())
        await self.storage.add_messages([message(at=float(n)) for n in range(10)])
        self.assertEqual(await self.storage.prune(5.0, 8), 5)
        self.assertEqual(await self.storage.prune(5.0, 3), 2)
        self.assertEqual(await self.times(), [9.0, 8.0, 7.0])

    # commands

    async def test_command_comes_back_whole(self) -> None:
        await self.add(device())
        for n, kept in enumerate(
            (
                command("c0"),
                command("c1", payload=b"\x01\x00", ref="r", timeout=2.5, options={"ack": True}),
                command("c2", payload={}, expires_at=1e10),
            )
        ):
            await self.keep(kept)
            self.assertEqual(everything(await self.storage.get_command(f"c{n}")), everything(kept))
        self.assertIsNone(await self.storage.get_command("c9"))

    async def test_command_states(self) -> None:
        await self.add(device())
        kept = command()
        await self.keep(kept)
        for status, result, deadline in ((SENT, None, 11.0), (PENDING, {"p": 1}, 12.0), (SUCCEEDED, [1, "x"], None)):
            kept.status, kept.result, kept.deadline, kept.updated_at = status, result, deadline, 15.5
            self.assertIsNone(await self.journal("save_command", kept))
            self.assertEqual(everything(await self.storage.get_command("c1")), everything(kept))
        kept.late.append({"status": "failed", "result": None, "at": 1.5})
        self.assertIsNone(await self.journal("save_command", kept))
        self.assertEqual(everything(await self.storage.get_command("c1")), everything(kept))

    async def test_commands_are_copied(self) -> None:
        await self.add(device())
        kept = command()
        adding = self.journal("add_command", kept)
        kept.status = SENT
        saving = self.journal("save_command", kept)
        kept.status = PENDING
        self.assertEqual((await self.storage.get_command("c1")).status, SENT)
        self.assertEqual([await adding, await saving], [None, None])

    async def test_journal_refusals(self) -> None:
        await self.add(device())
        await self.keep(command())
        self.assertIsInstance(await self.journal("add_command", command()), Conflict)
        self.assertIsInstance(await self.journal("add_command", command("c2", "nobody")), NotFound)
        self.assertIsInstance(await self.journal("add_command", command("c3", payload={"o": object()})), Invalid)
        # A command went with its device: nothing to keep, and nothing to try again.
        self.assertIsNone(await self.journal("save_command", command("gone")))

    async def test_an_end_is_kept_whatever_the_answer_was(self) -> None:
        await self.add(device())
        kept = command()
        await self.keep(kept)
        kept.status, kept.result = SUCCEEDED, {"o": object()}
        self.assertIsNone(await self.journal("save_command", kept))
        found = await self.storage.get_command("c1")
        self.assertEqual((found.status, found.result), (SUCCEEDED, None))

    async def test_find_command(self) -> None:
        await self.add(device())
        found: list[Any] = []
        waiting: Deferred[Command | None] = Deferred()
        adding = self.journal("add_command", command())
        self.storage.find_command("c1", found.append)
        self.storage.find_command("c2", waiting.callback)
        self.assertIsNone(await waiting)
        await adding
        self.assertEqual([one.id for one in found], ["c1"])
        await self.storage.close()
        self.storage.find_command("c1", found.append)
        self.assertIsNone(found[1])

    async def test_open_commands(self) -> None:
        await self.add(device())
        states = ("queued", "sent", "succeeded", "pending", "failed", "cancelled", "expired", "timed_out", "queued")
        for n, status in enumerate(states):
            kept = command(f"c{9 - n}", created_at=1.0)
            await self.keep(kept)
            kept.status = status
            await self.journal("save_command", kept)
        await self.reopen()
        self.assertEqual([one.id for one in await self.storage.open_commands()], ["c9", "c8", "c6", "c1"])

    async def test_list_commands(self) -> None:
        await self.add(device(), device("d2"))
        for n in range(5):
            await self.keep(command(f"c{n}"))
            await self.keep(command(f"x{n}", "d2"))
        for limit in (1, 2, 5, 9):
            found, cursor = [], None
            while True:
                page, cursor = await self.storage.list_commands("d1", limit, cursor)
                self.assertLessEqual(len(page), limit)
                found += [one.id for one in page]
                if cursor is None:
                    break
            self.assertEqual(found, ["c4", "c3", "c2", "c1", "c0"])
        self.assertEqual(await self.storage.list_commands("unknown", 5, None), ([], None))

    async def test_prune_commands(self) -> None:
        await self.add(device())
        for n, status in enumerate(("queued", "succeeded", "failed", "sent")):
            kept = command(f"c{n}")
            await self.keep(kept)
            kept.status, kept.updated_at = status, float(n)
            await self.journal("save_command", kept)
        self.assertEqual(await self.storage.prune(2.0, 10), 1)
        page, _ = await self.storage.list_commands("d1", 9, None)
        self.assertEqual([one.id for one in page], ["c3", "c2", "c0"])
