"""One MQTT connection of the server: bytes in, acknowledgements and deliveries out.

::

    CONNECT ─> login (reading paused) ─> CONNACK ─> packets ... ─> DISCONNECT | error | silence ─> end
                                                                          └─ not after DISCONNECT: the will

A chunk is walked in one loop (`_run`). A PUBLISH or PUBACK there costs no object and no call it can do without: its
topic is looked up in ``_routes``, which holds only topics that this client may publish on and whose names are known to
be good; everything else goes through the decoder. Statement numbers are those of MQTT 3.1.1.

What it does not do: know who may do what (the principal does), keep subscriptions (the server does, in session and
index), decide about other connections (the server does). Every session is a clean one here, and a publish with RETAIN
is delivered with RETAIN = 0 and not kept; the retained messages that there are (`retained`) are the broker's own.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any, Final

from twisted.python.failure import Failure

from broker.listening.connection import Connection
from broker.model.errors import Disabled, Forbidden, Unauthenticated, Unavailable
from broker.mqtt import encode
from broker.mqtt import packets as p
from broker.mqtt.acknowledgements import Acknowledgements
from broker.mqtt.codec import Decoder, frame, publish_run
from broker.mqtt.delivery import Plan, SessionRoute, plan_of
from broker.mqtt.host import Server
from broker.mqtt.packets import ProtocolError
from broker.mqtt.retained import RetainedPages
from broker.mqtt.session import Session
from broker.mqtt.topics import valid_topic_name

#: First bytes of the packets that the loop takes apart by itself.
_PUBLISH_0: Final = 0x30
_PUBLISH_1: Final = 0x32
_PUBACK: Final = 0x40

#: The protocol levels that are served.
LEVELS: Final = (p.MQTT_3_1, p.MQTT_3_1_1)

#: Topics whose rights and route are remembered for one connection.
MAX_ROUTES: Final = 4_096
#: Bytes of the longest topic that is remembered so: the table of one connection stays below a megabyte.
LONGEST_ROUTED: Final = 128

#: Reasons of the codec for which the closing is counted under another name than "malformed".
_CLOSE_AS: Final = {
    "packet_too_large": "too_long",
    "direction": "protocol_error",
    "connect_expected": "protocol_error",
    "connect_repeated": "protocol_error",
    "protocol_level": "protocol_error",
}

Done = Callable[[Exception | None], None]


class MqttConnection(Connection):
    """The server's side of one connection."""

    def __init__(self, server: Server, host: str, port: int = 0) -> None:
        super().__init__(server, host, port)
        self._server = server
        self._decoder = Decoder(server.limits.max_message_size)
        self._session: Session | None = None
        self._routes: dict[bytes, SessionRoute] = {}
        self._acks = Acknowledgements(self.outbox.put)
        self._retained: RetainedPages | None = None
        self._early = b""
        self._refusal: Any = None
        self._will: p.Will | None = None
        self._client_id = ""
        self._patience = 0.0
        self._last_packet = 0.0
        #: Packet ids of QoS 2 messages that were taken and not yet released [MQTT-4.3.3-2].
        self._unreleased: set[int] = set()

    # -- the loop --------------------------------------------------------------------------------------------------

    def received(self, data: bytes) -> None:
        self._last_packet = self.home.monotonic()
        try:
            if self._session is not None:
                self._run(self._decoder.receive(data))
            elif self._client_id:
                self._keep_early(data)
            else:
                self._first(self._decoder.receive(data))
        except ProtocolError as error:
            self._violated(error)
        outbox = self.outbox
        # Only a socket that is full says when it has room again (`writable`).
        if outbox.blocked and outbox.size > outbox.limit and not self.closing:
            self.pause("outbox")  # it sends, but does not read what we answer

    def _run(self, data: bytes) -> None:  # noqa: C901, PLR0915 - one loop: each call that it saves counts
        session = self._session
        assert session is not None
        decoder = self._decoder
        index = self._server.topics
        routes = self._routes
        acknowledge = self._acks.add
        limit = decoder.max_packet_size
        size = len(data)
        offset = count = 0
        try:
            while offset + 1 < size:
                first = data[offset]
                length = data[offset + 1]
                if length < 128:
                    body = offset + 2
                    end = body + length
                else:
                    body, end = frame(data, offset, limit)
                    if not end:
                        break
                if end > size:
                    break
                count += 1
                if first == _PUBLISH_0:
                    rest = body + 2
                    if rest <= end:
                        rest += data[body] << 8 | data[body + 1]
                    if rest > end:
                        raise ProtocolError("truncated")
                    topic = data[body + 2 : rest]
                    route = routes.get(topic)
                    if route is not None and route.generation == index.generation:
                        step = end - offset
                        if end + 1 < size and data[end + 1] == length and data.startswith(data[offset:rest], end):
                            end = publish_run(data, offset, rest, end)
                        copies = (end - offset) // step
                        count += copies - 1
                        plan: Plan = route.plan or plan_of(route)
                        if plan.everyone:
                            packet = data[offset:end]
                            for receiver in plan.everyone:
                                receiver.offer(packet, copies)
                    else:
                        self._publish(topic, data[rest:end], 0, 0)
                        if self.closing:
                            return
                elif first == _PUBLISH_1:
                    rest = body + 2
                    if rest <= end:
                        rest += data[body] << 8 | data[body + 1]
                    if rest + 2 > end:
                        raise ProtocolError("truncated")
                    packet_id = data[rest : rest + 2]
                    if packet_id == b"\0\0":
                        raise ProtocolError("packet_id")
                    topic = data[body + 2 : rest]
                    route = routes.get(topic)
                    if route is not None and route.generation == index.generation:
                        plan = route.plan or plan_of(route)
                        payload = data[rest + 2 : end]
                        if plan.at_least_once:
                            head = data[offset:rest]
                            for receiver in plan.at_least_once:
                                receiver.deliver(head, payload)
                        if plan.at_most_once:
                            packet = encode.publish_head(topic, len(payload)) + payload
                            for receiver in plan.at_most_once:
                                receiver.offer(packet)
                        acknowledge(b"\x40\x02" + packet_id)
                    else:
                        self._publish(topic, data[rest + 2 : end], 1, packet_id[0] << 8 | packet_id[1])
                        if self.closing:
                            return
                elif first == _PUBACK and length == 2:
                    if not session.acknowledged(data[body] << 8 | data[body + 1]) and data[body : body + 2] == b"\0\0":
                        raise ProtocolError("packet_id")
                else:
                    self._packet(decoder.decode(data, offset, body, end))
                    if self.closing:
                        return
                offset = end
            decoder.keep(data, offset)
        finally:
            self.account(count)

    # -- login -----------------------------------------------------------------------------------------------------

    def _first(self, data: bytes) -> None:
        """Wait for a whole CONNECT [MQTT-3.1.0-1], and ask who it is."""
        if len(data) < 2:
            self._decoder.keep(data, 0)
            return
        body, end = frame(data, 0, self._decoder.max_packet_size)
        if end == 0 or end > len(data):
            self._decoder.keep(data, 0)
            return
        packet = self._decoder.decode(data, 0, body, end)
        assert isinstance(packet, p.Connect)
        if packet.version not in LEVELS:
            raise ProtocolError("protocol_level")
        self.account(1)
        settings = self._server.settings
        if packet.client_id_missing or len(packet.client_id.encode()) > settings.max_client_id_length:
            self.close("protocol_error", encode.connack(p.REFUSED_CLIENT_ID))  # [MQTT-3.1.3-8]
            return
        if packet.will is not None and not settings.fits(packet.will.topic):
            self.close("too_long")
            return
        self._client_id = packet.client_id or self._server.new_client_id()
        self._early = data[end:]
        self.pause("login")
        login = self._server.login(packet.client_id, packet.user, packet.password, self.host)
        login.addCallbacks(self._welcome, self._refuse, callbackArgs=(packet,))
        login.addErrback(self._broken)

    def _keep_early(self, data: bytes) -> None:
        """Packets behind the CONNECT are allowed at once (§3.1.4); they wait until the login is decided."""
        self._early += data
        if len(self._early) > self._decoder.max_packet_size:
            self.close("too_long")

    def _welcome(self, principal: Any, connect: p.Connect) -> None:
        if self.closing:
            return
        longest = self._server.settings.max_keep_alive
        self._patience = min(connect.keep_alive or longest, longest) * 1.5  # [MQTT-3.1.2-24]
        self._last_packet = now = self.home.monotonic()
        session = Session(self._client_id, principal, self.outbox, self._server.settings, self.home.stats)
        self._session = session
        self._retained = RetainedPages(session, self._no_retained)
        self.authenticated(f"{principal.name} ({self._client_id})")
        self._server.attach(session, self)
        principal.connected(self.close)
        if self.closing:  # what was told of the log-in may have ended it
            return
        # Clean or not, no state of an earlier connection is kept yet, and the client is told so.
        self.send(encode.connack(p.ACCEPTED))
        self._will = connect.will
        self.look_at(now + self._patience)
        early, self._early = self._early, b""
        if early:
            self.received(early)
        self.resume("login")

    def _refuse(self, failure: Failure) -> None:
        """[MQTT-3.2.2-5]: the return code, then the close."""
        if self.closing:
            return
        if failure.check(Unavailable):
            self.close("unavailable", encode.connack(p.REFUSED_UNAVAILABLE))
        elif failure.check(Forbidden, Disabled):
            self.close("auth_failed", encode.connack(p.REFUSED_RIGHTS))
        elif failure.check(Unauthenticated):
            delay = self.home.login_failed(self.host)
            answer = encode.connack(p.REFUSED_CREDENTIALS)
            if delay:
                self._auth_deadline += delay  # the wait is ours
                self._refusal = self.home.reactor.callLater(delay, self._refused, answer)
            else:
                self.close("auth_failed", answer)
        else:
            self._broken(failure)

    def _refused(self, answer: bytes) -> None:
        self._refusal = None
        self.close("auth_failed", answer)

    def _broken(self, failure: Failure) -> None:
        self.log.failure("mqtt {host}: fault behind a log-in or a subscription", failure, host=self.host)
        self.close("internal_error")

    # -- packets off the short way ---------------------------------------------------------------------------------

    def _packet(self, packet: p.Packet) -> None:
        session = self._session
        assert session is not None
        match packet:
            case p.Publish():
                self._publish(packet.topic.encode(), packet.payload, packet.qos, packet.packet_id)
            case p.PubRel():
                self._unreleased.discard(packet.packet_id)
                self._acks.add(encode.pubcomp(packet.packet_id))
            case p.Subscribe():
                self._subscribe(session, packet)
            case p.Unsubscribe():
                self._unsubscribe(session, packet)
            case p.PingReq():
                self.send(encode.PINGRESP)
            case p.Disconnect():
                self._will = None  # [MQTT-3.14.4-3]
                self.close("client_closed", b"")
            case _:
                # PUBREC and PUBCOMP answer QoS 2 messages, and we have sent none.
                raise ProtocolError("direction")

    def _subscribe(self, session: Session, packet: p.Subscribe) -> None:
        codes = self._server.subscribe(session, packet.filters)
        self.send(encode.suback(packet.packet_id, codes))
        assert self._retained is not None
        for (topic_filter, _), code in zip(packet.filters, codes, strict=True):
            if code != p.SUBSCRIPTION_REFUSED:
                self._retained.ask(topic_filter)

    def _unsubscribe(self, session: Session, packet: p.Unsubscribe) -> None:
        assert self._retained is not None
        for topic_filter in packet.filters:
            self._server.unsubscribe(session, topic_filter)
            self._retained.forget(topic_filter)
        self.send(encode.unsuback(packet.packet_id))  # [MQTT-3.10.4-4] [MQTT-3.10.4-5], known filter or not

    def _no_retained(self, failure: Failure) -> None:
        """A subscriber that silently missed what it is owed would be wrong for long: it has to come again."""
        if failure.check(Unavailable):
            self.close("unavailable")
        else:
            self._broken(failure)

    # -- publishing ------------------------------------------------------------------------------------------------

    def _publish(self, topic: bytes, payload: bytes, qos: int, packet_id: int) -> None:
        """A PUBLISH whose topic is not at hand in ``_routes``, or that is not of the plainest kind."""
        if qos == 2:
            if packet_id in self._unreleased:
                self._acks.add(encode.pubrec(packet_id))
                return
            if len(self._unreleased) >= self._server.settings.max_unreleased:
                self.close("flood")  # to read no further would not help: the PUBREL is behind
                return
        target = self._target(topic)
        if self.closing:
            return
        if qos == 2:
            self._unreleased.add(packet_id)
        ack = b"" if qos == 0 else encode.puback(packet_id) if qos == 1 else encode.pubrec(packet_id)
        if target is None:
            # [MQTT-3.3.5-2] leaves acknowledging or closing; a client is not cut off for a device it has just lost.
            self.home.stats.drop("not_allowed")
        elif callable(target):
            target(payload, qos, None, self._acknowledge_later(ack, len(payload)))
            return
        else:
            self._server.deliver(target, payload, qos)
        if ack:
            self._acks.add(ack)

    def _target(self, topic: bytes) -> SessionRoute | Callable[..., None] | None:
        """What a publish to this topic goes to; None if it is not allowed. Raises ProtocolError for a bad name."""
        session = self._session
        assert session is not None
        name = valid_topic_name(topic)
        if name is None:
            raise ProtocolError("topic_name")
        if not self._server.settings.fits(name):
            self.close("too_long")
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
        return right or None

    def _acknowledge_later(self, packet: bytes, size: int) -> Done:
        """Keep the place of an acknowledgement (or of nothing, at QoS 0); the returned call fills it."""
        settings = self._server.settings
        acks = self._acks
        ready = acks.reserve(packet, size)
        if len(acks) > settings.max_unacknowledged or acks.held > settings.max_unacknowledged_bytes:
            self.pause("storage")

        def done(error: Exception | None) -> None:
            if error is not None and packet:
                # There is no negative acknowledgement in 3.1.1: the client has to keep it and come back.
                self.close("unavailable")
            if self.closing:
                return
            ready()
            if len(acks) <= settings.max_unacknowledged // 2 and acks.held <= settings.max_unacknowledged_bytes // 2:
                self.resume("storage")

        return done

    # -- time and end ----------------------------------------------------------------------------------------------

    def check(self, now: float) -> float:
        if self._session is None:
            return inf
        if self._paused_for:  # what it sends now is not read: its silence is our doing
            self._last_packet = now
        silence = self._last_packet + self._patience
        if silence <= now:
            self.close("idle")
        return silence

    def writable(self) -> None:
        self.resume("outbox")
        if self._session is not None and self._retained is not None:
            self._session.fill()
            self._retained.go_on()

    def close(self, reason: str, last: bytes | None = None) -> None:
        super().close(reason, last)
        self._leave()

    def abort(self, reason: str) -> None:
        super().abort(reason)
        self._leave()

    def ended(self, reason: str) -> None:
        self._leave()
        if self._refusal is not None:
            self._refusal.cancel()
        session, self._session = self._session, None
        will, self._will = self._will, None
        if session is not None and will is not None:
            self._server.publish_will(session.principal, will)  # [MQTT-3.1.2-8]

    def _leave(self) -> None:
        """Nothing comes or goes any more, though the socket may take a while: deliver nothing to it from now on."""
        if self._session is None or self._retained is None:
            return
        self._retained.stop()
        self._retained = None
        self._routes.clear()
        self._server.detach(self._session, self)
        self._session.principal.disconnected()

    def _violated(self, error: ProtocolError) -> None:
        """[MQTT-4.8.0-1]: close; only an unknown level is answered [MQTT-3.1.2-2]."""
        self.home.stats.malformed += 1
        answer = encode.connack(p.REFUSED_LEVEL) if error.reason == "protocol_level" else b""
        self.close(_CLOSE_AS.get(error.reason, "malformed"), answer)
