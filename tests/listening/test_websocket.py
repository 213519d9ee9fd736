"""WebSocket as a transport, in memory: the behaviour suite over it, frames of every kind, closing from both sides."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

from broker.listening.connection import Connection
from broker.listening.frames import binary_frame
from broker.listening.listener import Listener
from broker.listening.settings import Limits, WebSocketSettings
from broker.listening.websocket import MAX_LATE, websocket_factory
from tests.behaviour import StreamBehaviour
from tests.listening.toy import ToyConnection, ToyListener, make_toy
from tests.listening.websocket_peer import WebSocketPeer
from tests.transports import ADDRESS, BUFFER, Peer


class Speaking(ToyConnection):
    """Says something before anything came."""

    def opened(self) -> None:
        super().opened()
        self.send(b"welcome\n")


class WebSocketBehaviour(StreamBehaviour, SynchronousTestCase):
    """Everything that a protocol has to stand on a plain socket."""

    def make_listener(self, clock: Clock, limits: Limits) -> Listener:
        return make_toy(clock, limits)

    def connect(self, address: str = ADDRESS) -> Peer:
        return WebSocketPeer(websocket_factory(self.listener, ["toy"]), self.clock, address)

    def login_bytes(self, number: int = 0) -> bytes:
        return b"hello client-%d\n" % number

    def one_valid_message(self) -> bytes:
        return b"say something\n"

    def half_message(self) -> bytes:
        return b"say some"

    def buffered(self, connection: Any) -> int:
        return len(connection.waiting)


class WebSocketCase(SynchronousTestCase):
    limits = Limits(max_message_rate=100, message_burst=200, max_message_size=100)

    def setUp(self) -> None:
        self.clock = Clock()
        self.listener: ToyListener = make_toy(self.clock, self.limits)
        self.settings = WebSocketSettings()

    def peer(self, **arguments: Any) -> WebSocketPeer:
        factory = websocket_factory(self.listener, ["toy", "old"], lambda: self.settings)
        return WebSocketPeer(factory, self.clock, **arguments)

    def logged_in(self, **arguments: Any) -> WebSocketPeer:
        peer = self.peer(**arguments)
        peer.send(b"hello a\n")
        self.assertEqual(peer.connection.identity, "a")
        return peer

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.listener.tick()
        self.clock.advance(0)


class OpeningTests(WebSocketCase):
    def test_the_subprotocol_that_we_like_best(self) -> None:
        for offered, chosen in ((("toy",), "toy"), (("old", "toy"), "toy"), (("x", "old"), "old")):
            accepted = self.peer(subprotocols=offered).accepted
            assert accepted is not None
            self.assertEqual(accepted.subprotocol, chosen)

    def test_frames_right_behind_the_request(self) -> None:
        peer = self.peer(begin=False)
        request = peer.client.send(peer.request)
        peer.raw(request + frame(0x82, b"hello a\nsay x\n"))
        self.assertEqual((peer.connection.identity, peer.take()), ("a", b"ok\n"))

    def test_byte_by_byte(self) -> None:
        peer = self.peer(begin=False)
        for one in peer.client.send(peer.request):
            peer.raw(bytes([one]))
        self.assertIsNotNone(peer.accepted)
        for one in frame(0x82, b"hello a\n") + frame(0x89, b"ping") + frame(0x82, b"say x\n"):
            peer.raw(bytes([one]))
        self.assertEqual((peer.connection.identity, peer.pongs, peer.take()), ("a", [b"ping"], b"ok\n"))

    def test_whoever_speaks_first_is_heard_afterwards(self) -> None:
        self.listener.protocol = Speaking
        peer = self.peer(begin=False)
        self.clock.advance(0)
        self.assertEqual(peer.transport.value(), b"")
        peer.raw(peer.client.send(peer.request))
        self.assertEqual(peer.take(), b"welcome\n")

    def test_a_refusal(self) -> None:
        peer = self.peer(target="/elsewhere")
        assert peer.rejected is not None
        self.assertEqual((peer.rejected.status_code, peer.reason, peer.gone), (404, "protocol_error", True))
        self.assertEqual((self.listener.stats.malformed, self.listener.connections), (1, set()))

    def test_nothing_is_read_after_a_refusal(self) -> None:
        peer = self.peer(target="/elsewhere")
        peer.protocol.dataReceived(b"GET /mqtt HTTP/1.1\r\n\r\n")
        self.assertEqual(peer.take(), b"")

    def test_settings_are_asked_anew(self) -> None:
        self.peer(target="/elsewhere")
        self.settings = WebSocketSettings(paths=("/elsewhere",))
        self.assertIsNotNone(self.peer(target="/elsewhere").accepted)

    def test_it_takes_too_long(self) -> None:
        peer = self.peer(begin=False)
        peer.raw(b"GET /mqtt HTTP/1.1\r\n")
        self.pass_time(self.limits.auth_timeout)
        assert peer.rejected is not None
        self.assertEqual(peer.rejected.status_code, 408)
        self.assertEqual((peer.reason, peer.gone), ("auth_timeout", True))

    def test_the_broker_stops_meanwhile(self) -> None:
        peer = self.peer(begin=False)
        self.listener.shut_down()
        self.clock.advance(0)
        assert peer.rejected is not None
        self.assertEqual(peer.rejected.status_code, 503)
        self.assertEqual((peer.reason, peer.gone), ("shutdown", True))
        self.assertRaises(ConnectionRefusedError, self.peer)

    def test_somebody_who_only_looks_whether_the_port_is_open(self) -> None:
        peer = self.peer(begin=False)
        peer.hang_up()
        self.assertEqual(peer.connection.reason, "client_closed")


def frame(first: int, payload: bytes, mask: bytes = b"\1\2\3\4") -> bytes:
    """As a client would send it, right or wrong."""
    masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))
    assert len(payload) < 126
    return bytes([first, 0x80 | len(payload)]) + mask + masked


class FrameTests(WebSocketCase):
    def test_messages_are_a_stream(self) -> None:
        """[MQTT-6.0.0-2]: several packets in a message, a packet in several messages and frames."""
        peer = self.logged_in()
        for part in (b"say a\nsay b\nsa", b"", b"y c\n"):
            peer.say(BytesMessage(data=part))
        peer.say(BytesMessage(data=b"say", message_finished=False))
        peer.say(Ping(payload=b"between"))
        peer.say(BytesMessage(data=b" d\nsay e\n"))
        self.assertEqual((peer.take(), peer.pongs), (b"ok\n" * 5, [b"between"]))

    def test_a_turn_is_one_frame(self) -> None:
        peer = self.logged_in()
        peer.transport.reads = False
        peer.raw(frame(0x82, b"say a\n" * 5) + frame(0x82, b"say b\n" * 5))
        self.assertEqual(peer.transport.value(), binary_frame(b"ok\n" * 10))

    def test_sizes_of_frames_from_us(self) -> None:
        peer = self.logged_in()
        for size in (1, 125, 126, 65_535, 65_536, 1_000_000):
            peer.connection.send(b"x" * size)
            self.clock.advance(0)
            self.assertEqual(len(peer.take()), size)

    def test_text_ends_it(self) -> None:
        """[MQTT-6.0.0-1]"""
        peer = self.logged_in()
        peer.raw(frame(0x82, b"say a\n") + frame(0x81, b"say b\n") + frame(0x82, b"say c\n"))
        self.assertEqual((peer.take(), peer.closed_with), (b"ok\n", (1003, "protocol_error")))
        self.assertEqual((peer.reason, peer.gone), ("protocol_error", True))
        self.assertEqual(peer.connection.messages_in, 2)

    def test_what_is_no_frame(self) -> None:
        cases = {
            b"\x82\x01x": 1002,  # not masked
            b"\xc2\x80\1\2\3\4": 1002,  # a reserved bit
            frame(0x83, b"x"): 1002,  # an unknown kind
            frame(0x09, b"x"): 1002,  # a ping in pieces
            frame(0x80, b"x"): 1002,  # the rest of nothing
            frame(0x02, b"x") + frame(0x82, b"x"): 1002,  # a new message within one
            b"\x82\xfe\0\1\1\2\3\4": 1002,  # a length that is longer than it needs to be
            b"\x82\xff\x80" + bytes(7): 1002,  # a length over 63 bits
            b"\x89\xfe\0\x7e": 1002,  # a long ping
            frame(0x88, b"x"): 1002,  # half a code
            frame(0x88, b"\x03\xed"): 1002,  # a code that must not be sent
            frame(0x88, b"\x03\xe8\xff"): 1007,  # text that is not UTF-8
        }
        for number, (wrong, code) in enumerate(cases.items(), 1):
            peer = self.logged_in()
            peer.raw(frame(0x82, b"say a\n") + wrong + frame(0x82, b"say b\n"))
            assert peer.closed_with is not None, wrong
            self.assertEqual((peer.take(), peer.closed_with[0]), (b"ok\n", code), wrong)
            self.assertEqual((peer.reason, peer.gone), ("malformed", True), wrong)
            self.assertEqual(self.listener.stats.malformed, number)

    def test_a_huge_frame_is_not_collected(self) -> None:
        peer = self.logged_in()
        peer.raw(b"\x82\xff" + (1 << 40).to_bytes(8, "big") + bytes(4) + b"say a\n")
        self.assertEqual(peer.take(), b"ok\n")
        peer.raw(b"x" * 200)
        self.assertEqual((peer.reason, peer.closed_with), ("too_long", (1009, "too_long")))

    def test_a_flood_of_frames_with_little_in_them_is_slowed_down(self) -> None:
        crumbs = b"".join(frame(0x82, b"say x\n"[place : place + 1]) for place in range(6)) * 50
        cases = (
            (frame(0x89, b"p" * 100) * 300, 0),
            (frame(0x8A, b"") * 300, 0),
            (frame(0x82, b"") * 300, 0),
            (crumbs, 50),
        )
        for number, (flood, messages) in enumerate(cases, 1):
            peer = self.logged_in()
            before = peer.connection.messages_in
            peer.raw(flood)
            self.assertEqual(peer.transport.producerState, "paused", number)
            self.assertEqual(self.listener.stats.throttled, number)
            self.assertEqual(peer.connection.messages_in, before + messages)
            self.pass_time(5)
            self.assertEqual((peer.transport.producerState, peer.reason), ("producing", ""))
            peer.hang_up()

    def test_a_message_a_frame_costs_no_more_than_without(self) -> None:
        peer = self.logged_in()
        peer.raw(frame(0x82, b"say a\n") * 150)
        self.assertEqual((peer.transport.producerState, self.listener.stats.throttled), ("producing", 0))

    def test_many_pings_at_once_are_one_to_answer(self) -> None:
        peer = self.logged_in()
        peer.raw(b"".join(frame(0x89, b"%d" % number) for number in range(50)))
        self.assertEqual(peer.pongs, [b"49"])

    @settings(max_examples=200, deadline=None)
    @given(st.lists(st.binary(max_size=40), max_size=5))
    def test_garbage(self, chunks: list[bytes]) -> None:
        self.setUp()
        peer = self.logged_in()
        for chunk in chunks:
            peer.raw(chunk)
        self.assertIn(peer.reason, ("", "malformed", "protocol_error", "too_long", "client_closed", "auth_failed"))
        self.assertEqual(self.flushLoggedErrors(), [])


class SlowTests(WebSocketCase):
    def jammed(self) -> WebSocketPeer:
        peer = self.logged_in()
        peer.transport.stop_reading()
        peer.connection.send(b"x" * (BUFFER + 1))
        self.clock.advance(0)
        self.assertTrue(peer.connection.outbox.blocked)
        return peer

    def test_nothing_is_written_while_the_socket_is_full(self) -> None:
        peer = self.jammed()
        unread = peer.transport.unread
        peer.connection.send(b"y")
        for number in range(50):
            peer.raw(frame(0x89, b"%d" % number))
        self.assertEqual(peer.transport.unread, unread)
        peer.transport.start_reading()
        self.assertEqual(peer.take(), b"x" * (BUFFER + 1) + b"y")
        self.assertEqual(peer.pongs, [b"49"])
        self.assertEqual(peer.connection.events, ["opened", "writable"])  # type: ignore[attr-defined]  # of the toy

    def test_one_that_never_reads(self) -> None:
        peer = self.jammed()
        self.pass_time(self.limits.slow_reader_timeout)
        self.assertEqual((peer.reason, peer.gone), ("slow_reader", True))

    def test_reading_pauses(self) -> None:
        peer = self.logged_in()
        peer.connection.pause("mine")
        self.assertEqual(peer.transport.producerState, "paused")
        peer.connection.resume("mine")
        self.assertEqual(peer.transport.producerState, "producing")


class ClosingTests(WebSocketCase):
    def test_ours(self) -> None:
        codes = {"shutdown": 1001, "takeover": 1008, "idle": 1001, "internal_error": 1011, "removed": 1008}
        for reason, code in codes.items():
            peer = self.logged_in()
            peer.connection.send(b"last\n")
            peer.connection.close(reason)
            self.clock.advance(0)
            self.assertEqual((peer.take(), peer.closed_with), (b"last\nbye %b\n" % reason.encode(), (code, reason)))
            self.clock.advance(0)
            self.assertEqual((peer.reason, peer.gone), (reason, True))

    def test_what_is_on_its_way_meanwhile(self) -> None:
        peer = self.logged_in(silent=True)
        peer.connection.close("removed")
        peer.raw(frame(0x82, b"say a\n") + frame(0x89, b""))
        self.assertEqual((peer.take(), peer.pongs, peer.gone), (b"bye removed\n", [], False))
        peer.raw(frame(0x88, b""))
        self.assertEqual((peer.gone, peer.connection.messages_in), (True, 1))

    def test_a_client_that_does_not_answer(self) -> None:
        peer = self.logged_in(silent=True)
        peer.connection.close("removed")
        self.clock.advance(0)
        self.assertFalse(peer.gone)
        self.pass_time(self.limits.close_timeout)
        self.assertEqual((peer.reason, peer.gone), ("removed", True))

    def test_a_client_that_goes_on_instead(self) -> None:
        for late in (frame(0x82, b"x" * 100) * 3000, frame(0x83, b"")):
            peer = self.logged_in(silent=True)
            peer.connection.close("removed")
            peer.raw(late)
            self.assertTrue(peer.gone, len(late))
        self.assertGreater(len(frame(0x82, b"x" * 100) * 3000), MAX_LATE)

    def test_a_client_that_goes_instead_of_answering(self) -> None:
        peer = self.logged_in(silent=True)
        peer.connection.close("removed")
        peer.hang_up()
        self.assertEqual((peer.reason, self.listener.stats.closed), ("removed", {"removed": 1}))

    def test_the_clients(self) -> None:
        for code, echoed in ((1000, 1000), (1001, 1001), (4321, 4321), (None, 1000)):
            peer = self.logged_in()
            peer.connection.send(b"too late")
            body = b"" if code is None else code.to_bytes(2, "big") + b"so long"
            peer.transport.reads = False
            peer.raw(frame(0x82, b"say a\n") + frame(0x88, body) + frame(0x82, b"say b\n"))
            self.assertEqual(peer.transport.value(), b"\x88\x02" + echoed.to_bytes(2, "big"))
            peer.transport.start_reading()
            self.clock.advance(0)
            self.assertEqual((peer.reason, peer.connection.messages_in, peer.gone), ("client_closed", 2, True))

    def test_both_at_once(self) -> None:
        peer = self.logged_in(silent=True)
        peer.say(CloseConnection(code=1000))
        peer.connection.close("removed")
        self.clock.advance(0)
        self.assertEqual((peer.reason, peer.gone), ("client_closed", True))

    def test_without_a_close_frame_it_is_lost(self) -> None:
        peer = self.logged_in()
        peer.transport.lose(ConnectionDone())
        self.assertEqual(peer.connection.reason, "connection_lost")

    def test_aborting(self) -> None:
        peer = self.logged_in()
        peer.connection.abort("slow_reader")
        self.clock.advance(0)
        self.assertEqual((peer.reason, peer.gone, peer.closed_with), ("slow_reader", True, None))

    def test_a_fault_of_the_protocol(self) -> None:
        peer = self.logged_in()
        peer.send(b"break\n")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual((peer.closed_with, peer.gone), ((1011, "internal_error"), True))


class WireTests(WebSocketCase):
    def test_what_else_a_transport_has(self) -> None:
        peer = self.logged_in()
        wire: Any = peer.connection.transport
        self.assertEqual((wire.getPeer(), wire.getHost()), (peer.transport.getPeer(), peer.transport.getHost()))
        self.assertFalse(wire.disconnecting)
        wire.writeSequence([b"a", b"b"])
        self.clock.advance(0)
        self.assertEqual(peer.take(), b"ab")
        self.assertIsNone(peer.connection.certificate_subject)
        wire.stopProducing()
        self.clock.advance(0)
        self.assertIsInstance(peer.connection, Connection)


class ClientFrames(WebSocketCase):
    def test_what_clients_may_send_at_any_time(self) -> None:
        peer = self.logged_in()
        peer.say(Pong(payload=b"nobody asked"))
        peer.say(Ping())
        self.assertEqual((peer.pongs, peer.reason), ([b""], ""))
        peer.say(TextMessage(data=""))
        self.assertEqual(peer.reason, "protocol_error")
