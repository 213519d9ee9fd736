"""Everything about events, built and tied together: `broker.core.Core.event_side`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Final

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.logger import Logger

from broker.cluster.presence import Whereabouts
from broker.events.book import Book
from broker.events.buckets import RateLimit, TokenBucket
from broker.events.courier import Courier
from broker.events.dispatch import Dispatch
from broker.events.event import Event
from broker.events.events import Events, Waiting
from broker.events.facts import FactFinder
from broker.events.mail import Mails
from broker.events.presence import Watch
from broker.events.rules import RuleBook
from broker.events.settings import EventsTable, MailTable
from broker.events.sinks import EMAIL, Outcome, Sink, not_now
from broker.events.webhook import Webhooks
from broker.model.errors import BrokerError, Unavailable
from broker.routing.live import LiveDevice, LiveDevices
from broker.routing.router import Router
from broker.storage.deferred import deferred
from broker.storage.interface import IStorage
from broker.storage.quarantine import Entry, Quarantine
from broker.storage.registry import Registry

#: Seconds between two looks at what is too old.
PRUNE_EVERY: Final = 60.0
#: How often sinks are told of storage past their queues.
STRAIGHT: Final = RateLimit(events=1, seconds=600.0)


class EventSide:
    """``events`` is ``Core.events``. `open` after storage, before the listeners are built; `close` before storage.

    Raises OSError or ValueError for a file of authorities that cannot be used.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        events: Events,
        storage: IStorage,
        router: Router,
        devices: LiveDevices,
        registry: Registry,
        quarantine: Quarantine,
        settings: EventsTable,
        mail: MailTable,
        reactor: Any,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        whereabouts: Whereabouts | None = None,
    ) -> None:
        self.events = events
        self.settings = settings
        self.mail = mail
        self._storage = storage
        self._router = router
        self._registry = registry
        self._devices = devices
        self._reactor = reactor
        self._clock = clock
        self._monotonic = monotonic
        self._started_at = clock() - monotonic()
        self._webhooks = Webhooks(settings, reactor, clock)
        self._mails = Mails(mail, settings, reactor, clock)
        self.facts = FactFinder(storage)
        self.rules = RuleBook(storage, settings)
        self.sinks = Book(storage, "event_sinks", Sink, "sink", settings.max_sinks, "events.max_sinks")
        self.couriers: dict[str, Courier] = {}
        self.dispatch = Dispatch(
            storage, self.rules, self.facts, self.couriers, settings, clock, monotonic, self._steady
        )
        self.watch = Watch(storage, devices, events, self.rules, self.facts, settings, clock, monotonic)
        if whereabouts is not None:
            self.watch.whereabouts = whereabouts
        self._strangers = TokenBucket(RateLimit(events=settings.max_strangers, seconds=60.0), monotonic())
        self._more_strangers: dict[str, int] = {}
        self._straight = TokenBucket(STRAIGHT, monotonic())
        self._prune_at = monotonic() + PRUNE_EVERY
        self._certificate_told_at: float | None = None
        self._listening = False
        #: Whether what is in the queues is surely ours.
        self.may_send: Callable[[], bool] = lambda: True
        quarantine.on_new.append(self._stranger)

    @deferred
    async def open(self) -> None:
        """Read what is on disk and go on with it. Raises Unavailable."""
        for part in (self.rules, self.sinks, self.dispatch):
            await part.open()
        self._listening = True
        self._registry.on_change += [self.facts.changed, self.watch.registry_changed]
        self.events.router = self.dispatch
        await self.events.open(self._storage)
        await self.watch.open()
        self._router.listen_quietly(self.watch)
        self._devices.on_takeover.append(self._taken_over)
        for sink in self.sinks:
            await self._courier(sink).open()
        self.sinks.on_change.append(self._sink_changed)

    def _taken_over(self, live: LiveDevice) -> None:
        self.watch.taken_over(live.ref)

    def leave(self) -> None:
        """Another process has the events now: nothing more is written or sent. `open` takes them up again."""
        self.events.shut()
        self._router.ignore_quietly(self.watch)
        if self._listening:
            self._listening = False
            self._registry.on_change.remove(self.facts.changed)
            self._registry.on_change.remove(self.watch.registry_changed)
        if self._taken_over in self._devices.on_takeover:
            self._devices.on_takeover.remove(self._taken_over)
        if self._sink_changed in self.sinks.on_change:
            self.sinks.on_change.remove(self._sink_changed)
        self.facts.forget()
        self.watch.forget()
        for courier in self.couriers.values():
            courier.abandon()
        self.couriers.clear()

    @deferred
    async def close(self) -> None:
        """Write what waits, and send nothing more."""
        self._router.ignore_quietly(self.watch)
        await self.watch.settled()
        await self.events.close()
        await gatherResults([courier.stop() for courier in self.couriers.values()])
        await self._webhooks.close()
        try:
            await self.watch.note_alive()
        except BrokerError as error:
            self.log.warn("the time of the stop was not noted: {why}", why=error.message)

    def _steady(self) -> float:
        """UNIX seconds, as the clock had it at the start: it does not jump."""
        return self._started_at + self._monotonic()

    def tick(self) -> None:
        """Called once a second."""
        now = self._monotonic()
        self.watch.tick()
        self._tell_more_strangers(now)
        self.dispatch.tell_folded(self.events)
        self.events.tick()
        if now >= self._prune_at:
            self._prune_at = now + PRUNE_EVERY
            self._prune().addErrback(self._not_pruned)

    @deferred
    async def _prune(self) -> None:
        if self.events.journal is not None:
            await self.events.journal.prune(self._clock() - self.settings.max_age, self.settings.max_events)
        for courier in list(self.couriers.values()):
            await courier.trim_dead()

    def _not_pruned(self, failure: Any) -> None:
        failure.trap(BrokerError)
        self.log.warn("events could not be pruned: {why}", why=failure.getErrorMessage())

    # -- sinks -----------------------------------------------------------------------------------------------------

    async def deliver(self, sink: Sink, events: Any) -> Outcome:
        """One attempt, of whatever kind the sink is."""
        return await (self._mails if sink.kind == EMAIL else self._webhooks).deliver(sink, events)

    async def _deliver_queued(self, sink: Sink, events: Any) -> Outcome:
        """The same of what is in a queue: not while another process may have taken that over."""
        if not self.may_send():
            return not_now("this broker process does not know whether the queue is still its own")
        return await self.deliver(sink, events)

    async def try_out(self, sink: Sink) -> Outcome:
        """Deliver a test event now, past the queue."""
        event = self.events.made("sink_test", None, {"sink": sink.id, "name": sink.name})
        return await self.deliver(sink, [event])

    def courier_of(self, id: str) -> Courier:
        """Raises NotFound."""
        self.sinks.get(id)
        return self.couriers[id]

    def _courier(self, sink: Sink) -> Courier:
        courier = self.couriers[sink.id] = Courier(
            sink, self._storage, self._deliver_queued, self.settings, self._reactor, self._clock, self._steady
        )
        return courier

    def _sink_changed(self, id: str) -> None:
        sink = self.sinks.find(id)
        courier = self.couriers.get(id)
        if sink is None:
            if courier is not None:
                del self.couriers[id]
                courier.forget().addErrback(self._not_forgotten)
        elif courier is None:
            self._courier(sink)
        else:
            courier.sink = sink
            courier.hurry()
            courier.wake()

    def _not_forgotten(self, failure: Any) -> None:
        failure.trap(BrokerError)
        self.log.warn("what waited for a removed sink is still there: {why}", why=failure.getErrorMessage())

    # -- what others notice ----------------------------------------------------------------------------------------

    def _stranger(self, entry: Entry) -> None:
        """Somebody is in quarantine who was not there before."""
        if self._strangers.take(self._monotonic()):
            details = {"peer": entry.peer, "info": entry.info}
            self.events.emit("quarantine_new", entry.id, details, entry.protocol)
        else:
            self._more_strangers[entry.protocol] = self._more_strangers.get(entry.protocol, 0) + 1

    def _tell_more_strangers(self, now: float) -> None:
        if self._more_strangers and self._strangers.take(now):
            more, self._more_strangers = self._more_strangers, {}
            self.events.emit("quarantine_new", None, {"more": sum(more.values()), "protocols": more})

    def certificate_ends(self, ends: float, sentence: str) -> None:
        """It has to be renewed; told once for each certificate and day."""
        now = self._monotonic()
        if self._certificate_told_at is None or now - self._certificate_told_at >= 86_000.0:
            self._certificate_told_at = now
            self.events.emit("certificate_ends", None, {"ends_at": ends, "warning": sentence})

    def storage_health(self, before: str, problem: str) -> None:
        """Storage was looked at."""
        if problem and not before:
            event = self.events.made("storage_problem", None, {"problem": problem})
            if self._straight.take(self._monotonic()):
                Deferred.fromCoroutine(self._tell_straight(event)).addErrback(self._not_told)
            else:
                self.events.take(Waiting(event))
        elif before and not problem:
            self.events.emit("storage_recovered", None, {"problem": before})

    async def _tell_straight(self, event: Event) -> None:
        """To the sinks at once, as nothing can be written; then on the usual way to those that did not take it."""
        rules = self.rules.wanting(event.kind, None)
        sinks = [sink for sink in self.sinks if sink.enabled and any(sink.id in rule.sinks for rule in rules)]
        asked = [Deferred.fromCoroutine(self.deliver(sink, [event])) for sink in sinks]
        left = []
        for sink, answer in zip(sinks, asked, strict=True):
            try:
                outcome: Outcome | None = await answer
            except CancelledError:  # the broker stops
                outcome = None
            if outcome is None or not outcome.delivered:
                left.append(sink.id)
        self.events.take(Waiting(event, sinks=left))

    def _not_told(self, failure: Any) -> None:
        self.log.failure("fault while telling of storage", failure)

    # -- figures ---------------------------------------------------------------------------------------------------

    def counters(self) -> dict[str, float]:
        """For the metrics."""
        return {
            **self.events.counters(),
            "events_folded_total": self.dispatch.folded,
            "presence_stories": self.watch.open_stories,
        }

    def sink_figures(self) -> Iterator[tuple[str, dict[str, float]]]:
        """Of each sink, for the metrics."""
        for id, courier in list(self.couriers.items()):
            yield (
                id,
                {
                    "sink_queued": courier.queued,
                    "sink_dead_letters": courier.dead,
                    "sink_failing": float(courier.trouble is not None),
                    "sink_delivered_total": courier.delivered,
                    "sink_retries_total": courier.retried,
                    "sink_given_up_total": courier.died,
                },
            )


def opened(side: EventSide | None) -> EventSide:
    """For calls. Raises Unavailable where there are no events."""
    if side is None:
        raise Unavailable("events are not kept here")
    return side
