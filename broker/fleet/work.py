"""Devices that campaigns are at, or were at without success: who is found when something is told of them."""

from __future__ import annotations

from math import inf
from typing import Any

from broker.fleet.line import Line
from broker.model.updates import Order


class Work:
    """One attempt at a device. ``outcomes`` is the `broker.fleet.outcomes.Outcomes` of its campaign."""

    __slots__ = ("campaign", "deadline", "doubt", "left", "line", "order", "outcomes", "under_way")

    def __init__(self, campaign: str, line: Line, order: Order, outcomes: Any) -> None:
        self.campaign = campaign
        self.line = line
        self.order = order
        self.outcomes = outcomes
        #: It has one of the places at work. Afterwards it is still known, as long as the line counts as failed.
        self.under_way = True
        #: Monotonic seconds: when the present step has taken too long.
        self.deadline = inf
        #: A download had begun when an earlier life of the broker ended; nobody knows how far it came.
        self.doubt = order.again and line.fetching_at is not None
        #: It went away after it had fetched the image.
        self.left = False


class Roster:
    """Shared by all campaigns."""

    def __init__(self) -> None:
        #: Device -> the campaign in which its line has not ended.
        self.taken: dict[str, str] = {}
        self.by_order: dict[str, Work] = {}
        #: The newest of each device.
        self.by_device: dict[str, Work] = {}

    def enter(self, work: Work) -> None:
        self.by_order[work.order.id] = work
        self.by_device[work.line.device] = work

    def drop(self, work: Work) -> None:
        """Nothing that is told of it matters any more."""
        self.by_order.pop(work.order.id, None)
        if self.by_device.get(work.line.device) is work:
            del self.by_device[work.line.device]

    def forget(self, campaign: str) -> None:
        """It is closed: nothing that is told of its devices matters any more."""
        for work in [one for one in {*self.by_order.values(), *self.by_device.values()} if one.campaign == campaign]:
            self.drop(work)
        self.taken = {device: other for device, other in self.taken.items() if other != campaign}

    def release(self, device: str, campaign: str) -> None:
        """The line of this campaign has ended."""
        if self.taken.get(device) == campaign:
            del self.taken[device]
