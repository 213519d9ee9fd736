"""paho-mqtt against the listener on a real socket. Each test runs its client's calls in a thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from queue import Queue
from threading import Event
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from twisted.internet import reactor as the_reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from broker.listening.connection import Connection
from broker.mqtt.server import MqttListener
from broker.mqtt.settings import Settings
from broker.routing.outbox import Turn
from broker.routing.topic_index import TopicIndex
from tests.mqtt.fakes import FakeIdentities

#: Seconds after which something that should have happened has not.
PATIENCE = 20.0
LEVELS = (mqtt.MQTTv31, mqtt.MQTTv311)

reactor: Any = the_reactor


class Paho:
    """A client whose events can be waited for. ``came`` gets (topic, payload, QoS)."""

    def __init__(self, port: int, level: Any, client_id: str, password: str = "secret") -> None:
        self.port = port
        self.came: Queue[tuple[str, bytes, int]] = Queue()
        self.answers: Queue[Any] = Queue()
        self.pong = Event()
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id, protocol=level)
        self.client.username_pw_set("u", password)
        self.client.on_connect = lambda client, data, flags, code, properties: self.answers.put(code)
        self.client.on_subscribe = lambda client, data, mid, codes, properties: self.answers.put(codes)
        self.client.on_message = lambda client, data, one: self.came.put((one.topic, bytes(one.payload), one.qos))
        self.client.on_log = self.log

    def log(self, client: mqtt.Client, data: Any, level: int, text: str) -> None:
        if "PINGRESP" in text:
            self.pong.set()

    def connect(self, keep_alive: int = 60) -> Any:
        """The server's answer."""
        self.client.connect("127.0.0.1", self.port, keep_alive)
        self.client.loop_start()
        return self.answers.get(timeout=PATIENCE)

    def subscribe(self, topic_filter: str, qos: int) -> int:
        self.client.subscribe(topic_filter, qos)
        return int(self.answers.get(timeout=PATIENCE)[0].value)

    def publish(self, topic: str, payload: bytes, qos: int) -> None:
        self.client.publish(topic, payload, qos).wait_for_publish(PATIENCE)

    def next(self) -> tuple[str, bytes, int]:
        return self.came.get(timeout=PATIENCE)

    def stop(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


class Watched(MqttListener):
    """A listener that tells when its last connection has gone."""

    _waiting: Deferred[None] | None = None

    def emptied(self) -> Deferred[None]:
        if not self.connections:
            return succeed(None)
        self._waiting = Deferred()
        return self._waiting

    def ended(self, connection: Connection) -> None:
        super().ended(connection)
        if not self.connections and self._waiting is not None:
            self._waiting.callback(None)
            self._waiting = None


class RealClients(TestCase):
    timeout = 60

    def setUp(self) -> None:
        turn = Turn(lambda flush: reactor.callLater(0, flush))
        self.listener = Watched(
            Settings(), TopicIndex(), [FakeIdentities()], [], turn, reactor, time.time, time.monotonic
        )
        port = reactor.listenTCP(0, self.listener, interface="127.0.0.1")
        self.port = port.getHost().port
        tick = LoopingCall(self.listener.tick)
        tick.start(0.2)
        self.addCleanup(port.stopListening)
        self.addCleanup(tick.stop)

    async def run_in_thread(self, script: Callable[[list[Paho]], None]) -> None:
        """Run the script; whatever clients it puts into its list are stopped at the end."""

        def run() -> None:
            clients: list[Paho] = []
            try:
                script(clients)
            finally:
                for client in clients:
                    client.stop()

        await deferToThread(run)
        await self.listener.emptied()

    def test_publish_and_subscribe(self) -> Any:
        def script(clients: list[Paho]) -> None:
            for level in LEVELS:
                subscriber = Paho(self.port, level, f"s{level}")
                publisher = Paho(self.port, level, f"p{level}")
                clients += [subscriber, publisher]
                self.assertEqual((subscriber.connect().value, publisher.connect().value), (0, 0))
                self.assertEqual(subscriber.subscribe(f"t{level}/#", 2), 2)
                sent = [(f"t{level}/{qos}", b"%d" % number, qos) for qos in (0, 1, 2) for number in range(50)]
                for topic, payload, qos in sent:
                    publisher.publish(topic, payload, qos)
                got = [subscriber.next() for _ in sent]
                self.assertEqual(got, sent)

        return self.run_in_thread(script)

    def test_a_large_payload_and_many_at_once(self) -> Any:
        def script(clients: list[Paho]) -> None:
            one = Paho(self.port, mqtt.MQTTv311, "c")
            clients.append(one)
            one.connect()
            one.subscribe("#", 1)
            one.publish("large", bytes(900_000), 1)
            self.assertEqual(len(one.next()[1]), 900_000)
            waiting = [one.client.publish("many", b"%d" % number, 1) for number in range(2_000)]
            for info in waiting:
                info.wait_for_publish(PATIENCE)
            self.assertEqual([int(one.next()[1]) for _ in waiting], list(range(2_000)))

        return self.run_in_thread(script)

    def test_a_wrong_password(self) -> Any:
        def script(clients: list[Paho]) -> None:
            for level in LEVELS:
                client = Paho(self.port, level, "c", "wrong")
                clients.append(client)
                self.assertEqual(client.connect().getName(), "Bad user name or password")

        return self.run_in_thread(script)

    def test_keep_alive(self) -> Any:
        def script(clients: list[Paho]) -> None:
            client = Paho(self.port, mqtt.MQTTv311, "c")
            clients.append(client)
            client.connect(keep_alive=1)
            client.subscribe("t", 0)
            self.assertTrue(client.pong.wait(PATIENCE))
            client.publish("t", b"still here", 0)
            self.assertEqual(client.next(), ("t", b"still here", 0))

        return self.run_in_thread(script)

    def test_a_will(self) -> Any:
        def script(clients: list[Paho]) -> None:
            watcher = Paho(self.port, mqtt.MQTTv311, "watcher")
            clients.append(watcher)
            watcher.connect()
            watcher.subscribe("will", 1)
            for abrupt in (False, True):
                client = Paho(self.port, mqtt.MQTTv311, "c")
                client.client.will_set("will", b"abrupt" if abrupt else b"clean", 1)
                client.connect()
                if abrupt:
                    client.client.loop_stop()
                    socket = client.client.socket()
                    assert socket is not None
                    socket.close()
                else:
                    client.stop()
            self.assertEqual(watcher.next(), ("will", b"abrupt", 1))

        return self.run_in_thread(script)
