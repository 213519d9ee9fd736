"""One open campaign at work: when it may begin devices, when it stops, and when it ends.

A device begins if the campaign is running, every target has its line, a window is open and nothing is being done with
all lines at once; whose turn it is then, `turns` says. What becomes of it is in `outcomes`.

Times are asked of the wall clock anew with each tick (windows, end date), or are monotonic (everything that takes so
many seconds), so that a clock that jumps neither skips nor repeats anything. After a jump an end date has to wait until
the clock has been steady for a while.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, ClassVar, Final

from msgspec import structs
from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger

from broker.core import Core
from broker.fleet import campaign as c
from broker.fleet import line as states
from broker.fleet import slices
from broker.fleet.campaign import Campaign
from broker.fleet.line import AT_WORK, Line
from broker.fleet.lines import Lines
from broker.fleet.outcomes import WAS_CANCELLED, Outcomes
from broker.fleet.parts import Parts
from broker.fleet.selection import is_online
from broker.fleet.settings import CampaignSettings
from broker.fleet.store import CampaignStore
from broker.fleet.turns import Turns
from broker.fleet.waiting import Waiting
from broker.fleet.work import Roster, Work
from broker.model.errors import BrokerError
from broker.model.interfaces import IUpdater
from broker.model.windows import is_open
from broker.storage.deferred import deferred

#: A minute, in which a rate is counted.
MINUTE: Final = 60.0


class Run:
    """``closed(run)`` is called when nothing of the campaign will change by itself any more, and that is on disk."""

    log: ClassVar[Logger] = Logger(namespace="broker.fleet")

    def __init__(
        self,
        core: Core,
        campaign: Campaign,
        updater: IUpdater,
        store: CampaignStore,
        roster: Roster,
        settings: Callable[[], CampaignSettings],
        closed: Callable[[Run], None],
    ) -> None:
        self.campaign = campaign
        self.parts = Parts(
            core=core,
            campaign=campaign,
            updater=updater,
            store=store,
            lines=Lines(campaign.id, store, core.clock, self._note),
            waiting=Waiting(campaign.id),
            roster=roster,
            settings=settings,
            place_free=self._place_free,
        )
        self.tally = self.parts.lines.tally
        self.outcomes = Outcomes(self.parts)
        self.turns = Turns(self.parts, self.outcomes, self._may_begin)
        #: One call that changes the campaign at a time.
        self.lock = DeferredLock()
        #: Something has changed since somebody was last told.
        self.news = True
        self._core = core
        self._closed = closed
        self._open = False
        #: The campaign's record is not on disk as it is here.
        self._unsaved = False
        #: Something that is done with all lines.
        self._chore: Deferred[None] | None = None
        self._removed: set[str] = set()
        self._look_soon = False
        self._ended = False
        self._halted = False
        #: Its lines are being changed by a call.
        self._busy = False

    # -- from disk -------------------------------------------------------------------------------------------------

    @deferred
    async def load(self) -> None:
        """Take up the lines of an earlier life. Fails with Unavailable."""
        now, at = self._core.monotonic(), self._core.clock()
        async for page in slices.every_line(self.parts):
            for line in page:
                self._take_up(line, now, at)

    def _take_up(self, line: Line, now: float, at: float) -> None:
        self.tally.add(line)
        for step in line.history:
            if step.state == states.QUEUED and at - MINUTE < step.at <= at:
                self.turns.rate.note(now - (at - step.at))
        if line.state not in states.OVER:
            self.parts.roster.taken[line.device] = self.campaign.id
        if line.state == states.WAITING:
            most = self.campaign.plan.pace.retries.after
            left = 0.0 if line.not_before is None else min(max(0.0, line.not_before - at), most)
            self.parts.waiting.add(line.device, now + left)
        if line.state in AT_WORK or (line.attempt and line.failing):
            order = self.parts.order(line, again=line.state != states.QUEUED)
            self.outcomes.taken_up(Work(self.campaign.id, line, order, self.outcomes))

    @deferred
    async def go_on(self) -> None:
        """Have the orders of an earlier life carried on, before devices connect."""
        for work in list(self.outcomes.at_work.values()):
            await self.parts.updater.begin(work.order)
        self._judge()
        looking = Deferred.fromCoroutine(slices.removed(self.parts))
        looking.addCallbacks(self._removed.update, self._chore_failed)

    # -- what is asked for -----------------------------------------------------------------------------------------

    @deferred
    async def become(self, **fields: Any) -> None:
        """Go on with these fields of the campaign, once they are on disk. Fails with Unavailable: nothing changed."""
        changed = structs.replace(self.campaign, **fields)
        await self.parts.store.save_campaign(changed)
        for name in fields:
            setattr(self.campaign, name, getattr(changed, name))
        if self.campaign != changed:  # it has stopped by itself meanwhile, and that was written first
            await self.parts.store.save_campaign(self.campaign)
        self._ended = self._unsaved = False
        self.parts.waiting.opened(self._core.monotonic(), self.campaign.plan.pace.spread)
        self._note()
        self._place_free()

    @deferred
    async def retry(self) -> int:
        """Have lines that have failed wait again, and go on unless it is paused; how many. Fails with Unavailable.

        What has failed and is not tried again does not count for the next stop.
        """
        self._busy = True
        try:
            if self.campaign.state != c.PAUSED:
                await self.become(state=c.RUNNING, reason="", closed=False, ended_at=None, counts={})
            count = await slices.retry(self.parts)
            await self.become(forgiven=(self.tally.failing, self.tally.ended))
        finally:
            self._busy = False
        self._place_free()
        return count

    @deferred
    async def hold(self, state: str) -> None:
        """Begin nothing from now on. Fails with Unavailable: it holds, but that is not on disk yet."""
        self._halt(state, "")
        self._unsaved = True
        await self.parts.store.save_campaign(self.campaign)
        self._unsaved = False

    # -- time ------------------------------------------------------------------------------------------------------

    def tick(self, steady: bool) -> None:
        """Called once a second. ``steady``: the clock has not jumped lately."""
        self.parts.lines.mend()
        if self._unsaved:
            self._save()
        if self._ended:
            return
        self._look_at_clock()
        self.outcomes.overdue(self._core.monotonic())
        if self._chore is None:
            self._see_to_lines(steady)
        self.turns.fill()
        self._maybe_finish()

    def _look_at_clock(self) -> None:
        """Whether a window is open."""
        pace = self.campaign.plan.pace
        opened = is_open(pace.windows, self._core.clock())
        if opened and not self._open:
            self.parts.waiting.opened(self._core.monotonic(), pace.spread)
        self._open = opened

    def _see_to_lines(self, steady: bool) -> None:
        """What has to be done with all lines, or with those whose device is gone."""
        campaign, waiting = self.campaign, self.parts.waiting
        over = self._over(steady)
        if over is not None and waiting and not self.turns.starting:
            self._begin(slices.sweep(self.parts, over))
        elif campaign.state in (c.RUNNING, c.PAUSED) and not campaign.prepared:
            self._begin(slices.prepare(self.parts))
        else:
            removed, self._removed = self._removed, set()
            for device in removed:
                if device in waiting:
                    self.turns.look_at(device)

    def _over(self, steady: bool) -> Callable[[Line], str] | None:
        """Why lines that wait will not have their turn any more; None: they will."""
        if self.campaign.state == c.CANCELLED:
            return lambda line: WAS_CANCELLED
        ends_at = self.campaign.plan.pace.ends_at
        if self.campaign.state != c.RUNNING or ends_at is None or not steady or self._core.clock() < ends_at:
            return None
        return lambda line: (
            "its turn did not come before the end of the campaign"
            if is_online(self._core, line.device)
            else "it was offline until the end of the campaign"
        )

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        chore = self._chore = Deferred.fromCoroutine(work)
        chore.addErrback(self._chore_failed)
        chore.addBoth(self._chore_done)

    def _chore_failed(self, failure: Any) -> None:
        if failure.check(BrokerError) is None:
            self.log.failure("campaign {id}: fault in its lines", failure, id=self.campaign.id)
        else:
            self.log.warn("campaign {id} waits: {why}", id=self.campaign.id, why=failure.getErrorMessage())

    def _chore_done(self, _: Any) -> None:
        self._chore = None
        self._note()
        self._place_free()

    def _may_begin(self) -> bool:
        campaign = self.campaign
        ready = campaign.state == c.RUNNING and campaign.prepared
        return ready and self._open and self._chore is None and not (self._halted or self._busy)

    def _place_free(self) -> None:
        """Look for the next device, at the end of this turn."""
        self._judge()
        if not self._look_soon:
            self._look_soon = True
            self._core.reactor.callLater(0, self._look)

    def _look(self) -> None:
        self._look_soon = False
        if not self._ended:
            self._look_at_clock()
            self.turns.fill()
            self._maybe_finish()

    # -- its end ---------------------------------------------------------------------------------------------------

    def _judge(self) -> None:
        """Stop if too many have failed."""
        campaign = self.campaign
        stop = campaign.plan.pace.stop
        if campaign.state != c.RUNNING or stop is None or self._busy:
            return
        failed, ended = self.tally.failing - campaign.forgiven[0], self.tally.ended - campaign.forgiven[1]
        if stop.reached(failed, ended):
            self._halt(c.STOPPED, f"{failed} of {ended} devices have failed")
            self._save()
            self._core.events.emit("campaign_stopped", None, self.summary(), campaign.plan.protocol)

    def _halt(self, state: str, reason: str) -> None:
        self.campaign.state, self.campaign.reason = state, reason
        self._note()
        for work in list(self.outcomes.at_work.values()):
            if work.line.state == states.QUEUED:
                self.parts.updater.withdraw(work.order)
        self._place_free()

    def _maybe_finish(self) -> None:
        campaign = self.campaign
        if self._ended or self._halted or self._busy or self._chore is not None or not self.parts.lines.settled:
            return
        if self.parts.waiting or self.outcomes.at_work or self.turns.starting:
            return
        if campaign.state == c.RUNNING and campaign.prepared:
            campaign.state = c.FINISHED
            self._core.events.emit("campaign_finished", None, self.summary(), campaign.plan.protocol)
        elif campaign.state != c.CANCELLED:
            return
        self._ended = True
        campaign.closed, campaign.ended_at = True, self._core.clock()
        campaign.counts = dict(self.tally.by_state)
        self._note()
        self._save()

    def _save(self) -> None:
        self._unsaved = False
        self.parts.store.save_campaign(self.campaign).addCallbacks(self._saved, self._not_saved)

    def _saved(self, _: Any) -> None:
        if self._ended:
            self._closed(self)

    def _not_saved(self, failure: Any) -> None:
        failure.trap(BrokerError)
        self._unsaved = True

    def halt(self) -> None:
        """The broker stops: begin nothing more. What is at work goes on in its next life."""
        self._halted = True

    # -- what is told ----------------------------------------------------------------------------------------------

    def _note(self) -> None:
        self.news = True

    def came(self, device: str) -> None:
        """A device is online."""
        if device in self.parts.waiting:
            self.parts.waiting.came(device, self._core.monotonic())
            self._place_free()

    def removed(self, device: str) -> None:
        """A device is no longer registered."""
        self._removed.add(device)
        work = self.outcomes.at_work.get(device)
        if work is not None:
            self.outcomes.failed(work, "its device was removed")

    def summary(self) -> dict[str, Any]:
        """For events and the stream."""
        campaign = self.campaign
        return {
            "id": campaign.id,
            "name": campaign.plan.name,
            "protocol": campaign.plan.protocol,
            "version": campaign.release.version,
            "state": campaign.state,
            "reason": campaign.reason,
            "counts": {state: count for state, count in self.tally.by_state.items() if count},
        }
