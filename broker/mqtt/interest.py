"""What the processes tell one another of their subscriptions, so that a message goes only where it is wanted.

All of it is told in one order for all (`IBackplane.tell`)::

    mqtt.want    [filter, bits]                                    all clean sessions of the sender, see `remote`
    mqtt.group   [group, filter, connected, away, highest QoS]     its members of a shared subscription
    mqtt.made    [number, owner, client id]                        a persistent session, whoever has it now
    mqtt.sub     [number, filter, options]
    mqtt.unsub   [number, filter]
    mqtt.end     [number]
    mqtt.hello   a new process: tell all of the first two kinds again ...
    mqtt.told    ... which this one now has, for that process

Who comes later reads persistent sessions and their subscriptions from storage. Everything may be told twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import msgspec

from broker.model.interfaces import IBackplane
from broker.mqtt.delivery import SessionIndex
from broker.mqtt.journal import LoadedSession
from broker.mqtt.message import Options, options, options_of
from broker.mqtt.remote import HIGH, LOW, SURE, Outgoing, RemoteMember, RemoteNode, RemoteSession
from broker.mqtt.session import Session
from broker.mqtt.shared import SharedGroups
from broker.mqtt.topics import split_share

encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder().decode

#: So many members of one group in one process are told apart; more count as so many.
MEMBERS: Final = 64


class Own:
    """What the sessions of this process want, and telling it when it changes."""

    def __init__(self, tell: Callable[[str, bytes], object], groups: SharedGroups[Any, Any]) -> None:
        self._tell = tell
        self._groups = groups
        #: filter -> how many subscriptions want which bits
        self._wants: dict[str, Counter[int]] = {}
        self._told: dict[str, int] = {}
        self._told_groups: dict[tuple[str, str], tuple[int, int, int]] = {}

    def joined(self, session: Session, topic_filter: str, granted: Options, before: Options | None) -> None:
        shared = split_share(topic_filter) or ("", topic_filter)
        if shared[0]:
            self.group_changed(shared)
            return
        wants = self._wants.setdefault(topic_filter, Counter())
        if before is not None:
            _less(wants, _bits(session, before))
        wants[_bits(session, granted)] += 1
        self._changed(topic_filter, wants)

    def left(self, session: Session, topic_filter: str, granted: Options) -> None:
        shared = split_share(topic_filter) or ("", topic_filter)
        if shared[0]:
            self.group_changed(shared)
            return
        wants = self._wants.get(topic_filter)
        if wants is None:
            return
        _less(wants, _bits(session, granted))
        if not wants:
            del self._wants[topic_filter]
        self._changed(topic_filter, wants)

    def _changed(self, topic_filter: str, wants: Counter[int]) -> None:
        bits = 0
        for one in wants:
            bits |= one
        if self._told.get(topic_filter, 0) != bits:
            if bits:
                self._told[topic_filter] = bits
            else:
                del self._told[topic_filter]
            self._tell("mqtt.want", encode((topic_filter, bits)))

    def came_or_went(self, session: Session) -> None:
        """Its connection came or went: that counts for the groups that it is in."""
        for topic_filter in session.subscriptions:
            if topic_filter.startswith("$share/"):
                shared = split_share(topic_filter)
                if shared:
                    self.group_changed(shared)

    def group_changed(self, shared: tuple[str, str]) -> None:
        group = self._groups.get(*shared)
        here = [] if group is None else [one for one in group.members.items() if not getattr(one[0], "afar", False)]
        connected = sum(member.connected for member, _ in here)
        qos = max((granted.qos for _, granted in here), default=0)
        state = (min(connected, MEMBERS), min(len(here) - connected, 1), qos)
        if self._told_groups.get(shared, (0, 0, 0)) == state:
            return
        if here:
            self._told_groups[shared] = state
        else:
            del self._told_groups[shared]
        self._tell("mqtt.group", encode((*shared, *state)))

    def tell_all(self) -> None:
        """For a process that has just come."""
        for topic_filter, bits in self._told.items():
            self._tell("mqtt.want", encode((topic_filter, bits)))
        for shared, state in self._told_groups.items():
            self._tell("mqtt.group", encode((*shared, *state)))

    def clear(self) -> None:
        """There are no sessions here any more, and nobody need be told."""
        self._wants.clear()
        self._told.clear()
        self._told_groups.clear()


def _bits(session: Session, granted: Options) -> int:
    if granted.qos and session.persistent:
        return LOW
    return LOW | HIGH | SURE if granted.qos else LOW | HIGH


def _less(wants: Counter[int], bits: int) -> None:
    wants[bits] -= 1
    if wants[bits] <= 0:
        del wants[bits]


class Others:
    """What the others want, kept in the topic index and the groups of this process."""

    def __init__(self, topics: SessionIndex, groups: SharedGroups[Any, Any], out: Outgoing) -> None:
        self._topics = topics
        self._groups = groups
        self._out = out
        self.nodes: dict[str, RemoteNode] = {}
        self.sessions: dict[int, RemoteSession] = {}

    def hear(self, backplane: IBackplane, is_here: Callable[[int], bool]) -> None:
        """Begin to. ``is_here(number)``: whether a persistent session is in this process."""

        def other(call: Callable[..., None]) -> Callable[[str, bytes], None]:
            def heard(node: str, body: bytes) -> None:
                if node != backplane.node:
                    call(node, *decode(body))

            return heard

        def about(call: Callable[..., None]) -> Callable[[str, bytes], None]:
            def heard(node: str, body: bytes) -> None:
                number, *rest = decode(body)
                if not is_here(number):
                    call(number, *rest)

            return heard

        backplane.hear("mqtt.want", other(self.wants))
        backplane.hear("mqtt.group", other(self.group))
        backplane.hear("mqtt.made", about(self.made))
        backplane.hear("mqtt.sub", about(self.subscribed))
        backplane.hear("mqtt.unsub", about(self.unsubscribed))
        backplane.hear("mqtt.end", about(self.ended))

    def wants(self, node: str, topic_filter: str, bits: int) -> None:
        remote = self._node(node)
        if bits:
            if remote.filters.get(topic_filter) != bits:
                remote.filters[topic_filter] = bits
                self._topics.subscribe(topic_filter, remote, bits)  # type: ignore[arg-type]  # a Remote's options
        elif remote.filters.pop(topic_filter, 0):
            self._topics.unsubscribe(topic_filter, remote)

    def group(self, node: str, name: str, topic_filter: str, connected: int, away: int, qos: int) -> None:
        remote = self._node(node)
        key = (name, topic_filter)
        for member in remote.groups.pop(key, ()):
            self._groups.leave(name, topic_filter, member)
        members = [RemoteMember(node, number < connected, self._out) for number in range(connected + away)]
        for member in members:
            self._groups.join(name, topic_filter, member, options(qos))
        if members:
            remote.groups[key] = members

    def _node(self, node: str) -> RemoteNode:
        remote = self.nodes.get(node)
        if remote is None:
            remote = self.nodes[node] = RemoteNode(node, self._out)
        return remote

    def node_left(self, node: str) -> None:
        remote = self.nodes.pop(node, None)
        if remote is None:
            return
        for topic_filter in remote.filters:
            self._topics.unsubscribe(topic_filter, remote)
        for (name, topic_filter), members in remote.groups.items():
            for member in members:
                self._groups.leave(name, topic_filter, member)

    # -- persistent sessions ---------------------------------------------------------------------------------------

    def made(self, number: int, owner: str, client_id: str) -> None:
        if number not in self.sessions:
            self.sessions[number] = RemoteSession(number, (owner, client_id), self._out)

    def subscribed(self, number: int, topic_filter: str, given: int) -> None:
        remote = self.sessions.get(number)
        if remote is None:
            return
        granted = remote.filters[topic_filter] = options_of(given)
        if granted.qos and not topic_filter.startswith("$share/"):
            self._topics.subscribe(topic_filter, remote, granted)
        else:  # its process speaks for it
            self._topics.unsubscribe(topic_filter, remote)

    def unsubscribed(self, number: int, topic_filter: str) -> None:
        remote = self.sessions.get(number)
        if remote is not None and remote.filters.pop(topic_filter, None) is not None:
            self._topics.unsubscribe(topic_filter, remote)

    def ended(self, number: int) -> None:
        remote = self.sessions.pop(number, None)
        if remote is not None:
            for topic_filter in remote.filters:
                self._topics.unsubscribe(topic_filter, remote)

    def loaded(self, one: LoadedSession) -> None:
        """As it was found in storage."""
        record = one.record
        self.made(record.number, record.owner, record.client_id)
        for topic_filter, given in one.subscriptions.items():
            self.subscribed(record.number, topic_filter, given)

    def handed(self, number: int, key: tuple[str, str], subscriptions: dict[str, Options]) -> None:
        """A session of this process is another's now."""
        self.made(number, *key)
        for topic_filter, granted in subscriptions.items():
            self.subscribed(number, topic_filter, granted.as_number())

    def clear(self) -> None:
        """Begin anew."""
        for node in list(self.nodes):
            self.node_left(node)
        for number in list(self.sessions):
            self.ended(number)
