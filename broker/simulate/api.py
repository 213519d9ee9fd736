"""A client of the HTTP API and of its stream, for the demo, the command line and tests.

Connections are kept and used again. What it does not do: retry, cookies, redirects, proxies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from io import BytesIO
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.web.client import Agent, FileBodyProducer, HTTPConnectionPool, readBody
from twisted.web.http_headers import Headers
from twisted.web.websocket import WebSocketClientEndpoint, WebSocketTransport

#: Seconds to establish a connection.
CONNECT_TIMEOUT = 10

Message = dict[str, Any]


class ApiError(Exception):
    """The broker refused a call. ``status`` is HTTP's, ``slug`` the problem document's."""

    def __init__(self, status: int, slug: str, detail: str) -> None:
        super().__init__(f"{status} {slug}: {detail}")
        self.status = status
        self.slug = slug


def body_of(data: bytes) -> Any:
    """A request body for `twisted.web.client.Agent`."""
    return FileBodyProducer(BytesIO(data))


class Api:
    """The API at ``url`` (``http://host:port``) with one token: the administrator's, or ``<id>:<secret>``."""

    def __init__(self, reactor: Any, url: str, token: str) -> None:
        self._reactor = reactor
        self.url = url.rstrip("/")
        self._token = token
        self._pool = HTTPConnectionPool(reactor)
        self._agent = Agent(reactor, connectTimeout=CONNECT_TIMEOUT, pool=self._pool)

    def with_token(self, token: str) -> Api:
        """The same API as somebody else."""
        return Api(self._reactor, self.url, token)

    async def call(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """One call of ``/api/v1``; the decoded answer. ``body`` is JSON, or bytes that are NDJSON. Raises ApiError."""
        data = body if isinstance(body, bytes) else None if body is None else msgspec.json.encode(body)
        kind = "application/x-ndjson" if isinstance(body, bytes) else "application/json"
        url = f"{self.url}/api/v1{path}" + (f"?{urlencode(query)}" if query else "")
        status, answer = await self.fetch(method, url, data, kind)
        value = msgspec.json.decode(answer) if answer else None
        if status >= 400:
            problem = value if isinstance(value, dict) else {}
            raise ApiError(status, problem.get("slug", ""), problem.get("detail", ""))
        return value

    async def fetch(
        self, method: str, url: str, data: bytes | None = None, kind: str = "application/json"
    ) -> tuple[int, bytes]:
        """Status and body of any request, with our token."""
        headers = Headers({"Authorization": [f"Bearer {self._token}"]})
        if data is not None:
            headers.addRawHeader("Content-Type", kind)
        body: Any = None if data is None else body_of(data)
        response: Any = await self._agent.request(method.encode(), url.encode(), headers, body)
        return response.code, await readBody(response)

    async def stream(
        self, on_message: Callable[[Message], object], on_end: Callable[[str], object], **query: Any
    ) -> Stream:
        """Open the WebSocket stream; ``on_message`` gets each message decoded. ``query``: device, kind, protocol."""
        text = urlencode({"access_token": self._token, **query}, doseq=True)
        url = f"ws{self.url.removeprefix('http')}/api/v1/stream?{text}"
        endpoint = WebSocketClientEndpoint.new(self._reactor, url, connectTimeout=CONNECT_TIMEOUT)
        return await endpoint.connect(_StreamFactory(on_message, on_end))

    async def import_devices(self, devices: Iterable[dict[str, Any]]) -> Any:
        """Register many devices at once; the answer of ``POST /devices/import``."""
        return await self.call("POST", "/devices/import", b"".join(msgspec.json.encode(one) + b"\n" for one in devices))

    def close(self) -> Deferred[None]:
        """Close the connections that are kept."""
        closed: Deferred[None] = self._pool.closeCachedConnections()
        return closed


def segment(text: str) -> str:
    """An id as one segment of a path."""
    return quote(text, safe="")


class Stream:
    """One open stream (WebSocketProtocol)."""

    def __init__(self, on_message: Callable[[Message], object], on_end: Callable[[str], object]) -> None:
        self._on_message = on_message
        self._on_end = on_end
        self._transport: WebSocketTransport | None = None

    def close(self) -> None:
        """Say goodbye."""
        if self._transport is not None:
            self._transport.loseConnection()

    def negotiationStarted(self, transport: WebSocketTransport) -> None:
        self._transport = transport

    def negotiationFinished(self) -> None:
        """From here on messages come."""

    def pongReceived(self, payload: bytes) -> None:
        """We do not ping."""

    def textMessageReceived(self, message: str) -> None:
        self._on_message(msgspec.json.decode(message))

    def bytesMessageReceived(self, data: bytes | bytearray) -> None:
        """The broker sends none."""

    def connectionLost(self, reason: Failure) -> None:
        self._transport = None
        self._on_end("closed" if reason.check(ConnectionDone) else reason.getErrorMessage())


class _StreamFactory:
    def __init__(self, on_message: Callable[[Message], object], on_end: Callable[[str], object]) -> None:
        self._on_message = on_message
        self._on_end = on_end

    def buildProtocol(self, url: str) -> Stream:
        return Stream(self._on_message, self._on_end)
