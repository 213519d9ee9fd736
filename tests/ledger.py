"""What clients sent through a broker that fails, what came, and the account of it: for every storm of these tests.

::

    publisher ──QoS 1 or 2──> whatever fails ──QoS 1 or 2──> subscriber       pairs of 3.1.1 and of 5.0, one topic each

The clients keep their sessions as the standard wants it of them [MQTT-4.4.0-1]: they come back with clean=0, send again
what was not acknowledged, with its packet id and DUP, and a subscriber knows the ids of QoS 2 messages that it has not
released.

What must hold afterwards: every message arrived, the first copies of each in their order [MQTT-4.6.0-6]; at QoS 2 there
was one copy; no session was forgotten once its client had been told of it. A message that was acknowledged is never
sent again, so one that the broker had lost would be missing.
"""

from __future__ import annotations

import argparse
import socket
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields

from broker.mqtt import packets as p
from broker.mqtt import properties as props
from broker.mqtt.codec import Decoder
from broker.mqtt.encode import encode
from broker.mqtt.packets import Packet
from tests.real import PATIENCE

#: The application that all clients log in as.
USER = "storm"
#: Messages of a publisher on their way: unacknowledged, and acknowledged but not yet seen by the subscriber.
WINDOW = 20
BEHIND = 500
#: How many of what is wrong are named in a line.
NAMED = 20


class Client:
    """One client with its session. ``secret``: the application's."""

    def __init__(self, name: str, version: int, secret: str) -> None:
        self.name = name
        self.version = version
        self.secret = secret
        self.socket: socket.socket | None = None
        #: CONNACK came on this connection.
        self.welcome = False
        #: What the server told us makes it certain that it has our session on disk.
        self.certain = False
        self.pongs = 0
        #: Whether the server may say that it takes nobody now: its storage may be away.
        self.may_be_refused = False
        self._decoder = Decoder(1 << 20, "client", version)

    def connect(self, port: int) -> bool:
        """False if the broker is not there any more."""
        kept: p.Properties | None = {props.SESSION_EXPIRY_INTERVAL: 3600} if self.version == p.MQTT_5 else None
        hello = p.Connect(self.name, self.version, False, 60, USER, self.secret.encode(), properties=kept)
        self._decoder = Decoder(1 << 20, "client", self.version)
        self.welcome = False
        try:
            self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
            self.socket.sendall(encode(hello, self.version))
        except OSError:
            self.drop()
            return False
        return True

    def drop(self) -> None:
        """The connection is over, whoever ended it."""
        self.welcome = False
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    def send(self, *packets: Packet) -> None:
        if self.socket is None or not packets:
            return
        try:
            self.socket.sendall(b"".join(encode(one, self.version) for one in packets))
        except OSError:
            self.drop()

    def readable(self) -> None:
        """Take what came. Raises AssertionError for what must not come."""
        if self.socket is None:
            return
        try:
            data = self.socket.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            self.drop()
            return
        answers: list[Packet] = []
        for packet in self._decoder.feed(data):
            if self.may_be_refused and _refuses(packet):
                self.drop()
                return
            if isinstance(packet, p.ConnAck):
                assert packet.code == 0, (self.name, packet)
                assert packet.session_present or not self.certain, f"{self.name}: the session was forgotten"
                self.welcome = True
                answers += self.resumed()
            elif isinstance(packet, p.PingResp):
                self.pongs += 1
            else:
                answers += self.got(packet)
        self.send(*answers)

    def resumed(self) -> list[Packet]:
        """What the standard wants to be sent after CONNACK."""
        raise NotImplementedError

    def got(self, packet: Packet) -> list[Packet]:
        raise NotImplementedError


def _refuses(packet: Packet) -> bool:
    """Server unavailable, in the words of 3.1.1 and of 5.0."""
    return isinstance(packet, p.Disconnect) or (isinstance(packet, p.ConnAck) and packet.code in (3, 0x88))


class Subscriber(Client):
    """Counts what arrives; ``order`` has the first copy of each message."""

    def __init__(self, name: str, version: int, secret: str, topic: str, qos: int) -> None:
        super().__init__(name, version, secret)
        self.qos = qos
        self.topic = topic
        self.order: list[int] = []
        self.copies: Counter[int] = Counter()
        #: Packet ids of QoS 2 messages that were taken and not released.
        self._taken: set[int] = set()

    def misplaced(self) -> list[list[int]]:
        """Where messages came behind later ones, with those around."""
        order = self.order
        return [order[max(0, at - 3) : at + 3] for at in range(1, len(order)) if order[at] < order[at - 1]]

    def resumed(self) -> list[Packet]:
        return [] if self.certain else [p.Subscribe(1, [(self.topic, self.qos)])]

    def got(self, packet: Packet) -> list[Packet]:
        if isinstance(packet, p.SubAck):
            assert packet.codes == bytes((self.qos,)), (self.name, packet)
            self.certain = True
            return []
        if isinstance(packet, p.PubRel):
            self._taken.discard(packet.packet_id)
            return [p.PubComp(packet.packet_id)]
        assert isinstance(packet, p.Publish) and packet.qos == self.qos, (self.name, packet)
        if packet.packet_id not in self._taken:
            number = int(packet.payload)
            if not self.copies[number]:
                self.order.append(number)
            self.copies[number] += 1
        if self.qos == 1:
            return [p.PubAck(packet.packet_id)]
        self._taken.add(packet.packet_id)
        return [p.PubRec(packet.packet_id)]


class Publisher(Client):
    """Sends numbers to a subscriber's topic."""

    def __init__(self, name: str, secret: str, subscriber: Subscriber) -> None:
        super().__init__(name, subscriber.version, secret)
        self._subscriber = subscriber
        self.qos = subscriber.qos
        #: How many were sent, and how many of them acknowledged (PUBACK, PUBCOMP).
        self.sent = 0
        self.acknowledged = 0
        self.resent = 0
        #: packet id -> number, or None once PUBREC came; in the order of sending
        self._open: dict[int, int | None] = {}

    def resumed(self) -> list[Packet]:
        self.resent += len(self._open)
        return [
            p.PubRel(packet_id) if number is None else self._publish(packet_id, number, True)
            for packet_id, number in self._open.items()
        ]

    @property
    def idle(self) -> bool:
        """Everything that was sent is acknowledged."""
        return not self._open

    @property
    def unacknowledged(self) -> set[int]:
        """The numbers on their way; without those of which PUBREC came, as nobody would send them again."""
        return {number for number in self._open.values() if number is not None}

    def work(self) -> None:
        """Send what the windows allow."""
        if not (self.welcome and self._subscriber.certain):
            return
        behind = self.acknowledged - len(self._subscriber.order)
        packets: list[Packet] = []
        while len(self._open) < WINDOW and behind < BEHIND:
            packet_id = self.sent % 60_000 + 1
            self._open[packet_id] = self.sent
            packets.append(self._publish(packet_id, self.sent, False))
            self.sent += 1
        self.send(*packets)

    def _publish(self, packet_id: int, number: int, dup: bool) -> p.Publish:
        return p.Publish(self._subscriber.topic, b"%064d" % number, self.qos, packet_id, dup=dup)

    def got(self, packet: Packet) -> list[Packet]:
        assert isinstance(packet, p.PubAck | p.PubRec | p.PubComp), (self.name, packet)
        assert packet.reason == 0, (self.name, packet)
        if isinstance(packet, p.PubRec):
            self.certain = True
            if packet.packet_id in self._open:
                self._open[packet.packet_id] = None
            return [p.PubRel(packet.packet_id)]
        assert isinstance(packet, p.PubAck if self.qos == 1 else p.PubComp), (self.name, packet)
        if packet.packet_id in self._open:
            del self._open[packet.packet_id]
            self.acknowledged += 1
        return []


@dataclass
class Account:
    """What became of one kind of what was acknowledged.

    ``failed``: ended otherwise, and as is stated (no answer in time, no gateway). ``lost`` has to be 0; ``twice``, too,
    but for what is promised at least once. ``unknown``: nobody could be asked yet.
    """

    kind: str
    acknowledged: int = 0
    delivered: int = 0
    queued: int = 0
    expired: int = 0
    failed: int = 0
    lost: int = 0
    twice: int = 0
    unknown: int = 0
    note: str = field(default="", compare=False)

    def count(self, what: str, number: int = 1) -> None:
        """``what``: the name of a column."""
        setattr(self, what, getattr(self, what) + number)


def table(accounts: Iterable[Account]) -> str:
    """For people: a line for each kind."""
    names = [one.name for one in fields(Account)]
    rows = [[name if name != "note" else "" for name in names]]
    for one in accounts:
        values = (getattr(one, name) for name in names)
        rows.append([f"{value:,}" if isinstance(value, int) else value for value in values])
    widths = [max(len(row[at]) for row in rows) for at in range(len(names))]
    last = len(names) - 1

    def cell(at: int, text: str) -> str:
        return text if at == last else text.ljust(widths[at]) if not at else text.rjust(widths[at])

    return "\n".join("  ".join(cell(at, text) for at, text in enumerate(row)).rstrip() for row in rows)


class Ledger:
    """``pairs`` of publisher and subscriber of each QoS and version; ``secret``: the application's."""

    def __init__(self, secret: str, pairs: int = 1) -> None:
        self.publishers: list[Publisher] = []
        self.subscribers: list[Subscriber] = []
        for number in range(pairs):
            for version in (p.MQTT_3_1_1, p.MQTT_5):
                for qos in (1, 2):
                    name = f"{version}-{qos}-{number}"
                    subscriber = Subscriber(f"s{name}", version, secret, f"{USER}/{name}", qos)
                    self.subscribers.append(subscriber)
                    self.publishers.append(Publisher(f"p{name}", secret, subscriber))
        self.clients: list[Client] = [*self.publishers, *self.subscribers]

    def pairs(self) -> Iterator[tuple[Publisher, Subscriber]]:
        return zip(self.publishers, self.subscribers, strict=True)

    def work(self) -> None:
        """Send what the windows allow."""
        for publisher in self.publishers:
            publisher.work()

    def delivered(self) -> bool:
        """Everything that was sent is acknowledged and has come."""
        return all(one.idle and len(other.order) >= one.sent for one, other in self.pairs())

    @property
    def resent(self) -> int:
        return sum(one.resent for one in self.publishers)

    def faults(self, ordered: bool = True) -> list[str]:
        """A line for each thing that is missing, came twice at QoS 2, or (``ordered``) out of its order."""
        found = []
        for publisher, subscriber in self.pairs():
            missing = sorted(set(range(publisher.sent)).difference(subscriber.order))
            if missing:
                found.append(f"{subscriber.name}: {len(missing)} of {publisher.sent} are missing: {missing[:NAMED]}")
            if not publisher.idle:
                found.append(f"{publisher.name}: {publisher.sent - publisher.acknowledged} are not acknowledged")
            if ordered and (misplaced := subscriber.misplaced()):
                found.append(f"{subscriber.name}: {len(misplaced)} times out of order: {misplaced[:5]}")
            twice = [number for number, count in subscriber.copies.items() if count > 1]
            if subscriber.qos == 2 and twice:
                found.append(f"{subscriber.name}: {len(twice)} came twice: {twice[:NAMED]}")
        return found

    def check(self, ordered: bool = True) -> None:
        """Raises AssertionError with `faults`."""
        found = self.faults(ordered)
        assert not found, "\n".join(found)

    def accounts(self) -> list[Account]:
        """One for each QoS. Lost is what was acknowledged and has not come; ask when all is quiet."""
        found = []
        for qos in (1, 2):
            account = Account(f"MQTT QoS {qos}")
            for publisher, subscriber in self.pairs():
                if publisher.qos != qos:
                    continue
                account.acknowledged += publisher.acknowledged
                account.delivered += len(subscriber.order)
                account.lost += len(set(range(publisher.sent)) - publisher.unacknowledged - set(subscriber.order))
                account.twice += sum(subscriber.copies.values()) - len(subscriber.copies)
            account.note = "at least once" if qos == 1 else ""
            found.append(account)
        return found

    def figures(self) -> str:
        sent = {qos: sum(one.sent for one in self.publishers if one.qos == qos) for qos in (1, 2)}
        copies = sum(sum(one.copies.values()) - len(one.copies) for one in self.subscribers)
        misplaced = sum(len(one.misplaced()) for one in self.subscribers)
        return (
            f"{sent[1]:,} messages at QoS 1 ({copies:,} second copies), {sent[2]:,} at QoS 2, {self.resent:,} sent "
            f"again, {misplaced} times out of order"
        )


def storm_arguments(program: str, what: str, kills: int) -> argparse.Namespace:
    """The command line of a storm of kills."""
    parser = argparse.ArgumentParser(prog=f"python -m {program}", description=what)
    parser.add_argument("--kills", type=int, default=kills, metavar="N", help="how many (default: %(default)s)")
    parser.add_argument(
        "--pairs", type=int, default=2, metavar="N", help="of each QoS and each version of MQTT (default: %(default)s)"
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=int(time.time()),
        metavar="N",
        help="of their moments (default: the time)",
    )
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    return arguments
