"""What a client that is let in is told and given: what its CONNECT asked for, within our settings. Sans-IO.

5.0: QoS 2, retained messages and everything else are there, so nothing is said of them and no will is refused for them
[MQTT-3.2.2-9] [MQTT-3.2.2-10] [MQTT-3.2.2-12] [MQTT-3.2.2-13]; response information is never given [MQTT-3.1.2-28]; an
assigned client id is told [MQTT-3.1.3-7]; where no keep-alive is told, the client's own counts [MQTT-3.2.2-22].
"""

from __future__ import annotations

from typing import Final

from broker.mqtt import encode, encode5
from broker.mqtt import packets as p
from broker.mqtt import properties as props
from broker.mqtt import reasons as r
from broker.mqtt.codec import LARGEST_PACKET
from broker.mqtt.packets import MQTT_5, Properties
from broker.mqtt.settings import Settings

#: A session expiry interval that never ends (5.0 §3.1.2.11.2).
FOR_EVER: Final = 0xFFFFFFFF


def session_expiry(connect: p.Connect, settings: Settings) -> int | None:
    """Seconds that the session is to outlive the connection; None: for ever (5.0 §3.1.2.11.2)."""
    if connect.version != MQTT_5:
        asked = 0 if connect.clean else FOR_EVER
    else:
        asked = props.number(connect.properties, props.SESSION_EXPIRY_INTERVAL, 0)
    longest = settings.max_session_expiry
    if longest and asked > longest:
        return longest
    return None if asked == FOR_EVER else asked


def server_keep_alive(connect: p.Connect, settings: Settings) -> int:
    """The keep-alive that the client is told to use, 0: its own (5.0 [MQTT-3.1.2-21] [MQTT-3.2.2-21])."""
    most = settings.server_keep_alive
    if connect.version == MQTT_5 and most and not 0 < connect.keep_alive <= most:
        return most
    return 0


def accepted_with(connect: p.Connect, settings: Settings, client_id: str, max_packet_size: int, present: bool) -> bytes:
    """CONNACK of success with what the client has to know, and no more (5.0 §3.2.2.3).

    ``present``: a session was there [MQTT-3.2.2-2] [MQTT-3.2.2-3]; 3.1 has no word for it.
    """
    if connect.version != MQTT_5:
        return encode.connack(p.ACCEPTED, present and connect.version != p.MQTT_3_1)
    told: Properties = {}
    if settings.topic_alias_maximum:
        told[props.TOPIC_ALIAS_MAXIMUM] = settings.topic_alias_maximum
    asked = props.number(connect.properties, props.SESSION_EXPIRY_INTERVAL, 0)
    expiry = session_expiry(connect, settings)
    if expiry is not None and expiry != asked:
        told[props.SESSION_EXPIRY_INTERVAL] = expiry
    if not connect.client_id:
        told[props.ASSIGNED_CLIENT_IDENTIFIER] = client_id  # [MQTT-3.2.2-16]
    keep_alive = server_keep_alive(connect, settings)
    if keep_alive:
        told[props.SERVER_KEEP_ALIVE] = keep_alive
    if settings.receive_maximum != 65_535:
        told[props.RECEIVE_MAXIMUM] = settings.receive_maximum
    if max_packet_size < LARGEST_PACKET:
        told[props.MAXIMUM_PACKET_SIZE] = max_packet_size
    return encode5.connack(r.SUCCESS, present, told)
