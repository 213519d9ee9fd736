"""What the parts of one open campaign share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from broker.core import Core
from broker.fleet.campaign import Campaign
from broker.fleet.line import Line, order_id
from broker.fleet.lines import Lines
from broker.fleet.settings import CampaignSettings
from broker.fleet.store import CampaignStore
from broker.fleet.waiting import Waiting
from broker.fleet.work import Roster
from broker.model.interfaces import IUpdater
from broker.model.updates import Order


@dataclass(slots=True, kw_only=True)
class Parts:
    """``campaign`` is one object for all of them. ``place_free`` is called when a device has left its place."""

    core: Core
    campaign: Campaign
    updater: IUpdater
    store: CampaignStore
    lines: Lines
    waiting: Waiting
    roster: Roster
    settings: Callable[[], CampaignSettings]
    place_free: Callable[[], None]

    def order(self, line: Line, again: bool = False) -> Order:
        """That of the line's present attempt."""
        settings, backup = self.settings(), self.campaign.plan.backup
        return Order(
            id=order_id(self.campaign.id, line.device, line.attempt),
            device=line.device,
            release=self.campaign.release,
            backup=backup,
            patience=settings.queue_timeout + (settings.backup_timeout if backup else 0.0),
            again=again,
            fetched=line.fetched_at is not None,
        )

    def present(self, line: Line) -> Line:
        """The line as it is worked with, where it is; ``line`` is what was read from disk."""
        work = self.roster.by_device.get(line.device)
        return work.line if work is not None and work.campaign == self.campaign.id else line
