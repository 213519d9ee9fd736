"""Real broker processes on one real Redis: what clients see of it."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.request import urlopen
from uuid import uuid4

from paho.mqtt.client import Client as Mqtt
from paho.mqtt.enums import CallbackAPIVersion
from pamoja import lorawan as pamoja
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.cluster.bed import SERVER
from tests.devices.lorawan.bed import APP_S_KEY, GATEWAY, NWK_S_KEY
from tests.devices.lorawan.test_real import UdpForwarder
from tests.real import RealBroker, eventually
from tests.websocket import WebSocketClient

#: Seconds.
LEASE = 3


class Nova:
    """A NovaCloud device on a plain socket."""

    def __init__(self, broker: RealBroker, device: Mapping[str, str]) -> None:
        self._socket = socket.create_connection(("127.0.0.1", broker.ports["novacloud"]), timeout=20)
        self._lines = self._socket.makefile("rb")
        self.say("auth", device_id=device["id"], device_key=device["secret"])
        assert self.hear()["status"] == "ok"

    def say(self, kind: str, **payload: Any) -> None:
        self._socket.sendall(json.dumps({"type": kind, "payload": payload}).encode() + b"\n")

    def hear(self) -> Any:
        line = self._lines.readline()
        return json.loads(line) if line else None

    def closed(self) -> None:
        """Read to the end."""
        while self.hear() is not None:
            pass

    def answer(self, command: Any, status: str = "success") -> None:
        text = {
            "type": "command_response",
            "command_id": command["command_id"],
            "status": status,
            "payload": {"ok": 1},
        }
        self._socket.sendall(json.dumps(text).encode() + b"\n")

    def close(self) -> None:
        self._lines.close()
        self._socket.close()


class ProcessCase(TestCase):
    """Starts processes, and stops them in the end."""

    timeout = 120

    def setUp(self) -> None:
        self.brokers: list[RealBroker] = []
        self.prefix = SERVER.prefix()
        self.addCleanup(self._stop)

    def _stop(self) -> Any:
        def stop() -> None:
            for broker in self.brokers:
                broker.kill()
                Path(broker.folder / "output").write_text("\n".join(broker.output))

        return deferToThread(stop)

    def start(self, name: str, **settings: str) -> RealBroker:
        folder = Path(self.mktemp())
        folder.mkdir(parents=True)
        broker = RealBroker(
            folder.absolute(),
            {
                "broker.name": json.dumps(name),
                "broker.admin_token": '"admin"',
                "storage.url": json.dumps(SERVER.get().url),
                "storage.allow_volatile": "true",
                "redis.prefix": json.dumps(self.prefix),
                "cluster.enabled": "true",
                "cluster.lease": str(LEASE),
                "listeners.mqtt.anonymous": "true",
                **settings,
            },
        )
        self.brokers.append(broker)
        broker.start()
        return broker

    def call(self, broker: RealBroker, method: str, path: str, body: Any = None) -> Any:
        return broker.call(method, path, body, "admin")

    def figure(self, broker: RealBroker, name: str) -> float:
        """One of the metrics."""
        with urlopen(f"http://127.0.0.1:{broker.ports['http']}/metrics", timeout=30) as answer:
            lines: list[str] = answer.read().decode().splitlines()
        (line,) = [line for line in lines if line.startswith((name + " ", name + "{"))]
        return float(line.rpartition(" ")[2])

    def device(self, broker: RealBroker) -> Any:
        status, device = self.call(broker, "POST", "/devices", {"protocol": "novacloud", "id": str(uuid4())})
        self.assertEqual(status, 201, device)
        return device

    def ordered(self, broker: RealBroker, device: Any, query: str = "", **body: Any) -> Any:
        status, answer = self.call(
            broker, "POST", f"/devices/{device['id']}/commands{query}", {"payload": {"light": "ON"}, **body}
        )
        self.assertIn(status, (200, 202), answer)
        return answer

    def final(self, broker: RealBroker, command_id: str, status: str) -> Any:
        return eventually(
            lambda: (found := self.call(broker, "GET", f"/commands/{command_id}")[1])["status"] == status and found,
            f"{command_id} to be {status}",
        )


class Processes(ProcessCase):
    # -- commands --------------------------------------------------------------------------------------------------

    def test_commands(self) -> Any:
        return deferToThread(self._commands)

    def _commands(self) -> None:
        a, b = self.start("a"), self.start("b")
        device = self.device(a)
        waiting = self.ordered(b, device)
        self.assertEqual(waiting["status"], "queued")
        nova = Nova(b, device)
        command = nova.hear()
        self.assertEqual(command["command_id"], waiting["id"])
        nova.answer(command)
        self.final(a, waiting["id"], "succeeded")

        # Submitted here, driven there, and waited for.
        from_a = deferred_call(lambda: self.ordered(a, device, "?wait=20"))
        command = nova.hear()
        nova.answer(command)
        self.assertEqual(from_a()["status"], "succeeded")

        # Taken over by a connection to the other process.
        second = Nova(a, device)
        nova.closed()
        nova.close()
        for broker in (a, b):
            taken = self.ordered(broker, device)
            command = second.hear()
            self.assertEqual(command["command_id"], taken["id"])
            second.answer(command)
            self.final(b, taken["id"], "succeeded")

        # Cancelled by whoever does not drive it.
        second.close()
        eventually(lambda: not self.call(a, "GET", f"/devices/{device['id']}")[1]["online"], "it to be off-line")
        queued = self.ordered(a, device)
        status, answer = self.call(b, "DELETE", f"/commands/{queued['id']}")
        self.assertEqual((status, answer["status"]), (200, "cancelled"))
        status, answer = self.call(b, "POST", f"/devices/{device['id']}/commands", {"payload": {"x": 1}, "expires": 0})
        self.assertEqual((status, answer["type"]), (409, "urn:broker:device-offline"))

    def test_a_process_dies_with_commands(self) -> Any:
        return deferToThread(self._dies_with_commands)

    def _dies_with_commands(self) -> None:
        a, b = self.start("a"), self.start("b")
        device, other = self.device(a), self.device(a)
        nova = Nova(a, device)
        queued = self.ordered(a, other, expires=300)
        short = self.ordered(a, other, expires=6)
        sent = self.ordered(b, device)
        self.assertEqual(nova.hear()["command_id"], sent["id"])
        self.final(b, sent["id"], "sent")
        a.kill()
        nova.close()
        again = Nova(b, device)
        fresh = self.ordered(b, device)
        self.assertEqual(again.hear()["command_id"], fresh["id"])
        self.final(b, short["id"], "expired")
        late = Nova(b, other)
        self.assertEqual(late.hear()["command_id"], queued["id"])

    def test_one_that_is_stopped(self) -> Any:
        return deferToThread(self._stopped)

    def _stopped(self) -> None:
        a, b = self.start("a"), self.start("b")
        device = self.device(a)
        nova = Nova(a, device)
        before = self.ordered(b, device)
        nova.answer(nova.hear())
        self.final(b, before["id"], "succeeded")
        os.kill(a.pid, signal.SIGSTOP)
        again = Nova(b, device)
        command = self.ordered(b, device)
        self.assertEqual(again.hear()["command_id"], command["id"])
        os.kill(a.pid, signal.SIGCONT)
        nova.closed()
        again.answer({"command_id": command["id"]})
        self.final(a, command["id"], "succeeded")
        eventually(lambda: self.call(a, "GET", f"/devices/{device['id']}")[1]["online"], "it to be on-line")

    # -- the registry ----------------------------------------------------------------------------------------------

    def test_the_registry(self) -> Any:
        return deferToThread(self._registry)

    def _registry(self) -> None:
        a, b = self.start("a"), self.start("b")
        device = self.device(a)
        nova = Nova(b, device)
        self.call(a, "PATCH", f"/devices/{device['id']}", {"disabled": True})
        nova.closed()

    # -- what devices say ------------------------------------------------------------------------------------------

    def test_streams(self) -> Any:
        return deferToThread(self._streams)

    def _streams(self) -> None:
        a, b = self.start("a"), self.start("b")
        device, other = self.device(a), self.device(a)
        _, application = self.call(a, "POST", "/applications", {"kind": "http"})
        self.call(a, "PUT", f"/applications/{application['id']}/devices/{device['id']}")
        before = self.figure(b, "broker_cluster_wishes")
        everything = WebSocketClient(a.ports["http"], "/api/v1/stream", "admin")
        bound = WebSocketClient(a.ports["http"], "/api/v1/stream", f"{application['id']}:{application['secret']}")
        eventually(lambda: self.figure(b, "broker_cluster_wishes") == before + 2, "b to know of both")
        nova, more = Nova(b, device), Nova(b, other)
        more.say("data", temperature=1)
        nova.say("data", temperature=2)
        for stream, devices in ((everything, {device["id"], other["id"]}), (bound, {device["id"]})):
            seen: set[str] = set()
            while seen != devices:
                message = stream.next(lambda message: "device" in message)
                self.assertIn(message["device"], devices)
                if message["type"] == "uplink":
                    seen.add(message["device"])

    # -- LoRaWAN ---------------------------------------------------------------------------------------------------

    def test_a_mote_that_both_hear(self) -> Any:
        return deferToThread(self._mote)

    def _mote(self) -> None:
        settings = {"listeners.lorawan.region": '"eu868"', "listeners.lorawan.unknown": '"accept"'}
        a, b = self.start("a", **settings), self.start("b", **settings)
        mote = {"id": "AA00000000000001", "dev_addr": "26011BDA", "nwk_s_key": NWK_S_KEY, "app_s_key": APP_S_KEY}
        status, answer = self.call(b, "POST", "/devices", {"protocol": "lorawan", **mote})
        self.assertEqual(status, 201, answer)
        before = self.figure(a, "broker_cluster_wishes")
        stream = WebSocketClient(b.ports["http"], "/api/v1/stream?kind=raw", "admin")
        near, far = UdpForwarder(b.ports["lorawan"]), UdpForwarder(a.ports["lorawan"], "4247010099999999")
        for forwarder in (near, far):
            self.addCleanup(forwarder.close)
            forwarder.pull()
        session = pamoja.session(0x26011BDA, bytes.fromhex(NWK_S_KEY), bytes.fromhex(APP_S_KEY))
        eventually(lambda: self.figure(a, "broker_cluster_wishes") > before, "a to know of the stream")

        def says(number: int, *forwarders: UdpForwarder) -> Any:
            phy = session.encode_uplink(number, 5, b"%d" % number, False, False, False, None)
            for forwarder in forwarders:
                forwarder.hears(phy)
            return stream.next(lambda message: message["type"] == "uplink")

        for number in range(3):
            uplink = says(number, far, near)
            self.assertEqual(uplink["payload_base64"], b64encode(b"%d" % number).decode())
            self.assertEqual(len(uplink["meta"]["gateways"]), 2)
        # A downlink through the gateway of the process that has not got the network, whichever that is.
        for number, (broker, forwarder) in enumerate(((a, near), (b, far)), 3):
            time.sleep(2.5)  # until the windows of the last uplink are over
            order = {"payload_base64": b64encode(b"down").decode(), "port": 7}
            status, command = self.call(broker, "POST", f"/devices/{mote['id']}/commands", order)
            self.assertEqual(status, 202, command)
            says(number, forwarder)
            _, frame = forwarder.told()
            self.assertEqual(session.decode(frame, number - 3).payload, b"down")
            self.final(broker, command["id"], "succeeded")
        a.kill()
        eventually(lambda: any("the network is this process's" in line for line in b.output), "b to take the network")
        uplink = says(7, near)
        self.assertEqual([one["eui"] for one in uplink["meta"]["gateways"]], [GATEWAY])

    # -- MQTT ------------------------------------------------------------------------------------------------------

    def test_mqtt_when_a_process_is_killed(self) -> Any:
        return deferToThread(self._mqtt)

    def client(self, broker: RealBroker, client_id: str, clean: bool = True) -> Any:
        """Connected; ``got`` holds what came."""
        client: Any = Mqtt(CallbackAPIVersion.VERSION2, client_id, clean_session=clean)
        client.got = []
        client.up = threading.Event()
        client.on_connect = lambda *_: client.up.set()
        client.on_message = lambda _c, _u, message: client.got.append((message.topic, message.payload))
        client.connect("127.0.0.1", broker.ports["mqtt"])
        client.loop_start()
        self.addCleanup(client.loop_stop)
        assert client.up.wait(20)
        return client

    def subscribe(self, client: Any, topic: str, qos: int) -> None:
        done = threading.Event()
        client.on_subscribe = lambda *_: done.set()
        client.subscribe(topic, qos)
        assert done.wait(20)

    def _mqtt(self) -> None:
        brokers = [self.start(name) for name in "abc"]
        a, b, c = brokers
        keeper = self.client(a, "keeper", clean=False)
        self.subscribe(keeper, "q/#", 2)
        keeper.disconnect()
        reader = self.client(b, "reader")
        self.subscribe(reader, "q/#", 1)
        for broker in (a, b):
            self.assertEqual(self.figure(broker, "broker_mqtt_processes_behind"), 0)
        writers = [self.client(broker, f"writer-{number}") for number, broker in enumerate((b, c))]
        acknowledged: list[bytes] = []

        def publish(first: int, last: int) -> None:
            for number in range(first, last):
                for which, writer in enumerate(writers):
                    payload = b"%d-%d" % (which, number)
                    writer.publish(f"q/{which}", payload, number % 2 + 1).wait_for_publish(20)
                    acknowledged.append(payload)

        publish(0, 30)
        a.kill()
        publish(30, 60)
        back = self.client(c, "keeper", clean=False)
        publish(60, 70)
        eventually(lambda: len({payload for _, payload in back.got}) == len(acknowledged), "all to come")
        payloads = [payload for _, payload in back.got]
        self.assertEqual(len(payloads), len(set(payloads)))
        eventually(lambda: len({payload for _, payload in reader.got}) == len(acknowledged), "the reader's")
        self.assertEqual(set(payloads), set(acknowledged))


def deferred_call(call: Any) -> Any:
    """``call`` in a thread of its own; what is returned waits for its result."""
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(1)
    future = pool.submit(call)
    pool.shutdown(wait=False)
    return lambda: future.result(30)
