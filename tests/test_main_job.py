"""The main job, end to end: the guide's sample client, an MQTT client, the stream and the API around a real broker.

And what must not be lost: a broker that is killed (-9) while commands wait and reports come in.
"""

from __future__ import annotations

import json
import queue
import random
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any
from uuid import uuid4

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.devices.novacloud.sample_client import NovaCloudTcpClient
from tests.real import PATIENCE, RealBroker, eventually
from tests.websocket import WebSocketClient

#: Seconds within which a device's data arrives on a machine that is not loaded.
PROMPT = 0.1


class Inbox:
    """What an MQTT client got: (topic, payload, time of arrival)."""

    def __init__(self, port: int, user: str, password: str, *filters: str) -> None:
        self.messages: queue.Queue[tuple[str, Any, float]] = queue.Queue()
        self.client = paho.Client(CallbackAPIVersion.VERSION2, client_id=f"test-{uuid4()}", protocol=paho.MQTTv311)
        self.client.username_pw_set(user, password)
        subscribed = threading.Event()
        self.client.on_subscribe = lambda *_: subscribed.set()
        self.client.on_message = self._received
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        self.client.subscribe([(one, 1) for one in filters])
        assert subscribed.wait(PATIENCE)

    def _received(self, client: Any, userdata: Any, message: Any) -> None:
        self.messages.put((message.topic, json.loads(message.payload), time.monotonic()))

    def next(self, wanted: Callable[[str, Any], bool]) -> tuple[str, Any, float]:
        """The next message that is wanted; others are passed over."""
        while True:
            topic, payload, at = self.messages.get(timeout=PATIENCE)
            if wanted(topic, payload):
                return topic, payload, at

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


class MainJobCase(TestCase):
    prompt = PROMPT
    timeout = 180

    def setUp(self) -> None:
        folder = Path(self.mktemp()).absolute()
        folder.mkdir(parents=True)
        self.broker = RealBroker(folder)
        self.addCleanup(self.broker.kill)

    def in_thread(self, call: Callable[[], None]) -> Deferred[None]:
        return deferToThread(call)

    def registered(self, product: str | None = None) -> tuple[str, str]:
        """A NovaCloud device: id and key."""
        body = {"protocol": "novacloud", "name": "sample", **({"product": product} if product else {})}
        device = self.broker.made("/devices", body)
        return device["id"], device["secret"]

    def application(self, kind: str, *devices: str) -> tuple[str, str]:
        """An application bound to devices: id and secret."""
        made = self.broker.made("/applications", {"kind": kind})
        for device in devices:
            status, _ = self.broker.call("PUT", f"/applications/{made['id']}/devices/{device}")
            self.assertIn(status, (200, 201, 204))
        return made["id"], made["secret"]

    def no_traceback(self) -> None:
        self.assertNotIn("Traceback", "\n".join(self.broker.output))


class MainJobTests(MainJobCase):
    def test_a_device_and_its_applications(self) -> Deferred[None]:
        """Data to MQTT, stream and history; commands from HTTP and MQTT and back; presence."""
        return self.in_thread(self.main_job)

    def main_job(self) -> None:
        broker = self.broker
        broker.start()
        broker.made("/products", {
            "key": "weather",
            "name": "Weather station",
            "protocol": "novacloud",
            "sensors": [{"value_key": "temperature", "unit": "°C"}],
            "actuators": [{"command_key": "light_switch"}],
        })  # fmt: skip
        device, key = self.registered("weather")
        app, secret = self.application("mqtt", device)
        inbox = Inbox(broker.ports["mqtt"], app, secret, f"devices/{device}/#")
        self.addCleanup(inbox.close)
        stream = WebSocketClient(broker.ports["http"], f"/api/v1/stream?device={device}", broker.admin_token)
        self.addCleanup(stream.close)
        client = NovaCloudTcpClient("127.0.0.1", broker.ports["novacloud"], device, key)
        self.assertTrue(client.connect())
        self.addCleanup(client.disconnect)

        _, presence, _ = inbox.next(lambda topic, body: topic.endswith("/presence") and body["online"])
        self.assertEqual(presence["device"], device)
        self.data_crosses(client, device, inbox, stream)
        self.commands_cross(device, inbox)

        # The sample client closes a socket that its own thread still reads; only this ends the connection.
        assert client.client is not None
        client.client.shutdown(socket.SHUT_RDWR)
        client.disconnect()
        _, presence, _ = inbox.next(lambda topic, body: topic.endswith("/presence"))
        self.assertFalse(presence["online"])
        inbox.close()
        stream.close()
        self.assertEqual(broker.stop(), 0)
        self.no_traceback()

    def data_crosses(self, client: Any, device: str, inbox: Inbox, stream: WebSocketClient) -> None:
        delays = []
        for number in range(20):
            stamp = int(time.time()) - 5
            sent = time.monotonic()
            client.send_sensor_data({"temperature": number + 0.5, "unheard_of": number}, stamp)
            topic, message, _ = inbox.next(lambda topic, body: "/up/" in topic)
            self.assertEqual(topic, f"devices/{device}/up/data")
            self.assertEqual(message["payload"], {"temperature": number + 0.5, "unheard_of": number})
            self.assertEqual(message["meta"], {"sent_at": stamp})
            self.assertLess(abs(message["at"] - time.time()), PATIENCE)
            seen = stream.next(lambda body: body["type"] == "uplink")
            delays.append(time.monotonic() - sent)
            self.assertEqual({**message, "type": "uplink"}, seen)
        # One or two may have met a busy machine; what is promised is promised for a broker that has one.
        self.assertLess(sorted(delays)[-3], self.prompt)

        def listed() -> Any:
            status, page = self.broker.call("GET", f"/devices/{device}/messages?kind=data")
            self.assertEqual(status, 200)
            return page["items"] if len(page["items"]) == 20 else None

        newest = eventually(listed, "twenty messages in history")[0]
        self.assertEqual(newest["payload"], {"temperature": 19.5, "unheard_of": 19})
        _, shown = self.broker.call("GET", f"/devices/{device}")
        self.assertTrue(shown["online"])
        self.assertEqual(shown["values"]["temperature"]["value"], 19.5)
        self.assertEqual(shown["unmapped"]["unheard_of"]["value"], 19)

    def commands_cross(self, device: str, inbox: Inbox) -> None:
        status, command = self.broker.call(
            "POST", f"/devices/{device}/commands?wait=5", {"payload": {"light_switch": "ON"}, "ref": "over http"}
        )
        self.assertEqual((status, command["status"]), (200, "succeeded"), command)
        self.assertEqual(command["result"]["current_state"], {"light_switch": "ON"})
        states = [inbox.next(lambda topic, body: topic.endswith("/reply"))[1]["status"] for _ in range(3)]
        self.assertEqual(states, ["queued", "sent", "succeeded"])

        order = {"payload": {"light_switch": "OFF"}, "ref": "over mqtt"}
        inbox.client.publish(f"devices/{device}/command", json.dumps(order), qos=1).wait_for_publish(PATIENCE)
        _, reply, _ = inbox.next(lambda topic, body: topic.endswith("/reply") and body["status"] == "succeeded")
        self.assertEqual(reply["ref"], "over mqtt")
        self.assertEqual(reply["result"]["current_state"], {"light_switch": "OFF"})

        status, problem = self.broker.call("POST", f"/devices/{device}/commands", {"payload": {"warp": 9}})
        self.assertEqual(status, 400, problem)
        order = {"payload": {"warp": 9}, "ref": "refused"}
        inbox.client.publish(f"devices/{device}/command", json.dumps(order), qos=1).wait_for_publish(PATIENCE)
        _, reply, _ = inbox.next(lambda topic, body: topic.endswith("/reply") and body["ref"] == "refused")
        self.assertEqual((reply["id"], reply["status"]), (None, "failed"))


class KillTests(MainJobCase):
    """DESIGN §10: kill -9 at any moment loses nothing that was acknowledged."""

    def test_commands_registry_and_history_survive(self) -> Deferred[None]:
        return self.in_thread(self.kill_and_count)

    def kill_and_count(self) -> None:
        broker = self.broker
        dice = random.Random(10)
        broker.start()
        talker, key = self.registered()
        acknowledged: dict[str, str] = {}
        devices: list[str] = []
        reported = 0
        for _ in range(4):
            reporter = Reporter(broker.ports["novacloud"], talker, key, reported)
            orders = Orders(broker, acknowledged, devices)
            time.sleep(0.3 + dice.random())  # how long it runs is the dice's; nothing waits for this
            broker.kill()
            reported = reporter.finish()
            orders.finish()
            broker.start()
            self.nothing_missing(acknowledged, devices)
        self.assertGreater(len(acknowledged), 20)
        # What was reported more than two seconds before a kill is in history, in the order in which it came.
        _, page = broker.call("GET", f"/devices/{talker}/messages?kind=data&limit=1000")
        numbers = [message["payload"]["number"] for message in page["items"]]
        self.assertEqual(numbers, sorted(numbers, reverse=True))
        self.deliver_what_waited(devices[0], acknowledged)
        self.assertEqual(broker.stop(), 0)
        self.no_traceback()

    def nothing_missing(self, acknowledged: dict[str, str], devices: list[str]) -> None:
        for device in devices:
            self.assertEqual(self.broker.call("GET", f"/devices/{device}")[0], 200)
        for command, device in acknowledged.items():
            status, found = self.broker.call("GET", f"/commands/{command}")
            self.assertEqual((status, found and found["device"], found and found["status"]), (200, device, "queued"))

    def deliver_what_waited(self, device: str, acknowledged: dict[str, str]) -> None:
        """The device comes at last and gets everything, in order, once."""
        wanted = [command for command, owner in acknowledged.items() if owner == device]
        status, changed = self.broker.call("PATCH", f"/devices/{device}", {"secret": "k" * 64})
        self.assertEqual(status, 200, changed)
        client = NovaCloudTcpClient("127.0.0.1", self.broker.ports["novacloud"], device, "k" * 64)
        self.assertTrue(client.connect())

        def succeeded(command: str) -> bool:
            return bool(self.broker.call("GET", f"/commands/{command}")[1]["status"] == "succeeded")

        for command in wanted:
            eventually(partial(succeeded, command), f"command {command} has succeeded")
        client.disconnect()


class Reporter:
    """A device that reports numbers until its connection breaks."""

    def __init__(self, port: int, device: str, key: str, first: int) -> None:
        self._next = first
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        auth = {"type": "auth", "payload": {"device_id": device, "device_key": key}}
        self._socket.sendall(json.dumps(auth).encode() + b"\n")
        assert b'"success"' in self._socket.recv(1024)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while True:
                line = {"type": "data", "payload": {"number": self._next}}
                self._socket.sendall(json.dumps(line).encode() + b"\n")
                self._next += 1
                time.sleep(0.005)  # a device's pace
        except OSError:
            self._socket.close()

    def finish(self) -> int:
        self._thread.join(PATIENCE)
        return self._next


class Orders:
    """An operator who registers devices and orders commands for them; only what was answered counts."""

    def __init__(self, broker: RealBroker, acknowledged: dict[str, str], devices: list[str]) -> None:
        self._broker = broker
        self._acknowledged = acknowledged
        self._devices = devices
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while True:
                status, device = self._broker.call("POST", "/devices", {"protocol": "novacloud"})
                if status != 201:
                    return
                self._devices.append(device["id"])
                for number in range(5):
                    body = {"payload": {"number": number}}
                    status, command = self._broker.call("POST", f"/devices/{device['id']}/commands", body)
                    if status != 202:
                        return
                    self._acknowledged[command["id"]] = device["id"]
        except (OSError, ValueError, HTTPException):
            return

    def finish(self) -> None:
        self._thread.join(PATIENCE)
