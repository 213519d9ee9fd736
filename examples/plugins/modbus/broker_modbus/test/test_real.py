"""Against pymodbus's server, over a real socket, in a whole broker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import succeed
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from broker.extension import Command, CommandBody, Invalid, Uplink, order, payload_object
from broker.extension.testing import InProcessBroker
from broker.listening.plugin import ProtocolPlugin
from broker_modbus.simulate import MAP, Boiler, free_port

reactor: Any = _reactor

PLUGIN = ProtocolPlugin("modbus", "Modbus/TCP devices", "broker_modbus")


class RealDeviceTests(TestCase):
    timeout = 60

    async def start(self, **settings: str) -> None:
        self.boiler = Boiler(free_port())
        await deferToThread(self.boiler.start)
        self.addCleanup(deferToThread, self.boiler.stop)
        given = {"poll_every": "0.05", "timeout": "1", "maps.boiler": MAP, **settings}
        self.settings = {f"listeners.modbus.{key}": text for key, text in given.items()}
        self.folder = Path(self.mktemp())
        self.broker = self.made()
        await self.broker.start()
        self.heard = self.broker.heard
        self.core = self.broker.core

    def made(self) -> InProcessBroker:
        made = InProcessBroker(reactor, self.folder, [PLUGIN], self.settings)
        self.addCleanup(made.stop)
        return made

    async def add(self, **fields: Any) -> None:
        device = {"protocol": "modbus", "id": "boiler-1", "host": "127.0.0.1", "port": self.boiler.port}
        await self.core.registry.add_device({**device, "unit": 1, "map": "boiler", **fields})

    async def command(self, payload: dict[str, Any], **more: Any) -> Command:
        """How it ends."""
        made: Command = await order(self.core, "boiler-1", CommandBody(payload=payload, **more), "admin")
        await self.heard.until(lambda: made.final)
        return made

    async def test_what_is_polled_becomes_values(self) -> None:
        await self.start()
        await self.add()
        first: Uplink = await self.heard.until(lambda: self.heard.uplinks and self.heard.uplinks[0])
        self.assertEqual((first.device.id, first.kind), ("boiler-1", "data"))
        self.assertEqual(first.payload, {"temperature": 21.5, "pressure": 1.5, "set_point": 21.0, "pump": False})
        self.assertEqual([(one.online, one.reason) for one in self.heard.presences], [(True, "connected")])
        self.boiler.temperature = -3.25
        await self.heard.until(lambda: self.last()["temperature"] == -3.2)
        live = self.core.devices.get("boiler-1")
        assert live is not None
        self.assertEqual(live.values.values["temperature"][0], -3.2)

    async def test_only_changes(self) -> None:
        await self.start(report='"changes"')
        await self.add()
        await self.heard.until(lambda: self.heard.uplinks)
        polls = self.counters()["modbus_polls_total"]
        self.boiler.pressure = 2.0
        await self.heard.until(lambda: len(self.heard.uplinks) == 2)
        self.assertEqual([one["pressure"] for one in self.payloads()], [1.5, 2.0])
        self.assertGreater(self.counters()["modbus_polls_total"], polls)

    async def test_commands_write_and_are_answered(self) -> None:
        await self.start()
        await self.add()
        done = await self.command({"set_point": 55.5, "pump": True})
        self.assertEqual((done.status, done.result), ("succeeded", {"written": {"set_point": 55.5, "pump": True}}))
        self.assertEqual(self.boiler.written, [(6, 10, [555]), (5, 0, [True])])
        await self.heard.until(lambda: self.last()["set_point"] == 55.5)
        self.assertTrue(self.last()["pump"])

    async def test_refusals(self) -> None:
        await self.start()
        await self.add()
        refused = await self.command({"pump": True, "set_point": 95.0})
        self.assertEqual(refused.status, "failed")
        self.assertEqual(
            refused.result,
            {"error": "illegal data value", "exception": 3, "register": "set_point", "written": {"pump": True}},
        )
        for payload, why in (
            ({"temperature": 1}, "temperature cannot be written"),
            ({"valve": 1}, "the device has no register valve"),
            ({"set_point": "hot"}, "set_point is a number"),
            ({"set_point": 4000}, "set_point = 4000 does not fit into int16"),
            ({}, "a modbus command names at least one register"),
        ):
            wrong = await self.command(payload)
            self.assertEqual((wrong.status, wrong.result), ("failed", {"error": why}))

    async def test_a_device_that_goes_and_comes_back(self) -> None:
        await self.start(timeout="0.2", offline_after="2", reconnect_max="0.5")
        await self.add()
        await self.heard.until(lambda: self.heard.uplinks)
        await deferToThread(self.boiler.stop)
        gone = await self.heard.until(lambda: len(self.heard.presences) == 2 and self.heard.presences[-1])
        self.assertEqual((gone.online, gone.reason), (False, "connection_lost"))
        waiting = await order(self.core, "boiler-1", CommandBody(payload={"pump": True}), "admin")
        await deferToThread(self.boiler.start)
        await self.heard.until(lambda: waiting.final)
        self.assertEqual(waiting.status, "succeeded")
        self.assertTrue(self.heard.presences[-1].online)

    async def test_what_the_registry_says(self) -> None:
        await self.start()
        await self.add()
        await self.heard.until(lambda: self.heard.uplinks)
        await self.core.registry.update_device("boiler-1", {"name": "in the cellar"})
        polls = self.counters()["modbus_polls_total"]
        await self.heard.until(lambda: self.counters()["modbus_polls_total"] > polls + 1)
        self.assertEqual([one.online for one in self.heard.presences], [True])
        await self.core.registry.update_device("boiler-1", {"disabled": True})
        self.assertEqual([one.online for one in self.heard.presences], [True, False])
        await self.core.registry.update_device("boiler-1", {"disabled": False})
        await self.heard.until(lambda: len(self.heard.presences) == 3)
        await self.core.registry.update_device("boiler-1", {"port": free_port()})
        await self.heard.until(lambda: len(self.heard.presences) == 4)
        await self.core.registry.update_device("boiler-1", {"port": self.boiler.port})
        await self.heard.until(lambda: len(self.heard.presences) == 5)
        await self.core.registry.delete_device("boiler-1")
        self.assertEqual(self.heard.presences[-1].reason, "removed")
        self.assertEqual(self.counters()["modbus_devices"], 0)

    async def test_registrations_that_are_refused(self) -> None:
        await self.start()
        for wrong, why in (
            ({"map": "oven"}, "map is one of listeners.modbus.maps: boiler"),
            ({"host": ""}, "host is the name or the address of the device, or of the gateway before it"),
            ({"port": 0}, "port is a whole number from 1 to 65535"),
            ({"unit": True}, "unit is a whole number from 0 to 255"),
            ({"secret": "s"}, "a modbus device has no secret"),
        ):
            device = {"protocol": "modbus", "id": "x", "host": "h", "map": "boiler", **wrong}
            error: Any = await self.assertFailure(self.core.registry.add_device(device), Invalid)
            self.assertEqual(error.message, why)
        record, secret = await self.core.registry.add_device({"protocol": "modbus", "host": "h", "map": "boiler"})
        self.assertEqual((record.id, secret), ("h:502:1", ""))

    async def test_after_a_restart_and_two_devices_behind_one_gateway(self) -> None:
        await self.start()
        await self.add()
        await self.broker.stop()
        self.broker = self.made()
        await self.broker.start()
        self.heard, self.core = self.broker.heard, self.broker.core
        await self.add(id="same-gateway")
        await self.heard.until(lambda: {one.device.id for one in self.heard.uplinks} == {"boiler-1", "same-gateway"})
        self.assertEqual(len(self.listener.connections), 1)

    def payloads(self) -> list[dict[str, Any]]:
        return [payload_object(one.payload) for one in self.heard.uplinks]

    def last(self) -> dict[str, Any]:
        return self.payloads()[-1]

    async def test_of_several_processes_one_polls(self) -> None:
        await self.start()
        await self.add()
        await self.heard.until(lambda: self.heard.uplinks)
        leads = False
        self.patch(self.core.backplane, "lead", lambda duty: succeed(leads))
        self.look()
        self.assertEqual((self.counters()["modbus_devices"], self.heard.presences[-1].online), (0, False))
        leads = True
        self.look()
        await self.heard.until(lambda: self.heard.presences[-1].online)

    def look(self) -> None:
        """What several seconds do."""
        for _ in range(5):
            self.listener.tick()

    @property
    def listener(self) -> Any:
        return self.core.listeners["modbus"]

    def counters(self) -> dict[str, float]:
        counters: dict[str, float] = self.listener.counters()
        return counters
