"""What goes wrong in the demo, once everything has been seen: small faults, and devices that go away."""

from __future__ import annotations

from random import Random
from typing import Any, Final

from broker.simulate.demo import cast
from broker.simulate.demo.board import Board
from broker.simulate.demo.cast import Subject, short
from broker.simulate.demo.devices import Devices
from broker.simulate.demo.field import Field

#: Seconds after which faults begin even if something has not been seen yet.
AT_LATEST: Final = 30.0
#: Seconds between two devices that are switched off, and for how long one is.
EVERY: Final = 40.0
OUTAGE: Final = (12.0, 25.0)


class Troubles:
    """Begins with `begin`, and by itself if nobody calls that."""

    def __init__(self, reactor: Any, board: Board, devices: Devices, field: Field, chance: Random) -> None:
        self._reactor = reactor
        self._board = board
        self._devices = devices
        self._field = field
        self._chance = chance
        self._timers: set[Any] = set()
        self._off: set[str] = set()
        self._begun = False

    def start(self) -> None:
        self._later(AT_LATEST, self.begin)

    def begin(self) -> None:
        """Harmless twice."""
        if self._begun:
            return
        self._begun = True
        self._board.note("from now on something goes wrong now and then, on purpose (--no-faults: nothing)")
        self._devices.trouble()
        self._field.trouble()
        self._later(EVERY * self._chance.random(), self._next)

    def stop(self) -> None:
        self._begun = True
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def _next(self) -> None:
        self._later(EVERY * self._chance.uniform(0.7, 1.3), self._next)
        candidates = [one for one in cast.SUBJECTS if one.protocol != cast.LORAWAN and one.id not in self._off]
        if candidates:
            self._switch_off(self._chance.choice(candidates))

    def _switch_off(self, subject: Subject) -> None:
        seconds = self._chance.uniform(*OUTAGE)
        self._off.add(subject.id)
        self._board.note(
            f"{short(subject)} ({subject.protocol}) has no power for {seconds:.0f} s; commands wait for it"
        )
        self._devices.of(subject).stop()
        self._later(seconds, lambda: self._switch_on(subject))

    def _switch_on(self, subject: Subject) -> None:
        self._off.discard(subject.id)
        self._devices.of(subject).start()

    def _later(self, seconds: float, call: Any) -> None:
        def run() -> None:
            self._timers.discard(timer)
            call()

        timer = self._reactor.callLater(seconds, run)
        self._timers.add(timer)
