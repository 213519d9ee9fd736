"""Fleets of simulated gateways against the real process: all come back, with resumed sessions; takeover; quarantine;
a network that loses frames."""

from __future__ import annotations

import json
from typing import Final

from twisted.internet.threads import deferToThread

from broker.devices.gateway88.container import FLAVOURS
from broker.simulate.gateway88.behaviour import mac_of, registration
from tests.devices.gateway88.real import RealCase

SIZE: Final = 56


class FleetTests(RealCase):
    async def test_all_come_back_after_a_kill(self) -> None:
        """In every container, in one moment; what only lost its connection resumes its TLS session."""
        names = list(FLAVOURS)
        for number in range(SIZE):
            self.gateway(number, container=names[number % len(names)], heartbeat_every=2.0)
        lines = b"".join(self.line(number) for number in range(SIZE))
        status, answer = await deferToThread(self.broker.call, "POST", "/devices/import", lines)
        self.assertEqual((status, answer["created"]), (200, SIZE))
        for gateway in self.gateways:
            gateway.start()
        await self.until(lambda: all(gateway.online for gateway in self.gateways), "all are online")
        await self.until(lambda: all(gateway.counts.heartbeats for gateway in self.gateways), "all have sent a hb")
        for gateway in self.gateways:
            gateway.disconnect()
        await self.until(
            lambda: all(gateway.online and gateway.counts.connections == 2 for gateway in self.gateways), "all are back"
        )
        self.assertEqual(sum(gateway.counts.resumed for gateway in self.gateways), SIZE)
        await self.kill_and_start()
        await self.until(lambda: all(gateway.online for gateway in self.gateways), "all are back once more")
        metrics = await self.metrics()
        self.assertEqual(metrics['broker_connections{listener="gateway88"}'], SIZE)
        self.assertEqual(metrics['broker_devices_online{protocol="gateway88"}'], SIZE)
        before = sum(gateway.counts.answered for gateway in self.gateways)
        await self.until(
            lambda: sum(gateway.counts.answered for gateway in self.gateways) >= before + SIZE, "heartbeats go on"
        )
        self.assertEqual(sum(gateway.counts.resent for gateway in self.gateways), 0)

    def line(self, number: int) -> bytes:
        return json.dumps(registration(mac_of(1, number))).encode() + b"\n"

    async def test_a_network_that_loses_frames(self) -> None:
        """Commands and heartbeats get through by repetition, none twice."""
        gateway = await self.known(loss_rate=0.3, answer_within=0.3, heartbeat_every=0.2, give_up_after=50)
        ids = [
            (await self.call(202, "POST", f"/gateways/{gateway.id}/remote_control", {"cmd": {"n": number}}))["id"]
            for number in range(3)
        ]
        states = [(await self.command(id, "succeeded", "failed", "timed_out"))["status"] for id in ids]
        # A command is sent three times; each way loses three of ten.
        self.assertLessEqual(set(states), {"succeeded", "timed_out"})
        self.assertLessEqual(gateway.counts.commands, 3)
        self.assertGreater(gateway.counts.resent, 0)
        self.assertGreater((await self.metrics())["broker_gateway88_repeats_total"], 0)

    async def test_late_answers(self) -> None:
        """An answer after the first repetition is the answer; the command is carried out once."""
        gateway = await self.known(late_rate=1.0, late_after=7.0)
        taken = await self.call(202, "POST", f"/gateways/{gateway.id}/remote_control", {"cmd": {"n": 1}})
        command = await self.command(taken["id"], "succeeded", "failed", "timed_out")
        self.assertEqual((command["status"], command["late"]), ("succeeded", []))
        self.assertEqual(gateway.counts.commands, 1)
        self.assertEqual((await self.metrics())["broker_gateway88_resent_total"], 1)


class IdentityTests(RealCase):
    async def test_takeover(self) -> None:
        """The new connection wins, the device stays online."""
        old = await self.known(reconnect_every=1_000.0)
        new = self.gateway(reconnect_every=1_000.0)
        new.start()
        await self.until(lambda: new.online and not old.online, "the new one is online, the old one is closed")
        metrics = await self.metrics()
        self.assertEqual(metrics['broker_connections_closed_total{listener="gateway88",reason="takeover"}'], 1)
        self.assertIs((await self.call(200, "GET", f"/devices/{new.id}"))["online"], True)
        taken = await self.call(202, "POST", f"/gateways/{new.id}/remote_control", {"cmd": {}})
        self.assertEqual((await self.command(taken["id"], "succeeded", "failed"))["status"], "succeeded")
        self.assertEqual((old.counts.commands, new.counts.commands), (0, 1))

    async def test_quarantine_and_approval(self) -> None:
        """It is answered, and is nobody until it is approved; then it is there without a new connection."""
        gateway = self.gateway()
        gateway.start()
        await self.until(lambda: gateway.online, "it is answered")
        await self.call(404, "GET", f"/devices/{gateway.id}")
        (entry,) = (await self.call(200, "GET", "/quarantine"))["items"]
        self.assertEqual((entry["protocol"], entry["id"]), ("gateway88", gateway.id))
        self.assertEqual(entry["info"]["swversion"], "2.3.1")
        await self.call(404, "POST", f"/gateways/{gateway.id}/backup", {})
        await self.call(200, "POST", f"/quarantine/{gateway.id}/approve", {"name": "attic"})
        device = await self.call(200, "GET", f"/devices/{gateway.id}")
        self.assertEqual((device["name"], device["online"], device["info"]["swversion"]), ("attic", True, "2.3.1"))
        taken = await self.call(202, "POST", f"/gateways/{gateway.id}/backup", {})
        self.assertEqual((await self.command(taken["id"], "succeeded", "failed"))["status"], "succeeded")
        self.assertEqual(gateway.counts.connections, 1)
        self.assertEqual((await self.call(200, "GET", "/quarantine"))["items"], [])
