"""Shared subscriptions: `$share/<group>/<filter>` (MQTT 5.0 §4.8.2).

The members of one group and filter stand in the topic index as one subscriber, a `SharedGroup`::

    index: filter ──> group ──(plan of a route)──> group.turn(topic): the members that may receive this topic
                                                        └── pick(qos), per message ──> one member and its options

Who is picked: of those that are connected the next in turn that has room, where the better of two neighbours is taken,
so that members share evenly while they keep up and the slow ones get less; if nobody has room, the next in turn, whose
own limits then decide. Those that are away get something only when nobody is connected and it would be at QoS 1 or 2
for them. A group that nobody is left in leaves the index.

Whether a filter may be subscribed to is the server's to know. What becomes of messages that a member leaves
unacknowledged is in `broker.mqtt.bequests`: they come back here for another `pick`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Generic, Protocol, TypeVar

from broker.routing.topic_index import TopicIndex


class Member(Protocol):
    """A session, as far as a group needs to know it. Hashable by identity."""

    @property
    def connected(self) -> bool:
        """Whether it has a connection now."""

    @property
    def room(self) -> int:
        """How many messages it takes now before they have to wait (away: before they are dropped); 0 or less: none."""

    def may_receive(self, topic: str) -> bool:
        """Whether messages on this topic may go to it."""


class Options(Protocol):
    """What a member's own subscription was granted."""

    @property
    def qos(self) -> int:
        """The highest QoS that it gets."""


S = TypeVar("S", bound=Member)
O = TypeVar("O", bound=Options)  # noqa: E741 - the name that the topic index has for it


class SharedGroup(Generic[S, O]):
    """The members of one group and filter, in the order in which they came; it is the index's subscriber."""

    __slots__ = ("filter", "members", "name", "position")

    def __init__(self, name: str, topic_filter: str) -> None:
        self.name = name
        self.filter = topic_filter
        self.members: dict[S, O] = {}
        #: Whose turn it is: one count for all topics, or the first member would get the first message of each.
        self.position = 0

    def may_receive(self, topic: str) -> bool:
        """Asked by the topic index when it makes a route."""
        return any(member.may_receive(topic) for member in self.members)

    def near(self, topic: str) -> SharedTurn[S, O]:
        """The same, of those only that are in this process."""
        pairs = [pair for pair in self.members.items() if not getattr(pair[0], "afar", False)]
        return SharedTurn(self, tuple(pair for pair in pairs if pair[0].may_receive(topic)))

    def turn(self, topic: str) -> SharedTurn[S, O]:
        """Who shares the messages of a topic, worked out once for a route's plan."""
        return SharedTurn(self, tuple(pair for pair in self.members.items() if pair[0].may_receive(topic)))


class SharedTurn(Generic[S, O]):
    """The members of a group that may receive one topic. Holds as long as the route: members, options and rights."""

    __slots__ = ("_alike", "_pairs", "group")

    def __init__(self, group: SharedGroup[S, O], pairs: tuple[tuple[S, O], ...]) -> None:
        self.group = group
        self._pairs = pairs
        #: Nobody knows how much room there is in another process.
        self._alike = not any(getattr(member, "afar", False) for member, _ in pairs)

    def members(self) -> Iterator[S]:
        return (member for member, _ in self._pairs)

    def pick(self, qos: int) -> tuple[S, O] | None:
        """Who gets a message that was published at ``qos``; None: nobody, as nobody is connected to take it."""
        pairs = self._pairs
        count = len(pairs)
        if not count:
            return None
        group = self.group
        start = group.position % count
        group.position = start + 1
        first = pairs[start]
        if count == 1:
            return first if first[0].connected or (qos and first[1].qos) else None
        second = pairs[start + 1 if start + 1 < count else 0]
        member, other = first[0], second[0]
        if member.connected and member.room > 0:
            return second if other.connected and self._alike and other.room > member.room else first
        return self._search(start, qos)

    def _search(self, start: int, qos: int) -> tuple[S, O] | None:
        """The next in turn was away or full: look at everybody."""
        connected = away = roomy_away = None
        for pair in self._from(start):
            member, options = pair
            if member.connected:
                if member.room > 0:
                    return pair
                connected = connected or pair
            elif qos and options.qos:
                away = away or pair
                if roomy_away is None and member.room > 0:
                    roomy_away = pair
        return connected or roomy_away or away

    def _from(self, start: int) -> Iterator[tuple[S, O]]:
        yield from self._pairs[start:]
        yield from self._pairs[:start]


class SharedGroups(Generic[S, O]):
    """All groups of a server, kept in step with its topic index."""

    def __init__(self, index: TopicIndex[Any, Any]) -> None:
        self._index = index
        self._groups: dict[tuple[str, str], SharedGroup[S, O]] = {}

    def __len__(self) -> int:
        return len(self._groups)

    def join(self, name: str, topic_filter: str, member: S, options: O) -> bool:
        """Add the member, or give it other options. True if it is new in this group."""
        key = (name, topic_filter)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = SharedGroup(name, topic_filter)
        new = member not in group.members
        group.members[member] = options
        # Again for every change: the plans of routes were made from the members that there were.
        self._index.subscribe(topic_filter, group, None)
        return new

    def leave(self, name: str, topic_filter: str, member: S) -> bool:
        """Remove the member. False if it was not in this group."""
        key = (name, topic_filter)
        group = self._groups.get(key)
        if group is None or member not in group.members:
            return False
        del group.members[member]
        if group.members:
            self._index.subscribe(topic_filter, group, None)
        else:
            del self._groups[key]
            self._index.unsubscribe(topic_filter, group)
        return True

    def get(self, name: str, topic_filter: str) -> SharedGroup[S, O] | None:
        """The group, while it has members."""
        return self._groups.get((name, topic_filter))
