"""Orders to devices of every protocol, given at any process, and what became of each.

An order counts when it was taken: answered with 202 over HTTP, with PUBACK over MQTT, with READY SEND over LoRaCenter.
From then on there is a command of it, which has to end as it is stated: carried out and answered, sent and timed out,
or expired before it was sent; what waits for a mote may wait on. A device must not get an order more often than there
are commands of it, and there is one for each time that it was sent; but a 0x88 gateway may be sent again what it has
not answered.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import Any
from urllib.parse import quote

from tests.faults.calls import NO_ANSWER, call_api, commands_of
from tests.faults.targets import Target, mark_of, new_mark
from tests.ledger import NAMED, Account
from tests.real import RealBroker

#: Seconds for a device's first answer; that an order may wait for long, and shortly.
TIMEOUT = 4
LONG = 3600
SHORT = 2
#: The share of orders that may wait for long.
PATIENT = 0.8
#: What an API that takes no work now may answer, to what is allowed.
REFUSALS = frozenset({429, 500, 503})
#: Seconds that a mote may take for its acknowledgement, and some: who it was sent to may have died with the network.
PENDING = 330
#: States of a command that has not ended, and of those the one in which it has not left the broker.
OPEN = frozenset({"queued", "sent", "pending"})
WAITING = "queued"
#: The column of an account for each end.
COLUMNS = {"succeeded": "delivered", "expired": "expired", "timed_out": "failed", "failed": "failed"}

HTTP = "HTTP"
MQTT = "MQTT"
LORACENTER = "LoRaCenter"


@dataclass(slots=True)
class Order:
    """``sends``: how often it was sent; ``taken``: when it was taken, UNIX seconds, or None."""

    mark: int
    target: Target
    via: str
    expires: int
    place: str
    sends: int = 1
    taken: float | None = None


class OrderBook:
    """All orders. Used from several threads: each call is one step."""

    def __init__(self) -> None:
        self.orders: dict[int, Order] = {}
        #: Answers that none may get, and what is allowed.
        self.odd: list[str] = []
        self.refused: Counter[str] = Counter()
        self.unanswered = 0
        #: mark -> its commands, as the API showed them when all of them had ended, or at the last look
        self.commands: dict[int, list[dict[str, Any]]] = {}

    def order(self, target: Target, via: str, expires: int, place: str) -> Order:
        """A new one, that is about to be sent."""
        order = Order(new_mark(), target, via, expires, place)
        self.orders[order.mark] = order
        return order

    @staticmethod
    def took(order: Order) -> None:
        """It was acknowledged."""
        if order.taken is None:
            order.taken = time.time()

    def taken(self) -> list[Order]:
        return [order for order in list(self.orders.values()) if order.taken is not None]

    # -- the account -----------------------------------------------------------------------------------------------

    def look(self, broker: RealBroker) -> None:
        """Ask what became of those that had not ended. Raises one of `NO_ANSWER`."""
        targets = {order.target: None for order in list(self.orders.values()) if not self._ended(order)}
        for target in targets:
            found: dict[int, list[dict[str, Any]]] = {}
            for command in commands_of(broker, target.id):
                mark = mark_of(command)
                if mark is not None:
                    found.setdefault(mark, []).append(command)
            for order in list(self.orders.values()):
                if order.target is target:
                    self.commands[order.mark] = found.get(order.mark, [])

    def _ended(self, order: Order) -> bool:
        commands = self.commands.get(order.mark)
        if commands is None:
            return False
        return all(command["status"] not in OPEN for command in commands) and bool(commands or order.taken is None)

    def open(self) -> list[Order]:
        """Those that were taken and have to end yet; of what takes its time, those that are overdue."""
        found = []
        overdue = time.time() - PENDING
        for order in self.taken():
            commands = [command for command in self.commands.get(order.mark, ()) if command["status"] in OPEN]
            if order.target.open_ended:
                commands = [one for one in commands if one["status"] != WAITING and one["updated_at"] < overdue]
            if commands:
                found.append(order)
        return found

    def faults(self) -> list[str]:
        """What is not as it is stated, a line for each."""
        found = [f"an order was answered: {odd}" for odd in self.odd[:NAMED]]
        found += [f"{self._text(order)}: has not ended" for order in self.open()[:NAMED]]
        for order in list(self.orders.values()):
            commands = self.commands.get(order.mark)
            if commands is None:
                continue
            if order.taken is not None and not commands:
                found.append(f"{self._text(order)}: LOST, there is no such command")
            if len(commands) > order.sends:
                found.append(f"{self._text(order)}: was sent {order.sends} times and became {len(commands)} commands")
            if order.target.came[order.mark] > len(commands) and not (order.target.at_least_once and commands):
                found.append(f"{self._text(order)}: came {order.target.came[order.mark]} times")
            left = sum(one["status"] != "expired" for one in commands)
            found += [f"{self._text(order)}: {why}" for one in commands if (why := self._wrong(order, one, left))]
        return found

    @staticmethod
    def _wrong(order: Order, command: dict[str, Any], left: int) -> str:
        """Why its end is not what it says; empty if it is. ``left``: how many of the order's commands may have left."""
        status, target = command["status"], order.target
        came = target.came[order.mark]
        if status in OPEN or status == "timed_out":
            return ""
        if status == "succeeded":
            # What a device does not answer has succeeded when it was handed over.
            answers = not target.open_ended or (command.get("result") or {}).get("acknowledged")
            return "" if not answers or order.mark in target.answered else f"succeeded, came {came} times, unanswered"
        if status == "expired":
            by_others = came <= left or (left and target.at_least_once)
            return "" if by_others and order.expires == SHORT else f"expired, came {came} times"
        if status == "failed" and target.open_ended:
            return ""  # for want of a gateway or of an acknowledgement, perhaps behind a fault
        return f"{status} {command.get('result')}, came {came} times"

    @staticmethod
    def _text(order: Order) -> str:
        taken = "never acknowledged" if order.taken is None else f"taken at {order.taken:.3f}"
        return (
            f"order {order.mark} for {order.target.protocol} {order.target.id} over {order.via} at {order.place}, "
            f"{taken}, expires {order.expires}"
        )

    def accounts(self) -> list[Account]:
        """One for each protocol and way."""
        found: dict[tuple[str, str], Account] = {}
        for order in self.taken():
            key = (order.target.protocol, order.via)
            account = found.setdefault(key, Account(f"{key[0]}, ordered over {key[1]}"))
            account.acknowledged += 1
            commands = self.commands.get(order.mark)
            if commands is None:
                account.unknown += 1
                continue
            account.twice += max(0, order.target.came[order.mark] - len(commands))
            states = [command["status"] for command in commands]
            if not states:
                account.lost += 1
            elif any(state in OPEN for state in states):
                account.queued += 1
            else:
                account.count(COLUMNS.get(states[0], "failed"))
        for account in found.values():
            ends = Counter(
                command["status"]
                for order in self.taken()
                if account.kind == f"{order.target.protocol}, ordered over {order.via}"
                for command in self.commands.get(order.mark, ())
                if COLUMNS.get(command["status"], "failed") == "failed" and command["status"] not in OPEN
            )
            account.note = ", ".join(f"{number} {state}" for state, number in sorted(ends.items()))
        return [found[key] for key in sorted(found)]


class HttpOrders:
    """Orders over HTTP in a thread of its own, until `stop`. ``pause``: seconds between two, at most."""

    def __init__(
        self, book: OrderBook, targets: list[Target], brokers: list[RealBroker], random: Random, pause: float
    ) -> None:
        self._book = book
        self._targets = targets
        self._brokers = brokers
        self._random = random
        self._pause = pause
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Harmless twice, and before `start`."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        random = self._random
        while not self._stopping.wait(random.uniform(0.0, self._pause)):
            target, broker = random.choice(self._targets), random.choice(self._brokers)
            expires = LONG if random.random() < PATIENT else SHORT
            order = self._book.order(target, HTTP, expires, json.loads(broker.settings["broker.name"]))
            body = {"timeout": TIMEOUT, **target.body(order.mark), "expires": expires}
            try:
                status, answer = call_api(broker, "POST", f"/devices/{quote(target.id, safe='')}/commands", body)
            except NO_ANSWER:
                self._book.unanswered += 1  # perhaps taken, perhaps not: nothing was promised
                continue
            if status == 202:
                self._book.took(order)
            elif status in REFUSALS:
                self._book.refused[str(status)] += 1
            else:
                self._book.odd.append(f"{status}: {answer}")
