"""Real broker processes on one real Redis: what clients see of it."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.cluster.bed import SERVER
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

    def answer(self, command: Any) -> None:
        text = {"type": "command_response", "command_id": command["command_id"], "status": "success", "payload": {"ok": 1}}
        self._socket.sendall(json.dumps(text).encode() + b"\n")

    def close(self) -> None:
        self._lines.close()
        self._socket.close()


class Processes(TestCase):
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
        status, answer = self.call(
            b, "POST", f"/devices/{device['id']}/commands", {"payload": {"x": 1}, "expires": 0}
        )
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
        everything = WebSocketClient(a.ports["http"], "/api/v1/stream", "admin")
        bound = WebSocketClient(a.ports["http"], "/api/v1/stream", f"{application['id']}:{application['secret']}")
        time.sleep(0.6)
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


def deferred_call(call: Any) -> Any:
    """``call`` in a thread of its own; what is returned waits for its result."""
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(1)
    future = pool.submit(call)
    pool.shutdown(wait=False)
    return lambda: future.result(30)
