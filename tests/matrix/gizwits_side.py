"""Apps for Gizwits devices: one on MQTT 3.1 with paho-mqtt, one on the WebSocket of the Open API."""

from __future__ import annotations

from base64 import b64encode
from functools import partial
from operator import eq
from typing import Any, Final

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from broker.devices.gizwits import codec as g
from broker.simulate.gizwits_socket import GizwitsSocket
from tests.matrix.devices import Content, Device, Order
from tests.matrix.mailbox import PATIENCE
from tests.matrix.sides import Impossible, Side
from tests.matrix.stage import CLOUD

#: Seconds between two looks at a list.
LOOK: Final = 0.1
NO_NO: Final = "Gizwits 4.9: a 0x0094 can say nothing but yes, so a command that fails is not acknowledged"
NEVER_NO: Final = "Gizwits 4.8, 4.9: an app's message goes to a module as it is, and a module has no way to say no"
NO_PRESENCE: Final = (
    "Gizwits 4.8 to 4.13 have no message to apps for a device that comes or goes; they ask the Open API (is_online)"
)
NOT_BOUND: Final = 9017
FAILED: Final = 9021
ATTR_INVALID: Final = 9025


class GizwitsMqtt(Side):
    name, title = "gizwits-mqtt", "Gizwits app, MQTT"
    client_id = "matrixapp"

    async def start(self, devices: list[Device]) -> None:
        self._sn = 0
        self._user = self.stage.users[0]
        client = self._client = paho.Client(
            CallbackAPIVersion.VERSION2,
            self.client_id,
            protocol=MQTTProtocolVersion.MQTTv31,
            reconnect_on_failure=False,
        )
        client.username_pw_set(f"2${CLOUD}${self._user.uid}", self._user.token)
        client.on_connect = lambda client, data, flags, code, properties: self.heard.put(("connected", code.value))
        client.on_subscribe = lambda client, data, mid, codes, properties: self.heard.put(("subscribed", mid))
        client.on_message = self._message
        await deferToThread(client.connect, "127.0.0.1", self.stage.broker.ports["mqtt"])
        client.loop_start()
        await self.heard.until(lambda event: event == ("connected", 0), "that it is connected")
        for topic in (f"dev2app/{device.id}{mine}" for device in devices for mine in ("", f"/{self.client_id}")):
            _, mid = client.subscribe(topic, 0)
            await self.heard.until(partial(eq, ("subscribed", mid)), f"that {topic} is subscribed")

    def _message(self, client: Any, data: Any, message: Any) -> None:
        self.heard.put((message.topic.split("/")[1], g.decode_business(message.payload)))

    async def stop(self) -> None:
        self._client.disconnect()
        await deferToThread(self._client.loop_stop)

    async def uplink(self, device: Device, mark: int) -> None:
        def wanted(event: Any) -> bool:
            return event[0] == device.id and isinstance(event[1], g.Report) and device.said(mark, event[1].data)

        await self.heard.until(wanted, f"{device.title} saying {mark}")

    async def presence(self, device: Device, online: bool, since: int) -> None:
        until = self.reactor.seconds() + PATIENCE
        while True:
            _, answer = await deferToThread(self.stage.open_api, "GET", "/app/bindings?limit=20", None, self._user)
            found = {one["did"]: one["is_online"] for one in answer["devices"]}
            if found[device.id] is online:
                raise Impossible(NO_PRESENCE)
            assert self.reactor.seconds() < until, f"{device.title} has not become {online}"
            await deferLater(self.reactor, LOOK)

    def _request(self, device: Device, data: bytes) -> int:
        """Send it with a number, which is the answer's."""
        self._sn += 1
        self._client.publish(f"app2dev/{device.id}/{self.client_id}", g.encode(g.Request(self._sn, data)), 1)
        return self._sn

    def _is_ack(self, device: Device, sn: int) -> Any:
        return lambda event: event[0] == device.id and isinstance(event[1], g.Ack) and event[1].sn == sn

    async def command(self, device: Device, order: Order) -> None:
        sn = self._request(device, order.data)
        await self.heard.until(self._is_ack(device, sn), f"the acknowledgement {sn} of {device.title}")

    async def refusal(self, device: Device, order: Order) -> None:
        if device.protocol == "gizwits":
            raise Impossible(NEVER_NO)
        sn = self._request(device, order.data)
        await self._ended(device, order)
        assert not self.heard.all(self._is_ack(device, sn)), "it was acknowledged"
        raise Impossible(NO_NO)

    async def _ended(self, device: Device, order: Order) -> None:
        """The command is there, for the administrator to see, and has failed."""
        until = self.reactor.seconds() + PATIENCE
        while True:
            page = await deferToThread(self.stage.done, "GET", f"/devices/{device.id}/commands?limit=100")
            found = [one for one in page["items"] if is_same(one, order)]
            if found and found[0]["status"] == "failed":
                return
            assert self.reactor.seconds() < until, f"{order} has not failed: {found}"
            await deferLater(self.reactor, LOOK)

    async def rights(self, stranger: Device, order: Order) -> None:
        """It is dropped: `run` looks for it at the device. What is subscribed is cut likewise."""
        self._request(stranger, order.data)


def is_same(command: dict[str, Any], order: Order) -> bool:
    """Whether this is the order, as the API shows it."""
    if order.payload is not None:
        return bool(command.get("payload") == order.payload)
    return bool(command.get("payload_base64") == b64encode(order.data).decode())


class GizwitsWebSocket(Side):
    name, title = "gizwits-ws", "Gizwits app, WebSocket"

    async def start(self, devices: list[Device]) -> None:
        self._sn = 0
        user = self.stage.users[1]
        url = f"http://127.0.0.1:{self.stage.broker.ports['gservice']}"
        self._socket = GizwitsSocket(
            self.reactor, url, CLOUD, user.uid, user.token, lambda cmd, data: self.heard.put((cmd, data))
        )
        await self._socket.start()
        for device in devices:
            await self.heard.until(partial(is_about, device), f"of {device.title}")

    async def stop(self) -> None:
        self._socket.stop()

    async def uplink(self, device: Device, mark: int) -> None:
        def wanted(event: Any) -> bool:
            return event[1].get("did") == device.id and device.said(mark, content_of(*event))

        await self.heard.until(wanted, f"{device.title} saying {mark}")

    async def presence(self, device: Device, online: bool, since: int) -> None:
        def wanted(event: Any) -> bool:
            return event[0] == "s2c_online_status" and event[1]["did"] == device.id and event[1]["online"] is online

        await self.heard.until(wanted, f"that {device.title} is {online}", since)

    def _write(self, device: Device, order: Order) -> int:
        self._sn += 1
        if order.payload is not None:
            self._socket.write(device.id, order.payload, self._sn)
        else:
            self._socket.write_raw(device.id, order.data, self._sn)
        return self._sn

    async def command(self, device: Device, order: Order) -> None:
        sn = self._write(device, order)
        wanted = ("s2c_ack", {"did": device.id, "req_sn": sn})
        await self.heard.until(lambda event: event == wanted, f"the acknowledgement {sn} of {device.title}")

    async def refusal(self, device: Device, order: Order) -> None:
        if device.protocol == "gizwits":
            # Bytes go to a module as they are; names are the broker's to look at.
            await self._refused(self._is_invalid(ATTR_INVALID), device, Order({"colour": 1}, b""))
            return

        def wanted(event: Any) -> bool:
            mine = event[0] == "s2c_invalid_msg" and event[1].get("did") == device.id
            return bool(mine and event[1].get("req_sn") == sn and event[1]["error_code"] == FAILED)

        sn = self._sn + 1
        await self._refused(wanted, device, order)

    async def rights(self, stranger: Device, order: Order) -> None:
        await self._refused(self._is_invalid(NOT_BOUND), stranger, order)

    async def _refused(self, wanted: Any, device: Device, order: Order) -> None:
        since = len(self.heard)
        self._write(device, order)
        await self.heard.until(wanted, f"that {order} is refused", since)

    @staticmethod
    def _is_invalid(code: int) -> Any:
        return lambda event: event[0] == "s2c_invalid_msg" and event[1]["error_code"] == code


def is_about(device: Device, event: Any) -> bool:
    """Whether a message of the WebSocket is about this device."""
    return bool(event[1].get("did") == device.id)


def content_of(cmd: str, data: dict[str, Any]) -> Content:
    """What a device has said; nothing for other messages."""
    if cmd == "s2c_noti":
        attrs: dict[str, Any] = data["attrs"]
        return attrs
    if cmd == "s2c_raw":
        packet = g.decode_business(bytes(data["raw"]))
        return packet.data if isinstance(packet, g.Report) else b""
    return b""
