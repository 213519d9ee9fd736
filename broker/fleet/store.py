"""Campaigns and their lines on disk: three tables of records (`broker.storage.records`).

::

    fleet_campaigns   <campaign>                      the campaign
    fleet_lines       <campaign>/<device>             a line
    fleet_states      <campaign>/<state>/<device>     nothing: so that the lines in a state are a page of keys

A line and its place among the states change together, in one write. Each change costs the same however many lines there
are, and those of one turn share a commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
from twisted.internet.defer import Deferred, gatherResults

from broker.fleet.campaign import Campaign
from broker.fleet.line import LINE_STATES, Line
from broker.model.errors import NotFound
from broker.storage.deferred import deferred
from broker.storage.interface import Change, IStorage
from broker.storage.records import Records

CAMPAIGNS: Final = "fleet_campaigns"
LINES: Final = "fleet_lines"
PLACES: Final = "fleet_states"
#: Lines that are read, or written, at once: some milliseconds of work for reactor and disk.
SLICE: Final = 500


class Place(msgspec.Struct):
    """That a line is in a state; the key says it all."""


class CampaignStore:
    """Every method answers when it is on disk, and fails with Unavailable."""

    def __init__(self, storage: IStorage) -> None:
        self._storage = storage
        self._campaigns = Records(storage, CAMPAIGNS, Campaign)
        self._lines = Records(storage, LINES, Line)
        self._places = Records(storage, PLACES, Place)

    @deferred
    async def campaigns(self) -> list[Campaign]:
        """All that are kept."""
        return [campaign for _, campaign in await self._campaigns.all()]

    def save_campaign(self, campaign: Campaign) -> Deferred[None]:
        return self._campaigns.put(campaign.id, campaign)

    # -- lines -----------------------------------------------------------------------------------------------------

    def save(self, campaign: str, changed: Iterable[tuple[Line, str | None]]) -> Deferred[None]:
        """Keep lines, each with the state in which it was before; None: it is new. All of them, or none."""
        changes: list[Change] = []
        for line, before in changed:
            changes.append(self._lines.change(f"{campaign}/{line.device}", line))
            if before == line.state:
                continue
            if before is not None:
                changes.append(self._place(campaign, before, line.device, None))
            changes.append(self._place(campaign, line.state, line.device, Place()))
        return self._storage.write_records(changes)

    def mend(self, campaign: str, line: Line) -> Deferred[None]:
        """Keep a line of which it is not known how much of it is on disk, after a write that failed."""
        changes = [self._lines.change(f"{campaign}/{line.device}", line)]
        changes += [
            self._place(campaign, state, line.device, Place() if state == line.state else None) for state in LINE_STATES
        ]
        return self._storage.write_records(changes)

    def line(self, campaign: str, device: str) -> Deferred[Line | None]:
        """As the writes that were asked for before left it."""
        return self._lines.get(f"{campaign}/{device}")

    @deferred
    async def settled(self, campaign: str) -> None:
        """Every change that was asked for before is on disk, where pages see it; they see no others."""
        await self._campaigns.get(campaign)

    @deferred
    async def page(self, campaign: str, state: str | None, limit: int, after: str | None) -> list[Line]:
        """Lines by device, of one state or of all, behind the device ``after``."""
        if state is None:
            prefix = f"{campaign}/"
            rows = await self._lines.page(prefix, limit, None if after is None else prefix + after)
            return [line for _, line in rows]
        prefix = f"{campaign}/{state}/"
        places = await self._places.page(prefix, limit, None if after is None else prefix + after)
        found = await gatherResults([self.line(campaign, key[len(prefix) :]) for key, _ in places], consumeErrors=True)
        return [line for line in found if line is not None]

    @deferred
    async def remove(self, campaign: str) -> None:
        """A campaign with all of its lines; NotFound. Broken off, it is there still, and can be removed again."""
        if await self._campaigns.get(campaign) is None:
            raise NotFound(f"there is no campaign {campaign!r}")
        while lines := await self.page(campaign, None, SLICE, None):
            await self._storage.write_records(self._without(campaign, lines))
        await self._campaigns.remove(campaign)

    def _without(self, campaign: str, lines: Sequence[Line]) -> list[Change]:
        gone = [self._lines.change(f"{campaign}/{line.device}", None) for line in lines]
        return gone + [self._place(campaign, state, line.device, None) for line in lines for state in LINE_STATES]

    def _place(self, campaign: str, state: str, device: str, place: Place | None) -> Change:
        return self._places.change(f"{campaign}/{state}/{device}", place)
