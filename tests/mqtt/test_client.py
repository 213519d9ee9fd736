"""The MQTT client against a scripted server: what it sends, keeps, acknowledges, and sends again."""

from __future__ import annotations

from typing import Any

from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from broker.mqtt import packets as p
from broker.mqtt import reasons as r
from broker.mqtt.client import FIRST_DELAY, Message, MqttClient, MqttRefused
from broker.mqtt.client_connection import LOGIN_TIMEOUT
from broker.mqtt.codec import LARGEST_PACKET, Decoder
from broker.mqtt.encode import encode


class Peer:
    """The server's end of one connection."""

    def __init__(self, reactor: MemoryReactorClock, number: int, version: int = p.MQTT_3_1_1) -> None:
        factory: Any = reactor.tcpClients[number][2]
        self.transport = StringTransport()
        self.protocol: Any = factory.buildProtocol(None)
        self.protocol.makeConnection(self.transport)
        self.version = version
        self._decoder = Decoder(LARGEST_PACKET, highest_level=p.MQTT_5)

    def received(self) -> list[p.Packet]:
        """What the client has sent since the last look."""
        data = self.transport.value()
        self.transport.clear()
        return list(self._decoder.feed(data))

    def say(self, *packets: p.Packet) -> None:
        self.protocol.dataReceived(b"".join(encode(packet, self.version) for packet in packets))

    def cut(self) -> None:
        self.protocol.connectionLost(Failure(ConnectionDone()))


class MqttClientTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.changes: list[str] = []
        self.messages: list[tuple[str, bytes, int, bool]] = []
        self.client = MqttClient(
            self.reactor,
            TCP4ClientEndpoint(self.reactor, "127.0.0.1", 1883),
            client_id="me",
            user="app",
            password="secret",
            keep_alive=40,
            window=2,
            on_message=lambda one: self.messages.append((one.topic, one.payload, one.qos, one.retained)),
            on_change=self.changes.append,
            jitter=lambda: 0.0,
        )
        self.client.start()

    def connect(self) -> Peer:
        """Accept the client's newest connection; its CONNECT is taken out of what it sent."""
        peer = Peer(self.reactor, len(self.reactor.tcpClients) - 1)
        self.assertEqual(peer.received(), [p.Connect("me", keep_alive=40, user="app", password=b"secret")])
        peer.say(p.ConnAck())
        return peer

    def test_messages_come_and_are_acknowledged(self) -> None:
        peer = self.connect()
        self.assertTrue(self.client.connected)
        granted = self.client.subscribe("a/#")
        (subscribe,) = peer.received()
        assert isinstance(subscribe, p.Subscribe)
        self.assertEqual(subscribe.filters, [("a/#", 1)])
        peer.say(p.SubAck(subscribe.packet_id, b"\x01"), p.Publish("a/b", b"one"), p.Publish("a/c", b"two", 1, 7, True))
        self.assertEqual(self.successResultOf(granted), 1)
        self.assertEqual(self.messages, [("a/b", b"one", 0, False), ("a/c", b"two", 1, True)])
        self.assertEqual(peer.received(), [p.PubAck(7)])

    def test_a_refused_subscription_fails_and_is_not_repeated(self) -> None:
        peer = self.connect()
        granted = self.client.subscribe("forbidden")
        (subscribe,) = peer.received()
        assert isinstance(subscribe, p.Subscribe)
        peer.say(p.SubAck(subscribe.packet_id, b"\x80"))
        self.failureResultOf(granted, MqttRefused)
        peer.cut()
        self.reactor.advance(FIRST_DELAY * 2)
        self.assertEqual(self.connect().received(), [])

    def test_the_window_is_kept(self) -> None:
        peer = self.connect()
        done = [self.client.publish("t", b"%d" % number, 1) for number in range(3)]
        sent = peer.received()
        self.assertEqual(sent, [p.Publish("t", b"0", 1, 1), p.Publish("t", b"1", 1, 2)])
        self.assertEqual(self.client.unacknowledged, 3)
        peer.say(p.PubAck(1))
        self.successResultOf(done[0])
        self.assertEqual(peer.received(), [p.Publish("t", b"2", 1, 3)])
        self.assertNoResult(done[1])

    def test_after_a_break_everything_is_said_again(self) -> None:
        peer = self.connect()
        self.client.subscribe("a")
        done = self.client.publish("t", b"x", 1)
        peer.received()
        peer.cut()
        self.assertEqual(self.changes, ["connected", "connection closed"])
        self.failureResultOf(self.client.publish("t", b"best effort"), MqttRefused)
        self.reactor.advance(FIRST_DELAY * 2)
        again = self.connect()
        subscribe, publish = again.received()
        assert isinstance(subscribe, p.Subscribe)
        self.assertEqual(subscribe.filters, [("a", 1)])
        self.assertEqual(publish, p.Publish("t", b"x", 1, 2, dup=True))
        again.say(p.PubAck(2))
        self.successResultOf(done)

    def test_the_delay_doubles_while_nobody_answers(self) -> None:
        for attempt, delay in enumerate((1.0, 2.0, 4.0), 1):
            self.assertEqual(len(self.reactor.tcpClients), attempt)
            factory: Any = self.reactor.tcpClients[-1][2]
            factory.clientConnectionFailed(None, Failure(ConnectionRefusedError()))
            self.reactor.advance(delay - 0.1)
            self.assertEqual(len(self.reactor.tcpClients), attempt)
            self.reactor.advance(0.1)
        self.assertEqual(len(self.changes), 3)
        self.assertIn("refused", self.changes[0])

    def test_a_refused_login_is_told_and_tried_again(self) -> None:
        peer = Peer(self.reactor, 0)
        peer.say(p.ConnAck(p.REFUSED_CREDENTIALS))
        self.assertTrue(peer.transport.disconnecting or peer.transport.disconnected)
        peer.cut()
        self.assertEqual(self.changes, ["refused: bad user name or password"])
        self.reactor.advance(60.0)
        self.assertEqual(len(self.reactor.tcpClients), 2)

    def test_a_silent_server_is_left(self) -> None:
        peer = Peer(self.reactor, 0)
        self.reactor.advance(LOGIN_TIMEOUT)
        self.assertTrue(peer.transport.disconnected)
        peer.cut()
        self.assertEqual(self.changes, ["no answer to CONNECT"])

    def test_it_pings_and_notices_silence(self) -> None:
        peer = self.connect()
        self.reactor.advance(30.0)
        self.assertEqual(peer.received(), [p.PingReq()])
        peer.say(p.PingResp())
        self.reactor.advance(30.0)
        self.assertEqual(peer.received(), [p.PingReq()])
        self.assertFalse(peer.transport.disconnected)
        self.reactor.advance(30.0)
        self.assertTrue(peer.transport.disconnected)

    def test_garbage_from_the_server_ends_the_connection(self) -> None:
        peer = self.connect()
        peer.protocol.dataReceived(b"\xf0\x00")
        self.assertTrue(peer.transport.disconnected)

    def test_stop_says_goodbye_and_gives_up_what_waits(self) -> None:
        peer = self.connect()
        publishes = [self.client.publish("t", b"x", 1) for _ in range(3)]
        granted = self.client.subscribe("a")
        peer.received()
        stopped = self.client.stop()
        self.assertEqual(peer.received(), [p.Disconnect()])
        peer.cut()
        self.successResultOf(stopped)
        for deferred in publishes:
            self.failureResultOf(deferred, MqttRefused)
        self.failureResultOf(granted, MqttRefused)
        self.reactor.advance(120.0)
        self.assertEqual(len(self.reactor.tcpClients), 1)

    def test_stop_while_connecting_gives_up_the_attempt(self) -> None:
        stopped = self.client.stop()
        self.successResultOf(stopped)
        self.reactor.advance(120.0)
        self.assertEqual(len(self.reactor.tcpClients), 1)

    def test_stop_before_the_server_has_answered_cuts_the_connection(self) -> None:
        peer = Peer(self.reactor, 0)
        stopped = self.client.stop()
        self.assertTrue(peer.transport.disconnected)
        self.assertNoResult(stopped)
        peer.cut()
        self.successResultOf(stopped)
        self.assertEqual(self.reactor.getDelayedCalls(), [])


class PersistentTests(SynchronousTestCase):
    """Sessions that the server keeps, acknowledgements by hand, and what 5.0 adds."""

    def client(self, **fields: Any) -> MqttClient:
        self.reactor = MemoryReactorClock()
        self.messages: list[Message] = []
        self.changes: list[str] = []
        client = MqttClient(
            self.reactor,
            TCP4ClientEndpoint(self.reactor, "127.0.0.1", 1883),
            client_id="me",
            keep_alive=40,
            clean=False,
            manual=True,
            on_message=self.messages.append,
            on_change=self.changes.append,
            jitter=lambda: 0.0,
            **fields,
        )
        client.start()
        return client

    def connect(self, version: int = p.MQTT_5, answer: p.ConnAck | None = None) -> tuple[Peer, p.Connect]:
        peer = Peer(self.reactor, len(self.reactor.tcpClients) - 1, version)
        (connect,) = peer.received()
        assert isinstance(connect, p.Connect)
        peer.say(answer or p.ConnAck())
        return peer, connect

    def test_messages_are_acknowledged_when_their_owner_says_so(self) -> None:
        self.client()
        peer, connect = self.connect(p.MQTT_3_1_1)
        self.assertFalse(connect.clean)
        peer.say(p.Publish("a", b"1", 1, 7), p.Publish("a", b"2", 0), p.Publish("a", b"3", 1, 8))
        self.assertEqual([message.payload for message in self.messages], [b"1", b"2", b"3"])
        self.assertEqual(peer.received(), [])
        for message in self.messages:
            message.acknowledge()
            message.acknowledge()
        self.assertEqual(peer.received(), [p.PubAck(7), p.PubAck(8)])

    def test_what_was_not_acknowledged_comes_again_and_the_late_word_is_lost(self) -> None:
        self.client()
        peer, _ = self.connect(p.MQTT_3_1_1)
        peer.say(p.Publish("a", b"1", 1, 7))
        peer.cut()
        self.messages[0].acknowledge()
        self.assertEqual(peer.received(), [])
        self.reactor.advance(FIRST_DELAY)
        again, _ = self.connect(p.MQTT_3_1_1, p.ConnAck(session_present=True))
        again.say(p.Publish("a", b"1", 1, 7, dup=True))
        self.messages[0].acknowledge()
        self.assertEqual(again.received(), [])
        self.assertTrue(self.messages[1].repeated)
        self.messages[1].acknowledge()
        self.assertEqual(again.received(), [p.PubAck(7)])

    def test_no_more_is_read_than_may_be_unacknowledged(self) -> None:
        self.client(receive_maximum=2)
        peer, _ = self.connect(p.MQTT_3_1_1)
        peer.say(p.Publish("a", b"1", 1, 1))
        self.assertEqual(peer.transport.producerState, "producing")
        peer.say(p.Publish("a", b"2", 1, 2))
        self.assertEqual(peer.transport.producerState, "paused")
        # Nobody can answer a ping while nothing is read.
        self.reactor.advance(90.0)
        self.assertFalse(peer.transport.disconnected)
        self.messages[0].acknowledge()
        self.assertEqual(peer.transport.producerState, "producing")

    def test_what_5_is_told(self) -> None:
        self.client(version=p.MQTT_5, session_expiry=600, receive_maximum=9, max_packet=5000)
        _, connect = self.connect()
        self.assertEqual(connect.version, p.MQTT_5)
        self.assertEqual(connect.properties, {0x11: 600, 0x21: 9, 0x27: 5000})

    def test_what_a_server_of_5_takes(self) -> None:
        """A smaller window, shorter packets; and what it says of each publish."""
        client = self.client(version=p.MQTT_5)
        peer, _ = self.connect(answer=p.ConnAck(properties={0x21: 1, 0x27: 200}))
        long = client.publish("t", bytes(200), 1)
        self.failureResultOf(long, MqttRefused)
        done = [client.publish("t", b"%d" % number, 1) for number in range(3)]
        for number, (reason, sent) in enumerate(((0, b"0"), (r.NO_MATCHING_SUBSCRIBERS, b"1"), (0x87, b"2"))):
            (packet,) = peer.received()
            assert isinstance(packet, p.Publish)
            self.assertEqual(packet.payload, sent)
            peer.say(p.PubAck(packet.packet_id, reason))
            if reason == 0x87:
                refused = self.failureResultOf(done[number], MqttRefused)
                self.assertIn("not authorized", str(refused.value))
            else:
                self.assertEqual(self.successResultOf(done[number]), reason)

    def test_a_smaller_window_after_a_break_keeps_the_order(self) -> None:
        client = self.client(version=p.MQTT_5)
        peer, _ = self.connect()
        for number in range(3):
            client.publish("t", b"%d" % number, 1)
        self.assertEqual(len(peer.received()), 3)
        peer.cut()
        self.reactor.advance(FIRST_DELAY)
        again, _ = self.connect(answer=p.ConnAck(properties={0x21: 2}))
        got = []
        for _ in range(3):
            for packet in again.received():
                assert isinstance(packet, p.Publish)
                got.append(packet.payload)
                again.say(p.PubAck(packet.packet_id))
        self.assertEqual(got, [b"0", b"1", b"2"])
        self.assertEqual(client.unacknowledged, 0)

    def test_why_a_server_of_5_closes(self) -> None:
        self.client(version=p.MQTT_5)
        peer, _ = self.connect()
        peer.protocol.dataReceived(b"\xe0\x02\x8e\x00")
        peer.cut()
        self.assertIn("same client id", self.changes[-1])

    def test_delays_grow_while_a_server_only_takes_the_connection(self) -> None:
        self.client()
        for attempt, delay in enumerate((1.0, 2.0, 4.0), 1):
            self.assertEqual(len(self.reactor.tcpClients), attempt)
            peer, _ = self.connect(p.MQTT_3_1_1, p.ConnAck(p.REFUSED_CREDENTIALS))
            peer.cut()
            self.reactor.advance(delay - 0.1)
            self.assertEqual(len(self.reactor.tcpClients), attempt)
            self.reactor.advance(0.1)

    def test_a_goodbye_that_nobody_reads_is_cut_short(self) -> None:
        client = self.client()
        peer, _ = self.connect(p.MQTT_3_1_1)
        client.stop()
        self.assertFalse(peer.transport.disconnected)
        self.reactor.advance(5.0)
        self.assertTrue(peer.transport.disconnected)

    def test_nothing_may_come_before_connack(self) -> None:
        self.client()
        peer = Peer(self.reactor, 0)
        peer.say(p.Publish("a", b"early"))
        self.assertTrue(peer.transport.disconnected)
        self.assertEqual(self.messages, [])
