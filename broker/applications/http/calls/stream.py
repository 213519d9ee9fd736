"""Opening a stream: ``GET /api/v1/stream?device=&kind=&protocol=`` with an upgrade to WebSocket.

A browser cannot give a WebSocket an Authorization header, so here, and only here, the token may stand in the query as
``access_token``; queries are never logged. One that has signed in needs none: its cookie comes along. A page of another
site must not open a stream in its visitor's name, so an Origin, where there is one, has to be this host.
"""

from __future__ import annotations

from typing import Any

import msgspec

from broker.applications.http.api import api_of
from broker.applications.http.streams import STREAM_KINDS, StreamClient, Wish
from broker.applications.http.surface import request_token
from broker.model.discreet import Discreet
from broker.model.errors import Invalid
from broker.web.callers import ADMINISTRATOR
from broker.web.routes import ANYONE, API, Call
from broker.web.websocket import WebSocketRoute


class StreamQuery(Discreet, msgspec.Struct, kw_only=True):
    """What is to be told; each may be given more than once, and stands for all where it is left out."""

    #: Only about the device with this id.
    device: list[str] = []
    #: Only this: data, status, event, log, raw, presence, command, broker_event, campaign; trace only comes if asked
    #: for.
    kind: list[str] = []
    #: Only about devices of this protocol.
    protocol: list[str] = []
    #: The token, for browsers, which cannot send an Authorization header with a WebSocket; given once.
    access_token: str | None = None


async def open_stream(call: Call) -> Any:
    """WebSocket: uplinks, presence, command changes and events (kind broker_event) as they happen."""
    api, wish = api_of(call), call.query
    if not set(wish.kind) <= set(STREAM_KINDS):
        raise Invalid(f"query: kind is one of {', '.join(STREAM_KINDS)}")
    token = request_token(call.request)
    token = wish.access_token if token is None else token
    session = api.sessions.of(call.request) if token is None else None
    caller = ADMINISTRATOR if session is not None else await api.logins.identify(token, call.request.peer)
    api.streams.admit()
    call.request.connection.identity = caller.name
    return StreamClient(api.streams, caller, Wish(set(wish.device), set(wish.kind), set(wish.protocol)), session)


ROUTES = (WebSocketRoute(f"{API}/stream", open_stream, ANYONE, query=StreamQuery, secured=True),)
