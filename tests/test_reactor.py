"""The broker's own reactor: what it adds, and that everything else is as with Twisted's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from broker import reactor as module
from broker.reactor import BrokerReactor, SteadyReactor, suitable

ROOT = Path(__file__).resolve().parent.parent

#: Run in a child with the reactor named by its argument; prints what happened.
SCRIPT = """
import socket, sys
if sys.argv[1] == "broker":
    from broker import reactor as module
    module.install()
else:
    from twisted.internet import epollreactor
    epollreactor.install()
from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread
from twisted.python import log

def observe(event):
    if event.get("isError"):
        say("logged", event["failure"].type.__name__)

log.startLoggingWithObserver(observe, setStdout=False)

def say(*words):
    sys.stdout.write(" ".join(map(str, words)) + "\\n")  # whole lines: two threads write

class Faulty(Protocol):
    def dataReceived(self, data):
        if data == b"raise":
            raise ValueError(data)
        self.transport.write(data)
    def connectionLost(self, reason):
        say("ended", reason.type.__name__)
        ended.append(self)
        if len(ended) == 2:
            reactor.stop()

ended = []

port = reactor.listenTCP(0, Factory.forProtocol(Faulty), interface="127.0.0.1")

def talk():
    one = socket.create_connection(("127.0.0.1", port.getHost().port), timeout=10)
    one.sendall(b"echo"); say("got", one.recv(100))
    one.close()
    two = socket.create_connection(("127.0.0.1", port.getHost().port), timeout=10)
    two.sendall(b"raise"); say("got", two.recv(100))
    two.close()

order = []
reactor.callLater(0, order.append, "timer")
reactor.callWhenRunning(lambda: deferToThread(talk).addErrback(log.err))
reactor.run()
say(order)
"""


#: The wall clock goes back by an hour while a timer waits.
SET_BACK = """
import time
back, wall = [0.0], time.time
time.time = lambda: wall() - back[0]
from broker import reactor as module
module.install()
from twisted.internet import reactor
reactor.callLater(0.1, reactor.stop)
back[0] = 3600.0
reactor.run()
print("it fired")
"""


class ChildTests(TestCase):
    timeout = 120

    def run_child(self, *arguments: str) -> Any:
        def run() -> subprocess.CompletedProcess[str]:
            command = [sys.executable, *arguments]
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=100)

        return deferToThread(run)

    async def compare(self) -> None:
        outputs = [(await self.run_child("-c", SCRIPT, name)) for name in ("epoll", "broker")]
        for output in outputs:
            self.assertEqual(output.returncode, 0, output.stderr)
        self.assertEqual(sorted(outputs[0].stdout.splitlines()), sorted(outputs[1].stdout.splitlines()))
        self.assertIn("logged ValueError", outputs[1].stdout)
        self.assertIn("got b'echo'", outputs[1].stdout)

    def test_same_as_epoll(self) -> Any:
        """Echo, a fault in dataReceived, timers: word for word the same."""
        return Deferred.fromCoroutine(self.compare())

    async def test_timers_do_not_follow_the_wall_clock(self) -> None:
        """With or without what we add."""
        for change in ("", "module.suitable = lambda: False\n"):
            script = SET_BACK.replace("module.install()", f"{change}module.install()")
            done = await self.run_child("-c", script)
            self.assertEqual((done.stdout, done.stderr), ("it fired\n", ""))

    def test_the_transport_scenarios_run_under_it(self) -> Any:
        """Which also shows that trial and twistd find the plugin by its name."""
        running = self.run_child(
            "-m", "twisted.trial", "--reactor=broker", f"--temp-directory={self.mktemp()}",
            "tests.listening.test_transport",
        )  # fmt: skip
        return running.addCallback(lambda done: self.assertEqual(done.returncode, 0, done.stdout + done.stderr))


class TurnEndTests(TestCase):
    """`callAtTurnEnd`, on a reactor that is driven by hand."""

    def setUp(self) -> None:
        self.reactor = BrokerReactor()
        self.addCleanup(self.reactor._poller.close)

    def test_runs_once_before_the_next_round(self) -> None:
        calls: list[str] = []
        self.reactor.callAtTurnEnd(lambda: calls.append("one"))
        self.assertEqual(calls, [])
        self.reactor.doPoll(0)
        self.reactor.doPoll(0)
        self.assertEqual(calls, ["one"])

    def test_what_is_added_meanwhile_runs_too(self) -> None:
        calls: list[str] = []
        self.reactor.callAtTurnEnd(lambda: self.reactor.callAtTurnEnd(lambda: calls.append("late")))
        self.reactor.doPoll(0)
        self.assertEqual(calls, ["late"])

    def test_a_timer_that_they_set_is_not_slept_past(self) -> None:
        """Such as TLS sets for each small write."""
        slept: list[float] = []

        class Poller:
            def poll(self, timeout: float, count: int) -> list[tuple[int, int]]:
                slept.append(timeout)
                return []

        self.patch(self.reactor, "_poller", Poller())
        self.reactor.callLater(1000, lambda: None)
        for before in (None, 1000.0, 0):
            self.reactor.callAtTurnEnd(lambda: self.reactor.callLater(0, lambda: None))
            self.reactor.doPoll(before)
        self.assertEqual(slept, [0, 0, 0])

    def test_a_fault_does_not_stop_the_others(self) -> None:
        calls: list[str] = []
        self.reactor.callAtTurnEnd(lambda: 1 // 0)
        self.reactor.callAtTurnEnd(lambda: calls.append("after"))
        self.reactor.doPoll(0)
        self.assertEqual(calls, ["after"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class InstallTests(TestCase):
    def installed(self) -> Any:
        made: list[Any] = []
        self.patch(module, "installReactor", made.append)
        module.install()
        self.addCleanup(made[0]._poller.close)
        return made[0]

    def test_ours(self) -> None:
        self.assertTrue(suitable())
        self.assertIsInstance(self.installed(), BrokerReactor)

    def test_fallback(self) -> None:
        self.patch(module, "suitable", lambda: False)
        self.assertIs(type(self.installed()), SteadyReactor)
