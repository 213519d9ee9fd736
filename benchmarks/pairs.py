"""MQTT load: raw sockets and prebuilt bytes, cheaper than any server that it drives.

Pairs of a publisher and a subscriber share one process and one epoll. The window is closed through it: a publisher has
at most ``window`` messages outstanding that its subscriber has not seen yet (at QoS 1: and that are not acknowledged to
the publisher). Every message that was sent is received, byte for byte (QoS 0) or by head and count (QoS 1), or else
there is a BenchmarkError.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from benchmarks.children import BenchmarkError
from broker.mqtt import encode
from broker.mqtt import packets as p

PAYLOAD = bytes(range(48, 112))  # 64 bytes
#: Seconds without any message after which a run counts as stuck.
STALL = 15.0
_PUBACK = b"\x40\x02\x00\x00"


@dataclass(slots=True)
class Load:
    """What one run did: messages that arrived, seconds, and the latencies that were taken (seconds)."""

    messages: int
    seconds: float
    latencies: list[float] = field(default_factory=list)
    #: Messages that were sent and never came, where that may be: datagrams that found a full buffer.
    lost: int = 0


class Server(Protocol):
    """What is needed of `benchmarks.children.Child`."""

    name: str
    mqtt_port: int
    user: str
    password: str


def open_client(
    server: Server, client_id: str, filters: Sequence[tuple[str, int]] = (), lasting: bool = False
) -> socket.socket:
    """A connection that is logged in and subscribed; ``lasting``: its session outlives it. Raises BenchmarkError."""
    sock = socket.create_connection(("127.0.0.1", server.mqtt_port), STALL)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connect = p.Connect(client_id, clean=not lasting, user=server.user, password=server.password.encode())
    sock.sendall(encode.encode(connect))
    answer = read_exactly(sock, 4)
    if answer != b"\x20\x02\x00\x00":
        raise BenchmarkError(f"{server.name} refused the login: {answer.hex(' ')}")
    if filters:
        sock.sendall(encode.encode(p.Subscribe(1, list(filters))))
        granted = b"\x90" + bytes((2 + len(filters),)) + b"\x00\x01" + bytes(qos for _, qos in filters)
        answer = read_exactly(sock, len(granted))
        if answer != granted:
            raise BenchmarkError(f"{server.name} refused the subscription: {answer.hex(' ')}")
    sock.settimeout(None)  # with one, every call asks the system twice
    return sock


def read_exactly(sock: socket.socket, size: int) -> bytes:
    """``size`` bytes. Raises BenchmarkError when they do not come."""
    data = b""
    while len(data) < size:
        try:
            more = sock.recv(size - len(data))
        except TimeoutError:
            more = b""
        if not more:
            raise BenchmarkError(f"expected {size} bytes, got {len(data)}")
        data += more
    return data


class Pair:
    """A publisher and its subscriber at QoS 0."""

    def __init__(
        self, server: Server, number: int, window: int, lasting: bool = False, reader: Server | None = None
    ) -> None:
        topic = f"bench/{number:04}/up"
        self.window = window
        self.publisher = open_client(server, f"p{number}")
        self.subscriber = open_client(reader or server, f"s{number}", [(topic, self.qos)], lasting)
        self.topic = topic.encode()
        self.sent = self.seen = self.goal = 0
        self.sent_at = 0.0
        self.prepare()

    qos = 0

    def prepare(self) -> None:
        packet = encode.publish(self.topic, PAYLOAD)
        self._size = len(packet)
        self._ring = packet * (self.window + 1)
        self._rest = 0  # bytes of a packet that has come in part

    def begin(self, messages: int) -> None:
        """Send the first window of so many further messages."""
        self.goal = self.sent + messages
        self.send()

    @property
    def outstanding(self) -> int:
        return self.sent - self.seen

    @property
    def done(self) -> bool:
        return self.seen == self.goal

    def send(self) -> None:
        count = min(self.window - self.outstanding, self.goal - self.sent)
        if count:
            self.sent += count
            self.sent_at = time.perf_counter()
            self.publisher.sendall(self._ring[: count * self._size])

    def arrived(self) -> int:
        """The subscriber is readable: take what is there, send what that makes room for."""
        data = self.subscriber.recv(len(self._ring))
        rest = self._rest
        if not data or self._ring[rest : rest + len(data)] != data:
            raise BenchmarkError("the subscriber got other bytes than were published")
        count, self._rest = divmod(rest + len(data), self._size)
        self.seen += count
        self.send()
        return count

    def acknowledged(self) -> None:
        """The publisher is readable."""
        raise BenchmarkError("the publisher was sent something, or cut off")

    def close(self) -> None:
        self.publisher.close()
        self.subscriber.close()


class AcknowledgedPair(Pair):
    """A publisher and its subscriber at QoS 1."""

    qos = 1

    def prepare(self) -> None:
        self._head = encode.publish_head(self.topic, len(PAYLOAD), 1)
        self._size = len(self._head) + 2 + len(PAYLOAD)
        self._ids = max(64, 4 * self.window)
        ring = b"".join(self._head + encode.packet_id_bytes(n + 1) + PAYLOAD for n in range(self._ids))
        self._ring = ring + ring[: self.window * self._size]
        self._acks = _PUBACK * (self.window + 1)
        self._held = b""
        self._acked_bytes = 0

    @property
    def outstanding(self) -> int:
        return self.sent - min(self.seen, self._acked_bytes // 4)

    @property
    def done(self) -> bool:
        return self.outstanding == 0 and self.sent == self.goal

    def send(self) -> None:
        count = min(self.window - self.outstanding, self.goal - self.sent)
        if count:
            start = self.sent % self._ids * self._size
            self.sent += count
            self.sent_at = time.perf_counter()
            self.publisher.sendall(self._ring[start : start + count * self._size])

    def arrived(self) -> int:
        data = self._held + self.subscriber.recv(len(self._ring))
        size = self._size
        count, rest = divmod(len(data), size)
        self._held = data[len(data) - rest :]
        data = data[: len(data) - rest]
        if data.count(self._head) != count or (count and not data.endswith(PAYLOAD)):
            raise BenchmarkError("the subscriber got other packets than were published")
        if count:
            at = len(self._head)
            acks = bytearray(self._acks[: 4 * count])
            acks[2::4] = data[at::size]
            acks[3::4] = data[at + 1 :: size]
            self.subscriber.sendall(acks)
            self.seen += count
            self.send()
        return count

    def acknowledged(self) -> None:
        data = self.publisher.recv(65536)
        if not data or (self._acked_bytes % 4 == 0 and not data.startswith(b"\x40\x02")):
            raise BenchmarkError("the publisher got something else than acknowledgements")
        self._acked_bytes += len(data)
        self.send()


class Pairs:
    """Many pairs on one epoll. ``lasting``: the subscribers have sessions that are kept on disk. ``kind`` makes other
    pairs."""

    def __init__(
        self,
        server: Server,
        pairs: int,
        qos: int,
        window: int,
        lasting: bool = False,
        kind: Callable[[Server, int, int, bool], Pair] | None = None,
    ) -> None:
        if kind is None:
            kind = AcknowledgedPair if qos else Pair
        self._poll = select.epoll()
        self._pairs: list[Pair] = []
        self._by_descriptor: dict[int, tuple[Pair, bool]] = {}
        self._timed = window == 1
        try:
            for number in range(pairs):
                pair = kind(server, number, window, lasting)
                self._pairs.append(pair)
                for sock, is_subscriber in ((pair.subscriber, True), (pair.publisher, False)):
                    self._by_descriptor[sock.fileno()] = (pair, is_subscriber)
                    self._poll.register(sock, select.EPOLLIN)
        except BaseException:
            self.close()
            raise

    def run(self, messages: int) -> Load:
        """Pass about so many messages; returns when all have arrived. Raises BenchmarkError."""
        each = max(1, messages // len(self._pairs))
        total = each * len(self._pairs)
        latencies: list[float] = []
        clock = time.perf_counter
        started = clock()
        for pair in self._pairs:
            pair.begin(each)
        arrived = 0
        while arrived < total or not all(pair.done for pair in self._pairs):
            events = self._poll.poll(STALL)
            if not events:
                raise BenchmarkError(f"stuck: {arrived} of {total} messages arrived")
            for descriptor, _ in events:
                pair, is_subscriber = self._by_descriptor[descriptor]
                if not is_subscriber:
                    pair.acknowledged()
                elif self._timed:
                    latency = clock() - pair.sent_at
                    count = pair.arrived()
                    latencies += [latency] * count
                    arrived += count
                else:
                    arrived += pair.arrived()
        return Load(arrived, clock() - started, latencies)

    def close(self) -> None:
        for pair in self._pairs:
            pair.close()
        self._poll.close()


class FanOut:
    """One publisher and many subscribers at QoS 0, in rounds of ``window`` messages."""

    def __init__(self, server: Server, subscribers: int, window: int) -> None:
        self._window = window
        self._packet = encode.publish(b"bench/all", PAYLOAD)
        self._poll = select.epoll()
        self._publisher = open_client(server, "publisher")
        self._subscribers: dict[int, socket.socket] = {}
        for number in range(subscribers):
            sock = open_client(server, f"s{number}", [("bench/all", 0)])
            self._subscribers[sock.fileno()] = sock
            self._poll.register(sock, select.EPOLLIN)

    def run(self, messages: int) -> Load:
        """Deliver about so many messages, counted at the subscribers."""
        expected = self._packet * self._window
        per_round = self._window * len(self._subscribers)
        rounds = max(1, messages // per_round)
        started = time.perf_counter()
        for _ in range(rounds):
            self._publisher.sendall(expected)
            self._round(expected)
        return Load(rounds * per_round, time.perf_counter() - started)

    def _round(self, expected: bytes) -> None:
        """Until every subscriber has all of it."""
        got = dict.fromkeys(self._subscribers, 0)
        left = len(got)
        while left:
            events = self._poll.poll(STALL)
            if not events:
                raise BenchmarkError(f"stuck: {left} subscribers wait")
            for descriptor, _ in events:
                data = self._subscribers[descriptor].recv(65536)
                at = got[descriptor]
                if not data or expected[at : at + len(data)] != data:
                    raise BenchmarkError("a subscriber got other bytes than were published")
                got[descriptor] = at + len(data)
                left -= at + len(data) == len(expected)

    def close(self) -> None:
        for sock in (self._publisher, *self._subscribers.values()):
            sock.close()
        self._poll.close()


class Idle:
    """Connections that are logged in and do nothing."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._open: list[socket.socket] = []

    def run(self, messages: int) -> Load:
        """Open so many more, and leave them open."""
        started = time.perf_counter()
        for _ in range(messages):
            self._open.append(open_client(self._server, f"idle{len(self._open)}"))
        return Load(messages, time.perf_counter() - started)

    def close(self) -> None:
        for sock in self._open:
            sock.close()
