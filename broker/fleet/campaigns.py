"""All campaigns: made, started, held, ended; and whom to tell when something is told of a device.

Those that are open are at work as a `Run` each, with their lines counted in memory; of the others only the campaign
itself is. A device is at work for one campaign at a time: it is skipped by the second one, with that reason.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final
from uuid import uuid4

from msgspec import structs
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from zope.interface import implementer

from broker.core import Core
from broker.fleet import campaign as c
from broker.fleet.campaign import Campaign, Plan
from broker.fleet.line import LINE_STATES, Tally
from broker.fleet.run import Run
from broker.fleet.selection import Candidate, Selection
from broker.fleet.settings import CampaignSettings
from broker.fleet.store import CampaignStore
from broker.fleet.work import Roster, Work
from broker.model.errors import BrokerError, Conflict, Invalid, LimitExceeded, NotFound
from broker.model.interfaces import IConsumer, IUpdateProgress, IUpdater
from broker.model.messages import Command, Presence, Uplink
from broker.model.updates import Release
from broker.storage.deferred import deferred
from broker.storage.registry import Change

#: Seconds by which wall clock and monotonic clock may drift apart from one tick to the next.
JUMP: Final = 30.0


@implementer(IUpdateProgress, IConsumer)
class Campaigns:
    """`open` it before devices connect, call `tick` once a second. ``progress``: what updaters follow already, and
    tells us; without one they follow us.
    """

    log: ClassVar[Logger] = Logger(namespace="broker.fleet")

    def __init__(self, core: Core, settings: CampaignSettings, progress: IUpdateProgress | None = None) -> None:
        self.settings = settings
        self._progress = progress
        self._core = core
        self._store = CampaignStore(core.storage)
        self._kept: dict[str, Campaign] = {}
        self._runs: dict[str, Run] = {}
        self._roster = Roster()
        self._followed: set[str] = set()
        #: Nothing is begun any more.
        self.halted = False
        #: Wall clock less monotonic clock, and when that last changed.
        self._offset = core.clock() - core.monotonic()
        self._jumped_at = float("-inf")
        #: Orders given by campaigns that are closed by now.
        self._begun_before = 0

    # -- its life --------------------------------------------------------------------------------------------------

    @deferred
    async def open(self) -> None:
        """Take up what an earlier life, or another process, has left. Fails with Unavailable."""
        for campaign in await self._store.campaigns():
            self._kept[campaign.id] = campaign
            if campaign.state == c.DRAFT or campaign.closed:
                continue
            if campaign.plan.protocol not in self._core.updaters:
                self.log.warn(
                    "campaign {id} waits: {protocol} is not running", id=campaign.id, protocol=campaign.plan.protocol
                )
                continue
            await self._run_of(campaign).load()
        for run in list(self._runs.values()):
            await run.go_on()
        self._core.router.listen_quietly(self)
        self._core.whereabouts.listeners.append(self.presence)
        self._core.registry.on_change.append(self._changed)

    def tick(self) -> None:
        """See to what time brings."""
        if self.halted:
            return
        now = self._core.monotonic()
        offset = self._core.clock() - now
        if abs(offset - self._offset) > JUMP:
            self.log.warn("the clock has jumped by {seconds:.0f} s", seconds=offset - self._offset)
            self._jumped_at = now
        self._offset = offset
        steady = now - self._jumped_at >= self.settings.clock_settle
        for run in list(self._runs.values()):
            run.tick(steady)
        self._tell()

    def halt(self) -> None:
        """The broker stops."""
        self.halted = True
        for run in self._runs.values():
            run.halt()

    def leave(self) -> None:
        """Another process has the campaigns now: hear and do nothing more."""
        self.halt()
        self._core.router.ignore_quietly(self)
        for told in (self._core.whereabouts.listeners, self._core.registry.on_change):
            mine: Any = self.presence if told is self._core.whereabouts.listeners else self._changed
            if mine in told:
                told.remove(mine)

    def counters(self) -> dict[str, float]:
        """For the metrics."""
        figures: dict[str, float] = {f"campaigns_{state}": 0 for state in c.STATES}
        for campaign in self._kept.values():
            figures[f"campaigns_{campaign.state}"] += 1
        for state in LINE_STATES:
            figures[f"campaign_lines_{state}"] = sum(run.tally.by_state[state] for run in self._runs.values())
        begun = sum(run.turns.begun for run in self._runs.values())
        figures["campaign_orders_total"] = self._begun_before + begun
        return figures

    # -- looking at them -------------------------------------------------------------------------------------------

    def all(self) -> list[Campaign]:
        """The newest first."""
        return sorted(self._kept.values(), key=lambda one: (one.created_at, one.id), reverse=True)

    def get(self, campaign_id: str) -> Campaign:
        """Raises NotFound."""
        campaign = self._kept.get(campaign_id)
        if campaign is None:
            raise NotFound(f"there is no campaign {campaign_id!r}"[:200])
        return campaign

    def figures(self, campaign: Campaign) -> tuple[dict[str, int], Tally | None]:
        """Lines by state; and the tally, while the campaign is at work."""
        run = self._runs.get(campaign.id)
        if run is None:
            return campaign.counts, None
        return run.tally.by_state, run.tally

    @property
    def store(self) -> CampaignStore:
        """For whoever wants to see lines."""
        return self._store

    @deferred
    async def preview(self, plan: Plan, cursor: str | None) -> tuple[list[Candidate], str | None]:
        """Some of those whom a campaign would touch, and not touch, now; and where to go on. As `create` fails."""
        release = await self._release(plan)
        selection = Selection(self._core, self._updater(plan), plan, release, self._roster.taken.get)
        return await selection.page(cursor)

    # -- changing them ---------------------------------------------------------------------------------------------

    @deferred
    async def create(self, plan: Plan) -> Campaign:
        """A draft. Fails with Invalid, NotFound, Conflict, LimitExceeded, Unavailable."""
        if len(self._kept) >= self.settings.max_campaigns:
            raise LimitExceeded(
                f"there are {self.settings.max_campaigns} campaigns already; delete old ones",
                limit="campaigns.max_campaigns",
            )
        release = await self._release(plan)
        campaign = Campaign(id=str(uuid4()), plan=plan, release=release, created_at=self._core.clock())
        await self._store.save_campaign(campaign)
        self._kept[campaign.id] = campaign
        return campaign

    @deferred
    async def start(self, campaign_id: str) -> Campaign:
        """A draft begins. Fails as the others, and with what `create` fails with."""
        campaign = self._in_state(campaign_id, c.DRAFT)
        release = await self._release(campaign.plan)
        run = self._run_of(campaign)
        async with run.lock:
            self._in_state(campaign_id, c.DRAFT)
            await run.become(state=c.RUNNING, release=release, started_at=self._core.clock())
        return campaign

    @deferred
    async def pause(self, campaign_id: str) -> Campaign:
        """Begin nothing more for now; what is at work goes on."""
        campaign = self._in_state(campaign_id, c.RUNNING)
        await self._run_of(campaign).hold(c.PAUSED)
        return campaign

    @deferred
    async def resume(self, campaign_id: str) -> Campaign:
        """Go on. What had failed when it stopped does not count for the next stop."""
        campaign = self._in_state(campaign_id, c.PAUSED, c.STOPPED)
        run = self._run_of(campaign)
        async with run.lock:
            self._in_state(campaign_id, c.PAUSED, c.STOPPED)
            forgiven = campaign.forgiven
            if campaign.state == c.STOPPED:
                forgiven = (run.tally.failing, run.tally.ended)
            await run.become(state=c.RUNNING, reason="", forgiven=forgiven)
        return campaign

    @deferred
    async def cancel(self, campaign_id: str) -> Campaign:
        """Begin nothing more, ever; what is at work ends."""
        campaign = self._in_state(campaign_id, c.DRAFT, c.RUNNING, c.PAUSED, c.STOPPED)
        await self._run_of(campaign).hold(c.CANCELLED)
        return campaign

    @deferred
    async def retry(self, campaign_id: str) -> int:
        """Try again what has failed or did not answer; how many. A campaign that had ended, or stopped, runs again."""
        states = (c.RUNNING, c.PAUSED, c.STOPPED, c.FINISHED)
        campaign = self._in_state(campaign_id, *states)
        run = self._run_of(campaign)
        async with run.lock:
            self._in_state(campaign_id, *states)
            try:
                if campaign.closed:
                    await run.load()
                return await run.retry()
            except BrokerError:
                if campaign.closed:
                    self._forget(run)
                raise

    @deferred
    async def change(self, campaign_id: str, change: Callable[[Plan], Plan]) -> Campaign:
        """Another plan: of a draft, anything; else its pace, its name, and more of its targets."""
        campaign = self._in_state(campaign_id, c.DRAFT, c.RUNNING, c.PAUSED, c.STOPPED)
        plan = change(campaign.plan)
        release = await self._release(plan) if campaign.state == c.DRAFT else campaign.release
        self._check(plan)
        if campaign.state == c.DRAFT:
            changed = structs.replace(campaign, plan=plan, release=release)
            await self._store.save_campaign(changed)
            self._kept[campaign_id] = changed
            return changed
        grown = _grown(campaign.plan, plan)
        run = self._run_of(campaign)
        async with run.lock:
            await run.become(plan=plan, prepared=campaign.prepared and not grown)
        return campaign

    @deferred
    async def remove(self, campaign_id: str) -> None:
        """Forget a draft, or a campaign that is over, with its lines."""
        campaign = self.get(campaign_id)
        if campaign.state != c.DRAFT and not campaign.closed:
            raise Conflict(f"the campaign is {campaign.state}; cancel it, and wait until what is at work has ended")
        await self._store.remove(campaign_id)
        self._kept.pop(campaign_id, None)

    # -- IUpdateProgress -------------------------------------------------------------------------------------------

    def moved(self, order_id: str, step: str) -> None:
        self._about(order_id, lambda work: work.outcomes.moved(work, step))

    def returned(self, order_id: str, why: str) -> None:
        self._about(order_id, lambda work: work.outcomes.returned(work, why))

    def failed(self, order_id: str, why: str) -> None:
        self._about(order_id, lambda work: work.outcomes.failed(work, why))

    def unanswered(self, order_id: str) -> None:
        self._about(order_id, lambda work: work.outcomes.unanswered(work))

    def fetching(self, order_id: str) -> Deferred[None]:
        work = self._roster.by_order.get(order_id)
        return succeed(None) if work is None else work.outcomes.fetching(work)

    def fetched(self, order_id: str) -> None:
        self._about(order_id, lambda work: work.outcomes.fetched(work))

    def exchanged(self, device_id: str, why: str) -> None:
        work = self._roster.by_device.get(device_id)
        if work is not None:
            work.outcomes.exchanged(work, why)

    def reported(self, device_id: str, info: dict[str, Any]) -> Deferred[None]:
        work = self._roster.by_device.get(device_id)
        return succeed(None) if work is None else work.outcomes.reported(work, info)

    def _about(self, order_id: str, tell: Callable[[Work], None]) -> None:
        work = self._roster.by_order.get(order_id)
        if work is not None:
            tell(work)

    # -- IConsumer -------------------------------------------------------------------------------------------------

    def uplink(self, message: Uplink) -> None:
        """Of no interest."""

    def command(self, change: Command) -> None:
        """Of no interest: updaters know which commands are theirs."""

    def presence(self, change: Presence) -> None:
        """A device came or went."""
        device = change.device.id
        work = self._roster.by_device.get(device)
        if work is not None:
            (work.outcomes.came if change.online else work.outcomes.went)(work)
        campaign = self._roster.taken.get(device)
        run = None if campaign is None else self._runs.get(campaign)
        if run is not None and change.online:
            run.came(device)

    def _changed(self, change: Change) -> None:
        campaign = self._roster.taken.get(change.id) if change.what == "device_removed" else None
        if campaign is not None and campaign in self._runs:
            self._runs[campaign].removed(change.id)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _tell(self) -> None:
        for run in self._runs.values():
            if run.news:
                run.news = False
                summary = run.summary()
                for announce in self._core.announcements:
                    announce("campaign", summary)

    def _closed(self, run: Run) -> None:
        """It is over: from now on it is only looked at."""
        run.news = True
        self._tell()
        self._begun_before += run.turns.begun
        self._forget(run)

    def _forget(self, run: Run) -> None:
        self._roster.forget(run.campaign.id)
        self._runs.pop(run.campaign.id, None)

    def _run_of(self, campaign: Campaign) -> Run:
        run = self._runs.get(campaign.id)
        if run is None:
            updater = self._updater(campaign.plan)
            run = self._runs[campaign.id] = Run(
                self._core, campaign, updater, self._store, self._roster, lambda: self.settings, self._closed
            )
        return run

    def _updater(self, plan: Plan) -> IUpdater:
        updater: IUpdater | None = self._core.updaters.get(plan.protocol)
        if updater is None:
            known = ", ".join(sorted(self._core.updaters)) or "none is running"
            raise Invalid(f"protocol: campaigns are for devices of: {known}")
        if self._progress is None and plan.protocol not in self._followed:
            self._followed.add(plan.protocol)
            updater.follow(self)
        return updater

    async def _release(self, plan: Plan) -> Release:
        self._check(plan)
        release: Release = await self._updater(plan).find(plan.image, plan.version)
        return release

    def _check(self, plan: Plan) -> None:
        """Raises Invalid."""
        if plan.backup and not self._updater(plan).backs_up:
            raise Invalid(f"backup: {plan.protocol} devices cannot be backed up")
        if plan.pace.concurrency > self.settings.max_concurrency:
            raise Invalid(f"pace: concurrency is at most {self.settings.max_concurrency}")
        ends_at = plan.pace.ends_at
        if ends_at is not None and ends_at <= self._core.clock():
            raise Invalid("pace: ends_at is over already")

    def _in_state(self, campaign_id: str, *allowed: str) -> Campaign:
        """Raises NotFound, Conflict."""
        campaign = self.get(campaign_id)
        if campaign.state not in allowed:
            raise Conflict(f"the campaign is {campaign.state}; for this it has to be {' or '.join(allowed)}")
        return campaign


def _grown(old: Plan, new: Plan) -> bool:
    """Whether a campaign gets more targets. Raises Conflict for anything but that: lines are there already."""
    fixed = {name: getattr(old, name) for name in Plan.__struct_fields__ if name not in ("name", "pace", "targets")}
    for name, value in fixed.items():
        if getattr(new, name) != value:
            raise Conflict(f"{name} cannot be changed any more: the campaign has begun")
    if new.targets == old.targets:
        return False
    same = (new.targets.devices, new.targets.filter) == (old.targets.devices, old.targets.filter)
    if not same or new.targets.percentage < old.targets.percentage:
        raise Conflict("of targets only the percentage can be changed any more, and only upwards")
    return True
