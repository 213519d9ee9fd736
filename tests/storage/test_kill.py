"""kill -9 at any moment: everything that was acknowledged is there. A real child process, real files.

The child adds commands and changes their states, as many at once as the journal takes, and prints a line for each that
is acknowledged. The line is written before the next answer is taken, so what was read here was acknowledged.
"""

from __future__ import annotations

import os
import random
import sys
import time
from pathlib import Path
from typing import Any

from twisted.internet import reactor as reactor_module
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from broker.model.messages import FINAL_STATES
from broker.storage.sqlite import SqliteStorage

reactor: Any = reactor_module
ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 4

CHILD = """
import os, sys, time
from pathlib import Path
from twisted.internet import reactor
from broker.model.messages import SUCCEEDED, Command
from broker.model.records import DeviceRecord
from broker.storage.sqlite import SqliteStorage

storage = SqliteStorage(Path(sys.argv[1]), reactor, time.time)
number = int(sys.argv[2])

def acknowledged(word, command):
    def done(error):
        if error is not None:
            os._exit(3)
        os.write(1, f"{word} {command.id}\\n".encode())
        if word == "added":
            command.status, command.result, command.deadline = SUCCEEDED, {"n": command.id}, None
            storage.save_command(command, acknowledged("ended", command))
        else:
            submit()
    return done

def submit():
    global number
    number += 1
    command = Command(f"c{number}", "d1", "toy", {"n": number}, "admin", time.time(), time.time() + 60)
    storage.add_command(command, acknowledged("added", command))

async def begin():
    await storage.open()
    await storage.add_devices([DeviceRecord(id="d1", protocol="toy")])
    for _ in range(20):
        submit()

from twisted.internet.defer import Deferred
Deferred.fromCoroutine(begin()).addErrback(lambda failure: (failure.printTraceback(), os._exit(4)))
reactor.run()
"""


class Child(ProcessProtocol):
    """Is killed ``delay`` seconds after its first line; ``ended`` gives the lines it wrote."""

    def __init__(self, delay: float) -> None:
        self.ended: Deferred[list[str]] = Deferred()
        self._delay = delay
        self._output = b""
        self._errors = b""

    def outReceived(self, data: bytes) -> None:
        if not self._output:
            reactor.callLater(self._delay, self._kill)
        self._output += data

    def errReceived(self, data: bytes) -> None:
        self._errors += data

    def _kill(self) -> None:
        assert self.transport is not None
        self.transport.signalProcess("KILL")

    def processEnded(self, reason: Failure) -> None:
        if not (isinstance(reason.value, ProcessTerminated) and reason.value.signal == 9):
            self.ended.errback(AssertionError(f"ended by itself: {reason.value} {self._errors.decode()}"))
            return
        complete = self._output[: self._output.rfind(b"\n") + 1]
        self.ended.callback(complete.decode().splitlines())


class KillTests(TestCase):
    timeout = 120

    async def test_everything_acknowledged_is_there(self) -> None:
        path = Path(self.mktemp()).absolute()
        chance = random.Random(9)
        acknowledged: list[str] = []
        for number in range(ROUNDS):
            child = Child(chance.uniform(0.01, 0.4))
            reactor.spawnProcess(
                child,
                sys.executable,
                [sys.executable, "-c", CHILD, str(path), str((number + 1) * 1_000_000)],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
            lines = await child.ended
            self.assertGreater(len(lines), 20)
            acknowledged += lines
            await self.check(path, acknowledged)

    async def check(self, path: Path, acknowledged: list[str]) -> None:
        storage = SqliteStorage(path, reactor, time.time)
        await storage.open()
        try:
            self.assertEqual(
                await storage._read_lane.ask(lambda db: db.execute("PRAGMA integrity_check").fetchall()), [("ok",)]
            )
            open_ones = {command.id for command in await storage.open_commands()}
            for line in acknowledged:
                word, id = line.split()
                found = await storage.get_command(id)
                assert found is not None, line
                if word == "ended":
                    self.assertIn(found.status, FINAL_STATES)
                    self.assertEqual(found.result, {"n": id})
                    self.assertNotIn(id, open_ones)
        finally:
            await storage.close()
