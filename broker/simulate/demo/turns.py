"""Whose turn it is: an application commands one device after the other, each time one of another protocol.

At first quickly, until each protocol has answered once: the motes, which listen at times only and so have to find their
command waiting, then whoever was heard. After that with pauses, and any device.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from random import Random
from typing import Any, Final

from broker.simulate.demo.board import Board
from broker.simulate.demo.cast import LORAWAN, PROTOCOLS, SIDES, Subject
from broker.simulate.demo.orders import Order, order

#: Seconds between two commands of one application, at first and then on average.
HASTE: Final = 0.5
PAUSE: Final = 6.0
#: Seconds after which an order that is not answered is asked for anew, as long as nothing was answered yet.
HURRY: Final = 8.0
#: Seconds after which nobody waits for an answer any more. (Commands expire before that.)
PATIENCE: Final = 90.0

SUCCEEDED: Final = "succeeded"
#: The ends of a command.
FINAL: Final = frozenset({SUCCEEDED, "failed", "timed_out", "expired", "cancelled"})

Send = Callable[[int, Subject, Order], object]


class _Open:
    """A command that is not answered yet, and what the application knows it by."""

    __slots__ = ("at", "name", "order", "subject")

    def __init__(self, subject: Subject, given: Order, at: float) -> None:
        self.subject = subject
        self.order = given
        self.at = at
        self.name: Hashable = None


class Turns:
    """``send(number, subject, order)`` sends a command; `answered` says what became of it, by its number.

    Where answers do not have that number, `call` gives the command another name, for `answered_as`.
    """

    def __init__(
        self, reactor: Any, board: Board, side: str, subjects: Iterable[Subject], chance: Random, send: Send
    ) -> None:
        self._reactor = reactor
        self._board = board
        self._side = side
        self._send = send
        self._chance = chance
        self._by_protocol = {
            protocol: [one for one in subjects if one.protocol == protocol and (protocol, side) in board.cells]
            for protocol in PROTOCOLS
        }
        self._protocols = [protocol for protocol, known in self._by_protocol.items() if known]
        self._open: dict[int, _Open] = {}
        self._numbers: dict[Hashable, int] = {}
        self._number = 0
        self._timer: Any = None
        #: Not all applications begin with the same device: a mote takes one command at a time.
        self._place = list(SIDES).index(side)

    def start(self) -> None:
        self._timer = self._reactor.callLater(HASTE * self._chance.uniform(0.5, 1.0), self._turn)

    def stop(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def call(self, number: int, name: Hashable) -> None:
        """From now on this open command is known by that name, too."""
        found = self._open.get(number)
        if found is not None:
            found.name = name
            self._numbers[name] = number

    def answered_as(self, name: Hashable, status: str, what: str = "") -> None:
        """The same as `answered`."""
        self.answered(self._numbers.get(name, 0), status, what)

    def answered(self, number: int, status: str, what: str = "") -> None:
        """A command has come to an end; numbers that nobody waits for are disregarded."""
        found = self._open.pop(number, None)
        if found is not None:
            self._numbers.pop(found.name, None)
            took = self._reactor.seconds() - found.at
            answer = f"{status} {what}".rstrip()
            self._board.answer(self._side, found.subject, found.order.text, status == SUCCEEDED, answer, took)

    def _turn(self) -> None:
        now = self._reactor.seconds()
        for number in [number for number, one in self._open.items() if now - one.at > PATIENCE]:
            self.answered(number, "unanswered")
        wanting = [one for one in self._protocols if not self._board.cells[one, self._side].obeyed]
        hasty = [one for one in wanting if self._is_there(one) and not self._is_asked(one, now)]
        pause = HASTE if wanting else PAUSE * self._chance.uniform(0.7, 1.3)
        self._timer = self._reactor.callLater(pause, self._turn)
        if wanting and not hasty:
            return
        if hasty:
            self._command(LORAWAN if LORAWAN in hasty else hasty[0], now, prompt=True)
        else:
            self._place += 1
            self._command(self._protocols[self._place % len(self._protocols)], now, prompt=False)

    def _is_there(self, protocol: str) -> bool:
        """A message to a Gizwits device that is away would be lost; commands to motes wait."""
        return protocol == LORAWAN or self._board.cells[protocol, self._side].uplinks > 0

    def _is_asked(self, protocol: str, now: float) -> bool:
        return any(one.subject.protocol == protocol and now - one.at < HURRY for one in self._open.values())

    def _command(self, protocol: str, now: float, prompt: bool) -> None:
        subjects = self._by_protocol[protocol]
        if prompt:
            ready = [one for one in subjects if one.prompt]
            subject = ready[self._place % len(ready)]
        else:
            subject = self._chance.choice(subjects)
        given = order(subject, self._chance)
        self._number += 1
        self._open[self._number] = _Open(subject, given, now)
        self._send(self._number, subject, given)
