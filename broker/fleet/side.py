"""Campaigns of a broker that may be several processes: one of them has all campaigns, and the others ask that one."""

from __future__ import annotations

from typing import ClassVar

from twisted.logger import Logger

from broker.cluster.duty import Duty
from broker.core import Core
from broker.fleet.campaigns import Campaigns
from broker.fleet.progress import Progress
from broker.fleet.settings import CampaignSettings
from broker.model.errors import Unavailable
from broker.storage.deferred import deferred

DUTY = "campaigns"


class CampaignSide:
    """`open` it when the protocols are there, before devices connect; call `tick` once a second."""

    log: ClassVar[Logger] = Logger(namespace="broker.fleet")

    def __init__(self, core: Core, settings: CampaignSettings) -> None:
        self._core = core
        self._settings = settings
        self._campaigns: Campaigns | None = None
        self._progress = Progress(core.backplane)
        self._duty = core.duties.add(Duty(core.backplane, DUTY, self._begin, self._end))
        self._progress.duty = self._duty

    @deferred
    async def open(self) -> None:
        """Take them up, unless another process has them. Raises Unavailable."""
        for updater in self._core.updaters.values():
            updater.follow(self._progress)
        await self._duty.look()

    @property
    def campaigns(self) -> Campaigns:
        """Raises Unavailable while another process has them."""
        if self._campaigns is None:
            raise Unavailable("no broker process has the campaigns at the moment")
        return self._campaigns

    def configure(self, settings: CampaignSettings) -> None:
        self._settings = settings
        if self._campaigns is not None:
            self._campaigns.settings = settings

    def tick(self) -> None:
        self._progress.settle()
        if self._campaigns is not None and self._duty.active:
            self._campaigns.tick()

    def halt(self) -> None:
        """The broker stops."""
        self._duty.retire()
        if self._campaigns is not None:
            self._campaigns.halt()

    def counters(self) -> dict[str, float]:
        """For the metrics: those of the process that has the campaigns."""
        return {} if self._campaigns is None else self._campaigns.counters()

    async def _begin(self) -> None:
        campaigns = self._campaigns = Campaigns(self._core, self._settings, self._progress)
        self._progress.here = campaigns
        await campaigns.open()
        self._progress.settle()

    def _end(self) -> None:
        self._progress.here = None
        campaigns, self._campaigns = self._campaigns, None
        if campaigns is not None:
            campaigns.leave()
