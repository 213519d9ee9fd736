"""From a client's CONNECT to its CONNACK: who it is, what it is offered, and its session.

::

    CONNECT ─> login (reading paused) ─> the session, perhaps from elsewhere ─> CONNACK, and what came meanwhile
                        └─ refused: a code, and the close, at once or a little later

5.0: CONNACK comes once, first, and with success where nothing is wrong [MQTT-3.1.4-5] [MQTT-3.2.0-1] [MQTT-3.2.0-2];
after a code of 0x80 or more there is nothing but the close [MQTT-3.2.2-7], and what came behind a refused CONNECT is
not looked at [MQTT-3.1.4-6]. Any client id of letters and digits is taken [MQTT-3.1.3-5]. There is no method of
authentication, so there is no exchange of AUTH [MQTT-4.12.0-2] [MQTT-4.12.0-4] [MQTT-4.12.0-5] [MQTT-4.12.0-7]
[MQTT-4.12.1-1] [MQTT-4.12.1-2].
"""

from __future__ import annotations

from typing import Any, Final

from twisted.python.failure import Failure

from broker.model.errors import Disabled, Forbidden, Unauthenticated, Unavailable
from broker.mqtt import encode, encode5
from broker.mqtt import packets as p
from broker.mqtt import properties as props
from broker.mqtt import reasons as r
from broker.mqtt.answers import words_for
from broker.mqtt.codec import frame
from broker.mqtt.host import Server
from broker.mqtt.offers import accepted_with, server_keep_alive, session_expiry
from broker.mqtt.packets import MQTT_5
from broker.mqtt.session import Session
from broker.mqtt.stream import Stream
from broker.mqtt.terms import Paced, Terms
from broker.mqtt.wills import LastWill

#: CONNACK code of 3.1.1 -> of 5.0
_REFUSALS: Final = {
    p.REFUSED_CLIENT_ID: r.CLIENT_IDENTIFIER_NOT_VALID,
    p.REFUSED_UNAVAILABLE: r.SERVER_UNAVAILABLE,
    p.REFUSED_CREDENTIALS: r.BAD_USER_NAME_OR_PASSWORD,
    p.REFUSED_RIGHTS: r.NOT_AUTHORIZED,
}


class Admission(Stream):
    """The part of an MQTT connection that lets a client in, or not."""

    __slots__ = (
        "_accepted",
        "_client_id",
        "_early",
        "_lingering",
        "_paced",
        "_patience",
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
        self._principal: Any = None
        self._terms: Terms | None = None
        self._paced: Paced | None = None
        #: A refused client has its answer and is not yet closed.
        self._lingering = False
        self._patience = 0.0

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
