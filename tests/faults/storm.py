"""Clients of several processes on one Redis, faults at random, and the account at the end.

::

    publishers  ──QoS 1, 2──────────────> any process ──> subscribers at any process     persistent, 3.1.1 and 5.0
    orders      ──HTTP, MQTT, LoRaCenter─> any process ──> devices of every protocol at any process, or away
    devices     ─────────────────────────> any process ──> customer server, app, stream at any process

What must hold when it is quiet again and after all processes were killed once more: each message arrived, at QoS 2
once; each order that was taken has ended as is stated or still waits, and its device got it once at most; nothing that
is best effort came twice; no session was forgotten; a connection whose session went elsewhere was closed within a
lease, whatever the fault was, and a process that was stopped for longer knew it within a lease of its waking. How often
the order of messages [MQTT-4.6.0-6] was lost is counted, and is a failure with ``ordered``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

from tests.faults.calls import NO_ANSWER
from tests.faults.crowd import Crowd
from tests.faults.gateways import Gateway88Kind
from tests.faults.gizwits import GizwitsKind
from tests.faults.kinds import Kind
from tests.faults.lorawan import LorawanKind
from tests.faults.mqtt import SLACK, MqttKind
from tests.faults.novacloud import NovaCloudKind
from tests.faults.orders import HttpOrders, OrderBook
from tests.faults.reader import StreamKind
from tests.faults.roaming import Ghost
from tests.faults.weather import Weather
from tests.ledger import Account, table
from tests.real import eventually

#: What there is, by the names of the command line.
KINDS: Final = ("mqtt", "novacloud", "gateway88", "gizwits", "lorawan", "stream")
#: Seconds: after a fault for what it was to heal; for everything to be delivered, besides what a lease takes.
SETTLE = 3.0
QUIET = 60.0
#: Seconds for everybody to be there.
COMING = 180.0
#: Seconds in which all processes have heard of a new subscription.
INTEREST = 0.5
#: Seconds between two looks at what became of orders, and between two lines for who watches.
LOOK_EVERY = 1.0
SAY_EVERY = 15.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a storm is made of. ``kinds``: of `KINDS`; ``pairs``: of publisher and subscriber of each QoS and version;
    ``devices``: of each protocol."""

    seed: int
    seconds: float = 240.0
    processes: int = 3
    lease: float = 10.0
    kinds: Collection[str] = KINDS
    pairs: int = 1
    devices: int = 6
    ordered: bool = False


class FaultStorm:
    """``reactor`` has to run in another thread. ``say`` hears a line now and then."""

    def __init__(self, folder: Path, plan: Plan, reactor: Any, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._say = say
        seed = plan.seed
        self.random = Random(seed)
        self.weather = Weather(folder, Random(seed + 1), plan.processes, plan.lease, say)
        brokers = self.weather.brokers
        self._crowd = crowd = Crowd(reactor, brokers, Random(seed + 2))
        self.book = OrderBook()
        self._mqtt = MqttKind(
            brokers, self.book, self.random, plan.pairs, plan.lease + SLACK, self._frozen, ordered=plan.ordered
        )
        self._lorawan = LorawanKind(crowd, self.book, plan.devices, seed)
        makers: dict[str, Callable[[], Kind]] = {
            "novacloud": lambda: NovaCloudKind(crowd, plan.devices, seed),
            "gateway88": lambda: Gateway88Kind(crowd, plan.devices, seed),
            "gizwits": lambda: GizwitsKind(crowd, plan.devices, seed),
            "lorawan": lambda: self._lorawan,
            "stream": lambda: StreamKind(crowd, seed, self._times_said),
            "mqtt": lambda: self._mqtt,
        }
        # MQTT comes last: its commander orders from all the others.
        self.kinds = [make() for name, make in makers.items() if name in plan.kinds]
        for kind in self.kinds:
            for broker in brokers:
                broker.settings.update(kind.settings())
        self._mqtt.ordered_about = [target for kind in self.kinds for target in kind.targets]
        self._orders = [
            HttpOrders(self.book, kind.targets, brokers, Random(seed + 10 + number), kind.order_pause)
            for number, kind in enumerate(self.kinds)
            if kind.targets
        ]
        self._looked = self._said = time.monotonic()
        self._looked_at_orders = 0.0
        self._began = time.monotonic()

    def begin(self) -> None:
        """Start all, and wait until everybody is there."""
        self.weather.start()
        first = self.weather.brokers[0]
        for kind in self.kinds:
            kind.register(first)
        for kind in self.kinds:
            kind.begin()
        names = ", ".join(kind.name for kind in self.kinds)
        eventually(self._all_there, f"everybody is there ({names})", COMING)
        self._turn_for(INTEREST)
        for kind in self.kinds:
            kind.go()
        for orders in self._orders:
            orders.start()
        self._began = time.monotonic()

    def _all_there(self) -> bool:
        self.turn(publishing=False)
        return all(kind.there() for kind in self.kinds)

    def _times_said(self, device: str, number: int) -> int:
        """Motes may say a thing again; others say it once."""
        motes = {target.id for target in self._lorawan.targets}
        return self._lorawan.times_said(device, number) if device in motes else 1

    # -- load ------------------------------------------------------------------------------------------------------

    def turn(self, publishing: bool = True) -> None:
        """Everybody reads and sends once. Raises AssertionError for what must not be."""
        now = time.monotonic()
        elapsed, self._looked = now - self._looked, now
        for kind in self.kinds:
            kind.turn(elapsed, publishing)
        if self._mqtt not in self.kinds:
            time.sleep(0.01)
        if now - self._said > SAY_EVERY:
            self._said = now
            self._say(self.progress())

    def progress(self) -> str:
        """Where it stands, in a line."""
        passed = int(time.monotonic() - self._began)
        minutes, whole = f"{passed // 60}:{passed % 60:02d}", int(self._plan.seconds)
        words = [one.progress() for one in self.kinds]
        words.append(f"{len(self.book.taken()):,} orders taken")
        struck = sum(self.weather.counts.values())
        return f"  {minutes} of {whole // 60}:{whole % 60:02d}, {struck} faults; " + ", ".join(filter(None, words))

    def _turn_for(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.turn(publishing=False)

    def _frozen(self, ghost: Ghost) -> bool:
        return ghost.pid in self.weather.frozen

    def load(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._work()

    def _work(self) -> None:
        self.turn()
        for kind in self.kinds:
            kind.unrest()

    def strike(self, kind: str) -> None:
        """One fault under load, and load for a while after it."""
        failed: list[BaseException] = []

        def run() -> None:
            try:
                self.weather.strike(kind)
            except BaseException as error:
                failed.append(error)

        fault = threading.Thread(target=run)
        fault.start()
        while fault.is_alive():
            self._work()
        if failed:
            raise failed[0]
        self.load(self.random.uniform(0.2, SETTLE))

    # -- the account -----------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Quiet; then all processes at once are killed and started, and the account is made again."""
        self._say("quiet: waiting until everything is delivered and every order has ended")
        for orders in self._orders:
            orders.stop()
        self._settle()
        for broker in self.weather.brokers:
            broker.ports = {}
            broker.kill()
        self._say("all processes killed and started once more")
        self.weather.start()
        self._settle()
        output = "\n".join(line for broker in self.weather.brokers for line in broker.output)
        assert "Traceback" not in output and "Unhandled" not in output, output[output.find("Traceback") - 1000 :][:4000]

    def _settle(self) -> None:
        for kind in self.kinds:
            kind.hush()
        patience = QUIET + 2 * self._plan.lease
        try:
            eventually(self._settled, "everything is delivered, and everybody is answered", patience)
            eventually(self._ended, "every order has ended", patience)
        except AssertionError as error:
            self._look()
            self.check(str(error))  # it says what is missing
            raise
        self.check()

    def _look(self) -> bool:
        """Ask what became of all orders; whether there was an answer."""
        try:
            self.book.look(self.random.choice(self.weather.brokers))
        except NO_ANSWER:
            return False
        return True

    def _settled(self) -> bool:
        self.turn(publishing=False)
        return all(kind.settled() for kind in self.kinds)

    def _ended(self) -> bool:
        self.turn(publishing=False)
        now = time.monotonic()
        if now - self._looked_at_orders < LOOK_EVERY:
            return False
        self._looked_at_orders = now
        return self._look() and not self.book.open()

    def check(self, what: str = "") -> None:
        """Raises AssertionError with a line for each thing that is not as it must be."""
        found = [fault for kind in self.kinds for fault in kind.faults()] + self.book.faults()
        found += [f"raised among the devices:\n{traceback}" for traceback in self._crowd.faults[:3]]
        assert not found, "\n".join(filter(None, (what, *found)))

    def accounts(self) -> list[Account]:
        return [account for kind in self.kinds for account in kind.accounts()] + self.book.accounts()

    def figures(self) -> str:
        """The account, and what was done."""
        book, weather = self.book, self.weather
        struck = ", ".join(f"{count} {kind}" for kind, count in weather.counts.items())
        lines = [table(self.accounts())]
        if self._mqtt in self.kinds:
            lines.append(f"MQTT: {self._mqtt.figures()}")
        if self._orders:
            lines.append(f"orders: refused {dict(book.refused)}, {book.unanswered} without an answer")
        lines.append(f"fenced: {weather.fenced_text()}")
        lines.append(f"faults: {struck or 'none'}")
        return "\n".join(lines)

    def end(self) -> None:
        """Stop all; harmless twice."""
        for orders in self._orders:
            orders.stop()
        for kind in self.kinds:
            kind.end()
        self._crowd.end()
        self.weather.end()


def storm(
    folder: Path, plan: Plan, reactor: Any, say: Callable[[str], None] = print, faults: Collection[str] = ()
) -> str:
    """Faults for so many seconds (each of ``faults`` once, in their order, if given); the account.

    Raises AssertionError with all that is wrong.
    """
    weather = FaultStorm(folder, plan, reactor, say)
    try:
        weather.begin()
        until = time.monotonic() + plan.seconds
        chosen = list(faults)
        weather.load(1.0)
        while time.monotonic() < until and (chosen or not faults):
            weather.strike(chosen.pop(0) if faults else weather.random.choice(list(weather.weather.kinds)))
        weather.finish()
        return weather.figures()
    except AssertionError as error:
        error.add_note(f"the seed was {plan.seed}; so far\n{weather.figures()}")
        raise
    finally:
        weather.end()
