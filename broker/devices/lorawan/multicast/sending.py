"""How a message leaves: through few gateways that together reach all members, one after another.

::

    look ──> which members are not reached yet in this turn ──> the first of few gateways that reach all of these
      ▲                  │ none                                        │ slot booked; counter and emission on disk
      │                  ▼                                             ▼
      │        the next turn after multicast_spacing              PULL_RESP ──> TX_ACK
      │        the last turn: the end                                             │
      └───────────────── when the emission has left the air ──────────────────────┘

* Copies of one frame never overlap, and an emission keeps clear of what other gateways near its motes send on that
  channel: a mote between two gateways would receive neither.
* All turns of a message are the same frame with the same counter, so a mote that has it already drops the others.
* That an emission begins is on disk before it does, and with the first one the frame counter. After a crash none is
  repeated: what was begun and not answered counts as made, and its members are reached by the next turn.
* A gateway that refuses is passed over for that turn, and the members near it are left to others.
* What cannot go on says why in ``waiting`` (`records.Waiting`), and ends with its time.
* A member whose gateways are all off-line is waited for during ``multicast_patience`` from the first emission on (or
  from the start of the broker); while nobody at all can be reached, as long as the message lasts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from broker.core import Core
from broker.devices.lorawan import frames
from broker.devices.lorawan.agenda import Agenda
from broker.devices.lorawan.counter import MAX_COUNTER
from broker.devices.lorawan.counters import LorawanCounters
from broker.devices.lorawan.gateway import Gateway
from broker.devices.lorawan.gateways import Gateways
from broker.devices.lorawan.motes import Motes
from broker.devices.lorawan.multicast.coverage import Target, cover
from broker.devices.lorawan.multicast.groups import Group, Groups, Message
from broker.devices.lorawan.multicast.messages import Messages
from broker.devices.lorawan.multicast.records import (
    CANCELLED,
    COUNTERS,
    FAILED,
    PARTLY_SENT,
    SENDING,
    SENT,
    MessageRecord,
    Share,
    Waiting,
    pack_counter,
)
from broker.devices.lorawan.settings import Settings
from broker.devices.lorawan.transmitter import Transmission, Transmitter
from broker.devices.lorawan.windows import MAX_NEIGHBOURS, Plan
from broker.storage.records import Change

#: Seconds between two emissions of one message.
GAP: Final = 0.1
#: Groups that wait and are looked at in one tick.
MAX_LOOKS: Final = 100


class Sender:
    """One emission of a group at a time."""

    log = Logger(namespace="broker.lorawan")

    def __init__(
        self,
        core: Core,
        settings: Settings,
        counted: LorawanCounters,
        agenda: Agenda,
        motes: Motes,
        gateways: Gateways,
        transmitter: Transmitter,
        groups: Groups,
        messages: Messages,
    ) -> None:
        self._core = core
        self._monotonic = core.monotonic
        self._counted = counted
        self._agenda = agenda
        self._motes = motes
        self._gateways = gateways
        self._transmitter = transmitter
        self._groups = groups
        self._messages = messages
        self.settings = settings
        #: Groups whose message waits for something that nobody tells of.
        self._waiting: dict[Group, None] = {}
        messages.wake = self.wake

    def clear(self) -> None:
        """Nobody waits any more."""
        self._waiting.clear()

    def resume(self) -> None:
        """After a restart: what was not over."""
        for group in self._groups:
            if group.messages:
                self.wake(group)

    def wake(self, group: Group) -> None:
        """Look at it, when the air is free of its last emission."""
        if not group.waking and not group.removed:
            group.waking = True
            self._agenda.at(max(self._monotonic(), group.free_at), self._look, group)

    def tick(self) -> None:
        """Look at those that wait, so many at a time."""
        for group in list(self._waiting)[:MAX_LOOKS]:
            del self._waiting[group]
            self.wake(group)

    # -- what is next ----------------------------------------------------------------------------------------------

    def _look(self, group: Group) -> None:
        group.waking = False
        if group.removed or group.flying is not None:
            return
        if group.held:
            self._waiting[group] = None
            return
        if self._monotonic() < group.free_at:
            self.wake(group)
            return
        message = self._messages.next_of(group)
        if message is not None:
            self._go_on(group, message)

    def _go_on(self, group: Group, message: Message) -> None:
        now = self._monotonic()
        if message.looked_at is None:
            message.looked_at = now
        if self._messages.expired(message):
            self._expire(group, message)
            return
        targets = self._targets(group, message)
        duty: list[float] = []
        gateways = cover(targets, lambda one: self._usable(group, message, one, duty), self._load)
        if gateways:
            self._emit(group, message, gateways[0], targets)
        elif duty:
            self._wait(group, message, "duty_cycle")
        elif self._worth_waiting(message, targets, now):
            self._wait(group, message, "no_gateway")
        elif message.turn >= message.record.tries:
            self._finish(group, message)
        else:
            message.turn += 1
            message.waiting = ""
            group.free_at = now + self.settings.multicast_spacing
            self.wake(group)

    def _targets(self, group: Group, message: Message) -> list[Target]:
        """Whom this turn has not reached yet: members, or gateways where the group names them."""
        shares = message.record.shares
        reached = {
            eui for eui, share in shares.items() if share.turn == message.turn and share.refused_in != message.turn
        }
        if group.record.gateways:
            named = (self._gateways.get(eui) for eui in group.record.gateways if eui not in reached)
            return [(gateway,) for gateway in named if gateway is not None]
        found: list[Target] = []
        for dev_eui in group.members:
            mote = self._motes.get(dev_eui)
            if mote is not None and mote.near and reached.isdisjoint(gateway.eui for gateway in mote.near):
                found.append(mote.near)
        return found

    def _usable(self, group: Group, message: Message, gateway: Gateway, duty: list[float]) -> bool:
        if self._tried(message, gateway) or not gateway.online or gateway.address is None:
            return False
        size = frames.OVERHEAD + len(message.record.payload)
        wait = self._transmitter.duty_wait(self._plan(group, size, gateway), size, message.record.priority)
        if wait > 0:
            duty.append(wait)
        return wait <= 0

    def _load(self, gateway: Gateway) -> int:
        return gateway.bookings.lately(gateway.clock.reading(self._monotonic()))

    @staticmethod
    def _tried(message: Message, gateway: Gateway) -> bool:
        share = message.record.shares.get(gateway.eui)
        return share is not None and share.turn == message.turn

    def _worth_waiting(self, message: Message, targets: list[Target], now: float) -> bool:
        if not message.record.shares:
            return True
        assert message.looked_at is not None
        if now >= message.looked_at + self.settings.multicast_patience:
            return False
        return any(not self._tried(message, gateway) for target in targets for gateway in target)

    def _wait(self, group: Group, message: Message, why: Waiting) -> None:
        message.waiting = why
        self._waiting[group] = None

    # -- one emission ----------------------------------------------------------------------------------------------

    def _plan(self, group: Group, size: int, gateway: Gateway, others: Iterable[Gateway] = ()) -> Plan:
        """Slots of one gateway. ``others``: whom the members hear too; it keeps clear of what these send."""
        plan = self._transmitter.continuous((gateway, *others), group.region, size, group.rx(self.settings))
        return plan._replace(slots=[slot for slot in plan.slots if slot.gateway is gateway])

    def _emit(self, group: Group, message: Message, gateway: Gateway, targets: list[Target]) -> None:
        """Book it, or say what is in the way."""
        record = message.record
        fcnt = group.next if record.fcnt is None else record.fcnt
        if fcnt >= MAX_COUNTER:
            self._finish(group, message, "COUNTER_USED_UP")
            return
        session = group.record
        frame = frames.data_down(
            session.mc_nwk_s_key,
            session.mc_app_s_key,
            session.dev_addr,
            fcnt,
            port=record.port,
            payload=record.payload,
        )
        also = Counter(one for target in targets if gateway in target for one in target if one is not gateway)
        plan = self._plan(group, len(frame), gateway, [one for one, _ in also.most_common(MAX_NEIGHBOURS)])
        if plan.too_long:
            self._finish(group, message, "TOO_LONG")
            return
        emission = Transmission(frame, plan.slots, self._answered, (group, message, gateway), record.priority)
        error = self._transmitter.book(emission)
        if error is not None:
            self._wait(group, message, "duty_cycle" if error == "DUTY" else "busy")
            return
        if not record.shares:
            message.looked_at = self._monotonic()
        message.waiting = ""
        self._begin(group, message, emission, fcnt)

    def _begin(self, group: Group, message: Message, emission: Transmission, fcnt: int) -> None:
        """That it begins goes to the disk; then it does."""
        begun = self._begun(message, emission, fcnt)
        changes = [self._groups.messages.change(begun.key, begun)]
        if message.record.fcnt is None:
            changes.append(Change(COUNTERS, group.record.session, pack_counter(fcnt + 1)))
        group.flying = message

        def kept(_: None) -> None:
            group.next = max(group.next, fcnt + 1)
            message.record = begun
            if group.removed or message.cancelled:
                self._transmitter.release(emission)
                self._landed(group, message)
            else:
                self._transmitter.launch(emission)

        def not_kept(failure: Any) -> None:
            self._transmitter.release(emission)
            self.log.warn("lorawan: a group's emission not written: {why}", why=failure.getErrorMessage())
            self._wait(group, message, "storage")
            self._landed(group, message)

        writing: Deferred[None] = self._core.storage.write_records(changes)
        writing.addCallbacks(kept, not_kept)

    def _begun(self, message: Message, emission: Transmission, fcnt: int) -> MessageRecord:
        record, turn = message.record, message.turn
        _, _, gateway = emission.what
        share = record.shares.get(gateway.eui, Share())
        share = msgspec.structs.replace(share, turn=turn, begun=share.begun + 1)
        return msgspec.structs.replace(
            record,
            status=SENDING,
            fcnt=fcnt,
            turn=turn,
            shares={**record.shares, gateway.eui: share},
            air_time=record.air_time + emission.seconds,
            updated_at=self._core.clock(),
        )

    def _answered(self, emission: Transmission, error: str | None) -> None:
        """The gateway has taken the frame, or has not."""
        group, message, gateway = emission.what
        record = message.record
        share = record.shares[gateway.eui]
        if error is None:
            self._counted.multicast_frames += 1
            share = msgspec.structs.replace(share, sent=share.sent + 1, error="")
            group.free_at = emission.ends + GAP
        else:
            share = msgspec.structs.replace(share, refused=share.refused + 1, refused_in=message.turn, error=error)
        message.record = msgspec.structs.replace(
            record,
            shares={**record.shares, gateway.eui: share},
            air_time=record.air_time - (0.0 if error is None else emission.seconds),
            updated_at=self._core.clock(),
        )
        self._landed(group, message)

    def _landed(self, group: Group, message: Message) -> None:
        group.flying = None
        if group.removed:
            self._messages.forget(message)
        elif message.cancelled:
            self._finish(group, message)
        elif group not in self._waiting:
            self.wake(group)

    # -- the end ---------------------------------------------------------------------------------------------------

    def _expire(self, group: Group, message: Message) -> None:
        if message.record.fcnt is None:
            self._messages.expire(group, message)
        else:
            self._finish(group, message, "EXPIRED")

    def _finish(self, group: Group, message: Message, error: str = "") -> None:
        record = message.record
        took = {eui for eui, share in record.shares.items() if share.sent}
        missed = self._missed(group, took) if took else []
        if message.cancelled:
            status = CANCELLED
        elif not took:
            status = FAILED
            error = error or next((share.error for share in record.shares.values() if share.error), "UNKNOWN")
        elif error or missed or not took.issuperset(group.record.gateways):
            status = PARTLY_SENT
        else:
            status = SENT
        self._messages.end(group, message, status, error, missed)

    def _missed(self, group: Group, took: set[str]) -> list[str]:
        """Members near which nobody sent, as far as that is known."""
        found: list[str] = []
        for dev_eui in group.members:
            mote = self._motes.get(dev_eui)
            if mote is None or took.isdisjoint(gateway.eui for gateway in mote.near):
                found.append(dev_eui)
        return found
