"""MQTT clients: publishers and subscribers with persistent sessions, and one that orders commands at QoS 1."""

from __future__ import annotations

import json
import selectors
from collections.abc import Callable
from random import Random

from broker.mqtt import packets as p
from broker.mqtt.packets import Packet
from tests.faults.calls import made, put
from tests.faults.kinds import Kind
from tests.faults.orders import LONG, MQTT, PATIENT, SHORT, TIMEOUT, Order, OrderBook
from tests.faults.roaming import Ghost, Roaming
from tests.faults.targets import Target
from tests.ledger import USER, Account, Client, Ledger
from tests.real import RealBroker

#: Seconds over a lease in which an old connection has to be closed.
SLACK = 5.0
#: Orders of a commander that may be unacknowledged, and how many it gives a second.
OPEN_ORDERS = 4
ORDERS_PER_SECOND = 4.0
#: A reason code of 5.0 from which on a publish was refused.
REFUSED = 0x80


class Commander(Client):
    """Publishes orders on ``devices/<id>/command`` at QoS 1, and again what was not acknowledged."""

    def __init__(self, name: str, secret: str, book: OrderBook, targets: list[Target], random: Random) -> None:
        super().__init__(name, p.MQTT_5, secret)
        self._book = book
        self._targets = targets
        self._random = random
        #: packet id -> order, in the order of sending
        self._open: dict[int, Order] = {}
        self._due = 0.0
        self._next = 1
        #: The process that it is connected to.
        self.place: Callable[[], str] = str

    @property
    def idle(self) -> bool:
        return not self._open

    def work(self, elapsed: float) -> None:
        """Order what is due."""
        self._due = min(self._due + elapsed * ORDERS_PER_SECOND, 1.0)
        if not (self.welcome and self._targets) or self._due < 1.0 or len(self._open) >= OPEN_ORDERS:
            return
        self._due = 0.0
        expires = LONG if self._random.random() < PATIENT else SHORT
        order = self._book.order(self._random.choice(self._targets), MQTT, expires, self.place())
        packet_id, self._next = self._next, self._next % 60_000 + 1
        self._open[packet_id] = order
        self.send(self._publish(packet_id, order, False))

    @staticmethod
    def _publish(packet_id: int, order: Order, dup: bool) -> p.Publish:
        target = order.target
        body = {"timeout": TIMEOUT, **target.body(order.mark), "expires": order.expires}
        return p.Publish(f"devices/{target.id}/command", json.dumps(body).encode(), 1, packet_id, dup=dup)

    def resumed(self) -> list[Packet]:
        for order in self._open.values():
            order.sends += 1
        return [self._publish(packet_id, order, True) for packet_id, order in self._open.items()]

    def got(self, packet: Packet) -> list[Packet]:
        assert isinstance(packet, p.PubAck), (self.name, packet)
        order = self._open.pop(packet.packet_id, None)
        if order is not None:
            if packet.reason < REFUSED:
                self._book.took(order)
            else:
                self._book.refused[f"MQTT {packet.reason:#x}"] += 1
        return []


class MqttKind(Kind):
    """``pairs`` of each QoS and version; ``ordered``: whether messages have to come in their order, too."""

    name = "mqtt"

    def __init__(
        self,
        brokers: list[RealBroker],
        book: OrderBook,
        random: Random,
        pairs: int,
        longest: float,
        frozen: Callable[[Ghost], bool],
        *,
        ordered: bool,
    ) -> None:
        super().__init__()
        self._brokers = brokers
        self._book = book
        self._random = random
        self._pairs = pairs
        self._longest = longest
        self._frozen = frozen
        self._ordered = ordered
        self._hushed = False
        self.ledger = Ledger("", 0)
        self.roaming: list[Roaming] = []
        self.takeovers = 0
        self._commander: Commander | None = None
        self._pongs: list[int] | None = None
        #: What can be ordered to do something, of all kinds.
        self.ordered_about: list[Target] = []

    def register(self, broker: RealBroker) -> None:
        secret = made(broker, "/applications", {"id": USER, "kind": "mqtt"})["secret"]
        for target in self.ordered_about:
            put(broker, f"/applications/{USER}/devices/{target.id}")
        self.ledger = Ledger(secret, self._pairs)
        clients: list[Client] = list(self.ledger.clients)
        if self.ordered_about:
            self._commander = Commander("commander", secret, self._book, self.ordered_about, self._random)
            clients.append(self._commander)
        self.roaming = [Roaming(one, self._brokers, self._random) for one in clients]
        if self._commander is not None:
            self._commander.place = self.roaming[-1].name_of_place

    def there(self) -> bool:
        return all(one.certain for one in self.ledger.subscribers) and all(one.client.welcome for one in self.roaming)

    def turn(self, elapsed: float, publishing: bool) -> None:
        with selectors.DefaultSelector() as selector:
            for one in self.roaming:
                one.look()
                one.exorcise(elapsed, self._frozen, self._longest)
                if one.client.socket is not None:
                    selector.register(one.client.socket, selectors.EVENT_READ, one.client)
            for key, _ in selector.select(0.01):
                key.data.readable()
        if publishing and not self._hushed:
            self.ledger.work()
            if self._commander is not None:
                self._commander.work(elapsed)

    def unrest(self) -> None:
        chance = self._random.random()
        if chance < 0.01:
            self._random.choice(self.roaming).drop_within()
        elif chance < 0.02:
            self.takeovers += 1
            self._random.choice(self.roaming).take_over()

    def hush(self) -> None:
        self._hushed = True
        self._pongs = None

    def settled(self) -> bool:
        """All is delivered, everybody has been answered after that, and no old connection is left."""
        if not self.ledger.delivered() or not (self._commander is None or self._commander.idle):
            return False
        pongs = [one.client.pongs for one in self.roaming]
        if self._pongs is None:
            self._pongs = pongs
        answered = all(now > then for now, then in zip(pongs, self._pongs, strict=True))
        return answered and not any(one.ghosts for one in self.roaming)

    def faults(self) -> list[str]:
        found = self.ledger.faults(self._ordered)
        found += [f"{ghost.name}: an old connection is not closed" for one in self.roaming for ghost in one.ghosts]
        return found

    def accounts(self) -> list[Account]:
        return self.ledger.accounts()

    def progress(self) -> str:
        sent = sum(one.sent for one in self.ledger.publishers)
        behind = sent - sum(len(one.order) for one in self.ledger.subscribers)
        return f"MQTT {sent:,} messages, {behind} under way"

    def overlaps(self) -> tuple[float, float]:
        """Seconds that an old connection lived on at most when its client was welcome elsewhere: while its process
        could act, and in all."""
        acting = max((one.longest for one in self.roaming), default=0.0)
        return acting, max((one.longest_of_all for one in self.roaming), default=0.0)

    def figures(self) -> str:
        acting, whole = self.overlaps()
        return (
            f"{self.ledger.figures()}; {sum(one.moves for one in self.roaming):,} connections, {self.takeovers} "
            f"takeovers; two connections of one session for {acting:.1f} s at most, {whole:.1f} s with those of a "
            f"process that was stopped"
        )

    def end(self) -> None:
        for one in self.roaming:
            one.client.drop()
