"""Two processes on one Redis: what one changes in the registry, the other knows."""

from __future__ import annotations

import time
from typing import Any

from twisted.internet import reactor as reactor_module
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from broker.devices.novacloud.identity import DeviceRules
from broker.model.errors import Unauthenticated
from broker.storage.redis.address import parse_address
from broker.storage.redis.changes import RegistryChanges
from broker.storage.redis.connection import RedisSubscriber
from broker.storage.redis.settings import RedisTable
from broker.storage.registry import Registry
from tests.storage.redis.places import QUICK, SERVER, make_storage

reactor: Any = reactor_module
D1, D2, D3 = (f"00000000-0000-4000-8000-00000000000{n}" for n in (1, 2, 3))


class Process:
    """One of them: its storage, its registry, and what its listeners were told."""

    def __init__(self, case: TestCase, prefix: str, node: str) -> None:
        self.storage = make_storage(prefix, node=node)
        self.registry = Registry(self.storage, time.time, {"novacloud": DeviceRules()})
        table = RedisTable(prefix=prefix, **QUICK)
        self.subscriber = RedisSubscriber(parse_address(SERVER.get().url), table, reactor, node)
        self.changes = RegistryChanges(self.storage, self.subscriber, self.registry, prefix)
        self.told: list[tuple[str, str, str]] = []
        self.added: list[str] = []
        self.registry.on_change.append(lambda one: self.told.append((one.what, one.id, one.other)))
        self.registry.on_added.append(lambda record: self.added.append(record.id))
        case.addCleanup(self.storage.close)
        case.addCleanup(self.subscriber.close)

    async def start(self) -> None:
        await self.storage.open()
        await self.changes.start()
        await self.subscriber.open()


class ChangesTests(TestCase):
    timeout = 60

    async def begin(self) -> None:
        prefix = SERVER.prefix()
        self.one, self.two = Process(self, prefix, "node-1"), Process(self, prefix, "node-2")
        await self.one.start()
        await self.two.start()

    async def until(self, condition: Any) -> None:
        while not condition():
            await deferLater(reactor, 0.002)

    async def test_rights_follow(self) -> None:
        await self.begin()
        one, two = self.one.registry, self.two.registry
        await one.add_device({"protocol": "novacloud", "id": D1})
        await one.add_device({"protocol": "novacloud", "id": D2})
        _, secret = await one.add_application({"kind": "mqtt", "id": "a1"})
        rights = await two.login_application("a1", secret, ("mqtt",))
        self.assertFalse(rights.may_see(D1))
        await one.bind("a1", D1)
        await one.bind("a1", D2)
        await self.until(lambda: rights.devices == {D1, D2})
        await one.unbind("a1", D1)
        await self.until(lambda: rights.devices == {D2})
        await one.delete_device(D2)
        await self.until(lambda: not rights.devices)
        await one.delete_application("a1")
        await self.until(lambda: ("application_removed", "a1", "") in self.two.told)
        with self.assertRaises(Unauthenticated):
            await two.login_application("a1", secret, ("mqtt",))

    async def test_listeners_are_told_once_on_each_side(self) -> None:
        await self.begin()
        await self.one.registry.add_device({"protocol": "novacloud", "id": D1})
        await self.one.registry.update_device(D1, {"disabled": True})
        await self.two.registry.update_device(D1, {"disabled": False})
        for process in (self.one, self.two):
            await self.until(lambda process=process: len(process.told) == 2)
            self.assertEqual(sorted(process.told), [("device_disabled", D1, ""), ("device_updated", D1, "")])
            await self.until(lambda process=process: process.added)
            self.assertEqual(process.added, [D1])
        self.assertEqual((self.one.changes.heard, self.two.changes.heard), (1, 2))

    async def test_what_was_missed_is_read_again(self) -> None:
        await self.begin()
        one, two = self.one.registry, self.two.registry
        for id in (D1, D2, D3):
            await one.add_device({"protocol": "novacloud", "id": id})
        _, secret = await one.add_application({"kind": "mqtt", "id": "a1"})
        await one.bind("a1", D1)
        rights = await two.login_application("a1", secret, ("mqtt",))
        await self.until(lambda: rights.devices == {D1})
        # Its connection is lost, and comes back when all is over.
        link = self.two.subscriber._link
        assert link is not None
        link.protocol.transport.pauseProducing()
        link.drop("for a test")
        await one.bind("a1", D2)
        await one.bind("a1", D3)
        await one.unbind("a1", D1)
        await self.until(lambda: rights.devices == {D2, D3})
        self.assertEqual(self.one.told.count(("bound", "a1", D2)), 1)

    async def test_stop(self) -> None:
        await self.begin()
        await self.two.changes.stop()
        await self.one.registry.add_device({"protocol": "novacloud", "id": D1})
        await self.one.registry.delete_device(D1)
        await self.two.changes.start()
        await self.one.registry.add_device({"protocol": "novacloud", "id": D2})
        await self.until(lambda: self.two.added)
        self.assertEqual((self.two.added, self.two.told), ([D2], []))
