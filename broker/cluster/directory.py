"""Who has what: entries in Redis that carry their node, so that one lease stands for all that a node has.

Take, leave and find are O(1); those of one turn and space travel in one script, 100,000 entries cost nothing while
nothing happens to them. In the order of the calls for each space.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from broker.cluster import scripts
from broker.cluster.batches import Batches
from broker.cluster.wire import NodeGone
from broker.model.cluster import Taken
from broker.model.errors import Unavailable

#: Entries of one script: some tenths of a millisecond of Redis, which does nothing else meanwhile.
MOST: Final = 200

_TAKE: Final = "take"
_FIND: Final = "find"
_GIVE: Final = "give"
_SCRIPTS: Final = {_TAKE: scripts.TAKE, _FIND: scripts.FIND, _GIVE: scripts.GIVE}

#: What is asked, key, note, answer.
Wish = tuple[str, str, str, "Deferred[Taken] | None"]


class Directory:
    """``run(script, *arguments)`` runs a script with prefix and node before its arguments. ``fenced()`` is told when
    Redis says that the node is dead."""

    def __init__(
        self,
        run: Callable[..., Deferred[Any]],
        later: Callable[[Callable[[], None]], object],
        node: Callable[[], str],
        fenced: Callable[[], object],
    ) -> None:
        self._run = run
        self._later = later
        self._node = node
        self._fenced = fenced
        self._spaces: dict[str, Batches[Wish]] = {}
        #: What could not be given back while there was no Redis: space -> key -> note.
        self._to_give: dict[str, dict[str, str]] = {}

    def take(self, space: str, key: str, note: str) -> Deferred[Taken]:
        self._to_give.get(space, {}).pop(key, None)
        return self._ask(space, _TAKE, key, note)

    def find(self, space: str, key: str) -> Deferred[Taken]:
        return self._ask(space, _FIND, key, "")

    def leave(self, space: str, key: str, note: str) -> None:
        self._batches(space).add((_GIVE, key, note, None))

    def again(self) -> None:
        """Redis is back: give what could not be given."""
        given, self._to_give = self._to_give, {}
        for space, entries in given.items():
            for key, note in entries.items():
                self.leave(space, key, note)

    def forget(self) -> None:
        """We are another node now: nothing of before is ours to give."""
        self._to_give.clear()

    # -- inside ----------------------------------------------------------------------------------------------------

    def _ask(self, space: str, what: str, key: str, note: str) -> Deferred[Taken]:
        answer: Deferred[Taken] = Deferred()
        self._batches(space).add((what, key, note, answer))
        return answer

    def _batches(self, space: str) -> Batches[Wish]:
        batches = self._spaces.get(space)
        if batches is None:
            batches = self._spaces[space] = Batches(lambda wishes: self._send(space, wishes), self._later, MOST)
        return batches

    def _send(self, space: str, wishes: list[Wish]) -> Deferred[Any]:
        """Runs of the same kind are one script each; Redis carries them out in their order."""
        node = self._node()
        last: Deferred[Any] | None = None
        start = 0
        for at in range(1, len(wishes) + 1):
            if at < len(wishes) and wishes[at][0] == wishes[start][0]:
                continue
            last = self._send_run(space, node, wishes[start][0], wishes[start:at])
            start = at
        assert last is not None
        return last

    def _send_run(self, space: str, node: str, what: str, wishes: list[Wish]) -> Deferred[Any]:
        arguments: list[str] = []
        for _, key, note, _answer in wishes:
            arguments.append(key)
            if what != _FIND:
                arguments.append(note)
        if what == _TAKE and not node:  # what nobody has would be anybody's: two would have it
            reply: Deferred[Any] = fail(Unavailable("this process has not joined the others yet"))
        else:
            reply = self._run(_SCRIPTS[what], space, *arguments)
        reply.addCallback(self._came, node, what, wishes)
        return reply.addErrback(self._failed, space, what, wishes)

    def _came(self, reply: Any, node: str, what: str, wishes: list[Wish]) -> None:
        if what == _GIVE:
            return
        stale = node != self._node()
        for number, (_, _key, _note, answer) in enumerate(wishes):
            one, other = reply[2 * number], reply[2 * number + 1]
            if what == _TAKE:
                owner, _, note = other.decode().partition(" ")
                found = Taken(bool(one), owner, note)
            else:
                found = Taken(False, one.decode(), other.decode())
            assert answer is not None
            if stale and found.mine:
                answer.errback(Failure(NodeGone(node)))
            else:
                answer.callback(found)

    def _failed(self, failure: Failure, space: str, what: str, wishes: list[Wish]) -> None:
        error = failure.value
        if getattr(error, "code", "") == "FENCED":
            self._fenced()
        if not isinstance(error, Unavailable):
            error = Unavailable(f"the directory failed: {error}")
        for _, key, note, answer in wishes:
            if answer is not None:
                answer.errback(Failure(error))
            else:
                self._to_give.setdefault(space, {})[key] = note
