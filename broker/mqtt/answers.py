"""What a server says when it refuses or closes: the packets, and in 5.0 a sentence for people with them. Sans-IO.

Last words for a peer that broke the protocol (`last_words`):

3.1, 3.1.1   nothing (§4.8), but CONNACK 1 for a level that is not spoken [MQTT-3.1.2-2]
5.0          CONNACK with the reason code before the connection is accepted, DISCONNECT after it (§4.13.1), where
             `ProtocolError.answered` does not say otherwise
not known    nothing: it was not an MQTT client, or not one whose version we could read

They carry no sentence: the code says all that is to be said, and tables of conformance tests compare the bytes. What
the broker decided (a refusal, a takeover, its own end) has one in a Reason String, where the client wants to hear of it
(`Words.wanted`, 5.0 §3.1.2.11.7 [MQTT-3.1.2-29]) and its maximum packet size has room for it [MQTT-3.2.2-19]
[MQTT-3.4.2-2] [MQTT-3.5.2-2] [MQTT-3.9.2-1] [MQTT-3.14.2-3]. A sentence never has a secret, or anything that a client
sent.

We never send user properties of our own [MQTT-3.2.2-20] [MQTT-3.4.2-3] [MQTT-3.5.2-3] [MQTT-3.6.2-3] [MQTT-3.7.2-3]
[MQTT-3.9.2-2] [MQTT-3.11.2-2] [MQTT-3.14.2-4], nor a sentence in PUBREL, PUBCOMP and UNSUBACK [MQTT-3.6.2-2]
[MQTT-3.7.2-2] [MQTT-3.11.2-1], nor an AUTH [MQTT-3.15.2-2] [MQTT-3.15.2-3].
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final

from broker.mqtt import encode, encode5
from broker.mqtt import packets as p
from broker.mqtt import properties as props
from broker.mqtt import reasons as r
from broker.mqtt.packets import MQTT_5, Properties, ProtocolError

#: Why a log-in was refused.
LOGIN_SENTENCES: Final = {
    r.CLIENT_IDENTIFIER_NOT_VALID: "the client identifier is too long",
    r.BAD_USER_NAME_OR_PASSWORD: "unknown user name or wrong password",
    r.NOT_AUTHORIZED: "a user name and a password are needed, or this identity is switched off",
    r.SERVER_UNAVAILABLE: "storage cannot answer now; try again later",
    r.TOPIC_NAME_INVALID: "the topic of the will is too long or has too many levels",
    r.PAYLOAD_FORMAT_INVALID: "the will is said to be UTF-8 and is not",
    r.QUOTA_EXCEEDED: "no more lasting sessions can be kept",
}
#: Why a message was not taken.
PUBLISH_SENTENCES: Final = {
    r.NOT_AUTHORIZED: "no right to publish on this topic",
    r.PAYLOAD_FORMAT_INVALID: "the payload is said to be UTF-8 and is not",
    r.QUOTA_EXCEEDED: "no more retained messages can be kept",
}
#: Why a filter was refused; of several the first one.
SUBSCRIBE_SENTENCES: Final = {
    r.UNSPECIFIED_ERROR: "no right to this topic filter",
    r.NOT_AUTHORIZED: "no right to this topic filter",
    r.TOPIC_FILTER_INVALID: "a topic filter is too long or has too many levels, or its share name is wrong",
    r.QUOTA_EXCEEDED: "there are as many subscriptions as one client may have",
}


class Words:
    """What one client of 5.0 is told besides the codes. ``largest``: its maximum packet size, 0 for none."""

    __slots__ = ("largest", "wanted")

    def __init__(self, wanted: bool = False, largest: int = 0) -> None:
        self.wanted = wanted
        self.largest = largest

    def with_reason(self, packet: Callable[[Properties | None], bytes], sentence: str | None) -> bytes:
        """The packet with the sentence, without it if that is too large, or nothing [MQTT-3.1.2-24]."""
        data = packet({props.REASON_STRING: sentence} if sentence and self.wanted else None)
        if self.largest and len(data) > self.largest:
            data = packet(None)
            return b"" if len(data) > self.largest else data
        return data

    def connack(self, code: int) -> bytes:
        """A refusal."""
        sentence = LOGIN_SENTENCES.get(code)
        return self.with_reason(lambda properties: encode5.connack(code, False, properties), sentence)

    def puback(self, packet_id: int, code: int) -> bytes:
        """PUBACK."""
        sentence = PUBLISH_SENTENCES.get(code)
        return self.with_reason(lambda properties: encode5.puback(packet_id, code, properties), sentence)

    def pubrec(self, packet_id: int, code: int) -> bytes:
        """PUBREC."""
        sentence = PUBLISH_SENTENCES.get(code)
        return self.with_reason(lambda properties: encode5.pubrec(packet_id, code, properties), sentence)

    def suback(self, packet_id: int, codes: bytes) -> bytes:
        """SUBACK."""
        sentence = next((SUBSCRIBE_SENTENCES.get(code) for code in codes if code >= 0x80), None)
        return self.with_reason(lambda properties: encode5.suback(packet_id, codes, properties), sentence)

    def disconnect(self, code: int, sentence: str | None = None) -> bytes:
        """DISCONNECT."""
        return self.with_reason(lambda properties: encode5.disconnect(code, properties), sentence)


#: Most clients are told the same, and a connection is to be small.
_words = lru_cache(maxsize=64)(Words)


def words_for(connect: p.Connect, switched_on: bool) -> Words:
    """What to tell the client that sent this CONNECT."""
    wanted = props.number(connect.properties, props.REQUEST_PROBLEM_INFORMATION, 1)
    largest = props.number(connect.properties, props.MAXIMUM_PACKET_SIZE, 0)
    return _words(switched_on and bool(wanted), largest)


#: What `Settings.malformed_connect_unanswered` is about.
_NO_CONNACK_FOR: Final = frozenset(("client_id", "topic_name", "trailing_bytes"))


def last_words(error: ProtocolError, version: int, accepted: bool, sparing: bool = False) -> bytes:
    """The bytes to send before the close for `error`.

    `version` is the decoder's (0: no CONNECT was decoded); `accepted`: whether a CONNACK of success has been sent
    [MQTT-3.14.0-1]; `sparing`: the setting `malformed_connect_unanswered` (5.0 [MQTT-3.1.4-1]: CONNACK MAY be sent).
    """
    if sparing and not accepted and error.reason in _NO_CONNACK_FOR:
        return b""
    if error.reason == "protocol_level":
        return encode.connack(p.REFUSED_LEVEL)
    if (version or error.version) != MQTT_5 or not error.answered:
        return b""
    return encode5.disconnect(error.code) if accepted else encode5.connack(error.code)
