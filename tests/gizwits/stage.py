"""A real broker with a Gizwits product and an application, and who meets in it: agents in Node.js, raw sockets, apps of
paho-mqtt (MQTT 3.1). Everything here blocks.

The broker is started once, in trial's own folder, and ends with the test run; every test has devices and users of its
own.
"""

from __future__ import annotations

import atexit
import http.client
import json
import queue
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from tests.real import PATIENCE, RealBroker

AGENT = Path(__file__).with_name("agent.mjs")
PRODUCT = "6f3074fe43894547a4f1314bd7e3ae0b"
APPLICATION = "apps"
#: What a real device takes from one ``recv``.
RECV = 1024
#: How many times faster than a real one an agent lives here.
TEMPO = 40
_numbers = count(1)


def fresh_mac() -> str:
    return f"6E{next(_numbers):010X}"


def fresh_passcode() -> str:
    """Ten letters from A to Y."""
    return "".join(chr(65 + byte % 25) for byte in uuid4().bytes[:10])


class Stage:
    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        self.broker = RealBroker(Path(tempfile.mkdtemp(dir=Path.cwd())), settings)
        self.broker.start()
        atexit.register(self.broker.stop)
        self.broker.made("/products", {"key": PRODUCT, "name": "lamp", "protocol": "gizwits"})
        self.broker.made("/applications", {"kind": "gizwits", "id": APPLICATION})

    @property
    def gservice(self) -> int:
        return self.broker.ports["gservice"]

    @property
    def mqtt(self) -> int:
        return self.broker.ports["mqtt"]

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """A call of the administrator's that has to succeed."""
        status, answer = self.broker.call(method, path, body)
        assert status < 300, (status, answer)
        return answer

    def upload(self, path: str, content: bytes) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.broker.ports["http"], timeout=PATIENCE)
        try:
            headers = {
                "Authorization": f"Bearer {self.broker.admin_token}",
                "Content-Type": "application/octet-stream",
            }
            connection.request("POST", f"/api/v1{path}", content, headers)
            response = connection.getresponse()
            answer = json.loads(response.read())
            assert response.status == 201, answer
            return answer
        finally:
            connection.close()

    def figure(self, name: str, **labels: str) -> float:
        """Of /metrics; the sum of the series that have these labels."""
        connection = http.client.HTTPConnection("127.0.0.1", self.broker.ports["http"], timeout=PATIENCE)
        try:
            connection.request("GET", "/metrics", headers={"Authorization": f"Bearer {self.broker.admin_token}"})
            text = connection.getresponse().read().decode()
        finally:
            connection.close()
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        lines = [line for line in text.splitlines() if line.startswith((f"{name}{{", f"{name} "))]
        return sum(float(line.rpartition(" ")[2]) for line in lines if all(one in line for one in wanted))

    def ask(self, request: bytes) -> bytes:
        """What one recv of a device's gives as the answer to these bytes."""
        with socket.create_connection(("127.0.0.1", self.gservice), timeout=PATIENCE) as sock:
            sock.sendall(request)
            return sock.recv(RECV)

    def register(self, mac: str, passcode: str) -> str:
        """The bytes of a GAgent; the DID."""
        form = f"passcode={passcode}&mac={mac}&product_key={PRODUCT}"
        answer = self.ask(
            f"POST /dev/devices HTTP/1.1\r\nHost: api.gizwits.com\r\nContent-Length: {len(form)}\r\n"
            f"Content-Type: application/x-www-form-urlencoded\r\n\r\n{form}".encode()
        )
        assert answer.split(b" ")[1] == b"201", answer
        return answer.partition(b"did=")[2][:22].decode()

    def open_api(
        self, method: str, path: str, body: Any = None, token: str | None = None, app: str = APPLICATION
    ) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.gservice, timeout=PATIENCE)
        try:
            headers = {"X-Gizwits-Application-Id": app, "Content-Type": "application/json"}
            if token is not None:
                headers["X-Gizwits-User-token"] = token
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            answer = response.read()
            return response.status, json.loads(answer) if answer else None
        finally:
            connection.close()

    def user(self) -> User:
        status, answer = self.open_api("POST", "/app/users", {"phone_id": str(uuid4())})
        assert status == 201, answer
        return User(self, answer["uid"], answer["token"])

    def device(self) -> Device:
        """Registered, and logged in with the bytes of a GAgent."""
        passcode = fresh_passcode()
        return Device(self, self.register(fresh_mac(), passcode), passcode)

    def agent(self, mac: str | None = None, tempo: int = TEMPO) -> Agent:
        return Agent(self.gservice, mac or fresh_mac(), tempo)


@cache
def stage() -> Stage:
    return Stage()


class Agent:
    """`agent.mjs` in a process of its own."""

    def __init__(self, gservice: int, mac: str, tempo: int) -> None:
        node = shutil.which("node")
        assert node is not None, "Node.js is missing: sh tools/environment.sh test"
        given = {"gservice": gservice, "product": PRODUCT, "mac": mac, "tempo": tempo}
        self._process = subprocess.Popen(
            [node, str(AGENT), json.dumps(given)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
        )
        self.seen: list[dict[str, Any]] = []
        self._lines: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                self._lines.put(json.loads(line))
            except ValueError:
                self._lines.put({"event": "error", "text": line})
        self._lines.put(None)

    def next(self) -> dict[str, Any]:
        """What happens next."""
        found = self._lines.get(timeout=PATIENCE)
        assert found is not None, f"the agent ended: {self.seen}"
        self.seen.append(found)
        return found

    def until(self, event: str, **fields: Any) -> dict[str, Any]:
        """The next such event."""
        while True:
            found = self.next()
            if found["event"] == event and all(found.get(name) == value for name, value in fields.items()):
                return found

    def count(self, event: str) -> int:
        """So far."""
        return sum(one["event"] == event for one in self.seen)

    def do(self, what: str, **fields: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": what, **fields}) + "\n")
        self._process.stdin.flush()

    def end(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            if pipe is self._process.stdout:
                self._process.kill()
                self._process.wait(PATIENCE)
                self._reading.join(PATIENCE)
            pipe.close()


class Wire:
    """A raw MQTT connection; `packet` is the next that comes."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._held = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def packet(self) -> bytes:
        """Empty when the broker has closed."""
        while True:
            size = packet_size(self._held)
            if size and size <= len(self._held):
                found, self._held = self._held[:size], self._held[size:]
                return found
            try:
                more = self.socket.recv(65536)
            except ConnectionResetError:
                more = b""
            if not more:
                return b""
            self._held += more

    def publish(self, topic: str, payload: bytes) -> None:
        body = len(topic).to_bytes(2, "big") + topic.encode() + payload
        self.send(b"\x30" + varlen(len(body)) + body)

    def ping(self) -> None:
        """Whatever was sent before has been looked at when this returns."""
        self.send(b"\xc0\0")
        while (found := self.packet()) != b"\xd0\0":
            assert found, "the broker has closed"

    def close(self) -> None:
        self.socket.close()


class Device(Wire):
    """A device with the bytes of a GAgent: its CONNECT and its three subscriptions."""

    def __init__(self, stage: Stage, did: str, passcode: str) -> None:
        super().__init__(stage.mqtt)
        self.did = did
        self.passcode = passcode
        name = did.encode()
        connect = bytes.fromhex("1048 0006 4d514973 6470 03 c2 0078 0016") + name + b"\0\x16" + name + b"\0\x0a"
        self.send(connect + passcode.encode())
        self.code = self.packet()[3]
        if self.code:
            return
        for number, topic in enumerate((f"ser2cli_noti/{PRODUCT}", f"ser2cli_res/{did}", f"app2dev/{did}/#"), 1):
            body = bytes((0, number)) + len(topic).to_bytes(2, "big") + topic.encode() + b"\0"
            self.send(b"\x82" + bytes((len(body),)) + body)
            answer = self.packet()
            assert answer == bytes((0x90, 3, 0, number, 0)), answer

    def heard(self) -> tuple[str, bytes]:
        """Topic and payload of the next PUBLISH."""
        while True:
            found = self.packet()
            assert found, "the broker has closed"
            if found[0] >> 4 == 3:
                body = found[1 + len(varlen(len(found) - 2 if len(found) < 130 else len(found) - 3)) :]
                size = int.from_bytes(body[:2], "big")
                return body[2 : 2 + size].decode(), body[2 + size :]


class User:
    """Somebody with apps."""

    def __init__(self, stage: Stage, uid: str, token: str) -> None:
        self._stage = stage
        self.uid = uid
        self.token = token

    def bind(self, did: str, passcode: str) -> None:
        answer = self.call("POST", "/app/bindings", {"devices": [{"did": did, "passcode": passcode, "remark": ""}]})
        assert answer == {"success": [did], "failed": []}, answer

    def call(self, method: str, path: str, body: Any = None) -> Any:
        status, answer = self._stage.open_api(method, path, body, self.token)
        assert status < 300, (status, answer)
        return answer

    def app(self, *devices: str) -> App:
        return App(self._stage, f"2${APPLICATION}${self.uid}", self.token, devices)


class App:
    """An app on paho-mqtt, MQTT 3.1, with the subscriptions of real ones."""

    def __init__(self, stage: Stage, user: str, token: str, devices: tuple[str, ...]) -> None:
        self.client_id = f"usr{uuid4().hex[:20]}"
        self.messages: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self._codes: queue.Queue[int] = queue.Queue()
        self.gone = threading.Event()
        client = self._client = paho.Client(
            CallbackAPIVersion.VERSION2,
            self.client_id,
            clean_session=True,
            protocol=MQTTProtocolVersion.MQTTv31,
            reconnect_on_failure=False,
        )
        client.username_pw_set(user, token)
        client.on_connect = lambda client, data, flags, code, properties: self._codes.put(code.value)
        client.on_subscribe = lambda client, data, mid, codes, properties: self._codes.put(codes[0].value)
        client.on_message = lambda client, data, one: self.messages.put((one.topic, bytes(one.payload)))
        client.on_disconnect = lambda client, data, flags, code, properties: self.gone.set()
        client.connect("127.0.0.1", stage.mqtt, keepalive=15)
        client.loop_start()
        self.code = self._codes.get(timeout=PATIENCE)
        if self.code == 0:
            self.subscribe(f"ser2cli_res/{self.client_id}/#")
            for did in devices:
                assert self.subscribe(f"dev2app/{did}") == 0
                assert self.subscribe(f"dev2app/{did}/{self.client_id}") == 0

    def subscribe(self, topic: str) -> int:
        """The QoS that is granted, or 128."""
        self._client.subscribe(topic, 0)
        return self._codes.get(timeout=PATIENCE)

    def publish(self, topic: str, payload: bytes) -> None:
        self._client.publish(topic, payload, 0)

    def command(self, did: str, payload: bytes) -> None:
        self.publish(f"app2dev/{did}/{self.client_id}", payload)

    def next(self) -> tuple[str, bytes]:
        return self.messages.get(timeout=PATIENCE)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def varlen(value: int) -> bytes:
    """The remaining length of MQTT."""
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)


def packet_size(data: bytes) -> int:
    """Bytes of the packet that begins here, 0 when that is not known yet."""
    value = 0
    for place in range(1, min(len(data), 5)):
        value |= (data[place] & 127) << 7 * (place - 1)
        if data[place] < 128:
            return 1 + place + value
    return 0


def business(command: int, data: bytes = b"") -> bytes:
    """A business message, built by hand."""
    rest = b"\0" + command.to_bytes(2, "big") + data
    return b"\0\0\0\x03" + varlen(len(rest)) + rest
