"""From a message on a topic to the sessions that get it.

A route's plan is worked out when the route changes, not per message: overlapping subscriptions of one client are joined
into one delivery at the highest QoS granted, with all their identifiers ([MQTT-3.3.4-2..4] of 5.0 allows it, so does
§3.3.5 of 3.1.1), and receivers are sorted:

    plain     sessions of 3.1 and 3.1.1: everybody gets the same bytes, but for the packet id at QoS 1
    kept      those of them that owe what comes at QoS 1 and 2 to the disk
    offered   plain ones, and other processes, which get the same bytes at QoS 0
    keepers   kept ones, and who is elsewhere, who get the same bytes at QoS 1
    new       clean sessions of 5.0 that want nothing special: the same, with an empty or a common property block
    special   the others (identifiers, aliases, no local, a maximum packet size, on disk in 5.0)
              and shared subscriptions, each of which chooses one of its members

5.0: every session with a matching subscription gets the message [MQTT-4.5.0-1] [MQTT-3.3.2-3], at the lower of both QoS
[MQTT-3.8.4-8] [MQTT-4.8.2-3], with RETAIN as the subscription wants it [MQTT-3.3.1-12] [MQTT-3.3.1-13]; a topic's
messages go out in the order in which they came [MQTT-4.6.0-5] [MQTT-4.6.0-6].
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

from broker.mqtt.encode import publish_head
from broker.mqtt.message import Message, Options
from broker.mqtt.packets import MQTT_3_1_1, MQTT_5
from broker.mqtt.session import Session
from broker.mqtt.shared import SharedGroup, SharedTurn
from broker.routing.topic_index import Route, TopicIndex

SessionIndex: TypeAlias = TopicIndex[Any, Options]
SessionRoute: TypeAlias = Route[Any, Options]


class Remote:
    """Somebody of another process who is subscribed; see `broker.mqtt.remote`."""

    __slots__ = ()

    def joined(self, wanted: int, given: Any) -> int:
        """What is wanted by a further subscription of the same one."""
        raise NotImplementedError

    def take(self, message: Message, wanted: int) -> int:
        """See `Receiver.take`."""
        raise NotImplementedError

    def offered(self, wanted: int) -> Any:
        """Who takes whole packets of QoS 0, as `Session.offer` does; None: nobody."""
        raise NotImplementedError

    def kept(self, wanted: int) -> Any:
        """Who takes messages of QoS 1, as `PersistentSession.keep` and `keep_run` do; None: nobody."""
        raise NotImplementedError


class Receiver:
    """What one session gets of a topic. ``elsewhere``: what it gets of its own messages (no local), if not the same."""

    __slots__ = ("elsewhere", "identifiers", "qos", "retain_as_published", "session")

    def __init__(self, session: Session, granted: Iterable[Options]) -> None:
        self.session = session
        all_of_them = list(granted)
        self.qos = max(one.qos for one in all_of_them)
        self.retain_as_published = any(one.retain_as_published for one in all_of_them)
        self.identifiers = tuple(one.identifier for one in all_of_them if one.identifier)
        self.elsewhere: Receiver | None = self
        if any(one.no_local for one in all_of_them):
            rest = [one for one in all_of_them if not one.no_local]
            self.elsewhere = Receiver(session, rest) if rest else None

    @property
    def is_new(self) -> bool:
        """A client of 5.0 that gets what all of them get."""
        return self._wants_nothing and self.session.plain_5

    @property
    def is_plain(self) -> bool:
        """A client of 3.1 or 3.1.1; one whose session was made by 5.0 may have special subscriptions."""
        session = self.session
        return session.plain or (session.persistent and session.version != MQTT_5 and self._wants_nothing)

    @property
    def _wants_nothing(self) -> bool:
        return not self.identifiers and not self.retain_as_published and self.elsewhere is self

    def take(self, message: Message) -> int:
        """Hand the message over; the journal's position that its acknowledgement has to wait for."""
        session = self.session
        if message.sender is session and self.elsewhere is not self:
            return self.elsewhere.take(message) if self.elsewhere is not None else 0  # [MQTT-3.8.3-3]
        qos = self.qos if self.qos < message.qos else message.qos
        if qos and session.detour is not None:
            return session.detour(message)
        return session.take(message, qos, message.retain and self.retain_as_published, self.identifiers)


class Share:
    """A group of a shared subscription, whose members take turns."""

    __slots__ = ("_turn",)

    def __init__(self, turn: SharedTurn[Session, Options]) -> None:
        self._turn = turn

    def take(self, message: Message) -> int:
        """See `Receiver.take`."""
        chosen = self._turn.pick(message.qos)
        if chosen is None:
            return 0
        session, granted = chosen
        identifiers = (granted.identifier,) if granted.identifier else ()
        retain = message.retain and granted.retain_as_published
        return session.take(message, min(granted.qos, message.qos), retain, identifiers, self._turn.group)


class Plan:
    """Who gets a message on one topic. ``everyone`` = ``at_most_once`` + ``at_least_once`` + ``kept`` (by the QoS
    granted) are the plain ones; with a 5 those of ``new``. ``mixed``: there are others here than plain ones,
    ``mixed_5``: others anywhere than new ones.
    """

    __slots__ = (
        "at_least_once",
        "at_least_once_5",
        "at_most_once",
        "at_most_once_5",
        "everyone",
        "everyone_5",
        "field",
        "keepers",
        "kept",
        "lasting",
        "mixed",
        "mixed_5",
        "name",
        "new",
        "offered",
        "plain",
        "receivers",
        "remote",
        "special",
        "topic",
    )

    def __init__(self, topic: str, targets: tuple[tuple[Any, Options], ...]) -> None:
        self.topic = topic
        self.name = topic.encode()
        #: The topic as it stands in a packet, its length before it.
        self.field = len(self.name).to_bytes(2, "big") + self.name
        granted: dict[Session, list[Options]] = {}
        shares = []
        remote: dict[Remote, int] = {}
        for subscriber, given in targets:
            if isinstance(subscriber, SharedGroup):
                shares.append(Share(subscriber.turn(topic)))
            elif isinstance(subscriber, Remote):
                remote[subscriber] = subscriber.joined(remote.get(subscriber, 0), given)
            else:
                granted.setdefault(subscriber, []).append(given)
        receivers = [Receiver(session, given) for session, given in granted.items()]
        #: All sessions of this process, each once; sessions of other processes, and what they want of it.
        self.receivers = tuple(receivers)
        self.remote = tuple(remote.items())
        self.plain = tuple(one for one in receivers if one.is_plain)
        self.everyone = tuple(one.session for one in self.plain)
        self.at_most_once = tuple(one.session for one in self.plain if one.qos == 0)
        self.at_least_once = tuple(one.session for one in self.plain if one.qos > 0 and not one.session.persistent)
        self.kept: tuple[Any, ...] = tuple(one.session for one in self.plain if one.qos > 0 and one.session.persistent)
        self.new = tuple(one for one in receivers if one.is_new)
        self.everyone_5 = tuple(one.session for one in self.new)
        self.at_most_once_5 = tuple(one.session for one in self.new if one.qos == 0)
        self.at_least_once_5 = tuple(one.session for one in self.new if one.qos > 0)
        offered = [one for one in (remote.offered(wanted) for remote, wanted in self.remote) if one is not None]
        keepers = [one for one in (remote.kept(wanted) for remote, wanted in self.remote) if one is not None]
        self.offered: tuple[Any, ...] = (*self.everyone, *offered)
        self.keepers: tuple[Any, ...] = (*self.kept, *keepers)
        others = (one for one in receivers if not one.is_plain and not one.is_new)
        self.special: tuple[Receiver | Share, ...] = (*others, *shares)
        #: Whether some of it may have to be on disk before its publisher hears of it.
        self.lasting = bool(shares or remote) or any(one.session.persistent for one in receivers)
        self.mixed = bool(self.special or self.new)
        self.mixed_5 = bool(self.special or self.plain or remote)


def plan_of(route: SessionRoute) -> Plan:
    """The route's plan, made if it has none."""
    plan = route.plan
    if plan is None:
        plan = route.plan = Plan(route.topic, route.targets)
    assert isinstance(plan, Plan)
    return plan


def distribute(plan: Plan, message: Message) -> int:
    """Send a message to everybody; the journal's position that its acknowledgement has to wait for (0: none)."""
    position = 0
    if plan.plain:
        if message.qos == 2:
            position = _one_by_one(plan.plain, message)
        else:
            _to_all(plan.everyone, plan.at_most_once, plan.at_least_once, message, MQTT_3_1_1)
            if message.qos:
                for session in plan.kept:
                    detour = session.detour
                    took = session.take(message, 1, False, ()) if detour is None else detour(message)
                    position = took or position
    if plan.new:
        if message.qos == 2 or message.expires_at is not None:
            _one_by_one(plan.new, message)
        else:
            _to_all(plan.everyone_5, plan.at_most_once_5, plan.at_least_once_5, message, MQTT_5)
    for special in plan.special:
        position = special.take(message) or position
    for remote, wanted in plan.remote:
        position = remote.take(message, wanted) or position
    return position


def _one_by_one(receivers: Iterable[Receiver], message: Message) -> int:
    position = 0
    for receiver in receivers:
        position = receiver.take(message) or position
    return position


def _to_all(
    everyone: tuple[Session, ...],
    at_most_once: tuple[Session, ...],
    at_least_once: tuple[Session, ...],
    message: Message,
    version: int,
) -> None:
    """The same bytes for all of them, at QoS 0 and 1."""
    receivers = at_most_once if message.qos else everyone
    if receivers:
        packet = message.head(version, 0, False) + message.tail(version)
        for session in receivers:
            session.offer(packet)
    if message.qos and at_least_once:
        head, tail = message.head(version, 1, False), message.tail(version)
        for session in at_least_once:
            session.deliver(head, tail)


def deliver(route: SessionRoute, payload: bytes, qos: int, shared: bytes = b"") -> None:
    """Send a message of our own making to everybody on the route (which is up to date)."""
    if not route.targets:
        return
    plan: Plan = route.plan or plan_of(route)
    if plan.mixed or qos == 2 or (shared and (plan.kept or plan.remote)):
        distribute(plan, Message(plan.name, payload, qos, shared=shared))
        return
    # An uplink to clients of 3.1.1, which is nearly all of them, needs no object; and its usual size no call.
    receivers = plan.at_most_once if qos else plan.offered
    if receivers:
        length = len(plan.field) + len(payload)
        if 128 <= length < 16384:
            packet = b"\x30%c%c%b%b" % (length & 127 | 128, length >> 7, plan.field, payload)
        else:
            packet = publish_head(plan.name, len(payload)) + payload
        for session in receivers:
            session.offer(packet)
    if qos and (plan.at_least_once or plan.keepers):
        head = publish_head(plan.name, len(payload), 1)
        for session in plan.at_least_once:
            session.deliver(head, payload)
        for keeper in plan.keepers:
            keeper.keep(plan, head, payload)
