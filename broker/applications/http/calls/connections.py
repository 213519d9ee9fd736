"""``GET /connections``: who is connected now, on every listener."""

from __future__ import annotations

from itertools import islice
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from broker.applications.http.calls.devices import Text
from broker.web.routes import ADMIN, API, Call, Route


class ConnectionFilter(msgspec.Struct, kw_only=True):
    """Which: of one listener; ``q`` is looked for in identity and address."""

    listener: Text | None = None
    q: Text | None = None
    limit: Annotated[int, Meta(ge=1, le=1_000)] = 100


class ConnectionShape(msgspec.Struct, kw_only=True):
    """One connection. ``identity`` is who it has proven to be, empty until then; ``seconds``: how long it is there.

    ``node``: the name of the process that it is with, where there are several.
    """

    listener: str
    identity: str
    host: str
    port: int
    seconds: float
    messages_in: int
    node: str


class ConnectionPage(msgspec.Struct):
    """The first of them in no order, and how many there are."""

    items: list[ConnectionShape]
    total: int
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
