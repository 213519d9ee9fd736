"""The lane of the changes: nothing is lost and nothing is done twice, whatever the connection does.

A writer has a name (the node's), and each of its connections an epoch. A batch has a number, which Redis keeps with the
batch's answers, in the same script that carries it out::

    batch 7, epoch 3 ──> ... the connection breaks: was it done?
    new connection   ──> claim: epoch 4, and Redis says which number it has seen last
                           7: it was done, and here are its answers         6: it was not; it is sent again, as batch 7
    batch 7, epoch 3 ──> what still comes out of a buffer of the old connection finds another epoch: nothing is done

So a loss that is shorter than ``doubt_timeout`` is noticed by nobody. After a longer one the callers are told that it
failed, though it may have been done or still be done by what is on the wire, until the claim: that is `WriteLane.
uncertain`. If Redis then says that it was done, ``Job.undo`` takes back what somebody might repeat.

Redis also knows until when a name is taken (`LEASE`). A second broker of the same name is refused while the first one
is there, and takes over when it is not; the first one, should it come to life again, finds its epoch gone and stops
writing for good.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from secrets import token_hex
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from broker.model.errors import Unavailable
from broker.storage.redis.connection import Call, RedisConnection
from broker.storage.redis.lane import CHANGE, FREEING, LOOK, Job, Lane, lines_of
from broker.storage.redis.replies import FATAL, Lost, Refused, Unfit
from broker.storage.redis.scripts import FREE, WRITE
from broker.storage.redis.settings import RedisTable

#: Seconds for which a name is taken, from one renewal to the next, and between two of them.
LEASE: Final = 6.0
RENEW_EVERY: Final = 2.0


class Holder(msgspec.Struct):
    """The process that has a name, as others see it. ``space``: where its pid counts (boot and pid namespace)."""

    pid: int
    host: str
    space: str

    @classmethod
    def mine(cls) -> Holder:
        return cls(os.getpid(), os.uname().nodename, _pid_space())

    def is_dead(self) -> bool:
        """Known for certain: it ran here, and is not there any more."""
        if not self.space or self.space != _pid_space():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:
            return False
        return False

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def _pid_space() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return f"{file.read().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


class WriteLane(Lane):
    """``node``: the name under which this process writes. Its connection has to have `claim` as its greeting."""

    def __init__(
        self, connection: RedisConnection, prefix: str, node: str, settings: RedisTable, reactor: Any, max_pending: int
    ) -> None:
        super().__init__(connection, prefix, settings, reactor, max_pending)
        self.node = node
        #: When a batch was last carried out (`time.monotonic`), and whether one was refused since health was proven.
        self.proven_at = float("-inf")
        self.doubtful = False
        #: Called when a batch is refused because others have taken over what this process had.
        self.fenced: Callable[[], None] = lambda: None
        #: For the metrics.
        self.batches = 0
        self.failed_batches = 0
        self._token = token_hex(8)
        self._claimed = False
        self._epoch = 0
        self._number = 0
        #: The batch of which nobody knows whether it was done. ``_told``: its callers have heard that it failed.
        self._doubt: list[Job] = []
        self._told = False
        self._abandoning: list[Deferred[None]] = []

    @property
    def uncertain(self) -> bool:
        """Whether there is a batch of which nobody knows if it was, or will yet be, done."""
        return bool(self._doubt)

    # -- the name --------------------------------------------------------------------------------------------------

    async def claim(self, call: Call) -> None:
        """Take the name, or show that it is still ours; settle what is in doubt. Raises Unavailable, Unfit."""
        mode = "again" if self._claimed else "fresh"
        reply = await self._claim(call, mode, "")
        if reply[0] == b"held":
            holder = msgspec.json.decode(reply[2], type=Holder)
            if not holder.is_dead():
                # What runs here will not go away by itself; of another machine's nobody knows more than its time.
                kind = Unfit if holder.space and holder.space == _pid_space() else Unavailable
                raise kind(f"another broker named {self.node!r} uses it ({holder}): each needs a name of its own")
            reply = await self._claim(call, mode, reply[1])
        if reply[0] != b"ok":
            raise Unavailable(self._end(reply))
        if not self._claimed:
            self._claimed = True
            self._number = 0
        self._epoch = reply[1]
        self._settle_doubt(reply[2], reply[3])
        self._look_for_quiet()

    async def _claim(self, call: Call, mode: str, dead: bytes | str) -> Any:
        details = msgspec.json.encode(Holder.mine())
        line = ("claim", self.node, self._token, mode, dead, int(LEASE * 1000), details)
        return await call("EVALSHA", WRITE.sha, 1, self._key, *line)

    def _end(self, reply: Any) -> str:
        """The name is somebody else's, or all is gone: nothing is written any more by this process."""
        if reply[0] == b"lost":
            self.ended = "Redis has lost the data of this broker, or is another one than before: restart the broker"
        else:
            self.ended = f"another broker named {self.node!r} has taken over this storage"
        self.log.critical("{why}", why=self.ended)
        doubt, self._doubt = self._doubt, []
        if not self._told:
            self._finish([(job, None, Unavailable(self.ended)) for job in doubt])
        self._refuse_queue(Unavailable(self.ended))
        self._look_for_quiet()
        return self.ended

    def _settle_doubt(self, number: int, answers: list[Any]) -> None:
        doubt, self._doubt = self._doubt, []
        told, self._told = self._told, False
        if number == self._number:
            if told:
                undoing = [job.undo for job in doubt if job.undo is not None]
                self.pending += len(undoing)
                self._queue.extendleft(reversed(undoing))
            elif doubt:
                self._resolve(doubt, answers)
            return
        confirmed = self._number - 1 if doubt else self._number
        if number < confirmed:
            self.log.critical("Redis has lost the last {n} batches that it had confirmed", n=confirmed - number)
        self._number = number
        if not told:
            self._queue.extendleft(reversed(doubt))

    def _resolve(self, doubt: list[Job], answers: list[Any]) -> None:
        """It was done. Look-ups are done again."""
        self._queue.extendleft(job for job in reversed(doubt) if job.kind == LOOK)
        kept = answers or [[None]] * len(doubt)
        pairs = [(job, answer) for job, answer in zip(doubt, kept, strict=True) if job.kind != LOOK]
        self._done(
            [job for job, _ in pairs], [[None if one is False else one for one in answer] for _, answer in pairs]
        )

    def _give_up(self) -> None:
        if self._doubt and not self._told:
            self._told = True
            error = Lost("the connection to Redis was lost, and the change may have been made or not")
            self._finish([(job, None, error) for job in self._doubt])
        super()._give_up()

    def abandon(self) -> Deferred[None]:
        """What waits is refused; fires when nothing is under way any more, nor uncertain."""
        self._refuse_queue(Unavailable("another process has taken over what this one had"))
        if not self.pending and not self._doubt:
            return succeed(None)
        quiet: Deferred[None] = Deferred()
        self._abandoning.append(quiet)
        return quiet

    def _all_answered(self) -> None:
        super()._all_answered()
        self._look_for_quiet()

    def _look_for_quiet(self) -> None:
        if not self.pending and not self._doubt:
            abandoning, self._abandoning = self._abandoning, []
            for quiet in abandoning:
                quiet.callback(None)

    # -- batches ---------------------------------------------------------------------------------------------------

    def _send(self, jobs: list[Job]) -> None:
        if all(job.kind == LOOK for job in jobs):
            super()._send(jobs)
            return
        self._number += 1
        script = FREE if all(job.kind != CHANGE for job in jobs) else WRITE
        kinds = "".join(["r" if job.kind == LOOK else "w" for job in jobs])
        line = ("batch", self.node, self._epoch, self._number, kinds, *lines_of(jobs))
        answer = self.connection.run(script, (self._key,), line)
        answer.addCallbacks(self._written, self._not_written, callbackArgs=(jobs,), errbackArgs=(jobs,))

    def _written(self, reply: Any, jobs: list[Job]) -> None:
        if reply[0] == b"fenced":
            self._number -= 1
            error = Unavailable("another process has taken over what this one had")
            self.fenced()
            self._finish([(job, None, error) for job in jobs])
            self._submit()
            return
        if reply[0] != b"ok":
            self._finish([(job, None, Unavailable(self._end(reply))) for job in jobs])
            self._busy = False
            return
        self.batches += 1
        self.proven_at = time.monotonic()
        self._done(jobs, reply[1])
        self._submit()

    def _not_written(self, failure: Failure, jobs: list[Job]) -> None:
        error = self.presentable(failure)
        if isinstance(error, Lost):
            self._doubt = jobs
            if self._away:
                self._give_up()
            self._busy = False
            return
        # It was refused as a whole: nothing was done.
        self._number -= 1
        self.failed_batches += 1
        self.doubtful = True
        if isinstance(error, Refused) and error.code in FATAL:
            self._put_back(jobs)
        else:
            self._do_without(error, jobs)
        self._submit()

    def _do_without(self, error: Exception, jobs: list[Job]) -> None:
        """Redis takes no changes: they fail, and the rest of the batch is done. A full one gives back room."""
        full = isinstance(error, Refused) and error.code == "OOM"
        done = (LOOK, FREEING) if full and any(job.kind == CHANGE for job in jobs) else (LOOK,)
        self._finish([(job, None, error) for job in jobs if job.kind not in done])
        self._queue.extendleft([job for job in reversed(jobs) if job.kind in done])


def renewal(lane: WriteLane, failed: Callable[[], None]) -> Job:
    """Show that the node is there."""

    def answer(_: Any, error: Exception | None) -> None:
        if error is not None:
            failed()

    return Job("renew", (lane.node, int(LEASE * 1000)), FREEING, answer)


__all__ = ["LEASE", "RENEW_EVERY", "Holder", "WriteLane", "renewal"]
