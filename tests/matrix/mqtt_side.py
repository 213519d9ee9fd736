"""Plain MQTT with paho-mqtt: 3.1.1, and 5 with response topic and correlation data."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from typing import Any, Final

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions
from twisted.internet.threads import deferToThread

from tests.matrix.devices import Content, Device, Order
from tests.matrix.sides import Side

FINAL: Final = ("succeeded", "failed", "timed_out", "expired", "cancelled")
NOT_AUTHORIZED: Final = 0x87


def content_of(message: dict[str, Any]) -> Content:
    """The payload of an uplink in the broker's JSON."""
    if "payload_base64" in message:
        return b64decode(message["payload_base64"])
    payload: dict[str, Any] = message["payload"]
    return payload


def body_of(order: Order, **more: Any) -> dict[str, Any]:
    """The body of a command over MQTT or HTTP."""
    if order.payload is not None:
        return {"payload": order.payload, **order.more, **more}
    return {"payload_base64": b64encode(order.data).decode(), **order.more, **more}


class PlainMqtt(Side):
    name, title = "mqtt311", "MQTT 3.1.1"
    version = MQTTProtocolVersion.MQTTv311
    application = "matrix-311"
    _ordered = 0

    async def start(self, devices: list[Device]) -> None:
        client = self.client = paho.Client(
            CallbackAPIVersion.VERSION2, f"c-{self.name}", protocol=self.version, reconnect_on_failure=False
        )
        client.username_pw_set(self.application, self.stage.secrets[self.application])
        client.on_connect = lambda client, data, flags, code, properties: self.heard.put(("connected", code.value))
        client.on_subscribe = lambda client, data, mid, codes, properties: self.heard.put(("subscribed", mid))
        client.on_message = lambda client, data, one: self.heard.put((one.topic, self._decoded(one)))
        client.on_publish = lambda client, data, mid, code, properties: self.heard.put(("published", mid, code.value))
        await deferToThread(client.connect, "127.0.0.1", self.stage.broker.ports["mqtt"])
        client.loop_start()
        await self.heard.until(lambda event: event == ("connected", 0), "that it is connected")
        await self.subscribe("devices/#")

    def _decoded(self, message: Any) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(message.payload)
        data = getattr(message.properties, "CorrelationData", None)
        return found if data is None else {**found, "correlation": data.decode()}

    async def subscribe(self, topic: str) -> None:
        _, mid = (
            self.client.subscribe(topic, options=SubscribeOptions(qos=1))
            if self.is_5
            else self.client.subscribe(topic, 1)
        )
        await self.heard.until(lambda event: event == ("subscribed", mid), f"that {topic} is subscribed")

    @property
    def is_5(self) -> bool:
        return self.version == MQTTProtocolVersion.MQTTv5

    async def stop(self) -> None:
        self.client.disconnect()
        await deferToThread(self.client.loop_stop)

    async def uplink(self, device: Device, mark: int) -> None:
        def wanted(event: Any) -> bool:
            return event[0].startswith(f"devices/{device.id}/up/") and device.said(mark, content_of(event[1]))

        _, message = await self.heard.until(wanted, f"{device.title} saying {mark}")
        assert (message["device"], message["protocol"]) == (device.id, device.protocol), message

    async def presence(self, device: Device, online: bool, since: int) -> None:
        def wanted(event: Any) -> bool:
            return event[0] == f"devices/{device.id}/presence" and event[1]["online"] is online

        await self.heard.until(wanted, f"that {device.title} is {online}", since)

    async def command(self, device: Device, order: Order) -> None:
        reply = await self.outcome(device, order)
        assert reply["status"] == "succeeded", reply

    async def refusal(self, device: Device, order: Order) -> None:
        reply = await self.outcome(device, order)
        assert reply["status"] == "failed", reply

    async def outcome(self, device: Device, order: Order) -> dict[str, Any]:
        """How a command ends."""
        self._ordered += 1
        ref = f"{self.name}-{self._ordered}"
        self.publish(device, body_of(order, ref=ref))

        def wanted(event: Any) -> bool:
            return self.is_reply(event, device, ref) and event[1]["ref"] == ref and event[1]["status"] in FINAL

        found: dict[str, Any] = (await self.heard.until(wanted, f"how {ref} ended"))[1]
        return found

    def publish(self, device: Device, body: dict[str, Any]) -> int:
        return self.client.publish(f"devices/{device.id}/command", json.dumps(body), 1).mid

    def is_reply(self, event: Any, device: Device, ref: str) -> bool:
        return bool(event[0] == f"devices/{device.id}/reply")

    async def rights(self, stranger: Device, order: Order) -> None:
        """Acknowledged, as 3.1.1 has no other answer that does not end the connection, and dropped."""
        mid = self.publish(stranger, body_of(order))
        published = await self.heard.until(lambda event: event[:2] == ("published", mid), "PUBACK")
        self.check_refused(published[2])

    def check_refused(self, code: int) -> None:
        """In `run` it is looked for at the device."""
        assert code == 0, code


class PlainMqtt5(PlainMqtt):
    name, title = "mqtt5", "MQTT 5"
    version = MQTTProtocolVersion.MQTTv5
    application = "matrix-5"
    answers = "matrix/answers"

    async def start(self, devices: list[Device]) -> None:
        await super().start(devices)
        await self.subscribe(self.answers)

    def publish(self, device: Device, body: dict[str, Any]) -> int:
        properties: Any = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # as is all of this class
        properties.ResponseTopic = self.answers
        properties.CorrelationData = str(body.get("ref")).encode()
        return self.client.publish(f"devices/{device.id}/command", json.dumps(body), 1, properties=properties).mid

    def is_reply(self, event: Any, device: Device, ref: str) -> bool:
        return bool(event[0] == self.answers and event[1]["correlation"] == ref)

    def check_refused(self, code: int) -> None:
        assert code == NOT_AUTHORIZED, code
