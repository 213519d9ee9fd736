"""An agent with the weaknesses of real ones lives with the real broker."""

from __future__ import annotations

import json
import threading
from base64 import b64encode
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from broker.devices.gizwits import codec as g
from tests.devices.gizwits.agent import Agent
from tests.devices.gizwits.bed import MAC, PASSCODE, PRODUCT
from tests.real import RealBroker, eventually

NEW = "QWERTYUIOP"
IMAGE = bytes(range(256)) * 1000


class AgentTests(TestCase):
    timeout = 120

    def setUp(self) -> Deferred[None]:  # type: ignore[override]  # trial waits for it
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        # Longer than usual: a busy machine may keep the agent from reading for a while.
        self.broker = RealBroker(folder, {"listeners.gservice.packet_gap": "0.05"})
        self.addCleanup(lambda: deferToThread(self.broker.stop))
        return deferToThread(self._start)

    def _start(self) -> None:
        self.broker.start()
        self.broker.made("/products", {"key": PRODUCT, "name": "lamp", "protocol": "gizwits"})
        self.agent = Agent(self.broker.ports["gservice"], PRODUCT, MAC, PASSCODE)

    def come(self) -> Agent:
        """From the first power-on to being there."""
        agent = self.agent
        agent.register()
        agent.provision()
        self.assertEqual(agent.mqtt, ("api.gizwits.com", self.broker.ports["mqtt"]))
        self.assertEqual(agent.log_in(), 0)
        return agent

    def device(self) -> Any:
        return self.broker.call("GET", f"/devices/{self.agent.did}")[1]

    def order(self, data: bytes, **more: Any) -> Any:
        """A command, taken by the broker."""
        body = {"payload_base64": b64encode(data).decode(), **more}
        status, taken = self.broker.call("POST", f"/devices/{self.agent.did}/commands", body)
        assert status == 202, taken
        return taken

    def test_commands_and_reports(self) -> Deferred[None]:
        return deferToThread(self._commands_and_reports)

    def _commands_and_reports(self) -> None:
        agent = self.come()
        agent.report(b"\4\1\2")
        agent.report(b"\4\1\3")

        def heard() -> list[Any]:
            items: list[Any] = self.broker.call("GET", f"/devices/{agent.did}/messages")[1]["items"]
            return items if len(items) == 2 else []

        found = eventually(heard, "both reports are in the history")
        self.assertEqual(
            sorted((item["kind"], item["payload_base64"]) for item in found), [("raw", "BAEC"), ("raw", "BAED")]
        )
        # Many at once, each alone in what the agent receives.
        ordering = [threading.Thread(target=self.order, args=(bytes((1, number)),)) for number in range(20)]
        for thread in ordering:
            thread.start()
        agent.run(lambda: len(agent.messages) == 20)
        for thread in ordering:
            thread.join()
        wanted = {(f"app2dev/{agent.did}/broker", g.encode(g.Control(bytes((1, number))))) for number in range(20)}
        self.assertEqual(set(agent.messages), wanted)

    def test_an_acknowledged_command(self) -> Deferred[None]:
        return deferToThread(self._an_acknowledged_command)

    def _an_acknowledged_command(self) -> None:
        agent = self.come()

        def acknowledge(topic: str, payload: bytes) -> None:
            packet = g.decode_business(payload)
            assert isinstance(packet, g.Request)
            agent.publish(topic.replace("app2dev", "dev2app"), g.Ack(packet.sn, b"\3"))

        agent.on_message = acknowledge
        taken = self.order(b"\2", ack=True)
        agent.run(lambda: agent.messages)

        def ended() -> Any:
            command = self.broker.call("GET", f"/commands/{taken['id']}")[1]
            return command if command["status"] != "sent" else None

        command = eventually(ended, "the command has ended")
        self.assertEqual((command["status"], command["result"]), ("succeeded", {"base64": "Aw=="}))

    def test_an_upgrade(self) -> Deferred[None]:
        return deferToThread(self._an_upgrade)

    def _an_upgrade(self) -> None:
        agent = self.come()
        self.assertFalse(agent.check(g.WIFI))
        self.assertFalse(agent.check(g.MCU))
        query = f"product={PRODUCT}&type=wifi&hard_version=000LINUX&soft_version=04020007"
        status, image = self.broker.call("POST", f"/gizwits/firmware?{query}", IMAGE)
        self.assertEqual(status, 201, image)
        status, image = self.broker.call("PATCH", f"/gizwits/firmware/{image['id']}", {"active": True})
        self.assertEqual((status, image["told"]), (200, 1))
        agent.run(lambda: agent.messages)
        ((topic, payload),) = agent.messages
        self.assertEqual((topic, g.decode_system(payload)), (f"ser2cli_res/{agent.did}", g.CheckFirmware(g.WIFI)))
        self.assertTrue(agent.check(g.WIFI))
        self.assertEqual(agent.version, "04020007")
        self.assertFalse(agent.check(g.WIFI))
        eventually(lambda: self.device()["info"]["wifi"]["soft_version"] == "04020007", "the version is known")

    def test_a_reset(self) -> Deferred[None]:
        return deferToThread(self._a_reset)

    def _a_reset(self) -> None:
        agent = self.come()
        old = agent.did
        self.assertEqual(agent.disable(old, PASSCODE), 200)
        self.assertRaises(ConnectionError, agent.next)
        self.assertEqual(agent.log_in(), 5)
        agent.drop()
        agent.passcode = NEW
        self.come()
        self.assertEqual(agent.did, old)
        self.assertEqual(agent.disable(old, PASSCODE), 200)
        agent.report(b"\4")
        eventually(lambda: self.device()["online"] and self.device()["last_seen"], "it is there")
        self.assertRaises(TimeoutError, agent.next, 0.2)

    def test_reconnects(self) -> Deferred[None]:
        return deferToThread(self._reconnects)

    def _reconnects(self) -> None:
        """While the old socket is still open, and without a goodbye; also over a restart of the broker."""
        agent = self.come()
        stale = [agent.socket]
        for _ in range(20):
            self.assertEqual(agent.log_in(), 0)
            stale.append(agent.socket)
        for one in stale[:-1]:
            assert one is not None
            self.assertEqual(one.recv(100), b"")
            one.close()
        self.assertTrue(self.device()["online"])
        self.broker.kill()
        self.assertRaises((ConnectionError, OSError), agent.next)
        self.broker.start()
        agent.http = self.broker.ports["gservice"]
        agent.provision()
        self.assertEqual(agent.log_in(), 0)
        self.assertTrue(self.device()["online"])
        agent.drop()
        eventually(lambda: not self.device()["online"], "it is gone")

    def test_a_wrong_passcode(self) -> Deferred[None]:
        return deferToThread(self._a_wrong_passcode)

    def _a_wrong_passcode(self) -> None:
        agent = self.come()
        agent.drop()
        agent.passcode = "WRONG"
        self.assertEqual(agent.log_in(), 4)
        self.assertRaises(TimeoutError, agent.next, 3.0)  # not closed at once: it would be back at once
        assert agent.socket is not None
        agent.socket.settimeout(10.0)
        self.assertEqual(agent.socket.recv(100), b"")

    def test_the_registry_tells(self) -> Deferred[None]:
        return deferToThread(self._the_registry_tells)

    def _the_registry_tells(self) -> None:
        """What is known of a device that has never been here but over HTTP."""
        self.agent.register()
        self.agent.provision()
        device = self.device()
        self.assertEqual((device["protocol"], device["product"], device["online"]), ("gizwits", PRODUCT, False))
        self.assertNotIn(PASSCODE, json.dumps(device) + "\n".join(self.broker.output))
