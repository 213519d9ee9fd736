"""The MQTT server: the factory of its connections, who they log in as, their sessions, and what is retained.

5.0: a clean start discards what there was, anything else goes on with it or begins anew [MQTT-3.1.2-4..6]
[MQTT-3.1.4-4]. A subscription replaces the one with the same filter, and loses nothing by it [MQTT-3.8.4-3]
[MQTT-3.8.4-4]; several filters are several requests with one answer, which has a code for each [MQTT-3.8.4-5..7]
[MQTT-3.10.4-6]. Filters to unsubscribe are compared character by character; what is on its way is completed
[MQTT-3.10.4-1..3]. RETAIN replaces or, when empty, removes; without it nothing that is kept changes [MQTT-3.3.1-5..8].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import Any, Final
from uuid import uuid4

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from broker.listening.listener import Listener
from broker.listening.websocket import websocket_factory
from broker.model.errors import Unavailable
from broker.model.interfaces import IMqttIdentities
from broker.mqtt import packets as p
from broker.mqtt import properties as props
from broker.mqtt import reasons as r
from broker.mqtt.connection import MqttConnection
from broker.mqtt.decode5 import NO_LOCAL, RETAIN_AS_PUBLISHED
from broker.mqtt.delivery import SessionIndex, SessionRoute, deliver, distribute, plan_of
from broker.mqtt.elsewhere import Elsewhere
from broker.mqtt.identities import Identities
from broker.mqtt.journal import FORGET, RETAIN, MemoryJournal, SessionJournal, SessionRecord
from broker.mqtt.message import Message, options
from broker.mqtt.persistent import PersistentSession
from broker.mqtt.retained import RetainedPages
from broker.mqtt.session import Session
from broker.mqtt.sessions import Sessions
from broker.mqtt.settings import Settings
from broker.mqtt.sys_topics import SysTopics, usual_figures
from broker.mqtt.terms import Watched
from broker.mqtt.topics import split_share
from broker.mqtt.wills import LastWill
from broker.routing.outbox import Outbox, Turn
from broker.routing.retained import RetainedStore

#: What subscriptions are granted at most.
HIGHEST_QOS: Final = 2
#: Seconds until a will is tried again that storage knew nothing about.
_WILL_AGAIN: Final = 5.0
#: Retained messages that are read from the disk at once.
_LOADED_AT_ONCE: Final = 1_000


class Awaited:
    """Waits for a position of the journal; ``wait(self)`` has `settled` called with the next commit."""

    def __init__(self, position: int, kept: Deferred[None], wait: Callable[[Any], None]) -> None:
        self._position = position
        self._kept = kept
        self._wait = wait

    def settled(self, upto: int, error: Exception | None) -> None:
        """A batch was committed, or failed."""
        if upto < self._position:
            self._wait(self)
        elif error is None:
            self._kept.callback(None)
        else:
            self._kept.errback(Failure(Unavailable("storage could not keep it")))


class MqttListener(Listener):
    """The MQTT listener. ``identities`` are asked in their order which of them a CONNECT is for; the list may still
    grow while other sides are built. ``last_identities`` are asked when none of those claims it. Without a ``journal``
    nothing outlives the process.
    """

    def __init__(
        self,
        settings: Settings,
        topics: SessionIndex,
        identities: Sequence[IMqttIdentities],
        last_identities: Sequence[IMqttIdentities],
        turn: Turn,
        reactor: Any,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        journal: SessionJournal | None = None,
        backplane: Any = None,
    ) -> None:
        super().__init__("mqtt", settings.limits, turn, reactor, clock, monotonic)
        self.settings = settings
        self.topics = topics
        self._identities = Identities(identities, last_identities)
        self.journal: SessionJournal = MemoryJournal() if journal is None else journal
        self.journal.watch(self._settled)
        self.sessions = Sessions(self.journal, topics, clock, self.publish_will, self.kept)
        self.retained: RetainedStore[Message] = RetainedStore(
            settings.max_retained_messages,
            settings.max_retained_bytes,
            lambda topic: self.journal.append((FORGET, topic)),
        )
        #: The other processes; None when there can be none.
        self.elsewhere: Elsewhere | None = None
        if backplane is not None and not backplane.alone:
            self.elsewhere = Elsewhere(self, backplane)
        self._to_be_told: set[Any] = set()
        self._rights_lost = False
        topics.on_rights_lost.append(self._look_at_rights)
        began = monotonic()
        counts: dict[str, Callable[[], int | str]] = {
            "clients/connected": lambda: len(self.connections),
            "clients/total": lambda: len(self.sessions),
            "retained messages/count": lambda: len(self.retained),
        }
        figures = usual_figures(self.stats, topics, counts, lambda: monotonic() - began)
        self._sys = SysTopics(figures, lambda topic, payload: deliver(topics.route(topic), payload, 0))
        self._sys_due = monotonic() if settings.sys_interval else inf

    def connection_for(self, addr: IAddress | None) -> MqttConnection:
        return MqttConnection(self, str(getattr(addr, "host", "")), int(getattr(addr, "port", 0)))

    def reload(self, settings: Settings) -> Sequence[str]:
        """Limits hold for whoever connects from now on; who may log in at all was settled when we were built."""
        self.settings = settings
        return ("bind", "anonymous", "anonymous_deny")

    def websocket_factory(self) -> Factory:
        """What ``ws`` and ``wss`` bindings serve: the same connections inside WebSocket frames."""
        return websocket_factory(self, ("mqtt", "mqttv3.1"), lambda: self.settings.websocket)

    async def prepare(self) -> None:
        """Take up what is on disk. Raises Unavailable."""
        if self.elsewhere is not None:
            await self.elsewhere.prepare()
        else:
            self.sessions.restore(await self.journal.load_sessions(), self.restored)
            wills, grace = await self.journal.load_wills(), self.settings.will_grace
            self.sessions.wills.restore(wills, grace, lambda key: self.sessions.get(key) is not None)
        await self.load_retained()

    async def load_retained(self) -> None:
        """Read all retained messages from the disk. Raises Unavailable."""
        last = ""
        while True:
            rows = await self.journal.load_retained(last, _LOADED_AT_ONCE)
            for row in rows:
                message = Message(row.topic.encode(), row.payload, row.qos, True, row.properties, row.expires_at)
                self.retained.put(row.topic, message)
            if len(rows) < _LOADED_AT_ONCE:
                return
            last = rows[-1].topic

    def counters(self) -> dict[str, float]:
        """For the metrics."""
        return {} if self.elsewhere is None else self.elsewhere.counters()

    def tick(self) -> None:
        super().tick()
        self.sessions.tick()
        if self.elsewhere is not None:
            self.elsewhere.tick()
        now = self.monotonic()
        if self._sys_due <= now and not self.stopping:
            self._sys_due = now + self.settings.sys_interval if self.settings.sys_interval else inf
            self._sys.publish()

    # -- the journal -----------------------------------------------------------------------------------------------

    @property
    def committed(self) -> int:
        """See `broker.mqtt.host.Server`."""
        return self.journal.committed

    def wait(self, waiter: Any) -> None:
        """See `broker.mqtt.host.Server`."""
        self._to_be_told.add(waiter)

    def _settled(self, upto: int, error: Exception | None) -> None:
        self.sessions.settled(upto, error)
        waiting, self._to_be_told = self._to_be_told, set()
        for waiter in waiting:
            try:
                waiter.settled(upto, error)
            except Exception:  # the others have to hear of it all the same
                self.log.failure("mqtt: fault after a commit")

    # -- rights ----------------------------------------------------------------------------------------------------

    def _look_at_rights(self) -> None:
        """Somebody may receive less than before. Many such changes of one turn are looked at once."""
        if not self._rights_lost:
            self._rights_lost = True
            self.reactor.callLater(0, self._recheck)

    def _recheck(self) -> None:
        self._rights_lost = False
        for connection in self.connections:
            assert isinstance(connection, MqttConnection)
            session = connection.session
            if session is not None and session.waiting:
                session.recheck()

    # -- for connections -------------------------------------------------------------------------------------------

    def login(
        self, client_id: str, user: str | None, password: bytes | None, host: str, subject: str | None = None
    ) -> Deferred[Any]:
        """See `broker.mqtt.host.Server`. Fails with an error of `broker.model.errors`."""
        if subject is not None and self.settings.use_identity_as_username:
            return self._identities.login_certified(client_id, user, subject, host)
        return self._identities.login(client_id, user, password, host)

    def new_client_id(self) -> str:
        """For a client that leaves the choice to us [MQTT-3.1.3-6]."""
        return f"auto-{uuid4()}"

    def acquire(self, principal: Any, client_id: str) -> Deferred[None] | None:
        """See `broker.mqtt.host.Server`."""
        return None if self.elsewhere is None else self.elsewhere.acquire((str(principal.name), client_id))

    def attach(
        self, connection: MqttConnection, principal: Any, client_id: str, connect: p.Connect, expiry: int | None
    ) -> tuple[Session, bool, LastWill | None] | None:
        """The client's session; an older connection of the same client ends [MQTT-3.1.4-2], 5.0 [MQTT-3.1.4-3]."""
        key = (str(principal.name), client_id)
        session = self.sessions.get(key)
        if session is not None and session.connection is not None:
            session.connection.close("takeover")
            session = self.sessions.get(key)
        if session is not None and connect.clean:
            self.sessions.end(session)  # [MQTT-3.1.2-6]
            session = None
        if isinstance(session, PersistentSession):
            self._taken_up(session, connection, principal, connect, expiry)
            return session, True, self._will_of(session, connect)
        self.sessions.wills.over(key)  # of one that a crash ended
        fields = (client_id, principal, connection.outbox, self.settings, self.stats, self.clock, connect.version)
        if expiry == 0:
            session = Session(*fields)
        elif self.sessions.persistent >= self.settings.max_sessions:
            return None
        else:
            session = PersistentSession(self.sessions.new_number(), self.journal, self.wait, *fields)
        session.expiry = expiry
        session.connection = connection
        self.sessions.add(session)
        return session, False, self._will_of(session, connect)

    def _will_of(self, session: Session, connect: p.Connect) -> LastWill | None:
        if connect.will is None:
            return None
        return self.sessions.wills.leave(session.key, session.principal, connect.will)

    def _taken_up(
        self,
        session: PersistentSession,
        connection: MqttConnection,
        principal: Any,
        connect: p.Connect,
        expiry: int | None,
    ) -> None:
        known = session.principal is not None
        session.principal = principal
        if not known:
            self.topics.rights_changed(lost=False)
        session.connection = connection
        session.outbox = connection.outbox
        self.sessions.wills.back(session.key, principal)
        self.sessions.seen(session)
        if (session.expiry, session.version) != (expiry, connect.version):
            if session.version != connect.version:
                self.topics.rights_changed()  # plans go by the version
            session.expiry = expiry
            session.version = connect.version
            self.sessions.save(session)

    def restored(self, record: SessionRecord) -> PersistentSession:
        """A session as it was on disk."""
        outbox = Outbox(self.turn, lambda data: None, 0, self.stats)
        fields = (record.client_id, None, outbox, self.settings, self.stats, self.clock, record.version)
        return PersistentSession(record.number, self.journal, self.wait, *fields)

    def recall(self, session: Session, will: LastWill | None) -> Deferred[Any] | None:
        """See `broker.mqtt.host.Server`."""
        found = self._incoming(session)
        if will is None or will.position <= self.journal.committed:
            return found
        kept = self.kept(will.position)
        return kept if found is None else found.addCallback(lambda _: kept)

    def kept(self, position: int) -> Deferred[None]:
        """Fires when the journal has come to this position; fails with Unavailable when it could not."""
        if position <= self.journal.committed:
            return succeed(None)
        kept: Deferred[None] = Deferred()
        self.wait(Awaited(position, kept, self.wait))
        return kept

    def _incoming(self, session: Session) -> Deferred[Any] | None:
        if not isinstance(session, PersistentSession) or session.incoming_known:
            return None

        def known(packet_ids: Sequence[int]) -> None:
            session.incoming = session.incoming.union(packet_ids)
            session.incoming_known = True

        return self.journal.load_incoming(session.number).addCallback(known)

    def resume(self, session: Session) -> None:
        """See `broker.mqtt.host.Server`."""
        if isinstance(session, PersistentSession):
            session.come_back(self.journal.position)
            if self.elsewhere is not None:
                self.elsewhere.came_or_went(session)

    def detach(self, session: Session, connection: MqttConnection) -> None:
        """The connection is over: so is its session, or it is away now."""
        if session.connection is not connection:
            return
        session.connection = None
        if self.elsewhere is not None:
            if session.moved:
                return
            self.elsewhere.came_or_went(session)
        if isinstance(session, PersistentSession) and session.expiry != 0:
            session.go_away()
            self.sessions.away(session, self.clock())
            self.sessions.save(session)  # DISCONNECT may have changed the expiry
        else:
            self.sessions.end(session)

    def will(self, session: Session, will: LastWill) -> None:
        """The client went without a goodbye."""
        if self.elsewhere is not None and self.elsewhere.has_lost(session, will):
            return
        self.sessions.will(session, will)

    def withdraw(self, will: LastWill) -> None:
        """See `broker.mqtt.host.Server`."""
        self.sessions.wills.withdraw(will)

    def publish_will(self, last: LastWill) -> None:
        """Publish for a client that is gone, with the rights that it has now."""
        if last.principal is not None:
            self._publish_will(last, last.principal)
            return

        def unknown(failure: Failure) -> None:
            if not failure.check(Unavailable):
                self.log.failure("mqtt: fault behind a will", failure)
            self.sessions.wills.again(last, _WILL_AGAIN)

        finding = Deferred.fromCoroutine(self._identities.find(last.key[0]))
        finding.addCallback(lambda principal: self._publish_will(last, principal)).addErrback(unknown)

    def _publish_will(self, last: LastWill, principal: Any) -> None:
        will = last.will
        right = principal is not None and principal.publisher(will.topic)
        if right is not True and callable(right):
            right(will.payload, will.qos, will.properties, lambda error: self.sessions.wills.done(last))
            return
        self.sessions.wills.done(last)
        if not right:
            self.stats.drop("not_allowed")
            return
        if isinstance(right, Watched) and not right.look(will.payload):
            self.stats.drop("malformed")
            return
        interval = props.number(will.properties, props.MESSAGE_EXPIRY_INTERVAL, -1)
        message = Message(
            will.topic.encode(),
            will.payload,
            will.qos,
            will.retain and right is True,
            props.shared_bytes(will.properties),
            None if interval < 0 else self.clock() + interval,
        )
        if message.retain and self.keep(message) < 0:
            self.stats.drop("retained_full")
        distribute(plan_of(self.topics.route(will.topic)), message)

    def deliver(self, route: SessionRoute, payload: bytes, qos: int) -> None:
        """Send a message of the broker's own."""
        deliver(route, payload, qos)

    # -- retained messages -----------------------------------------------------------------------------------------

    def keep(self, message: Message) -> int:
        """See `broker.mqtt.host.Server`."""
        topic = message.topic
        if not message.payload:  # [MQTT-3.3.1-10]
            if not self.retained.remove(topic):
                return 0
            self.journal.append((FORGET, topic))
            if self.elsewhere is not None:
                self.elsewhere.keep(message)
            return self.journal.position
        kept = Message(message.name, message.payload, message.qos, True, message.shared, message.expires_at)
        if not self.retained.put(topic, kept):
            return -1
        self.journal.append((RETAIN, topic, kept.payload, kept.qos, kept.shared, kept.expires_at))
        if self.elsewhere is not None:
            self.elsewhere.keep(kept)
        return self.journal.position

    def retained_for(self, session: Session, connection: MqttConnection) -> RetainedPages:
        """See `broker.mqtt.host.Server`."""
        return RetainedPages(
            session,
            self.retained,
            self._sys.match,
            lambda call: self.reactor.callLater(0, call),
            connection.fault_behind,
        )

    # -- subscriptions ---------------------------------------------------------------------------------------------

    def subscribe(self, session: Session, packet: p.Subscribe) -> tuple[bytes, list[str], int]:
        """See `broker.mqtt.host.Server`."""
        codes = bytearray()
        owed = []
        identifier = props.number(packet.properties, props.SUBSCRIPTION_IDENTIFIER, 0)
        for topic_filter, asked in packet.filters:
            refusal = self._refusal_of(session, topic_filter)
            if refusal:
                codes.append(refusal)
                continue
            qos = min(asked & 3, HIGHEST_QOS)
            granted = options(qos, bool(asked & NO_LOCAL), bool(asked & RETAIN_AS_PUBLISHED), identifier)
            new = self.sessions.subscribe(session, topic_filter, granted)
            codes.append(qos)
            handling = asked >> 4 & 3  # 5.0 [MQTT-3.3.1-9..11]; a shared subscription gets none (§4.8.2)
            if (handling == 0 or (handling == 1 and new)) and not topic_filter.startswith("$share/"):
                owed.append(topic_filter)
        return bytes(codes), owed, self.sessions.unsafe(session)

    def known(self) -> Deferred[None] | None:
        """See `broker.mqtt.host.Server`."""
        return None if self.elsewhere is None else self.elsewhere.known()

    def _refusal_of(self, session: Session, topic_filter: str) -> int:
        """The SUBACK code if the subscription is refused, else 0."""
        settings = self.settings
        known = session.subscriptions
        old = session.version != p.MQTT_5
        # Shared subscriptions are MQTT 5's, but clients of 3.1.1 use them everywhere.
        plain = (split_share(topic_filter) or ("", ""))[1]
        if not plain or not settings.fits(topic_filter):
            return p.SUBSCRIPTION_REFUSED if old else r.TOPIC_FILTER_INVALID
        if len(known) >= settings.max_subscriptions and topic_filter not in known:
            return p.SUBSCRIPTION_REFUSED if old else r.QUOTA_EXCEEDED
        if not session.principal.may_subscribe(plain):
            return p.SUBSCRIPTION_REFUSED if old else settings.refused_subscription
        return 0

    def unsubscribe(self, session: Session, filters: Sequence[str]) -> tuple[bytes, int]:
        """See `broker.mqtt.host.Server`."""
        gone = [self.sessions.unsubscribe(session, one) for one in filters]
        codes = bytes(r.SUCCESS if one else r.NO_SUBSCRIPTION_EXISTED for one in gone)
        return codes, self.sessions.unsafe(session) if any(gone) else 0
