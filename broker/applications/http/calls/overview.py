"""``GET /overview``: how the broker is, for people; the same figures as ``/metrics`` has, and who was refused last."""

from __future__ import annotations

from typing import Any

import msgspec

from broker.applications.http.shapes import milliseconds
from broker.core import Core
from broker.listening.stats import ListenerStats
from broker.web.routes import ADMIN, API, Call, Route

#: Refusals that are shown, of all listeners together.
MAX_REFUSALS = 50


class ListenerShape(msgspec.Struct, kw_only=True):
    """A listener: where it is bound, who is connected, and what it has counted since the start, by reason."""

    name: str
    node: str
    bind: list[str]
    connections: int
    accepted: int
    logins_failed: int
    messages_in: int
    messages_out: int
    bytes_in: int
    bytes_out: int
    malformed: int
    throttled: int
    refused: dict[str, int]
    closed: dict[str, int]
    dropped: dict[str, int]


class RefusalShape(msgspec.Struct, kw_only=True):
    """A connection that was refused, or ended for something that it did."""

    at: float
    node: str
    listener: str
    reason: str
    host: str
    identity: str


class DevicesShape(msgspec.Struct, kw_only=True):
    """How many devices are registered and online, by protocol."""

    registered: dict[str, int]
    online: dict[str, int]


class CommandsShape(msgspec.Struct, kw_only=True):
    """Commands under way, taken and ended (by their final state) since the start."""

    open: int
    submitted: int
    ended: dict[str, int]


class NodeShape(msgspec.Struct, kw_only=True):
    """A process of the broker."""

    name: str
    version: str
    started_at: float
    problems: list[str]
    troubles: list[str]


class OverviewShape(msgspec.Struct, kw_only=True):
    """The broker at a glance. ``at`` is its own clock.

    ``problems``: why it takes no work, empty when it does; ``troubles``: what of its surroundings does not work, while
    it takes work (as ``/healthz`` has it). Of several processes, figures are those of all together; ``name``,
    ``version`` and ``started_at`` are those of the one that answers, and listeners and refusals say whose they are.
    """

    at: float
    version: str
    name: str
    started_at: float
    storage: str
    problems: list[str]
    troubles: list[str]
    devices: DevicesShape
    applications: dict[str, int]
    uplinks: int
    streams: int
    commands: CommandsShape
    listeners: list[ListenerShape]
    refusals: list[RefusalShape]
    nodes: list[NodeShape]


async def get_overview(call: Call) -> Any:
    """How the broker is, all of its processes together."""
    shape = await _here(call)
    for other in await call.everywhere():
        _add(shape, msgspec.convert(other, OverviewShape))
    shape.refusals = sorted(shape.refusals, key=lambda one: -one.at)[:MAX_REFUSALS]
    return shape


def _add(shape: OverviewShape, other: OverviewShape) -> None:
    """What another process has."""
    for name in ("problems", "troubles"):
        mine: list[str] = getattr(shape, name)
        mine += [f"{other.name}: {sentence}" for sentence in getattr(other, name)]
    for protocol, count in other.devices.online.items():
        shape.devices.online[protocol] = shape.devices.online.get(protocol, 0) + count
    shape.uplinks += other.uplinks
    shape.streams += other.streams
    shape.commands.open += other.commands.open
    shape.commands.submitted += other.commands.submitted
    for status, count in other.commands.ended.items():
        shape.commands.ended[status] = shape.commands.ended.get(status, 0) + count
    shape.listeners += other.listeners
    shape.refusals += other.refusals
    shape.nodes += other.nodes


async def _here(call: Call) -> OverviewShape:
    core = call.core
    registered = await core.storage.count_devices()
    applications: dict[str, int] = {}
    for record in await core.registry.list_applications():
        applications[record.kind] = applications.get(record.kind, 0) + 1
    counters = core.commands.counters
    return OverviewShape(
        at=round(core.clock(), 3),
        version=core.version,
        name=core.name,
        started_at=round(core.started_at, 3),
        storage=str(core.summary.get("storage", "")),
        problems=core.ready(),
        troubles=core.troubles(),
        devices=DevicesShape(registered=registered, online=dict(core.devices.online_by_protocol)),
        applications=applications,
        uplinks=core.router.uplinks,
        streams=len(call.home.api.streams.clients),
        commands=CommandsShape(open=core.commands.open, submitted=counters.submitted, ended=dict(counters.ended)),
        listeners=_listeners(core),
        refusals=_refusals(core),
        nodes=[
            NodeShape(
                name=core.name,
                version=core.version,
                started_at=round(core.started_at, 3),
                problems=core.ready(),
                troubles=core.troubles(),
            )
        ],
    )


def _stats(core: Core) -> list[tuple[str, Any, ListenerStats]]:
    return [(name, listener, listener.stats) for name, listener in core.listeners.items() if hasattr(listener, "stats")]


def _listeners(core: Core) -> list[ListenerShape]:
    bound = core.summary.get("listeners", {})
    return [
        ListenerShape(
            name=name,
            node=core.name,
            bind=list(bound.get(name, {}).get("bind", ())),
            connections=len(listener.connections),
            accepted=stats.accepted,
            logins_failed=stats.logins_failed,
            messages_in=stats.messages_in,
            messages_out=stats.messages_out,
            bytes_in=stats.bytes_in,
            bytes_out=stats.bytes_out,
            malformed=stats.malformed,
            throttled=stats.throttled,
            refused=dict(stats.refused),
            closed=dict(stats.closed),
            dropped=dict(stats.dropped),
        )
        for name, listener, stats in _stats(core)
    ]


def _refusals(core: Core) -> list[RefusalShape]:
    found = [(one.at, name, one) for name, _, stats in _stats(core) for one in stats.recent]
    found.sort(key=lambda entry: -entry[0])
    return [
        RefusalShape(
            at=milliseconds(at) or 0.0,
            node=core.name,
            listener=name,
            reason=one.reason,
            host=one.host,
            identity=one.identity,
        )
        for at, name, one in found[:MAX_REFUSALS]
    ]


ROUTES = (Route("GET", f"{API}/overview", get_overview, ADMIN, answers=OverviewShape),)
