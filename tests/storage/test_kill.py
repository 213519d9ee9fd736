"""kill -9 at any moment: everything that was acknowledged is there. A real child process, real files.

The child adds commands and changes their states, as many at once as the journal takes, and prints a line for each that
is acknowledged. The line is written before the next answer is taken, so what was read here was acknowledged.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor as reactor_module
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from broker.model.messages import FINAL_STATES
from broker.storage.redis.storage import RedisStorage
from broker.storage.sqlite import SqliteStorage
from tests.storage.places import storage_at

reactor: Any = reactor_module
ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 4

CHILD = """
import os, sys, time
from twisted.internet import reactor
from broker.model.messages import SUCCEEDED, Command
from broker.model.records import DeviceRecord
from tests.storage.places import storage_at

storage = storage_at(sys.argv[1])
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
    """Is killed ``delay`` seconds after its first line (None: by `kill`); ``ended`` gives the lines it wrote."""

    def __init__(self, delay: float | None) -> None:
        self.began: Deferred[None] = Deferred()
        self.ended: Deferred[list[str]] = Deferred()
        self._delay = delay
        self._output = b""
        self._errors = b""

    def outReceived(self, data: bytes) -> None:
        if not self._output:
            if self._delay is not None:
                reactor.callLater(self._delay, self.kill)
            self.began.callback(None)
        self._output += data

    def errReceived(self, data: bytes) -> None:
        self._errors += data

    def kill(self) -> None:
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

    def where(self) -> str:
        return str(Path(self.mktemp()).absolute())

    async def test_everything_acknowledged_is_there(self) -> None:
        where = self.where()
        chance = random.Random(9)
        acknowledged: list[str] = []
        for number in range(ROUNDS):
            child = start(CHILD, Child(chance.uniform(0.01, 0.4)), where, str((number + 1) * 1_000_000))
            lines = await child.ended
            self.assertGreater(len(lines), 20)
            acknowledged += lines
            await self.check(where, acknowledged)

    async def check(self, where: str, acknowledged: list[str]) -> None:
        storage = storage_at(where)
        await storage.open()
        try:
            await check_soundness(self, storage)
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


def start(program: str, child: Child, *arguments: str) -> Child:
    """The child as a process of its own."""
    command = [sys.executable, "-c", program, *arguments]
    reactor.spawnProcess(child, sys.executable, command, env={**os.environ, "PYTHONPATH": str(ROOT)})
    return child


async def check_soundness(case: TestCase, storage: SqliteStorage | RedisStorage) -> None:
    """What SQLite can say of its file."""
    if isinstance(storage, SqliteStorage):
        sound = await storage._read_lane.ask(lambda db: db.execute("PRAGMA integrity_check").fetchall())
        case.assertEqual(sound, [("ok",)])
