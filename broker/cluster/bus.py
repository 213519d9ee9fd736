"""What nodes say to one another, on its way out and in.

::

    cast ──one envelope a turn──> PUBLISH ch:<node> or ch          best effort; what is over the bound is counted
    tell ──────────────────────> XADD log                          one order for all, read from where we were
    ask  ──────────────────────> XADD in:<node>                    answered over in:<us>

An envelope whose XADD nobody answered is sent again under its number, and known by it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from broker.cluster.batches import Batches
from broker.cluster.wire import (
    ANSWER,
    QUESTION,
    NodeGone,
    Note,
    envelope,
    open_envelope,
    open_question,
    pack_error,
    question,
    unpack_error,
)
from broker.model.errors import BrokerError, Unavailable

#: Notes of one envelope.
MOST: Final = 2_000
#: Notes that may wait for one channel before best-effort ones are dropped, and their bytes: one of them may be all that
#: a publisher had for a topic.
MAX_WAITING: Final = 20_000
MAX_WAITING_BYTES: Final = 16 * 1024 * 1024
#: Bytes of notes in one envelope, unless one note is larger.
HEAVIEST: Final = 1024 * 1024
#: Seconds that an answer may take, unless who asks has less time.
PATIENCE: Final = 15.0
#: Entries that the log keeps at least: who was away for longer than that begins anew.
LOG_LENGTH: Final = 100_000


def _size(note: Note) -> int:
    return len(note[1])


class Counts:
    """What crosses the bus."""

    def __init__(self) -> None:
        self.sent = 0
        self.received = 0
        self.envelopes = 0
        self.dropped = 0
        self.malformed = 0


class Bus:
    """``call(*arguments)`` is one command to Redis; keys and channels begin with ``prefix``."""

    log: ClassVar[Logger] = Logger(namespace="broker.cluster")

    def __init__(
        self,
        call: Callable[..., Deferred[Any]],
        later: Callable[[Callable[[], None]], object],
        reactor: Any,
        prefix: str,
        node: Callable[[], str],
    ) -> None:
        self.counts = Counts()
        self._call = call
        self._later = later
        self._reactor = reactor
        self._prefix = prefix
        self._node = node
        self._hearers: dict[str, list[Callable[[str, bytes], object]]] = {}
        self._answers: dict[str, Callable[[str, bytes], Any]] = {}
        self._channels: dict[str, Batches[Note]] = {}
        self._streams: dict[str, Batches[Note]] = {}
        self._number = 0
        #: The last number of each sender's envelopes in our stream and in the log.
        self._seen: dict[tuple[str, str], int] = {}
        self._asked = 0
        self._pauses: dict[Deferred[None], Any] = {}
        #: id -> (node, answer, its timer)
        self._open: dict[int, tuple[str, Deferred[bytes], Any]] = {}

    # -- out -------------------------------------------------------------------------------------------------------

    def cast(self, kind: str, body: bytes, node: str | None) -> None:
        channel = "ch" if node is None else "ch:" + node
        batches = self._channels.get(channel)
        if batches is None:
            batches = self._channels[channel] = Batches(
                lambda notes: self._publish(channel, notes), self._later, MOST, _size, HEAVIEST
            )
        if len(batches) >= MAX_WAITING or batches.weight >= MAX_WAITING_BYTES:
            self.counts.dropped += 1
            return
        self.counts.sent += 1
        batches.add((kind, body))

    def _publish(self, channel: str, notes: list[Note]) -> Deferred[Any]:
        self.counts.envelopes += 1
        sent = self._call("PUBLISH", self._prefix + channel, envelope(self._node(), 0, notes))

        def lost(failure: Failure) -> None:
            failure.trap(Unavailable)
            self.counts.dropped += len(notes)

        return sent.addErrback(lost)

    def tell(self, kind: str, body: bytes) -> None:
        self._append("log", kind, body)

    def _append(self, stream: str, kind: str, body: bytes) -> None:
        batches = self._streams.get(stream)
        if batches is None:
            batches = self._streams[stream] = Batches(lambda notes: self._add(stream, notes), self._later, MOST)
        self.counts.sent += 1
        batches.add((kind, body))

    def _add(self, stream: str, notes: list[Note]) -> Deferred[Any]:
        self.counts.envelopes += 1
        self._number += 1
        bound = ("MAXLEN", "~", LOG_LENGTH) if stream == "log" else ("NOMKSTREAM",)
        data = envelope(self._node(), self._number, notes)
        return Deferred.fromCoroutine(self._add_surely(stream, notes, bound, data))

    async def _add_surely(self, stream: str, notes: list[Note], bound: tuple[Any, ...], data: bytes) -> None:
        """Until Redis has answered, or we are another node."""
        node = self._node()
        while node and self._node() == node:
            try:
                added = await self._call("XADD", self._prefix + stream, *bound, "*", "e", data)
            except Unavailable:
                await self.pause(0.5)
                continue
            if added is None:
                self._gone(stream.partition(":")[2])
            return

    def pause(self, seconds: float) -> Deferred[None]:
        """Fires after that time, or when the bus is closed."""
        over: Deferred[None] = Deferred()
        timer = self._reactor.callLater(seconds, self._paused, over)
        self._pauses[over] = timer
        return over

    def _paused(self, over: Deferred[None]) -> None:
        del self._pauses[over]
        over.callback(None)

    def close(self) -> None:
        """Nothing is sent any more; whoever asks for our node has been told that there is none."""
        self.anew()
        for over, timer in list(self._pauses.items()):
            timer.cancel()
            self._paused(over)

    # -- questions -------------------------------------------------------------------------------------------------

    def ask(self, node: str, kind: str, body: bytes, patience: float) -> Deferred[bytes]:
        self._asked += 1
        number = self._asked
        answer: Deferred[bytes] = Deferred()
        timer = self._reactor.callLater(patience, self._no_answer, number)
        self._open[number] = (node, answer, timer)
        self._append("in:" + node, QUESTION, question(number, kind, body))
        return answer

    def _no_answer(self, number: int) -> None:
        node, answer, _ = self._open.pop(number)
        answer.errback(Failure(Unavailable(f"the broker process {node} has not answered")))

    def _gone(self, node: str) -> None:
        """It will answer nothing any more."""
        for number, (asked, answer, timer) in list(self._open.items()):
            if asked == node:
                del self._open[number]
                timer.cancel()
                answer.errback(Failure(NodeGone(node)))

    def node_gone(self, node: str) -> None:
        """All that waits for it fails."""
        self._gone(node)
        for name, table in (("ch:" + node, self._channels), ("in:" + node, self._streams)):
            table.pop(name, None)
        for sender in [key for key in self._seen if key[1] == node]:
            del self._seen[sender]

    def anew(self) -> None:
        """We are another node: nothing that was under way counts."""
        for node in {asked for asked, _, _ in self._open.values()}:
            self._gone(node)
        for batches in (*self._channels.values(), *self._streams.values()):
            batches.clear()
        self._streams.clear()
        self._channels.clear()
        self._seen.clear()

    def hear(self, kind: str, call: Callable[[str, bytes], object]) -> None:
        self._hearers.setdefault(kind, []).append(call)

    def answer(self, kind: str, call: Callable[[str, bytes], Any]) -> None:
        self._answers[kind] = call

    # -- in --------------------------------------------------------------------------------------------------------

    def published(self, data: bytes) -> None:
        """Something came over a channel."""
        try:
            sender, _, notes = open_envelope(data)
        except ValueError:
            self.counts.malformed += 1
            return
        if sender != self._node():
            self._heard(sender, notes)

    def streamed(self, stream: str, data: bytes) -> None:
        """An entry of the log, or of our own stream (``in``)."""
        if not data:
            return
        try:
            sender, number, notes = open_envelope(data)
        except ValueError:
            self.counts.malformed += 1
            return
        if number:  # 0: put there by somebody's batch of other things, once
            if number <= self._seen.get((stream, sender), 0):
                return
            self._seen[stream, sender] = number
        self._heard(sender, notes)

    def _heard(self, sender: str, notes: list[Note]) -> None:
        self.counts.received += len(notes)
        for kind, body in notes:
            try:
                if kind == QUESTION:
                    self._questioned(sender, body)
                elif kind == ANSWER:
                    self._answered(body)
                else:
                    for call in self._hearers.get(kind, ()):
                        call(sender, body)
            except Exception:
                self.log.failure("fault of who hears {kind} of another broker process", kind=kind)

    def _questioned(self, sender: str, body: bytes) -> None:
        number, kind, content = open_question(body)
        node = self._node()
        call = self._answers.get(kind)
        answer = maybeDeferred(self._unknown if call is None else call, sender, content)

        def said(result: bytes | Failure) -> None:
            if self._node() != node:
                return
            if isinstance(result, Failure):
                error = result.value
                if not isinstance(error, BrokerError):
                    self.log.failure("fault while answering {kind}", result, kind=kind)
                    error = Unavailable("internal error")
                self._append("in:" + sender, ANSWER, question(number, error.slug, pack_error(error)))
            else:
                self._append("in:" + sender, ANSWER, question(number, "", result))

        answer.addBoth(said)

    @staticmethod
    def _unknown(sender: str, content: bytes) -> bytes:
        raise Unavailable("this broker process does not know such a question")

    def _answered(self, body: bytes) -> None:
        number, slug, content = open_question(body)
        waiting = self._open.pop(number, None)
        if waiting is None:
            return
        _, answer, timer = waiting
        timer.cancel()
        if slug:
            answer.errback(Failure(unpack_error(slug, content)))
        else:
            answer.callback(content)
