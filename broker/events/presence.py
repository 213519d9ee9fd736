"""What becomes of the coming and going of devices: events that can be believed.

::

    router ──presence──> Story of a device that is away, or was ──due──> judged by the terms of each rule
    gateways of LoRaWAN ─┘                                               │
        away for longer than its rule allows, and no parent away ────────┼─> device_offline, gateway_offline
        back for the debounce, after that ───────────────────────────────┼─> device_online, gateway_online
        away too often within the window ────────────────────────────────┴─> device_flapping ... device_steady

A device that is there, and stays, costs nothing here. While it flaps, its being away or there is no event; that is told
when it is steady again. All times that decide are monotonic, so a clock that jumps makes no event and keeps none back.

While everybody through whom a device is reached is away, it has no events of its own; that of its gateway counts it.
When the gateway is back, the device has the time of its rule once more. If its parent is there but has not been heard
since the device went, its word is waited for: it may only not be noticed yet.

What was told is on disk in the commit of its event (`Saved`), so a restart neither forgets nor repeats it. Devices that
were there when the broker ended have ``restart_grace`` and the time of their rule to come back.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from math import inf
from typing import Any, ClassVar, Final

import msgspec
from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import Logger
from zope.interface import implementer

from broker.cluster.presence import Whereabouts
from broker.events.events import Events
from broker.events.facts import FactFinder
from broker.events.rules import RuleBook
from broker.events.settings import EventsTable
from broker.events.stories import Saved, Story, saved_of
from broker.events.verdict import Verdict
from broker.model.errors import BrokerError
from broker.model.interfaces import IConsumer
from broker.model.messages import EXPIRED, FAILED, TIMED_OUT, Command, DeviceRef, Presence, Uplink
from broker.model.records import DeviceQuery
from broker.routing.live import LiveDevices
from broker.storage.deferred import deferred
from broker.storage.identity import Change
from broker.storage.interface import IStorage
from broker.storage.records import Records

#: Devices that storage is asked about at once: it answers many in one turn, and others come in between.
AT_ONCE: Final = 50
#: Seconds until storage is asked again.
AGAIN: Final = 5.0
#: Seconds between two notes that the broker is alive; see `Watch.open`.
ALIVE_EVERY: Final = 60.0
PAGE: Final = 500
LORA: Final = "lorawan"
#: Why a device has gone that is not to come back.
NOT_MISSED: Final = frozenset({"removed", "resting"})


class Alive(msgspec.Struct):
    """When the broker was last known to run (UNIX seconds)."""

    at: float


class LoraGateway(msgspec.Struct):
    """A gateway of LoRaWAN that was online; they are no devices of the registry."""

    at: float


@implementer(IConsumer)
class Watch:
    """``clock`` gives UNIX seconds."""

    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        storage: IStorage,
        devices: LiveDevices,
        events: Events,
        rules: RuleBook,
        facts: FactFinder,
        settings: EventsTable,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self._storage = storage
        self._devices = devices
        self._events = events
        self._rules = rules
        self._facts = facts
        self._settings = settings
        self._clock = clock
        self._monotonic = monotonic
        self._saved = Records(storage, "event_presence", Saved)
        self._alive = Records(storage, "event_alive", Alive)
        self._lora_gateways = Records(storage, "event_lora_gateways", LoraGateway)
        #: Devices that are connected to other processes.
        self.whereabouts = Whereabouts()
        self._stories: dict[str, Story] = {}
        #: (due, tie-breaker, story); what no longer agrees with the story is passed over.
        self._heap: list[tuple[float, int, Story]] = []
        self._pushed = 0
        self._judging: Deferred[None] | None = None
        self._alive_at = -inf

    # -- its life --------------------------------------------------------------------------------------------------

    @deferred
    async def open(self) -> None:
        """Read what was told, and who was there when the broker ended. Raises Unavailable."""
        now, clock = self._monotonic(), self._clock()
        for id, saved in await self._saved.all():
            story = self._story(id, saved.protocol, saved.went_at, saved.reason)
            story.saved = True
            story.tracks = saved.tracks()
            for terms in [terms for terms, track in story.tracks.items() if track.flapping]:
                story.flaps.extend([now] * terms.flap_count)  # as if it had all been a moment ago
            story.changed_at = now + self._settings.restart_grace
            self._plan(story, now)
        alive = await self._alive.get("alive")
        since = (clock if alive is None else alive.at) - self._rules.longest_patience - 2 * ALIVE_EVERY
        await self._find_missing(since, now)
        for id, one in await self._lora_gateways.all():
            if id not in self._stories:
                self._missing(id, LORA, one.at, "restart", now)
        await self.note_alive()

    async def _find_missing(self, since: float, now: float) -> None:
        """Those that went away with the broker, or so short before that nobody was told."""
        query = DeviceQuery(online=False, changed_since=since)
        cursor: str | None = None
        while True:
            asked: Deferred[Any] = self._storage.list_devices(query, PAGE, cursor)
            records, cursor = await asked
            for record in records:
                known = record.id in self._stories or record.disabled or record.presence_reason in NOT_MISSED
                if not known and record.presence_at is not None:
                    self._missing(record.id, record.protocol, record.presence_at, record.presence_reason, now)
            if cursor is None:
                return

    def _missing(self, id: str, protocol: str, at: float, reason: str, now: float) -> None:
        if not self.is_offline(id):
            return
        story = self._story(id, protocol, at, reason)
        story.changed_at = now + self._settings.restart_grace
        self._plan(story, now)

    def watch_lora(self, network: Any) -> None:
        """The gateways of an ILoraNetwork are watched, too."""
        self._facts.lora = network
        network.watch_gateways(self.gateway_changed)

    @deferred
    async def note_alive(self) -> None:
        """So that the next start knows since when the broker was away. Raises Unavailable."""
        self._alive_at = self._monotonic()
        await self._alive.put("alive", Alive(self._clock()))

    def forget(self) -> None:
        """Another process judges now."""
        self._stories.clear()
        self._heap.clear()

    # -- what is asked ---------------------------------------------------------------------------------------------

    def state_of(self, id: str, online: bool) -> tuple[str, int]:
        """``online``, ``away`` (may yet be back in time), ``offline`` (told) or ``flapping``; and how often it went."""
        story = self._stories.get(id)
        if story is None:
            return "online" if online else "offline", 0
        since = self._monotonic() - self._settings.flap_window
        flaps = sum(1 for at in story.flaps if at > since)
        tracks = story.tracks.values()
        if any(track.flapping for track in tracks):
            return "flapping", flaps
        if any(track.told for track in tracks):
            return "offline", flaps
        return "online" if online else "away", flaps

    @property
    def open_stories(self) -> int:
        return len(self._stories)

    # -- what happens ----------------------------------------------------------------------------------------------

    def uplink(self, message: Uplink) -> None:
        """Never called: it listens quietly."""

    def presence(self, change: Presence) -> None:
        if change.reason == "shutdown":  # the broker goes, not the device
            return
        if change.reason in NOT_MISSED:
            self._forget(change.device.id)
            return
        self._changed(change.device.id, change.device.protocol, change.online, change.reason, change.at)

    def taken_over(self, ref: DeviceRef) -> None:
        """A newer connection in place of one that had not been missed: it came and went all the same."""
        now = self._monotonic()
        story = self._stories.get(ref.id)
        if story is None:
            story = self._story(ref.id, ref.protocol, self._clock(), "takeover")
            story.online = True
        story.flaps.append(now)
        self._plan(story, now)

    def command(self, change: Command) -> None:
        if change.late:
            return  # that it has failed was told; this is an answer after that
        if change.status in (FAILED, TIMED_OUT, EXPIRED) and self._rules.asks_for("command_failed"):
            details = {"command": change.id, "status": change.status, "origin": change.origin, "result": change.result}
            self._events.emit("command_failed", change.device, details, change.protocol)

    def registry_changed(self, change: Change) -> None:
        """See `Registry.on_change`."""
        if change.what in ("device_removed", "device_disabled"):
            self._forget(change.id)

    def gateway_changed(self, eui: str, online: bool) -> None:
        """A gateway of LoRaWAN came or went."""
        self._changed(eui, LORA, online, "connected" if online else "idle", self._clock())
        change = self._lora_gateways.change(eui, LoraGateway(self._clock()) if online else None)
        self._storage.write_records([change]).addErrback(self._not_noted)

    def _changed(self, id: str, protocol: str, online: bool, reason: str, at: float) -> None:
        story = self._stories.get(id)
        now = self._monotonic()
        if story is None:
            if online:
                return
            story = self._story(id, protocol, at, reason)
        story.online = online
        story.changed_at = now
        if not online:
            story.went_at, story.reason = at, reason
            story.flaps.append(now)
        self._plan(story, now)

    def _story(self, id: str, protocol: str, at: float, reason: str) -> Story:
        story = self._stories[id] = Story(id, protocol, self._monotonic(), at, reason)
        return story

    def _forget(self, id: str) -> None:
        story = self._stories.pop(id, None)
        if story is not None:
            story.due = inf
            if story.saved:
                self._storage.write_records([self._saved.change(id, None)]).addErrback(self._not_noted)

    def _not_noted(self, failure: Any) -> None:
        failure.trap(BrokerError)
        self.log.warn("presence was not noted: {why}", why=failure.getErrorMessage())

    def _plan(self, story: Story, now: float) -> None:
        """When it has to be looked at first; `_judge` says when next."""
        least = self._rules.least(story.protocol)
        story.trim(now - least.flap_window)
        if story.tracks or len(story.flaps) >= least.flap_count:
            due = now
        elif story.online:
            due = story.flaps[0] + least.flap_window if story.flaps else now
        else:
            due = story.changed_at + least.offline_after
        self._push(story, due)

    def _push(self, story: Story, due: float) -> None:
        story.due = due
        if due < inf:
            self._pushed += 1
            heapq.heappush(self._heap, (due, self._pushed, story))

    # -- judging ---------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Called once a second: judge those whose time has come."""
        now = self._monotonic()
        if now >= self._alive_at + ALIVE_EVERY:
            self._alive_at = now
            self.note_alive().addErrback(self._not_noted)
        if self._judging is None and self._heap and self._heap[0][0] <= now:
            self._judging = Deferred()
            Deferred.fromCoroutine(self._judge_due(now)).addErrback(self._fault).addBoth(self._judged)

    @deferred
    async def settled(self) -> None:
        """Answers when those that were due are judged."""
        if self._judging is not None:
            turn: Deferred[None] = Deferred()
            self._judging.addBoth(turn.callback)
            await turn

    def _judged(self, _: Any) -> None:
        judging, self._judging = self._judging, None
        if judging is not None:
            judging.callback(None)

    def _fault(self, failure: Any) -> None:
        self.log.failure("fault while presence was judged", failure)

    async def _judge_due(self, until: float) -> None:
        while self._heap and self._heap[0][0] <= until:
            together: list[Deferred[None]] = []
            while self._heap and self._heap[0][0] <= until and len(together) < AT_ONCE:
                due, _, story = heapq.heappop(self._heap)
                if story.due == due and self._stories.get(story.id) is story:
                    story.due = inf
                    together.append(Deferred.fromCoroutine(self._judge_or_later(story)))
            await gatherResults(together)

    async def _judge_or_later(self, story: Story) -> None:
        try:
            await self._judge(story)
        except BrokerError as error:
            self.log.warn("the presence of {device} is judged later: {why}", device=story.id, why=error.message)
            self._push(story, self._monotonic() + AGAIN)

    async def _judge(self, story: Story) -> None:
        if story.settled(self._monotonic() - self._rules.least(story.protocol).flap_window):
            del self._stories[story.id]
            return
        facts = await self._facts.of(story.id)
        if facts is None or facts.disabled:
            self._forget(story.id)
            return
        parents = [parent for parent in facts.parents if await self._facts.of(parent) is not None]
        children = [] if story.online else await self._facts.children_of(story.id)
        if story.due < inf or self._stories.get(story.id) is not story:
            return  # it came or went meanwhile, and is looked at again
        now = self._monotonic()
        wanted = self._rules.terms_for(facts)
        story.take_terms(wanted)
        due = inf
        for terms, rules in wanted.items():
            verdict = Verdict(self, story, facts, terms, rules, parents, children, now)
            due = min(due, verdict.reach())
        if story.settled(now - self._rules.least(story.protocol).flap_window):
            del self._stories[story.id]
        else:
            self._push(story, due)

    # -- for verdicts ----------------------------------------------------------------------------------------------

    def away(self, id: str) -> bool:
        """Whether somebody is known to be away now."""
        story = self._stories.get(id)
        return story is not None and not story.online

    def flaps_of(self, id: str, since: float) -> int:
        story = self._stories.get(id)
        return 0 if story is None else story.flaps_since(since)

    def heard_at(self, id: str) -> float:
        """When somebody who is there was last heard (UNIX seconds).

        Of one that is connected to another process it is not known, and its word is not waited for.
        """
        if self.whereabouts.online(id):
            return inf
        live = self._devices.get(id)
        if live is not None:
            return live.last_seen
        gateway = None if self._facts.lora is None else self._facts.lora.gateway(id)
        return inf if gateway is None or gateway["last_seen"] is None else float(gateway["last_seen"])

    def is_offline(self, id: str) -> bool:
        live = self._devices.get(id)
        return (live is None or not live.online) and not self.whereabouts.online(id)

    def tell(self, kind: str, story: Story, rules: tuple[str, ...], details: dict[str, Any]) -> None:
        """Emit, and keep that it was told, in one commit."""
        saved = saved_of(story)
        story.saved = saved is not None
        change = self._saved.change(story.id, saved)
        self._events.emit(kind, story.id, details, story.protocol, changes=[change], rules=rules or None)

    def clock(self) -> float:
        return self._clock()
