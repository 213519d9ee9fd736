"""How a sub-command runs: until it is done, until it fails with one line, or until Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Coroutine
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError
from twisted.internet.task import LoopingCall

from broker.mqtt.client import MqttRefused
from broker.simulate.api import ApiError

#: Seconds between two lines of figures.
FIGURES_EVERY: Final = 10.0


class CommandError(Exception):
    """A command cannot go on; the text is one line."""


def say(line: str) -> None:
    """A line for whoever watches. When nobody can read it any more, that is taken as Ctrl-C."""
    try:
        print(line, flush=True)
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        signal.raise_signal(signal.SIGINT)


def run_until_done(reactor: Any, work: Coroutine[Any, Any, None]) -> int:
    """Run the reactor until ``work`` is done or has failed (status 1, one line), or until Ctrl-C (status 0)."""
    status = [0]

    def failed(failure: Any) -> None:
        failure.trap(CommandError, ApiError, MqttRefused, ConnectError, OSError, ValueError)
        print(f"broker.simulate: {failure.getErrorMessage()}", file=sys.stderr, flush=True)
        status[0] = 1

    def fault(failure: Any) -> None:
        print(failure.getTraceback(), file=sys.stderr, flush=True)
        status[0] = 1

    def begin() -> None:
        done = Deferred.fromCoroutine(work).addErrback(failed).addErrback(fault)
        done.addCallback(lambda _: reactor.stop() if reactor.running else None)

    reactor.callWhenRunning(begin)
    reactor.run()
    return status[0]


async def repeat(reactor: Any, call: Any, seconds: float = FIGURES_EVERY) -> None:
    """Call it every so often, for ever."""
    loop = LoopingCall(call)
    loop.clock = reactor
    await loop.start(seconds, now=False)
