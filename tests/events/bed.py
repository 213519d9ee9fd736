"""Events with everything around them in memory, and time by hand."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from broker.events.event import Event
from broker.events.events import Events
from broker.events.rules import DeviceFilter, Rule
from broker.events.settings import EventsTable, MailTable
from broker.events.side import EventSide
from broker.events.sinks import Outcome, Sink, delivered
from broker.model.records import DeviceQuery, DeviceRecord
from broker.routing.live import LiveDevice, LiveDevices
from broker.routing.router import Router
from broker.routing.values import LastValues
from broker.storage.quarantine import Quarantine
from broker.storage.registry import Registry
from tests.devices.lorawan.storage import MemoryStorage

START = 1_000_000.0


class Storage(MemoryStorage):
    """With the queries that events make. ``applications``: of each device."""

    def __init__(self) -> None:
        super().__init__()
        self.applications: dict[str, list[str]] = {}

    def applications_of(self, device_id: str) -> Deferred[list[str]]:
        return self._later(lambda: self.applications.get(device_id, []))

    def list_devices(
        self, query: DeviceQuery, limit: int, cursor: str | None
    ) -> Deferred[tuple[list[DeviceRecord], str | None]]:
        def fits(one: DeviceRecord) -> bool:
            return (
                query.online in (None, one.online)
                and query.parent in (None, one.attributes.get("parent"))
                and (query.changed_since is None or (one.presence_at or 0) >= query.changed_since)
            )

        def read() -> tuple[list[DeviceRecord], str | None]:
            rows = sorted((one for one in self.devices.values() if fits(one)), key=lambda one: one.id)
            rest = [copy.deepcopy(one) for one in rows if cursor is None or one.id > cursor]
            return rest[:limit], rest[limit - 1].id if len(rest) > limit else None

        return self._later(read)


class Link:
    """A way to a device."""

    def close_link(self, reason: str) -> None:
        """Nothing is behind it."""


class Lora:
    """What events ask of the LoRaWAN network."""

    def __init__(self) -> None:
        self.gateways: dict[str, dict[str, Any]] = {}
        self.near: dict[str, tuple[str, ...]] = {}
        self.watchers: list[Any] = []

    def gateway(self, eui: str) -> dict[str, Any] | None:
        return self.gateways.get(eui)

    def gateways_of(self, dev_eui: str) -> tuple[str, ...]:
        return self.near.get(dev_eui, ())

    def motes_behind(self, eui: str) -> list[str]:
        return [mote for mote, near in self.near.items() if near == (eui,)]

    def watch_gateways(self, call: Any) -> None:
        self.watchers.append(call)

    def set(self, eui: str, online: bool, at: float) -> None:
        self.gateways[eui] = {"name": "", "online": online, "last_seen": at}
        for watch in self.watchers:
            watch(eui, online)


class EventBed(SynchronousTestCase):
    """A broker's events. ``kinds`` tells what was emitted; sinks take what ``outcomes`` says, then everything."""

    settings = EventsTable()
    mail = MailTable()

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(START)
        #: What the wall clock is ahead of the other one.
        self.ahead = 0.0
        self.storage: Any = Storage()
        self.outcomes: list[Outcome | Deferred[Outcome]] = []
        #: (sink, ids of the events) of each attempt.
        self.attempts: list[tuple[str, list[str]]] = []
        self.taken: list[Event] = []
        self.faults: list[BaseException] = []
        self.start()

    def tearDown(self) -> None:
        self.assertEqual(self.faults, [])

    def wall(self) -> float:
        return self.clock.seconds() + self.ahead

    # -- the broker's life -----------------------------------------------------------------------------------------

    def start(self) -> None:
        self.told: list[Event] = []
        self.router = Router(lambda what, error: self.faults.append(error))
        self.devices = LiveDevices(self.router, self.wall)
        self.registry = Registry(self.storage, self.wall)
        self.quarantine = Quarantine(self.storage, self.wall)
        self.events = Events(self.wall)
        self.events.watchers.append(self.told.append)
        self.side = EventSide(
            self.events,
            self.storage,
            self.router,
            self.devices,
            self.registry,
            self.quarantine,
            self.settings,
            self.mail,
            self.clock,
            self.wall,
            self.clock.seconds,
        )
        self.patch(self.side, "deliver", self.deliver)
        self.links: dict[str, tuple[LiveDevice, Link]] = {}
        self.successResultOf(self.side.open())

    def crash(self) -> None:
        """What storage does with who was online is done, too, and the broker starts again."""
        for record in self.storage.devices.values():
            live = self.devices.get(record.id)
            if live is not None:
                record.online, record.presence_at, record.presence_reason = (
                    live.online,
                    live.since,
                    live.presence_reason,
                )
            if record.online:
                record.online, record.presence_at, record.presence_reason = False, self.wall(), "restart"
        self.events.close()
        for courier in self.side.couriers.values():
            courier.stop()
        for call in self.clock.getDelayedCalls():
            call.cancel()
        self.start()

    def pass_time(self, seconds: float, step: float = 1.0) -> None:
        """With its ticks."""
        until = self.clock.seconds() + seconds
        while self.clock.seconds() < until - 1e-6:
            self.clock.advance(min(step, until - self.clock.seconds()))
            self.side.tick()

    # -- devices ---------------------------------------------------------------------------------------------------

    def device(self, id: str, protocol: str = "novacloud", online: bool = True, **fields: Any) -> str:
        parent = fields.pop("parent", None)
        attributes = {"parent": parent} if parent else {}
        self.storage.devices[id] = DeviceRecord(id=id, protocol=protocol, attributes=attributes, **fields)
        if online:
            self.come(id)
        return id

    def come(self, *ids: str) -> None:
        for id in ids:
            link: Any = Link()
            live = self.devices.attach(self.storage.devices[id].ref(), link, lambda: (LastValues(), {}))
            self.links[id] = (live, link)

    def go(self, *ids: str, reason: str = "connection_lost") -> None:
        for id in ids:
            live, link = self.links[id]
            gone: Any = link
            self.devices.detach(live, gone, reason)

    def flap(self, id: str, times: int, pause: float = 4.0) -> None:
        for _ in range(times):
            self.go(id)
            self.pass_time(pause)
            self.come(id)
            self.pass_time(pause)

    # -- rules and sinks -------------------------------------------------------------------------------------------

    def sink(self, id: str = "s1", **fields: Any) -> Sink:
        sink = Sink(id=id, kind="webhook", url="http://sink.invalid/", **fields)
        self.successResultOf(self.side.sinks.add(id, sink))
        return sink

    def rule(self, id: str = "r1", sinks: Sequence[str] = ("s1",), **fields: Any) -> Rule:
        if isinstance(fields.get("devices"), dict):
            fields["devices"] = DeviceFilter(**fields["devices"])
        rule = Rule(id=id, sinks=tuple(sinks), **fields)
        self.successResultOf(self.side.rules.add(id, rule))
        return rule

    async def deliver(self, sink: Sink, events: Sequence[Event]) -> Outcome:
        self.attempts.append((sink.id, [event.id for event in events]))
        given = self.outcomes.pop(0) if self.outcomes else delivered(200)
        outcome = await (given if isinstance(given, Deferred) else succeed(given))
        if outcome.delivered:
            self.taken += events
        return outcome

    # -- what came of it -------------------------------------------------------------------------------------------

    @property
    def kinds(self) -> list[tuple[str, str | None]]:
        return [(event.kind, event.device) for event in self.told]

    def take_kinds(self) -> list[tuple[str, str | None]]:
        kinds = self.kinds
        self.told.clear()
        return kinds
