"""Gizwits devices and apps around a real broker: MQTT 3.1 clients, the Open API, the app WebSocket; and a kill -9.

Any side with any: a Gizwits device is read and commanded from plain topics and HTTP, and an app has a NovaCloud device.
"""

from __future__ import annotations

import http.client
import json
import queue
import socket
import threading
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import paho.mqtt.client as paho
from openapi_spec_validator import validate
from paho.mqtt.enums import CallbackAPIVersion
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase
from wsproto.events import TextMessage

from broker.devices.gizwits import codec
from tests.applications.gizwits.test_datapoints import LAMP
from tests.real import PATIENCE, RealBroker, eventually
from tests.websocket import WebSocketClient

PRODUCT = "6f3074fe43894547a4f1314bd7e3ae0b"
MAC = "6E536B716179"
PASSCODE = "CILECMOIWH"
APPID = "lamps"


class Mqtt:
    """A client of MQTT 3.1; what comes is kept as (topic, payload)."""

    def __init__(self, port: int, client_id: str, user: str, password: str, *filters: str) -> None:
        self.messages: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self.client_id = client_id
        self.client = paho.Client(CallbackAPIVersion.VERSION2, client_id, protocol=paho.MQTTv31)
        self.client.username_pw_set(user, password)
        subscribed = threading.Semaphore(0)
        codes: queue.Queue[Any] = queue.Queue()
        self.client.on_connect = lambda client, data, flags, code, properties: codes.put(code)
        self.client.on_subscribe = lambda *_: subscribed.release()
        self.client.on_message = lambda client, data, one: self.messages.put((one.topic, bytes(one.payload)))
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        self.code = codes.get(timeout=PATIENCE)
        for one in filters:  # one after the other, as agents do
            self.client.subscribe(one, 0)
            assert subscribed.acquire(timeout=PATIENCE)

    def say(self, topic: str, payload: bytes, qos: int = 0) -> None:
        self.client.publish(topic, payload, qos)

    def next(self, wanted: Callable[[str, bytes], bool] = lambda topic, payload: True) -> tuple[str, bytes]:
        """The next message that is wanted; others are passed over."""
        while True:
            topic, payload = self.messages.get(timeout=PATIENCE)
            if wanted(topic, payload):
                return topic, payload

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


class Socket(WebSocketClient):
    """An app's WebSocket."""

    def say(self, cmd: str, data: Any = None) -> None:
        text = json.dumps({"cmd": cmd} if data is None else {"cmd": cmd, "data": data})
        self._socket.sendall(self._connection.send(TextMessage(text)))

    def heard(self, cmd: str) -> Any:
        return self.next(lambda message: message["cmd"] == cmd).get("data")


class Station:
    """A NovaCloud device: JSON lines."""

    def __init__(self, port: int, device: str, key: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self._lines = self._socket.makefile("rb")
        self.say({"type": "auth", "payload": {"device_id": device, "device_key": key}})
        assert self.hear()["status"] == "ok"

    def say(self, message: dict[str, Any]) -> None:
        self._socket.sendall(json.dumps(message).encode() + b"\n")

    def hear(self) -> Any:
        return json.loads(self._lines.readline())

    def close(self) -> None:
        self._lines.close()
        self._socket.close()


class RealCase(TestCase):
    timeout = 180

    def setUp(self) -> None:
        folder = Path(self.mktemp()).absolute()
        folder.mkdir(parents=True)
        self.broker = RealBroker(folder)
        self.addCleanup(self.broker.kill)

    def http(self, line: str, body: Any = None, token: str | None = None) -> tuple[int, Any]:
        """A call of GService: what is JSON is sent and read as such."""
        method, path = line.split()
        connection = http.client.HTTPConnection("127.0.0.1", self.broker.ports["gservice"], timeout=PATIENCE)
        try:
            headers = {"X-Gizwits-Application-Id": APPID}
            if token is not None:
                headers["X-Gizwits-User-token"] = token
            data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
            connection.request(method, path, data, headers)
            response = connection.getresponse()
            text = response.read()
            return response.status, json.loads(text) if text[:1] in (b"{", b"[") else text
        finally:
            connection.close()

    def mqtt(self, client_id: str, user: str, password: str, *filters: str) -> Mqtt:
        client = Mqtt(self.broker.ports["mqtt"], client_id, user, password, *filters)
        self.addCleanup(client.close)
        self.assertEqual(client.code.value, 0)
        return client


class EndToEndTests(RealCase):
    def test_devices_and_apps(self) -> Deferred[None]:
        return deferToThread(self.everything)

    def everything(self) -> None:
        self.broker.start()
        self.broker.made("/products", {"key": PRODUCT, "name": "Lamp", "protocol": "gizwits"})
        self.broker.made("/applications", {"kind": "gizwits", "id": APPID})
        self.log_in()
        self.bind()
        self.device = self.on_mqtt()
        self.phone = self.app()
        self.there_and_back()
        self.data_points()
        self.on_websocket()
        self.plain_topics()
        self.over_http()
        self.another_protocol()
        self.killed()
        self.broker.stop()
        self.assertNotIn("Traceback", "\n".join(self.broker.output))

    def log_in(self) -> None:
        """The device registers and the app has its user."""
        form = f"passcode={PASSCODE}&mac={MAC}&product_key={PRODUCT}".encode()
        status, answer = self.http("POST /dev/devices", form)
        self.assertEqual(status, 201)
        self.did = answer.decode().removeprefix("did=")
        status, session = self.http("POST /app/users", {"phone_id": "phone-1"})
        self.assertEqual(status, 201)
        self.uid, self.token = session["uid"], session["token"]

    def bind(self) -> None:
        devices = [{"did": self.did, "passcode": PASSCODE, "remark": "hall"}, {"did": self.did[::-1], "passcode": "x"}]
        status, answer = self.http("POST /app/bindings", {"devices": devices}, self.token)
        self.assertEqual((status, answer), (200, {"success": [self.did], "failed": [self.did[::-1]]}))
        _, answer = self.http("GET /app/bindings", None, self.token)
        (device,) = answer["devices"]
        self.assertEqual((device["mac"], device["port"]), (MAC, self.broker.ports["mqtt"]))
        self.assertEqual(device["ws_port"], self.broker.ports["gservice"])

    def on_mqtt(self) -> Mqtt:
        filters = (f"ser2cli_noti/{PRODUCT}", f"ser2cli_res/{self.did}", f"app2dev/{self.did}/#")
        return self.mqtt(self.did, self.did, PASSCODE, *filters)

    def app(self) -> Mqtt:
        name = "usr" + "A" * 20
        filters = (f"ser2cli_res/{name}/#", f"dev2app/{self.did}", f"dev2app/{self.did}/{name}")
        return self.mqtt(name, f"2${APPID}${self.uid}", self.token, *filters)

    def there_and_back(self) -> None:
        """The device hears of the app, is told something and answers that app."""
        self.assertEqual(self.device.next(), (f"ser2cli_res/{self.did}", codec.encode(codec.Apps(1))))
        to_device = f"app2dev/{self.did}/{self.phone.client_id}"
        request = codec.encode(codec.Request(42, b"\1\1\1"))
        self.phone.say(to_device, request)
        self.assertEqual(self.device.next(), (to_device, request))
        to_app = f"dev2app/{self.did}/{self.phone.client_id}"
        ack = codec.encode(codec.Ack(42))
        self.device.say(to_app, ack)
        self.assertEqual(self.phone.next(), (to_app, ack))

    def data_points(self) -> None:
        status, _ = self.broker.call(
            "PUT", f"/gizwits/products/{PRODUCT}/datapoints", {"datapoints": msgspec.to_builtins(LAMP)}
        )
        self.assertEqual(status, 200)
        status, answer = self.http(f"POST /app/control/{self.did}", {"attrs": {"level": 9}}, self.token)
        self.assertEqual((status, answer), (200, {}))
        topic, payload = self.device.next()
        self.assertEqual((topic, codec.decode_business(payload)), (
            f"app2dev/{self.did}/broker",
            codec.Control(bytes.fromhex("01 04 00 09 0000 000000")),
        ))  # fmt: skip
        self.device.say(f"dev2app/{self.did}", codec.encode(codec.Report(b"\4\1\5")))
        self.phone.next()

        def latest() -> Any:
            _, answer = self.http(f"GET /app/devdata/{self.did}/latest")
            return answer.get("attr", {}).get("level") == 5

        eventually(latest, "the report's values")

    def on_websocket(self) -> None:
        client = Socket(self.broker.ports["gservice"], "/ws/app/v1", "none")
        self.addCleanup(client.close)
        client.say("login_req", {"appid": APPID, "uid": self.uid, "token": self.token, "p0_type": "attrs_v4"})
        self.assertEqual(client.heard("login_res"), {"success": True})
        self.assertEqual(client.heard("s2c_online_status")["online"], True)
        self.assertEqual(self.device.next()[1], codec.encode(codec.Apps(2)))
        client.say("c2s_write", {"did": self.did, "attrs": {"power": True}})
        self.assertEqual(
            codec.decode_business(self.device.next()[1]), codec.Control(bytes.fromhex("0101010000 00000000"))
        )
        self.device.say(f"dev2app/{self.did}", codec.encode(codec.Report(b"\4\0\7")))
        attrs = {"power": False, "mode": "white", "level": 7}
        self.assertEqual(client.heard("s2c_noti"), {"did": self.did, "attrs": attrs})
        self.phone.next()
        client.close()
        self.assertEqual(self.device.next()[1], codec.encode(codec.Apps(1)))

    def plain_topics(self) -> None:
        """An application that knows nothing of Gizwits."""
        made = self.broker.made("/applications", {"kind": "mqtt"})
        self.broker.call("PUT", f"/applications/{made['id']}/devices/{self.did}")
        client = self.mqtt("plain", made["id"], made["secret"], f"devices/{self.did}/#")
        self.device.say(f"dev2app/{self.did}", codec.encode(codec.Report(b"\5raw")))
        _, payload = client.next(lambda topic, payload: topic.endswith("/up/raw"))
        self.assertEqual(b64decode(json.loads(payload)["payload_base64"]), b"\5raw")
        self.phone.next()
        body = {"payload_base64": b64encode(b"\1\2").decode(), "ref": "r"}
        client.say(f"devices/{self.did}/command", json.dumps(body).encode(), 1)
        self.assertEqual(codec.decode_business(self.device.next()[1]), codec.Control(b"\1\2"))
        _, payload = client.next(lambda topic, payload: topic.endswith("/reply") and b"succeeded" in payload)
        self.assertEqual(json.loads(payload)["ref"], "r")

    def over_http(self) -> None:
        """A command that the device has to acknowledge."""
        answers: queue.Queue[tuple[int, Any]] = queue.Queue()
        body = {"payload_base64": b64encode(b"\1\3").decode(), "ack": True}

        def order() -> None:
            answers.put(self.broker.call("POST", f"/devices/{self.did}/commands?wait=10", body))

        threading.Thread(target=order, daemon=True).start()
        topic, payload = self.device.next()
        request = codec.decode_business(payload)
        assert isinstance(request, codec.Request)
        self.assertEqual(request.data, b"\1\3")
        self.device.say(topic.replace("app2dev", "dev2app"), codec.encode(codec.Ack(request.sn)))
        status, command = answers.get(timeout=PATIENCE)
        self.assertEqual((status, command["status"]), (200, "succeeded"))
        validate(self.broker.call("GET", "/openapi.json")[1])

    def another_protocol(self) -> None:
        """A NovaCloud device on dev2app and app2dev."""
        made = self.broker.made("/devices", {"protocol": "novacloud"})
        did = made["id"]
        devices = {"devices": [{"did": did, "passcode": made["secret"]}]}
        self.assertEqual(self.http("POST /app/bindings", devices, self.token)[1]["success"], [did])
        station = Station(self.broker.ports["novacloud"], did, made["secret"])
        self.addCleanup(station.close)
        name = "usr" + "B" * 20
        app = self.mqtt(name, f"2${APPID}${self.uid}", self.token, f"dev2app/{did}", f"dev2app/{did}/{name}")
        station.say({"type": "data", "payload": {"temperature": 25.5}})
        topic, payload = app.next()
        self.assertEqual(
            (topic, codec.decode_business(payload)), (f"dev2app/{did}", codec.Report(b'{"temperature":25.5}'))
        )
        app.say(f"app2dev/{did}/{name}", codec.encode(codec.Request(7, b'{"light":"ON"}')))
        command = station.hear()
        self.assertEqual((command["type"], command["payload"]), ("command", {"light": "ON"}))
        station.say({"type": "command_response", "command_id": command["command_id"], "status": "success"})
        topic, payload = app.next()
        self.assertEqual((topic, codec.decode_business(payload)), (f"dev2app/{did}/{name}", codec.Ack(7)))

    def killed(self) -> None:
        """Users, tokens and bindings are on disk when they are answered."""
        _, other = self.http("POST /app/users", {"username": "ann", "password": "secret"})
        devices = {"devices": [{"did": self.did, "passcode": PASSCODE}]}
        self.assertEqual(self.http("POST /app/bindings", devices, other["token"])[1]["success"], [self.did])
        self.broker.kill()
        self.broker.start()
        _, answer = self.http("GET /app/bindings", None, other["token"])
        self.assertEqual([device["did"] for device in answer["devices"]], [self.did])
        status, again = self.http("POST /app/login", {"username": "ann", "password": "secret"})
        self.assertEqual((status, again["uid"]), (200, other["uid"]))
        self.assertEqual(self.http("POST /app/login", {"username": "ann", "password": "x"})[0], 400)
        _, answer = self.http("GET /app/bindings", None, self.token)
        self.assertEqual(len(answer["devices"]), 2)
        device, phone = self.on_mqtt(), self.app()
        device.say(f"dev2app/{self.did}", codec.encode(codec.Report(b"\4\1\1")))
        self.assertEqual(phone.next()[0], f"dev2app/{self.did}")
        users = f"/gizwits/applications/{APPID}/users"
        status, answer = self.broker.call("GET", users)
        self.assertEqual((status, len(answer["items"])), (200, 2))
        self.assertEqual(self.broker.call("DELETE", f"{users}/{other['uid']}")[0], 204)
        self.assertEqual(self.http("GET /app/bindings", None, other["token"])[1]["error_code"], 9004)
