"""What becomes of the devices at work: from what updaters tell, from presence, and from time that passes.

A line is confirmed by two things together, and by neither alone:

* the device has fetched the image from here, at an address that only its own order had, to the last byte;
* it reports the version.

One that reports the version without having fetched lies, or was updated by somebody else: it has failed, with that
reason. (``require_fetch = false`` does without, for images that a cache in front of the broker has.) That a download
begins is on disk before its first byte leaves. So after a crash in the middle of one it is known that it had begun, not
how it ended: there, having begun counts.

A device that has fetched the image, went away and came back has rebooted; one whose connection the broker itself has
cut by a restart has not.
"""

from __future__ import annotations

from typing import Any, Final

from twisted.internet.defer import Deferred

from broker.fleet import line as states
from broker.fleet.campaign import CANCELLED, ENDED
from broker.fleet.line import FAILURES, PROGRESS, Line
from broker.fleet.parts import Parts
from broker.fleet.selection import is_online
from broker.fleet.work import Work
from broker.model.errors import BrokerError
from broker.storage.deferred import deferred

#: Seconds until a device has another turn whose order did not leave.
TURN_AGAIN: Final = 5.0
SILENT: Final = "it has not answered"
WAS_CANCELLED: Final = "the campaign was cancelled"


class Outcomes:
    """Those of one campaign."""

    def __init__(self, parts: Parts) -> None:
        self.at_work: dict[str, Work] = {}
        self._core = parts.core
        self._campaign = parts.campaign
        self._updater = parts.updater
        self._lines = parts.lines
        self._waiting = parts.waiting
        self._roster = parts.roster
        self._settings = parts.settings
        self._place_free = parts.place_free

    # -- from updaters ---------------------------------------------------------------------------------------------

    def begun(self, work: Work) -> Deferred[BrokerError | None]:
        """A device has a place now; on disk before anything is done with it."""
        line = work.line
        self.at_work[line.device] = work
        self._roster.enter(work)
        self.allow(work)
        return self._lines.enter(line, states.QUEUED, "", not_before=None)

    def taken_up(self, work: Work) -> None:
        """One that an earlier life of the broker has begun; each step has its whole time again.

        Of those that have failed it is only remembered that they may still succeed.
        """
        self._roster.enter(work)
        work.under_way = work.line.state in PROGRESS
        if work.under_way:
            self.at_work[work.line.device] = work
            self.allow(work)

    def moved(self, work: Work, step: str) -> None:
        if work.under_way and PROGRESS[step] > PROGRESS[work.line.state]:
            self._lines.enter(work.line, step)
            self.allow(work)

    def returned(self, work: Work, why: str) -> None:
        """It never left."""
        line = work.line
        if not work.under_way or line.state != states.QUEUED:
            return
        self._leave(work)
        if self._campaign.state == CANCELLED:
            self._roster.release(line.device, self._campaign.id)
            self._lines.enter(line, states.SKIPPED, WAS_CANCELLED)
        else:
            self._lines.enter(line, states.WAITING, why)
            self._waiting.add(line.device, self._core.monotonic() + TURN_AGAIN)
        if not line.failing:
            self._roster.drop(work)
        self._place_free()

    def failed(self, work: Work, why: str) -> None:
        if work.under_way:
            self._fail(work, states.FAILED, why)

    def unanswered(self, work: Work) -> None:
        """What the protocol waits for; once the device is at it, and after a restart, only our own times count.

        Of a device that has asked for the image an answer may be lost, and so it may be while the broker was away.
        """
        if work.under_way and not work.order.again and work.line.state in (states.QUEUED, states.SENT):
            self._fail(work, states.NO_ANSWER, SILENT)

    @deferred
    async def fetching(self, work: Work) -> None:
        """The image may go when this answers. Fails with Unavailable."""
        line = work.line
        line.fetching_at = self._core.clock()
        if work.under_way and PROGRESS[line.state] < PROGRESS[states.ACCEPTED]:
            saving = self._lines.enter(line, states.ACCEPTED, "it fetches the image")
            self.allow(work)
        else:
            saving = self._lines.keep(line, "it fetches the image")
        error = await saving
        if error is not None:
            raise error

    def fetched(self, work: Work) -> None:
        work.line.fetched_at = self._core.clock()
        work.line.reported = None  # what counts is what it tells from now on
        work.order.fetched = True
        self._lines.keep(work.line, "it has fetched the image")
        self.allow(work)

    def exchanged(self, work: Work, why: str) -> None:
        """Another piece of hardware is the device: it has fetched nothing, and was told nothing that has left."""
        line = work.line
        had_begun = line.fetching_at is not None
        line.fetching_at = line.fetched_at = line.reported = None
        work.order.fetched = work.doubt = False
        if work.under_way and line.state != states.QUEUED:
            self._fail(work, states.FAILED, why)
        elif had_begun:
            self._lines.keep(line, why)
        if not work.under_way:  # the one before may still fetch at the address that it knows
            self._roster.by_order.pop(work.order.id, None)

    @deferred
    async def reported(self, work: Work, info: dict[str, Any]) -> None:
        """Fails with Unavailable."""
        line = work.line
        version = self._updater.version_of(info, work.order.release)
        saving: Deferred[BrokerError | None] | None = None
        if version is not None and version == work.order.release.version:
            saving = self._claims(work, version)
        elif version is not None and version != line.reported:
            line.reported = version
            saving = self._lines.keep(line, f"it reports {version}")
        error = None if saving is None else await saving
        if error is not None:
            raise error

    def found_updated(self, line: Line) -> None:
        """At its turn it turns out that an earlier attempt went well."""
        self._roster.release(line.device, self._campaign.id)
        known = self._roster.by_device.get(line.device)
        if known is not None and known.line is line:
            self._roster.drop(known)
        self._lines.enter(line, states.CONFIRMED, "an earlier attempt has updated it", not_before=None)

    # -- presence and time -----------------------------------------------------------------------------------------

    def came(self, work: Work) -> None:
        if work.under_way and work.left and work.line.state == states.ACCEPTED:
            self._lines.enter(work.line, states.REBOOTED)

    def went(self, work: Work) -> None:
        if work.under_way and work.line.state == states.QUEUED:
            self._updater.withdraw(work.order)
        elif work.line.fetched_at is not None:
            work.left = True

    def overdue(self, now: float) -> None:
        """See to steps that have taken too long."""
        for work in [one for one in self.at_work.values() if one.deadline <= now]:
            if work.line.state == states.QUEUED:
                self.allow(work)
                self._updater.withdraw(work.order)
            elif work.line.state == states.SENT:
                self._fail(work, states.NO_ANSWER, SILENT)
            else:
                self._fail(work, states.FAILED, self._omission(work.line))

    def allow(self, work: Work) -> None:
        """Give the present step its time."""
        settings, line = self._settings(), work.line
        if line.state == states.SENT:
            seconds = settings.answer_timeout
        elif line.state in PROGRESS and line.state not in (states.QUEUED, states.SENT):
            seconds = settings.fetch_timeout if line.fetched_at is None else settings.confirm_timeout
        else:
            seconds = work.order.patience
        work.deadline = self._core.monotonic() + seconds

    # -- the end ---------------------------------------------------------------------------------------------------

    def _claims(self, work: Work, version: str) -> Deferred[BrokerError | None] | None:
        """A device reports the version that it should have."""
        line = work.line
        has_image = line.fetched_at is not None or (work.doubt and line.fetching_at is not None)
        if has_image or (not self._campaign.plan.require_fetch and line.state != states.QUEUED):
            return self._confirm(work, version)
        line.reported = version
        if not work.under_way:
            return self._lines.keep(line, f"it reports {version}")
        if line.state == states.QUEUED:
            self._updater.withdraw(work.order)  # it has it already, as its next turn will show
            return None
        return self._fail(work, states.FAILED, f"it reports {version} and has never fetched the image")

    def _confirm(self, work: Work, version: str) -> Deferred[BrokerError | None]:
        line = work.line
        late = not work.under_way
        self._leave(work)
        self._waiting.discard(line.device)
        self._roster.release(line.device, self._campaign.id)
        self._roster.drop(work)
        note = f"it reports {version}" + (", later than it was waited for" if late else "")
        saving = self._lines.enter(line, states.CONFIRMED, note, reported=version, not_before=None)
        self._updater.end(work.order, None)
        self._place_free()
        return saving

    def _fail(self, work: Work, state: str, why: str) -> Deferred[BrokerError | None]:
        line, retries = work.line, self._campaign.plan.pace.retries
        self._leave(work)
        again = line.failures < retries.count and self._campaign.state not in ENDED
        if again:
            line.history = [*line.history, states.Step(round(self._core.clock(), 3), state, why)]
            saving = self._lines.enter(
                line,
                states.WAITING,
                f"is tried again: {why}",
                failures=line.failures + 1,
                not_before=self._core.clock() + retries.after,
            )
            self._waiting.add(line.device, self._core.monotonic() + retries.after)
        else:
            self._roster.release(line.device, self._campaign.id)
            saving = self._lines.enter(line, state, why, failures=line.failures + 1)
        self._updater.end(work.order, why)
        self._place_free()
        return saving

    def _leave(self, work: Work) -> None:
        work.under_way = False
        if self.at_work.get(work.line.device) is work:
            del self.at_work[work.line.device]

    def _omission(self, line: Line) -> str:
        """What a device that was to update itself has not done."""
        if line.fetching_at is None:
            return "it has said that it will, and never fetched the image"
        if line.fetched_at is None:
            return "it has not fetched the image to its end"
        if line.reported is not None:
            return f"it has fetched the image and still reports {line.reported}"
        if is_online(self._core, line.device):
            return "it has fetched the image and has not reported a version since"
        return "it has fetched the image and has not come back since"


def has_failed(line: Line) -> bool:
    """It was tried before, without success."""
    return any(step.state in FAILURES for step in line.history)


def last_failure(line: Line) -> tuple[str, str]:
    """State and reason of the last attempt that failed."""
    for step in reversed(line.history):
        if step.state in FAILURES:
            return step.state, step.note
    return states.FAILED, line.reason
