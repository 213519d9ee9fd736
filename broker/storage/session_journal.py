"""The journal of MQTT sessions and retained messages (`broker.mqtt.journal` is the contract), as part of any storage.

::

    append ... append ──turn's end──> merge (`session_batch`) ──> one job of the storage
    append ... append   (the next batch gathers while that one is written)      │
    watchers <── (upto, None | error) ── next batch ───────────────────────── answer

One batch is under way at a time. What gathers meanwhile is the next one: the slower the disk, the more is written with
one commit, and the more messages are settled before they would have been written, which then costs nothing at all.
A batch that nothing is left of is committed without the disk. Batches end where turns of the reactor end, so the ops of
one turn are on disk together or not at all: a QoS 2 message and the packet id that it came under.

Callers bound what may wait (``position - committed``) by not acknowledging; this adds no limit of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from broker.model.errors import Unavailable
from broker.model.sessions import NEW_WORK, SEEN, Op
from broker.routing.turns import at_turn_end
from broker.storage.session_batch import Batch, Slots, merge

#: Ops after which a batch ends with the turn: more would make those that came first wait for those that came last.
MAX_OPS: Final = 20_000


class BatchJournal:
    """All but loading and writing, which derived classes add. ``reactor`` gives callLater."""

    log: ClassVar[Logger] = Logger()
    #: Whether what is tried again goes by itself: a storage that is full may have a way for what gives back room.
    gives_back_alone = False

    def __init__(self, reactor: Any, slots: Slots) -> None:
        self.committed = 0
        #: Batches written; messages that were settled before they were written.
        self.batches = 0
        self.spared = 0
        self._reactor = reactor
        self._at_turn_end = at_turn_end(reactor)
        self._slots = slots
        #: What gathers, the full batches before that (with the position of their last op), and how many ops went before
        #: what gathers.
        self._ops: list[Op] = []
        self._full: deque[tuple[list[Op], int]] = deque()
        self._before = 0
        self._again: list[Op] = []
        #: Whether ``_again`` is the next batch.
        self._alone = False
        self._busy = False
        self._last_try = False
        self._given_up = False
        #: While watchers are told of a failure: the ops that are certainly not on disk.
        self.failed: Sequence[Op] = ()
        self._watchers: list[Any] = []
        self._settling: list[Deferred[None]] = []

    # -- ops -------------------------------------------------------------------------------------------------------

    @property
    def position(self) -> int:
        """The position of the op that was appended last."""
        return self._before + len(self._ops)

    def append(self, op: Op) -> None:
        """Have it written with this turn's batch."""
        ops = self._ops
        ops.append(op)
        if not self._busy:
            self._busy = True
            self._at_turn_end(self._submit)
        elif len(ops) == MAX_OPS:
            self._at_turn_end(self._cut)

    def watch(self, watcher: Any) -> None:
        """Have ``watcher(upto, error)`` called once a batch."""
        self._watchers.append(watcher)

    def settle(self) -> Deferred[None]:
        """Fires when nothing waits any more; what failed before has then been tried once more."""
        settled: Deferred[None] = Deferred()
        self._settling.append(settled)
        if not self._busy:
            self._busy = self._last_try = True
            self._submit()
        return settled

    def abandon(self) -> None:
        """What is not handed over yet never will be written: whoever waits is told that it failed."""
        self._again = []
        self._full.clear()
        self._before += len(self._ops)
        self._ops = []
        self._given_up = True
        if not self._busy:
            self._busy = True
            self._reactor.callLater(0, self._submit)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _cut(self) -> None:
        """The turn is over in which the batch became full."""
        ops = self._ops
        if len(ops) >= MAX_OPS:
            self._before += len(ops)
            self._full.append((ops, self._before))
            self._ops = []

    def _next(self) -> tuple[list[Op], int]:
        if self._full:
            return self._full.popleft()
        ops, self._ops = self._ops, []
        self._before += len(ops)
        return ops, self._before

    def _submit(self) -> None:
        """Hand the next batch to the lane. ``_busy`` is set."""
        if self._given_up:
            self._given_up = False
            self._told(self._before, Unavailable("another process has taken over what this one had"))
            return
        alone, self._alone = self._alone and bool(self._again), False
        ops, upto = ([], self.committed) if alone else self._next()
        whole = self._again + ops if self._again else ops
        try:
            batch = merge(whole, self._slots)
        except Exception as error:
            # A fault of the caller's: nothing of this batch is written, and those who wait are told.
            self.log.failure("an op of the session journal could not be taken")
            self._again = []
            self._slots.undo()
            self._told(upto, error)
            return
        self.spared += batch.spared
        if batch.empty:
            self._written(upto, whole, None)
        else:
            self.batches += 1
            self.write(batch, partial(self._written, upto, whole))

    def write(self, batch: Batch, done: Callable[[Exception | None], None]) -> None:
        """Have it on disk, or nothing of it."""
        raise NotImplementedError

    def _written(self, upto: int, ops: list[Op], error: Exception | None) -> None:
        if error is None:
            self._again = []
            self._slots.keep()
        else:
            self.failed = ops if self._is_certain(error) else ()
            self._again = [] if self._given_up else _left(ops)
            self._alone = self.gives_back_alone and upto > self.committed
            self._slots.undo()
        self._told(upto, error)
        self.failed = ()

    def _is_certain(self, error: Exception) -> bool:
        """Whether nothing of a batch that failed so is on disk, nor will be."""
        return True

    def _told(self, upto: int, error: Exception | None) -> None:
        """Tell the watchers and go on."""
        if upto > self.committed:
            self.committed = upto
            for watcher in self._watchers:
                try:
                    watcher(upto, error)
                except Exception:
                    self.log.failure("a commit could not be told")
        more = bool(self._ops or self._full or self._alone or self._given_up)
        if more or (self._settling and self._again and not self._last_try):
            self._last_try = not more
            if error is None:
                self._at_turn_end(self._submit)
            else:  # a turn of others first: what fails at once shall not be all that is done
                self._reactor.callLater(0, self._submit)
            return
        self._busy = self._last_try = False
        settling, self._settling = self._settling, []
        for settled in settling:
            settled.callback(None)


def _left(ops: list[Op]) -> list[Op]:
    """What of a batch that failed is tried again, without repetitions: this may go on for as long as a disk is full."""
    left: dict[Op, Op] = {}
    for op in ops:
        if op[0] not in NEW_WORK:
            left[op[:2] if op[0] == SEEN else op] = op
    return list(left.values())
