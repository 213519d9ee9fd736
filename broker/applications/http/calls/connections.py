"""``GET /connections``: who is connected now, on every listener."""

from __future__ import annotations

from itertools import islice
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from broker.applications.http.calls.devices import Text
from broker.web.routes import ADMIN, API, Call, Route


class ConnectionFilter(msgspec.Struct, kw_only=True):
    """Which connections."""

    #: Only connections to the listener of this name.
    listener: Text | None = None
    #: Only connections that have this in identity or address, in any case.
    q: Text | None = None
    #: Connections that are answered at most; there is no further page.
    limit: Annotated[int, Meta(ge=1, le=1_000)] = 100


class ConnectionShape(msgspec.Struct, kw_only=True):
    """One connection."""

    #: The name of the listener that it came to.
    listener: str
    #: Who it has proven to be; empty until then.
    identity: str
    #: The address of the other end.
    host: str
    #: The port of the other end.
    port: int
    #: How long it is there.
    seconds: float
    #: Messages that came through it.
    messages_in: int
    #: The name of the process that it is with.
    node: str


class ConnectionPage(msgspec.Struct):
    """The first of them, in no order."""

    #: The connections, as many as ``limit`` allows.
    items: list[ConnectionShape]
    #: How many there are.
    total: int
    #: Always null: there is no further page.
    next: None = None


async def list_connections(call: Call) -> Any:
    """Who is connected, to whichever process."""
    wish: ConnectionFilter = call.query
    found = [
        (name, connection)
        for name, listener in call.core.listeners.items()
        if wish.listener in (None, name)
        for connection in getattr(listener, "connections", ())
        if hasattr(connection, "identity")
        and (wish.q is None or wish.q.lower() in f"{connection.identity} {connection.host}".lower())
    ]
    node = call.core.name
    page = ConnectionPage(
        [_shape(node, name, connection) for name, connection in islice(found, wish.limit)], len(found)
    )
    for other in await call.everywhere():
        elsewhere = msgspec.convert(other, ConnectionPage)
        page.items += elsewhere.items[: wish.limit - len(page.items)]
        page.total += elsewhere.total
    return page


def _shape(node: str, listener: str, connection: Any) -> ConnectionShape:
    return ConnectionShape(
        listener=listener,
        identity=connection.identity,
        host=connection.host,
        port=connection.port,
        seconds=round(connection.age, 1),
        messages_in=connection.messages_in,
        node=node,
    )


ROUTES = (Route("GET", f"{API}/connections", list_connections, ADMIN, query=ConnectionFilter, answers=ConnectionPage),)
