"""Clients of several processes on one Redis, faults at random, and the account at the end.

::

    publishers  ──QoS 1, 2──> any process ──> subscribers at any process      persistent sessions of 3.1.1 and 5.0
    orders      ──HTTP──────> any process ──> NovaCloud devices at any process, or away

What must hold when it is quiet again and after all processes were killed once more: each message arrived, at QoS 2
once; each command that was taken has ended as is stated, and came once at most; no session was forgotten; a connection
whose session went elsewhere was closed within a lease, whatever the fault was. How often the order of messages
[MQTT-4.6.0-6] was lost is counted, and is a failure with ``ordered``.
"""

from __future__ import annotations

import selectors
import threading
import time
from pathlib import Path
from random import Random
from typing import Any

from broker.mqtt import packets as p
from tests.faults.orders import Device, Order, Orders, call_api
from tests.faults.roaming import Ghost, Roaming
from tests.faults.weather import Weather
from tests.kill_storm import USER, Publisher, Subscriber
from tests.real import eventually

#: Seconds: after a fault for what it was to heal; for everything to be delivered, besides what a lease takes.
SETTLE = 3.0
QUIET = 40.0
#: Seconds in which all processes have heard of a new subscription.
INTEREST = 0.5
#: Seconds over a lease in which an old connection has to be closed.
SLACK = 5.0


class FaultStorm:
    """``pairs`` of publisher and subscriber of each QoS and version; ``devices``: how many."""

    def __init__(
        self,
        folder: Path,
        seed: int,
        processes: int = 3,
        lease: float = 10.0,
        pairs: int = 1,
        devices: int = 8,
        ordered: bool = False,
        say: Any = print,
    ) -> None:
        #: Whether messages have to come in their order, too, where sessions move between processes.
        self.ordered = ordered
        self.random = Random(seed)
        self.lease = lease
        self.weather = Weather(folder, Random(seed + 1), processes, lease, say)
        self._say = say
        self._seed = seed
        self._numbers = (pairs, devices)
        self.publishers: list[Publisher] = []
        self.subscribers: list[Subscriber] = []
        self.roaming: list[Roaming] = []
        self.devices: list[Device] = []
        self.orders = Orders([], [], 0, 0)
        #: command id -> its final state
        self.known: dict[str, str] = {}
        self.takeovers = 0
        #: Commands that were still open at the last look.
        self.open: list[Order] = []
        self._looked = time.monotonic()

    def begin(self) -> None:
        """Start all, and wait until every session and device is there."""
        pairs, devices = self._numbers
        weather, brokers = self.weather, self.weather.brokers
        weather.start()
        secret = self._made("/applications", {"id": USER, "kind": "mqtt"})["secret"]
        for number in range(pairs):
            for version in (p.MQTT_3_1_1, p.MQTT_5):
                for qos in (1, 2):
                    name = f"{version}-{qos}-{number}"
                    subscriber = Subscriber(f"s{name}", version, secret, f"{USER}/{name}", qos)
                    self.subscribers.append(subscriber)
                    self.publishers.append(Publisher(f"p{name}", secret, subscriber))
        self.roaming = [Roaming(one, brokers, self.random) for one in (*self.publishers, *self.subscribers)]
        for _ in range(devices):
            made = self._made("/devices", {"protocol": "novacloud"})
            self.devices.append(Device(made["id"], made["secret"], brokers, self.random))
        eventually(self._all_there, "everybody is there")
        known = time.monotonic() + INTEREST
        while time.monotonic() < known:
            self.turn(publishing=False)
        self.orders = Orders(self.devices, brokers, self._seed + 2)
        self.orders.start()

    def _made(self, path: str, body: Any) -> Any:
        status, answer = call_api(self.weather.brokers[0], "POST", path, body)
        assert status == 201, (status, answer)
        return answer

    def _all_there(self) -> bool:
        self.turn(publishing=False)
        return all(one.certain for one in self.subscribers) and all(one.online for one in self.devices)

    # -- load ------------------------------------------------------------------------------------------------------

    def turn(self, publishing: bool = True) -> None:
        """Everybody reads and sends once. Raises AssertionError for what must not be."""
        now = time.monotonic()
        elapsed, self._looked = now - self._looked, now
        with selectors.DefaultSelector() as selector:
            for one in self.roaming:
                one.look(now)
                one.exorcise(elapsed, self._frozen, self.lease + SLACK)
                if one.client.socket is not None:
                    selector.register(one.client.socket, selectors.EVENT_READ, one.client)
            for device in self.devices:
                device.look(now)
                if device.socket is not None:
                    selector.register(device.socket, selectors.EVENT_READ, device)
            for key, _ in selector.select(0.01):
                key.data.readable()
        if publishing:
            for publisher in self.publishers:
                publisher.work()

    def _frozen(self, ghost: Ghost) -> bool:
        return ghost.pid in self.weather.frozen

    def _unrest(self) -> None:
        """Now and then a client loses its connection, or changes it."""
        chance = self.random.random()
        if chance < 0.01:
            self.random.choice(self.roaming).drop_within()
        elif chance < 0.02:
            self.takeovers += 1
            self.random.choice(self.roaming).take_over()

    def load(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.turn()
            self._unrest()

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
            self.turn()
            self._unrest()
        if failed:
            raise failed[0]
        self.load(self.random.uniform(0.2, SETTLE))

    # -- the account -----------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Quiet; then all processes at once are killed and started, and the account is made again."""
        self._say("quiet: waiting until everything is delivered and every command has ended")
        self.orders.stop()
        for device in self.devices:
            device.staying = True
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
        try:
            eventually(self._delivered, "everything is delivered", QUIET + 2 * self.lease)
            before = [client.pongs for client in (*self.publishers, *self.subscribers)]
            eventually(lambda: self._asked(before), "everybody is answered", QUIET)
            eventually(self._ended, "every command has ended", QUIET + 2 * self.lease)
            eventually(lambda: self._delivered() and not self._ghosts(), "old connections are closed", QUIET)
        except AssertionError as error:
            self.check(str(error))  # it says what is missing
            raise
        self.check()

    def _ghosts(self) -> int:
        return sum(len(one.ghosts) for one in self.roaming)

    def _delivered(self) -> bool:
        self.turn(publishing=False)
        return all(one.idle for one in self.publishers) and all(
            len(subscriber.order) >= publisher.sent
            for publisher, subscriber in zip(self.publishers, self.subscribers, strict=True)
        )

    def _asked(self, before: list[int]) -> bool:
        self.turn(publishing=False)
        clients = (*self.publishers, *self.subscribers)
        return all(client.pongs > then for client, then in zip(clients, before, strict=True))

    def _ended(self) -> bool:
        until = time.monotonic() + 0.3
        while time.monotonic() < until:
            self.turn(publishing=False)
        try:
            self.open = self.orders.account(self.random.choice(self.weather.brokers), self.known)
            return not self.open
        except OSError:
            return False

    def check(self, what: str = "") -> None:
        """Raises AssertionError with a line for each thing that is not as it must be."""
        found = [f"command {one.id} of {one.device.id} has not ended" for one in self.open]
        found += self.orders.faults(self.known)
        for publisher, subscriber in zip(self.publishers, self.subscribers, strict=True):
            everything = range(publisher.sent)
            missing = sorted(set(everything) - set(subscriber.order))
            if missing:
                found.append(f"{subscriber.name}: {len(missing)} of {publisher.sent} are missing: {missing[:20]}")
            if not publisher.idle:
                found.append(f"{publisher.name}: {publisher.sent - publisher.acknowledged} are not acknowledged")
            if self.ordered and (misplaced := self._misplaced(subscriber)):
                found.append(f"{subscriber.name}: out of their order: {misplaced[:5]}")
            twice = [number for number, count in subscriber.copies.items() if count > 1]
            if subscriber.qos == 2 and twice:
                found.append(f"{subscriber.name}: {len(twice)} came twice: {twice[:20]}")
        assert not found, "\n".join(filter(None, (what, *found)))

    @staticmethod
    def _misplaced(subscriber: Subscriber) -> list[list[int]]:
        """Where messages came behind later ones, with those around."""
        order = subscriber.order
        return [order[max(0, at - 3) : at + 3] for at in range(1, len(order)) if order[at] < order[at - 1]]

    def figures(self) -> str:
        sent = {qos: sum(one.sent for one in self.publishers if one.qos == qos) for qos in (1, 2)}
        copies = sum(sum(one.copies.values()) - len(one.copies) for one in self.subscribers)
        ends = {state: list(self.known.values()).count(state) for state in sorted(set(self.known.values()))}
        orders = self.orders
        struck = ", ".join(f"{count} {kind}" for kind, count in self.weather.counts.items())
        return (
            f"{sent[1]:,} messages at QoS 1 ({copies:,} second copies), {sent[2]:,} at QoS 2, "
            f"{sum(one.resent for one in self.publishers):,} sent again, "
            f"{sum(len(self._misplaced(one)) for one in self.subscribers)} times out of order; "
            f"{sum(one.moves for one in self.roaming):,} connections, {self.takeovers} takeovers; "
            f"{len(orders.taken):,} commands: {ends}; refused {dict(orders.refused)}, {orders.unanswered} unanswered; "
            f"faults: {struck or 'none'}"
        )


def storm(folder: Path, seconds: float, seed: int, kinds: list[str] | None = None, **more: Any) -> str:
    """Faults for so many seconds (each of ``kinds`` once, in their order, if given); what was done.

    Raises AssertionError with all that is wrong.
    """
    weather = FaultStorm(folder, seed, **more)
    try:
        weather.begin()
        until = time.monotonic() + seconds
        chosen = list(kinds or [])
        weather.load(1.0)
        while time.monotonic() < until and (chosen or not kinds):
            weather.strike(chosen.pop(0) if kinds else weather.random.choice(list(weather.weather.kinds)))
        weather.finish()
        return weather.figures()
    except AssertionError as error:
        error.add_note(f"the seed was {seed}; so far {weather.figures()}")
        raise
    finally:
        weather.orders.stop()
        weather.weather.end()
