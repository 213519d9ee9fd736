"""The opening of a WebSocket: what is accepted, and what every other request is told."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from wsproto.events import BytesMessage

from broker.listening.handshake import Handshake, Refused
from broker.listening.settings import WebSocketSettings

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455, 1.3

GOOD = {
    "Host": "broker.example",
    "Upgrade": "websocket",
    "Connection": "keep-alive, Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Protocol": "mqttv3.1, mqtt",
}


def request(line: str = "GET /mqtt HTTP/1.1", without: str = "", **changed: str) -> bytes:
    """The good one, with differences; underscores in names stand for hyphens."""
    headers = GOOD | {name.replace("_", "-"): value for name, value in changed.items()}
    headers.pop(without, None)
    return "".join(f"{text}\r\n" for text in (line, *(f"{k}: {v}" for k, v in headers.items()), "")).encode("latin-1")


class HandshakeTests(SynchronousTestCase):
    settings = WebSocketSettings()

    def handshake(self, **settings: Any) -> Handshake:
        return Handshake(("mqtt", "mqttv3.1"), WebSocketSettings(**settings))

    def refusal(self, data: bytes, **settings: Any) -> tuple[int, str, bytes]:
        """Status, close reason and the whole answer."""
        refused = self.assertRaises(Refused, self.handshake(**settings).receive, data)
        head, _, body = refused.answer.partition(b"\r\n\r\n")
        self.assertIn(b"\r\nContent-Length: %d\r\n" % len(body), head + b"\r\n")
        self.assertIn(b"\r\nConnection: ", head)
        return int(head.split()[1]), refused.reason, refused.answer

    def accepted(self, data: bytes, **settings: Any) -> bytes:
        answer = self.handshake(**settings).receive(data)
        assert answer is not None
        return answer[0]

    def test_the_answer(self) -> None:
        answer = self.accepted(request())
        self.assertTrue(answer.startswith(b"HTTP/1.1 101 Switching Protocols\r\n"))
        lines = answer.lower().split(b"\r\n")
        for line in (b"upgrade: websocket", b"connection: upgrade", b"sec-websocket-protocol: mqtt"):
            self.assertIn(line, lines)
        self.assertIn(
            b"\r\nSec-WebSocket-Accept: " + ACCEPT, answer.replace(b"sec-websocket-accept", b"Sec-WebSocket-Accept")
        )
        self.assertNotIn(b"sec-websocket-extensions", answer.lower())

    def test_what_else_is_good(self) -> None:
        for good in (
            request("GET / HTTP/1.1"),
            request("GET /mqtt?x=1 HTTP/1.1"),
            request(Upgrade="WebSocket"),
            request(Origin="https://anywhere.example"),
            request(Sec_WebSocket_Extensions="permessage-deflate; client_max_window_bits"),
            request(Sec_WebSocket_Protocol="mqttv3.1"),
        ):
            self.assertIn(b" 101 ", self.accepted(good), good)

    def test_every_cut_needs_more(self) -> None:
        whole = request()
        for cut in range(1, len(whole)):
            handshake = self.handshake()
            self.assertIsNone(handshake.receive(whole[:cut]))
            answer = handshake.receive(whole[cut:])
            assert answer is not None
            self.assertIn(b" 101 ", answer[0])

    def test_what_came_behind_it(self) -> None:
        answer = self.handshake().receive(request() + b"\x82\x81\0\0\0\0x")
        assert answer is not None
        self.assertEqual([event.data for event in answer[1].events() if isinstance(event, BytesMessage)], [b"x"])

    def test_refusals(self) -> None:
        cases = {
            request("GET /other HTTP/1.1"): (404, "protocol_error"),
            request("POST /other HTTP/1.1"): (404, "protocol_error"),
            request("GET http://broker.example/mqtt HTTP/1.1"): (404, "protocol_error"),
            request("POST /mqtt HTTP/1.1"): (405, "protocol_error"),
            request(without="Upgrade"): (426, "protocol_error"),
            request(Upgrade="h2c"): (426, "protocol_error"),
            request("GET /mqtt HTTP/1.0"): (426, "protocol_error"),
            request(Sec_WebSocket_Version="12"): (426, "protocol_error"),
            request(without="Sec-WebSocket-Version"): (400, "malformed"),
            request(without="Sec-WebSocket-Key"): (400, "malformed"),
            request(without="Connection"): (400, "malformed"),
            request(without="Host"): (400, "malformed"),
            request(without="Sec-WebSocket-Protocol"): (400, "protocol_error"),
            request(Sec_WebSocket_Protocol="amqp"): (400, "protocol_error"),
            request(Sec_WebSocket_Protocol="\xff"): (400, "malformed"),
            request(Host="\xff\xfe"): (400, "malformed"),
            request(Content_Length="5") + b"12345": (400, "protocol_error"),
            request(Content_Length="5"): (400, "protocol_error"),
            request(Content_Length="x"): (400, "malformed"),
            b"\x10\x0c\0\x04MQTT\4\0\0\0\0\0": (400, "malformed"),
            b"nonsense\r\n\r\n": (400, "malformed"),
            b"\x16\x03\x01\x02\0": (400, "malformed"),
        }
        for data, expected in cases.items():
            self.assertEqual(self.refusal(data)[:2], expected, data)

    def test_what_a_plain_request_is_told(self) -> None:
        answer = self.refusal(b"GET /mqtt HTTP/1.1\r\nHost: x\r\n\r\n")[2]
        self.assertTrue(answer.startswith(b"HTTP/1.1 426 Upgrade Required\r\n"))
        for line in (b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Version: 13"):
            self.assertIn(b"\r\n" + line + b"\r\n", answer)
        self.assertIn(b"\r\nAllow: GET\r\n", self.refusal(request("PUT / HTTP/1.1"))[2])

    def test_a_head_without_end(self) -> None:
        for data in (request()[:-2] + b"X: " + b"x" * 2000, b"GET /" + b"x" * 3000, b"G" * 3000):
            self.assertEqual(self.refusal(data, max_handshake_size=1024)[:2], (431, "too_long"), data[:20])

    def test_origins(self) -> None:
        origins = ("https://console.example", "http://localhost:3000")
        for origin in origins:
            self.assertIn(b" 101 ", self.accepted(request(Origin=origin), origins=origins))
        self.assertIn(b" 101 ", self.accepted(request(), origins=origins))  # not a browser
        for origin in ("https://evil.example", "https://console.example.evil", "null", ""):
            self.assertEqual(self.refusal(request(Origin=origin), origins=origins)[:2], (403, "auth_failed"), origin)

    def test_paths(self) -> None:
        self.assertIn(b" 101 ", self.accepted(request("GET /ws HTTP/1.1"), paths=("/ws",)))
        self.assertEqual(self.refusal(request(), paths=("/ws",))[0], 404)

    @given(st.integers(0, 400), st.binary(min_size=1, max_size=8))
    def test_bytes_changed(self, place: int, bytes_: bytes) -> None:
        """An answer, need more, or a refusal."""
        whole = request()
        place %= len(whole)
        try:
            self.handshake().receive(whole[:place] + bytes_ + whole[place + len(bytes_) :])
        except Refused as refused:
            self.assertTrue(refused.answer.startswith(b"HTTP/1.1 4") or b" 501 " in refused.answer, refused.answer)

    @given(st.binary(max_size=200))
    def test_any_bytes(self, data: bytes) -> None:
        try:
            self.assertIsNone(self.handshake().receive(data or b"G"))
        except Refused as refused:
            self.assertEqual(refused.reason, "malformed")
