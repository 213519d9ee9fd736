"""Commands on their way to Redis: at once where the socket has room, and never out of their order."""

from __future__ import annotations

from typing import Any

from twisted.internet.tcp import Connection
from twisted.trial.unittest import SynchronousTestCase

from broker.storage.redis.link import send_now


class Socket:
    """Takes so many bytes, then none."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.sent = b""

    def send(self, data: bytes) -> int:
        if not self.room:
            raise BlockingIOError
        taken = data[: self.room]
        self.room -= len(taken)
        self.sent += taken
        return len(taken)


class Transport(Connection):
    """`Connection` as far as it is looked at."""

    disconnecting = False
    TLS = False

    def __init__(self, room: int = 1000) -> None:
        self.socket: Any = Socket(room)
        self.dataBuffer = b""
        self._tempDataBuffer: list[bytes] = []
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)
        self._tempDataBuffer.append(data)


class Broken(Socket):
    def send(self, data: bytes) -> int:
        raise ConnectionResetError


class SendingTests(SynchronousTestCase):
    def test_room(self) -> None:
        transport = Transport()
        send_now(transport, b"one")
        send_now(transport, b"two")
        self.assertEqual((transport.socket.sent, transport.written), (b"onetwo", []))

    def test_what_does_not_fit_is_written_and_all_that_follows(self) -> None:
        transport = Transport(room=2)
        for data in (b"one", b"two"):
            send_now(transport, data)
        self.assertEqual((transport.socket.sent, transport.written), (b"on", [b"e", b"two"]))
        transport.socket.room = 100  # there is room again, but something waits before it
        send_now(transport, b"three")
        self.assertEqual((transport.socket.sent, transport.written[2:]), (b"on", [b"three"]))

    def test_none(self) -> None:
        transport = Transport(room=0)
        send_now(transport, b"one")
        self.assertEqual(transport.written, [b"one"])

    def test_a_broken_one_is_left_to_who_tells_of_it(self) -> None:
        transport = Transport()
        transport.socket = Broken(0)
        send_now(transport, b"one")
        self.assertEqual(transport.written, [b"one"])

    def test_under_tls_and_at_the_end(self) -> None:
        for name in ("TLS", "disconnecting"):
            transport = Transport()
            setattr(transport, name, True)
            send_now(transport, b"one")
            self.assertEqual((transport.socket.sent, transport.written), (b"", [b"one"]))
