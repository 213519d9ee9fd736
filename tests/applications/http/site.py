"""The HTTP side on a real socket of the loopback interface, with SQLite behind it, and clients for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from secrets import token_hex
from typing import Any
from uuid import uuid4

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, DeferredQueue
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, HTTPConnectionPool, readBody
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Ping,
    Pong,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from zope.interface import implementer

from broker.applications.http.side import HttpListener, Settings, build
from broker.core import Core
from broker.events.across import EventsAcross
from broker.events.events import Events
from broker.events.settings import EventsTable, MailTable
from broker.events.side import EventSide
from broker.model.jsontext import decode, encode
from broker.routing.commands import Commands
from broker.routing.live import LiveDevices
from broker.routing.outbox import Turn
from broker.routing.router import Router
from broker.routing.topic_index import TopicIndex
from broker.storage.files import FileStore
from broker.storage.quarantine import Quarantine
from broker.storage.registry import Registry
from broker.storage.sqlite import SqliteStorage

reactor: Any = global_reactor

ADMIN_TOKEN = "admin-token-of-the-tests"
#: Seconds after which a test that waits for something has failed.
PATIENCE = 5.0


class Reply:
    """An HTTP answer: ``json`` is its body decoded, where there is one."""

    def __init__(self, status: int, headers: Headers, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        return decode(self.body)

    def header(self, name: str) -> str:
        return ", ".join(self.headers.getRawHeaders(name, []))


@implementer(IBodyProducer)
class _Body:
    def __init__(self, body: bytes) -> None:
        self._body = body
        self.length = len(body)

    def startProducing(self, consumer: Any) -> Deferred[None]:
        consumer.write(self._body)
        done: Deferred[None] = Deferred()
        done.callback(None)
        return done

    def stopProducing(self) -> None:
        """Everything was written at once."""

    def pauseProducing(self) -> None:
        """Everything was written at once."""

    def resumeProducing(self) -> None:
        """Everything was written at once."""


class AnyId:
    """How the devices of these tests are registered: any text is an id, one is made without."""

    hashed = True
    known_fields: frozenset[str] = frozenset()

    def normal_id(self, id: str | None, fields: dict[str, Any]) -> str:
        return id or str(uuid4())

    def make_secret(self) -> str:
        return token_hex(32)

    def check_secret(self, secret: str) -> None:
        """Any will do."""


class RawClient(Protocol):
    """A socket: what came, and waiting for it."""

    def __init__(self) -> None:
        self.data = b""
        self.closed: Deferred[bytes] = Deferred()
        self._wanted: list[tuple[bytes, Deferred[bytes]]] = []

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        for wanted, found in list(self._wanted):
            if wanted in self.data:
                self._wanted.remove((wanted, found))
                found.callback(self.data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.closed.callback(self.data)

    def until(self, wanted: bytes) -> Deferred[bytes]:
        found: Deferred[bytes] = Deferred()
        found.addTimeout(PATIENCE, reactor)
        if wanted in self.data:
            found.callback(self.data)
        else:
            self._wanted.append((wanted, found))
        return found

    def write(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)


class StreamSocket(Protocol):
    """A WebSocket client. ``messages`` are decoded; ``status`` is that of the handshake's answer."""

    def __init__(self, host: str, target: str, headers: list[tuple[bytes, bytes]]) -> None:
        self._host = host
        self._target = target
        self._headers = headers
        self._connection = WSConnection(ConnectionType.CLIENT)
        self.opened: Deferred[int] = Deferred()
        self.status = 0
        self.messages: DeferredQueue[Any] = DeferredQueue()
        self.closed: Deferred[int] = Deferred()
        self.rejection = b""
        self.pings = 0
        self.answers_pings = True
        self._code = 0
        self._text = ""

    def connectionMade(self) -> None:
        self.write(self._connection.send(Request(self._host, self._target, extra_headers=self._headers)))

    def write(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)

    def send(self, event: Any) -> None:
        self.write(self._connection.send(event))

    def dataReceived(self, data: bytes) -> None:
        self._connection.receive_data(data)
        for event in self._connection.events():
            self._take(event)

    def _take(self, event: Any) -> None:
        match event:
            case AcceptConnection():
                self.opened.callback(101)
            case RejectConnection():
                self._code = event.status_code
            case RejectData():
                self.rejection += bytes(event.data)
                if event.body_finished:
                    self.opened.callback(self._code)
            case TextMessage():
                self._text += event.data
                if event.message_finished:
                    text, self._text = self._text, ""
                    self.messages.put(decode(text))
            case Ping():
                self.pings += 1
                if self.answers_pings:
                    self.send(event.response())
            case CloseConnection():
                self._code = event.code
            case Pong():
                self.messages.put("pong")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.closed.callback(self._code)

    def next(self) -> Deferred[Any]:
        return self.messages.get().addTimeout(PATIENCE, reactor)


class SiteCase(TestCase):
    """A listener with a fresh registry for each test."""

    timeout = 60
    settings = Settings()
    events_table = EventsTable()
    mail_table = MailTable()

    async def _start(self) -> None:
        #: How far the broker's clocks were put forward.
        self.ahead = 0.0
        self.faults: list[BaseException] = []
        self.problems: list[str] = []
        router = Router(lambda what, error: self.faults.append(error))
        devices = LiveDevices(router, self.clock)
        self.storage = SqliteStorage(Path(self.mktemp()), reactor, self.clock)
        await self.storage.open()
        registry = Registry(self.storage, self.clock)
        registry.protocols["novacloud"] = AnyId()
        self.core = Core(
            reactor=reactor,
            clock=self.clock,
            monotonic=lambda: time.monotonic() + self.ahead,
            turn=Turn(lambda flush: reactor.callLater(0, flush)),
            router=router,
            devices=devices,
            commands=Commands(self.storage, devices, router, self.clock),
            storage=self.storage,
            registry=registry,
            events=Events(self.clock),
            topics=TopicIndex(),
            files=FileStore(self.storage, Path(self.mktemp()), reactor, self.clock),
            quarantine=Quarantine(self.storage, self.clock),
            admin_token=ADMIN_TOKEN,
            exposition=lambda: b"broker_up 1\n",
            ready=lambda: self.problems,
        )
        await self.core.files.open()
        await self._start_events()
        self.listener: HttpListener = build(self.core, self.settings)
        port = reactor.listenTCP(0, self.listener, interface="127.0.0.1")
        self.port: int = port.getHost().port
        pool = HTTPConnectionPool(reactor)
        self.agent = Agent(reactor, pool=pool)
        self.sockets: list[Any] = []
        self.addCleanup(self._stop, port, pool)

    async def _start_events(self) -> None:
        core = self.core
        core.event_side = EventSide(
            core.events,
            self.storage,
            core.router,
            core.devices,
            core.registry,
            core.quarantine,
            self.events_table,
            self.mail_table,
            reactor,
            core.clock,
            core.monotonic,
        )
        self.events_across = EventsAcross(
            core.event_side, core.backplane, core.duties, core.router, core.devices, core.whereabouts, self.storage
        )
        core.states_of = self.events_across.states_of
        await self.events_across.open()

    def setUp(self) -> Deferred[None]:  # type: ignore[override]  # trial waits for it
        return Deferred.fromCoroutine(self._start())

    def _stop(self, port: Any, pool: HTTPConnectionPool) -> Deferred[None]:
        async def stop() -> None:
            await port.stopListening()
            await pool.closeCachedConnections()
            for socket in self.sockets:
                if not socket.closed.called:
                    socket.transport.abortConnection()
                    await socket.closed
            self.listener.shut_down()
            await self.until(lambda: not self.listener.connections)
            await self.core.files.close()
            await self.events_across.close()
            await self.storage.close()
            self.assertEqual(self.faults, [])

        return Deferred.fromCoroutine(stop())

    def clock(self) -> float:
        return time.time() + self.ahead

    def pass_time(self, seconds: float) -> None:
        """Put the broker's clocks forward and let the listener look at them."""
        self.ahead += seconds
        self.listener.tick()
        self.core.commands.tick()

    async def until(self, condition: Callable[[], Any]) -> None:
        """Give the reactor turns until the condition holds."""
        give_up = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > give_up:
                self.fail("waited in vain")
            await deferLater(reactor, 0.002)

    async def call(
        self,
        method: str,
        path: str,
        value: Any = None,
        *,
        token: str | None = ADMIN_TOKEN,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Reply:
        """One request. ``value`` is sent as JSON, ``body`` as it is."""
        all_headers = Headers()
        if token is not None:
            all_headers.addRawHeader("Authorization", f"Bearer {token}")
        if value is not None:
            body = encode(value)
            all_headers.addRawHeader("Content-Type", "application/json")
        for name, text in (headers or {}).items():
            all_headers.setRawHeaders(name, [text])
        producer = None if body is None else _Body(body)
        url = f"http://127.0.0.1:{self.port}{path}".encode()
        response = await self.agent.request(method.encode(), url, all_headers, producer)
        return Reply(response.code, response.headers, await readBody(response))

    async def api(self, method: str, path: str, value: Any = None, **options: Any) -> Reply:
        return await self.call(method, f"/api/v1{path}", value, **options)

    async def made(self, path: str, value: Any) -> Any:
        """POST and the JSON of the 201 answer."""
        reply = await self.api("POST", path, value)
        self.assertEqual(reply.status, 201, reply.body)
        return reply.json

    async def device(self, id: str = "", **fields: Any) -> str:
        """A registered device; its id."""
        value = {"protocol": "novacloud", **({"id": id} if id else {}), **fields}
        made = await self.made("/devices", value)
        return str(made["id"])

    async def application(self, id: str, *devices: str) -> str:
        """A registered application with these devices; its token."""
        made = await self.made("/applications", {"id": id, "kind": "http"})
        for device in devices:
            reply = await self.api("PUT", f"/applications/{id}/devices/{device}")
            self.assertEqual(reply.status, 204, reply.body)
        return f"{id}:{made['secret']}"

    async def connect(self) -> RawClient:
        endpoint = HostnameEndpoint(reactor, b"127.0.0.1", self.port)
        client: Any = await endpoint.connect(Factory.forProtocol(RawClient))
        self.sockets.append(client)
        assert isinstance(client, RawClient)
        return client

    async def stream(
        self, query: str = "", token: str | None = ADMIN_TOKEN, headers: list[tuple[bytes, bytes]] | None = None
    ) -> StreamSocket:
        """A WebSocket whose handshake was answered."""
        given = list(headers or [])
        if token is not None:
            given.append((b"Authorization", b"Bearer " + token.encode()))
        factory = Factory.forProtocol(lambda: StreamSocket(f"127.0.0.1:{self.port}", f"/api/v1/stream{query}", given))
        endpoint = HostnameEndpoint(reactor, b"127.0.0.1", self.port)
        socket: Any = await endpoint.connect(factory)
        self.sockets.append(socket)
        socket.status = await socket.opened.addTimeout(PATIENCE, reactor)
        assert isinstance(socket, StreamSocket)
        return socket

    def assertProblem(self, reply: Reply, status: int, slug: str, *words: str) -> dict[str, Any]:
        """The answer is a problem document with this status and slug, and these words in its detail."""
        self.assertEqual((reply.status, reply.json.get("slug")), (status, slug), reply.body)
        self.assertEqual(reply.header("content-type"), "application/problem+json")
        problem: dict[str, Any] = reply.json
        self.assertEqual(problem["status"], status)
        self.assertEqual(problem["type"], f"urn:broker:{slug}")
        self.assertLessEqual(set(problem), {"type", "title", "status", "detail", "slug", "details"})
        for word in words:
            self.assertIn(word, problem["detail"])
        return problem
