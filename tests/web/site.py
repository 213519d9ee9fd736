"""A listener with a surface and routes of the test's own, on a real socket of the loopback interface."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, ClassVar

import msgspec
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from broker.core import Core
from broker.model.errors import BrokerError, Unauthenticated
from broker.routing.live import LiveDevices
from broker.routing.outbox import Turn
from broker.routing.router import Router
from broker.web.answers import Answer
from broker.web.callers import ADMINISTRATOR, Caller
from broker.web.listener import WebListener
from broker.web.problems import problem_of
from broker.web.routes import Route
from broker.web.settings import WebSettings
from broker.web.surface import Surface
from tests.applications.http.site import RawClient

reactor: Any = global_reactor
#: Seconds after which a test that waits for something has failed.
PATIENCE = 30.0


class PlainSurface(Surface):
    """A token of its own kind, refusals in words of its own."""

    headers = ((b"X-Surface", b"plain"),)

    async def authenticate(self, request: Any, route: Route) -> Caller:
        tokens = request.requestHeaders.getRawHeaders(b"x-token", [])
        if tokens == [b"admin"]:
            return ADMINISTRATOR
        if tokens == [b"late"]:
            await deferLater(reactor, 0.01)
            return ADMINISTRATOR
        if tokens == [b"app"]:
            return Caller("application:app", None)
        raise Unauthenticated("no such token")

    def refusal(self, request: Any, error: BrokerError) -> Answer:
        status = problem_of(error).status
        return Answer(status, {"error_message": error.message, "error_code": 9000 + status})


class WebCase(TestCase):
    """``routes`` served by a fresh listener for each test."""

    timeout = 60
    settings: ClassVar[WebSettings] = WebSettings()

    def routes(self) -> tuple[Route, ...]:
        raise NotImplementedError

    async def _start(self) -> None:
        self.ahead = 0.0
        nothing: Any = None
        self.core = Core(
            reactor=reactor,
            clock=lambda: time.time() + self.ahead,
            monotonic=lambda: time.monotonic() + self.ahead,
            turn=Turn(lambda flush: reactor.callLater(0, flush)),
            router=Router(lambda what, error: None),
            devices=LiveDevices(Router(lambda what, error: None), time.time),
            commands=nothing,
            storage=nothing,
            registry=nothing,
            topics=nothing,
            files=nothing,
            quarantine=nothing,
        )
        self.listener = WebListener("web", self.core, self.settings, PlainSurface(), self.routes)
        await self.listener.prepare()
        self.open_port = reactor.listenTCP(0, self.listener, interface="127.0.0.1")
        self.port: int = self.open_port.getHost().port
        self.sockets: list[RawClient] = []
        self.addCleanup(lambda: Deferred.fromCoroutine(self._stop()))

    def setUp(self) -> Deferred[None]:  # type: ignore[override]  # trial waits for it
        return Deferred.fromCoroutine(self._start())

    async def _stop(self) -> None:
        await self.open_port.stopListening()
        for socket in self.sockets:
            if not socket.closed.called:
                socket.transport.abortConnection()  # type: ignore[union-attr]  # a TCP transport has it
                await socket.closed
        self.listener.shut_down()
        await self.until(lambda: not self.listener.connections)

    async def until(self, condition: Callable[[], Any]) -> None:
        """Give the reactor turns until the condition holds."""
        give_up = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > give_up:
                self.fail("waited in vain")
            await deferLater(reactor, 0.002)

    def pass_time(self, seconds: float) -> None:
        self.ahead += seconds
        self.listener.tick()

    async def connect(self) -> RawClient:
        endpoint = HostnameEndpoint(reactor, b"127.0.0.1", self.port)
        client: Any = await endpoint.connect(Factory.forProtocol(RawClient))
        self.sockets.append(client)
        assert isinstance(client, RawClient)
        return client

    async def ask(
        self, line: str, *headers: str, body: bytes = b"", client: RawClient | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """One request and its answer: status, headers under their names as written, body."""
        client = client or await self.connect()
        client.data = b""
        length = [f"Content-Length: {len(body)}"] if body else []
        client.write("\r\n".join([f"{line} HTTP/1.1", "Host: test", *length, *headers, "", ""]).encode() + body)
        return await self.answer(client, with_body=not line.startswith("HEAD"))

    async def answer(self, client: RawClient, with_body: bool = True) -> tuple[int, dict[str, str], bytes]:
        await self.until(lambda: b"\r\n\r\n" in client.data)
        head = client.data.partition(b"\r\n\r\n")[0]
        lines = head.decode("latin-1").split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:])
        wanted = int(headers.get("Content-Length", 0)) if with_body else 0
        start = len(head) + 4
        await self.until(lambda: len(client.data) >= start + wanted)
        self.assertEqual(len(client.data), start + wanted)
        return int(lines[0].split()[1]), headers, client.data[start:]


def limited(settings: WebSettings, **limits: Any) -> WebSettings:
    """The settings with other limits."""
    return msgspec.structs.replace(settings, limits=msgspec.structs.replace(settings.limits, **limits))
