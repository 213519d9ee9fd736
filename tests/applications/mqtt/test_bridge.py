"""What devices say, for MQTT subscribers."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from broker.applications.mqtt import bridge as under_test
from broker.applications.mqtt.bridge import DeviceTopics
from broker.model.interfaces import IConsumer
from broker.model.messages import KINDS, Command, DeviceRef, Presence, Uplink
from broker.mqtt import packets as p
from tests.mqtt.fakes import Bench, Client

DEVICE = DeviceRef("plain", "d1")


class CountedUplink(Uplink):
    """Counts how often its JSON is asked for."""

    asked = 0

    def as_json(self) -> bytes:
        self.asked += 1
        return super().as_json()


class Bridge(SynchronousTestCase):
    def setUp(self) -> None:
        self.bench = Bench()
        self.bridge = DeviceTopics(self.bench.topics)

    def subscriber(self, client_id: str, *filters: str, qos: int = 0) -> Client:
        client = self.bench.connect(client_id)
        client.subscribe(*filters, qos=qos)
        return client

    def heard(self, client: Client) -> list[tuple[str, bytes, int]]:
        self.bench.flush()
        return [(one.topic, one.payload, one.qos) for one in client.got() if isinstance(one, p.Publish)]

    def uplink(self, kind: str = "data", device: DeviceRef = DEVICE) -> CountedUplink:
        message = CountedUplink(device, kind, {"t": 21.5}, 1_763_700_000.1234)
        self.bridge.uplink(message)
        return message

    def test_interface(self) -> None:
        verifyObject(IConsumer, self.bridge)

    def test_every_kind_has_its_topic(self) -> None:
        client = self.subscriber("c", "devices/+/up/#")
        for kind in KINDS:
            self.uplink(kind)
        self.assertEqual([topic for topic, _, _ in self.heard(client)], [f"devices/d1/up/{kind}" for kind in KINDS])

    def test_the_json_is_made_once_and_only_if_somebody_listens(self) -> None:
        self.assertEqual(self.uplink().asked, 0)
        clients = [self.subscriber(f"{qos}", "devices/d1/up/data", "devices/#", qos=qos) for qos in (0, 1)]
        clients.append(self.subscriber("2", "#"))
        message = self.uplink()
        self.assertEqual(message.asked, 1)
        text = b'{"device":"d1","protocol":"plain","kind":"data","at":1763700000.123,"payload":{"t":21.5}}'
        for qos, client in zip((0, 1, 0), clients, strict=True):
            self.assertEqual(self.heard(client), [("devices/d1/up/data", text, qos)])
        for client in clients:
            client.lose()
        self.assertEqual(self.uplink().asked, 0)

    def test_who_may_not_see_it_makes_no_work(self) -> None:
        self.subscriber("c", "#")
        self.bench.identities.principal("u").hidden.add("devices/d1/up/data")
        self.bench.topics.rights_changed()
        self.assertEqual(self.uplink().asked, 0)

    def test_subscriptions_come_and_go(self) -> None:
        self.uplink()
        client = self.subscriber("c", "devices/d1/up/data")
        self.uplink()
        self.assertEqual(len(self.heard(client)), 1)
        client.ask(p.Unsubscribe(1, ["devices/d1/up/data"]))
        self.assertEqual(self.uplink().asked, 0)
        client.subscribe("+/+/up/+")
        self.uplink()
        self.assertEqual(len(self.heard(client)), 1)

    def test_presence_and_command_states(self) -> None:
        client = self.subscriber("c", "devices/d1/presence", "devices/d1/reply", qos=1)
        command = Command("id", "d1", "plain", {}, "admin", 1.0, 2.0, ref="r")
        self.bridge.presence(Presence(DEVICE, True, "connected", 5.0))
        self.bridge.command(command)
        presence = b'{"device":"d1","protocol":"plain","online":true,"reason":"connected","at":5.000}'
        reply = b'{"id":"id","ref":"r","status":"queued","result":null,"at":1.0}'
        self.assertEqual(self.heard(client), [("devices/d1/presence", presence, 1), ("devices/d1/reply", reply, 1)])

    def test_nothing_is_made_of_presence_and_commands_without_subscribers(self) -> None:
        client = self.subscriber("c", "devices/d2/#")
        message: Any = Presence(DEVICE, True, "connected", 5.0)
        self.bridge.presence(message)
        self.assertIsNone(message._json)
        command: Any = Command("id", "d1", "plain", {}, "admin", 1.0, 2.0)
        command.ref = object()  # could not be written as JSON
        self.bridge.command(command)
        self.assertEqual(self.heard(client), [])

    def test_many_devices_are_not_all_remembered(self) -> None:
        self.patch(under_test, "MAX_ROUTES", 10)
        client = self.subscriber("c", "#")
        for number in range(25):
            self.uplink(device=DeviceRef("plain", f"d{number}"))
        self.assertLessEqual(len(self.bridge._routes["data"]), 10)
        self.assertEqual(len(self.heard(client)), 25)
