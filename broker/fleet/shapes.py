"""Campaigns and lines as the API shows them. Times are UNIX seconds, rounded to milliseconds."""

from __future__ import annotations

import msgspec

from broker.fleet.campaign import Campaign, FromVersions, Pace, State, Targets
from broker.fleet.line import LINE_STATES, Line, Tally
from broker.fleet.selection import Candidate
from broker.model.windows import next_opening


class CampaignShape(msgspec.Struct, kw_only=True):
    """A campaign and how it stands. ``reason``: why it has stopped.

    ``counts``: lines by state. ``total``: all of them. ``ended``: of those that were updated it is known how it went.
    ``failing``: of those, which have failed, be it that they are tried again. ``prepared``: every target has its line.
    ``closed``: nothing will change any more. ``opens_at``: when the next window opens, while none is open.
    """

    id: str
    name: str
    protocol: str
    image: str
    version: str
    targets: Targets
    from_versions: FromVersions
    pace: Pace
    backup: bool
    require_fetch: bool
    state: State
    reason: str
    prepared: bool
    closed: bool
    created_at: float
    started_at: float | None
    ended_at: float | None
    opens_at: float | None
    counts: dict[str, int]
    total: int
    ended: int
    failing: int


class CampaignPage(msgspec.Struct):
    """One page of a list, the newest first; ``next`` is the cursor of the following one."""

    items: list[CampaignShape]
    next: str | None


class StepShape(msgspec.Struct, kw_only=True):
    """Something that happened: in which state, and what is to be said to it."""

    at: float
    state: str
    note: str


class LineShape(msgspec.Struct, kw_only=True):
    """A device of a campaign. ``reason``: why it is in its state, since ``since``.

    ``attempt``: how often it was begun. ``version``: what it had then; ``reported``: what it has told since.
    """

    device: str
    state: str
    reason: str
    since: float
    attempt: int
    failures: int
    version: str | None
    reported: str | None
    fetching_at: float | None
    fetched_at: float | None
    not_before: float | None
    history: list[StepShape]


class LinePage(msgspec.Struct):
    """One page of a list, by device; ``next`` is the cursor of the following one."""

    items: list[LineShape]
    next: str | None


class CandidateShape(msgspec.Struct, kw_only=True):
    """A device that a campaign is aimed at. ``touched``: it would be updated; else ``reason`` says why not."""

    device: str
    touched: bool
    reason: str
    version: str | None
    online: bool


class CampaignPreview(msgspec.Struct, kw_only=True):
    """A dry run. ``touched`` and ``skipped`` count all targets, and are there on the first page only."""

    items: list[CandidateShape]
    next: str | None
    touched: int | None = None
    skipped: int | None = None


class Retried(msgspec.Struct, kw_only=True):
    """How many lines wait for another turn."""

    retried: int
    campaign: CampaignShape


def campaign_shape(campaign: Campaign, counts: dict[str, int], tally: Tally | None, now: float) -> CampaignShape:
    """``tally``: of a campaign that is at work; ``counts``: of any."""
    plan = campaign.plan
    failing = counts.get("failed", 0) + counts.get("no_answer", 0) if tally is None else tally.failing
    return CampaignShape(
        id=campaign.id,
        name=plan.name,
        protocol=plan.protocol,
        image=campaign.release.image,
        version=campaign.release.version,
        targets=plan.targets,
        from_versions=plan.from_versions,
        pace=plan.pace,
        backup=plan.backup,
        require_fetch=plan.require_fetch,
        state=campaign.state,  # type: ignore[arg-type]  # one of STATES
        reason=campaign.reason,
        prepared=campaign.prepared,
        closed=campaign.closed,
        created_at=round(campaign.created_at, 3),
        started_at=milliseconds(campaign.started_at),
        ended_at=milliseconds(campaign.ended_at),
        opens_at=None if campaign.closed else next_opening(plan.pace.windows, now),
        counts={state: counts.get(state, 0) for state in LINE_STATES},
        total=sum(counts.values()),
        ended=counts.get("confirmed", 0) + failing,
        failing=failing,
    )


def line_shape(line: Line) -> LineShape:
    return LineShape(
        device=line.device,
        state=line.state,
        reason=line.reason,
        since=round(line.since, 3),
        attempt=line.attempt,
        failures=line.failures,
        version=line.version,
        reported=line.reported,
        fetching_at=milliseconds(line.fetching_at),
        fetched_at=milliseconds(line.fetched_at),
        not_before=milliseconds(line.not_before),
        history=[StepShape(at=step.at, state=step.state, note=step.note) for step in line.history],
    )


def candidate_shape(one: Candidate) -> CandidateShape:
    return CandidateShape(
        device=one.device,
        touched=one.refusal is None,
        reason=one.refusal or "",
        version=one.version,
        online=one.online,
    )


def milliseconds(at: float | None) -> float | None:
    return None if at is None else round(at, 3)
