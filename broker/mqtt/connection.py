"""One MQTT connection of the server: bytes in, acknowledgements and deliveries out.

::

    CONNECT ─> login (reading paused) ─> CONNACK ─> packets ... ─> DISCONNECT | error | silence ─> end
                                                                          └─ not after DISCONNECT: the will

The loops are in `stream`, what is published in `intake`, what is on its way to the client in its session. Statement
numbers are those of MQTT 3.1.1 where 5.0 is not named.

What it does not do: know who may do what (the principal does), keep subscriptions (the server does, in session and
index), decide about other connections (the server does).

5.0: CONNACK comes once, first, and with success where nothing is wrong [MQTT-3.1.4-5] [MQTT-3.2.0-1] [MQTT-3.2.0-2];
after a code of 0x80 or more, and after DISCONNECT, there is nothing but the close [MQTT-3.2.2-7] [MQTT-3.14.4-1]
[MQTT-3.14.4-2] [MQTT-4.13.2-1], and what came behind a refused CONNECT is not looked at [MQTT-3.1.4-6]. Any client id
of letters and digits is taken [MQTT-3.1.3-5]. SUBSCRIBE gets its SUBACK under its id [MQTT-3.8.4-1] [MQTT-3.8.4-2].
There is no method of authentication, so there is no exchange of AUTH [MQTT-4.12.0-2] [MQTT-4.12.0-4] [MQTT-4.12.0-5]
[MQTT-4.12.0-7] [MQTT-4.12.1-1] [MQTT-4.12.1-2].
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any, Final

from twisted.python.failure import Failure

from broker.listening.tap import Tell
from broker.model.errors import Disabled, Forbidden, Unauthenticated, Unavailable
from broker.model.names import CLOSE_REASONS
from broker.mqtt import encode, encode5
from broker.mqtt import packets as p
from broker.mqtt import properties as props
from broker.mqtt import reasons as r
from broker.mqtt.answers import last_words, words_for
from broker.mqtt.codec import frame
from broker.mqtt.host import Server
from broker.mqtt.intake import MAX_ROUTES
from broker.mqtt.offers import FOR_EVER, accepted_with, server_keep_alive, session_expiry
from broker.mqtt.packets import MQTT_5, ProtocolError
from broker.mqtt.session import Session
from broker.mqtt.stream import Stream
from broker.mqtt.terms import Paced, Terms
from broker.mqtt.tracing import MqttPackets
from broker.mqtt.wills import LastWill

__all__ = ["MAX_ROUTES", "MqttConnection"]

#: Reasons of the codec for which the closing is counted under another name than "malformed".
_CLOSE_AS: Final = {
    "packet_too_large": "too_long",
    "direction": "protocol_error",
    "connect_expected": "protocol_error",
    "connect_repeated": "protocol_error",
    "protocol_level": "protocol_error",
}

#: Close reason -> what 5.0's DISCONNECT says (§3.14.2.1).
_GOODBYES: Final = {
    "shutdown": r.SERVER_SHUTTING_DOWN,
    "takeover": r.SESSION_TAKEN_OVER,
    "removed": r.ADMINISTRATIVE_ACTION,
    "idle": r.KEEP_ALIVE_TIMEOUT,
    "too_long": r.PACKET_TOO_LARGE,
    "flood": r.QUOTA_EXCEEDED,
    "slow_reader": r.QUOTA_EXCEEDED,
    "unavailable": r.IMPLEMENTATION_SPECIFIC_ERROR,
    "protocol_error": r.PROTOCOL_ERROR,
    "malformed": r.MALFORMED_PACKET,
}

#: CONNACK code of 3.1.1 -> of 5.0
_REFUSALS: Final = {
    p.REFUSED_CLIENT_ID: r.CLIENT_IDENTIFIER_NOT_VALID,
    p.REFUSED_UNAVAILABLE: r.SERVER_UNAVAILABLE,
    p.REFUSED_CREDENTIALS: r.BAD_USER_NAME_OR_PASSWORD,
    p.REFUSED_RIGHTS: r.NOT_AUTHORIZED,
}
#: Seconds in which PINGREQs are counted (`Settings.max_pings`).
PING_WINDOW: Final = 10.0


class MqttConnection(Stream):
    """The server's side of one connection."""

    __slots__ = (
        "_accepted",
        "_client_id",
        "_early",
        "_left",
        "_lingering",
        "_paced",
        "_patience",
        "_pings",
        "_pings_since",
        "_principal",
        "_refusal",
        "_retained",
        "_terms",
        "_will",
    )

    def __init__(self, server: Server, host: str, port: int = 0) -> None:
        super().__init__(server, host, port)
        self._retained: Any = None
        self._early = b""
        self._refusal: Any = None
        self._will: LastWill | None = None
        self._client_id = ""
        self._accepted = False
        self._left = False
        self._principal: Any = None
        self._terms: Terms | None = None
        self._paced: Paced | None = None
        #: A refused client has its answer and is not yet closed.
        self._lingering = False
        self._patience = 0.0
        self._pings = 0
        self._pings_since = -inf

    def trace(self, tell: Tell | None, payload: Callable[[str, bytes], Any]) -> None:
        """Tell of each packet; ``payload(topic, bytes)`` says what a publish holds."""
        version = self._version
        incoming, outgoing = MqttPackets("server", version, payload), MqttPackets("client", version, payload)
        self.tap(incoming, outgoing, tell, self._decoder.begun)

    def dataReceived(self, data: bytes) -> None:
        """`Connection`'s, with a short way for what most chunks are."""
        try:
            if self._short and len(data) > 3 and not self._decoder.held and self._one(data):
                return
        except ProtocolError as error:
            self.home.stats.bytes_in += len(data)
            self._violated(error)
            return
        except Exception:
            self._fault("reading")
            return
        super().dataReceived(data)

    def received(self, data: bytes) -> None:
        self._last_packet = self.home.monotonic()
        try:
            if self._accepted:
                decoder = self._decoder
                whole = decoder.receive(data) if decoder.held else data
                if self._version == MQTT_5:
                    self._run5(whole)
                else:
                    self._run(whole)
            elif self._client_id:
                self._keep_early(data)
            else:
                self._first(self._decoder.receive(data))
        except ProtocolError as error:
            self._violated(error)
        self._look_at_what_waits()

    @property
    def session(self) -> Session | None:
        """The client's, between CONNECT and the end."""
        return self._session

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
        self.account(1)
        self._version = packet.version
        settings = self._server.settings
        self._words = words_for(packet, settings.reason_strings)
        if packet.client_id_missing or len(packet.client_id.encode()) > settings.max_client_id_length:
            self.close("protocol_error", self._refused_with(p.REFUSED_CLIENT_ID))  # [MQTT-3.1.3-8]
            return
        if packet.will is not None and not settings.fits(packet.will.topic):
            self.close("too_long", self._words.connack(r.TOPIC_NAME_INVALID) if self._version == MQTT_5 else b"")
            return
        if packet.will is not None and self._not_text(packet.will.payload, packet.will.properties):
            self.close("protocol_error", self._words.connack(r.PAYLOAD_FORMAT_INVALID))  # 5.0 §3.1.3.2.3
            return
        if packet.properties and props.AUTHENTICATION_METHOD in packet.properties:
            # 5.0 [MQTT-4.12.0-1]: there is none that we know.
            self.close("auth_failed", encode5.connack(r.BAD_AUTHENTICATION_METHOD))
            return
        self._client_id = packet.client_id or self._server.new_client_id()
        self._early = data[end:]
        self.pause("login")
        subject = self.certificate_subject if settings.use_identity_as_username else None
        login = self._server.login(packet.client_id, packet.user, packet.password, self.host, subject)
        login.addCallbacks(self._welcome, self._refuse, callbackArgs=(packet,))
        login.addErrback(self._broken)

    def _keep_early(self, data: bytes) -> None:
        """Packets behind the CONNECT are allowed at once (§3.1.4); they wait until the login is decided."""
        if self._lingering:
            return
        self._early += data
        if len(self._early) > self._decoder.max_packet_size:
            self.close("too_long")

    def _welcome(self, principal: Any, connect: p.Connect) -> Any:
        if self.closing:
            return None
        largest = props.number(connect.properties, props.MAXIMUM_PACKET_SIZE, 0)
        if largest and len(self._offers(connect, False)) > largest:
            self.close("too_long", b"")  # 5.0 [MQTT-3.1.2-24]: nothing that we could say is small enough
            return None
        acquired = self._server.acquire(principal, self._client_id)
        if acquired is not None:
            return acquired.addCallback(lambda _: self._attach(principal, connect, largest))
        return self._attach(principal, connect, largest)

    def _attach(self, principal: Any, connect: p.Connect, largest: int) -> Any:
        if self.closing:
            return None
        settings = self._server.settings
        attached = self._server.attach(self, principal, self._client_id, connect, session_expiry(connect, settings))
        if attached is None:
            self.close(
                "unavailable",
                self._words.connack(r.QUOTA_EXCEEDED)
                if self._version == MQTT_5
                else encode.connack(p.REFUSED_UNAVAILABLE),
            )
            return None
        session, present, self._will = attached
        self._session = session
        given = connect.properties
        session.allow(
            props.number(given, props.RECEIVE_MAXIMUM, 65_535),
            largest,
            props.number(given, props.TOPIC_ALIAS_MAXIMUM, 0),
        )
        recalled = self._server.recall(session, self._will)
        if recalled is None:
            self._enter(None, principal, connect, session, present)
        else:
            recalled.addCallback(self._enter, principal, connect, session, present)
        return recalled

    def _enter(self, _: object, principal: Any, connect: p.Connect, session: Session, present: bool) -> None:
        """The session is ours, and all of it is here."""
        if self.closing:
            return
        longest = self._server.settings.max_keep_alive
        terms = self._terms = getattr(principal, "terms", None)
        if terms is not None:
            longest = min(longest, terms.max_keep_alive)
            self._pace(terms)
        keep_alive = server_keep_alive(connect, self._server.settings) or connect.keep_alive
        self._patience = min(keep_alive or longest, longest) * 1.5  # [MQTT-3.1.2-24]
        self._last_packet = now = self.home.monotonic()
        self._most_open = self._server.settings.receive_maximum + len(session.incoming)
        self._retained = session.retained = self._server.retained_for(session, self)
        self.authenticated(f"{principal.name} ({self._client_id})")
        self._accepted = True
        self._short = self._version != MQTT_5
        self._principal = principal
        if terms is not None:
            terms.connection = self
        principal.connected(self.close)
        if self.closing:  # what was told of the log-in may have ended it
            if self._will is not None:
                self._server.withdraw(self._will)
                self._will = None
            return
        self.send(self._offers(connect, present))
        self._server.resume(session)
        self.look_at(now + self._patience)
        early, self._early = self._early, b""
        if early:
            self.received(early)
        self.resume("login")

    def _pace(self, terms: Terms) -> None:
        """Keep packets to the client apart if it is one that needs it."""
        gap = terms.gap(self._version)
        if gap is not None:
            self._paced = Paced(
                self.outbox,
                gap,
                self.home.reactor,
                self.home.monotonic,
                lambda: terms.answers,
                lambda: self._blocked_since is not None,
                self.writable,
            )

    def _offers(self, connect: p.Connect, present: bool) -> bytes:
        size = self._decoder.max_packet_size
        return accepted_with(connect, self._server.settings, self._client_id, size, present)

    def _refused_with(self, code: int) -> bytes:
        return self._words.connack(_REFUSALS[code]) if self._version == MQTT_5 else encode.connack(code)

    def _refuse(self, failure: Failure) -> None:
        """[MQTT-3.2.2-5]: the return code, then the close."""
        if self.closing:
            return
        if failure.check(Unavailable):
            self._refused("unavailable", p.REFUSED_UNAVAILABLE, failure.value)
        elif failure.check(Forbidden, Disabled):
            self._refused("auth_failed", p.REFUSED_RIGHTS, failure.value)
        elif failure.check(Unauthenticated):
            delay = self.home.login_failed(self.host)
            if delay:
                self._auth_deadline += delay  # the wait is ours
                self._refusal = self.home.reactor.callLater(
                    delay, self._refused, "auth_failed", p.REFUSED_CREDENTIALS, failure.value
                )
            else:
                self._refused("auth_failed", p.REFUSED_CREDENTIALS, failure.value)
        else:
            self._broken(failure)

    def _refused(self, reason: str, code: int, error: Any) -> None:
        """Answer, and close at once or after as many seconds as the error says in ``details["close_after"]``."""
        self._refusal = None
        linger = error.details.get("close_after", 0.0)
        if not linger:
            self.close(reason, self._refused_with(code))
            return
        self._lingering = True
        self._early = b""
        self._auth_deadline += linger
        self.send(self._refused_with(code))
        self._refusal = self.home.reactor.callLater(linger, self._lingered, reason)
        self.resume("login")  # to see it leave

    def _lingered(self, reason: str) -> None:
        self._refusal = None
        self.close(reason, b"")

    def _broken(self, failure: Failure) -> None:
        if not self._accepted and failure.check(Unavailable):
            self.close("unavailable", self._refused_with(p.REFUSED_UNAVAILABLE))
            return
        self.log.failure("mqtt {host}: fault behind a log-in or a subscription", failure, host=self.host)
        self.close("internal_error")

    # -- packets off the short way ---------------------------------------------------------------------------------

    def _packet(self, packet: p.Packet) -> None:
        session = self._session
        assert session is not None
        match packet:
            case p.Publish():
                shared = props.shared_bytes(packet.properties) if packet.properties else b""
                self._publish(
                    packet.topic.encode(),
                    packet.payload,
                    packet.qos,
                    packet.packet_id,
                    packet.retain,
                    packet.properties,
                    shared,
                )
            case p.PubAck():
                session.acknowledged(packet.packet_id)
            case p.PubRec():
                session.received(packet.packet_id, packet.reason)
            case p.PubRel():
                self.reply_at(session.let_go(packet.packet_id), encode.pubcomp(packet.packet_id))
            case p.PubComp():
                session.completed(packet.packet_id)
            case p.Subscribe():
                self._subscribe(session, packet)
            case p.Unsubscribe():
                self._unsubscribe(session, packet)
            case p.PingReq():
                self._pinged()
            case p.Disconnect():
                self._goodbye_of_the_client(session, packet)
            case _:
                raise ProtocolError("direction")  # 5.0 [MQTT-4.12.0-6]: AUTH without a method

    def _pinged(self) -> None:
        """PINGRESP [MQTT-3.12.4-1], unless there are too many."""
        most = self._server.settings.max_pings
        now = self._last_packet
        if now >= self._pings_since + PING_WINDOW:
            self._pings, self._pings_since = 0, now
        self._pings += 1
        if (most and self._pings > most) or (self._terms is not None and not self._terms.ping(now)):
            self.fail("flood", r.MESSAGE_RATE_TOO_HIGH)
        else:
            self.send(encode.PINGRESP)

    def _subscribe(self, session: Session, packet: p.Subscribe) -> None:
        if self._terms is not None:
            self._terms.answers += 1  # clients that need care subscribe one after the other
        codes, owed, position = self._server.subscribe(session, packet)
        answer = self._words.suback if self._version == MQTT_5 else encode.suback
        retained = self._retained

        def ask() -> None:
            for topic_filter in owed:
                granted = session.subscriptions.get(topic_filter)
                if granted is not None and self._retained is retained:
                    retained.ask(topic_filter, granted)

        def reply() -> None:
            if self.closing:
                return
            if position:
                self.reply_at(position, answer(packet.packet_id, codes), ask)
            else:
                self.send(answer(packet.packet_id, codes))
                ask()

        known = self._server.known()
        if known is None:
            reply()
        else:
            known.addCallback(lambda _: reply())

    def _unsubscribe(self, session: Session, packet: p.Unsubscribe) -> None:
        for topic_filter in packet.filters:
            self._retained.forget(topic_filter)
        codes, position = self._server.unsubscribe(session, packet.filters)
        # [MQTT-3.10.4-4] [MQTT-3.10.4-5], known filter or not
        packet_id = packet.packet_id
        answer = encode5.unsuback(packet_id, codes) if self._version == MQTT_5 else encode.unsuback(packet_id)
        if position:
            self.reply_at(position, answer)
        else:
            self.send(answer)

    def _goodbye_of_the_client(self, session: Session, packet: p.Disconnect) -> None:
        if packet.reason != r.DISCONNECT_WITH_WILL and self._will is not None:
            self._server.withdraw(self._will)  # [MQTT-3.14.4-3]
            self._will = None
        interval = props.number(packet.properties, props.SESSION_EXPIRY_INTERVAL, -1)
        if interval >= 0:
            if interval and session.expiry == 0:
                self.home.stats.malformed += 1
                self.fail("protocol_error", r.PROTOCOL_ERROR)  # 5.0 §3.14.2.2.2
                return
            longest = self._server.settings.max_session_expiry
            session.expiry = min(interval, longest or interval)
            if session.expiry == FOR_EVER:
                session.expiry = None
        self.close("client_closed", b"")

    def fault_behind(self, failure: Failure) -> None:
        """A subscriber that silently missed what it is owed would be wrong for long: it has to come again."""
        if failure.check(Unavailable):
            self.close("unavailable")
        else:
            self._broken(failure)

    # -- time and end ----------------------------------------------------------------------------------------------

    def goodbye(self, reason: str) -> bytes:
        if self._version != MQTT_5 or not self._accepted:
            return b""
        return self._words.disconnect(_GOODBYES.get(reason, r.UNSPECIFIED_ERROR), CLOSE_REASONS[reason])

    def check(self, now: float) -> float:
        if not self._accepted:
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
        self._pace_no_more()
        super().close(reason, last)
        self._leave()

    def abort(self, reason: str) -> None:
        super().abort(reason)
        self._leave()

    def ended(self, reason: str) -> None:
        self._pace_no_more()
        self._leave()
        if self._refusal is not None:
            self._refusal.cancel()
        session, self._session = self._session, None
        will, self._will = self._will, None
        if session is not None and will is not None:
            if self._accepted:
                self._server.will(session, will)
            else:
                self._server.withdraw(will)

    def _pace_no_more(self) -> None:
        paced, self._paced = self._paced, None
        if paced is not None:
            paced.finish()

    def _leave(self) -> None:
        """Nothing comes or goes any more, though the socket may take a while: deliver nothing to it from now on."""
        session = self._session
        if session is None or self._left:
            return
        self._left = True
        self._short = False
        if self._retained is not None:
            self._retained.stop()
            self._retained = None
        self._routes.clear()
        self._watched.clear()
        self._server.detach(session, self)
        if self._terms is not None:
            self._terms.left(self.reason)
        if self._principal is not None:
            self._principal.disconnected()

    def _violated(self, error: ProtocolError) -> None:
        """[MQTT-4.8.0-1]: close; 5.0 says why, 3.1.1 only of an unknown level [MQTT-3.1.2-2]."""
        self.home.stats.malformed += 1
        answer = last_words(
            error, self._decoder.version, self._accepted, self._server.settings.malformed_connect_unanswered
        )
        self.dismiss(_CLOSE_AS.get(error.reason, "malformed"), answer)
