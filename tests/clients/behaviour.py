"""What every client does with the broker, in 3.1.1 and in 5.0. A mixin; `new_client` gives the client.

The reading threads and the broker are no part of trial's reactor, so these tests simply block.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from twisted.trial.unittest import SynchronousTestCase

from tests.clients.client import V5, V311, VERSIONS, Client, Login, Message
from tests.clients.stage import TRANSPORTS, fresh_topic, stage

#: What a wrong password and a topic without the right are answered with, by version.
REFUSED_LOGIN = {V311: 4, V5: 0x86}
REFUSED_TOPIC = {V311: 0x80, V5: 0x87}

# A mixin that is checked as what it is mixed into; trial would run a test case wherever it is imported.
if TYPE_CHECKING:
    Base = SynchronousTestCase
else:
    Base = object


class ClientBehaviour(Base):
    def setUp(self) -> None:
        self.stage = stage()
        self.application = self.stage.application()
        self._said_before = len(self.stage.broker.output)

    def tearDown(self) -> None:
        said = "\n".join(self.stage.broker.output[self._said_before :])
        self.assertNotIn("Traceback", said)

    def new_client(self) -> Client:
        raise NotImplementedError

    def new_client_apart(self) -> Client:
        """One that can be dropped without the others."""
        raise NotImplementedError

    def connected(self, login: Login) -> Client:
        client = self.new_client()
        self.assertEqual(client.connect(login), 0)
        return client

    def exchange(self, publisher: Client, subscriber: Client) -> None:
        """Each QoS to each QoS: the lower one counts."""
        for granted in (0, 1, 2):
            topic = fresh_topic()
            self.assertEqual(subscriber.subscribe(f"{topic}/+", granted), granted)
            sent = [Message(f"{topic}/{qos}", f"{qos} über {granted}", qos) for qos in (0, 1, 2) for _ in range(3)]
            for message in sent:
                publisher.publish(message)
            expected = [message._replace(qos=min(message.qos, granted)) for message in sent]
            self.assertEqual([subscriber.next() for _ in sent], expected)

    def test_every_transport(self) -> None:
        for version in VERSIONS:
            for transport in TRANSPORTS:
                publisher = self.connected(self.application.login(version, transport))
                subscriber = self.connected(self.application.login(version, transport))
                self.exchange(publisher, subscriber)
                publisher.disconnect()
                subscriber.disconnect()

    def test_between_versions(self) -> None:
        old, new = (self.connected(self.application.login(version)) for version in VERSIONS)
        self.exchange(old, new)
        self.exchange(new, old)
        old.disconnect()
        new.disconnect()

    def test_retained(self) -> None:
        for version in VERSIONS:
            one = self.connected(self.application.login(version))
            kept, cleared = fresh_topic(), fresh_topic()
            one.publish(Message(kept, "older", 1, True))
            one.publish(Message(kept, "kept", 1, True))
            one.publish(Message(cleared, "cleared", 1, True))
            one.publish(Message(cleared, "", 1, True))
            late = self.connected(self.application.login(version))
            self.assertEqual((late.subscribe(cleared, 1), late.subscribe(kept, 1)), (1, 1))
            self.assertEqual(late.next(), Message(kept, "kept", 1, True))
            one.publish(Message(kept, "live", 1, True))
            self.assertEqual(late.next(), Message(kept, "live", 1, False))
            one.disconnect()
            late.disconnect()

    def test_will(self) -> None:
        for version in VERSIONS:
            will = Message(fresh_topic(), "gone", 1)
            watcher = self.connected(self.application.login(version))
            self.assertEqual(watcher.subscribe(will.topic, 2), 2)
            polite = self.connected(self.application.login(version, will=will._replace(payload="not said")))
            polite.disconnect()
            abrupt = self.new_client_apart()
            self.assertEqual(abrupt.connect(self.application.login(version, will=will)), 0)
            abrupt.drop()
            self.assertEqual(watcher.next(), will)
            watcher.disconnect()

    def test_what_came_while_offline(self) -> None:
        for version in VERSIONS:
            topic, client_id = fresh_topic(), fresh_topic()
            login = self.application.login(version, client_id=client_id, clean=False)
            first = self.connected(login)
            self.assertEqual(first.subscribe(topic, 2), 2)
            first.disconnect()
            publisher = self.connected(self.application.login(version))
            waiting = [Message(topic, str(number), 1 + number % 2) for number in range(20)]
            for message in waiting:
                publisher.publish(message)
            again = self.connected(login)
            came = self.taken(again, len(waiting))
            for qos in (1, 2):  # the order is promised for each QoS alone [MQTT-4.6.0-6]
                self.assertEqual([one for one in came if one.qos == qos], [one for one in waiting if one.qos == qos])
            publisher.publish(Message(topic, "live", 0))
            self.assertEqual(again.next(), Message(topic, "live", 0))
            again.disconnect()
            self.connected(self.application.login(version, client_id=client_id)).disconnect()
            publisher.disconnect()

    def taken(self, client: Client, count: int) -> Sequence[Message]:
        return [client.next() for _ in range(count)]

    def test_a_refused_login(self) -> None:
        for version in VERSIONS:
            login = self.application.login(version, password="wrong")
            self.assertEqual(self.new_client().connect(login), REFUSED_LOGIN[version])

    def test_a_refused_subscription(self) -> None:
        foreign, _ = self.stage.device()
        for version in VERSIONS:
            one = self.connected(self.application.login(version))
            self.assertEqual(one.subscribe(f"devices/{foreign}/up/#", 1), REFUSED_TOPIC[version])
            topic = fresh_topic()
            self.assertEqual(one.subscribe(topic, 1), 1)
            one.publish(Message(topic, "goes on", 1))
            self.assertEqual(one.next(), Message(topic, "goes on", 1))
            one.disconnect()

    def test_a_command(self) -> None:
        device = self.stage.obedient_device()
        self.addCleanup(device.leave)
        application = self.stage.application(device.name)
        for version in VERSIONS:
            one = self.connected(application.login(version))
            self.assertEqual(one.subscribe(f"devices/{device.name}/reply", 1), 1)
            order = {"payload": {"light_switch": "ON"}, "ref": f"from {version}"}
            one.publish(Message(f"devices/{device.name}/command", json.dumps(order), 1))
            replies = [json.loads(message.payload) for message in self.taken(one, 3)]
            self.assertEqual([reply["status"] for reply in replies], ["queued", "sent", "succeeded"])
            self.assertEqual({reply["ref"] for reply in replies}, {f"from {version}"})
            self.assertEqual(replies[-1]["result"], {"light_switch": "ON"})
            one.disconnect()
