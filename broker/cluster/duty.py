"""What one process does for all: campaigns, events and their sinks.

::

    look ──> directory, space "duty": take
        ours      ──> begin(): everything is read from storage; then `leads`
        another's ──> `leader`: questions about it go there
    the lease is lost ──> end() at once; what another process has by now is no longer touched

As long as the leader lives, and its lease holds, nobody else can have the duty; when it is gone, whoever looks first is
next, within a second. A process that has lost a duty may have it again later, and then begins from what storage has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final, Protocol, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger
from twisted.python.failure import Failure

from broker.model.errors import Unavailable
from broker.model.interfaces import IBackplane

SPACE: Final = "duty"


class Duty:
    """``begin()``: a Deferred or coroutine, take it up. ``end()``: it may be another's by now."""

    log: ClassVar[Logger] = Logger(namespace="broker.cluster")

    def __init__(
        self, backplane: IBackplane, name: str, begin: Callable[[], Any], end: Callable[[], object] = lambda: None
    ) -> None:
        self.name = name
        #: Whether this process has it; which one has it otherwise, "" while that is not known.
        self.leads = False
        self.leader = ""
        self._backplane = backplane
        self._begin = begin
        self._end = end
        self._looking = False
        #: Between the first step of `begin` and `end`.
        self._begun = False
        self._over = False
        backplane.watch(left=self._left, fenced=self._fenced)

    @property
    def active(self) -> bool:
        """Whether to go on with what only the leader may do now: not while it cannot know whether it still is."""
        return self.leads and self._backplane.held

    async def look(self) -> None:
        """Find out who has it; take it if nobody has. Raises Unavailable, and what ``begin`` raises."""
        if self.leads or self._looking or self._over:
            return
        self._looking = True
        try:
            node = self._backplane.node
            taken = await self._backplane.take(SPACE, self.name)
            if not taken.mine:
                self.leader = taken.node
                return
            await self._take_up(node)
        finally:
            self._looking = False

    async def _take_up(self, node: str) -> None:
        self._begun = True
        try:
            await self._begin()
        except BaseException:
            if self._begun:
                self._stop()
                self._backplane.leave(SPACE, self.name)
            raise
        if self._begun and self._backplane.node == node:
            self.leads, self.leader = True, ""
            if not self._backplane.alone:
                self.log.info("{node} has the {name} now", node=node, name=self.name)

    def tick(self) -> None:
        """About once a second."""
        if not self.leads and not self.leader:
            Deferred.fromCoroutine(self.look()).addErrback(self._failed)

    def retire(self) -> None:
        """The process stops: take nothing up any more."""
        self._over = True

    def ask(self, kind: str, body: bytes) -> Deferred[bytes]:
        """Ask the process that has it. Fails with Unavailable when none has, and as `IBackplane.ask`."""
        if not self.leader:
            return fail(Unavailable(f"no broker process has the {self.name} at the moment"))
        leader = self.leader
        answer: Deferred[bytes] = self._backplane.ask(leader, kind, body)
        return answer.addErrback(self._not_answered, leader)

    def check(self) -> None:
        """For who is asked. Raises Unavailable if it is another's."""
        if not self.leads:
            raise Unavailable(f"this broker process does not have the {self.name}")

    def _not_answered(self, failure: Failure, leader: str) -> Failure:
        if failure.check(Unavailable) and self.leader == leader:
            self.leader = ""  # looked for again at the next tick
        return failure

    def _failed(self, failure: Failure) -> None:
        if not failure.check(Unavailable):
            self.log.failure("fault while the {name} were taken up", failure, name=self.name)
        else:
            self.log.warn("the {name} are not taken up yet: {why}", name=self.name, why=failure.getErrorMessage())

    def _left(self, node: str) -> None:
        if node == self.leader:
            self.leader = ""
            self.tick()

    def _fenced(self) -> None:
        self.leader = ""
        if self._begun:
            self._stop()

    def _stop(self) -> None:
        self._begun = self.leads = False
        self._end()


class IDuty(Protocol):
    """What is used of a duty, however it is kept."""

    @property
    def name(self) -> str: ...

    @property
    def leads(self) -> bool: ...

    def ask(self, kind: str, body: bytes) -> Deferred[bytes]: ...

    def tick(self) -> None: ...

    def retire(self) -> None: ...


D = TypeVar("D", bound=IDuty)


class Duties:
    """All of them, by name. One that is not there is everybody's own."""

    def __init__(self) -> None:
        self._by_name: dict[str, IDuty] = {}

    def add(self, duty: D) -> D:
        self._by_name[duty.name] = duty
        return duty

    def far(self, name: str) -> IDuty | None:
        """The duty, if this process does not have it: then ask the one that does."""
        duty = self._by_name.get(name)
        return None if duty is None or duty.leads else duty

    def tick(self) -> None:
        for duty in self._by_name.values():
            duty.tick()

    def retire(self) -> None:
        for duty in self._by_name.values():
            duty.retire()
