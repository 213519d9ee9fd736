"""A ChirpStack and its MQTT broker in memory: what ChirpStack v4 publishes, and what it is told.

The events are written as ChirpStack writes them: its JSON mapping leaves out what has its default value, EUIs are in
lower case, bytes in base64.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import Any, cast
from unittest import mock
from uuid import UUID

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from broker.devices.lorawan.chirpstack import network as chirpstack_network
from broker.devices.lorawan.chirpstack.network import ChirpstackNetwork
from broker.devices.lorawan.chirpstack.settings import ChirpstackSettings
from broker.mqtt import packets as p
from broker.mqtt.codec import LARGEST_PACKET, Decoder
from broker.mqtt.encode import encode
from tests.devices.lorawan.bed import GATEWAY

APPLICATION = "17c82e96-be03-4f38-aef3-f83d48582d97"
OTHER_APPLICATION = "2b5a5a1e-0000-4000-8000-000000000001"
REGION = "eu868"


def device_info(dev_eui: str, application: str = APPLICATION, **more: Any) -> dict[str, Any]:
    return {
        "tenantId": "52f14cd4-c6f1-4fbd-8f87-4025e1d49242",
        "tenantName": "ChirpStack",
        "applicationId": application,
        "applicationName": "Test application",
        "deviceProfileId": "14855bf7-d10d-4aee-b618-ebfcb64dc7ad",
        "deviceProfileName": "Test device-profile",
        "deviceName": "Test device",
        "devEui": dev_eui.lower(),
        "tags": {"key": "value"},
        **more,
    }


def rx_info(gateway: str, rssi: int = -60, snr: float = 7.5) -> dict[str, Any]:
    said = {
        "gatewayId": gateway.lower(),
        "uplinkId": 4217106255,
        "nsTime": "2026-11-29T12:00:00.123456789+00:00",
        "rssi": rssi,
        "snr": snr,
        "channel": 2,
        "location": {},
        "context": "EFwMtA==",
        "metadata": {"region_common_name": "EU868", "region_config_id": "eu868"},
        "crcStatus": "CRC_OK",
    }
    return {name: value for name, value in said.items() if value not in (0, 0.0)}


def lora(frequency: int = 868_100_000, spreading_factor: int = 7) -> dict[str, Any]:
    modulation = {"bandwidth": 125_000, "spreadingFactor": spreading_factor, "codeRate": "CR_4_5"}
    return {"frequency": frequency, "modulation": {"lora": modulation}}


def event_topic(dev_eui: str, what: str, application: str = APPLICATION, prefix: str = "") -> str:
    return f"{prefix}application/{application}/device/{dev_eui.lower()}/event/{what}"


def event_body(dev_eui: str, number: int, application: str = APPLICATION, **fields: Any) -> dict[str, Any]:
    """What all events begin with; ``number`` makes the deduplicationId."""
    return {
        "deduplicationId": str(UUID(int=number)),
        "time": "2023-11-14T22:13:20.123456789+00:00",
        "deviceInfo": device_info(dev_eui, application),
        **fields,
    }


def uplink_fields(payload: bytes, fcnt: int, port: int, gateways: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    said = {
        "devAddr": "26011bda",
        "adr": True,
        "dr": 5,
        "fCnt": fcnt,
        "fPort": port,
        "data": b64encode(payload).decode(),
    }
    return {
        **{name: value for name, value in said.items() if value},
        "rxInfo": list(gateways),
        "txInfo": lora(),
        "regionConfigId": REGION,
    }


class MqttServer:
    """Takes one client of MQTT 5 at a time. Its publishes are acknowledged with what stands in ``answers``, else 0."""

    def __init__(self) -> None:
        self.clock: Any = None
        self.refusing = False
        self.connack = p.ConnAck()
        self.suback: Callable[[str], int] = lambda topic_filter: 1
        self.answers: list[int | None] = []
        self.connects: list[p.Connect] = []
        self.filters: list[str] = []
        self.commands: list[tuple[str, dict[str, Any]]] = []
        self.acknowledged: list[int] = []
        #: Sent at QoS 1 and not acknowledged, by packet id.
        self.owed: dict[int, p.Publish] = {}
        self.connection: Any = None
        self._decoder: Any = None
        self._next_id = 1

    def connect(self, factory: IProtocolFactory) -> Deferred[Any]:
        if self.refusing:
            return fail(ConnectionRefusedError())
        protocol: Any = factory.buildProtocol(cast(Any, None))
        self.connection = _Connection(self, protocol)
        self._decoder = Decoder(LARGEST_PACKET, highest_level=p.MQTT_5)
        protocol.makeConnection(self.connection)
        return succeed(protocol)

    def heard(self, data: bytes) -> None:
        for packet in self._decoder.feed(data):
            self._packet(packet)

    def _packet(self, packet: p.Packet) -> None:
        match packet:
            case p.Connect():
                self.connects.append(packet)
                self.say(self.connack)
                for owed in list(self.owed.values()):
                    owed.dup = True
                    self.say(owed)
            case p.Subscribe():
                self.filters += [text for text, _ in packet.filters]
                self.say(p.SubAck(packet.packet_id, bytes(self.suback(text) for text, _ in packet.filters)))
            case p.Publish():
                self.commands.append((packet.topic, json.loads(packet.payload)))
                answer = self.answers.pop(0) if self.answers else 0
                if answer is not None:
                    self.say(p.PubAck(packet.packet_id, answer))
            case p.PubAck():
                self.acknowledged.append(packet.packet_id)
                self.owed.pop(packet.packet_id, None)
            case p.PingReq():
                self.say(p.PingResp())

    def say(self, packet: p.Packet) -> None:
        if self.connection is not None:
            self.connection.protocol.dataReceived(encode(packet, p.MQTT_5))

    def publish(self, topic: str, payload: bytes, qos: int = 1, retain: bool = False) -> int:
        """Send it now, or with the next connection; its packet id."""
        packet_id, self._next_id = (self._next_id, self._next_id + 1) if qos else (0, self._next_id)
        packet = p.Publish(topic, payload, qos, packet_id, retain)
        if qos:
            self.owed[packet_id] = packet
        self.say(packet)
        return packet_id

    def cut(self) -> None:
        """The connection is lost."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.protocol.connectionLost(Failure(ConnectionDone()))

    def told(self) -> list[dict[str, Any]]:
        """Commands since the last look; each has been checked against its topic."""
        found, self.commands = self.commands, []
        for topic, body in found:
            assert topic.endswith(f"/device/{body['devEui']}/command/down"), topic
        return [body for _, body in found]


class _Connection(StringTransport):
    """The client's transport: what it writes is heard at once."""

    def __init__(self, server: MqttServer, protocol: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.server = server
        self.protocol = protocol

    def write(self, data: bytes) -> None:
        if self.server.connection is self:
            self.server.heard(data)

    def loseConnection(self) -> None:
        """Whoever closes hears of the end in another turn."""
        self.server.clock.callLater(0, self._gone)

    abortConnection = loseConnection

    def _gone(self) -> None:
        if self.server.connection is self:
            self.server.cut()


@implementer(IStreamClientEndpoint)
class _Endpoint:
    def __init__(self, server: MqttServer) -> None:
        self._server = server

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        return self._server.connect(protocolFactory)


def endpoint_to(server: MqttServer) -> Any:
    """What makes a network connect to that server in place of any URL; a context manager."""
    return mock.patch.object(chirpstack_network, "endpoint_of", lambda *arguments: _Endpoint(server))


def settings_of(**fields: Any) -> ChirpstackSettings:
    return ChirpstackSettings(**{"url": "mqtt://chirpstack.example", "start_delay": 0.0, **fields})


class ChirpStack:
    """ChirpStack behind its MQTT broker, for a bed whose listener was built with `settings_of`."""

    def __init__(self, bed: Any, server: MqttServer) -> None:
        self.bed = bed
        self.server = server
        self._number = 0

    @property
    def network(self) -> ChirpstackNetwork:
        found = self.bed.listener.chirpstack
        assert found is not None
        return cast(ChirpstackNetwork, found)

    def event(self, dev_eui: str, what: str, application: str = APPLICATION, **fields: Any) -> int:
        """Publish one; its packet id."""
        self._number += 1
        body = event_body(dev_eui, self._number, application, **fields)
        return self.server.publish(event_topic(dev_eui, what, application), json.dumps(body).encode())

    def up(
        self, dev_eui: str, payload: bytes = b"\x01", port: int = 5, *gateways: dict[str, Any], fcnt: int = 0
    ) -> int:
        return self.event(dev_eui, "up", **uplink_fields(payload, fcnt, port, gateways or (rx_info(GATEWAY),)))

    def txack(self, dev_eui: str, item: str, fcnt: int = 0, gateway: str = "") -> int:
        """Without a deduplicationId, as it is; FCntDown 0 is left out."""
        counter = {"fCntDown": fcnt} if fcnt else {}
        body = {
            "downlinkId": 2_933_568_010 + self._number,
            "time": "2023-11-14T22:13:21.5+00:00",
            "deviceInfo": device_info(dev_eui),
            "queueItemId": item,
            "gatewayId": (gateway or GATEWAY).lower(),
            "txInfo": {**lora(), "power": 16},
            **counter,
        }
        return self.server.publish(event_topic(dev_eui, "txack"), json.dumps(body).encode())

    def ack(self, dev_eui: str, item: str, acknowledged: bool = True) -> int:
        said: dict[str, Any] = {"acknowledged": True} if acknowledged else {}
        return self.event(dev_eui, "ack", queueItemId=item, fCntDown=3, **said)

    def log(self, dev_eui: str, code: str, description: str, item: str = "") -> int:
        self._number += 1
        body: dict[str, Any] = {
            "time": f"2023-11-14T22:13:{self._number % 60:02}.5+00:00",
            "deviceInfo": device_info(dev_eui),
            "level": "ERROR",
            "code": code,
            "description": description,
        }
        if item:
            body["context"] = {"queue_item_id": item}
        return self.server.publish(event_topic(dev_eui, "log"), json.dumps(body).encode())

    def gateway(self, eui: str, state: str, region: str = REGION) -> int:
        body = json.dumps({"gatewayId": eui.lower(), "state": state}).encode()
        return self.server.publish(f"{region}/gateway/{eui.lower()}/state/conn", body, retain=True)


def payload_of(command: dict[str, Any]) -> bytes:
    return b64decode(command["data"])
