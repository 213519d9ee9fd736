"""Between business messages and what apps on WebSocket read and write.

A message on its way to many sockets is translated once for each of the two ways in which apps want it: ``custom`` (the
frame in numbers) and ``attrs_v4`` (names and values; of devices of other protocols the object that they sent). What has
no names goes out as the frame, so that nothing is lost.
"""

from __future__ import annotations

from typing import Any

from broker.applications.gizwits.business import content_of
from broker.applications.gizwits.products import Products
from broker.applications.gizwits.socket_forms import framed
from broker.core import Core
from broker.devices.gizwits import codec
from broker.devices.gizwits import errors as e
from broker.devices.gizwits.datapoints import READ
from broker.devices.gizwits.identity import PROTOCOL
from broker.devices.gizwits.topics import split
from broker.model.jsontext import encode
from broker.mqtt.message import Message


class Translation:
    """Keeps the last message's frames: all sockets that get it get it at once."""

    def __init__(self, core: Core, products: Products) -> None:
        self._core = core
        self._products = products
        self._message: Message | None = None
        self._frames: dict[bool, bytes | None] = {}

    def for_app(self, message: Message, attrs: bool) -> bytes | None:
        """The WebSocket frame for a message on a ``dev2app`` topic; None for what is no business message."""
        if message is not self._message:
            self._message, self._frames = message, {}
        if attrs not in self._frames:
            self._frames[attrs] = self._made(message.topic, message.payload, attrs)
        return self._frames[attrs]

    def _made(self, topic: str, payload: bytes, attrs: bool) -> bytes | None:
        parts = split(topic)
        if parts is None:
            return None
        did = parts[1]
        try:
            packet = codec.decode_business(payload)
        except codec.Malformed:
            return None
        if attrs:
            if isinstance(packet, codec.Ack):
                return framed("s2c_ack", {"did": did, "req_sn": packet.sn})
            if isinstance(packet, codec.Report | codec.Request):
                known = self._attrs(did, packet.data)
                if known is not None:
                    sn = {"req_sn": packet.sn} if isinstance(packet, codec.Request) else {}
                    return framed("s2c_noti", {"did": did, "attrs": known, **sn})
        return framed("s2c_raw", {"did": did, "raw": list(payload)})

    def _attrs(self, did: str, data: bytes) -> dict[str, Any] | None:
        if not self._is_gizwits(did):
            content = content_of(data)
            return None if isinstance(content, bytes) else content
        table = self._products.table_of(did)
        return None if table is None else table.attrs(data)

    def control(self, did: str, attrs: dict[str, Any]) -> bytes:
        """What tells a device these. Raises Refused."""
        if not self._is_gizwits(did):
            return encode(attrs)
        if self._core.devices.get(did) is None and not self._core.whereabouts.online(did):
            raise e.Refused(e.DEVICE_OFFLINE)
        table = self._products.table_of(did)
        if table is None:
            raise e.Refused(e.ATTR_INVALID)
        try:
            return table.control(attrs)
        except ValueError as error:
            raise e.Refused(e.ATTR_INVALID, str(error)) from None

    def read(self, did: str) -> bytes:
        """What asks a device for its state. Raises Refused."""
        if not self._is_gizwits(did):
            raise e.Refused(e.FORM_INVALID, "devices of this protocol cannot be asked")
        return bytes((READ,))

    def _is_gizwits(self, did: str) -> bool:
        """Of a device that is away it is not known at once, but then it hears nothing in any case."""
        live = self._core.devices.get(did)
        protocol = self._core.whereabouts.protocol_of(did) if live is None else live.ref.protocol
        return protocol in (PROTOCOL, "")
