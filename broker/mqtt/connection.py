"""One MQTT connection of the server: bytes in, acknowledgements and deliveries out.

::

    CONNECT ─> login (reading paused) ─> CONNACK ─> packets ... ─> DISCONNECT | error | silence ─> end
                                                                          └─ not after DISCONNECT: the will

The way in is in `admission`, the loops are in `stream`, what is published in `intake`, what is on its way to the client
in its session. Statement numbers are those of MQTT 3.1.1 where 5.0 is not named.

What it does not do: know who may do what (the principal does), keep subscriptions (the server does, in session and
index), decide about other connections (the server does).

5.0: after DISCONNECT there is nothing but the close [MQTT-3.14.4-1] [MQTT-3.14.4-2] [MQTT-4.13.2-1]. SUBSCRIBE gets its
SUBACK under its id [MQTT-3.8.4-1] [MQTT-3.8.4-2].
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any, Final

from twisted.python.failure import Failure

from broker.listening.tap import Tell
from broker.model.errors import Unavailable
from broker.model.names import CLOSE_REASONS
from broker.mqtt import encode, encode5
from broker.mqtt import packets as p
from broker.mqtt import properties as props
from broker.mqtt import reasons as r
from broker.mqtt.admission import Admission
from broker.mqtt.answers import last_words
from broker.mqtt.host import Server
from broker.mqtt.intake import MAX_ROUTES
from broker.mqtt.offers import FOR_EVER
from broker.mqtt.packets import MQTT_5, ProtocolError
from broker.mqtt.session import Session
from broker.mqtt.tracing import MqttPackets

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
#: Seconds in which PINGREQs are counted (`Settings.max_pings`).
PING_WINDOW: Final = 10.0


class MqttConnection(Admission):
    """The server's side of one connection."""

    __slots__ = ("_left", "_pings", "_pings_since")

    def __init__(self, server: Server, host: str, port: int = 0) -> None:
        super().__init__(server, host, port)
        self._left = False
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

        def reply(_: object = None) -> None:
            self.resume("subscription")
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
        else:  # nothing more is read meanwhile, so no client can have many of them wait
            self.pause("subscription")
            known.addCallback(reply)

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
