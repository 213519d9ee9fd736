"""kill -9 of the real broker at random moments under load: `python -m tests.kill_storm --kills 100`.

::

    publisher ──QoS 1 or 2──> broker ──QoS 1 or 2──> subscriber       pairs of 3.1.1 and of 5.0, one topic each
                                └── kill -9, start, kill -9, start ...

The clients keep their sessions as the standard wants it of them [MQTT-4.4.0-1]: they come back with clean=0, send again
what was not acknowledged, with its packet id and DUP, and a subscriber knows the ids of QoS 2 messages that it has not
released. Besides the kills, a client now and then drops its connection by itself.

What must hold afterwards: every message arrived, the first copies of each in their order [MQTT-4.6.0-6]; at QoS 2 there
was one copy; no session was forgotten once its client had been told of it; the broker owes nobody anything. A message
that was acknowledged is never sent again, so one that the broker had lost would be missing.
"""

from __future__ import annotations

import argparse
import selectors
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import cast

from broker.mqtt import packets as p
from broker.mqtt import properties as props
from broker.mqtt.codec import Decoder
from broker.mqtt.encode import encode
from broker.mqtt.packets import Packet
from tests.real import PATIENCE, RealBroker, eventually

#: The application that all clients log in as.
USER = "storm"
#: Seconds between a start and the kill after it, at most.
LONGEST_LIFE = 0.5
#: Messages of a publisher on their way: unacknowledged, and acknowledged but not yet seen by the subscriber.
WINDOW = 20
BEHIND = 500


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


class Storm:
    """The broker in ``folder`` and its clients. ``pairs`` of each QoS and version; ``settings`` of the broker."""

    def __init__(self, folder: Path, seed: int, pairs: int = 1, settings: Mapping[str, str] | None = None) -> None:
        self._random = Random(seed)
        self.broker = RealBroker(folder, {"history.enabled": "false", **(settings or {})})
        self.broker.start()
        secret = self.broker.made("/applications", {"id": USER, "kind": "mqtt"})["secret"]
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
        #: Seconds that the starts took.
        self.starts: list[float] = []
        #: Kills after which something had to be sent again.
        self.hits = 0

    # -- the clients' side -----------------------------------------------------------------------------------------

    def turn(self, publishing: bool = True) -> None:
        """Everybody reads and sends once, and comes back if it has no connection."""
        with selectors.DefaultSelector() as selector:
            for client in self.clients:
                if client.socket is not None or client.connect(self.broker.ports["mqtt"]):
                    assert client.socket is not None
                    selector.register(client.socket, selectors.EVENT_READ, client)
            for key, _ in selector.select(0.01):
                cast(Client, key.data).readable()
        if publishing:
            for publisher in self.publishers:
                publisher.work()

    def live_and_die(self) -> None:
        """Load until the broker is killed at some moment, and a new start."""
        life = self._random.uniform(0.0, LONGEST_LIFE)
        dropped = self._random.uniform(0.0, 2 * LONGEST_LIFE)
        ending = threading.Timer(life, self.broker.kill)
        began = time.monotonic()
        before = sum(one.resent for one in self.publishers)
        ending.start()
        while ending.is_alive():
            self.turn()
            if time.monotonic() - began > dropped:
                dropped = float("inf")
                self._random.choice(self.clients).drop()
        while any(client.socket is not None for client in self.clients):  # what the broker said before it died
            for client in self.clients:
                client.readable()
        self.hits += sum(one.resent for one in self.publishers) > before
        began = time.monotonic()
        self.broker.start()
        self.starts.append(time.monotonic() - began)

    def finish(self) -> None:
        """Wait until all is delivered; then a last start, after which nothing is owed. Raises AssertionError."""
        try:
            eventually(self._delivered, "everything is delivered")
        finally:
            self.check()  # it says what is missing
        assert self.broker.stop() == 0
        for client in self.clients:
            client.drop()
        self.broker.start()
        for client in self.clients:
            client.pongs = 0
        eventually(self._welcomed, "everybody is back")
        for client in self.clients:
            client.send(p.PingReq())
        eventually(self._answered, "everybody is answered")
        self.check()
        assert self.broker.stop() == 0
        output = "\n".join(self.broker.output)
        assert "Traceback" not in output and "Unhandled" not in output, output[-3000:]
        for client in self.clients:
            client.drop()

    def _delivered(self) -> bool:
        self.turn(publishing=False)
        return all(one.idle for one in self.publishers) and all(
            len(subscriber.order) >= publisher.sent
            for publisher, subscriber in zip(self.publishers, self.subscribers, strict=True)
        )

    def _welcomed(self) -> bool:
        self.turn(publishing=False)
        return all(client.welcome for client in self.clients)

    def _answered(self) -> bool:
        self.turn(publishing=False)
        return all(client.pongs for client in self.clients)

    def check(self) -> None:
        """Raises AssertionError for what is missing, out of its order, or came twice at QoS 2."""
        for publisher, subscriber in zip(self.publishers, self.subscribers, strict=True):
            everything = range(publisher.sent)
            missing = sorted(set(everything) - set(subscriber.order))
            assert not missing, f"{subscriber.name}: {len(missing)} of {publisher.sent} are lost: {missing[:20]}"
            assert publisher.acknowledged == publisher.sent
            misplaced = [one for one, other in zip(subscriber.order, everything, strict=True) if one != other]
            assert not misplaced, f"{subscriber.name}: {len(misplaced)} out of their order: {misplaced[:20]}"
            if subscriber.qos == 2:
                twice = [number for number, count in subscriber.copies.items() if count > 1]
                assert not twice, f"{subscriber.name}: {len(twice)} came twice: {twice[:20]}"

    def figures(self) -> str:
        sent = {qos: sum(one.sent for one in self.publishers if one.qos == qos) for qos in (1, 2)}
        copies = sum(sum(one.copies.values()) - len(one.copies) for one in self.subscribers)
        return (
            f"{sent[1]:,} messages at QoS 1 ({copies:,} second copies), {sent[2]:,} at QoS 2, "
            f"{sum(one.resent for one in self.publishers):,} sent again, {self.hits} of {len(self.starts)} lives "
            f"began with some; starts up to {max(self.starts, default=0.0):.2f} s"
        )


def storm(folder: Path, kills: int, seed: int, pairs: int = 1) -> str:
    """So many kills; what was done. Raises AssertionError."""
    weather = Storm(folder, seed, pairs)
    try:
        for _ in range(kills):
            weather.live_and_die()
        weather.finish()
        return weather.figures()
    except AssertionError as error:
        error.add_note(f"the seed was {seed}; so far {weather.figures()}")
        raise
    finally:
        weather.broker.kill()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.kill_storm", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--kills", type=int, default=100, metavar="N")
    parser.add_argument("--pairs", type=int, default=2, metavar="N", help="of each QoS and each version of MQTT")
    parser.add_argument("--seed", type=int, default=int(time.time()), metavar="N", help="of the moments of the kills")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        print(storm(Path(folder), arguments.kills, arguments.seed, arguments.pairs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
