"""The MQTT server as one of several processes: whose session it is, and what passes between them.

::

    directory, space "mqtt": owner and client id -> node, and the number of a persistent session     see `moves`
    Own, Others, Heard       what sessions here and there are subscribed to                          see `interest`
    Outgoing, Boxes          messages on their way, and those that came                              see `remote`

Persistent sessions that are away belong to the process that had them last. What a process had that is gone is taken
over by its heir: sessions, wills, and what was on its way to its groups.

If we are fenced, everything is dropped as if it had never been here: connections end, and nothing is written.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger
from twisted.python.failure import Failure

from broker.model.errors import Unavailable
from broker.mqtt.arrivals import Arrivals
from broker.mqtt.boxes import Boxes
from broker.mqtt.heard import Heard
from broker.mqtt.interest import Others, Own, decode, encode
from broker.mqtt.journal import NEWS, TAKEN, WillRecord
from broker.mqtt.message import Message, Options
from broker.mqtt.moves import HANDED, LOST, SPACE, Moves, key_text
from broker.mqtt.parcels import decode_bodies, is_for_group, messages, pack
from broker.mqtt.persistent import PersistentSession
from broker.mqtt.remote import CAST, Outgoing
from broker.mqtt.session import Session
from broker.mqtt.wills import Key, LastWill

#: The space in the directory for wills by the epoch of the process where they were left.
WILLS: Final = "wills"
#: Bits of a number that count within one epoch.
EPOCH_BITS: Final = 40
#: Seconds in which the others have to say what they want, before this process serves.
GREETING: Final = 5.0
#: Ticks between two looks for boxes of which nobody has told.
LOOK_EVERY: Final = 5


class Elsewhere:
    """``server`` is the `MqttListener`; ``backplane`` an IBackplane over Redis."""

    log: ClassVar[Logger] = Logger(namespace="broker.mqtt")

    def __init__(self, server: Any, backplane: Any) -> None:
        self._server = server
        self._backplane = backplane
        self._sessions = server.sessions
        self._journal = server.journal
        self.out = Outgoing(self._journal, self._cast)
        self.own = Own(self._tell_of_interest, self._sessions.groups)
        self.others = Others(server.topics, self._sessions.groups, self.out)
        self.boxes = Boxes(self._journal, server.topics, self.out)
        self.arrivals = Arrivals(server.topics, self._sessions.groups)
        #: Persistent sessions of this process by number.
        self.numbers: dict[int, PersistentSession] = self.boxes.sessions
        self.moves = Moves(server, backplane, self.others, self.boxes, lambda: self._is_ready)
        self.heard = Heard(backplane, self._tell, server.reactor)
        self._ticks = 0
        self._greeted: set[str] = set()
        self._greeting: Deferred[None] | None = None
        self._is_ready = False
        #: Entries of our stream that are being written -> position; those of which that has failed.
        self._entries: dict[bytes, int] = {}
        self._to_read_again: set[bytes] = set()
        self._sessions.neighbours = self
        self._listen()

    def _listen(self) -> None:
        backplane = self._backplane
        self.others.hear(backplane, self.numbers.__contains__)
        backplane.hear(CAST, self._parcel)
        backplane.hear(NEWS, self._heard_news)
        backplane.hear("mqtt.retain", self._retained)
        backplane.hear("mqtt.hello", self._hello)
        backplane.hear("mqtt.told", self._told)
        backplane.stream("mq", self._streamed)
        backplane.watch(gone=self._gone, fenced=self._fenced, joined=self._joined, left=self._left)
        self._journal.watch(self._settled)

    def counters(self) -> dict[str, float]:
        """For the metrics."""
        return {
            "mqtt_sessions_taken_over_total": self.moves.takeovers,
            "mqtt_processes_behind": self.heard.behind,
        }

    def _cast(self, kind: str, body: bytes, node: str) -> None:
        self._backplane.cast(kind, body, node)

    def _tell(self, kind: str, body: bytes) -> None:
        if self._backplane.node:
            self._backplane.tell(kind, body)

    def _tell_of_interest(self, kind: str, body: bytes) -> None:
        self.heard.changed()
        self._tell(kind, body)

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
            self.heard.serves(node)

    def _told(self, node: str, body: bytes) -> None:
        if body.decode() == self._backplane.node:
            self._greeted.add(node)
            self.heard.serves(node)
            if self._greeted.issuperset(self._backplane.others()):
                self._greeted_enough()

    def _left(self, node: str) -> None:
        self.others.node_left(node)
        self.heard.left(node)
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
        if self._to_read_again and not self._journal.uncertain:
            Deferred.fromCoroutine(self._read_again()).addErrback(
                lambda failure: self.log.failure("mqtt: fault while a stream was read again", failure)
            )
        if self._ticks % LOOK_EVERY == 0:
            looking = self._journal.load_boxes()
            looking.addCallbacks(self.boxes.look_at, lambda failure: failure.trap(Unavailable))

    def acquire(self, key: Key) -> Deferred[None] | None:
        """Have the client's session, if it has one, in this process; None when it is. Fails with Unavailable."""
        if self._sessions.get(key) is not None:
            return None
        if not self._is_ready:  # what a client published now would find none of the others' subscribers
            return fail(Unavailable("this process is joining the others again"))
        return Deferred.fromCoroutine(self.moves.acquire(key))

    # -- Neighbours: what sessions tell ----------------------------------------------------------------------------

    def joined(self, session: Session, topic_filter: str, granted: Options, before: Options | None) -> None:
        self.own.joined(session, topic_filter, granted, before)
        if isinstance(session, PersistentSession) and before is not granted and not self.moves.restoring:
            self._tell_of_interest("mqtt.sub", encode((session.number, topic_filter, granted.as_number())))

    def left(self, session: Session, topic_filter: str, granted: Options) -> None:
        self.own.left(session, topic_filter, granted)
        if isinstance(session, PersistentSession) and not session.moved:
            self._tell_of_interest("mqtt.unsub", encode((session.number, topic_filter)))

    def added(self, session: Session) -> None:
        number = ""
        if isinstance(session, PersistentSession):
            number = str(session.number)
            self.numbers[session.number] = session
            self._tell_of_interest("mqtt.made", encode((session.number, *session.key)))
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

    def known(self) -> Deferred[None] | None:
        """See `broker.mqtt.heard`."""
        return self.heard.known()

    def came_or_went(self, session: Session) -> None:
        """Its connection did."""
        if session.subscriptions:
            self.own.came_or_went(session)

    # -- messages --------------------------------------------------------------------------------------------------

    def _parcel(self, node: str, body: bytes) -> None:
        self.arrivals.take(body)

    def _streamed(self, entry: bytes, data: bytes, back: bool = False) -> None:
        """An entry of the stream that others' journals write to: messages at QoS 1 and 2. ``back``: our own, for a
        process that is gone; its groups are left."""
        if back:
            self._take_for_groups(self._backplane.node, entry, data)
            self._entries[entry] = self._journal.position
            return
        before = self._journal.position
        bodies = decode_bodies(data)
        for body in bodies:
            self.arrivals.take(body)
        if self._journal.position != before:  # some of it is owed to a session on disk: with that, in one commit
            self._journal.append((TAKEN, "mq:" + self._backplane.node, entry))
            self._entries[entry] = self._journal.position
        else:
            self._backplane.remove("mq", entry, at_once=any(map(is_for_group, bodies)))

    async def _read_again(self) -> None:
        """What could not be written lies in our stream still, for groups; the others' copies were sent at once."""
        node, after = self._backplane.node, b"0"
        again, self._to_read_again = self._to_read_again, set()
        try:
            while again and (entries := await self._backplane.read_stream("mq", node, after)):
                if node != self._backplane.node:
                    return
                after = entries[-1][0]
                for entry, data in entries:
                    if entry in again:
                        self._take_for_groups(node, entry, data)
                        self._entries[entry] = self._journal.position
        except Unavailable:
            self._to_read_again |= again

    def _take_for_groups(self, node: str, entry: bytes, data: bytes) -> None:
        for body in decode_bodies(data):
            if is_for_group(body):
                self.arrivals.take_for_group(body)
        self._journal.append((TAKEN, "mq:" + node, entry))

    def _settled(self, upto: int, error: Exception | None) -> None:
        """Look at our own boxes that have got something, now that it is on disk; others hear of theirs from storage."""
        if error is not None:
            self.boxes.again()
        if self._entries:
            done = [entry for entry, position in self._entries.items() if position <= upto]
            for entry in done:
                del self._entries[entry]
            if error is not None:
                self._to_read_again.update(done)
        news = self.out.news
        if not news:
            return
        ready = [number for number, position in news.items() if position <= upto]
        for number in ready:
            del news[number]
        if ready and error is None:
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
        await self.moves.sweep()
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
            raise Unavailable("this process is joining the others itself")  # it is asked again
        self.others.node_left(node)
        await self._sweep()
        after = b"0"
        while entries := await self._backplane.read_stream("mq", node, after):
            after = entries[-1][0]
            for entry, data in entries:
                self._take_for_groups(node, entry, data)
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
        self.boxes.clear()
        self._entries.clear()
        self._to_read_again.clear()
        self.heard.clear()
        self.out.news.clear()
        self.own.clear()
        self.others.clear()
        self._greeted.clear()
        self._sessions.neighbours = self

    async def _joined(self) -> None:
        self.own.tell_all()  # of those who came meanwhile and have no session
        await self.prepare()
        await self._server.load_retained()
