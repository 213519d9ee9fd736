"""Simulated forwarders and motes against the real broker; and a forwarder by itself."""

from __future__ import annotations

import json
import random
from base64 import b64encode
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from broker.devices.lorawan.regions import CN470, REGIONS
from broker.simulate.api import Api
from broker.simulate.lorawan_mote import mote_identity
from broker.simulate.lorawan_radio import Air, Forwarder
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
            *("--class-c", "2", "--gateways", "3", "--verbose", "--api", url, "--token-file", "var/admin.token"),
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
        await api.close()
        motes.interrupt()
        self.assertEqual(await motes.ended, 0, motes.output)
        self.assertNotIn("Traceback", motes.output + broker.output)


class Told:
    """The broker's end of a forwarder's socket that pulls."""

    def __init__(self) -> None:
        self.acks: list[Any] = []

    def write(self, data: bytes) -> None:
        if data[3] == 5:
            self.acks.append(json.loads(data[12:] or b"null"))


class ForwarderTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.air = Air(self.clock, CN470, random.Random(1))
        self.air.motes.append(self)
        self.heard: list[float] = []
        self.forwarder = Forwarder(self.air, "5EED000100000001", ("127.0.0.1", 1))
        self.told = Told()
        self.forwarder._down.transport = self.told  # type: ignore[assignment]  # all that is used of it is write

    def hears(self, frame: bytes, frequency: int, datr: str | int, began: float) -> None:
        self.heard.append(began)

    def send(self, ahead: float, **fields: Any) -> Any:
        """Tell it to send; what it answers."""
        tmst = (self.forwarder.tmst + round(ahead * 1e6)) % (1 << 32)
        packet = {"tmst": tmst, "freq": 505.3, "datr": "SF12BW125", "data": "AAAA", **fields}
        self.told.acks.clear()
        self.forwarder._told(b"\x02ab\x03" + json.dumps({"txpk": packet}).encode())
        (answer,) = self.told.acks
        return answer and answer["txpk_ack"]["error"]

    def test_what_it_takes(self) -> None:
        self.assertIsNone(self.send(1.0))
        self.assertEqual(self.send(1.2), "COLLISION_PACKET")
        self.assertEqual(self.send(0.02), "TOO_LATE")
        self.assertEqual(self.send(-1.0), "TOO_EARLY")
        self.assertEqual(self.send(600.0), "TOO_EARLY")
        self.assertIsNone(self.send(3.0))
        self.clock.advance(1.0)
        self.assertEqual(self.heard, [])
        self.clock.advance(1.5)
        self.clock.advance(1.5)
        self.assertEqual([round(at, 3) for at in self.heard], [1.0])
        self.assertEqual((self.forwarder.transmitted, self.forwarder.refused), (2, 4))

    def test_at_once_is_a_second_later(self) -> None:
        self.assertIsNone(self.send(0.0, imme=True))
        self.clock.advance(1.0)
        self.clock.advance(2.0)
        self.assertEqual(self.heard, [1.0])

    def test_every_region_has_channels(self) -> None:
        for name, region in REGIONS.items():
            air = Air(self.clock, region, random.Random(1))
            self.assertTrue(air.channels, name)
            for channel in air.channels:
                self.assertIsNotNone(region.rx1_frequency(channel.frequency), name)
