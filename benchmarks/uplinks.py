"""NovaCloud load: one device's data lines to one reader, at most ``window`` lines that it has not seen yet.

The lines differ in their values and carry a counter, so that the subscriber can tell that every one of them came, in
order. They are made before the clock runs.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from typing import Protocol

from benchmarks.children import BenchmarkError, Broker
from benchmarks.pairs import STALL, Load
from benchmarks.sinks import MqttSink

#: Lines are counted up to this, and then again from 0.
CYCLE = 1000


class Sink(Protocol):
    """See `benchmarks.sinks`."""

    sock: socket.socket

    def whole(self, data: bytes) -> tuple[list[bytes], int]: ...


class Uplinks:
    """One NovaCloud device and one reader of its data, an MQTT subscriber unless another one is made."""

    def __init__(self, broker: Broker, window: int, sink: Callable[[Broker, str], Sink] = MqttSink) -> None:
        device_id, key = broker.add_device()
        self._window = window
        self._device = open_device(broker, device_id, key)
        self._sink = sink(broker, device_id)
        self._sink.sock.settimeout(STALL)
        now = int(time.time())
        lines = [data_line(now, number) for number in range(CYCLE)]
        # Twice, so that any window is one slice; where each line starts:
        self._lines = b"".join(lines + lines)
        self._starts = [0]
        for line in lines + lines:
            self._starts.append(self._starts[-1] + len(line))
        self._sent = self._seen = 0
        self._held = b""

    def run(self, messages: int) -> Load:
        """Pass so many lines. Raises BenchmarkError when one is missing or out of its order."""
        goal = self._sent + messages
        latencies: list[float] = []
        started = time.perf_counter()
        while self._seen < goal:
            count = min(self._window - (self._sent - self._seen), goal - self._sent)
            if count:
                first = self._sent % CYCLE
                self._device.sendall(self._lines[self._starts[first] : self._starts[first + count]])
                self._sent += count
                began = time.perf_counter()
            self._receive(goal)
            if self._window == 1:
                latencies.append(time.perf_counter() - began)
        return Load(messages, time.perf_counter() - started, latencies)

    def _receive(self, goal: int) -> None:
        try:
            more = self._sink.sock.recv(262_144)
        except TimeoutError:
            raise BenchmarkError(f"stuck: {goal - self._seen} messages have not arrived") from None
        if not more:
            raise BenchmarkError("the reader was cut off")
        data = self._held + more
        messages, end = self._sink.whole(data)
        for message in messages:
            if message.find(b'"n":%d}' % (self._seen % CYCLE)) < 0:
                raise BenchmarkError(f"expected line {self._seen % CYCLE}, got {message!r}")
            self._seen += 1
        self._held = data[end:]

    def close(self) -> None:
        self._device.close()
        self._sink.sock.close()


def data_line(at: int, number: int) -> bytes:
    """A data line as the guide shows it (4.1)."""
    values = {"temperature": 20 + number % 97 / 10, "humidity": 40 + number % 50, "n": number}
    return json.dumps({"type": "data", "timestamp": at, "payload": values}).encode() + b"\n"


def open_device(broker: Broker, device_id: str, key: str) -> socket.socket:
    """A connection that is logged in as a device."""
    sock = socket.create_connection(("127.0.0.1", broker.novacloud_port), STALL)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    login = {"type": "auth", "payload": {"device_id": device_id, "device_key": key}}
    sock.sendall(json.dumps(login).encode() + b"\n")
    answer = sock.recv(1024)
    if b'"success"' not in answer:
        raise BenchmarkError(f"the device was refused: {answer!r}")
    return sock
