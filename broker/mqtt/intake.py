"""What a client publishes, from the packet to its acknowledgement.

::

    [topic alias] ─> twice? (QoS 2) ─> who may publish there, and who gets it ─> kept (RETAIN), handed over ─> answer

The answer waits until what is owed to the disk is there: by position in the journal, or, where somebody else takes the
message over, until he says so. What may not be published is acknowledged and dropped in 3.1.1 [MQTT-3.3.5-2], and
answered with 0x87 in 5.0; a client is not cut off for a device that it has just lost.

5.0: the answer is the one of the packet's QoS and id [MQTT-3.3.4-1] [MQTT-4.3.2-4] [MQTT-4.3.3-8] [MQTT-4.3.3-11],
whatever becomes of the message [MQTT-4.3.3-13] [MQTT-4.5.0-2]. An id of QoS 1 is free when it is answered
[MQTT-4.3.2-5], one of QoS 2 when it is released or refused [MQTT-4.3.3-9..12]. All aliases that we told of are taken
[MQTT-3.3.2-12].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from broker.listening.connection import Connection
from broker.mqtt import encode
from broker.mqtt import properties as props
from broker.mqtt import reasons as r
from broker.mqtt.acknowledgements import Acknowledgements
from broker.mqtt.answers import Words
from broker.mqtt.delivery import SessionRoute, deliver, distribute, plan_of
from broker.mqtt.host import Server
from broker.mqtt.message import Message
from broker.mqtt.packets import MQTT_5, Properties, ProtocolError
from broker.mqtt.session import Session
from broker.mqtt.terms import Watched
from broker.mqtt.topics import valid_topic_name

#: Topics whose rights and route are remembered for one connection.
MAX_ROUTES: Final = 4_096
#: Bytes of the longest topic that is remembered so: the table of one connection stays below a megabyte.
LONGEST_ROUTED: Final = 128

#: Until CONNECT has said what the client wants to hear.
NO_WORDS: Final = Words()

Done = Callable[[Exception | None], None]


class Intake(Connection):
    """The publishing side of an MQTT connection."""

    __slots__ = (
        "_acks",
        "_aliases",
        "_most_open",
        "_open",
        "_routes",
        "_server",
        "_session",
        "_unsure",
        "_version",
        "_watched",
        "_words",
    )

    def __init__(self, server: Server, host: str, port: int = 0) -> None:
        super().__init__(server, host, port)
        self._server = server
        self._session: Session | None = None
        self._version = 0
        self._words = NO_WORDS
        self._routes: dict[bytes, SessionRoute] = {}
        #: The same for topics on which what is published is looked at.
        self._watched: dict[bytes, Watched] = {}
        self._acks = Acknowledgements(self.outbox.put)
        #: Topic aliases of the client's own making (5.0 §3.3.2.3.4).
        self._aliases: dict[int, bytes] = {}
        #: QoS 2 messages that are not on disk yet: packet id -> position, session.
        self._unsure: dict[int, tuple[int, Session]] = {}
        #: How many QoS 2 messages may be unreleased, and of those at QoS 1 how many wait for an answer.
        self._most_open = 0
        self._open = 0

    def fail(self, reason: str, code: int) -> None:
        """Close, in 5.0 with a DISCONNECT of this code."""
        self.dismiss(reason, self._words.disconnect(code) if self._version == MQTT_5 else b"")

    def _publish(
        self,
        topic: bytes,
        payload: bytes,
        qos: int,
        packet_id: int,
        retain: bool = False,
        properties: Properties | None = None,
        shared: bytes = b"",
    ) -> None:
        """A PUBLISH whose topic is not at hand in ``_routes``, or that is not of the plainest kind."""
        if self._watched and not qos and not properties and self._looked_at(topic, payload):
            return
        session = self._session
        assert session is not None
        refused = self._server.settings.refuse_published_identifiers
        if properties and refused and props.SUBSCRIPTION_IDENTIFIER in properties:
            raise ProtocolError("property_not_allowed")  # [MQTT-3.3.4-6]
        if properties and props.TOPIC_ALIAS in properties:
            topic = self._named(topic, props.number(properties, props.TOPIC_ALIAS, 0))
            if self.closing:
                return
        if qos and self._too_many(session, qos, packet_id):
            return
        target = self._target(topic)
        if self.closing:
            return
        if properties and self._not_text(payload, properties):
            if not qos:  # nothing else could tell
                self.fail("protocol_error", r.PAYLOAD_FORMAT_INVALID)
            self._answer(qos, packet_id, r.PAYLOAD_FORMAT_INVALID)
        elif target is None:
            self.home.stats.drop("not_allowed")
            self._answer(qos, packet_id, r.NOT_AUTHORIZED)
        elif isinstance(target, Watched):
            self._look_at(target, self._message(topic, payload, qos, properties, shared), packet_id)
        elif callable(target):
            if qos == 2:
                session.take_in(packet_id)
            ack = b"" if qos == 0 else encode.puback(packet_id) if qos == 1 else encode.pubrec(packet_id)
            target(payload, qos, properties, self._acknowledge_later(ack, len(payload)))
        else:
            message = self._message(topic, payload, qos, properties, shared)
            message.retain = retain
            self._forward(target, message, packet_id)

    def _looked_at(self, topic: bytes, payload: bytes) -> bool:
        """Take a publish at QoS 0 whose topic is at hand in ``_watched``; else do nothing."""
        watched = self._watched.get(topic)
        route = watched.route if watched is not None else None
        if watched is None or route is None or route.generation != self._server.topics.generation:
            return False
        if not watched.look(payload):
            self.home.stats.drop("malformed")
        elif route.targets:
            deliver(route, payload, 0)
        return True

    def _look_at(self, watched: Watched, message: Message, packet_id: int) -> None:
        """The same for any publish."""
        if not watched.look(message.payload):
            self.home.stats.drop("malformed")
            self._answer(message.qos, packet_id, r.PAYLOAD_FORMAT_INVALID)
        elif watched.route is not None:
            self._forward(watched.route, message, packet_id)

    def _message(self, topic: bytes, payload: bytes, qos: int, properties: Properties | None, shared: bytes) -> Message:
        interval = props.number(properties, props.MESSAGE_EXPIRY_INTERVAL, -1)
        expires_at = None if interval < 0 else self.home.clock() + interval
        return Message(topic, payload, qos, False, shared, expires_at, self._session)

    def _forward(self, route: SessionRoute, message: Message, packet_id: int) -> None:
        """Give the message to everybody on an up-to-date route, and answer."""
        session = self._session
        assert session is not None
        qos = message.qos
        position = 0
        if qos == 2 and not message.retain and not session.persistent:
            plan = route.plan or plan_of(route)
            if not plan.lasting:  # nothing for the disk: PUBREC at once, before the sender's own copy
                session.take_in(packet_id)
                self._answer(2, packet_id, r.SUCCESS)
                distribute(plan, message)
                return
        if message.retain:
            position = self._server.keep(message)
            if position < 0:  # there is no room for it
                self.home.stats.drop("retained_full")
                if self._version == MQTT_5:
                    self._answer(qos, packet_id, r.QUOTA_EXCEEDED)
                    return
                position = 0
        if route.targets:
            position = distribute(route.plan or plan_of(route), message) or position
        if not qos:
            if position > self._server.committed:  # a retained one: nobody waits for its answer, but it takes room
                self._answer_at(position, 0, 0, r.SUCCESS, len(message.payload))
            return
        if qos == 2:
            position = session.take_in(packet_id) or position
        code = r.SUCCESS if route.targets or qos == 2 else r.NO_MATCHING_SUBSCRIBERS
        if position and position > self._server.committed:
            if qos == 2:
                self._unsure[packet_id] = (position, session)
            self._answer_at(position, qos, packet_id, code, len(message.payload))
        else:
            self._answer(qos, packet_id, code)

    # -- answers ---------------------------------------------------------------------------------------------------

    def reply_at(self, position: int, packet: bytes, then: Callable[[], object] | None = None) -> None:
        """Send ``packet`` once the journal has come to ``position``, in its turn."""
        if position > self._server.committed:
            self._acks.add_at(position, packet, then=then)
            self._server.wait(self)
        else:
            self._acks.add(packet)
            if then is not None:
                then()

    def settled(self, upto: int, error: Exception | None) -> None:
        """The journal has committed up to there, or could not."""
        unsure, self._unsure = self._unsure, {}
        for packet_id, (position, session) in unsure.items():
            if position > upto:
                self._unsure[packet_id] = (position, session)
            elif error is not None:
                # It was not kept: when it comes again it is a new one, unless storage says otherwise.
                session.not_taken_in(packet_id)
                if session.connection is not None and session.connection is not self:
                    session.connection.close("unavailable")  # that one shall hear what storage says
        if self._unsure:
            self._server.wait(self)
        if self.closing or not self._acks.positions:
            return
        if error is not None:
            # What waits may not have been kept, and 3.1.1 has no way to say so but this.
            self.fail("unavailable", r.IMPLEMENTATION_SPECIFIC_ERROR)
            return
        acks = self._acks
        acks.settled(upto)
        if acks.positions:
            self._server.wait(self)
        self._read_on()

    def _answer(self, qos: int, packet_id: int, code: int) -> None:
        if qos:
            self._acks.add(self._ack(qos, packet_id, code))

    def _answer_at(self, position: int, qos: int, packet_id: int, code: int, size: int) -> None:
        then = None
        if qos == 1 and self._version == MQTT_5:
            self._open += 1
            then = self._answered
        self._acks.add_at(position, self._ack(qos, packet_id, code) if qos else b"", size, then)
        self._server.wait(self)
        self._read_no_further()

    def _answered(self) -> None:
        self._open -= 1

    def _ack(self, qos: int, packet_id: int, code: int) -> bytes:
        if not code or self._version != MQTT_5:
            return (b"\x40\x02" if qos == 1 else b"\x50\x02") + packet_id.to_bytes(2, "big")
        return self._words.puback(packet_id, code) if qos == 1 else self._words.pubrec(packet_id, code)

    def _acknowledge_later(self, packet: bytes, size: int) -> Done:
        """Keep the place of an acknowledgement (or of nothing, at QoS 0); the returned call fills it."""
        ready = self._acks.reserve(packet, size)
        self._read_no_further()

        def done(error: Exception | None) -> None:
            if error is not None and packet:
                # There is no negative acknowledgement in 3.1.1: the client has to keep it and come back.
                self.fail("unavailable", r.IMPLEMENTATION_SPECIFIC_ERROR)
            if self.closing:
                return
            ready()
            self._read_on()

        return done

    def _read_no_further(self) -> None:
        settings = self._server.settings
        acks = self._acks
        if acks.count > settings.max_unacknowledged or acks.held > settings.max_unacknowledged_bytes:
            self.pause("storage")

    def _read_on(self) -> None:
        settings = self._server.settings
        acks = self._acks
        if acks.count <= settings.max_unacknowledged // 2 and acks.held <= settings.max_unacknowledged_bytes // 2:
            self.resume("storage")

    def _not_text(self, payload: bytes, properties: Properties | None) -> bool:
        """Whether the payload is said to be UTF-8 (5.0 §3.3.2.3.2) and is not."""
        if props.number(properties, props.PAYLOAD_FORMAT_INDICATOR, 0) != 1:
            return False
        if not self._server.settings.payload_format_validation:
            return False
        try:
            payload.decode()
        except UnicodeDecodeError:
            return True
        return False

    # -- topics ----------------------------------------------------------------------------------------------------

    def _named(self, topic: bytes, alias: int) -> bytes:
        """The topic that an alias stands for, or is given now."""
        if alias > self._server.settings.topic_alias_maximum:
            self.home.stats.malformed += 1
            self.fail("protocol_error", r.TOPIC_ALIAS_INVALID)  # [MQTT-3.3.2-9]
        elif topic:
            self._aliases[alias] = topic
        else:
            topic = self._aliases.get(alias, b"")
            if not topic:
                raise ProtocolError("direction")  # §3.3.4: an alias that nobody has set is a protocol error
        return topic

    def _too_many(self, session: Session, qos: int, packet_id: int) -> bool:
        """Answer a QoS 2 message that is here already; close for more than the client was told that it may send."""
        incoming = session.incoming
        if qos == 2 and packet_id in incoming:
            # The first one may have come on an earlier connection, and its commit be still to come.
            self.reply_at(session.position, encode.pubrec(packet_id))
            return True
        if self._version == MQTT_5:
            if len(incoming) + self._open >= self._most_open:
                self.fail("flood", r.RECEIVE_MAXIMUM_EXCEEDED)  # [MQTT-3.3.4-7]
                return True
        elif qos == 2 and len(incoming) >= self._server.settings.max_unreleased:
            self.close("flood")  # to read no further would not help: the PUBREL is behind
            return True
        return False

    def _target(self, topic: bytes) -> SessionRoute | Watched | Callable[..., Any] | None:
        """What a publish to this topic goes to; None if it is not allowed. Raises ProtocolError for a bad name."""
        session = self._session
        assert session is not None
        route = self._routes.get(topic)
        if route is not None and route.generation == self._server.topics.generation:
            return route
        watched = self._watched.get(topic)
        seen = watched.route if watched is not None else None
        if seen is not None and seen.generation == self._server.topics.generation:
            return watched
        name = valid_topic_name(topic)
        if name is None:
            raise ProtocolError("topic_name")
        if not self._server.settings.fits(name):
            self.fail("too_long", r.TOPIC_NAME_INVALID)
            return None
        right = session.principal.publisher(name)
        if right is True:
            route = self._server.topics.route(name)
            if len(topic) <= LONGEST_ROUTED:
                if len(self._routes) >= MAX_ROUTES:
                    self._routes.clear()
                self._routes[topic] = route
            return route
        self._routes.pop(topic, None)
        if isinstance(right, Watched):
            right.route = self._server.topics.route(name)
            if len(topic) <= LONGEST_ROUTED:
                if len(self._watched) >= MAX_ROUTES:
                    self._watched.clear()
                self._watched[topic] = right
            return right
        self._watched.pop(topic, None)
        return right or None
