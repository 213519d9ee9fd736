"""Writes what devices say and how they are: history, last values, presence. In batches, off the path of a message.

::

    uplink ────> buffer (bounded; the oldest go) ──┐ once a second, in pieces,      ┌─> storage.add_messages
    presence ──> marked devices ───────────────────┴─ one piece under way at a time ┴─> storage.save_live

A message costs one append. Its device is marked when the buffer is written, if the message changed its values. Devices
of which only ``last_seen`` moved (heartbeats, bytes) are found by a slow sweep over all that are live. A piece that
storage refused is kept and tried again. A crash may lose the last second of history and values, and no more (DESIGN
§10). A live device that is offline and written is forgotten. Once a minute, history that is too old or too much is
pruned, and so are commands that ended long ago.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from itertools import islice
from typing import Any, ClassVar, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

from broker.model.errors import BrokerError
from broker.model.interfaces import IConsumer
from broker.model.messages import Command, DeviceRef, Presence, Uplink
from broker.model.records import LiveState, StoredMessage
from broker.model.weight import weight
from broker.routing.live import LiveDevice, LiveDevices
from broker.routing.router import Router
from broker.storage.deferred import deferred
from broker.storage.interface import IStorage

#: Messages that may wait for the disk: some seconds of a busy broker. Past it the oldest are dropped and counted.
MAX_BUFFER = 100_000
#: And so many bytes of them (`broker.model.weight`): a hundred thousand of the longest would be gigabytes.
MAX_BUFFER_BYTES = 33_554_432
#: Messages, and devices, in one piece: what is made of them at once in the reactor stays within some milliseconds.
PIECE_MESSAGES = 2_000
PIECE_BYTES = 4_194_304
PIECE_DEVICES = 500
#: Seconds.
FLUSH_EVERY = 1.0
PRUNE_EVERY = 60.0
#: A sweep for heartbeats is spread over this many flushes.
SWEEP_FLUSHES = 30


class HistorySettings(Protocol):
    """The table ``[history]``."""

    @property
    def enabled(self) -> bool:
        """Whether uplinks are kept."""

    @property
    def max_age(self) -> float:
        """Seconds; also for commands that ended."""

    @property
    def per_device(self) -> int:
        """The newest messages of each device."""


@implementer(IConsumer)
class Recorder:
    """``reactor`` gives the timers' clock; ``clock`` UNIX seconds. `start` begins to listen, `stop` writes the rest."""

    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        storage: IStorage,
        router: Router,
        devices: LiveDevices,
        reactor: Any,
        clock: Callable[[], float],
        history: HistorySettings,
        max_buffer: int = MAX_BUFFER,
        max_buffer_bytes: int = MAX_BUFFER_BYTES,
    ) -> None:
        self._storage = storage
        self._router = router
        self._devices = devices
        self._clock = clock
        self._keeps_history = history.enabled
        self._max_age = history.max_age
        self._per_device = history.per_device
        self._buffer: deque[Uplink] = deque()
        #: The weight of each, and of all.
        self._weights: deque[int] = deque()
        self._buffer_bytes = 0
        self._max_buffer = max_buffer
        self._max_buffer_bytes = max_buffer_bytes
        #: The messages that are being written, or were refused and are tried again.
        self._piece: list[StoredMessage] = []
        #: Ids of devices that changed; `_flush` moves them to ``_todo`` and empties that.
        self._marked: set[str] = set()
        #: Devices that said something since the last flush.
        self._said: set[str] = set()
        self._todo: set[str] = set()
        #: What is left of the present sweep; it marks devices seen since ``_swept_from``.
        self._sweep: Iterator[LiveDevice] = iter(())
        self._sweep_piece = 0
        self._swept_from = self._sweep_began = 0.0
        self._flushes = 0
        self._refused = False
        self.written = 0
        self.failed_writes = 0
        self.pruned = 0
        #: Messages that history lost because storage did not keep up.
        self.dropped = 0
        self._flushing = LoopingCall(self._guarded, self._flush)
        self._pruning = LoopingCall(self._guarded, self._prune)
        self._flushing.clock = self._pruning.clock = reactor
        self._ended: Deferred[Any] | None = None

    def start(self) -> None:
        """Begin to listen and to write."""
        self._swept_from = self._sweep_began = self._clock()
        self._router.listen(self)
        self._ended = self._flushing.start(FLUSH_EVERY, now=False)
        self._pruning.start(PRUNE_EVERY, now=False)

    @deferred
    async def stop(self) -> None:
        """Listen no more and write what waits. What storage does not take now is lost, and said to be."""
        self._router.ignore(self)
        ended, self._ended = self._ended, None
        if ended is None:
            return
        self._pruning.stop()
        self._flushing.stop()
        await ended  # a piece that is under way is waited for
        self._marked.update(live.ref.id for live in self._devices)
        await self._flush()
        lost = len(self._buffer) + len(self._piece)
        if lost or self._todo:
            self.log.warn(
                "stopped with {messages} messages of history and the last state of {devices} devices not written",
                messages=lost,
                devices=len(self._todo),
            )

    @deferred
    async def write_now(self, live: LiveDevice) -> None:
        """Write what is known of a device that goes to another process. Raises Unavailable."""
        states = [_state_of(live)]
        try:
            await self._storage.save_live(states)
        except BrokerError:
            self._give_back([live], states)
            raise

    # -- what crosses the broker -----------------------------------------------------------------------------------

    def wants(self, device: DeviceRef, kind: str) -> bool:
        """See `IConsumer`. What the device's last values are, the sweep finds out."""
        return self._keeps_history

    def uplink(self, message: Uplink) -> None:
        if not self._keeps_history:
            self._said.add(message.device.id)
            return
        size = weight(message.payload)
        self._buffer.append(message)
        self._weights.append(size)
        self._buffer_bytes += size
        while self._buffer_bytes > self._max_buffer_bytes or len(self._buffer) > self._max_buffer:
            self.dropped += 1
            self._said.add(self._buffer[0].device.id)
            self._forget_oldest()

    def _forget_oldest(self) -> Uplink:
        self._buffer_bytes -= self._weights.popleft()
        return self._buffer.popleft()

    def presence(self, change: Presence) -> None:
        self._marked.add(change.device.id)

    def command(self, change: Command) -> None:
        """Commands have their own journal."""

    def counters(self) -> dict[str, float]:
        """For the metrics."""
        return {
            "history_waiting": len(self._buffer) + len(self._piece),
            "history_waiting_bytes": self._buffer_bytes,
            "history_written_total": self.written,
            "history_dropped_total": self.dropped,
            "history_pruned_total": self.pruned,
            "failed_writes_total": self.failed_writes,
        }

    # -- writing ---------------------------------------------------------------------------------------------------

    async def _guarded(self, call: Callable[[], Coroutine[Deferred[Any], Any, None]]) -> None:
        """A fault must not end the loop."""
        try:
            await call()
        except Exception:
            self.log.failure("fault in the recorder")

    async def _flush(self) -> None:
        """Write what waited when this began, piece by piece. Never two at once: the loop waits for the end."""
        self._go_on_sweeping()
        self._todo |= self._marked
        self._marked.clear()
        waiting = len(self._buffer)
        while self._piece or (waiting > 0 and self._buffer):  # some may be dropped meanwhile
            if not self._piece:
                waiting -= self._take_messages(min(waiting, PIECE_MESSAGES))
            if not await self._wrote(self._storage.add_messages(self._piece)):
                return
            self.written += len(self._piece)
            self._piece = []
        self._mark_changed()
        while self._todo:
            lives = self._take_devices()
            states = [_state_of(live) for live in lives]
            if not await self._wrote(self._storage.save_live(states)):
                self._give_back(lives, states)
                return
            self._forget(lives)

    def _mark_changed(self) -> None:
        """Of those that said something, the ones of which that changed more than when they were last seen."""
        said, self._said = self._said, set()
        for device_id in said:
            live = self._devices.get(device_id)
            if live is not None and (live.values.changed or live.info_changed):
                self._todo.add(device_id)

    async def _wrote(self, writing: Deferred[None]) -> bool:
        try:
            await writing
        except BrokerError as error:
            self.failed_writes += 1
            if not self._refused:  # said once, not every second
                self.log.warn("history and last values wait: {why}", why=error.message)
            self._refused = True
            return False
        if self._refused:
            self.log.info("history and last values are written again")
        self._refused = False
        return True

    def _take_messages(self, count: int) -> int:
        """Move no more than ``count`` into the piece, and no more than it may weigh; how many it were."""
        until = self._buffer_bytes - PIECE_BYTES
        taken = 0
        while self._buffer and taken < count and self._buffer_bytes > until:
            message = self._forget_oldest()
            taken += 1
            ref = message.device
            self._said.add(ref.id)
            self._piece.append(
                StoredMessage(
                    device=ref.id,
                    protocol=ref.protocol,
                    kind=message.kind,
                    at=message.received_at,
                    payload=message.payload,
                    meta=message.full_meta(),
                )
            )
        return taken

    def _take_devices(self) -> list[LiveDevice]:
        lives: list[LiveDevice] = []
        while self._todo and len(lives) < PIECE_DEVICES:
            live = self._devices.get(self._todo.pop())
            if live is not None:
                lives.append(live)
        return lives

    def _give_back(self, lives: list[LiveDevice], states: list[LiveState]) -> None:
        """They were not written: as if they had not been taken."""
        for live, state in zip(lives, states, strict=True):
            changed = live.values.changed
            for keys in (state.values, state.unmapped, state.removed_values):
                changed.update(keys)
            live.info_changed = live.info_changed or state.info is not None
            self._todo.add(live.ref.id)

    def _forget(self, lives: list[LiveDevice]) -> None:
        """Those that are away and have nothing new since they were taken."""
        for live in lives:
            changed = live.values.changed or live.info_changed or live.ref.id in self._marked
            if not live.online and not changed:
                self._devices.forget(live)

    def _go_on_sweeping(self) -> None:
        """Look at some more live devices, so that all are looked at within `SWEEP_FLUSHES`."""
        if self._flushes % SWEEP_FLUSHES == 0:
            self._swept_from, self._sweep_began = self._sweep_began, self._clock()
            self._sweep = iter(self._devices)
            self._sweep_piece = len(self._devices) // SWEEP_FLUSHES + 1
        self._flushes += 1
        for live in islice(self._sweep, self._sweep_piece):
            if live.last_seen >= self._swept_from or live.values.changed or live.info_changed:
                self._marked.add(live.ref.id)

    async def _prune(self) -> None:
        """In small steps, each of which waits its turn. See `IStorage.prune`."""
        try:
            self.pruned += await self._storage.prune(self._clock() - self._max_age, self._per_device)
        except BrokerError as error:
            if self._ended is not None:
                self.log.warn("history could not be pruned: {why}", why=error.message)


def _state_of(live: LiveDevice) -> LiveState:
    """What is to be written of a device; from here on it counts as written."""
    known = live.values
    changed, known.changed = known.changed, set()
    values = {key: known.values[key] for key in changed if key in known.values}
    unmapped = {key: known.unmapped[key] for key in changed if key in known.unmapped}
    gone = tuple(key for key in changed if key not in values and key not in unmapped)
    info = dict(live.info) if live.info_changed else None
    live.info_changed = False
    return LiveState(
        device=live.ref.id,
        online=live.online,
        reason=live.presence_reason,
        presence_at=live.since,
        last_seen=live.last_seen,
        values=values,
        unmapped=unmapped,
        info=info,
        removed_values=gone,
        removed_unmapped=gone,
    )
