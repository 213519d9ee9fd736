"""Retained messages: the last one of each topic, and which of them a filter selects (§3.3.1.3 of MQTT 3.1.1 and 5.0).

::

    topic ──> dictionary ──> message             put, remove, get, filters without wildcards
    a ── b ── c ──> topic                        a tree of levels: filters with wildcards

What a filter selects is read through a `Cursor`, some at a time, while the store goes on changing: a message that stood
in the store from the first page to the last is given exactly once; one that came, went or was replaced in between is
given at most once, as it is when its turn comes (whoever subscribed gets what came later as it is published). A page is
bounded in steps as well as in messages, so that a filter that walks far and selects little blocks nobody.

Limits are checked before anything is kept; what does not fit is refused and leaves all as it was. Messages that have
expired are left out, and go when they are met or at `sweep`. Length and depth of topics are the publisher's side to
check, rights are the subscriber's, putting it all on disk is the session journal's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, Generic, Protocol, TypeVar

#: Messages and their bytes, topics included, that are kept unless the settings say otherwise.
MAX_MESSAGES: Final = 1_000_000
MAX_BYTES: Final = 256 * 1024 * 1024
#: Places of the tree that one page may look at: under 10 ms.
PAGE_STEPS: Final = 5_000


class Retained(Protocol):
    """What is kept. It must not change while it is in the store."""

    @property
    def size(self) -> int:
        """Bytes that it stands for in the limit."""

    @property
    def expires_at(self) -> float | None:
        """UNIX seconds after which nobody gets it; None: never."""


M = TypeVar("M", bound=Retained)


class _Node:
    """One level. ``topic`` is set where a topic ends. Children appear with the first and then stay a dictionary."""

    __slots__ = ("_names", "children", "topic")

    def __init__(self) -> None:
        self.children: dict[str, _Node] | None = None
        self.topic: str | None = None
        self._names: tuple[str, ...] | None = None

    def child(self, level: str) -> _Node:
        """The child of this name, made if there is none."""
        children = self.children
        if children is None:
            children = self.children = {}
        node = children.get(level)
        if node is None:
            node = children[level] = _Node()
            self._names = None
        return node

    def forget(self, level: str) -> None:
        if self.children is not None:
            del self.children[level]
            self._names = None

    def names(self) -> tuple[str, ...]:
        """The children's names as of now: one tuple for all who read at the same time."""
        names = self._names
        if names is None:
            names = self._names = tuple(self.children or ())
        return names


class RetainedStore(Generic[M]):
    """``expired(topic)`` is told of each message that goes because its time is over."""

    def __init__(
        self,
        max_messages: int = MAX_MESSAGES,
        max_bytes: int = MAX_BYTES,
        expired: Callable[[str], object] = lambda topic: None,
    ) -> None:
        self.max_messages = max_messages
        self.max_bytes = max_bytes
        #: Bytes that the messages stand for.
        self.bytes = 0
        self._expired = expired
        self._messages: dict[str, M] = {}
        #: Topics of those messages that will expire.
        self._mortal: dict[str, None] = {}
        self._root = _Node()

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, topic: str, message: M) -> bool:
        """Keep the message in place of the topic's last one. False, and nothing has changed, if it does not fit."""
        messages = self._messages
        old = messages.get(topic)
        size = self.bytes + message.size - (0 if old is None else old.size)
        if size > self.max_bytes or (old is None and len(messages) >= self.max_messages):
            return False
        self.bytes = size
        messages[topic] = message
        if old is None:
            node = self._root
            for level in topic.split("/"):
                node = node.child(level)
            node.topic = topic
        if message.expires_at is None:
            self._mortal.pop(topic, None)
        else:
            self._mortal[topic] = None
        return True

    def remove(self, topic: str) -> bool:
        """Forget the topic's message. False if there was none."""
        old = self._messages.pop(topic, None)
        if old is None:
            return False
        self.bytes -= old.size
        self._mortal.pop(topic, None)
        levels = topic.split("/")
        path = [self._root]
        for level in levels:
            path.append((path[-1].children or {})[level])
        path[-1].topic = None
        for depth in range(len(levels), 0, -1):
            node = path[depth]
            if node.topic is not None or node.children:
                break
            path[depth - 1].forget(levels[depth - 1])
        return True

    def get(self, topic: str, now: float) -> M | None:
        """The topic's message, if it has one that has not expired at ``now`` (UNIX seconds)."""
        message = self._messages.get(topic)
        if message is None:
            return None
        expires_at = message.expires_at
        if expires_at is not None and expires_at <= now:
            self.remove(topic)
            self._expired(topic)
            return None
        return message

    def match(self, topic_filter: str) -> Cursor[M]:
        """What a valid filter (not a shared one) selects, to be read page by page."""
        if "+" in topic_filter or "#" in topic_filter:
            return Cursor(self, _walk(self._root, topic_filter.split("/")))
        return Cursor(self, iter((topic_filter,)))

    def sweep(self, now: float) -> int:
        """Forget whatever has expired; how many. Costs a look at every message that will ever expire."""
        messages = self._messages
        gone = [topic for topic in self._mortal if (messages[topic].expires_at or 0) <= now]
        for topic in gone:
            self.remove(topic)
            self._expired(topic)
        return len(gone)


class Cursor(Generic[M]):
    """A reader's place. ``finished``: nothing more comes."""

    __slots__ = ("_steps", "_store", "finished")

    def __init__(self, store: RetainedStore[M], steps: Iterator[str | None]) -> None:
        self._store = store
        self._steps = steps
        self.finished = False

    def page(self, limit: int, now: float, max_steps: int = PAGE_STEPS) -> list[tuple[str, M]]:
        """The next (topic, message) pairs, at most ``limit``; may be none at all although more will come."""
        found: list[tuple[str, M]] = []
        get = self._store.get
        for _ in range(max_steps):
            if len(found) >= limit:
                return found
            try:
                topic = next(self._steps)
            except StopIteration:
                self.finished = True
                return found
            if topic is not None:
                message = get(topic, now)
                if message is not None:
                    found.append((topic, message))
        return found


def _walk(root: _Node, levels: list[str]) -> Iterator[str | None]:
    """The topics that the filter's levels select; a None for each place that was looked at in vain.

    Without recursion: a topic can have thousands of levels. Each iterator on the stack gives nodes and the position of
    the level that they are asked for.
    """
    stack: list[Iterator[tuple[_Node, int]]] = [iter(((root, 0),))]
    while stack:
        here = next(stack[-1], None)
        if here is None:
            stack.pop()
            yield None
            continue
        node, depth = here
        if depth == len(levels):
            yield node.topic
            continue
        level = levels[depth]
        if level == "#":
            # '#' stands for its parent level too (§4.7.1.2).
            yield node.topic
            if node.children:
                stack.append(_children(node, depth, node is root))
        elif level == "+":
            if node.children:
                stack.append(_children(node, depth + 1, node is root))
        else:
            child = node.children.get(level) if node.children else None
            if child is None:
                yield None
            else:
                stack.append(iter(((child, depth + 1),)))


def _children(node: _Node, depth: int, first_level: bool) -> Iterator[tuple[_Node, int]]:
    children = node.children or {}
    for name in node.names():
        # [MQTT-4.7.2-1] a wildcard in the first level never selects a topic that begins with '$'.
        if first_level and name.startswith("$"):
            continue
        child = children.get(name)
        if child is not None:
            yield child, depth
