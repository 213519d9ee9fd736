"""Which subscribers get a message on a topic.

Filters without wildcards stand in one dictionary; those with wildcards in a tree of levels, so that ten thousand exact
and a thousand wildcard subscriptions cost a message no more than ten (MQTT 3.1.1, section 4.7, has the grammar; filters
are checked by the codec before they come here).

The answer for a topic is kept as a `Route`. A publisher holds on to the route and compares one number per message::

    if route.generation != index.generation:
        route = index.current(route)

An exact subscription touches only its own topic's route; a wildcard one, or a change of rights, moves ``generation``
on, and every route is worked out again when it is next used. Rights are asked here (``subscriber.may_receive(topic)``),
once per route and not per message.

Characters are compared as they are, nothing is normalised (MQTT 5.0 [MQTT-4.7.3-4]).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Generic, Protocol, TypeVar


class Subscriber(Protocol):
    """Who gets messages. Anything hashable that can say what it may see."""

    def may_receive(self, topic: str) -> bool:
        """Whether messages on this topic may go to this subscriber."""


S = TypeVar("S", bound=Subscriber)
O = TypeVar("O")  # noqa: E741 - the options of a subscription; opaque here

_STALE: Final = -1


def _discard(table: dict[S, O], subscriber: S) -> bool:
    """Remove the entry, whose options may well be None. Whether there was one."""
    if subscriber not in table:
        return False
    del table[subscriber]
    return True


class Route(Generic[S, O]):
    """Everybody who gets what is published on ``topic``.

    ``targets``: (subscriber, options) for each matching subscription, so a subscriber with overlapping filters stands
    in it more than once. ``plan`` is free for the publisher's side; it is reset to None whenever targets change.
    """

    __slots__ = ("generation", "plan", "targets", "topic")

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.generation = _STALE
        self.targets: tuple[tuple[S, O], ...] = ()
        self.plan: Any = None


class _Node(Generic[S, O]):
    """One level of a wildcard filter. ``here``: filters that end here; ``below``: those that end with '#' here."""

    __slots__ = ("below", "children", "here")

    def __init__(self) -> None:
        self.children: dict[str, _Node[S, O]] = {}
        self.here: dict[S, O] = {}
        self.below: dict[S, O] = {}

    @property
    def empty(self) -> bool:
        return not (self.children or self.here or self.below)


class TopicIndex(Generic[S, O]):
    """``max_routes`` bounds the kept answers; the oldest goes first."""

    def __init__(self, max_routes: int = 200_000) -> None:
        self.generation = 0
        self.max_routes = max_routes
        self.subscriptions = 0
        #: Called when somebody may receive less than before: for what is already on its way.
        self.on_rights_lost: list[Callable[[], object]] = []
        self._routes: dict[str, Route[S, O]] = {}
        self._exact: dict[str, dict[S, O]] = {}
        self._root: _Node[S, O] = _Node()

    # -- subscriptions ---------------------------------------------------------------------------------------------

    def subscribe(self, topic_filter: str, subscriber: S, options: O) -> bool:
        """Add or replace the subscription of ``subscriber`` to this filter. True if it is new."""
        if "+" in topic_filter or "#" in topic_filter:
            table = self._table(topic_filter)
            self.generation += 1
        else:
            table = self._exact.setdefault(topic_filter, {})
            self._touch(topic_filter)
        new = subscriber not in table
        table[subscriber] = options
        self.subscriptions += new
        return new

    def unsubscribe(self, topic_filter: str, subscriber: S) -> bool:
        """Remove the subscription. False if there was none."""
        if "+" in topic_filter or "#" in topic_filter:
            removed = self._prune(topic_filter.split("/"), subscriber)
            self.generation += removed
        else:
            table = self._exact.get(topic_filter)
            removed = table is not None and _discard(table, subscriber)
            if removed:
                if not table:
                    del self._exact[topic_filter]
                self._touch(topic_filter)
        self.subscriptions -= removed
        return removed

    def rights_changed(self, lost: bool = True) -> None:
        """What subscribers may receive has changed: ask them again. ``lost``: it may be less than before."""
        self.generation += 1
        if lost:
            for told in self.on_rights_lost:
                told()

    # -- routes ----------------------------------------------------------------------------------------------------

    def route(self, topic: str) -> Route[S, O]:
        """The up-to-date route of a topic name (which holds no wildcards)."""
        route = self._routes.get(topic)
        if route is None:
            route = Route(topic)
            self._keep(route)
        return route if route.generation == self.generation else self._refresh(route)

    def current(self, route: Route[S, O]) -> Route[S, O]:
        """The up-to-date route of the same topic; not always the same object, so put it in the old one's place."""
        return self.route(route.topic)

    def match(self, topic: str) -> list[tuple[S, O]]:
        """(subscriber, options) of every subscription that matches, rights not yet asked."""
        found = list(self._exact.get(topic, {}).items())
        if not self._root.empty:
            levels = topic.split("/")
            if topic.startswith("$"):
                # [MQTT-4.7.2-1] a wildcard in the first level never matches a topic that begins with '$'.
                child = self._root.children.get(levels[0])
                if child is not None:
                    self._walk(child, levels, 1, found)
            else:
                self._walk(self._root, levels, 0, found)
        return found

    # -- inside ----------------------------------------------------------------------------------------------------

    def _refresh(self, route: Route[S, O]) -> Route[S, O]:
        topic = route.topic
        route.targets = tuple(
            (subscriber, options) for subscriber, options in self.match(topic) if subscriber.may_receive(topic)
        )
        route.plan = None
        route.generation = self.generation
        return route

    def _keep(self, route: Route[S, O]) -> None:
        routes = self._routes
        if len(routes) >= self.max_routes:
            oldest = routes.pop(next(iter(routes)))
            # A publisher may still hold it: it must come back here before it is used again.
            oldest.generation = _STALE
        routes[route.topic] = route

    def _touch(self, topic: str) -> None:
        route = self._routes.get(topic)
        if route is not None:
            route.generation = _STALE

    def _table(self, topic_filter: str) -> dict[S, O]:
        """The table of a wildcard filter, made with its nodes if it does not exist."""
        node = self._root
        levels = topic_filter.split("/")
        for level in levels[:-1]:
            node = node.children.setdefault(level, _Node())
        if levels[-1] == "#":
            return node.below
        return node.children.setdefault(levels[-1], _Node()).here

    def _prune(self, levels: list[str], subscriber: S) -> bool:
        """Remove the subscriber from the table of a wildcard filter, and the nodes that this empties."""
        path = [self._root]
        for level in levels if levels[-1] != "#" else levels[:-1]:
            child = path[-1].children.get(level)
            if child is None:
                return False
            path.append(child)
        removed = _discard(path[-1].below if levels[-1] == "#" else path[-1].here, subscriber)
        for depth in range(len(path) - 1, 0, -1):
            if not path[depth].empty:
                break
            del path[depth - 1].children[levels[depth - 1]]
        return removed

    def _walk(self, node: _Node[S, O], levels: list[str], depth: int, found: list[tuple[S, O]]) -> None:
        """Collect what matches ``levels[depth:]`` below ``node``; '#' matches its parent level too.

        Without recursion: a topic of 65,535 bytes can have as many levels.
        """
        nodes = [node]
        for level in levels[depth:]:
            below = []
            for node in nodes:
                found.extend(node.below.items())
                for name in (level, "+"):
                    child = node.children.get(name)
                    if child is not None:
                        below.append(child)
            if not below:
                return
            nodes = below
        for node in nodes:
            found.extend(node.below.items())
            found.extend(node.here.items())
