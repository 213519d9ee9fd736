"""The broker that all tests of this folder share, and what is registered with it. Everything here blocks.

It is started once, in trial's own folder, and ends with the test run; no two tests use the same application, client id
or topic.
"""

from __future__ import annotations

import atexit
import json
import re
import socket
import tempfile
import threading
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.clients.client import Login, Message, Transport
from tests.real import PATIENCE, RealBroker

TRANSPORTS: tuple[Transport, ...] = ("tcp", "tls", "ws", "wss")


class Stage:
    def __init__(self) -> None:
        folder = Path(tempfile.mkdtemp(dir=Path.cwd()))
        bind = [f"{kind}:0:interface=127.0.0.1" for kind in TRANSPORTS]
        self.broker = RealBroker(folder, {"listeners.mqtt.bind": json.dumps(bind)})
        self.broker.start()
        atexit.register(self.broker.stop)
        found = (re.search(r"listening: mqtt (\w+) .*:(\d+)$", line) for line in self.broker.output)
        self.ports = {one[1]: int(one[2]) for one in found if one}
        self.certificate = str(self.broker.data_dir / "tls" / "certificate.pem")

    def application(self, *devices: str) -> Application:
        made = self.broker.made("/applications", {"kind": "mqtt"})
        for device in devices:
            status, answer = self.broker.call("PUT", f"/applications/{made['id']}/devices/{device}")
            assert status in (200, 201, 204), answer
        return Application(self, made["id"], made["secret"])

    def device(self) -> tuple[str, str]:
        """A NovaCloud device: id and key."""
        made = self.broker.made("/devices", {"protocol": "novacloud"})
        return made["id"], made["secret"]

    def obedient_device(self) -> ObedientDevice:
        return ObedientDevice(self.broker.ports["novacloud"], *self.device())


class Application:
    """Registered with the broker; its id and secret are user name and password."""

    def __init__(self, stage: Stage, user: str, password: str) -> None:
        self._stage = stage
        self.user = user
        self.password = password

    def login(
        self,
        version: int,
        transport: Transport = "tcp",
        *,
        client_id: str = "",
        password: str | None = None,
        clean: bool = True,
        will: Message | None = None,
    ) -> Login:
        return Login(
            transport=transport,
            port=self._stage.ports[transport],
            version=version,
            client_id=client_id or f"c-{uuid4()}",
            user=self.user,
            password=self.password if password is None else password,
            ca=self._stage.certificate,
            clean=clean,
            will=will,
        )


class ObedientDevice:
    """A NovaCloud device that is connected and carries out every command: its answer has the command's payload."""

    def __init__(self, port: int, name: str, key: str) -> None:
        self.name = name
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self._lines = self._socket.makefile("rb")
        self._send({"type": "auth", "payload": {"device_id": name, "device_key": key}})
        assert b'"success"' in self._lines.readline()
        self._socket.settimeout(None)
        self._thread = threading.Thread(target=self._obey, daemon=True)
        self._thread.start()

    def _send(self, message: Any) -> None:
        self._socket.sendall(json.dumps(message).encode() + b"\n")

    def _obey(self) -> None:
        for line in self._lines:
            command = json.loads(line)
            answer = {"command_id": command["command_id"], "status": "success", "payload": command["payload"]}
            self._send({"type": "command_response", **answer})

    def leave(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE)
        self._lines.close()
        self._socket.close()


@cache
def stage() -> Stage:
    return Stage()


def fresh_topic() -> str:
    return f"t/{uuid4()}"
