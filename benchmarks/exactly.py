"""MQTT load whose acknowledgements go back and forth: pairs at QoS 2, and one publisher to many at QoS 1 and 2.

Both ends take whatever packets a chunk holds, answer them in one write, and count them.
"""

from __future__ import annotations

import select
import socket
import time

from benchmarks.children import BenchmarkError
from benchmarks.pairs import PAYLOAD, STALL, Load, Pair, Server, open_client
from broker.mqtt import encode

PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 3, 4, 5, 6, 7
#: type that came -> the first bytes of its answer
ANSWERS = {PUBREC: b"\x62\x02", PUBREL: b"\x70\x02"}


class End:
    """One end of the exchange: messages that came, those that are settled, on either side."""

    def __init__(self, sock: socket.socket, head: bytes, size: int, qos: int) -> None:
        self.sock = sock
        self.came = self.settled = 0
        self._head = head
        self._size = size
        self._first = b"\x40\x02" if qos == 1 else b"\x50\x02"
        self._settles = qos == 1
        self._held = b""

    def take(self) -> None:
        """The socket is readable. Raises BenchmarkError for a packet that has no place here."""
        data = self._held + self.sock.recv(262_144)
        size, offset, answers = len(data), 0, []
        if size == len(self._held):
            raise BenchmarkError("a client was cut off")
        while offset < size:
            kind = data[offset] >> 4
            end = offset + (self._size if kind == PUBLISH else 4)
            if end > size:
                break
            if kind == PUBLISH:
                at = offset + len(self._head)
                if data[offset:at] != self._head:
                    raise BenchmarkError("another message came than was published")
                answers.append(self._first + data[at : at + 2])
                self.came += 1
                self.settled += self._settles
            else:
                answer = ANSWERS.get(kind)
                if answer is not None:
                    answers.append(answer + data[offset + 2 : end])
                self.settled += kind in (PUBACK, PUBREL, PUBCOMP)
            offset = end
        self._held = data[offset:]
        if answers:
            self.sock.sendall(b"".join(answers))


def ring_of(topic: bytes, qos: int, window: int) -> tuple[bytes, int, int, bytes]:
    """The head of a PUBLISH, its size, the number of packet ids, and the packets of all of them and a window more."""
    head = encode.publish_head(topic, len(PAYLOAD), qos)
    ids = max(64, 4 * window)
    ring = b"".join(head + encode.packet_id_bytes(n + 1) + PAYLOAD for n in range(ids))
    size = len(head) + 2 + len(PAYLOAD)
    return head, size, ids, ring + ring[: window * size]


class ExactlyPair(Pair):
    """A publisher and its subscriber at QoS 2; a message is done when both have nothing more to say about it."""

    qos = 2

    def prepare(self) -> None:
        head, self._size, self._ids, self._ring = ring_of(self.topic, 2, self.window)
        self._from = End(self.publisher, head, self._size, 2)
        self._to = End(self.subscriber, head, self._size, 2)

    @property
    def outstanding(self) -> int:
        return self.sent - min(self._from.settled, self._to.settled)

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
        before = self._to.came
        self._to.take()
        self.send()
        self.seen = self._to.came
        return self.seen - before

    def acknowledged(self) -> None:
        self._from.take()
        self.send()


class AcknowledgedFanOut:
    """One publisher and many subscribers at QoS 1 or 2, in rounds of ``window`` messages."""

    def __init__(self, server: Server, subscribers: int, window: int, qos: int) -> None:
        self._window = window
        head, self._size, self._ids, self._ring = ring_of(b"bench/all", qos, window)
        self._from = End(open_client(server, "publisher"), head, self._size, qos)
        self._to = [
            End(open_client(server, f"s{number}", [("bench/all", qos)]), head, self._size, qos)
            for number in range(subscribers)
        ]
        self._ends = {end.sock.fileno(): end for end in (self._from, *self._to)}
        self._poll = select.epoll()
        for descriptor in self._ends:
            self._poll.register(descriptor, select.EPOLLIN)
        self._sent = 0

    def run(self, messages: int) -> Load:
        """Deliver about so many messages, counted at the subscribers; each is settled on both sides."""
        per_round = self._window * len(self._to)
        rounds = max(1, messages // per_round)
        started = time.perf_counter()
        for _ in range(rounds):
            start = self._sent % self._ids * self._size
            self._from.sock.sendall(self._ring[start : start + self._window * self._size])
            self._sent += self._window
            while any(end.settled < self._sent for end in self._ends.values()):
                self._step()
        for end in self._to:
            if end.came != self._sent:
                raise BenchmarkError(f"a subscriber got {end.came} of {self._sent} messages")
        return Load(rounds * per_round, time.perf_counter() - started)

    def _step(self) -> None:
        events = self._poll.poll(STALL)
        if not events:
            raise BenchmarkError("stuck: subscribers wait")
        for descriptor, _ in events:
            self._ends[descriptor].take()

    def close(self) -> None:
        for end in self._ends.values():
            end.sock.close()
        self._poll.close()
