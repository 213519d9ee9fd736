"""What the tests of the MQTT server play with: somebody who may log in, a client on a wire in memory, a server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

from twisted.internet.defer import Deferred, ensureDeferred, fail, succeed
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from broker.listening.settings import Limits
from broker.model.errors import Unauthenticated
from broker.model.interfaces import IKnownMqttIdentities, IMqttPrincipal
from broker.mqtt import encode
from broker.mqtt import packets as p
from broker.mqtt.codec import LARGEST_PACKET, Decoder
from broker.mqtt.connection import MqttConnection
from broker.mqtt.journal import MemoryJournal
from broker.mqtt.packets import Packet
from broker.mqtt.retained import Page
from broker.mqtt.server import MqttListener
from broker.mqtt.settings import Settings
from broker.routing.outbox import Turn
from broker.routing.topic_index import TopicIndex

Taker: TypeAlias = Callable[[bytes, int, Any, Callable[[Exception | None], None]], None]


@implementer(IMqttPrincipal)
class FakePrincipal:
    """May do everything but what is named in ``refused`` (filters), ``hidden`` and ``forbidden`` (topics)."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.refused: set[str] = set()
        self.hidden: set[str] = set()
        self.forbidden: set[str] = set()
        #: topic -> what takes its publishes over
        self.takers: dict[str, Taker] = {}
        #: filter -> pages that `retained` answers with, each (messages, next cursor) or a failing Deferred
        self.pages: dict[str, dict[str | None, Any]] = {}
        self.asked: list[str] = []
        #: What `retained` was asked.
        self.questions: list[tuple[str, str | None]] = []
        self.on_connected: Callable[[], None] = lambda: None
        self.closers: list[Callable[[str], None]] = []
        self.terms: Any = None

    def may_subscribe(self, topic_filter: str) -> bool:
        return topic_filter not in self.refused

    def may_receive(self, topic: str) -> bool:
        return topic not in self.hidden

    def publisher(self, topic: str) -> Taker | bool:
        self.asked.append(topic)
        return self.takers.get(topic, topic not in self.forbidden)

    def retained(self, topic_filter: str, cursor: str | None) -> Deferred[Page] | None:
        if topic_filter not in self.pages:
            return None
        self.questions.append((topic_filter, cursor))
        page = self.pages[topic_filter][cursor]
        return page if isinstance(page, Deferred) else succeed(page)

    def connected(self, close: Callable[[str], None]) -> None:
        self.closers.append(close)
        self.on_connected()

    def disconnected(self) -> None:
        self.closers.pop()


@implementer(IKnownMqttIdentities)
class FakeIdentities:
    """Claims user names that begin with ``prefix``; the password is "secret"."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self.principals: dict[str, FakePrincipal] = {}
        #: Given out instead of an answer, while there is one.
        self.answer: Deferred[Any] | None = None
        self.peers: list[str] = []

    def principal(self, name: str) -> FakePrincipal:
        return self.principals.setdefault(name, FakePrincipal(name))

    def claims(self, client_id: str, username: str | None) -> bool:
        return username is not None and username.startswith(self.prefix)

    def login(self, client_id: str, username: str | None, password: bytes | None, peer: str) -> Deferred[Any]:
        self.peers.append(peer)
        if self.answer is not None:
            return self.answer
        if password != b"secret":
            return fail(Unauthenticated("unknown user or wrong password"))
        return succeed(self.principal(username or ""))

    def login_certified(self, client_id: str, subject: str, peer: str) -> Deferred[Any]:
        return self.login(client_id, subject, b"secret", peer)

    def find(self, name: str) -> Deferred[Any]:
        return self.answer or succeed(self.principals.get(name))


class Stage(Protocol):
    def flush(self) -> None:
        """End the turn."""


class Client:
    """A client of the server under test. ``received`` is everything that it was sent, decoded."""

    def __init__(self, bench: Stage, connection: MqttConnection, version: int = p.MQTT_3_1_1) -> None:
        self.bench = bench
        self.connection = connection
        self.transport = self.new_transport()
        self.received: list[Packet] = []
        self.version = version
        self._decoder = Decoder(LARGEST_PACKET, "client", version)
        connection.makeConnection(self.transport)

    def new_transport(self) -> StringTransport:
        """What the server writes to."""
        return StringTransport()

    def send(self, *packets: Packet | bytes) -> Client:
        """All in one chunk; what it causes is written."""
        self.connection.dataReceived(
            b"".join(one if isinstance(one, bytes) else encode.encode(one, self.version) for one in packets)
        )
        self.bench.flush()
        return self

    def got(self) -> list[Packet]:
        """What came since the last call."""
        packets = list(self._decoder.feed(self.transport.value()))
        self.transport.clear()
        self.received += packets
        return packets

    def ask(self, *packets: Packet | bytes) -> list[Packet]:
        """Send, and what comes back."""
        self.got()
        return self.send(*packets).got()

    def subscribe(self, *filters: str, qos: int = 0) -> list[Packet]:
        return self.ask(p.Subscribe(1, [(one, qos) for one in filters]))

    def lose(self, clean: bool = False) -> None:
        """The socket is gone."""
        self.connection.connectionLost(Failure(ConnectionDone() if clean else ConnectionLost()))
        self.bench.flush()

    def jam(self) -> None:
        """The socket is full; `transport.producer` is told like a real transport would tell it."""
        self.connection.pauseProducing()

    def unjam(self) -> None:
        self.connection.resumeProducing()
        self.bench.flush()

    @property
    def closed(self) -> str | None:
        """Why the server closed it."""
        return self.connection.reason if self.transport.disconnecting or self.transport.disconnected else None

    @property
    def paused(self) -> bool:
        return self.transport.producerState == "paused"


class Bench:
    """A server with its clock; ``identities`` is asked for everybody with a user name."""

    def __init__(self, limits: dict[str, Any] | None = None, **settings: Any) -> None:
        self.clock = Clock()
        self.journal = MemoryJournal()
        self.pending: list[Callable[[], None]] = []
        self.topics: TopicIndex[Any, Any] = TopicIndex()
        self.identities = FakeIdentities()
        self.last: list[Any] = [self.identities]
        settings.setdefault("reason_strings", False)  # what they say is a matter of one test
        self.settings = Settings(limits=Limits(**{"auth_timeout": 10.0, **(limits or {})}), **settings)
        self.server = self._new_server()

    def _new_server(self) -> MqttListener:
        return MqttListener(
            self.settings,
            self.topics,
            [],
            self.last,
            Turn(self.pending.append),
            self.clock,
            self.clock.seconds,
            self.clock.seconds,
            self.journal,
        )

    @property
    def stats(self) -> Any:
        return self.server.stats

    def flush(self) -> None:
        """End the turn."""
        while self.pending:
            self.pending.pop(0)()

    def pass_time(self, seconds: float) -> None:
        """Let time go by with the slow tick in it."""
        self.clock.pump([1.0] * int(seconds))
        self.server.tick()
        self.flush()

    def open(self, host: str = "", version: int = p.MQTT_3_1_1) -> Client:
        """A connection that has sent nothing."""
        connection = self.server.buildProtocol(None)
        assert isinstance(connection, MqttConnection)
        connection.host = host
        return Client(self, connection, version)

    def connect(self, client_id: str = "c", user: str = "u", **fields: Any) -> Client:
        """A client that is logged in; its CONNACK is checked and taken."""
        client, answer = self.resume(client_id, user, **fields)
        assert answer[0].code == 0 and not answer[0].session_present and len(answer) == 1, answer
        return client

    def resume(self, client_id: str = "c", user: str = "u", **fields: Any) -> tuple[Client, list[Any]]:
        """A client that wants its session, and what it was answered."""
        client = self.open(version=fields.get("version", p.MQTT_3_1_1))
        answer = client.ask(p.Connect(client_id, user=user, password=b"secret", **fields))
        return client, answer

    def restart(self) -> None:
        """Another server with the same journal, as after a kill: what was not committed is gone."""
        self.topics = TopicIndex()
        self.server = self._new_server()
        ensureDeferred(self.server.prepare())


def publishes(packets: list[Packet]) -> list[tuple[str, bytes, int]]:
    """(topic, payload, QoS) of the publishes among them."""
    return [(one.topic, one.payload, one.qos) for one in packets if isinstance(one, p.Publish)]
