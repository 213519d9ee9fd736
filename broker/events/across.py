"""Events of a broker that may be several processes: one has the list, the rules at work, sinks and their queues, and
judges presence for all. What the others notice goes there, and what it tells goes to the others' streams.

::

    emit at B ──> waits in memory ──ask events.note──> A: journal and queues, one commit ──cast events.told──> streams
    presence at B ──> every process (`broker.cluster.presence`) ──> A's watch
    calls of the API for events, rules and sinks at B ──> A (`broker.web.afar`)

When A is gone, whoever is next reads journal, queues, dead letters and what was told of presence from storage, and goes
on. An event that A had taken and not written when it died is lost with it, as with a single process; one whose answer
was lost is known by its id. A sink may hear twice what was on its way when A died, as it may of a single process.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar, Final

import msgspec
from msgspec import structs
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from broker.cluster.duty import Duties, Duty
from broker.cluster.packing import pack_command, unpack_command
from broker.cluster.presence import LOST, Whereabouts
from broker.events.event import Event
from broker.events.events import Waiting
from broker.events.side import EventSide
from broker.model.errors import BrokerError
from broker.model.interfaces import IBackplane, IConsumer
from broker.model.messages import EXPIRED, FAILED, TIMED_OUT, Command, DeviceRef, Presence, Uplink
from broker.routing.live import LiveDevice, LiveDevices
from broker.routing.router import Router
from broker.storage.deferred import deferred

DUTY: Final = "events"
#: Notes of one question.
BATCH: Final = 200
#: Notes that may wait for a process that has the events, besides events themselves.
MAX_NOTES: Final = 10_000
#: Ids of events by which a repetition is known.
REMEMBERED: Final = 10_000

_pack = msgspec.msgpack.Encoder().encode
_notes = msgspec.msgpack.Decoder(list[tuple[str, bytes]]).decode
_event = msgspec.msgpack.Decoder(tuple[Event, list[str] | None, list[str] | None]).decode
_told = msgspec.msgpack.Decoder(Event).decode
_takeover = msgspec.msgpack.Decoder(tuple[str, str]).decode
_gateway = msgspec.msgpack.Decoder(tuple[str, bool]).decode
_asked = msgspec.msgpack.Decoder(list[tuple[str, bool]]).decode
_states = msgspec.msgpack.Decoder(list[tuple[str, int]]).decode


@implementer(IConsumer)
class EventsAcross:
    """``storage`` is an `IStorage`. `open` in place of the side's own, `tick` once a second, `close` at the end."""

    log: ClassVar[Logger] = Logger(namespace="broker.events")

    def __init__(
        self,
        side: EventSide,
        backplane: IBackplane,
        duties: Duties,
        router: Router,
        devices: LiveDevices,
        whereabouts: Whereabouts,
        storage: Any,
    ) -> None:
        self._side = side
        self._backplane = backplane
        self._router = router
        self._devices = devices
        self._whereabouts = whereabouts
        self._storage = storage
        self.duty = duties.add(Duty(backplane, DUTY, self._begin, self._end))
        side.may_send = lambda: self.duty.active or backplane.alone
        self._waiting: deque[tuple[str, bytes]] = deque(maxlen=MAX_NOTES)
        self._sending = False
        self._seen: dict[str, None] = {}

    @deferred
    async def open(self) -> None:
        """Take the events up, unless another process has them. Raises Unavailable."""
        backplane = self._backplane
        if not backplane.alone:
            backplane.answer("events.note", self._noted)
            backplane.answer("events.states", self._states)
            backplane.hear("events.told", self._heard)
            self._side.events.watchers.append(self._tell)
            self._router.listen_quietly(self)
            self._devices.on_takeover.append(self._taken_over)
        await self.duty.look()

    @deferred
    async def close(self) -> None:
        """Write what waits, and send nothing more."""
        self.duty.retire()
        if self.duty.leads:
            await self._side.close()

    async def _begin(self) -> None:
        if not self._backplane.alone:
            await self._storage.mark_dead_offline()  # those who went with the process that had the events before
        self._whereabouts.listeners.append(self._far_presence)
        await self._side.open()
        for change in self._whereabouts.lost():
            self._far_presence(change)

    def _end(self) -> None:
        if self._far_presence in self._whereabouts.listeners:
            self._whereabouts.listeners.remove(self._far_presence)
        self._side.leave()

    def tick(self) -> None:
        if self.duty.leads:
            self._side.tick()
        else:
            self._send_on()

    def watch_lora(self, network: Any) -> None:
        """The gateways of an ILoraNetwork are watched, whichever process has it."""
        self._side.facts.lora = network
        network.watch_gateways(self._lora_gateway)

    @deferred
    async def states_of(self, asked: list[tuple[str, bool]]) -> list[tuple[str, int]]:
        """`Watch.state_of` of each, from the process that knows; as connections have it where that does not answer."""
        if self.duty.leads:
            return [self._side.watch.state_of(*one) for one in asked]
        try:
            return _states(await self.duty.ask("events.states", _pack(asked)))
        except BrokerError:
            return [("online" if online else "offline", 0) for _, online in asked]

    # -- what is noticed here --------------------------------------------------------------------------------------

    def uplink(self, message: Uplink) -> None:
        """Never told."""

    def presence(self, change: Presence) -> None:
        """Told to every process already."""

    def command(self, change: Command) -> None:
        if not self.duty.leads and change.status in (FAILED, TIMED_OUT, EXPIRED) and not change.late:
            self._note("command", pack_command(change))

    def _taken_over(self, live: LiveDevice) -> None:
        if not self.duty.leads:
            self._note("takeover", _pack((live.ref.protocol, live.ref.id)))

    def _lora_gateway(self, eui: str, online: bool) -> None:
        if self.duty.leads:
            self._side.watch.gateway_changed(eui, online)
        else:
            self._note("gateway", _pack((eui, online)))

    def _note(self, kind: str, body: bytes) -> None:
        self._waiting.append((kind, body))
        self._send_on()

    def _send_on(self) -> None:
        if not self._sending and self.duty.leader and (self._waiting or self._side.events.waiting):
            self._sending = True
            sending = Deferred.fromCoroutine(self._send())
            sending.addErrback(self._not_sent).addBoth(self._sent)

    async def _send(self) -> None:
        while not self.duty.leads:
            events = self._side.events.first(BATCH)
            notes = [self._waiting[number] for number in range(min(BATCH, len(self._waiting)))]
            if not events and not notes:
                return
            packed = [("event", _pack((one.event, _list(one.rules), _list(one.sinks)))) for one in events]
            await self.duty.ask("events.note", _pack(packed + notes))
            self._side.events.passed_on(events)
            for note in notes:
                if self._waiting and self._waiting[0] is note:
                    self._waiting.popleft()

    def _not_sent(self, failure: Failure) -> None:
        """It is tried again at the next tick."""
        if not failure.check(BrokerError):
            self.log.failure("fault while events were passed on", failure)

    def _sent(self, _: Any) -> None:
        self._sending = False

    # -- what others notice ----------------------------------------------------------------------------------------

    def _noted(self, node: str, body: bytes) -> bytes:
        self.duty.check()
        take: dict[str, Callable[[bytes], None]] = {
            "event": self._take_event,
            "command": lambda note: self._side.watch.command(unpack_command(note)),
            "takeover": self._take_takeover,
            "gateway": lambda note: self._side.watch.gateway_changed(*_gateway(note)),
        }
        for kind, note in _notes(body):
            if kind in take:  # another kind is of a later version
                take[kind](note)
        return b""

    def _take_event(self, note: bytes) -> None:
        event, rules, sinks = _event(note)
        if event.id in self._seen:
            return
        self._seen[event.id] = None
        if len(self._seen) > REMEMBERED:
            del self._seen[next(iter(self._seen))]
        self._side.events.take(Waiting(event, rules=rules, sinks=sinks))

    def _take_takeover(self, note: bytes) -> None:
        protocol, id = _takeover(note)
        self._side.watch.taken_over(DeviceRef(protocol, id))

    def _far_presence(self, change: Presence) -> None:
        """Of a process that ends, too, a device that does not come to another one is missed."""
        if change.reason == "shutdown":
            change = Presence(change.device, change.online, LOST, change.at)
        self._side.watch.presence(change)

    def _states(self, node: str, body: bytes) -> bytes:
        self.duty.check()
        return _pack([self._side.watch.state_of(*one) for one in _asked(body)])

    # -- what is told ----------------------------------------------------------------------------------------------

    def _tell(self, event: Event) -> None:
        if self.duty.leads:
            self._backplane.cast("events.told", _pack(structs.replace(event)))

    def _heard(self, node: str, body: bytes) -> None:
        if not self.duty.leads:
            self._side.events.told_elsewhere(_told(body))


def _list(some: Any) -> list[str] | None:
    return None if some is None else list(some)
