"""What other processes pass on, given to those here who want it.

A run of packets goes to clean sessions of 3.1.1 as it came, in one piece for each; to all others message by message.
Persistent sessions that want it at QoS 1 or 2 have it in their boxes, and groups by name: neither is given it here.
"""

from __future__ import annotations

from typing import Any, Final

from broker.mqtt.delivery import Plan, Receiver, SessionIndex, Share, plan_of
from broker.mqtt.encode import publish_head
from broker.mqtt.message import Message, Options
from broker.mqtt.parcels import Run, is_for_group, messages, open_for_group, opened
from broker.mqtt.session import Session
from broker.mqtt.shared import SharedGroups

#: A message for a group is passed on so often at most, when members leave meanwhile.
MAX_HOPS: Final = 3


class Arrivals:
    """``topics``, ``groups``: the subscriptions of this process."""

    def __init__(self, topics: SessionIndex, groups: SharedGroups[Session, Options]) -> None:
        self._topics = topics
        self._groups = groups

    def take(self, body: bytes) -> None:
        """Give it to everybody. Raises ValueError if it is none of `broker.mqtt.parcels`."""
        if is_for_group(body):
            self.take_for_group(body)
            return
        found = opened(body)
        route = self._topics.route(found.name.decode())
        if not route.targets:
            return
        plan = route.plan or plan_of(route)
        if isinstance(found, Message):
            _take_one(plan.receivers, found)
        else:
            _take_run(plan, found)

    def take_for_group(self, body: bytes) -> None:
        """What is for a group, if it is here."""
        name, topic_filter, hops, packed = open_for_group(body)
        group: Any = self._groups.get(name, topic_filter)
        if group is None:
            return
        for message in messages(packed):
            message.hops = hops
            near = group.near(message.topic)
            if hops >= MAX_HOPS or any(member.connected for member in near.members()):
                Share(near).take(message)
            else:
                Share(group.turn(message.topic)).take(message)


def _take_one(receivers: tuple[Receiver, ...], message: Message) -> None:
    for receiver in receivers:
        if not (message.qos and receiver.qos and receiver.session.persistent):
            receiver.take(message)


def _take_run(plan: Plan, run: Run) -> None:
    body, at, step = run.body, run.at, run.step
    if run.qos > 1:
        receivers = plan.receivers
    else:
        count = len(body) // step
        if not run.qos:
            for session in plan.everyone:
                session.offer(body, count)
        elif count == 1:
            for session in plan.at_least_once:
                session.deliver(body[:at], body[at + 2 :])
        else:
            for session in plan.at_least_once:
                session.deliver_run(body, at, step)
        if run.qos and plan.at_most_once:
            head = publish_head(run.name, step - at - 2)
            packets = b"".join([head + payload for payload in run.payloads()])
            for session in plan.at_most_once:
                session.offer(packets, count)
        if not plan.mixed:
            return
        receivers = tuple(one for one in plan.special if isinstance(one, Receiver)) + plan.new
    for message in run.messages():
        _take_one(receivers, message)
