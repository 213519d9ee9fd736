"""The behaviour that every listener shares, on gateways."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from broker.devices.gateway88 import Gateway88Listener, Settings
from broker.devices.gateway88.container import AS_WRITTEN, FLAVOURS, Flavour, encode
from broker.devices.gateway88.frames import encode_frame
from broker.listening.settings import Limits
from tests.behaviour import StreamBehaviour
from tests.devices.gateway88.bed import OTHER_MAC, Bed
from tests.devices.gateway88.vectors import HB, INFO, MAC
from tests.transports import Peer


class GatewayBehaviour(StreamBehaviour):
    flavour: Flavour

    def make_listener(self, clock: Clock, limits: Limits) -> Gateway88Listener:
        return Bed(Settings(limits=limits), clock).listener

    def login_bytes(self, number: int = 0) -> bytes:
        return encode_frame((MAC, OTHER_MAC)[number], 1, encode(INFO, self.flavour))

    def one_valid_message(self) -> bytes:
        return encode_frame(MAC, 2, encode(HB, self.flavour))

    def check_works(self, peer: Peer) -> None:
        """Each gateway's frames have its own MAC."""
        before = peer.connection.messages_in
        peer.send(encode_frame(bytes.fromhex(peer.connection.identity), 2, encode(HB, self.flavour)))
        self.assertEqual((peer.connection.messages_in - before, peer.reason), (1, ""))

    def half_message(self) -> bytes:
        return self.one_valid_message()[:-9]

    def buffered(self, connection: Any) -> int:
        return int(connection.decoder.buffered)


class AsWrittenTests(GatewayBehaviour, SynchronousTestCase):
    flavour = AS_WRITTEN


class AsBuiltTests(GatewayBehaviour, SynchronousTestCase):
    flavour = FLAVOURS["zlib"]
