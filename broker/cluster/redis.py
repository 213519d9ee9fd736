"""The backplane over Redis: one node of many.

::

    start ──> join (a new epoch, a lease) ──> renew, renew, ...     every quarter of the lease, one script
                 ^                              │  says who lives, and of whom we are the heir
                 └── fenced: all is dropped ────┘  says that somebody has taken over from us

Three connections: one for commands, one that blocks on the streams (the log, our questions, our MQTT messages), one
for channels. Without Redis nothing is taken, asked or told, and nothing of ours is given up: nobody else can take it
either. When it is back, either the lease holds on, or we are told that we are dead.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha1
from typing import Any, ClassVar, Final

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from broker.cluster import scripts
from broker.cluster.bus import PATIENCE, Bus
from broker.cluster.directory import Directory
from broker.model.cluster import Taken
from broker.model.errors import Unavailable
from broker.model.interfaces import IBackplane
from broker.storage.deferred import deferred
from broker.storage.redis.address import RedisAddress
from broker.storage.redis.connection import RedisConnection, RedisSubscriber
from broker.storage.redis.settings import RedisTable

#: Seconds that one look into the streams blocks.
BLOCK: Final = 2.0
#: Entries of a stream that are read at once.
COUNT: Final = 200
#: Entries of a stream that have been dealt with and are removed together.
REMOVED: Final = 100
#: Renewals within one lease.
RENEWALS: Final = 4

#: The field of an entry that has come back.
BACK: Final = b"back"

Streamed = Callable[[bytes, bytes, bool], object]


@implementer(IBackplane)
class RedisBackplane:
    """``lease``: seconds without a sign of life after which a node counts as dead."""

    log: ClassVar[Logger] = Logger(namespace="broker.cluster")
    alone = False

    def __init__(
        self,
        address: RedisAddress,
        settings: RedisTable,
        reactor: Any,
        name: str,
        lease: float,
        later: Callable[[Callable[[], None]], object],
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self.node = ""
        self.epoch = 0
        self.renewals = 0
        self.fenced_times = 0
        #: Waited for before we join again: nothing of before is written any more.
        self.quiesce: Callable[[], Deferred[Any]] = lambda: succeed(None)
        self._name = name
        self._lease = lease
        self._reactor = reactor
        self._clock = clock
        self._monotonic = monotonic
        self._prefix = f"{settings.prefix}:c:"
        #: Where our storage knows us by: it looks there for whether we may write.
        self._writer = f"{settings.prefix}:writer:{name}"
        make = (address, settings, reactor)
        self._commands = RedisConnection(*make, f"{name}-cluster", monotonic=monotonic)
        self._reader = RedisConnection(*make, f"{name}-streams", monotonic=monotonic)
        self._subscriber = RedisSubscriber(*make, f"{name}-channels", monotonic=monotonic)
        self._commands.on_up.append(self._up)
        self.bus = Bus(self._commands.call, later, reactor, self._prefix, lambda: self.node)
        self._directory = Directory(self._run, later, lambda: self.node, self.doubted)
        self._others: tuple[str, ...] = ()
        self._renewed = 0.0
        self._log_at = b"$"
        self._streams: dict[str, Streamed] = {}
        self._removed: dict[str, list[bytes]] = {}
        self._on_gone: list[Callable[[str], Any]] = []
        self._on_left: list[Callable[[str], object]] = []
        self._on_fenced: list[Callable[[], object]] = []
        self._on_joined: list[Callable[[], Any]] = []
        self._hashes: dict[str, str] = {}
        self._renewing = LoopingCall(self._guarded_renew)
        self._renewing.clock = reactor
        self._reading: Deferred[None] | None = None
        self._running = False
        self._rejoining = False
        self._heirdom: set[str] = set()
        self.bus.hear("gone", self._told_gone)

    # -- life ------------------------------------------------------------------------------------------------------

    @deferred
    async def start(self) -> None:
        """Join. Raises Unavailable."""
        for connection in (self._commands, self._reader, self._subscriber):
            await connection.open()
        self._running = True
        await self._join()
        self._renewing.start(self._lease / RENEWALS, now=False)

    @deferred
    async def stop(self) -> None:
        """Tell Redis that we are gone. What is still to be told is told first, as long as there is a Redis."""
        if not self._running:
            return
        self._running = False
        if self._renewing.running:
            self._renewing.stop()
        try:
            await self._run(scripts.LEAVE, self._writer)
        except Unavailable as error:
            self.log.warn("the other processes will see when our lease is over: {why}", why=error.message)
        self.node = ""
        for connection in (self._subscriber, self._reader, self._commands):
            await connection.close()
        self.bus.close()
        if self._reading is not None:
            await self._reading

    async def _join(self) -> None:
        milliseconds = int(self._lease * 1000)
        now = int(self._clock())
        joined = await self._script(scripts.JOIN, self._prefix, self._name, milliseconds, now, self._writer)
        self.node, self.epoch, self._log_at = joined[0].decode(), int(joined[1]), joined[2]
        self._renewed = self._monotonic()
        await self._subscriber.subscribe(self._prefix + "ch", self.bus.published)
        await self._subscriber.subscribe(f"{self._prefix}ch:{self.node}", self.bus.published)
        self._read(self.node)
        await self._renew(inherit=False)
        self.log.info(
            "joined the other processes: node {node}, {count} others", node=self.node, count=len(self._others)
        )

    def problem(self) -> str:
        if not self.node:
            return "cluster: not joined yet"
        return "" if self.held else f"cluster: {self._commands.trouble_now or 'the lease could not be renewed'}"

    @property
    def held(self) -> bool:
        return bool(self.node) and self._monotonic() - self._renewed < self._lease

    def others(self) -> tuple[str, ...]:
        return self._others

    @property
    def mq_stream(self) -> str:
        """The key of the stream for MQTT messages of node ``%s``."""
        return self._prefix + "mq:%s"

    # -- the lease -------------------------------------------------------------------------------------------------

    def _up(self) -> None:
        if self._running:
            self._directory.again()
            self._guarded_renew()

    def _guarded_renew(self) -> Any:
        if not self.node or self._rejoining:
            return None
        renewing = Deferred.fromCoroutine(self._renew())

        def failed(failure: Failure) -> None:
            if not failure.check(Unavailable):
                self.log.failure("fault while renewing the lease", failure)

        return renewing.addErrback(failed)

    async def _renew(self, inherit: bool = True) -> None:
        node, began = self.node, self._monotonic()
        reply = await self._run(scripts.RENEW, int(self._lease * 1000), int(inherit))
        if node != self.node:
            return
        self.renewals += 1
        if reply[0] == 0:
            self._fence()
            return
        self._renewed = began
        here = tuple(name.decode() for name in reply[1] if name.decode() != node)
        before, self._others = set(self._others), here
        for lost in before.difference(here):
            self._lost(lost)
        for name in reply[2]:
            self._inherit(name.decode())

    def doubted(self) -> None:
        """Redis has refused something as if we were dead: ask it."""
        self._reactor.callLater(0, self._guarded_renew)

    def _fence(self) -> None:
        """Somebody has taken over from us."""
        self.fenced_times += 1
        self.log.error("the lease of {node} was lost: all that it had is dropped", node=self.node)
        old, self.node, self._rejoining = self.node, "", True
        self._directory.forget()
        self._removed.clear()
        self.bus.anew()
        for told in self._on_fenced:
            try:
                told()
            except Exception:
                self.log.failure("fault after the lease was lost")
        self._subscriber.unsubscribe(f"{self._prefix}ch:{old}").addErrback(lambda failure: failure.trap(Unavailable))
        Deferred.fromCoroutine(self._rejoin()).addErrback(
            lambda failure: self.log.failure("fault while joining again", failure)
        )

    async def _rejoin(self) -> None:
        while self._running:
            try:
                await self.quiesce()
                await self._join()
                break
            except Unavailable as error:
                self.log.warn("cannot join again: {why}", why=error.message)
                await self.bus.pause(1.0)
        self._rejoining = False
        for told in self._on_joined:
            await self._told_joined(told)

    async def _told_joined(self, told: Callable[[], Any]) -> None:
        """Until it could do what it has to: without that it would serve and know nothing of the others."""
        node = self.node
        while self._running and self.node == node:
            try:
                await maybeDeferred(told)
                return
            except Unavailable as error:
                self.log.warn("what follows joining again has to wait: {why}", why=error.message)
                await self.bus.pause(0.5)
            except Exception:
                self.log.failure("fault after joining again")
                return

    # -- those that are gone ---------------------------------------------------------------------------------------

    def _lost(self, node: str) -> None:
        self.bus.node_gone(node)
        for told in self._on_left:
            try:
                told(node)
            except Exception:
                self.log.failure("fault when {node} was gone", node=node)

    def _told_gone(self, sender: str, body: bytes) -> None:
        node = body.decode()
        if node in self._others:
            self._others = tuple(other for other in self._others if other != node)
        if node != self.node:
            self._lost(node)

    def _inherit(self, node: str) -> None:
        if node in self._heirdom:
            return
        self._heirdom.add(node)
        self.log.warn("{node} is gone: what it had is ours now", node=node)
        Deferred.fromCoroutine(self._take_over(node)).addErrback(
            lambda failure: self.log.failure("fault while taking over from {node}", failure, node=node)
        )

    async def _take_over(self, node: str) -> None:
        me = self.node
        try:
            for told in self._on_gone:
                await maybeDeferred(told, node)
            if me == self.node and await self._run(scripts.BURY, node):
                self.bus.tell("gone", node.encode())
        except Unavailable as error:
            # The next renewal says again that it is ours.
            self.log.warn("what {node} had could not be taken over yet: {why}", node=node, why=error.message)
        finally:
            self._heirdom.discard(node)

    # -- IBackplane ------------------------------------------------------------------------------------------------

    def cast(self, kind: str, body: bytes, node: str | None = None) -> None:
        self.bus.cast(kind, body, node)

    def tell(self, kind: str, body: bytes) -> None:
        self.bus.tell(kind, body)

    def hear(self, kind: str, call: Callable[[str, bytes], object]) -> None:
        self.bus.hear(kind, call)

    def ask(self, node: str, kind: str, body: bytes, patience: float = PATIENCE) -> Deferred[bytes]:
        if node == self.node or not self.node:
            return fail(Unavailable("that is this process"))
        return self.bus.ask(node, kind, body, patience)

    def answer(self, kind: str, call: Callable[[str, bytes], Any]) -> None:
        self.bus.answer(kind, call)

    def take(self, space: str, key: str, note: str = "") -> Deferred[Taken]:
        return self._directory.take(space, key, note)

    def leave(self, space: str, key: str, note: str = "") -> None:
        self._directory.leave(space, key, note)

    def find(self, space: str, key: str) -> Deferred[Taken]:
        return self._directory.find(space, key)

    def lead(self, duty: str) -> Deferred[bool]:
        if not self.node:
            return succeed(False)
        return self._run(scripts.LEAD, duty).addCallbacks(bool, self._leads_not)

    @staticmethod
    def _leads_not(failure: Failure) -> bool:
        failure.trap(Unavailable)
        return False

    def watch(
        self,
        gone: Callable[[str], Any] | None = None,
        fenced: Callable[[], object] | None = None,
        joined: Callable[[], Any] | None = None,
        left: Callable[[str], object] | None = None,
    ) -> None:
        if gone is not None:
            self._on_gone.append(gone)
        if fenced is not None:
            self._on_fenced.append(fenced)
        if joined is not None:
            self._on_joined.append(joined)
        if left is not None:
            self._on_left.append(left)

    # -- streams ---------------------------------------------------------------------------------------------------

    def stream(self, name: str, call: Streamed) -> None:
        """``call(id, data, back)`` for each entry of our stream of this name (``mq``), which has to `remove` it.
        ``back``: it was ours, and for a process that is gone."""
        self._streams[name] = call

    def read_stream(self, name: str, node: str, after: bytes) -> Deferred[list[tuple[bytes, bytes]]]:
        """What another node's stream holds: (id, data) of some entries after ``after``."""
        reply: Deferred[Any] = self._commands.call(
            "XRANGE", f"{self._prefix}{name}:{node}", b"(" + after, "+", "COUNT", COUNT
        )

        def pairs(entries: Any) -> list[tuple[bytes, bytes]]:
            return [(entry[0], entry[1][1]) for entry in entries or ()]

        return reply.addCallback(pairs)

    def remove(self, name: str, entry: bytes, at_once: bool) -> None:
        """An entry of our stream has been dealt with. ``at_once``: our heir would do it again; others go together."""
        waiting = self._removed.setdefault(name, [])
        waiting.append(entry)
        if at_once or len(waiting) >= REMOVED:
            self._remove(name)

    def _remove(self, name: str) -> None:
        entries = self._removed.pop(name)
        removed = self._commands.call("XDEL", f"{self._prefix}{name}:{self.node}", *entries)
        removed.addErrback(lambda failure: failure.trap(Unavailable))  # looked at once more by our heir

    def _read(self, node: str) -> None:
        self._reading = Deferred.fromCoroutine(self._read_on(node))
        self._reading.addErrback(lambda failure: self.log.failure("fault while reading the streams", failure))

    async def _read_on(self, node: str) -> None:
        at = {"log": self._log_at}
        while self._running and self.node == node:
            # Whoever reads one of our streams may have come only now: it is read from its beginning.
            names = ("log", f"in:{node}", *(f"{name}:{node}" for name in self._streams))
            at = {name: at.get(name, b"0") for name in names}
            keys = {(self._prefix + name).encode(): name for name in names}
            try:
                reply: Any = await self._reader.call(
                    "XREAD", "COUNT", COUNT, "BLOCK", int(BLOCK * 1000), "STREAMS", *keys, *at.values(), wait=BLOCK
                )
            except Unavailable:
                if self._running:
                    await self.bus.pause(0.2)
                continue
            if not reply:  # it is quiet
                for name in list(self._removed):
                    self._remove(name)
                continue
            for key, entries in reply:
                name = keys[key]
                at[name] = entries[-1][0]
                self._entries(name.partition(":")[0], name, entries)

    def _entries(self, short: str, name: str, entries: list[Any]) -> None:
        node = self.node
        for number, (_, fields) in enumerate(entries):
            if self.node != node:
                return
            try:
                if short in self._streams:
                    self._streams[short](entries[number][0], fields[1], fields[0] == BACK)
                else:
                    self.bus.streamed(short, fields[1])
            except Exception:
                self.log.failure("fault of who reads {name}", name=name)
        if short == "in":
            ids = [entry[0] for entry in entries]
            removed = self._commands.call("XDEL", self._prefix + name, *ids)
            removed.addErrback(lambda failure: failure.trap(Unavailable))  # seen again only by an heir, who asks nobody

    # -- scripts ---------------------------------------------------------------------------------------------------

    def _run(self, script: str, *arguments: Any) -> Deferred[Any]:
        return self._script(script, self._prefix, self.node, *arguments)

    def _script(self, script: str, *arguments: Any, keys: tuple[str, ...] = ()) -> Deferred[Any]:
        digest = self._hashes.get(script)
        if digest is None:
            digest = self._hashes[script] = sha1(script.encode(), usedforsecurity=False).hexdigest()
        reply = self._commands.call("EVALSHA", digest, len(keys), *keys, *arguments)

        def unknown(failure: Failure) -> Any:
            if getattr(failure.value, "code", "") != "NOSCRIPT":
                return failure
            return self._commands.call("EVAL", script, len(keys), *keys, *arguments)

        return reply.addErrback(unknown)
