"""Gizwits on one side, everything else on the other, through the real broker, in both directions.

=================  =========================  ============================================
Gizwits device     plain MQTT, HTTP, stream   its reports; commands with and without answer
NovaCloud device   app over MQTT, WebSocket   its data as 0x0091; 0x0090 and 0x0093
=================  =========================  ============================================
"""

from __future__ import annotations

import base64
import json
import queue
import threading
from typing import Any
from uuid import uuid4

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from twisted.trial.unittest import SynchronousTestCase

from tests.clients.stage import ObedientDevice
from tests.gizwits.stage import APPLICATION, Device, business, stage
from tests.real import PATIENCE, eventually
from tests.websocket import WebSocketClient


class Plain:
    """A plain MQTT application that is bound to a device."""

    def __init__(self, device: str) -> None:
        made = stage().broker.made("/applications", {"kind": "mqtt"})
        stage().api("PUT", f"/applications/{made['id']}/devices/{device}")
        self.messages: queue.Queue[tuple[str, Any]] = queue.Queue()
        self._ready = threading.Event()
        client = self._client = paho.Client(CallbackAPIVersion.VERSION2, f"c-{uuid4()}", reconnect_on_failure=False)
        client.username_pw_set(made["id"], made["secret"])
        client.on_subscribe = lambda *_: self._ready.set()

        def subscribe(*_: Any) -> None:
            client.subscribe(f"devices/{device}/#", 1)

        client.on_connect = subscribe
        client.on_message = lambda client, data, one: self.messages.put((one.topic, json.loads(one.payload)))
        client.connect("127.0.0.1", stage().mqtt)
        client.loop_start()
        assert self._ready.wait(PATIENCE)

    def publish(self, topic: str, body: Any) -> None:
        self._client.publish(topic, json.dumps(body), 1)

    def until(self, topic: str) -> Any:
        """What comes next on this topic."""
        while True:
            found, body = self.messages.get(timeout=PATIENCE)
            if found == topic:
                return body

    def outcome(self, device: str, ref: str) -> Any:
        """How a command ended."""
        while True:
            reply = self.until(f"devices/{device}/reply")
            if reply["ref"] == ref and reply["status"] not in ("queued", "sent", "pending"):
                return reply

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


class GizwitsDeviceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.device: Device = stage().device()
        self.addCleanup(self.device.close)
        self.did = self.device.did

    def report(self, payload: bytes, app: str = "") -> None:
        self.device.publish(f"dev2app/{self.did}{app}", payload)

    def test_plain_mqtt(self) -> None:
        plain = Plain(self.did)
        self.addCleanup(plain.close)
        self.assertTrue(plain.until(f"devices/{self.did}/presence")["online"])
        self.report(business(0x0091, b"\x04\x01"))
        up = plain.until(f"devices/{self.did}/up/raw")
        self.assertEqual((up["protocol"], up["kind"], up["payload_base64"]), ("gizwits", "raw", text(b"\x04\x01")))
        self.report(business(0x0093, b"\0\0\0\x07\x05"))
        up = plain.until(f"devices/{self.did}/up/raw")
        self.assertEqual((up["payload_base64"], up["meta"]["sn"]), (text(b"\x05"), 7))
        self.report(business(0x0012, b"\x01\0\x03wif\0\x03mcu\0\x04lost"))
        log = plain.until(f"devices/{self.did}/up/log")
        self.assertEqual(log["payload"], {"level": "error", "tag": "wif", "source": "mcu", "log": "lost"})

        plain.publish(f"devices/{self.did}/command", {"payload_base64": text(b"\x01\x02"), "ref": "r1"})
        topic, payload = self.device.heard()
        self.assertEqual((topic, payload), (f"app2dev/{self.did}/broker", business(0x0090, b"\x01\x02")))
        self.assertEqual(plain.outcome(self.did, "r1")["status"], "succeeded")

        plain.publish(f"devices/{self.did}/command", {"payload_base64": text(b"\x01\x03"), "ack": True, "ref": "r2"})
        _, payload = self.device.heard()
        self.assertEqual((payload[:8], payload[12:]), (business(0x0093, bytes(6))[:8], b"\x01\x03"))
        self.report(business(0x0094, payload[8:12] + b"\x03"), "/broker")
        reply = plain.outcome(self.did, "r2")
        self.assertEqual((reply["status"], reply["result"]), ("succeeded", {"base64": text(b"\x03")}))

    def test_http_and_the_stream(self) -> None:
        broker = stage().broker
        stream = WebSocketClient(broker.ports["http"], f"/api/v1/stream?device={self.did}", broker.admin_token)
        self.addCleanup(stream.close)
        found: list[Any] = []

        def order() -> None:
            body = {"payload_base64": text(b"\x01\x09"), "ack": True}
            found.append(broker.call("POST", f"/devices/{self.did}/commands?wait=10", body))

        self.report(business(0x0091, b"\x04\x02"))
        self.assertEqual(self.uplink(stream)["payload_base64"], text(b"\x04\x02"))
        ordering = threading.Thread(target=order)
        ordering.start()
        _, payload = self.device.heard()
        self.assertEqual(payload[7:8] + payload[12:], b"\x93\x01\x09")
        self.report(business(0x0094, payload[8:12] + b'{"on": true}'))
        ordering.join(PATIENCE)
        status, answer = found[0]
        self.assertEqual((status, answer["status"], answer["result"]), (200, "succeeded", {"on": True}))
        status, history = broker.call("GET", f"/devices/{self.did}/messages")
        self.assertEqual(status, 200, history)

    def uplink(self, stream: WebSocketClient) -> Any:
        return stream.next(lambda message: message["type"] == "uplink")

    def test_a_command_waits_for_the_device(self) -> None:
        """It was away; it gets the command when it listens again."""
        self.device.close()
        body = {"payload_base64": text(b"\x01\x05"), "expires": 60}
        status, answer = stage().broker.call("POST", f"/devices/{self.did}/commands", body)
        self.assertLess(status, 300, answer)
        device = Device(stage(), self.did, self.device.passcode)
        self.addCleanup(device.close)
        self.assertEqual(device.heard()[1], business(0x0090, b"\x01\x05"))


class OtherDeviceTests(SynchronousTestCase):
    """A NovaCloud device that does what it is told, bound by a Gizwits user."""

    def setUp(self) -> None:
        broker = stage().broker
        made = broker.made("/devices", {"protocol": "novacloud"})
        self.name = made["id"]
        self.device = ObedientDevice(broker.ports["novacloud"], self.name, made["secret"])
        self.addCleanup(self.device.leave)
        self.user = stage().user()
        self.user.bind(self.name, made["secret"])

    def test_an_app_over_mqtt(self) -> None:
        app = self.user.app(self.name)
        self.addCleanup(app.close)
        self.say({"temperature": 25.5})
        self.assertEqual(app.next(), (f"dev2app/{self.name}", business(0x0091, b'{"temperature":25.5}')))
        app.command(self.name, business(0x0093, b'\0\0\0\x2a{"led": "ON"}'))
        topic, payload = app.next()
        self.assertEqual(
            (topic, payload), (f"dev2app/{self.name}/{app.client_id}", business(0x0094, b'\0\0\0\x2a{"led":"ON"}'))
        )

    def test_an_app_over_websocket(self) -> None:
        socket_ = WebSocketClient(stage().gservice, "/ws/app/v1", "none")
        self.addCleanup(socket_.close)
        data = {"appid": APPLICATION, "uid": self.user.uid, "token": self.user.token, "p0_type": "custom"}
        socket_.send({"cmd": "login_req", "data": {**data, "heartbeat_interval": 180, "auto_subscribe": True}})
        self.assertTrue(self.until(socket_, "login_res")["success"])
        self.assertTrue(self.until(socket_, "s2c_online_status")["online"])
        self.say({"temperature": 1})
        raw = self.until(socket_, "s2c_raw")
        self.assertEqual((raw["did"], bytes(raw["raw"])), (self.name, business(0x0091, b'{"temperature":1}')))
        command = business(0x0090, b'{"led":"OFF"}')
        socket_.send({"cmd": "c2s_raw", "data": {"did": self.name, "raw": list(command)}})

        def obeyed() -> Any:
            return [
                one["payload"]
                for one in stage().api("GET", f"/devices/{self.name}/commands")["items"]
                if one["status"] == "succeeded"
            ]

        self.assertEqual(eventually(obeyed, "the device has done it"), [{"led": "OFF"}])

    def say(self, payload: dict[str, Any]) -> None:
        self.device._send({"type": "data", "payload": payload})

    def until(self, client: WebSocketClient, command: str) -> Any:
        return client.next(lambda message: message["cmd"] == command)["data"]
