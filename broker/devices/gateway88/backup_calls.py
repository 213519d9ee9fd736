"""``/api/v1/backups``: how every gateway is off for backups."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from broker.core import Core
from broker.devices.gateway88.backup_care import BackupCare
from broker.devices.gateway88.calls import BackupShape, backup_shape
from broker.devices.gateway88.identity import PROTOCOL
from broker.model.records import DeviceQuery, DeviceRecord
from broker.web.routes import ADMIN, API, Call, Route


class BackupsFilter(msgspec.Struct, kw_only=True):
    """Which gateways, and which page."""

    #: Only gateways that have this in id or name, in any case.
    q: Annotated[str, Meta(max_length=128)] | None = None
    #: Entries of one page at most.
    limit: Annotated[int, Meta(ge=1, le=1_000)] = 100
    #: The ``next`` of the page before; left out, the first page.
    cursor: Annotated[str, Meta(max_length=255)] | None = None


class GatewayBackups(msgspec.Struct, kw_only=True):
    """A gateway and its newest backup."""

    #: The id of the gateway.
    gateway: str
    #: Its name for people; may be empty.
    name: str
    #: Whether it is connected.
    online: bool
    #: Its newest backup; null: there is none.
    newest: BackupShape | None
    #: Seconds since that was made; null: there is none.
    age: float | None
    #: Seconds between two backups that the broker makes by itself; 0: none.
    every: float
    #: Whether one is to be made as soon as it can be.
    due: bool
    #: How many have failed in a row, up to now.
    failures: int
    #: Why the last of them failed; null: none has.
    error: str | None
    #: What somebody should look at: there is none, it is too old, or they fail; null: nothing.
    warning: Literal["none", "too_old", "failing"] | None


class GatewayBackupsPage(msgspec.Struct):
    """Gateways by id."""

    #: The gateways of this page.
    items: list[GatewayBackups]
    #: The ``cursor`` of the following page; null on the last one.
    next: str | None


class BackupOverview:
    """The handler."""

    def __init__(self, core: Core, care: BackupCare) -> None:
        self._core = core
        self._care = care

    async def overview(self, call: Call) -> Any:
        """All gateways with their newest backup, its age, and what is wrong."""
        wish: BackupsFilter = call.query
        query = DeviceQuery(protocol=PROTOCOL, q=wish.q)
        records, cursor = await self._core.registry.list_devices(query, wish.limit, wish.cursor)
        return GatewayBackupsPage([self._shape(record) for record in records], cursor)

    def _shape(self, record: DeviceRecord) -> GatewayBackups:
        care, now = self._care, self._core.clock()
        live = self._core.devices.get(record.id)
        online = (live is not None and live.online) or self._core.whereabouts.online(record.id)
        newest = care.newest.get(record.id)
        trouble = care.trouble.get(record.id)
        failures = 0 if trouble is None else trouble.failures
        every = care.every(record)
        age = None if newest is None else max(0.0, now - newest.created_at)
        limit = care.settings.backup_too_old
        warning: Literal["none", "too_old", "failing"] | None = None
        if failures:
            warning = "failing"
        elif every and newest is None and limit and now - record.created_at > limit:
            warning = "none"
        elif every and age is not None and limit and age > limit:
            warning = "too_old"
        return GatewayBackups(
            gateway=record.id,
            name=record.name,
            online=online,
            newest=None if newest is None else backup_shape(newest),
            age=None if age is None else round(age, 3),
            every=every,
            due=care.due(record, now),
            failures=failures,
            error=trouble.error if trouble is not None and failures else None,
            warning=warning,
        )


def routes(core: Core, care: BackupCare) -> list[Route]:
    """What the care of backups adds to the API."""
    calls = BackupOverview(core, care)
    return [
        Route("GET", f"{API}/backups", calls.overview, ADMIN, query=BackupsFilter, answers=GatewayBackupsPage),
    ]
