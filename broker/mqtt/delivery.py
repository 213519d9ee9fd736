"""From a message on a topic to the sessions that get it, each once.

A route's plan is worked out when the route changes, not per message: overlapping subscriptions of one client are joined
into one delivery at the highest QoS granted (§3.3.5 of MQTT 3.1.1 allows either), and sessions are sorted by what they
get. A QoS 0 packet is the same bytes for everybody; at QoS 1 only the packet id differs, so the head is made once.
"""

from __future__ import annotations

from typing import TypeAlias

from broker.mqtt.encode import publish_head
from broker.mqtt.session import Session
from broker.routing.topic_index import Route, TopicIndex

SessionIndex: TypeAlias = TopicIndex[Session, int]
SessionRoute: TypeAlias = Route[Session, int]


class Plan:
    """Who gets a message on one topic. ``everyone`` = ``at_most_once`` + ``at_least_once`` (by the QoS granted)."""

    __slots__ = ("at_least_once", "at_most_once", "everyone", "topic")

    def __init__(self, topic: str, targets: tuple[tuple[Session, int], ...]) -> None:
        self.topic = topic.encode()
        granted: dict[Session, int] = {}
        for session, qos in targets:
            granted[session] = max(qos, granted.get(session, 0))
        self.everyone = tuple(granted)
        self.at_most_once = tuple(session for session, qos in granted.items() if qos == 0)
        self.at_least_once = tuple(session for session, qos in granted.items() if qos > 0)


def plan_of(route: SessionRoute) -> Plan:
    """The route's plan, made if it has none."""
    plan = route.plan
    if plan is None:
        plan = route.plan = Plan(route.topic, route.targets)
    assert isinstance(plan, Plan)
    return plan


def deliver(route: SessionRoute, payload: bytes, qos: int) -> None:
    """Send a message of our own making to everybody on the route (which is up to date)."""
    if not route.targets:
        return
    plan = plan_of(route)
    receivers = plan.at_most_once if qos else plan.everyone
    if receivers:
        packet = publish_head(plan.topic, len(payload)) + payload
        for session in receivers:
            session.offer(packet)
    if qos and plan.at_least_once:
        head = publish_head(plan.topic, len(payload), 1)
        for session in plan.at_least_once:
            session.deliver(head, payload)
