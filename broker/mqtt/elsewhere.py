"""The MQTT server as one of several processes: whose session it is, and what passes between them.

::

    CONNECT ──> ours? ──> directory: take ──> nobody's, or of a process that is gone ──> loaded from storage
                                         └──> another's ──> ask it to release ──> it closes, writes, lets go ──> again

    directory, space "mqtt": owner and client id -> node, and the number of a persistent session

Persistent sessions that are away belong to the process that had them last. What a process had that is gone is taken
over by its heir: sessions, wills, and what was on its way to its groups.

If we are fenced, everything is dropped as if it had never been here: connections end, and nothing is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final

from twisted.internet.defer import Deferred, DeferredList, fail
from twisted.logger import Logger
from twisted.python.failure import Failure

from broker.model.errors import BrokerError, Unavailable
from broker.mqtt.arrivals import Arrivals
from broker.mqtt.boxes import Boxes
from broker.mqtt.interest import Others, Own, decode, encode
from broker.mqtt.journal import TAKEN, LoadedSession, WillRecord
from broker.mqtt.message import Message, Options
from broker.mqtt.parcels import decode_bodies, is_for_group, messages, pack
from broker.mqtt.persistent import PersistentSession
from broker.mqtt.remote import CAST, Outgoing
from broker.mqtt.session import Session
from broker.mqtt.wills import Key, LastWill

#: The space in the directory for sessions, and that for wills by the epoch of the process where they were left.
SPACE: Final = "mqtt"
WILLS: Final = "wills"
#: Bits of a number that count within one epoch.
EPOCH_BITS: Final = 40
#: Seconds between two attempts to have a session, and how long is tried.
AGAIN: Final = 0.25
PATIENCE: Final = 25.0
#: Seconds in which the others have to say what they want, before this process serves.
GREETING: Final = 5.0
#: What became of a session that is not ours any more: given to who asked for it, or taken while we were thought dead.
HANDED: Final = 1
LOST: Final = 2
#: Ticks between two looks for boxes of which nobody has told.
LOOK_EVERY: Final = 5
#: Keys taken at once.
SWEEP: Final = 500


def key_text(key: Key) -> str:
    return f"{key[0]}\0{key[1]}"


class Elsewhere:
    """``server`` is the `MqttListener`; ``backplane`` an IBackplane over Redis."""

    log: ClassVar[Logger] = Logger(namespace="broker.mqtt")

    def __init__(self, server: Any, backplane: Any) -> None:
        self._server = server
        self._backplane = backplane
        self._sessions = server.sessions
        self._journal = server.journal
        self.out = Outgoing(self._journal, self._cast)
        self.own = Own(self._tell, self._sessions.groups)
        self.others = Others(server.topics, self._sessions.groups, self.out)
        self.boxes = Boxes(self._journal, server.topics)
        self.arrivals = Arrivals(server.topics, self._sessions.groups)
        #: Persistent sessions of this process by number.
        self.numbers: dict[int, PersistentSession] = self.boxes.sessions
        self.takeovers = 0
        self._ticks = 0
        self._greeted: set[str] = set()
        self._greeting: Deferred[None] | None = None
        self._is_ready = False
        #: What is taken up is known to everybody.
        self._restoring = False
        self._sessions.neighbours = self
        self._listen()

    def _listen(self) -> None:
        backplane = self._backplane
        self.others.hear(backplane, self.numbers.__contains__)
        backplane.hear(CAST, self._parcel)
        backplane.hear("mqtt.news", self._heard_news)
        backplane.hear("mqtt.retain", self._retained)
        backplane.hear("mqtt.hello", self._hello)
        backplane.hear("mqtt.told", self._told)
        backplane.answer("mqtt.release", self._release)
        backplane.stream("mq", self._streamed)
        backplane.watch(gone=self._gone, fenced=self._fenced, joined=self._joined, left=self._left)
        self._journal.watch(self._settled)

    def _cast(self, kind: str, body: bytes, node: str) -> None:
        self._backplane.cast(kind, body, node)

    def _tell(self, kind: str, body: bytes) -> None:
        if self._backplane.node:
            self._backplane.tell(kind, body)

    # -- begin -----------------------------------------------------------------------------------------------------

    async def prepare(self) -> None:
        """Learn what there is, and take up what is nobody's. Raises Unavailable."""
        first = self._backplane.epoch << EPOCH_BITS
        self._sessions.number_from(first + 1)
        self._sessions.wills.number_from(first + 1)
        greeted = self._greeting = Deferred()
        self._tell("mqtt.hello", b"")
        for one in await self._journal.load_sessions():
            if one.record.number not in self.numbers:
                self.others.loaded(one)
        await self._sweep()
        if not self._greeted.issuperset(self._backplane.others()):
            timer = self._server.reactor.callLater(GREETING, self._greeted_enough)
            await greeted
            if timer.active():
                timer.cancel()
        self._greeting = None
        self.boxes.look_at(await self._journal.load_boxes())
        self._is_ready = True

    def _hello(self, node: str, body: bytes) -> None:
        if node != self._backplane.node:
            self.own.tell_all()
            self._tell("mqtt.told", node.encode())

    def _told(self, node: str, body: bytes) -> None:
        if body.decode() == self._backplane.node:
            self._greeted.add(node)
            if self._greeted.issuperset(self._backplane.others()):
                self._greeted_enough()

    def _left(self, node: str) -> None:
        self.others.node_left(node)
        if self._greeted.issuperset(other for other in self._backplane.others() if other != node):
            self._greeted_enough()

    def _greeted_enough(self) -> None:
        greeting, self._greeting = self._greeting, None
        if greeting is not None:
            greeting.callback(None)

    def tick(self) -> None:
        """About once a second. Now and then look for boxes of which nobody has told: who put it there may be gone."""
        self._ticks += 1
        if not self._is_ready:
            return
        self.boxes.tick()
        if self._ticks % LOOK_EVERY == 0:
            looking = self._journal.load_boxes()
            looking.addCallbacks(self.boxes.look_at, lambda failure: failure.trap(Unavailable))

    # -- whose session it is ---------------------------------------------------------------------------------------

    def acquire(self, key: Key) -> Deferred[None] | None:
        """Have the client's session, if it has one, in this process; None when it is. Fails with Unavailable."""
        if self._sessions.get(key) is not None:
            return None
        if not self._is_ready:  # what a client published now would find none of the others' subscribers
            return fail(Unavailable("this process is joining the others again"))
        return Deferred.fromCoroutine(self._acquire(key))

    async def _acquire(self, key: Key) -> None:
        name = key_text(key)
        until = self._server.monotonic() + PATIENCE
        while True:
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

    async def _take_up(self, numbers: Sequence[int]) -> None:
        """They are ours: as they are in storage."""
        wanted = [number for number in numbers if number not in self.numbers]
        if not wanted:
            return
        loaded = await self._journal.load_these(wanted)
        for number in wanted:
            self.others.ended(number)
        self._restore([one for one in loaded if one.record.number not in self.numbers])
        self.boxes.look_at(wanted)

    def _restore(self, loaded: Sequence[LoadedSession]) -> None:
        for one in loaded:
            self.others.ended(one.record.number)
        self._restoring = True
        try:
            self._sessions.restore(loaded, self._made)
        finally:
            self._restoring = False

    def _made(self, record: Any) -> PersistentSession:
        self._journal.adopt(record.number)
        session: PersistentSession = self._server.restored(record)
        self.numbers[session.number] = session
        return session

    def _release(self, node: str, body: bytes) -> Deferred[bytes]:
        return Deferred.fromCoroutine(self._let_go(body.decode()))

    async def _let_go(self, name: str) -> bytes:
        """Another process asks for it: end the connection, write what there is to write, forget it."""
        owner, _, client_id = name.partition("\0")
        key = (owner, client_id)
        session = self._sessions.get(key)
        if session is not None and session.connection is not None:
            session.connection.close("takeover")
            session = self._sessions.get(key)
        if not isinstance(session, PersistentSession):
            if session is None:
                # Perhaps it was let go before, and Redis did not take that: what is told must not lose its number.
                given = (str(one.number) for one in self.others.sessions.values() if one.key == key)
                self._backplane.leave(SPACE, name, next(given, ""))
            await self._backplane.find(SPACE, name)
            return b""
        self._sessions.wills.back(key, session.principal)
        while self._journal.committed < self._journal.position:
            await self._server.kept(self._journal.position)
            if session.connection is not None:
                raise Unavailable("the client is back")
        await self.boxes.rest(session.number)
        if session.connection is not None or self._sessions.get(key) is not session:
            raise Unavailable("the client is back")
        if self._journal.committed < self._journal.position:
            return await self._let_go(name)
        self._hand_over(session)
        self._backplane.leave(SPACE, name, str(session.number))
        await self._backplane.find(SPACE, name)
        return b""

    def _hand_over(self, session: PersistentSession) -> None:
        subscriptions = dict(session.subscriptions)
        session.moved = HANDED
        self._sessions.forget(session)
        self.numbers.pop(session.number, None)
        self._journal.release(session.number)
        self.others.handed(session.number, session.key, subscriptions)

    # -- Neighbours: what sessions tell ----------------------------------------------------------------------------

    def joined(self, session: Session, topic_filter: str, granted: Options, before: Options | None) -> None:
        self.own.joined(session, topic_filter, granted, before)
        if isinstance(session, PersistentSession) and before is not granted and not self._restoring:
            self._tell("mqtt.sub", encode((session.number, topic_filter, granted.as_number())))

    def left(self, session: Session, topic_filter: str, granted: Options) -> None:
        self.own.left(session, topic_filter, granted)
        if isinstance(session, PersistentSession) and not session.moved:
            self._tell("mqtt.unsub", encode((session.number, topic_filter)))

    def added(self, session: Session) -> None:
        number = ""
        if isinstance(session, PersistentSession):
            number = str(session.number)
            self.numbers[session.number] = session
            self._tell("mqtt.made", encode((session.number, *session.key)))
        taken = self._backplane.take(SPACE, key_text(session.key), number)
        taken.addCallback(self._still_ours, session).addErrback(self._not_noted, session)

    def _still_ours(self, taken: Any, session: Session) -> None:
        if not taken.mine and session.connection is not None:
            session.connection.close("takeover")

    def _not_noted(self, failure: Failure, session: Session) -> None:
        """Nobody else would know of the session: its client has to come again."""
        failure.trap(Unavailable)
        if session.connection is not None:
            session.connection.close("unavailable")

    def ended(self, session: Session) -> None:
        self._backplane.leave(SPACE, key_text(session.key))
        if isinstance(session, PersistentSession):
            self.numbers.pop(session.number, None)
            self._tell("mqtt.end", encode((session.number,)))

    def has_lost(self, session: Session, last: LastWill) -> bool:
        """Whether it is another process's now, and so is its will, if it can still be called back."""
        if session.moved == HANDED and last.delay:
            self._sessions.wills.withdraw(last)
            return True
        return session.moved == LOST

    def came_or_went(self, session: Session) -> None:
        """Its connection did."""
        if session.subscriptions:
            self.own.came_or_went(session)

    # -- messages --------------------------------------------------------------------------------------------------

    def _parcel(self, node: str, body: bytes) -> None:
        self.arrivals.take(body)

    def _streamed(self, entry: bytes, data: bytes) -> None:
        """An entry of the stream that others' journals write to: messages at QoS 1 and 2."""
        before = self._journal.position
        bodies = decode_bodies(data)
        for body in bodies:
            self.arrivals.take(body)
        if self._journal.position != before:  # some of it is owed to a session on disk: with that, in one commit
            self._journal.append((TAKEN, "mq:" + self._backplane.node, entry))
        else:
            self._backplane.remove("mq", entry, at_once=any(map(is_for_group, bodies)))

    def _settled(self, upto: int, error: Exception | None) -> None:
        """Say which boxes have got something, once that is on disk."""
        if error is not None:
            self.boxes.again()
        news = self.out.news
        if not news:
            return
        ready = [number for number, position in news.items() if position <= upto]
        for number in ready:
            del news[number]
        if ready and error is None:
            self._backplane.cast("mqtt.news", encode(ready))
            self.boxes.look_at(ready)

    def _heard_news(self, node: str, body: bytes) -> None:
        self.boxes.look_at(decode(body))

    # -- retained messages -----------------------------------------------------------------------------------------

    def keep(self, message: Message) -> None:
        """The topic's retained message is this one now: all are told in the order in which it reaches the disk."""
        self.out.send("log", encode(("mqtt.retain", pack(message))))

    def _retained(self, node: str, body: bytes) -> None:
        (message,) = messages(body)
        topic = message.topic
        if message.payload:
            kept = Message(message.name, message.payload, message.qos, True, message.shared, message.expires_at)
            self._server.retained.put(topic, kept)
        else:
            self._server.retained.remove(topic)

    # -- those that are gone ---------------------------------------------------------------------------------------

    async def _sweep(self) -> None:
        """Take up all that belongs to no process that lives."""
        remote = list(self.others.sessions.values())
        for start in range(0, len(remote), SWEEP):
            part = remote[start : start + SWEEP]
            answers = [self._backplane.take(SPACE, key_text(one.key), str(one.number)) for one in part]
            taken = await DeferredList(answers, consumeErrors=True)
            mine = [one.number for one, (good, result) in zip(part, taken, strict=True) if good and result.mine]
            await self._take_up(mine)
        await self._sweep_wills()

    async def _sweep_wills(self) -> None:
        by_epoch: dict[int, list[WillRecord]] = {}
        for record in await self._journal.load_wills():
            by_epoch.setdefault(record.number >> EPOCH_BITS, []).append(record)
        living = {int(node.rpartition(".")[2]) for node in (*self._backplane.others(), self._backplane.node)}
        for epoch, records in by_epoch.items():
            if epoch in living:
                continue
            taken = await self._backplane.take(WILLS, str(epoch))
            if taken.mine and taken.node != self._backplane.node:
                grace = self._server.settings.will_grace
                self._sessions.wills.restore(records, grace, lambda key: self._sessions.get(key) is not None)

    async def _gone(self, node: str) -> None:
        """We are its heir."""
        if not self._is_ready:
            return  # `prepare` takes up everything
        self.others.node_left(node)
        await self._sweep()
        after = b"0"
        while entries := await self._backplane.read_stream("mq", node, after):
            after = entries[-1][0]
            for entry, data in entries:
                for body in decode_bodies(data):
                    if is_for_group(body):
                        self.arrivals.take_for_group(body)
                self._journal.append((TAKEN, "mq:" + node, entry))
            await self._server.kept(self._journal.position)
        self.boxes.look_at(await self._journal.load_boxes())

    def _fenced(self) -> None:
        """Others may have all of it by now."""
        self._is_ready = False
        sessions = self._sessions.each()
        for session in sessions:
            session.moved = LOST
        self._sessions.neighbours = None
        for session in sessions:
            self._sessions.forget(session)
        self._sessions.wills.clear()
        for connection in list(self._server.connections):
            connection.close("unavailable")
        self._journal.abandon()
        self.numbers.clear()
        self.out.news.clear()
        self.own.clear()
        self.others.clear()
        self._greeted.clear()
        self._sessions.neighbours = self

    async def _joined(self) -> None:
        await self.prepare()
        await self._server.load_retained()
