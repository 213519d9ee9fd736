"""Campaigns and lines as the API shows them. Times are UNIX seconds, rounded to milliseconds."""

from __future__ import annotations

import msgspec

from broker.fleet.campaign import Campaign, FromVersions, Pace, State, Targets
from broker.fleet.line import LINE_STATES, Line, Tally
from broker.fleet.selection import Candidate
from broker.model.windows import next_opening


class CampaignShape(msgspec.Struct, kw_only=True):
    """A campaign and how it stands."""

    #: The id that the broker gave it.
    id: str
    #: Its name for people; may be empty.
    name: str
    #: The protocol of its devices.
    protocol: str
    #: The image that it brings: the name of a file, or the number of a firmware image.
    image: str
    #: What a device reports that runs the image.
    version: str
    #: Which devices it is aimed at.
    targets: Targets
    #: Which versions are updated.
    from_versions: FromVersions
    #: How fast, and when.
    pace: Pace
    #: Whether a backup of each device is made before.
    backup: bool
    #: Whether a device that reports the version counts only if it has fetched the image from here.
    require_fetch: bool
    #: Where it stands.
    state: State
    #: Why it is in this state, where nobody has asked for that; else empty.
    reason: str
    #: Whether every target has its line.
    prepared: bool
    #: Whether nothing of it will change by itself any more.
    closed: bool
    #: When it was made (UNIX seconds).
    created_at: float
    #: When it was started (UNIX seconds); null: not yet.
    started_at: float | None
    #: When it came to its end (UNIX seconds); null: not yet.
    ended_at: float | None
    #: When the next window opens (UNIX seconds); null: one is open, it needs none, or it is over.
    opens_at: float | None
    #: How many of its lines are in each state.
    counts: dict[str, int]
    #: How many lines it has.
    total: int
    #: Of how many devices that were updated it is known how it went.
    ended: int
    #: How many of those have failed, be it that they will be tried again.
    failing: int


class CampaignPage(msgspec.Struct):
    """One page of a list, the newest first."""

    #: The campaigns of this page.
    items: list[CampaignShape]
    #: The ``cursor`` of the following page; null on the last one.
    next: str | None


class StepShape(msgspec.Struct, kw_only=True):
    """Something that happened to a device of a campaign."""

    #: When (UNIX seconds).
    at: float
    #: The state that its line was in then.
    state: str
    #: What is to be said to it, for people; may be empty.
    note: str


class LineShape(msgspec.Struct, kw_only=True):
    """A device of a campaign."""

    #: Its id.
    device: str
    #: waiting, queued, sent, accepted, rebooted, confirmed, failed, no_answer or skipped.
    state: str
    #: Why it is in that state, for people; may be empty.
    reason: str
    #: Since when it is (UNIX seconds).
    since: float
    #: How many orders it was given.
    attempt: int
    #: How many of them have failed, since somebody last had it tried again.
    failures: int
    #: The version that it had when its turn came; null: not known.
    version: str | None
    #: The version that it has told since; null: none.
    reported: str | None
    #: When it began to fetch the image (UNIX seconds); null: it has not.
    fetching_at: float | None
    #: When it had all of the image (UNIX seconds); null: it has not.
    fetched_at: float | None
    #: When it may be tried again (UNIX seconds); null: it does not wait for that.
    not_before: float | None
    #: What happened, the oldest first; of very many the last.
    history: list[StepShape]


class LinePage(msgspec.Struct):
    """One page of a list, by device. It may be short though there are more."""

    #: The devices of this page.
    items: list[LineShape]
    #: The ``cursor`` of the following page; null on the last one.
    next: str | None


class CandidateShape(msgspec.Struct, kw_only=True):
    """A device that a campaign is aimed at."""

    #: Its id.
    device: str
    #: Whether it would be updated.
    touched: bool
    #: Why it would not be, for people; else empty.
    reason: str
    #: The version that it has; null: not known.
    version: str | None
    #: Whether it is online now.
    online: bool


class CampaignPreview(msgspec.Struct, kw_only=True):
    """A dry run."""

    #: The devices of this page, by id.
    items: list[CandidateShape]
    #: The ``cursor`` of the following page; null on the last one.
    next: str | None
    #: How many would be updated, of all; null on all pages but the first.
    touched: int | None = None
    #: How many would not be, of all; null on all pages but the first.
    skipped: int | None = None


class Retried(msgspec.Struct, kw_only=True):
    """Devices that wait for another turn."""

    #: How many.
    retried: int
    #: The campaign, as it is now.
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
