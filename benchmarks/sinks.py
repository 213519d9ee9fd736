"""Who reads what devices say, in a load: an MQTT subscriber, a WebSocket stream, a customer server (LoRaCenter).

A sink is a socket, and `whole`: the messages of what has come so far, as JSON texts, and where the rest begins.
"""

from __future__ import annotations

import json
import socket
from base64 import b64decode

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Request

from benchmarks.children import USER, BenchmarkError, Broker
from benchmarks.pairs import STALL, open_client
from broker.applications.loracenter.challenge import tag
from broker.mqtt.codec import frame

CUSTOMER = "customer"
CS_EUI = "AA555A0000000000"
CS_KEY = bytes(range(32, 48))


class MqttSink:
    """A subscriber of ``devices/<id>/up/<kind>`` at QoS 0."""

    def __init__(self, broker: Broker, device_id: str, kind: str = "data") -> None:
        self.sock = open_client(broker, "subscriber", [(f"devices/{device_id}/up/{kind}", 0)])

    def whole(self, data: bytes) -> tuple[list[bytes], int]:
        found, offset, size = [], 0, len(data)
        while offset < size:
            _, end = frame(data, offset, 1 << 20)
            if not end or end > size:
                break
            found.append(data[offset:end])
            offset = end
        return found, offset


class StreamSink:
    """A client of ``GET /api/v1/stream``; frames of a server are not masked."""

    def __init__(self, broker: Broker, device_id: str, kind: str = "data") -> None:
        self.sock = socket.create_connection(("127.0.0.1", broker.http_port), STALL)
        opening = WSConnection(ConnectionType.CLIENT)
        headers = [(b"Authorization", f"Bearer {USER}:{broker.password}".encode())]
        target = f"/api/v1/stream?device={device_id}&kind={kind}"
        self.sock.sendall(opening.send(Request(host="127.0.0.1", target=target, extra_headers=headers)))
        opening.receive_data(self.sock.recv(4096))
        answer = next(opening.events())
        if not isinstance(answer, AcceptConnection):
            raise BenchmarkError(f"the stream was refused: {answer}")

    def whole(self, data: bytes) -> tuple[list[bytes], int]:
        found, offset, size = [], 0, len(data)
        while size - offset >= 4:
            head, length = 2, data[offset + 1]
            if length == 126:
                head, length = 4, int.from_bytes(data[offset + 2 : offset + 4], "big")
            end = offset + head + length
            if end > size:
                break
            if data[offset] == 0x81:  # a text; others are pings
                found.append(data[offset + head : end])
            offset = end
        return found, offset


class CustomerSink:
    """A customer server, for devices that have a ``dev_eui``; what it gets is decoded from its base64."""

    def __init__(self, broker: Broker, device_id: str) -> None:
        broker.call("PATCH", f"/devices/{device_id}", {"dev_eui": "AA00000000000001"})
        self.sock = open_customer(broker, [device_id])

    def whole(self, data: bytes) -> tuple[list[bytes], int]:
        *texts, rest = data.split(b"\0")
        messages = [json.loads(text) for text in texts]
        return [b64decode(one["payload"]) for one in messages if one.get("CMD") == "UPLOAD"], len(data) - len(rest)


def open_customer(broker: Broker, devices: list[str]) -> socket.socket:
    """A customer server that is registered, with these devices. Raises BenchmarkError."""
    wish = {"id": CUSTOMER, "kind": "loracenter", "cs_eui": CS_EUI, "app_key": CS_KEY.hex()}
    broker.call("POST", "/applications", wish)
    for device in devices:
        broker.call("PUT", f"/applications/{CUSTOMER}/devices/{device}")
    sock = socket.create_connection(("127.0.0.1", broker.loracenter_port), STALL)
    challenge = tag(CS_KEY, CS_EUI, 1).hex()
    request = {"CMD": "CSREG", "Token": 1, "CsEUI": CS_EUI, "AppNonce": 1, "Challenge": challenge}
    sock.sendall(json.dumps(request).encode() + b"\0")
    if b"ACCEPT" not in sock.recv(1000):
        raise BenchmarkError("the customer server was refused")
    return sock
