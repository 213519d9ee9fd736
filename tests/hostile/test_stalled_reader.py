"""A subscriber of everything that stops reading under full load, with and without a session on disk.

Its queue is bounded and what it misses is counted, the broker's memory stays under its limit, and the others keep their
speed: `KEPT` of what the same load has in a second broker without the stalled one, in rounds that take turns, as others
may use the machine too. Longer with BROKER_TEST_STALL=60 (seconds).
"""

from __future__ import annotations

import http.client
import os
import re
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.logger import Logger
from twisted.trial.unittest import TestCase

from benchmarks.pairs import Pairs, read_exactly
from broker.mqtt import packets as p
from broker.mqtt.codec import Decoder
from broker.mqtt.encode import encode
from tests.real import PATIENCE, RealBroker

STALL = float(os.environ.get("BROKER_TEST_STALL", "3"))
PAIRS = 20
WINDOW = 32
#: Messages of one round.
ROUND = 20_000
#: The share of their speed that the pairs keep at least.
KEPT = 0.7
QUEUED = 5_000
#: The default of max_inflight.
WINDOW_OF_OURS = 256
#: Bytes by which the broker may grow: the queue in memory (messages of 64 bytes, some hundred each with all that
#: belongs to them), two outboxes, what waits for the disk.
MAX_GROWTH = 24 << 20


@dataclass
class Application:
    """How the pairs of the benchmarks see the broker."""

    mqtt_port: int
    password: str
    user: str = "bench"
    name: str = "broker"


class StalledReaderTests(TestCase):
    timeout = 240
    log: Logger = Logger(namespace="tests.hostile")

    def setUp(self) -> None:
        self.broker = self._new_broker()
        self.other = self._new_broker()

    def _new_broker(self) -> RealBroker:
        folder = Path(self.mktemp()).absolute()
        folder.mkdir(parents=True)
        broker = RealBroker(
            folder,
            {
                "listeners.mqtt.limits.max_message_rate": "0",
                "listeners.mqtt.max_queued_messages": str(QUEUED),
                "limits.slow_reader_timeout": "600.0",
                "history.enabled": "false",
            },
        )
        self.addCleanup(broker.kill)
        return broker

    def test_clean_session(self) -> Deferred[None]:
        return deferToThread(self._stall, True)

    def test_session_on_disk(self) -> Deferred[None]:
        return deferToThread(self._stall, False)

    def _stall(self, clean: bool) -> None:
        server, other = self._start(self.broker), self._start(self.other)
        pairs, free = Pairs(server, PAIRS, 1, WINDOW), Pairs(other, PAIRS, 1, WINDOW)
        pairs.run(ROUND)
        free.run(ROUND)
        Path(f"/proc/{self.broker.pid}/clear_refs").write_text("5")  # the peak begins anew
        memory = self._memory("VmRSS")
        stalled = self._subscribe_to_everything(server, clean)
        pairs.run(ROUND)
        alone, beside = self._rates(free, pairs)
        grown = self._memory("VmHWM") - memory
        dropped = self._dropped()
        pairs.close()
        free.close()
        report = (
            f"alone {alone:,.0f}/s, beside one that does not read {beside:,.0f}/s, {dropped:,.0f} dropped, "
            f"memory {memory >> 20} MB and {grown >> 20} MB more"
        )
        self.log.info("{test}: {report}", test=self.id(), report=report)
        self.assertGreater(dropped, 0, report)
        self.assertLess(grown, MAX_GROWTH, report)
        self.assertGreater(beside, KEPT * alone, report)
        self._check_queue(stalled)
        for broker in (self.broker, self.other):
            self.assertEqual(broker.stop(), 0)
            self.assertNotIn("Traceback", "\n".join(broker.output))

    def _start(self, broker: RealBroker) -> Application:
        broker.start()
        return Application(
            broker.ports["mqtt"], broker.made("/applications", {"id": "bench", "kind": "mqtt"})["secret"]
        )

    def _rates(self, *loads: Pairs) -> list[float]:
        """Messages a second that arrive in the best round of each load."""
        best = [0.0] * len(loads)
        until = time.monotonic() + STALL
        while time.monotonic() < until:
            for number, load in enumerate(loads):
                best[number] = max(best[number], ROUND / load.run(ROUND).seconds)
        return best

    def _subscribe_to_everything(self, server: Application, clean: bool) -> socket.socket:
        opened = socket.socket()
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        opened.settimeout(PATIENCE)
        opened.connect(("127.0.0.1", server.mqtt_port))
        connect = p.Connect("stalled", clean=clean, user=server.user, password=server.password.encode())
        opened.sendall(encode(connect) + encode(p.Subscribe(1, [("bench/#", 1)])))
        got = read_exactly(opened, 9)
        self.assertEqual(got, b"\x20\x02\x00\x00\x90\x03\x00\x01\x01")
        return opened

    def _check_queue(self, stalled: socket.socket) -> None:
        """When it reads again, it gets what was kept for it, and no more than its queue and window hold."""
        decoder = Decoder(1 << 16, "client", p.MQTT_3_1_1)
        count = 0
        # What is there comes without a pause, except while a page of it is read from the disk.
        stalled.settimeout(1.0)
        try:
            while data := stalled.recv(1 << 16):
                packets = list(decoder.feed(data))
                count += len(packets)
                stalled.sendall(
                    b"".join(encode(p.PubAck(one.packet_id)) for one in packets if isinstance(one, p.Publish))
                )
        except TimeoutError:
            pass
        stalled.close()
        self.assertGreaterEqual(count, QUEUED)
        self.assertLessEqual(count, QUEUED + WINDOW_OF_OURS)

    def _dropped(self) -> float:
        connection = http.client.HTTPConnection("127.0.0.1", self.broker.ports["http"], timeout=PATIENCE)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        found = re.search(r'^broker_messages_dropped_total\{listener="mqtt",reason="queue_full"\} (\S+)$', text, re.M)
        return float(found[1]) if found else 0.0

    def _memory(self, name: str) -> int:
        """Bytes."""
        lines = Path(f"/proc/{self.broker.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith(name + ":"))
