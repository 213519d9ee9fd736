"""Devices and gateways that were seen and are not registered. What approving one takes and answers is its protocol's
business, as with ``POST /devices``.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from broker.applications.http.calls.devices import Limit, Text
from broker.applications.http.shapes import QuarantinePage, quarantine_shape
from broker.storage.quarantine import key_of
from broker.web.problems import Problem
from broker.web.routes import ADMIN, API, Call, Route

Cursor = Annotated[str, Meta(max_length=512)]


class QuarantineFilter(msgspec.Struct, kw_only=True):
    """Which of them, and which page."""

    #: Only those that were seen in this protocol.
    protocol: Text | None = None
    #: Entries of one page at most.
    limit: Limit = 100
    #: The ``next`` of the page before; left out, the first page.
    cursor: Cursor | None = None


class WhichProtocol(msgspec.Struct, kw_only=True):
    """Which of several with the same id."""

    #: The protocol in which it was seen; only needed where several have seen the same id.
    protocol: Text | None = None


class QuarantinePath(msgspec.Struct):
    """Which of them."""

    #: What it calls itself; the digits of a MAC or EUI may be written with separators.
    id: str


async def list_quarantine(call: Call) -> Any:
    """Who was seen and is not registered, by protocol and id."""
    wish: QuarantineFilter = call.query
    entries = await call.core.quarantine.list(wish.protocol, wish.limit + 1, wish.cursor)
    shown = [quarantine_shape(entry) for entry in entries[: wish.limit]]
    more = len(entries) > wish.limit
    return QuarantinePage(shown, key_of(shown[-1].protocol, shown[-1].id) if more else None)


async def approve_quarantined(call: Call) -> Any:
    """Register it, with what its protocol asks for in the body. The protocol answers, with secrets this once."""
    return await call.core.quarantine.approve(call.path["id"], call.body, call.query.protocol)


async def forget_quarantined(call: Call) -> Any:
    """Forget it, until it is seen again."""
    await call.core.quarantine.forget(call.path["id"], call.query.protocol)


_SEVERAL = {409: (Problem, "Several protocols have seen this id, or it is registered already")}

ROUTES = (
    Route("GET", f"{API}/quarantine", list_quarantine, ADMIN, query=QuarantineFilter, answers=QuarantinePage),
    Route(
        "POST",
        f"{API}/quarantine/{{id}}/approve",
        approve_quarantined,
        ADMIN,
        query=WhichProtocol,
        body=dict[str, Any],
        bodiless=True,
        answers=dict[str, Any],
        also=_SEVERAL,
        path_shape=QuarantinePath,
    ),
    Route(
        "DELETE",
        f"{API}/quarantine/{{id}}",
        forget_quarantined,
        ADMIN,
        query=WhichProtocol,
        status=204,
        also=_SEVERAL,
        path_shape=QuarantinePath,
    ),
)
