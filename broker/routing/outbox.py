"""What waits to be written to one peer, and the turn that writes it.

The rule (DESIGN §4): within one reactor turn everything for a peer is collected here and leaves in one joined write.
`Turn` keeps the outboxes that have something; whoever owns the event loop calls `Turn.flush` once at the end of the
turn. Nothing here touches a socket: the owner gives a ``write`` callable, and says with `Outbox.block` and
`Outbox.unblock` when the socket is full.

Two ways in: `put` for what must not be lost (answers, acknowledged messages; the owner bounds these by windows and by
pausing the source) and `offer` for best effort, which refuses once more than ``limit`` bytes wait.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Counts(Protocol):
    """Where the bytes that are written are counted."""

    bytes_out: int


class Turn:
    """The outboxes that are to be flushed at the end of this turn.

    ``schedule`` is called with `flush` when the first outbox of a turn gets something.
    """

    __slots__ = ("_schedule", "begun", "dirty", "number")

    def __init__(self, schedule: Callable[[Callable[[], None]], object]) -> None:
        self._schedule = schedule
        self.dirty: list[Outbox] = []
        #: Counts the turns in which something was written, and whether the present one is one of them.
        self.number = 0
        self.begun = False

    def begin(self) -> None:
        """Something is written in this turn: have `flush` called at its end."""
        self.begun = True
        self._schedule(self.flush)

    def mark(self, outbox: Outbox) -> None:
        if not self.begun:
            self.begin()
        self.dirty.append(outbox)

    def flush(self) -> None:
        """Write everything that was collected. What is collected while doing so goes into the next turn.

        If a write raises, so does this; the outboxes after it are written in the next turn.
        """
        self.begun = False
        self.number += 1
        dirty, self.dirty = self.dirty, []
        waiting = iter(dirty)
        try:
            for outbox in waiting:
                outbox.flush()
        finally:
            for outbox in waiting:
                self.mark(outbox)


class Outbox:
    """Bytes for one peer. ``limit`` bytes may wait before best-effort messages are refused.

    ``write`` may be set to the socket's own once there is one: a call in between would cost every message.
    """

    __slots__ = (
        "_cleared",
        "_counts",
        "_ready",
        "_turn",
        "_turn_of_last",
        "blocked",
        "chunks",
        "dropped",
        "limit",
        "size",
        "write",
    )

    def __init__(self, turn: Turn, write: Callable[[bytes], object], limit: int, counts: Counts) -> None:
        self._turn = turn
        self.write = write
        self._counts = counts
        self.blocked = False
        #: Nothing waits and the socket has room: what comes next has to be written at the end of the turn.
        self._ready = True
        #: The turn in which a piece was last written at once.
        self._turn_of_last = -1
        self._cleared = False
        self.limit = limit
        self.chunks: list[bytes] = []
        self.size = 0
        self.dropped = 0

    def put(self, data: bytes) -> None:
        """Add what has to go out."""
        if self._ready:
            self._ready = False
            turn = self._turn
            if turn.begun:
                turn.dirty.append(self)
            else:
                turn.mark(self)
        elif self._cleared:
            return
        self.chunks.append(data)
        self.size += len(data)

    def offer(self, data: bytes) -> bool:
        """Add if there is room; else count it as dropped and return False."""
        if self.size >= self.limit:
            self.dropped += 1
            return False
        if self._ready:  # as in `put`, without the call
            self._ready = False
            turn = self._turn
            if turn.begun:
                turn.dirty.append(self)
            else:
                turn.mark(self)
        self.chunks.append(data)
        self.size += len(data)
        return True

    def put_alone(self, data: bytes) -> None:
        """`put`, where nothing more is expected: the first such piece of a turn is written at once."""
        turn = self._turn
        if self._ready and self._turn_of_last != turn.number:
            self._turn_of_last = turn.number
            if not turn.begun:
                turn.begin()
            self._counts.bytes_out += len(data)
            self.write(data)
        else:
            self.put(data)

    def offer_alone(self, data: bytes) -> bool:
        """`offer`, likewise."""
        turn = self._turn
        if self._ready and self._turn_of_last != turn.number:
            self._turn_of_last = turn.number
            if not turn.begun:
                turn.begin()
            self._counts.bytes_out += len(data)
            self.write(data)
            return True
        return self.offer(data)

    def flush(self) -> None:
        """Write all that waits in one piece, unless the socket is full."""
        if self.blocked:
            return
        self._ready = True
        chunks = self.chunks
        if chunks:
            self._counts.bytes_out += self.size
            self.chunks = []
            self.size = 0
            self.write(chunks[0] if len(chunks) == 1 else b"".join(chunks))

    def redirect(self, write: Callable[[bytes], object]) -> Callable[[bytes], object]:
        """Write there from now on; where it was written until now."""
        before, self.write = self.write, write
        return before

    def block(self) -> None:
        """The socket is full: keep everything until `unblock`."""
        self.blocked = True
        self._ready = False

    def unblock(self) -> None:
        """There is room again: write what waits, now."""
        if not self._cleared:
            self.blocked = False
            self.flush()

    def clear(self) -> None:
        """Forget what waits and whatever is still added: the peer is gone."""
        self.blocked = self._cleared = True
        self._ready = False
        self.limit = 0
        self.chunks = []
        self.size = 0
