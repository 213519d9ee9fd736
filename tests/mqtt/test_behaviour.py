"""The MQTT listener under the suite that every listener has to stand."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from broker.listening.settings import Limits
from broker.mqtt import encode
from broker.mqtt import packets as p
from broker.mqtt.server import MqttListener
from broker.mqtt.settings import Settings
from broker.routing.outbox import Turn
from broker.routing.topic_index import TopicIndex
from tests.behaviour import StreamBehaviour
from tests.mqtt.fakes import FakeIdentities


class MqttBehaviour(StreamBehaviour, SynchronousTestCase):
    # What happens to look like a DISCONNECT is one.
    garbage_reasons = StreamBehaviour.garbage_reasons | {"client_closed"}

    def make_listener(self, clock: Clock, limits: Limits) -> MqttListener:
        turn = Turn(lambda flush: clock.callLater(0, flush))
        settings = Settings(limits=limits)
        index: TopicIndex[Any, Any] = TopicIndex()
        return MqttListener(settings, index, [FakeIdentities()], [], turn, clock, clock.seconds, clock.seconds)

    def login_bytes(self, number: int = 0) -> bytes:
        return encode.encode(p.Connect(f"client-{number}", user="u", password=b"secret"))

    def one_valid_message(self) -> bytes:
        return encode.publish(b"a/b", b"something", 1, 7)

    def half_message(self) -> bytes:
        return b"\x30\x84\x10\x00\x03a/b"

    def buffered(self, connection: Any) -> int:
        return int(connection._decoder.held + len(connection._early))
