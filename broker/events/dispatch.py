"""Which sinks an event goes to, and the rate limits on the way.

::

    event ──> rules that want it ──(limit of the rule)──> their sinks ──(limit of the sink)──> the sink's queue
                                        └─ over it: Fold ─────────────────────┘
    Fold ──as soon as the limit allows──> one event events_folded in place of all

Whatever a limit keeps back is in the list of events all the same. How many it were is on disk with each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from broker.events.buckets import RateLimit, TokenBucket
from broker.events.courier import Courier
from broker.events.event import Event
from broker.events.events import Events, Waiting
from broker.events.facts import FactFinder
from broker.events.rules import Rule, RuleBook
from broker.events.settings import EventsTable
from broker.events.sinks import DEAD_LETTERS, QUEUE, DeadLetter, Queued, queue_key
from broker.storage.deferred import deferred
from broker.storage.interface import Change, IStorage
from broker.storage.records import Records

#: Devices that a summary names.
NAMED: Final = 20
FULL: Final = "too many events wait for this sink (events.max_queue)"


class Fold(msgspec.Struct, kw_only=True):
    """What a limit has kept back since the last summary."""

    count: int = 0
    kinds: dict[str, int] = {}
    first_at: float = 0.0
    last_at: float = 0.0
    devices: list[str] = []

    def add(self, event: Event) -> None:
        self.first_at = self.first_at or event.at
        self.last_at = event.at
        self.count += 1
        self.kinds = {**self.kinds, event.kind: self.kinds.get(event.kind, 0) + 1}
        if event.device is not None and event.device not in self.devices and len(self.devices) < NAMED:
            self.devices = [*self.devices, event.device]


class _Decision:
    """Where an event goes: sink -> the rules that said so; and what else is written."""

    __slots__ = ("changes", "dead", "queued")

    def __init__(self) -> None:
        self.queued: dict[str, tuple[str, ...]] = {}
        self.dead: list[str] = []
        self.changes: list[Change] = []


class Dispatch:
    """The `broker.events.events.Router`. ``couriers`` by sink."""

    def __init__(
        self,
        storage: IStorage,
        rules: RuleBook,
        facts: FactFinder,
        couriers: dict[str, Courier],
        settings: EventsTable,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        steady: Callable[[], float],
    ) -> None:
        self._rules = rules
        self._facts = facts
        self._couriers = couriers
        self._settings = settings
        self._clock = clock
        self._monotonic = monotonic
        self._steady = steady
        self._queue = Records(storage, QUEUE, Queued)
        self._dead = Records(storage, DEAD_LETTERS, DeadLetter)
        self._fold_records = Records(storage, "event_folds", Fold)
        #: ``rule/<id>`` or ``sink/<id>`` -> its limit and how much of it is left.
        self._buckets: dict[str, tuple[RateLimit, TokenBucket]] = {}
        self.folds: dict[str, Fold] = {}
        self.folded = 0

    @deferred
    async def open(self) -> None:
        """Raises Unavailable."""
        self.folds = dict(await self._fold_records.all())

    # -- broker.events.events.Router -------------------------------------------------------------------------------

    async def route(self, one: Waiting) -> Sequence[Change]:
        if one.routed is None:
            one.routed = await self._decide(one)
        decision: _Decision = one.routed
        event, now = one.event, self._steady()
        changes = list(decision.changes)
        for sink, rules in decision.queued.items():
            changes.append(self._queue.change(queue_key(sink, event.number), Queued(event=event, at=now, rules=rules)))
        for sink in decision.dead:
            letter = DeadLetter(event=event, at=self._clock(), attempts=0, reason=FULL)
            changes.append(self._dead.change(queue_key(sink, event.number), letter))
        return changes

    def kept(self, batch: Sequence[Waiting]) -> None:
        added: dict[str, int] = {}
        for one in batch:
            decision: _Decision = one.routed
            for sink in decision.queued:
                added[sink] = added.get(sink, 0) + 1
            for sink in decision.dead:
                courier = self._couriers.get(sink)
                if courier is not None:
                    courier.dead += 1
                    courier.died += 1
        for sink, count in added.items():
            courier = self._couriers.get(sink)
            if courier is not None:
                courier.added(count)

    async def _decide(self, one: Waiting) -> _Decision:
        event = one.event
        decision = _Decision()
        if one.sinks is not None:
            for sink in one.sinks:
                self._to_sink(sink, event, (), decision)
            return decision
        facts = None
        if event.device is not None and (len(self._rules) or event.protocol is None):
            facts = await self._facts.of(event.device)
            if facts is not None and event.protocol is None:
                event.protocol = facts.protocol
        if event.device is not None and facts is None:
            # Nobody knows it (any more): only rules about everything are about it, too.
            rules = self._rules.wanting(event.kind, None, one.rules)
        else:
            rules = self._rules.wanting(event.kind, facts, one.rules)
        targets: dict[str, tuple[str, ...]] = {}
        for rule in rules:
            if not rule.sinks:
                continue
            if not self._within(f"rule/{rule.id}", rule.rate_limit):
                self._fold(f"rule/{rule.id}", event, decision)
                continue
            for sink in rule.sinks:
                targets[sink] = (*targets.get(sink, ()), rule.id)
        for sink, because in targets.items():
            self._to_sink(sink, event, because, decision)
        return decision

    def _to_sink(self, id: str, event: Event, rules: tuple[str, ...], decision: _Decision) -> None:
        courier = self._couriers.get(id)
        if courier is None:
            return
        if not self._within(f"sink/{id}", courier.sink.rate_limit):
            self._fold(f"sink/{id}", event, decision)
        elif courier.queued >= self._settings.max_queue:
            decision.dead.append(id)
        else:
            decision.queued[id] = rules

    # -- limits ----------------------------------------------------------------------------------------------------

    def _bucket(self, owner: str, limit: RateLimit | None) -> TokenBucket | None:
        if limit is None:
            self._buckets.pop(owner, None)
            return None
        known = self._buckets.get(owner)
        if known is None or known[0] != limit:
            known = self._buckets[owner] = (limit, TokenBucket(limit, self._monotonic()))
        return known[1]

    def _within(self, owner: str, limit: RateLimit | None) -> bool:
        bucket = self._bucket(owner, limit)
        return bucket is None or bucket.take(self._monotonic())

    def _fold(self, owner: str, event: Event, decision: _Decision) -> None:
        fold = self.folds.setdefault(owner, Fold())
        fold.add(event)
        self.folded += 1
        decision.changes.append(self._fold_records.change(owner, fold))

    def tell_folded(self, events: Events) -> None:
        """Called once a second: emit a summary of what was kept back, where the limit allows one more by now."""
        for owner in list(self.folds):
            kind, _, id = owner.partition("/")
            sinks: tuple[str, ...] = ()
            if kind == "rule":
                rule: Rule | None = self._rules.find(id)
                if rule is not None:
                    if not self._within(owner, rule.rate_limit):
                        continue
                    sinks = rule.sinks
            else:
                courier = self._couriers.get(id)
                if courier is not None:
                    bucket = self._bucket(owner, courier.sink.rate_limit)
                    if bucket is not None and not bucket.has(self._monotonic()):
                        continue
                    sinks = (id,)
            fold = self.folds.pop(owner)
            gone = self._fold_records.change(owner, None)
            details = {kind: id, **msgspec.to_builtins(fold)}
            events.emit("events_folded", None, details, changes=[gone], sinks=sinks)
