"""The guide's own client against the listener, over real sockets on loopback."""

from __future__ import annotations

import json
import socket
from typing import Any

from twisted.internet import reactor as default_reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from broker.devices.novacloud import Settings, texts
from broker.listening.settings import Limits
from broker.model.messages import SUCCEEDED
from tests.devices.novacloud import sample_client
from tests.devices.novacloud.bed import DEVICE, KEY, Bed

reactor: Any = default_reactor


class SampleClientTests(TestCase):
    timeout = 30

    def setUp(self) -> None:
        self.printed: list[str] = []
        sample_client.print = self.printed.append  # type: ignore[attr-defined]  # shadows the built-in one
        self.addCleanup(delattr, sample_client, "print")

    def listen(self, settings: Settings | None = None) -> int:
        self.bed = Bed(settings, reactor)
        port = reactor.listenTCP(0, self.bed.listener, interface="127.0.0.1")
        self.addCleanup(self.close, port)
        return int(port.getHost().port)

    @inlineCallbacks
    def close(self, port: Any) -> Any:
        yield port.stopListening()
        self.bed.listener.shut_down()
        while self.bed.listener.connections:
            yield deferLater(reactor, 0.01)

    def eventually(self, condition: Any) -> Deferred[None]:
        """Looks again in each turn of the reactor, within the test's own time limit."""

        @inlineCallbacks
        def look() -> Any:
            while not condition():
                yield deferLater(reactor, 0.01)

        done: Deferred[None] = look()
        return done

    def client(self, kind: Any, port: int, key: str = KEY) -> Any:
        return kind("127.0.0.1", port, DEVICE, key)

    @inlineCallbacks
    def test_everything(self) -> Any:
        port = self.listen()
        waiting = self.bed.command({"text": "正常" * 3000}, 1)
        client = self.client(sample_client.NovaCloudTcpClient, port)
        self.assertTrue((yield deferToThread(client.connect)))
        self.assertEqual(self.printed, ["认证成功"])
        yield self.eventually(lambda: waiting.final)
        command = self.bed.command({"light_switch": "ON", "fan_speed": 3}, 2)
        yield self.eventually(lambda: command.final)
        for done in (waiting, command):
            self.assertEqual((done.status, done.result["current_state"]), (SUCCEEDED, done.payload))

        yield deferToThread(client.send_sensor_data, {"temperature": 21.5, "text": "正常"})
        yield deferToThread(client.send_device_status, {"battery": 99})
        yield self.eventually(lambda: len(self.bed.heard.uplinks) == 2)
        data, status = self.bed.heard.uplinks
        self.assertEqual((data.kind, data.payload), ("data", {"temperature": 21.5, "text": "正常"}))
        self.assertEqual((status.kind, status.payload), ("status", {"battery": 99}))
        assert data.sent_at is not None
        self.assertLess(abs(data.received_at - data.sent_at), 5)
        self.assertEqual(self.bed.listener.stats.malformed, 0)
        # While its other thread is in recv, the client's close alone closes nothing.
        client.client.shutdown(socket.SHUT_RDWR)
        client.disconnect()
        yield self.eventually(lambda: self.bed.heard.presences[-1][1] is False)

    @inlineCallbacks
    def test_refused(self) -> Any:
        client = self.client(sample_client.NovaCloudTcpClient, self.listen(), "wrong")
        self.assertFalse((yield deferToThread(client.connect)))
        self.assertEqual(self.printed, [f"认证失败: {texts.WRONG_CREDENTIALS}"])

    @inlineCallbacks
    def test_as_printed_it_ends_instead_of_hanging(self) -> Any:
        """Row 4."""
        port = self.listen(Settings(limits=Limits(auth_timeout=0.1)))
        client = self.client(sample_client.PrintedClient, port)
        connecting = deferToThread(client.connect)
        yield self.eventually(lambda: self.bed.listener.connections)
        yield deferLater(reactor, 0.2)
        self.bed.listener.tick()
        self.assertFalse((yield connecting))
        self.assertEqual(self.printed, ["未连接，无法发送消息", f"认证失败: {texts.GOODBYE['auth_timeout']}"])

    @inlineCallbacks
    def test_a_client_of_the_flat_dialect(self) -> Any:
        """Rows 1 and 2: as the shipped server's own test does, which waits for an answer to every line."""
        port = self.listen()

        def talk() -> list[Any]:
            answers = []
            with socket.create_connection(("127.0.0.1", port), 10) as sock:
                for message in (
                    {"type": "auth", "device_id": DEVICE, "device_key": KEY},
                    {"type": "data", "payload": {"a": 1}},
                    {"type": "heartbeat"},
                    {"type": "status", "payload": {"b": 2}},
                ):
                    sock.sendall(json.dumps(message).encode() + b"\n")
                    answers.append(json.loads(sock.recv(1024))["status"])
            return answers

        self.assertEqual((yield deferToThread(talk)), ["ok"] * 4)
