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


class Turn:
    """The outboxes that are to be flushed at the end of this turn.

    ``schedule`` is called with `flush` when the first outbox of a turn gets something.
    """

    __slots__ = ("_schedule", "dirty")

    def __init__(self, schedule: Callable[[Callable[[], None]], object]) -> None:
        self._schedule = schedule
        self.dirty: list[Outbox] = []

    def mark(self, outbox: Outbox) -> None:
        dirty = self.dirty
        if not dirty:
            self._schedule(self.flush)
        dirty.append(outbox)

    def flush(self) -> None:
        """Write everything that was collected. What is collected while doing so goes into the next turn.

        If a write raises, so does this; the outboxes after it are written in the next turn.
        """
        dirty, self.dirty = self.dirty, []
        waiting = iter(dirty)
        try:
            for outbox in waiting:
                outbox.flush()
        finally:
            for outbox in waiting:
                self.mark(outbox)


class Outbox:
    """Bytes for one peer. ``limit`` bytes may wait before best-effort messages are refused."""

    __slots__ = ("_cleared", "_marked", "_turn", "_write", "blocked", "chunks", "dropped", "limit", "size")

    def __init__(self, turn: Turn, write: Callable[[bytes], object], limit: int) -> None:
        self._turn = turn
        self._write = write
        self.blocked = False
        self._marked = False
        self._cleared = False
        self.limit = limit
        self.chunks: list[bytes] = []
        self.size = 0
        self.dropped = 0

    def put(self, data: bytes) -> None:
        """Add what has to go out."""
        self.chunks.append(data)
        self.size += len(data)
        if not self._marked:
            self._mark()

    def put_now(self, data: bytes) -> None:
        """As `put`, but it is written at once when nothing waits before it."""
        if self.chunks or self.blocked:
            self.put(data)
        else:
            self._write(data)

    def offer(self, data: bytes) -> bool:
        """Add if there is room; else count it as dropped and return False."""
        if self.size >= self.limit:
            self.dropped += 1
            return False
        self.chunks.append(data)
        self.size += len(data)
        if not self._marked:
            self._mark()
        return True

    def flush(self) -> None:
        """Write all that waits in one piece, unless the socket is full."""
        if self.blocked:
            return
        self._marked = False
        chunks = self.chunks
        if chunks:
            self.chunks = []
            self.size = 0
            self._write(chunks[0] if len(chunks) == 1 else b"".join(chunks))

    def block(self) -> None:
        """The socket is full: keep everything until `unblock`."""
        self.blocked = True

    def unblock(self) -> None:
        """There is room again: write what waits, now."""
        if not self._cleared:
            self.blocked = False
            self.flush()

    def clear(self) -> None:
        """Forget what waits and whatever is still added: the peer is gone."""
        self.blocked = self._cleared = True
        self._marked = False
        self.limit = 0
        self.chunks = []
        self.size = 0

    def _mark(self) -> None:
        """Something waits where nothing did before: have it written at the end of the turn, or when there is room."""
        if self._cleared:
            self.chunks = []
            self.size = 0
            return
        self._marked = True
        if not self.blocked:
            self._turn.mark(self)
