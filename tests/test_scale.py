"""What the real broker costs at some scale: connections that are idle, and a large registry at its start.

More connections with BROKER_TEST_IDLE=10000.
"""

from __future__ import annotations

import os
import re
import resource
import socket
import time
from pathlib import Path
from typing import ClassVar

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.logger import Logger
from twisted.trial.unittest import TestCase

from broker.model.records import DeviceRecord
from broker.mqtt import packets as p
from broker.mqtt.encode import encode
from broker.storage.sqlite import SqliteStorage
from tests.real import PATIENCE, RealBroker

CONNECTIONS = int(os.environ.get("BROKER_TEST_IDLE", "2000"))
#: Bytes of memory that an idle connection may cost.
OF_ONE = 5 * 1024

DEVICES = 100_000
#: CPU seconds that the broker may need more to start than with an empty registry: 50 microseconds a device, where 18
#: to 23 were measured on a busy machine.
MORE = 5.0


class ScaleTests(TestCase):
    timeout = 120
    log: ClassVar[Logger] = Logger(namespace="tests.scale")

    def setUp(self) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(parents=True)
        self.broker = RealBroker(self.folder)
        self.addCleanup(self.broker.kill)

    # -- connections -----------------------------------------------------------------------------------------------

    def test_idle_connections(self) -> Deferred[None]:
        """Each is logged in, with a session of its own, and does nothing."""
        return deferToThread(self._idle)

    def _idle(self) -> None:
        self.broker.start()
        secret = self.broker.made("/applications", {"id": "crowd", "kind": "mqtt"})["secret"]
        crowd = [self._connect(number, secret) for number in range(200)]  # what is made once is made
        before = self._memory()
        crowd += [self._connect(200 + number, secret) for number in range(CONNECTIONS)]
        each = (self._memory() - before) / CONNECTIONS
        for one in crowd:
            one.close()
        self.log.info(
            "an idle connection costs {each:.0f} bytes, the broker with {count} of them {all:.1f} MB",
            each=each,
            count=len(crowd),
            all=(before + each * CONNECTIONS) / (1 << 20),
        )
        self.assertLess(each, OF_ONE)
        self.assertEqual(self.broker.stop(), 0)

    def _connect(self, number: int, secret: str) -> socket.socket:
        opened = socket.create_connection(("127.0.0.1", self.broker.ports["mqtt"]), PATIENCE)
        hello = p.Connect(f"c{number}", keep_alive=600, user="crowd", password=secret.encode())
        opened.sendall(encode(hello))
        self.assertEqual(opened.recv(4), b"\x20\x02\x00\x00")
        return opened

    def _memory(self) -> int:
        """Bytes that are the broker's alone."""
        text = Path(f"/proc/{self.broker.pid}/smaps_rollup").read_text()
        found = re.search(r"^Pss: +(\d+) kB$", text, re.MULTILINE)
        assert found is not None
        return int(found[1]) * 1024

    # -- registry --------------------------------------------------------------------------------------------------

    async def test_a_large_registry(self) -> None:
        """A hundred thousand devices, all of them left online by a crash."""
        empty = await deferToThread(self._start)
        storage = SqliteStorage(self.broker.data_dir / "broker.sqlite", reactor, time.time)
        await storage.open()
        for start in range(0, DEVICES, 1_000):
            records = [
                DeviceRecord(id=f"d{number:06}", protocol="novacloud", name=f"Device {number}", online=True)
                for number in range(start, start + 1_000)
            ]
            self.assertEqual(set(await storage.add_devices(records)), {None})
        await storage.close()
        crashed = await deferToThread(self._start)
        again = await deferToThread(self._start)
        self.log.info(
            "started with {empty:.2f} s of CPU, {count} devices after a crash {crashed:.2f} s, then {again:.2f} s",
            empty=empty,
            count=DEVICES,
            crashed=crashed,
            again=again,
        )
        self.assertLess(crashed - empty, MORE)
        self.assertLess(again - empty, MORE)

    def _start(self) -> float:
        """CPU seconds until the broker says that it has started; it is stopped again."""
        self.broker.start()
        # After the closing bracket of its name, which may have blanks in it: the 12th and 13th are its CPU ticks.
        fields = Path(f"/proc/{self.broker.pid}/stat").read_text().rpartition(")")[2].split()
        seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        status, page = self.broker.call("GET", "/devices?limit=1")
        self.assertEqual(status, 200, page)
        self.assertEqual(self.broker.stop(), 0)
        return seconds
