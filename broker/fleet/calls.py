"""``/api/v1/campaigns``: the administrator's (DESIGN §6).

A campaign is made as a draft, and started by a call of its own. ``POST /campaigns/preview`` takes the same body, and
``GET /campaigns/{id}/preview`` none, and both only say whom it would touch. Every call that changes a campaign is
answered when the change is on disk.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType, structs
from twisted.internet.defer import Deferred

from broker.fleet.campaign import STATES, Campaign, FromVersions, Pace, Plan, Targets, Text, Version
from broker.fleet.campaigns import Campaigns
from broker.fleet.line import LINE_STATES
from broker.fleet.shapes import (
    CampaignPage,
    CampaignPreview,
    CampaignShape,
    LinePage,
    LineShape,
    Retried,
    campaign_shape,
    candidate_shape,
    line_shape,
)
from broker.fleet.side import DUTY, CampaignSide
from broker.model.errors import Invalid, NotFound
from broker.web.problems import Problem
from broker.web.routes import ADMIN, API, Call, Route

CAMPAIGNS: Final = f"{API}/campaigns"
ONE: Final = f"{CAMPAIGNS}/{{id}}"
Limit = Annotated[int, Meta(ge=1, le=1_000)]
Cursor = Annotated[str, Meta(max_length=512)]


class CampaignFilter(msgspec.Struct, kw_only=True):
    """Which campaigns, and which page."""

    #: Only campaigns in this state: draft, running, paused, stopped, finished or cancelled.
    state: Text | None = None
    #: Entries of one page at most.
    limit: Limit = 100
    #: The ``next`` of the page before; left out, the first page.
    cursor: Cursor | None = None


class LineFilter(msgspec.Struct, kw_only=True):
    """Which devices, and which page."""

    #: Only those in this state: waiting, queued, sent, accepted, rebooted, confirmed, failed, no_answer or skipped.
    state: Text | None = None
    #: Entries of one page at most.
    limit: Limit = 100
    #: The ``next`` of the page before; left out, the first page.
    cursor: Cursor | None = None


class CampaignPreviewQuery(msgspec.Struct, kw_only=True):
    """Which page."""

    #: Entries of one page at most.
    limit: Limit = 100
    #: The ``next`` of the page before; left out, the first page.
    cursor: Cursor | None = None


class CampaignChange(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """What is left out stays; what is given is given whole. Of a campaign that has begun: name, pace, a greater
    percentage.
    """

    #: Its name for people.
    name: Text | UnsetType = UNSET
    #: How fast, and when.
    pace: Pace | UnsetType = UNSET
    #: Which devices it is aimed at.
    targets: Targets | UnsetType = UNSET
    #: Which versions are updated.
    from_versions: FromVersions | UnsetType = UNSET
    #: Whether a backup of each device is made before; gizwits has none.
    backup: bool | UnsetType = UNSET
    #: Whether a device that reports the version counts only if it has fetched the image from here.
    require_fetch: bool | UnsetType = UNSET
    #: What is brought. gateway88: the name or id of a file; gizwits: the number of a firmware image.
    image: Annotated[str, Meta(min_length=1, max_length=255)] | UnsetType = UNSET
    #: What a device reports that runs the image; null: as the image says, which of gateway88 it does not.
    version: Version | UnsetType | None = UNSET


class CampaignPath(msgspec.Struct):
    """Which campaign."""

    #: The id that the broker gave the campaign.
    id: str


class LinePath(CampaignPath):
    """Which device of it."""

    #: The id of the device.
    device: str


class Calls:
    """The handlers."""

    def __init__(self, side: CampaignSide) -> None:
        self._side = side

    @property
    def _campaigns(self) -> Campaigns:
        return self._side.campaigns

    async def add_campaign(self, call: Call) -> Any:
        """Make a campaign, as a draft; nothing happens before it is started"""
        return self._shape(call, await self._campaigns.create(call.body))

    async def list_campaigns(self, call: Call) -> Any:
        """Campaigns, the newest first"""
        wish: CampaignFilter = call.query
        if wish.state is not None and wish.state not in STATES:
            raise Invalid(f"query: state is one of {', '.join(STATES)}")
        found = [one for one in self._campaigns.all() if wish.state in (None, one.state)]
        if wish.cursor is not None:
            ids = [one.id for one in found]
            if wish.cursor not in ids:
                raise Invalid("this cursor was not given by this list of campaigns, or its campaign is gone")
            found = found[ids.index(wish.cursor) + 1 :]
        shown = found[: wish.limit]
        following = shown[-1].id if len(found) > wish.limit else None
        return CampaignPage([self._shape(call, one) for one in shown], following)

    async def get_campaign(self, call: Call) -> Any:
        """A campaign and how it stands"""
        return self._shape(call, self._campaigns.get(call.path["id"]))

    async def change_campaign(self, call: Call) -> Any:
        """Change a campaign: all of a draft; later its name, its pace, and a percentage upwards"""
        given = {name: value for name, value in structs.asdict(call.body).items() if value is not UNSET}

        def changed(plan: Plan) -> Plan:
            return structs.replace(plan, **given)

        return self._shape(call, await self._campaigns.change(call.path["id"], changed))

    async def delete_campaign(self, call: Call) -> Any:
        """Delete a draft, or a campaign that is over, with its lines"""
        await self._campaigns.remove(call.path["id"])

    async def preview_campaign(self, call: Call) -> Any:
        """Whom a campaign would touch now, and whom not and why; nothing is changed"""
        return await self._preview(call, call.body)

    async def preview_draft(self, call: Call) -> Any:
        """Whom this campaign would touch if it were started now"""
        return await self._preview(call, self._campaigns.get(call.path["id"]).plan)

    async def list_campaign_lines(self, call: Call) -> Any:
        """The devices of a campaign and what has become of each"""
        wish: LineFilter = call.query
        if wish.state is not None and wish.state not in LINE_STATES:
            raise Invalid(f"query: state is one of {', '.join(LINE_STATES)}")
        campaign = self._campaigns.get(call.path["id"])
        await self._campaigns.store.settled(campaign.id)  # so that the lines are no older than the counts
        found = await self._campaigns.store.page(campaign.id, wish.state, wish.limit + 1, wish.cursor)
        shown = found[: wish.limit]
        # A line may just have changed its state: its old place is then as good as gone.
        items = [line_shape(line) for line in shown if wish.state in (None, line.state)]
        return LinePage(items, shown[-1].device if len(found) > wish.limit else None)

    async def get_campaign_line(self, call: Call) -> Any:
        """What has become of one device"""
        campaign = self._campaigns.get(call.path["id"])
        line = await self._campaigns.store.line(campaign.id, call.path["device"])
        if line is None:
            raise NotFound(f"the campaign has no device {call.path['device']!r}"[:300])
        return line_shape(line)

    async def start_campaign(self, call: Call) -> Any:
        """Start a draft"""
        return await self._act(call, self._campaigns.start)

    async def pause_campaign(self, call: Call) -> Any:
        """Begin no more devices for now; those at work go on"""
        return await self._act(call, self._campaigns.pause)

    async def resume_campaign(self, call: Call) -> Any:
        """Go on with a campaign that was paused or has stopped"""
        return await self._act(call, self._campaigns.resume)

    async def cancel_campaign(self, call: Call) -> Any:
        """Begin no more devices, ever; those at work go on to their end"""
        return await self._act(call, self._campaigns.cancel)

    async def retry_campaign(self, call: Call) -> Any:
        """Try again the devices that have failed or did not answer"""
        count = await self._campaigns.retry(call.path["id"])
        return Retried(retried=count, campaign=self._shape(call, self._campaigns.get(call.path["id"])))

    async def _act(self, call: Call, act: Callable[[str], Deferred[Campaign]]) -> CampaignShape:
        return self._shape(call, await act(call.path["id"]))

    async def _preview(self, call: Call, plan: Plan) -> CampaignPreview:
        wish: CampaignPreviewQuery = call.query
        found, cursor = await self._campaigns.preview(plan, wish.cursor)
        candidates = list(found)
        while len(candidates) <= wish.limit and cursor is not None:
            found, cursor = await self._campaigns.preview(plan, cursor)
            candidates += found
        shown = candidates[: wish.limit]
        following = shown[-1].device if len(candidates) > wish.limit else None
        answer = CampaignPreview(items=[candidate_shape(one) for one in shown], next=following)
        if wish.cursor is None:
            touched, total = sum(one.refusal is None for one in candidates), len(candidates)
            while cursor is not None:
                found, cursor = await self._campaigns.preview(plan, cursor)
                touched += sum(one.refusal is None for one in found)
                total += len(found)
            answer.touched, answer.skipped = touched, total - touched
        return answer

    def _shape(self, call: Call, campaign: Campaign) -> CampaignShape:
        counts, tally = self._campaigns.figures(campaign)
        return campaign_shape(campaign, counts, tally, call.core.clock())

    def routes(self) -> list[Route]:
        """All of them."""
        refused: dict[int, tuple[Any, str]] = {409: (Problem, "The campaign is in another state")}
        actions = [
            Route("POST", f"{ONE}/{name}", handler, ADMIN, answers=CampaignShape, also=refused, path_shape=CampaignPath)
            for name, handler in (
                ("start", self.start_campaign),
                ("pause", self.pause_campaign),
                ("resume", self.resume_campaign),
                ("cancel", self.cancel_campaign),
            )
        ]
        routes = [
            Route("GET", CAMPAIGNS, self.list_campaigns, ADMIN, query=CampaignFilter, answers=CampaignPage),
            Route("POST", CAMPAIGNS, self.add_campaign, ADMIN, body=Plan, answers=CampaignShape, status=201),
            Route(
                "POST",
                f"{CAMPAIGNS}/preview",
                self.preview_campaign,
                ADMIN,
                body=Plan,
                query=CampaignPreviewQuery,
                answers=CampaignPreview,
            ),
            Route("GET", ONE, self.get_campaign, ADMIN, answers=CampaignShape, path_shape=CampaignPath),
            Route(
                "PATCH",
                ONE,
                self.change_campaign,
                ADMIN,
                body=CampaignChange,
                answers=CampaignShape,
                also=refused,
                path_shape=CampaignPath,
            ),
            Route("DELETE", ONE, self.delete_campaign, ADMIN, status=204, also=refused, path_shape=CampaignPath),
            Route(
                "GET",
                f"{ONE}/preview",
                self.preview_draft,
                ADMIN,
                query=CampaignPreviewQuery,
                answers=CampaignPreview,
                path_shape=CampaignPath,
            ),
            Route(
                "GET",
                f"{ONE}/lines",
                self.list_campaign_lines,
                ADMIN,
                query=LineFilter,
                answers=LinePage,
                path_shape=CampaignPath,
            ),
            Route(
                "GET", f"{ONE}/lines/{{device}}", self.get_campaign_line, ADMIN, answers=LineShape, path_shape=LinePath
            ),
            *actions,
            Route(
                "POST",
                f"{ONE}/retry",
                self.retry_campaign,
                ADMIN,
                answers=Retried,
                also=refused,
                path_shape=CampaignPath,
            ),
        ]
        return [replace(route, duty=DUTY) for route in routes]
