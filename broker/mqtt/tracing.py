"""The packets of an MQTT connection, for whoever traces its client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from broker.mqtt import packets as p
from broker.mqtt.codec import LARGEST_PACKET, Decoder, Role

_NAMES: Final = {
    p.PubAck: "PUBACK",
    p.PubRec: "PUBREC",
    p.PubRel: "PUBREL",
    p.PubComp: "PUBCOMP",
}


class MqttPackets:
    """One direction: ``role`` is who reads it. ``payload(topic, bytes)`` says what a publish holds."""

    def __init__(self, role: Role, version: int, payload: Callable[[str, bytes], Any]) -> None:
        self._decoder: Decoder | None = Decoder(LARGEST_PACKET, role, version)
        self._payload = payload

    def feed(self, data: bytes) -> Iterator[tuple[bytes | None, Any]]:
        decoder = self._decoder
        if decoder is None:
            yield data, None
            return
        data = decoder.receive(data)
        offset = 0
        try:
            while offset < len(data):
                body, end = decoder.frame(data, offset)
                if end == 0 or end > len(data):
                    break
                packet = decoder.decode(data, offset, body, end)
                secret = isinstance(packet, p.Connect) and packet.password is not None
                yield None if secret else data[offset:end], self._told(packet)
                offset = end
            decoder.keep(data, offset)
        except p.ProtocolError as error:
            self._decoder = None  # where the next packet begins is not known any more
            yield data[offset:], {"malformed": error.reason}

    def _told(self, packet: p.Packet) -> dict[str, Any]:
        match packet:
            case p.Publish():
                told: dict[str, Any] = {"packet": "PUBLISH", "topic": packet.topic, "qos": packet.qos}
                if packet.qos:
                    told.update(packet_id=packet.packet_id, dup=packet.dup)
                if packet.retain:
                    told["retain"] = True
                return {**told, "payload": self._payload(packet.topic, packet.payload)}
            case p.Subscribe():
                return {"packet": "SUBSCRIBE", "packet_id": packet.packet_id, "filters": packet.filters}
            case p.Unsubscribe():
                return {"packet": "UNSUBSCRIBE", "packet_id": packet.packet_id, "filters": packet.filters}
            case p.SubAck() | p.UnsubAck():
                return {
                    "packet": type(packet).__name__.upper(),
                    "packet_id": packet.packet_id,
                    "codes": list(packet.codes),
                }
            case p.PubAck() | p.PubRec() | p.PubRel() | p.PubComp():
                return {"packet": _NAMES[type(packet)], "packet_id": packet.packet_id, "reason": packet.reason}
            case p.Connect():
                return {"packet": "CONNECT", "client_id": packet.client_id, "version": packet.version}
            case p.ConnAck():
                return {"packet": "CONNACK", "code": packet.code, "session_present": packet.session_present}
        return {"packet": type(packet).__name__.upper()}
