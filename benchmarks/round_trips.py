"""Request-and-answer load: HTTP calls, commands to a device and back, and the import of many devices."""

from __future__ import annotations

import json
import re
import select
import socket
import time
from uuid import uuid4

from benchmarks.children import USER, BenchmarkError, Broker
from benchmarks.pairs import STALL, Load, open_client
from benchmarks.uplinks import open_device
from broker.mqtt import encode
from broker.mqtt.codec import frame

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.I)
_COMMAND_ID = re.compile(rb'"command_id": *"([^"]+)"')


def http_request(broker: Broker, method: str, path: str, token: str = "", body: bytes = b"") -> bytes:
    """The bytes of one request on a connection that stays open."""
    authorization = f"Bearer {token}" if token else broker.authorization
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Authorization: {authorization}"]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def open_http(broker: Broker) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", broker.http_port), STALL)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def read_answer(sock: socket.socket, expected: int) -> bytes:
    """The body of one answer. Raises BenchmarkError for another status."""
    data = b""
    end = -1
    while end < 0 or len(data) < end:
        more = sock.recv(65536)
        if not more:
            raise BenchmarkError("the HTTP connection was closed")
        data += more
        if end < 0 and b"\r\n\r\n" in data:
            found = _LENGTH.search(data)
            end = data.index(b"\r\n\r\n") + 4 + (int(found[1]) if found else 0)
    if not data.startswith(b"HTTP/1.1 %d" % expected):
        raise BenchmarkError(f"expected {expected}: {data[:200]!r}")
    return data.partition(b"\r\n\r\n")[2]


class Requests:
    """One request again and again on one connection."""

    def __init__(self, broker: Broker, path: str, admin: bool = False) -> None:
        device_id, _ = broker.add_device()
        token = "" if admin else f"{USER}:{broker.password}"
        self._request = http_request(broker, "GET", path.format(id=device_id), token)
        self._sock = open_http(broker)

    def run(self, messages: int) -> Load:
        latencies = []
        started = time.perf_counter()
        for _ in range(messages):
            before = time.perf_counter()
            self._sock.sendall(self._request)
            read_answer(self._sock, 200)
            latencies.append(time.perf_counter() - before)
        return Load(messages, time.perf_counter() - started, latencies)

    def close(self) -> None:
        self._sock.close()


class Answering:
    """A NovaCloud device that answers its commands with success."""

    def __init__(self, broker: Broker) -> None:
        self.id, key = broker.add_device()
        self.sock = open_device(broker, self.id, key)
        self.sock.sendall(b'{"type":"heartbeat"}\n')
        self._held = b""

    def answer(self) -> None:
        """The socket is readable: answer what is whole."""
        data = self._held + self.sock.recv(65536)
        *lines, self._held = data.split(b"\n")
        ids = [found[1] for line in lines if (found := _COMMAND_ID.search(line))]
        template = b'{"type":"command_response","command_id":"%b","status":"success","payload":{}}\n'
        if ids:
            self.sock.sendall(b"".join(template % one for one in ids))


class HttpCommands:
    """Commands over HTTP with ``?wait=``, so many callers at once, to one device that answers at once."""

    def __init__(self, broker: Broker, callers: int) -> None:
        self._device = Answering(broker)
        body = json.dumps({"payload": {"light": "ON"}}).encode()
        path = f"/api/v1/devices/{self._device.id}/commands?wait=10"
        self._request = http_request(broker, "POST", path, body=body)
        self._callers = {sock.fileno(): sock for sock in (open_http(broker) for _ in range(callers))}
        self._poll = select.epoll()
        for descriptor in (self._device.sock.fileno(), *self._callers):
            self._poll.register(descriptor, select.EPOLLIN)

    def run(self, messages: int) -> Load:
        sent_at: dict[int, float] = {}
        latencies: list[float] = []
        started = time.perf_counter()
        left = messages
        for descriptor, sock in list(self._callers.items())[:messages]:
            left -= 1
            sent_at[descriptor] = time.perf_counter()
            sock.sendall(self._request)
        while len(latencies) < messages:
            events = self._poll.poll(STALL)
            if not events:
                raise BenchmarkError(f"stuck: {len(latencies)} of {messages} commands were answered")
            for descriptor, _ in events:
                caller = self._callers.get(descriptor)
                if caller is None:
                    self._device.answer()
                    continue
                if b'"status":"succeeded"' not in read_answer(caller, 200):
                    raise BenchmarkError("a command did not succeed")
                latencies.append(time.perf_counter() - sent_at[descriptor])
                if left:
                    left -= 1
                    sent_at[descriptor] = time.perf_counter()
                    caller.sendall(self._request)
        return Load(messages, time.perf_counter() - started, latencies)

    def close(self) -> None:
        for sock in (self._device.sock, *self._callers.values()):
            sock.close()
        self._poll.close()


class MqttCommands:
    """Commands published to ``devices/<id>/command``, one at a time; each ends as ``succeeded`` on the reply topic."""

    def __init__(self, broker: Broker) -> None:
        self._device = Answering(broker)
        self._client = open_client(broker, "commander", [(f"devices/{self._device.id}/reply", 0)])
        self._publish = encode.publish(f"devices/{self._device.id}/command".encode(), b'{"payload":{"light":"ON"}}')
        self._poll = select.epoll()
        self._poll.register(self._device.sock, select.EPOLLIN)
        self._poll.register(self._client, select.EPOLLIN)
        self._held = b""

    def run(self, messages: int) -> Load:
        latencies = []
        started = time.perf_counter()
        for _ in range(messages):
            before = time.perf_counter()
            self._client.sendall(self._publish)
            while not self._succeeded():
                pass
            latencies.append(time.perf_counter() - before)
        return Load(messages, time.perf_counter() - started, latencies)

    def _succeeded(self) -> bool:
        """Take what comes; whether the command's last state was in it."""
        events = self._poll.poll(STALL)
        if not events:
            raise BenchmarkError("stuck: a command was not answered")
        succeeded = False
        for descriptor, _ in events:
            if descriptor == self._device.sock.fileno():
                self._device.answer()
                continue
            data = self._held + self._client.recv(65536)
            offset = 0
            while offset < len(data):
                _, end = frame(data, offset, 1 << 20)
                if not end or end > len(data):
                    break
                if b'"status":"failed"' in data[offset:end]:
                    raise BenchmarkError(f"a command failed: {data[offset:end]!r}")
                succeeded = succeeded or b'"status":"succeeded"' in data[offset:end]
                offset = end
            self._held = data[offset:]
        return succeeded

    def close(self) -> None:
        self._client.close()
        self._device.sock.close()
        self._poll.close()


class Import:
    """``POST /devices/import``; every device is new."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        broker.add_device()  # makes the product

    def run(self, messages: int) -> Load:
        lines = [
            {
                "protocol": "novacloud",
                "id": str(uuid4()),
                "secret": uuid4().hex * 2,
                "product": "bench",
                "name": f"d{n}",
            }
            for n in range(messages)
        ]
        body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        started = time.perf_counter()
        status, answer = self._broker.request("POST", "/api/v1/devices/import", body, "application/x-ndjson")
        seconds = time.perf_counter() - started
        if status != 200 or json.loads(answer)["created"] != messages:
            raise BenchmarkError(f"the import failed: {status} {answer[:300]!r}")
        return Load(messages, seconds)

    def close(self) -> None:
        """Nothing stays open."""
