"""What is done with all lines of a campaign, some hundred at a time: made, ended, tried again.

All of it raises BrokerError.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from broker.fleet import line as states
from broker.fleet.campaign import CANCELLED
from broker.fleet.line import Line
from broker.fleet.outcomes import has_failed, last_failure
from broker.fleet.parts import Parts
from broker.fleet.selection import SLICE as CANDIDATES
from broker.fleet.selection import Selection
from broker.fleet.store import SLICE
from broker.model.records import DeviceQuery


async def every_line(parts: Parts, state: str | None = None) -> AsyncIterator[list[Line]]:
    """Pages of lines as they are on disk."""
    after: str | None = None
    while page := await parts.store.page(parts.campaign.id, state, SLICE, after):
        after = page[-1].device
        yield page


async def prepare(parts: Parts) -> None:
    """Give every target its line, those that have one keep it; then the campaign is ``prepared``."""
    campaign, roster = parts.campaign, parts.roster
    known = {line.device async for page in every_line(parts) for line in page}

    def owner(device: str) -> str | None:
        other = roster.taken.get(device)
        return None if other == campaign.id else other

    selection = Selection(parts.core, parts.updater, campaign.plan, campaign.release, owner)
    targets, cursor = campaign.plan.targets, None
    while campaign.state != CANCELLED:
        candidates, cursor = await selection.page(cursor)
        lines = []
        for one in candidates:
            if one.device not in known:
                line = Line(device=one.device)
                state = states.WAITING if one.refusal is None else states.SKIPPED
                line.enter(state, parts.core.clock(), one.refusal or "")
                lines.append(line)
        await _add(parts, lines)
        if cursor is None:
            break
    if campaign.state != CANCELLED and targets == campaign.plan.targets:
        campaign.prepared = True
        await parts.store.save_campaign(campaign)


async def _add(parts: Parts, lines: list[Line]) -> None:
    if not lines:
        return
    waiting = [line.device for line in lines if line.state == states.WAITING]
    parts.roster.taken.update(dict.fromkeys(waiting, parts.campaign.id))
    error = await parts.lines.add(lines)
    if error is not None:
        for device in waiting:
            parts.roster.release(device, parts.campaign.id)
        raise error
    for device in waiting:
        parts.waiting.add(device)


async def sweep(parts: Parts, why: Callable[[Line], str]) -> None:
    """End the lines that wait: as skipped, or as failed if they have been tried."""
    async for page in every_line(parts, states.WAITING):
        lines = [line for line in map(parts.present, page) if line.state == states.WAITING]
        for line in lines:
            parts.waiting.discard(line.device)
            parts.roster.release(line.device, parts.campaign.id)
        error = await parts.lines.enter_all(
            [(line, *(last_failure(line) if has_failed(line) else (states.SKIPPED, why(line)))) for line in lines]
        )
        if error is not None:
            raise error


async def retry(parts: Parts) -> int:
    """Have lines that have failed wait again; how many. Those whose device is in another campaign by now stay."""
    count = 0
    for state in states.FAILURES:
        async for page in every_line(parts, state):
            lines = [
                line
                for line in map(parts.present, page)
                if line.state == state and line.device not in parts.roster.taken
            ]
            for line in lines:
                parts.roster.taken[line.device] = parts.campaign.id
                parts.waiting.add(line.device)
                parts.lines.forgive(line)
            count += len(lines)
            error = await parts.lines.enter_all([(line, states.WAITING, "is tried again") for line in lines])
            if error is not None:
                raise error
    return count


async def removed(parts: Parts) -> list[str]:
    """Devices that wait and are registered no more: they may have gone while nobody looked."""
    waiting = {line.device async for page in every_line(parts, states.WAITING) for line in page}
    cursor: str | None = None
    query = DeviceQuery(protocol=parts.campaign.release.protocol)
    while waiting:
        records, cursor = await parts.core.registry.list_devices(query, CANDIDATES, cursor)
        waiting.difference_update(record.id for record in records)
        if cursor is None:
            break
    return sorted(waiting)
