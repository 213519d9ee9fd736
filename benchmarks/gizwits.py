"""`python -m benchmarks.gizwits`: what a report of a Gizwits device to its app costs, beside a plain publish.

Ten thousand devices and as many apps of as many users, bound one to one, are connected to one broker, and ten thousand
plain pairs, on topics and with payloads of the same length, to another one. The loads take turns. Every device has one
report under way. History is off.
"""

from __future__ import annotations

import argparse
import gc
import http.client
import json
import os
import resource
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from statistics import median
from typing import Any, Final

from benchmarks.children import PATIENCE, BenchmarkError, Broker
from benchmarks.pairs import PAYLOAD, STALL, Load, Pair, Pairs, open_client, read_exactly
from broker.devices.gizwits import codec as g
from broker.devices.gizwits.identity import derived_did
from broker.devices.gizwits.topics import command_topic, commands_filter, report_topic
from broker.mqtt import encode
from broker.mqtt import packets as p

PRODUCT: Final = "be" * 16
APPLICATION: Final = "bench-apps"
PASSCODE: Final = "CILECMOIWH"
FRAME: Final = g.encode(g.Report(PAYLOAD[:56]))
#: At most so many times the cost of a plain publish.
TARGET: Final = 1.5
#: Descriptors that a broker needs besides those of its clients.
SPARE: Final = 400
#: Connections over which users are made.
AT_ONCE: Final = 16


def mac_of(number: int) -> str:
    return f"BE{number:010X}"


def did_of(number: int) -> str:
    return derived_did(PRODUCT, mac_of(number))


class Users:
    """Makes users over the Open API, each with its device bound, several at once."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._local = threading.local()

    def make(self, count: int) -> list[tuple[str, str]]:
        """User name and token of each."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(self._user, range(count)))

    def _user(self, number: int) -> tuple[str, str]:
        user = self._call("/app/users", {"phone_id": f"phone-{number}"})
        device = {"did": did_of(number), "passcode": PASSCODE, "remark": ""}
        bound = self._call("/app/bindings", {"devices": [device]}, user["token"])
        assert bound["failed"] == [], bound
        return f"2${APPLICATION}${user['uid']}", user["token"]

    def _call(self, path: str, body: Any, token: str = "") -> Any:
        if not hasattr(self._local, "connection"):
            self._local.connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)
        connection: http.client.HTTPConnection = self._local.connection
        headers = {"X-Gizwits-Application-Id": APPLICATION, "Content-Type": "application/json"}
        if token:
            headers["X-Gizwits-User-token"] = token
        connection.request("POST", path, json.dumps(body), headers)
        response = connection.getresponse()
        answer = json.loads(response.read())
        assert response.status < 300, answer
        return answer


class FramePair(Pair):
    """A pair that passes `FRAME`; ``topic`` is set by who makes the connections."""

    def prepare(self) -> None:
        packet = encode.publish(self.topic, FRAME)
        self._size = len(packet)
        self._ring = packet * (self.window + 1)
        self._rest = 0


class ReportPair(FramePair):
    """A device and the app of a user that has bound it."""

    def __init__(self, broker: Broker, number: int, window: int, user: tuple[str, str]) -> None:
        did = did_of(number)
        self.window = window
        self.publisher = login(broker, did, did, PASSCODE)
        self.subscriber = login(broker, f"usr{number:020}", *user)
        self.topic = report_topic(did).encode()
        self.subscriber.sendall(encode.encode(p.Subscribe(1, [(self.topic.decode(), 0)])))
        assert read_exactly(self.subscriber, 5) == b"\x90\x03\0\1\0"
        for one in (self.publisher, self.subscriber):
            one.settimeout(None)
        self.sent = self.seen = self.goal = 0
        self.sent_at = 0.0
        self.prepare()


class PlainPair(FramePair):
    """The same bytes between two plain clients."""

    def __init__(self, broker: Broker, number: int, window: int) -> None:
        topic = f"bench/{number:024}"
        assert len(topic) == len(report_topic(did_of(number)))
        self.window = window
        self.publisher = open_client(broker, f"p{number}")
        self.subscriber = open_client(broker, f"s{number}", [(topic, 0)])
        self.topic = topic.encode()
        self.sent = self.seen = self.goal = 0
        self.sent_at = 0.0
        self.prepare()


class AppCommands:
    """An app's 0x0090 to its device and the device's 0x0091 back to this app, one after the other."""

    def __init__(self, broker: Broker) -> None:
        pairs = reports(broker, 1, 1)
        pairs.close()
        self._user = Users(broker.gservice_port).make(1)[0]
        did, app = did_of(0), f"usr{0:020}"
        self._app = login(broker, app, *self._user)
        self._device = login(broker, did, did, PASSCODE)
        self._command = encode.publish(command_topic(did, app).encode(), g.encode(g.Control(PAYLOAD[:10])))
        self._answer = encode.publish(report_topic(did, app).encode(), FRAME)
        for sock, topic in ((self._app, report_topic(did, app)), (self._device, commands_filter(did))):
            sock.sendall(encode.encode(p.Subscribe(1, [(topic, 0)])))
            if read_exactly(sock, 5)[0] != 0x90:
                raise BenchmarkError(f"no SUBACK for {topic}")
        until = time.monotonic() + STALL
        while self._stale():
            if time.monotonic() > until:
                raise BenchmarkError("the device is told ever more")

    def _stale(self) -> bool:
        """Whether something came that the broker says by itself: its list of apps, and the like."""
        found = select.select([self._app, self._device], [], [], 0.3)[0]
        for sock in found:
            sock.recv(65_536)
        return bool(found)

    def run(self, messages: int) -> Load:
        """Raises BenchmarkError when other bytes come than were sent."""
        latencies = []
        started = time.perf_counter()
        for _ in range(messages):
            began = time.perf_counter()
            self._app.sendall(self._command)
            if read_exactly(self._device, len(self._command)) != self._command:
                raise BenchmarkError("the device got something else than the command")
            self._device.sendall(self._answer)
            if read_exactly(self._app, len(self._answer)) != self._answer:
                raise BenchmarkError("the app got something else than the answer")
            latencies.append(time.perf_counter() - began)
        return Load(messages, time.perf_counter() - started, latencies)

    def close(self) -> None:
        self._app.close()
        self._device.close()


class PublishServer(Broker):
    """Ours once more, for plain publishes of the same size: what reports are measured beside."""

    name = "publish"
    speaks = "publish"


def paired(count: int) -> Callable[[Broker], Pairs]:
    """Reports, one of each device under way; the plain pairs on a `PublishServer`."""
    return lambda server: (plain if isinstance(server, PublishServer) else reports)(server, count, 1)


def login(broker: Broker, client_id: str, user: str, password: str) -> socket.socket:
    """An MQTT 3.1 connection that is logged in."""
    sock = socket.create_connection(("127.0.0.1", broker.mqtt_port), STALL)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(encode.encode(p.Connect(client_id, p.MQTT_3_1, user=user, password=password.encode())))
    answer = read_exactly(sock, 4)
    assert answer == b"\x20\x02\0\0", answer
    return sock


def reports(broker: Broker, count: int, window: int) -> Pairs:
    broker.call("POST", "/products", {"key": PRODUCT, "name": "bench", "protocol": "gizwits"})
    broker.call("POST", "/applications", {"kind": "gizwits", "id": APPLICATION})
    lines = (
        {"protocol": "gizwits", "product": PRODUCT, "mac": mac_of(number), "secret": PASSCODE}
        for number in range(count)
    )
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    status, answer = broker.request("POST", "/api/v1/devices/import", body, "application/x-ndjson")
    assert status == 200 and json.loads(answer)["created"] == count, answer[:500]
    users = Users(broker.gservice_port).make(count)
    return Pairs(
        broker,
        count,
        0,
        window,
        kind=lambda _, number, window, lasting: ReportPair(broker, number, window, users[number]),
    )


def plain(broker: Broker, count: int, window: int) -> Pairs:
    return Pairs(broker, count, 0, window, kind=lambda _, number, window, lasting: PlainPair(broker, number, window))


def measure(broker: Broker, work: Pairs, messages: int) -> tuple[float, Load]:
    """Server CPU microseconds a message."""
    gc.collect()
    gc.disable()
    try:
        cpu = broker.cpu()
        load = work.run(messages)
        return (broker.cpu() - cpu) / load.messages * 1e6, load
    finally:
        gc.enable()


def run(count: int, window: int, messages: int, repetitions: int) -> float:
    """Print both figures; how many times a plain publish a report costs: the median of what neighbours in time say.

    Both loads are connected all the time and take turns, so other work on the machine slows both.
    """
    found: dict[str, list[tuple[float, Load]]] = {}
    with ExitStack() as open_things:
        works = []
        for name, make in (("report to app", reports), ("plain publish", plain)):
            broker = open_things.enter_context(Broker())
            work = make(broker, count, window)
            open_things.callback(work.close)
            works.append((name, broker, work))
            work.run(max(count, messages // 4))
        for _ in range(repetitions):
            for name, broker, work in works:
                found.setdefault(name, []).append(measure(broker, work, messages))
    for name, measured in found.items():
        figures = sorted(figure for figure, _ in measured)
        rate = max(load.messages / load.seconds for _, load in measured)
        print(f"{name:16}{figures[0]:8.2f}{figures[len(figures) // 2]:9.2f} us{rate:11,.0f}/s", flush=True)
    report, publish = found.values()
    return median(one[0] / other[0] for one, other in zip(report, publish, strict=True))


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gizwits", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="500 devices and apps, fewer messages")
    parser.add_argument("--devices", type=int, metavar="N", help="how many (default: 10,000)")
    parser.add_argument("--window", type=int, default=1, metavar="N", help="reports of a device under way at once (1)")
    arguments = parser.parse_args(given)
    count = arguments.devices or (500 if arguments.quick else 10_000)
    messages, repetitions = (5_000, 7) if arguments.quick else (100_000, 5)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 65_536)), hard))
    most = (hard - SPARE) // 4  # of both loads, two sockets of each pair
    if count > most:
        count = most
        print(f"(this process may have {hard:,} descriptors, so there are fewer devices)")
    print(
        f"{count:,} devices, {count:,} apps, {len(FRAME)} bytes, load {os.getloadavg()[0]:.1f}; min, median", flush=True
    )
    ratio = run(count, arguments.window, messages, repetitions)
    print(f"a report costs {ratio:.2f} x a plain publish; <= {TARGET:g} {'ok' if ratio <= TARGET else 'MISSED'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
