"""What a server says before it closes: the last bytes for a peer that broke the protocol, or that must go. Sans-IO.

3.1, 3.1.1   nothing (§4.8), but CONNACK 1 for a level that is not spoken [MQTT-3.1.2-2]
5.0          CONNACK with the reason code before the connection is accepted, DISCONNECT after it (§4.13.1), where
             `ProtocolError.answered` does not say otherwise
not known    nothing: it was not an MQTT client, or not one whose version we could read
"""

from __future__ import annotations

from broker.mqtt import encode, encode5
from broker.mqtt import packets as p
from broker.mqtt.packets import MQTT_5, ProtocolError


def last_words(error: ProtocolError, version: int, accepted: bool) -> bytes:
    """The bytes to send before the close for `error`.

    `version` is the decoder's (0: no CONNECT was decoded); `accepted`: whether a CONNACK of success has been sent
    [MQTT-3.14.0-1].
    """
    if error.reason == "protocol_level":
        return encode.connack(p.REFUSED_LEVEL)
    if (version or error.version) != MQTT_5 or not error.answered:
        return b""
    return encode5.disconnect(error.code) if accepted else encode5.connack(error.code)
