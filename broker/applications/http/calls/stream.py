"""Opening a stream: ``GET /api/v1/stream?device=&kind=&protocol=`` with an upgrade to WebSocket.

A browser cannot give a WebSocket an Authorization header, so here, and only here, the token may stand in the query as
``access_token``; queries are never logged. A page of another site must not open a stream in its visitor's name, so an
Origin, where there is one, has to be this host.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import msgspec
from twisted.web.server import NOT_DONE_YET
from twisted.web.websocket import WebSocketResource

from broker.applications.http.problems import Problem, UpgradeRequired
from broker.applications.http.routes import ANYONE, API, TAKEN, Call, Route
from broker.applications.http.streams import STREAM_KINDS, StreamClient, Wish
from broker.model.errors import Forbidden, Invalid

_UPGRADE = ((b"Upgrade", b"websocket"), (b"Connection", b"Upgrade"))


class StreamQuery(msgspec.Struct, kw_only=True):
    """Each may be given more than once; left out, it stands for all. ``access_token``: for browsers."""

    device: list[str] = []
    kind: list[str] = []
    protocol: list[str] = []
    access_token: str | None = None


class _Once:
    """The factory that `WebSocketResource` wants: one client, made before."""

    def __init__(self, client: StreamClient) -> None:
        self._client = client

    def buildProtocol(self, request: Any) -> StreamClient:
        return self._client


async def open_stream(call: Call) -> Any:
    """WebSocket: uplinks, presence and command changes as they happen."""
    request, wish = call.request, call.query
    _check_upgrade(request)
    _check_origin(request)
    if not set(wish.kind) <= set(STREAM_KINDS):
        raise Invalid(f"query: kind is one of {', '.join(STREAM_KINDS)}")
    token = request.token()
    caller = await call.api.logins.identify(wish.access_token if token is None else token, request.peer)
    call.api.streams.admit()
    if request.gone:
        return TAKEN
    connection = request.connection
    connection.identity = caller.name
    client = StreamClient(
        call.api.streams, connection, caller, Wish(set(wish.device), set(wish.kind), set(wish.protocol))
    )
    if WebSocketResource(_Once(client)).render_GET(request) is not NOT_DONE_YET:
        raise Invalid("the WebSocket handshake is not valid")
    connection.upgrade(client)
    connection.home.count_answer(101)
    return TAKEN


def _check_upgrade(request: Any) -> None:
    """What the handshake (RFC 6455, 4.2.1) needs, looked at before Twisted logs its absence as a fault."""
    headers = request.requestHeaders

    def has(name: bytes, token: bytes) -> bool:
        values = b",".join(headers.getRawHeaders(name, [])).lower().split(b",")
        return token in [value.strip() for value in values]

    if not (has(b"upgrade", b"websocket") and has(b"connection", b"upgrade")):
        raise UpgradeRequired("this is a WebSocket", headers=_UPGRADE)
    if not has(b"sec-websocket-version", b"13"):
        raise UpgradeRequired("WebSocket version 13 is needed", headers=((b"Sec-WebSocket-Version", b"13"), *_UPGRADE))
    if len(headers.getRawHeaders(b"sec-websocket-key", [])) != 1 or request.clientproto != b"HTTP/1.1":
        raise Invalid("the WebSocket handshake is not valid")


def _check_origin(request: Any) -> None:
    origins = request.requestHeaders.getRawHeaders(b"origin", [])
    hosts = request.requestHeaders.getRawHeaders(b"host", [])
    if not origins:
        return
    try:
        origin = urlsplit(origins[0].decode("ascii")).netloc.lower()
    except ValueError:
        origin = ""
    if not origin or len(origins) > 1 or not hosts or origin.encode() != hosts[0].strip().lower():
        raise Forbidden("a stream may be opened only by pages of this host")


ROUTES = (
    Route(
        "GET",
        f"{API}/stream",
        open_stream,
        ANYONE,
        query=StreamQuery,
        status=101,
        secured=True,
        also={426: (Problem, "Not a WebSocket handshake")},
    ),
)
