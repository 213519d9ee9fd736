"""Persistent sessions that come to this process and go from it.

::

    CONNECT ──> ours? ──> directory: take ──> nobody's, or of a process that is gone ──> loaded from storage
                                         └──> another's ──> ask it to release ──> it closes, writes, lets go ──> again

What has to hold, so that nothing is lost and nothing comes twice, whoever dies in between:

- A session is in the memory of one process: the one that the directory has for it. For each client one thing happens at
  a time: it is taken, or given, and who asks meanwhile comes again.
- Who gives it has everything on disk that it did to the session, and no commit of which it does not know what became.
  From the moment at which it begins to give, what is published goes into the session's box and not into its queue.
- Who was fenced while it loaded a session has not got it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredList

from broker.model.errors import BrokerError, Unavailable
from broker.mqtt.boxes import Boxes
from broker.mqtt.interest import Others
from broker.mqtt.journal import LoadedSession
from broker.mqtt.persistent import PersistentSession
from broker.mqtt.wills import Key

#: The space in the directory for sessions.
SPACE: Final = "mqtt"
#: Seconds between two attempts to have a session, and how long is tried.
AGAIN: Final = 0.25
PATIENCE: Final = 25.0
#: What became of a session that is not ours any more: given to who asked for it, or taken while we were thought dead.
HANDED: Final = 1
LOST: Final = 2
#: Keys taken at once.
SWEEP: Final = 500


def key_text(key: Key) -> str:
    return f"{key[0]}\0{key[1]}"


class Moves:
    """``server`` is the `MqttListener`; ``serves()``: whether this process serves clients by now."""

    def __init__(self, server: Any, backplane: Any, others: Others, boxes: Boxes, serves: Callable[[], bool]) -> None:
        self.takeovers = 0
        #: What is taken up is known to everybody.
        self.restoring = False
        self._server = server
        self._backplane = backplane
        self._sessions = server.sessions
        self._journal = server.journal
        self._others = others
        self._boxes = boxes
        self._serves = serves
        #: Sessions that are being taken or given -> who waits for the end of that.
        self._moving: dict[str, list[Deferred[None]]] = {}
        backplane.answer("mqtt.release", self._release)

    # -- one at a time ---------------------------------------------------------------------------------------------

    async def _turn(self, name: str) -> None:
        while (moving := self._moving.get(name)) is not None:
            over: Deferred[None] = Deferred()
            moving.append(over)
            await over
        self._moving[name] = []

    def _over(self, name: str) -> None:
        for waiting in self._moving.pop(name):  # whoever had it goes on first
            self._server.reactor.callLater(0, waiting.callback, None)

    # -- it comes --------------------------------------------------------------------------------------------------

    async def acquire(self, key: Key) -> None:
        """Have the client's session, if it has one, in this process. Raises Unavailable."""
        name = key_text(key)
        await self._turn(name)
        try:
            if self._sessions.get(key) is None:
                await self._acquire(name)
        finally:
            self._over(name)

    async def _acquire(self, name: str) -> None:
        until = self._server.monotonic() + PATIENCE
        while True:
            if not self._serves():
                raise Unavailable("this process is joining the others again")
            taken = await self._backplane.take(SPACE, name)
            if taken.mine:
                if taken.note:
                    await self._take_up([int(taken.note)])
                return
            try:
                await self._backplane.ask(taken.node, "mqtt.release", name.encode())
                self.takeovers += 1
                continue
            except BrokerError as error:
                if self._server.monotonic() > until:
                    raise Unavailable(f"the client's session is another process's: {error.message}") from None
            await self._pause(AGAIN)

    def _pause(self, seconds: float) -> Deferred[None]:
        over: Deferred[None] = Deferred()
        self._server.reactor.callLater(seconds, over.callback, None)
        return over

    async def _take_up(self, numbers: Sequence[int], boxes_too: bool = True) -> None:
        """They are ours: as they are in storage. Of two of one client the later one counts.

        ``boxes_too``: what these clients have published elsewhere comes before what they publish here, whoever gets it.
        """
        wanted = sorted(number for number in numbers if number not in self._boxes.sessions)
        if not wanted:
            return
        node = self._backplane.node
        loaded = await self._journal.load_these(wanted)
        boxes = await self._journal.load_boxes() if boxes_too else ()
        if node != self._backplane.node:
            raise Unavailable("another process has taken over what this one had")
        for number in wanted:
            self._others.ended(number)
        self._restore([one for one in loaded if one.record.number not in self._boxes.sessions])
        self._boxes.aside({*boxes, *wanted})

    def _restore(self, loaded: Sequence[LoadedSession]) -> None:
        self.restoring = True
        try:
            self._sessions.restore(loaded, self._made)
        finally:
            self.restoring = False

    def _made(self, record: Any) -> PersistentSession:
        self._journal.adopt(record.number)
        session: PersistentSession = self._server.restored(record)
        self._boxes.sessions[session.number] = session
        return session

    async def sweep(self) -> None:
        """Take up the sessions of processes that are gone. Those that are moving come without that."""
        remote = sorted(self._others.sessions.values(), key=lambda one: one.number)
        #: Nobody can have published there any more when the boxes were looked at for the first session of one.
        dead: set[str] = set()
        for start in range(0, len(remote), SWEEP):
            named = [(key_text(one.key), one.number) for one in remote[start : start + SWEEP]]
            named = [(name, number) for name, number in named if name not in self._moving]
            names = {name for name, _ in named}
            self._moving.update((name, []) for name in names)
            try:
                answers = [self._backplane.take(SPACE, name, str(number)) for name, number in named]
                taken = await DeferredList(answers, consumeErrors=True)
                mine = {
                    number: one.node for (_, number), (good, one) in zip(named, taken, strict=True) if good and one.mine
                }
                await self._take_up(list(mine), not dead.issuperset(mine.values()))
                dead.update(filter(None, mine.values()))
            finally:
                for name in names:
                    self._over(name)

    # -- it goes ---------------------------------------------------------------------------------------------------

    def _release(self, node: str, body: bytes) -> Deferred[bytes]:
        return Deferred.fromCoroutine(self._let_go(body.decode()))

    async def _let_go(self, name: str) -> bytes:
        """Another process asks for it: end the connection, write what there is to write, forget it."""
        if name in self._moving:
            raise Unavailable("the session is being taken or given")
        owner, _, client_id = name.partition("\0")
        key = (owner, client_id)
        session = self._sessions.get(key)
        if session is not None and session.connection is not None:
            session.connection.close("takeover")
            session = self._sessions.get(key)
        self._moving[name] = []
        try:
            if isinstance(session, PersistentSession):
                await self._write_all(session)
                self._hand_over(session)
                self._backplane.leave(SPACE, name, str(session.number))
            elif session is None:
                # Perhaps it was let go before, and Redis did not take that: what is told must not lose its number.
                given = (str(one.number) for one in self._others.sessions.values() if one.key == key)
                self._backplane.leave(SPACE, name, next(given, ""))
        finally:
            self._over(name)
        await self._backplane.find(SPACE, name)
        return b""

    async def _write_all(self, session: PersistentSession) -> None:
        """Wait until all is on disk that was done to the session. Raises Unavailable, and it stays ours."""
        boxes, journal, number = self._boxes, self._journal, session.number
        self._sessions.wills.back(session.key, session.principal)
        position = journal.position
        try:
            await boxes.hold(number)
            while True:
                position = max(position, session.position, self._sessions.unsafe(session), boxes.taken_at(number))
                if session.connection is not None or self._sessions.get(session.key) is not session:
                    raise Unavailable("the client is back")
                if journal.committed >= position:
                    break
                await self._server.kept(position)
            if journal.uncertain:
                raise Unavailable("it is not known what became of the last commit")
        except BaseException:
            boxes.go_on(number)
            raise

    def _hand_over(self, session: PersistentSession) -> None:
        subscriptions = dict(session.subscriptions)
        session.moved = HANDED
        self._sessions.forget(session)
        self._boxes.sessions.pop(session.number, None)
        self._boxes.forget(session.number)
        self._journal.release(session.number)
        self._others.handed(session.number, session.key, subscriptions)
