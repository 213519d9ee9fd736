"""The behaviour that every listener shares, on NovaCloud."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from broker.devices.novacloud import NovaCloudListener, Settings
from broker.listening.settings import Limits
from tests.behaviour import StreamBehaviour
from tests.devices.novacloud.bed import DEVICE, KEY, OTHER, Bed


class NovaCloudBehaviour(StreamBehaviour):
    flat = False

    def make_listener(self, clock: Clock, limits: Limits) -> NovaCloudListener:
        return Bed(Settings(limits=limits), clock).listener

    def login_bytes(self, number: int = 0) -> bytes:
        names = {"device_id": (DEVICE, OTHER)[number], "device_key": KEY}
        message = {"type": "auth", **names} if self.flat else {"type": "auth", "payload": names}
        return json.dumps(message).encode() + b"\n"

    def one_valid_message(self) -> bytes:
        return b'{"type": "data", "payload": {"temperature": 25.5}}\n'

    def half_message(self) -> bytes:
        return b'{"type": "data", "payload": {"temper'

    def buffered(self, connection: Any) -> int:
        return int(connection.decoder.buffered)


class GuideBehaviourTests(NovaCloudBehaviour, SynchronousTestCase):
    pass


class FlatBehaviourTests(NovaCloudBehaviour, SynchronousTestCase):
    flat = True
