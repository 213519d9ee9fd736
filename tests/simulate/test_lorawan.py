"""Simulated forwarders and motes against the real broker; and a forwarder by itself."""

from __future__ import annotations

import json
import random
from base64 import b64encode
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from broker.simulate.api import Api
from broker.simulate.lorawan.air import Air
from broker.simulate.lorawan.forwarder import DRIFT, Forwarder
from broker.simulate.lorawan.links import Link
from broker.simulate.lorawan.plans import PLANS
from broker.simulate.lorawan.session import mote_identity
from broker.simulate.lorawan.town import heard_channels
from broker.simulate.process import broker_arguments
from tests.simulate.processes import ProcessTests, free_ports


class CommandTests(ProcessTests):
    def settings(self) -> dict[str, str]:
        bind = {"listeners.lorawan.bind": f'["udp:{self.ports["lorawan"]}:interface=127.0.0.1"]'}
        return super().settings() | bind

    def setUp(self) -> None:
        super().setUp()
        self.ports["lorawan"] = free_ports(1)[0]

    async def test_motes_join_and_get_their_commands(self) -> None:
        broker = self.start(*broker_arguments()[1:])
        await broker.until("started:")
        url = f"http://127.0.0.1:{self.ports['http']}"
        motes = self.start(
            *("-m", "broker.simulate", "lorawan", "--port", str(self.ports["lorawan"]), "--motes", "4", "--every", "3"),
            *(
                "--class-c",
                "2",
                "--group",
                "street",
                "--gateways",
                "3",
                "--verbose",
                "--api",
                url,
                "--token-file",
                "var/admin.token",
            ),
        )
        await motes.until("registered 4 of 4")
        await motes.until("joined as", 4)
        api = Api(reactor, url, (self.folder / "var" / "admin.token").read_text().strip())
        orders = {}
        for number in range(4):
            eui = mote_identity(1, number).dev_eui
            body = {"payload_base64": b64encode(bytes((number,))).decode(), "port": 7, "confirm": number % 2 == 1}
            orders[eui] = (await api.call("POST", f"/devices/{eui}/commands?wait=30", body))["status"]
        self.assertEqual(set(orders.values()), {"succeeded"}, orders)
        for number, eui in enumerate(orders):
            await motes.until(f"{eui}  command on port 7: {number:02x}")
        # Three times, as a mote does not hear what is sent while it speaks.
        content = {"payload_base64": "CQ==", "port": 9, "tries": 3}
        shared = await api.call("POST", "/lorawan/groups/street/messages", content)
        await motes.until("from its group on port 9: 09", 2)
        path = f"/lorawan/groups/street/messages/{shared['id']}"
        self.assertIn((await api.call("GET", path))["status"], ("sending", "sent"))
        await api.close()
        motes.interrupt()
        self.assertEqual(await motes.ended, 0, motes.output)
        self.assertNotIn("Traceback", motes.output + broker.output)


class Told(Link):
    """The broker's end of a forwarder's sockets: keeps what the one that pulls is answered."""

    def __init__(self) -> None:
        self.acks: list[Any] = []
        self.tell: Callable[[bytes], None] = self.acks.append

    def open(self, up: Callable[[bytes], None], down: Callable[[bytes], None]) -> None:
        self.tell = down

    def send(self, down: bool, data: bytes) -> None:
        if data[3] == 5:
            self.acks.append(json.loads(data[12:] or b"null"))

    def close(self) -> None:
        """Nothing is open."""


class ForwarderTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.air = Air(self.clock, random.Random(1))
        self.told = Told()
        heard = heard_channels("cn470", 0)
        self.forwarder = Forwarder(self.air, "5EED000100000001", self.told, heard, PLANS["cn470"].range)
        self.forwarder.start()

    def send(self, ahead: float, **fields: Any) -> Any:
        """Tell it to send; what it answers."""
        tmst = (self.forwarder.tmst(self.clock.seconds()) + round(ahead * 1e6)) % (1 << 32)
        packet = {"tmst": tmst, "freq": 505.3, "datr": "SF12BW125", "data": "AAAA", **fields}
        self.told.acks.clear()
        self.told.tell(b"\x02ab\x03" + json.dumps({"txpk": packet}).encode())
        (answer,) = self.told.acks
        return answer and answer["txpk_ack"]["error"]

    def sent(self) -> list[float]:
        """When it sent."""
        return [round(start, 4) for start, _, _, _ in self.forwarder.ledger.emissions()]

    def test_what_it_takes(self) -> None:
        self.assertIsNone(self.send(1.0))
        self.assertEqual(self.send(1.2), "COLLISION_PACKET")
        self.assertEqual(self.send(0.02), "TOO_LATE")
        self.assertEqual(self.send(-1.0), "TOO_EARLY")
        self.assertEqual(self.send(600.0), "TOO_EARLY")
        self.assertEqual(self.send(9.0, freq=868.1), "TX_FREQ")
        self.assertIsNone(self.send(3.0))
        self.clock.advance(0.99)
        self.assertEqual(self.sent(), [])
        self.clock.advance(0.02)
        self.assertEqual(self.sent(), [1.0])
        self.clock.advance(2.0)
        self.assertEqual(self.sent(), [1.0, 3.0])
        self.assertEqual((self.forwarder.transmitted, self.forwarder.refused), (2, 5))
        self.assertEqual(self.forwarder.errors, {"COLLISION_PACKET": 1, "TOO_LATE": 1, "TOO_EARLY": 2, "TX_FREQ": 1})

    def test_at_once_is_a_second_later(self) -> None:
        self.assertIsNone(self.send(0.0, imme=True))
        self.clock.advance(1.0)
        self.assertEqual(self.sent(), [1.0])

    def test_its_clock_is_its_own(self) -> None:
        """Microseconds, modulo 2**32, at most `DRIFT` millionths off."""
        before = self.forwarder.tmst(100.0)
        passed = (self.forwarder.tmst(5_000.0) - before) % (1 << 32)
        off = abs(passed - 4_900_000_000 % (1 << 32))
        self.assertLessEqual(off, 4_900 * DRIFT + 1)
        self.assertGreater(off, 0)

    def test_it_stops(self) -> None:
        self.assertIsNone(self.send(1.0))
        self.forwarder.stop()
        self.clock.advance(10.0)
        self.assertEqual(self.sent(), [])
        self.assertEqual(self.clock.getDelayedCalls(), [])
