"""A real broker under attack: its ports, what it counts, what it uses, and what must hold when it is over.

An attack is a function that takes the `Siege`, does its worst with blocking sockets, and asserts what it sees.
All attacks of a test run at once, each in a thread, beside a `Peace`. Afterwards, whatever they were:

* the peaceful pair lost nothing and was not kept waiting (`USUALLY`, `AT_WORST`) for more than the machine makes
  everybody wait (`Yardstick`);
* the broker's memory never grew by more than `MAX_GROWTH`, and its open files are back at their number;
* every connection that was accepted was closed under a reason of the catalogue, none for a fault of ours;
* no traceback was printed, and SIGTERM ends it with status 0.

What was measured is in trial's log.
"""

from __future__ import annotations

import http.client
import os
import re
import resource
import socket
import ssl
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from secrets import token_hex
from typing import ClassVar

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.logger import Logger
from twisted.trial.unittest import TestCase

from broker.model.names import CLOSE_REASONS
from tests.hostile.peace import Peace
from tests.hostile.yardstick import Yardstick
from tests.real import PATIENCE, RealBroker, eventually

LISTENERS = ("novacloud", "mqtt", "http", "gservice", "loracenter")
BOTH = '["tcp:0:interface=127.0.0.1", "tls:0:interface=127.0.0.1"]'

#: Seconds; short, so that the tests are.
AUTH_TIMEOUT = 3.0
SLOW_READER_TIMEOUT = 2.0

SETTINGS = {
    **{f"listeners.{name}.bind": BOTH for name in LISTENERS},
    "limits.auth_timeout": str(AUTH_TIMEOUT),
    "limits.slow_reader_timeout": str(SLOW_READER_TIMEOUT),
    "limits.close_timeout": "1.0",
    "limits.max_message_rate": "20000",
    "limits.message_burst": "5000",
    # Low enough for floods to be over it while every attack is going on.
    "listeners.mqtt.limits.max_message_rate": "5000",
    "listeners.novacloud.limits.max_message_rate": "5000",
    "listeners.loracenter.limits.max_message_rate": "2000",
    "listeners.loracenter.refused_grace": "0.1",
    "listeners.http.request_timeout": "2.0",
    "listeners.http.keep_alive_timeout": "3.0",
    "listeners.http.stream_ping": "1.0",
    "listeners.gservice.request_timeout": "2.0",
    "listeners.gservice.keep_alive_timeout": "3.0",
    "listeners.gservice.refusal_delay": "1.0",
}

#: Bytes by which the broker's memory may ever be larger than before the attacks: an import of the largest size (64
#: MiB), history that waits for the disk (32 MiB and its text), the database's own caches, and thousands of connections.
MAX_GROWTH = 192 << 20
#: Seconds from the peaceful device to the peaceful application, and from an order to its final state, while everything
#: else goes on. An order is written to the disk, which is busy with history then.
USUALLY = 0.25
AT_WORST = 5.0

#: Bytes of what never ends; a gigabyte with BROKER_TEST_FLOOD=1073741824.
FLOOD = int(os.environ.get("BROKER_TEST_FLOOD", "268435456"))

CS_KEY = "00112233445566778899AABBCCDDEEFF"

#: Seconds for anything to happen: dozens of attackers share the machine with the broker, and with other tests.
LONG = 3 * PATIENCE

Attack = Callable[["Siege"], None]
#: (listener, figure, reason) -> count; the reason is empty where there is none.
Figures = dict[tuple[str, str, str], float]

_FIGURE = re.compile(r'^broker_(\w+)\{listener="(\w+)"(?:,reason="(\w+)")?\} (\S+)$', re.MULTILINE)


class Client:
    """A blocking client that the broker may cut off at any moment."""

    def __init__(self, opened: socket.socket) -> None:
        self.socket = opened
        self.buffer = b""

    def send(self, data: bytes) -> bool:
        """False if the broker has closed."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            return False
        return True

    def pour(self, data: bytes, total: int) -> int:
        """Send ``data`` over and over; how many bytes the broker took before it had enough."""
        sent = 0
        while sent < total and self.send(data):
            sent += len(data)
        return sent

    def some(self) -> bytes:
        """What comes next; nothing when it is over, however that was."""
        try:
            return self.socket.recv(1 << 16)
        except (ConnectionResetError, ssl.SSLError):
            return b""

    def until(self, mark: bytes) -> bytes:
        """Everything up to and with ``mark``."""
        while mark not in self.buffer:
            data = self.some()
            assert data, f"closed before {mark!r}, after {self.buffer[-200:]!r}"
            self.buffer += data
        found, _, self.buffer = self.buffer.partition(mark)
        return found + mark

    def rest(self) -> bytes:
        """Everything until the broker closes, which it must."""
        got, self.buffer = [self.buffer], b""
        while data := self.some():
            got.append(data)
        self.socket.close()
        return b"".join(got)

    def half_close(self) -> None:
        """Nothing more will be sent."""
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the broker has closed already

    def close(self) -> None:
        self.socket.close()


class Target:
    """A broker's ports, and what it counts."""

    def __init__(self, broker: RealBroker) -> None:
        self.broker = broker
        self.ports = {
            (found[1], found[2]): int(found[3])
            for line in broker.output
            if (found := re.search(r"listening: (\w+) (tcp|tls|ws|udp) .*:(\d+)$", line))
        }
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.check_hostname = False
        self.context.verify_mode = ssl.CERT_NONE
        self._begin = self.figures()

    def plain(self, name: str, kind: str = "tcp", window: int = 0) -> Client:
        """A TCP connection to a port of whatever kind. ``window``: bytes that the system may keep for us unread."""
        opened = socket.socket()
        if window:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        opened.settimeout(LONG)
        opened.connect(("127.0.0.1", self.ports[name, kind]))
        return Client(opened)

    def connect(self, name: str, kind: str = "tcp") -> Client:
        """A connection on which the protocol itself can be spoken: through TLS where the port wants it."""
        client = self.plain(name, kind)
        return client if kind == "tcp" else Client(self.context.wrap_socket(client.socket))

    def figures(self) -> Figures:
        connection = http.client.HTTPConnection("127.0.0.1", self.broker.ports["http"], timeout=PATIENCE)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        return {
            (name, figure.removesuffix("_total"), reason): float(value)
            for figure, name, reason, value in _FIGURE.findall(text)
        }

    def grown(self, name: str, figure: str, reason: str = "") -> float:
        key = (name, figure, reason)
        return self.figures().get(key, 0.0) - self._begin.get(key, 0.0)

    def counted(self, name: str, figure: str, reason: str = "", least: int = 1) -> None:
        """Wait until a figure has grown by so much."""
        eventually(lambda: self.grown(name, figure, reason) >= least, f"{least} {name} {figure} {reason}", LONG)

    def closed(self, name: str, reason: str, least: int = 1) -> None:
        self.counted(name, "connections_closed", reason, least)


class Siege(Target):
    """One broker under attack."""

    def __init__(self, broker: RealBroker) -> None:
        super().__init__(broker)
        self.peace = Peace(broker)
        self.yardstick = Yardstick(broker.folder)
        self._begin = self.figures()
        self.files = self._open_files()
        Path(f"/proc/{broker.pid}/clear_refs").write_text("5")  # the peak begins anew
        self.memory = self._memory("VmRSS")

    # -- for attackers ---------------------------------------------------------------------------------------------

    def device(self) -> tuple[str, str]:
        """A new NovaCloud device: id and key."""
        made = self.broker.made("/devices", {"protocol": "novacloud"})
        return made["id"], made["secret"]

    def application(self, *devices: str) -> tuple[str, str]:
        """A new MQTT application bound to devices: id and secret."""
        made = self.broker.made("/applications", {"kind": "mqtt"})
        for device in devices:
            assert self.broker.call("PUT", f"/applications/{made['id']}/devices/{device}")[0] in (200, 201, 204)
        return made["id"], made["secret"]

    def customer(self, *devices: str) -> str:
        """A new customer server (LoRaCenter), bound to devices: its CsEUI. Its key is `CS_KEY`."""
        cs_eui = token_hex(8).upper()
        made = self.broker.made("/applications", {"kind": "loracenter", "cs_eui": cs_eui, "app_key": CS_KEY})
        for device in devices:
            assert self.broker.call("PUT", f"/applications/{made['id']}/devices/{device}")[0] in (200, 201, 204)
        return cs_eui

    # -- when it is over -------------------------------------------------------------------------------------------

    def finish(self) -> str:
        """Check what must hold whatever was done; what was measured."""
        self.peace.finish()
        stretch = self.yardstick.finish()
        peak = self._memory("VmHWM") - self.memory
        eventually(lambda: self._open_files() <= self.files, f"{self.files} open files again", LONG)
        figures = self.figures()
        self._check_figures(figures)
        report = (
            f"memory {self.memory >> 20} MB, at its peak {peak >> 20} MB more, now "
            f"{(self._memory('VmRSS') - self.memory) >> 20} MB more; {self.peace.figures()}; "
            f"the machine takes {stretch:.1f} times as long as by itself; "
            + ", ".join(
                f"{name} {figure} {reason}: {value:.0f}" for (name, figure, reason), value in figures.items() if reason
            )
        )
        assert peak <= MAX_GROWTH, report
        delays, turns = sorted(self.peace.delays), sorted(self.peace.turns)
        assert max(delays[len(delays) // 2], turns[len(turns) // 2]) <= USUALLY * stretch, report
        assert max(delays[-1], turns[-1]) <= AT_WORST * stretch, report
        return report

    def _check_figures(self, figures: Figures) -> None:
        for name in sorted({name for name, kind in self.ports if kind != "udp"}):
            reasons = {
                reason: value
                for (one, figure, reason), value in figures.items()
                if one == name and figure == "connections_closed"
            }
            assert set(reasons) <= set(CLOSE_REASONS) - {"internal_error"}, reasons
            accepted, left = figures[name, "connections_accepted", ""], figures[name, "connections", ""]
            assert accepted == sum(reasons.values()) + left, (name, accepted, reasons, left)

    def _open_files(self) -> int:
        return len(os.listdir(f"/proc/{self.broker.pid}/fd"))

    def _memory(self, name: str) -> int:
        """Bytes."""
        text = Path(f"/proc/{self.broker.pid}/status").read_text()
        found = re.search(rf"{name}:\s*(\d+) kB", text)
        assert found is not None
        return int(found[1]) << 10


class SiegeCase(TestCase):
    """Give `besiege` the attacks."""

    log: ClassVar[Logger] = Logger(namespace="tests.hostile")
    timeout = 600
    settings: dict[str, str] = {}

    def setUp(self) -> None:
        # A thousand connections need more descriptors than many a shell allows by itself.
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        self.renew()

    def renew(self) -> None:
        """A broker that has seen nothing yet, not started."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir(parents=True)
        self.broker = RealBroker(folder, {**SETTINGS, **self.settings})
        self.addCleanup(self.broker.kill)

    def besiege(self, *attacks: Attack) -> Deferred[None]:
        return deferToThread(self._besieged, attacks)

    def _besieged(self, attacks: tuple[Attack, ...]) -> None:
        self.broker.start()
        siege = Siege(self.broker)
        faults: list[Exception] = []

        def attack(one: Attack) -> None:
            began = time.monotonic()
            try:
                one(siege)
            except Exception as error:
                error.add_note(f"in {one.__name__} after {time.monotonic() - began:.1f} s")
                faults.append(error)

        with ThreadPoolExecutor(len(attacks)) as pool:
            list(pool.map(attack, attacks))
        try:
            self.log.info("{test}: {report}", test=self.id(), report=siege.finish())
        except AssertionError as error:
            faults.append(error)
        status = self.broker.stop()
        output = "\n".join(self.broker.output)
        if faults:
            told = "\n".join("".join(traceback.format_exception(fault)) for fault in faults)
            raise AssertionError(f"{told}\nthe broker's last words:\n{output[-3000:]}")
        self.assertNotIn("Traceback", output)
        self.assertNotIn("Unhandled", output)
        self.assertEqual(status, 0)
