"""A connection to Redis that comes back by itself. Everything that speaks to Redis goes through one of these.

::

    redis = RedisConnection(address, settings, reactor, "writer", prepare=load_scripts)
    await redis.open()                     the first connection, or Unavailable with the reason
    reply = await redis.call("GET", key)   bytes, int, None or lists of them
    reply = await redis.run(script, keys, arguments)
    redis.on_up / redis.on_down            told of each connection that may be used, and of its end

What is called in one turn of the reactor leaves in one write, and answers come in the order of the calls. Nothing waits
for a connection: while there is none, everything is refused at once with Unavailable, which says why. What was under
way when a connection broke fails with `Lost`, which is an Unavailable, too. Answers that do not come within
``reply_timeout`` break the connection. The time between attempts grows up to ``retry_longest``, with jitter.

``prepare(call)`` greets each new connection before anybody else may use it. If it fails, so does the connection; with
`Unfit` also the `open` that waits for it.

A command that blocks (XREADGROUP with BLOCK) needs a connection of its own, and its ``wait``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, ClassVar, Protocol

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from broker.model.errors import Unavailable
from broker.storage.deferred import deferred
from broker.storage.redis.address import RedisAddress
from broker.storage.redis.endpoints import endpoint_of
from broker.storage.redis.link import Link, make_factory, plainly
from broker.storage.redis.replies import Argument, Lost, Refused, Reply, Unfit, text_of
from broker.storage.redis.script import Script
from broker.storage.redis.settings import RedisTable

#: How often a connection looks for answers that are overdue, in parts of ``reply_timeout`` and ``keep_alive``.
TICKS_OF_TIMEOUT = 4
NOT_YET = "not connected yet"


class Call(Protocol):
    """`RedisConnection.call`, or the same for one that is being greeted."""

    def __call__(self, *arguments: Argument) -> Deferred[Reply]: ...


Prepare = Callable[[Call], Coroutine[Deferred[Any], Any, None]]


async def nothing(_: Call) -> None:
    """A connection that needs no greeting but the log-in."""


class RedisConnection:
    """``reactor`` gives the timers, ``monotonic`` seconds. ``name`` is for Redis's list of clients and for log lines.

    ``scripts`` are loaded by each new connection, before ``prepare``.
    """

    log: ClassVar[Logger] = Logger()
    subscribes = False

    def __init__(
        self,
        address: RedisAddress,
        settings: RedisTable,
        reactor: Any,
        name: str,
        *,
        prepare: Prepare = nothing,
        scripts: Sequence[Script] = (),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.address = address
        self.name = name
        #: Why there is no connection; empty while there is one.
        self.trouble = NOT_YET
        self.on_up: list[Callable[[], object]] = []
        self.on_down: list[Callable[[str], object]] = []
        #: Connections that could be used, and attempts that led to none.
        self.connects = 0
        self.failed_attempts = 0
        self._settings = settings
        self._reactor = reactor
        self._prepare = prepare
        self._scripts = scripts
        self._monotonic = monotonic
        self._factory: Any = None
        #: The connection there is, and whether it may be used.
        self._link: Link | None = None
        self._usable = False
        self._said = ""
        self._opening: Deferred[None] | None = None
        self._patience: Any = None
        self._ticking = LoopingCall(self._tick)
        self._ticking.clock = reactor

    # -- life ------------------------------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        return self._usable

    @property
    def outstanding(self) -> int:
        """Commands under way."""
        return 0 if self._link is None else self._link.outstanding

    @deferred
    async def open(self) -> None:
        """Connect. Raises Unavailable when that fails for good, or for ``connect_timeout``; then it is closed."""
        settings = self._settings
        endpoint = endpoint_of(self._reactor, self.address, settings)
        self._factory = make_factory(self._make_link, self.subscribes, settings.retry_first, settings.retry_longest)
        self._opening = Deferred()
        self._patience = self._reactor.callLater(settings.connect_timeout, self._give_up)
        self._ticking.start(min(settings.reply_timeout, settings.keep_alive) / TICKS_OF_TIMEOUT, now=False)
        self._factory.startConnecting(_Watched(endpoint, self._attempt_failed))
        try:
            await self._opening
        except Unavailable as error:
            await self.close()
            raise Unavailable(f"cannot use the Redis at {self.address}: {error.message}") from None

    def close(self) -> Deferred[None]:
        """End the connection and come back no more. What is under way fails. Harmless when called twice."""
        factory, self._factory = self._factory, None
        if factory is None:
            return succeed(None)
        if self._ticking.running:
            self._ticking.stop()
        self._opened(Unavailable("closed"))
        if self._link is not None:
            self._link.close()
        ended: Deferred[None] = factory.disconnect()
        return ended.addBoth(self._closed)

    def _closed(self, _: Any) -> None:
        self.trouble = "closed"

    # -- commands --------------------------------------------------------------------------------------------------

    def call(self, *arguments: Argument, wait: float = 0.0) -> Deferred[Reply]:
        """One command. ``wait``: seconds that it may block. Fails with Refused, Lost, or another Unavailable."""
        link = self._link
        if link is None or not self._usable:
            return fail(Unavailable(self.trouble_now))
        if link.outstanding >= self._settings.max_outstanding:
            return fail(Unavailable(f"{link.outstanding} commands wait for Redis already"))
        return link.send(arguments, wait)

    def run(
        self, script: Script, keys: Sequence[Argument] = (), arguments: Sequence[Argument] = (), *, wait: float = 0.0
    ) -> Deferred[Reply]:
        """One of ``scripts``, which each new connection has loaded. Fails as `call`."""
        line = ("EVALSHA", script.sha, len(keys), *keys, *arguments)

        def refused(failure: Failure) -> Any:
            error = failure.value
            if not isinstance(error, Refused) or error.code != "NOSCRIPT":
                return failure
            # Somebody has emptied the cache of scripts.
            return self.call("SCRIPT", "LOAD", script.text).addCallback(lambda _: self.call(*line, wait=wait))

        return self.call(*line, wait=wait).addErrback(refused)

    def drop(self, why: str) -> None:
        """Give up this connection for a new one: it leads to the wrong server."""
        if self._link is not None:
            self._link.drop(why)

    @property
    def trouble_now(self) -> str:
        """A sentence for whoever asks while there is no connection; empty while there is one."""
        return f"no connection to Redis: {self.trouble}"[:300] if self.trouble else ""

    # -- from the link ---------------------------------------------------------------------------------------------

    def _make_link(self) -> Link:
        settings = self._settings
        return Link(self, self._monotonic, settings.reply_timeout, settings.keep_alive)

    def link_made(self, link: Link) -> Deferred[None]:
        """See `link.Owner`."""
        self._link = link
        return Deferred.fromCoroutine(self._greet(link)).addErrback(self._not_greeted)

    async def _greet(self, link: Link) -> None:
        def call(*arguments: Argument) -> Deferred[Reply]:
            return link.send(arguments)

        address, settings = self.address, self._settings
        username, password = address.username or settings.username, address.password or settings.password
        if password:
            try:
                await call("AUTH", *((username,) if username else ()), password)
            except Refused as error:
                # Its own text may repeat what it was given.
                raise Unfit("Redis does not take the user name or the password") from error
        try:
            if address.db:
                await call("SELECT", address.db)
            await call("CLIENT", "SETNAME", self.name)
        except Refused as error:
            if error.code in ("NOAUTH", "NOPERM", "ERR"):
                raise Unfit(error.message) from error
            raise
        for script in self._scripts:
            await call("SCRIPT", "LOAD", script.text)
        await self._prepare(call)

    def _not_greeted(self, failure: Failure) -> Failure:
        """Only the errors of the contract come out; any other is a fault of ours and is logged as one."""
        error = failure.value
        if isinstance(error, Unfit):
            self._reactor.callLater(0, self._opened, error)
        elif not isinstance(error, Unavailable):
            self.log.failure("fault in the greeting of Redis", failure)
            return Failure(Unavailable("a fault of the broker's own; the log has it"))
        return failure

    def link_ready(self, link: Link) -> None:
        """See `link.Owner`."""
        self._usable = True
        self.connects += 1
        if self.connects > 1 or self._said:
            self.log.info("{name}: connected to Redis", name=self.name)
        self.trouble = self._said = ""
        # In a turn of its own: this one is still making the connection.
        self._reactor.callLater(0, self._up, link)

    def _up(self, link: Link) -> None:
        if link is not self._link or not self._usable:
            return
        for told in list(self.on_up):
            self._tell(told)
        self._opened(None)

    def link_lost(self, link: Link, why: str) -> None:
        """See `link.Owner`."""
        if link is not self._link:
            return
        was_usable, self._usable, self._link = self._usable, False, None
        if not was_usable:
            self._troubled(why)
            return
        self.trouble = why
        self._say(why)
        for told in list(self.on_down):
            self._tell(told, why)

    def _attempt_failed(self, failure: Failure) -> None:
        self._troubled(plainly(failure))

    def _troubled(self, why: str) -> None:
        self.failed_attempts += 1
        self.trouble = why
        self._say(why)

    def _say(self, why: str) -> None:
        """Once for each reason, not once for each attempt."""
        if why != self._said and self._factory is not None:
            self._said = why
            self.log.warn(
                "{name}: no connection to Redis at {address}: {why}", name=self.name, address=str(self.address), why=why
            )

    def link_message(self, channel: bytes, message: bytes) -> None:
        """See `link.Owner`."""

    # -- inside ----------------------------------------------------------------------------------------------------

    def _tell(self, told: Callable[..., object], *arguments: object) -> None:
        try:
            told(*arguments)
        except Exception:
            self.log.failure("{name}: what the connection to Redis does could not be told", name=self.name)

    def _tick(self) -> None:
        if self._link is not None:
            self._link.tick()

    def _give_up(self) -> None:
        self._patience = None
        silent = self.trouble in ("", NOT_YET)
        self._opened(Unavailable("it does not answer" if silent else self.trouble))

    def _opened(self, error: Unavailable | None) -> None:
        patience, self._patience = self._patience, None
        if patience is not None:
            patience.cancel()
        opening, self._opening = self._opening, None
        if opening is None:
            return
        if error is None:
            opening.callback(None)
        else:
            opening.errback(Failure(error))


class RedisSubscriber(RedisConnection):
    """A connection for channels. They are subscribed to again whenever it comes back; what was published in between is
    lost, so whoever must not miss anything looks for himself in ``on_up``.
    """

    subscribes = True

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._channels: dict[bytes, Callable[[bytes], object]] = {}

    def subscribe(self, channel: str, told: Callable[[bytes], object]) -> Deferred[None]:
        """Have ``told(message)`` called. Answers when Redis knows; without a connection, at once: it will."""
        name = channel.encode()
        self._channels[name] = told
        if not self._usable:
            return succeed(None)
        return self.call("SUBSCRIBE", name).addCallback(lambda _: None)

    def unsubscribe(self, channel: str) -> Deferred[None]:
        name = channel.encode()
        if self._channels.pop(name, None) is None or not self._usable:
            return succeed(None)
        return self.call("UNSUBSCRIBE", name).addCallback(lambda _: None)

    async def _greet(self, link: Link) -> None:
        await super()._greet(link)
        for name in list(self._channels):
            await link.send(("SUBSCRIBE", name))

    def link_message(self, channel: bytes, message: bytes) -> None:
        """See `link.Owner`."""
        told = self._channels.get(channel)
        if told is not None:
            self._tell(told, message)


class _Watched:
    """An endpoint whose failures are told."""

    def __init__(self, endpoint: Any, failed: Callable[[Failure], None]) -> None:
        self._endpoint = endpoint
        self._failed = failed

    def __repr__(self) -> str:
        return "to Redis"

    def connect(self, factory: Any) -> Deferred[Any]:
        attempt: Deferred[Any] = self._endpoint.connect(factory)
        return attempt.addErrback(self._note)

    def _note(self, failure: Failure) -> Failure:
        self._failed(failure)
        return failure


__all__ = ["Call", "Lost", "Prepare", "RedisConnection", "RedisSubscriber", "Refused", "Unfit", "text_of"]
