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
    """A listener of one process, and what it has counted since the start of that."""

    #: Its name in the configuration.
    name: str
    #: The name of the process that it is of.
    node: str
    #: What it is bound to, as it is configured.
    bind: list[str]
    #: How many are connected now.
    connections: int
    #: Connections that were taken.
    accepted: int
    #: Log-ins that failed.
    logins_failed: int
    #: Messages that came.
    messages_in: int
    #: Messages that were sent.
    messages_out: int
    #: Bytes that came.
    bytes_in: int
    #: Bytes that were sent.
    bytes_out: int
    #: Messages that broke their protocol's rules.
    malformed: int
    #: How often a client was paused for sending too fast.
    throttled: int
    #: Connections that were turned away before they began, by close reason.
    refused: dict[str, int]
    #: Connections that have ended, by close reason.
    closed: dict[str, int]
    #: Messages that were not taken or not delivered, by drop reason.
    dropped: dict[str, int]


class RefusalShape(msgspec.Struct, kw_only=True):
    """A connection that was refused, or ended for something that it did."""

    #: When (UNIX seconds).
    at: float
    #: The name of the process that it was with.
    node: str
    #: The name of the listener that it came to.
    listener: str
    #: Why, a close reason.
    reason: str
    #: The address that it came from.
    host: str
    #: Who it had proven to be; may be empty.
    identity: str


class DevicesShape(msgspec.Struct, kw_only=True):
    """Devices by protocol."""

    #: How many are registered, by protocol.
    registered: dict[str, int]
    #: How many are online, by protocol; one without any may be left out.
    online: dict[str, int]


class CommandsShape(msgspec.Struct, kw_only=True):
    """Commands since the start."""

    #: How many are under way now.
    open: int
    #: How many were taken.
    submitted: int
    #: How many have ended, by final state.
    ended: dict[str, int]


class NodeShape(msgspec.Struct, kw_only=True):
    """A process of the broker."""

    #: Its name.
    name: str
    #: The version of the broker that it runs.
    version: str
    #: When it was started (UNIX seconds).
    started_at: float
    #: Why it takes no work, a sentence each; empty when it does.
    problems: list[str]
    #: What of its surroundings does not work, while it takes work, a sentence each.
    troubles: list[str]


class OverviewShape(msgspec.Struct, kw_only=True):
    """The broker at a glance. Of several processes, figures are those of all together."""

    #: The broker's own clock (UNIX seconds).
    at: float
    #: The version of the process that answers.
    version: str
    #: The name of the process that answers.
    name: str
    #: When the process that answers was started (UNIX seconds).
    started_at: float
    #: The storage, for people: ``sqlite``, or ``redis`` and its address.
    storage: str
    #: Why it takes no work, a sentence each; empty when it does.
    problems: list[str]
    #: What of its surroundings does not work, while it takes work, a sentence each, as ``/healthz`` has them.
    troubles: list[str]
    #: Devices by protocol.
    devices: DevicesShape
    #: How many applications are registered, by kind.
    applications: dict[str, int]
    #: Messages of devices since the start.
    uplinks: int
    #: How many streams are open.
    streams: int
    #: Commands since the start.
    commands: CommandsShape
    #: The listeners of all processes.
    listeners: list[ListenerShape]
    #: The last connections that were refused, or ended for something that they did, the newest first.
    refusals: list[RefusalShape]
    #: The processes of the broker.
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
