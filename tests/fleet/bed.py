"""Campaigns on a made-up protocol, with storage in memory and two clocks: one of the wall, which may jump, and one that
never does. A broker can be killed and begun anew on the same storage.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from zope.interface import implementer

from broker.core import Core
from broker.fleet.campaign import Campaign, Filter, Plan, Targets
from broker.fleet.campaigns import Campaigns
from broker.fleet.line import Line
from broker.fleet.settings import CampaignSettings
from broker.model.errors import NotFound
from broker.model.interfaces import IDeviceLink, IUpdater
from broker.model.records import DeviceQuery, DeviceRecord
from broker.model.updates import ACCEPTED, SENT, Order, Release
from broker.routing.commands import Commands
from broker.routing.live import LiveDevice, LiveDevices
from broker.routing.outbox import Turn
from broker.routing.router import Router
from broker.routing.topic_index import TopicIndex
from broker.routing.values import LastValues
from broker.storage.registry import Change
from tests.applications.gizwits.memory_records import MemoryRecords

NOW = 1_700_000_000.0
OLD, NEW = "1.0", "2.0"


@implementer(IDeviceLink)
class Link:
    protocol = "made"
    window = 1
    answer_timeout = pending_timeout = 1.0

    def send_command(self, command: Any) -> None: ...

    def close_link(self, reason: str) -> None: ...


class FakeRegistry:
    def __init__(self) -> None:
        self.records: dict[str, DeviceRecord] = {}
        self.on_change: list[Callable[[Change], None]] = []

    def find_device(self, id: str) -> Deferred[DeviceRecord | None]:
        return succeed(self.records.get(id))

    def list_devices(
        self, query: DeviceQuery, limit: int, cursor: str | None
    ) -> Deferred[tuple[list[DeviceRecord], str | None]]:
        found = [
            record
            for id, record in sorted(self.records.items())
            if (cursor is None or id > cursor)
            and record.protocol == query.protocol
            and query.product in (None, record.product)
            and (query.tag is None or query.tag in record.tags)
        ]
        return succeed((found[:limit], found[limit - 1].id if len(found) > limit else None))


@implementer(IUpdater)
class FakeUpdater:
    """Its journal outlives the broker, as commands do. What devices do is what ``behaviour`` says of them.

    ======  ==================================================================
    good    fetches, reboots, reports the new version
    wait    does nothing until the test says so
    refuse  says no
    keeps   fetches, reboots, and still reports the old version
    claims  reports the new version without fetching
    dumb    answers nothing
    ======  ==================================================================
    """

    backs_up = True

    def __init__(self) -> None:
        #: Order id -> how often its device was told, in all lives of the broker.
        self.given: Counter[str] = Counter()
        self.touched: set[str] = set()
        self.behaviour: dict[str, str] = {}
        self.reported: dict[str, str] = {}
        self.bed: Any = None
        self.progress: Any = None
        self.ended: list[tuple[str, str | None]] = []
        self.withdrawn: list[str] = []
        self.most_at_once = 0

    def follow(self, progress: Any) -> None:
        self.progress = progress

    def find(self, image: str, version: str | None) -> Deferred[Release]:
        if image != "image":
            return fail(NotFound("there is no such image"))
        return succeed(Release(protocol="made", image=image, version=version or NEW))

    def version_of(self, info: dict[str, Any], release: Release) -> str | None:
        return info.get("version")

    def lower(self, one: str, other: str) -> bool:
        return one < other

    def unfit(self, record: DeviceRecord, info: dict[str, Any], release: Release) -> str | None:
        return "it is odd" if record.attributes.get("odd") else None

    def begin(self, order: Order) -> Deferred[None]:
        self.most_at_once = max(self.most_at_once, len(self.bed.at_work))
        how = self.behaviour.get(order.device, "good")
        if order.id not in self.given:
            self.given[order.id] += 1
            self.touched.add(order.device)
            if how != "stuck":
                self.progress.moved(order.id, SENT)
                self.bed.clock.callLater(1, self._act, order, how)
        else:  # it was found in the journal
            self.progress.moved(order.id, SENT)
            self.bed.clock.callLater(1, self._act, order, how)
        return succeed(None)

    def _act(self, order: Order, how: str) -> None:
        if self.bed.lives[-1] is not self.bed.campaigns or how in ("wait", "dumb", "stuck"):
            return
        if how == "refuse":
            self.progress.failed(order.id, "it has refused")
            return
        self.progress.moved(order.id, ACCEPTED)
        if how == "claims":
            self.bed.report(order.device, NEW)
            return
        self.fetch(order.id)
        self.bed.off(order.device)
        self.bed.on(order.device)
        self.bed.report(order.device, OLD if how == "keeps" else NEW)

    def fetch(self, order_id: str) -> None:
        fetching: list[Any] = []
        self.progress.fetching(order_id).addBoth(fetching.append)
        assert fetching == [None], fetching
        self.progress.fetched(order_id)

    def withdraw(self, order: Order) -> None:
        if self.behaviour.get(order.device) == "stuck":
            self.withdrawn.append(order.device)
            self.progress.returned(order.id, "it was taken back")

    def end(self, order: Order, why: str | None) -> None:
        self.ended.append((order.device, why))

    def ask(self, device_id: str, release: Release) -> None: ...


class Bed:
    def __init__(self, **settings: Any) -> None:
        self.clock = Clock()
        #: Of the wall: what it shows more than the other.
        self.offset = NOW
        self.storage = MemoryRecords()
        self.registry = FakeRegistry()
        self.updater = FakeUpdater()
        self.updater.bed = self
        self.settings = CampaignSettings(**settings)
        self.online: set[str] = set()
        self.faults: list[BaseException] = []
        self.lives: list[Campaigns] = []
        self.announced: list[tuple[str, dict[str, Any]]] = []
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.begin_life()

    # -- the broker ------------------------------------------------------------------------------------------------

    def begin_life(self) -> None:
        """Start a broker on what is on disk; every device is offline at first."""
        router = Router(lambda what, error: self.faults.append(error))
        devices = LiveDevices(router, self.wall)
        registry: Any = self.registry
        storage: Any = self.storage
        unused: Any = None
        self.registry.on_change.clear()
        self.core = Core(
            reactor=self.clock,
            clock=self.wall,
            monotonic=self.clock.seconds,
            turn=Turn(lambda flush: self.clock.callLater(0, flush)),
            router=router,
            devices=devices,
            commands=Commands(unused, devices, router, self.wall),
            storage=storage,
            registry=registry,
            topics=TopicIndex(),
            files=unused,
            quarantine=unused,
        )
        self.core.updaters["made"] = self.updater
        self.core.announcements.append(lambda kind, value: self.announced.append((kind, value)))
        events: Any = self.core.events
        events.emit = self.emit
        self.campaigns = Campaigns(self.core, self.settings)
        self.lives.append(self.campaigns)
        self.done(self.campaigns.open())

    def emit(self, kind: str, device: str | None, details: dict[str, Any], protocol: str | None = None) -> None:
        self.events.append((kind, dict(details)))

    def kill(self) -> None:
        """kill -9, and a new broker; the devices come back."""
        for call in self.clock.getDelayedCalls():
            call.cancel()
        back = sorted(self.online)
        self.online.clear()
        self.begin_life()
        for device in back:
            self.on(device)

    def wall(self) -> float:
        return self.offset + self.clock.seconds()

    def jump(self, seconds: float) -> None:
        """The clock of the wall is set."""
        self.offset += seconds

    def jump_to(self, at: float) -> None:
        self.offset = at - self.clock.seconds()

    def tick(self, seconds: float = 1.0, step: float = 1.0) -> None:
        while seconds > 0:
            self.clock.advance(step)
            self.campaigns.tick()
            seconds -= step
        while any(call.getTime() <= self.clock.seconds() for call in self.clock.getDelayedCalls()):
            self.clock.advance(0)

    # -- devices ---------------------------------------------------------------------------------------------------

    def device(self, id: str, how: str = "good", online: bool = True, version: str | None = OLD, **more: Any) -> str:
        self.registry.records[id] = DeviceRecord(id=id, protocol="made", **more)
        self.updater.behaviour[id] = how
        if version is not None:
            self.registry.records[id].info = {"version": version}
        if online:
            self.on(id)
        return id

    def on(self, id: str) -> LiveDevice:
        self.online.add(id)
        record = self.registry.records[id]
        return self.core.devices.attach(record.ref(), Link(), lambda: (LastValues(), dict(record.info)))

    def off(self, id: str) -> None:
        self.online.discard(id)
        live = self.core.devices.get(id)
        assert live is not None
        self.core.devices.detach(live, live.link, "client_closed")

    def report(self, id: str, version: str) -> None:
        """The device tells what it has."""
        live = self.core.devices.get(id)
        self.registry.records[id].info = {"version": version}
        if live is not None:
            live.info["version"] = version
        self.done(self.campaigns.reported(id, {"version": version}))

    def remove(self, id: str) -> None:
        del self.registry.records[id]
        for listener in self.registry.on_change:
            listener(Change("device_removed", id))

    # -- campaigns -------------------------------------------------------------------------------------------------

    def done(self, deferred: Deferred[Any]) -> Any:
        """What it gives, at once or when the clock goes on."""
        found: list[Any] = []
        deferred.addBoth(found.append)
        for _ in range(100):
            if found:
                break
            self.clock.advance(0)
        (answer,) = found
        if hasattr(answer, "raiseException"):
            answer.raiseException()
        return answer

    def plan(self, **fields: Any) -> Plan:
        targets = fields.pop("targets", Targets(filter=Filter()))
        return Plan(**{"protocol": "made", "image": "image", "version": NEW, "targets": targets, **fields})

    def campaign(self, start: bool = True, **fields: Any) -> Campaign:
        campaign: Campaign = self.done(self.campaigns.create(self.plan(**fields)))
        if start:
            self.done(self.campaigns.start(campaign.id))
            self.tick()
        return campaign

    def now(self, campaign: Campaign) -> Campaign:
        return self.campaigns.get(campaign.id)

    def lines(self, campaign: Campaign) -> dict[str, Line]:
        """As they are on disk."""
        found: dict[str, Line] = {}
        after: str | None = None
        while page := self.done(self.campaigns.store.page(campaign.id, None, 7, after)):
            found.update((line.device, line) for line in page)
            after = page[-1].device
        return found

    def states(self, campaign: Campaign) -> dict[str, str]:
        return {id: line.state for id, line in self.lines(campaign).items()}

    @property
    def at_work(self) -> dict[str, Any]:
        return {device: work for run in self.campaigns._runs.values() for device, work in run.outcomes.at_work.items()}

    def recount(self, campaign: Campaign) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
        """Lines by state: as the campaign shows them, as the lines on disk count, and as the index does."""
        counts, _ = self.campaigns.figures(self.now(campaign))
        lines = Counter(self.states(campaign).values())
        places = Counter(key.split("/")[1] for key in self.storage.tables.get("fleet_states", {}))
        return {state: count for state, count in counts.items() if count}, dict(lines), dict(places)
