"""Whose turn it is, and what is done with a device then.

::

    due, online, a place, the rate ──> registered? fit? its version? ──> line on disk as queued ──> updater

The id of the order follows from campaign, device and attempt, and the line is on disk before the order is given. That
is what keeps a device from being updated twice by one attempt: after a crash in between, the updater is given the same
order again, and finds out by its id what became of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from broker.fleet import line as states
from broker.fleet.campaign import UNKNOWN_VERSION
from broker.fleet.line import Line
from broker.fleet.outcomes import TURN_AGAIN, Outcomes, has_failed, last_failure
from broker.fleet.parts import Parts
from broker.fleet.selection import info_of, is_online, refusal
from broker.fleet.waiting import Rate
from broker.fleet.work import Work
from broker.model.errors import BrokerError
from broker.model.records import DeviceRecord

#: Seconds until a device has another turn at whose last one there was a fault of ours.
AFTER_FAULT = 60.0


class Turns:
    """``may_begin()``: whether the campaign begins anything now."""

    log: ClassVar[Logger] = Logger(namespace="broker.fleet")

    def __init__(self, parts: Parts, outcomes: Outcomes, may_begin: Callable[[], bool]) -> None:
        self.rate = Rate()
        #: Devices that are being looked at.
        self.starting: set[str] = set()
        #: Orders given since the start of the broker.
        self.begun = 0
        self._parts = parts
        self._core = parts.core
        self._outcomes = outcomes
        self._may_begin = may_begin

    def fill(self) -> None:
        """Give the free places to those whose turn it is."""
        parts = self._parts
        pace = parts.campaign.plan.pace
        while self._may_begin() and len(self._outcomes.at_work.keys() | self.starting) < pace.concurrency:
            now = self._core.monotonic()
            if not self.rate.allows(now, pace.rate):
                return
            device = parts.waiting.next(now, self._is_online)
            if device is None:
                return
            self.rate.note(now)
            self.look_at(device)

    def look_at(self, device: str) -> None:
        """It is this device's turn; it does not wait any more."""
        self._parts.waiting.discard(device)
        self.starting.add(device)
        beginning = Deferred.fromCoroutine(self._begin(device))
        beginning.addErrback(self._fault, device)
        beginning.addBoth(self._looked_at, device)

    def _looked_at(self, _: Any, device: str) -> None:
        self.starting.discard(device)
        self._parts.place_free()

    def _fault(self, failure: Any, device: str) -> None:
        self.log.failure("campaign {id}: fault with {device}", failure, id=self._parts.campaign.id, device=device)
        if device not in self._outcomes.at_work:
            self._parts.waiting.add(device, self._core.monotonic() + AFTER_FAULT)

    def _is_online(self, device: str) -> bool:
        return is_online(self._core, device)

    async def _begin(self, device: str) -> None:
        parts = self._parts
        later = self._core.monotonic() + TURN_AGAIN
        try:
            record: DeviceRecord | None = await self._core.registry.find_device(device)
            stored = await parts.store.line(parts.campaign.id, device)
        except BrokerError:
            parts.waiting.add(device, later)
            return
        line = None if stored is None else parts.present(stored)
        if line is None or line.state != states.WAITING:
            return
        if record is None:
            self._leave_out(line, "its device was removed")
        elif not self._may_begin() or not self._is_online(device):
            parts.waiting.add(device)
        elif self._has_it(record, line):
            self._outcomes.found_updated(line)
        elif (why := self._refusal(record, line)) is None:
            await self._order(record, line)
        elif why == UNKNOWN_VERSION:
            parts.waiting.add(device, later)
        else:
            self._leave_out(line, why)

    async def _order(self, record: DeviceRecord, line: Line) -> None:
        parts, outcomes = self._parts, self._outcomes
        line.attempt += 1
        line.version = parts.updater.version_of(info_of(self._core, record), parts.campaign.release)
        work = Work(parts.campaign.id, line, parts.order(line), outcomes)
        error = await outcomes.begun(work)
        if error is not None:
            outcomes.returned(work, "storage takes no work")
        elif not self._may_begin():
            outcomes.returned(work, "the campaign holds")
        elif work.under_way:
            self.begun += 1
            await parts.updater.begin(work.order)

    def _refusal(self, record: DeviceRecord, line: Line) -> str | None:
        """Why a device whose turn it is is not begun; `UNKNOWN_VERSION`: it may still tell."""
        parts = self._parts
        campaign, updater, info = parts.campaign, parts.updater, info_of(self._core, record)
        why = refusal(record, info, campaign.plan, campaign.release, updater)
        if why == UNKNOWN_VERSION:
            live = self._core.devices.get(record.id)
            elsewhere = self._core.whereabouts.online(record.id)
            since = record.presence_at if live is None or elsewhere else live.since
            if since is None or self._core.clock() - since > parts.settings().version_grace:
                return "it does not tell its version"
            updater.ask(record.id, campaign.release)
        elif has_failed(line) and updater.version_of(info, campaign.release) == campaign.release.version:
            # It says so since somebody was at it, and was not believed: only fetching the image helps.
            unfit: str | None = updater.unfit(record, info, campaign.release)
            return unfit
        return why

    def _has_it(self, record: DeviceRecord, line: Line) -> bool:
        """It has fetched the image before, and reports the version, though nobody waited for that any more."""
        release = self._parts.campaign.release
        version = self._parts.updater.version_of(info_of(self._core, record), release)
        return line.fetched_at is not None and version == release.version

    def _leave_out(self, line: Line, why: str) -> None:
        """It has no update; or none that went well, if it was tried before."""
        parts = self._parts
        parts.roster.release(line.device, parts.campaign.id)
        if has_failed(line):
            state, note = last_failure(line)
            parts.lines.enter(line, state, f"{note}; not tried again: {why}")
        else:
            parts.lines.enter(line, states.SKIPPED, why)
