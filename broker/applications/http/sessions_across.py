"""Browsers that have signed in at one process are signed in at all: their next request may come to any.

::

    POST /session at A ──ask http.session──> the others ──> the cookie counts everywhere ──> answer
    used, at most every `TOLD_EVERY` ──tell──> not idle anywhere       DELETE /session ──tell──> over everywhere
    a process that starts asks one that is there for all of them

What travels is the digest of a cookie, which opens nothing, and the CSRF token, which is of no use without the cookie.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred, DeferredList

from broker.applications.http.sign_in import Session, Sessions
from broker.core import Core
from broker.model.errors import BrokerError
from broker.storage.deferred import deferred

#: Seconds between two notes that a session is used.
TOLD_EVERY: Final = 30.0
#: Seconds that the others may take to know of a new one: one that takes longer has other troubles.
PATIENCE: Final = 2.0

_encode = msgspec.msgpack.Encoder().encode


class Known(msgspec.Struct, array_like=True):
    """A session as it travels. ``left``, ``idle``: seconds until its end, and since it was used."""

    key: bytes
    csrf: str
    left: float
    idle: float
    expires_at: float

    def __repr__(self) -> str:
        return f"<Known for {self.left:.0f} s>"


_known = msgspec.msgpack.Decoder(list[Known]).decode


class SessionsAcross:
    """`begin` joins the sessions of this process with those of the others."""

    def __init__(self, sessions: Sessions, core: Core) -> None:
        self._sessions = sessions
        self._core = core
        self._backplane = core.backplane
        #: Those that another process has ended: nobody is told.
        self._ending = False
        self._told_at: dict[bytes, float] = {}

    @deferred
    async def begin(self) -> None:
        """Learn of all that there are. Fails with nothing: then browsers sign in again."""
        backplane = self._backplane
        if backplane.alone:
            return
        self._sessions.on_end.append(self._ended)
        self._sessions.on_use.append(self._used)
        backplane.answer("http.session", self._learn)
        backplane.answer("http.session.all", lambda node, body: self._packed(self._sessions.every()))
        backplane.hear("http.session.new", self._hear)
        backplane.hear("http.session.end", self._end)
        backplane.hear("http.session.used", self._use)
        for node in backplane.others():
            try:
                self._learn(node, await self._ask(node, "http.session.all", b""))
                return
            except BrokerError:
                continue

    @deferred
    async def announce(self, session: Session) -> None:
        """Answers when the others know of a new one."""
        if not self._backplane.alone:
            body = self._packed([session])
            self._backplane.tell("http.session.new", body)  # for those that we do not know of yet
            asked = [self._ask(node, "http.session", body) for node in self._backplane.others()]
            await DeferredList(asked, consumeErrors=True)

    def _ask(self, node: str, kind: str, body: bytes) -> Deferred[bytes]:
        answer: Deferred[bytes] = self._backplane.ask(node, kind, body, PATIENCE)
        return answer

    def _packed(self, sessions: list[Session]) -> bytes:
        now = self._core.monotonic()
        return _encode([Known(one.key, one.csrf, one.until - now, now - one.used, one.expires_at) for one in sessions])

    def _learn(self, node: str, body: bytes) -> bytes:
        now = self._core.monotonic()
        for one in _known(body):
            session = Session(one.key, now - one.idle, now + one.left, one.expires_at, one.csrf)
            self._sessions.take(session)
        return b""

    def _hear(self, node: str, body: bytes) -> None:
        if node != self._backplane.node:
            self._learn(node, body)

    def _ended(self, session: Session) -> None:
        self._told_at.pop(session.key, None)
        if not self._ending:
            self._backplane.tell("http.session.end", session.key)

    def _end(self, node: str, body: bytes) -> None:
        session: Any = None if node == self._backplane.node else self._sessions.find(body)
        if session is not None:
            self._ending = True
            try:
                self._sessions.end(session)
            finally:
                self._ending = False

    def _used(self, session: Session) -> None:
        if session.used - self._told_at.get(session.key, -TOLD_EVERY) >= TOLD_EVERY:
            self._told_at[session.key] = session.used
            self._backplane.tell("http.session.used", session.key)

    def _use(self, node: str, body: bytes) -> None:
        session = self._sessions.find(body)
        if session is not None and node != self._backplane.node:
            session.used = self._core.monotonic()
