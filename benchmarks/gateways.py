"""0x88 load over TLS: heartbeats that are acknowledged, one in flight for each gateway, and gateways that come back.

Heartbeats differ in their values; a gateway's two that follow each other under one id are never the same, as those
would be repetitions, which cost less.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Callable

from benchmarks.children import BenchmarkError, Broker
from benchmarks.pairs import STALL, Load
from broker.devices.gateway88.container import AS_WRITTEN, encode
from broker.devices.gateway88.frames import encode_frame

#: Ids of a gateway's messages: 1..127, as gateways use them.
IDS = 127
ACKNOWLEDGEMENT = 18
#: Seconds that the load sleeps between two looks at what has come. It does not wait for it: to wake a process is paid
#: for by who wakes it, and gateways are not on the broker's machine.
PAUSE = 2e-3
INFO = {
    "type": "gateway_info",
    "gateway_info": {
        "name": "GW-Bench",
        "type": 1,
        "hwversion": "1.0",
        "swversion": "2.3.1",
        "manufacturer": "Example",
    },
}


class Heartbeats:
    """So many gateways; a message is one heartbeat and its acknowledgement."""

    def __init__(self, broker: Broker, gateways: int) -> None:
        self._macs = [broker.add_gateway() for _ in range(gateways)]
        self._context = client_context()
        self._gateways = [open_gateway(broker, mac, self._context) for mac in self._macs]
        self._turns = {
            gateway.fileno(): Turn(gateway, heartbeats(mac))
            for gateway, mac in zip(self._gateways, self._macs, strict=True)
        }

    def run(self, messages: int) -> Load:
        """Send so many heartbeats. Raises BenchmarkError when an acknowledgement is missing or wrong."""
        ready = select.poll()
        for descriptor in self._turns:
            ready.register(descriptor, select.POLLIN)
        latencies: list[float] = []
        started = time.perf_counter()
        sent = done = 0
        for turn in self._turns.values():
            sent += turn.send()
        while done < sent:
            time.sleep(PAUSE)
            found = ready.poll(0)
            if not found and time.perf_counter() - started > STALL + messages * 1e-3:
                raise BenchmarkError(f"stuck: {messages - done} heartbeats are not acknowledged")
            for descriptor, _ in found:
                turn = self._turns[descriptor]
                latencies.append(turn.acknowledged())
                done += 1
                if sent < messages:
                    sent += turn.send()
        return Load(done, time.perf_counter() - started, latencies)

    def close(self) -> None:
        for gateway in self._gateways:
            gateway.close()


class Turn:
    """One gateway: a heartbeat, its acknowledgement, the next one."""

    def __init__(self, gateway: ssl.SSLSocket, frames: list[tuple[bytes, bytes]]) -> None:
        self._gateway = gateway
        self._frames = frames
        self._number = 0
        self._sent_at = 0.0

    def send(self) -> int:
        self._number += 1
        self._sent_at = time.perf_counter()
        self._gateway.sendall(self._frames[self._number % len(self._frames)][0])
        return 1

    def acknowledged(self) -> float:
        """Seconds that it took. Raises BenchmarkError for anything but its acknowledgement."""
        if read_exactly(self._gateway, ACKNOWLEDGEMENT) != self._frames[self._number % len(self._frames)][1]:
            raise BenchmarkError("a heartbeat was not acknowledged")
        return time.perf_counter() - self._sent_at


class Returns:
    """Gateways that connect, tell about themselves and go; a message is one of these. ``resumed``: with a ticket."""

    def __init__(self, broker: Broker, resumed: bool, version: ssl.TLSVersion) -> None:
        self._broker = broker
        self._mac = broker.add_gateway()
        self._context = client_context(version)
        self._resumed = resumed

    def run(self, messages: int) -> Load:
        """Raises BenchmarkError when a session is resumed that should not be, or the other way round."""
        session: ssl.SSLSession | None = None
        started = time.perf_counter()
        for number in range(messages):
            gateway = open_gateway(self._broker, self._mac, self._context, session)
            if gateway.session_reused is not (session is not None):
                raise BenchmarkError(f"connection {number}: resumed is {gateway.session_reused}")
            if self._resumed:
                session = gateway.session
            gateway.close()
        return Load(messages, time.perf_counter() - started)

    def close(self) -> None:
        """Nothing is open."""


def heartbeats(mac: bytes) -> list[tuple[bytes, bytes]]:
    """Frames and their acknowledgements: twice through the ids, with other values the second time."""
    found = []
    for number in range(2 * IDS):
        body = {"totalram": 134217728, "freeram": 50331648 + number, "totaldisk": 16384, "freedisk": 8192}
        id = 1 + number % IDS
        found.append((encode_frame(mac, id, encode({"type": "hb", "hb": body}, AS_WRITTEN)), encode_frame(mac, id)))
    return found


def client_context(version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2) -> ssl.SSLContext:
    """As gateways have it: nothing of the server is checked."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = version
    return context


def open_gateway(
    broker: Broker, mac: bytes, context: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> ssl.SSLSocket:
    """A connection that has told about itself and was answered."""
    plain = socket.create_connection(("127.0.0.1", broker.gateway88_port), STALL)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    gateway = context.wrap_socket(plain, session=session)
    gateway.sendall(encode_frame(mac, 1, encode(INFO, AS_WRITTEN)))
    head = read_exactly(gateway, 8)
    read_exactly(gateway, int.from_bytes(head[4:], "big"))
    return gateway


def read_exactly(gateway: ssl.SSLSocket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        got = gateway.recv(size - len(data))
        if not got:
            raise BenchmarkError("a gateway was cut off")
        data += got
    return data


def gateways(count: int) -> Callable[[Broker], Heartbeats]:
    return lambda broker: Heartbeats(broker, count)
