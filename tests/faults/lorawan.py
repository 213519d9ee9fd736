"""LoRaWAN: a packet forwarder at each process, motes that all of them hear, and a customer server at any process.

::

    motes ─┬─ forwarder 1 ──UDP──> node-1 ┐
           ├─ forwarder 2 ──UDP──> node-2 ├─ the network, at one of them ──> customer server at any
           └─ forwarder 3 ──UDP──> node-3 ┘

An uplink comes to the customer server once, however many forwarders and processes it came through. Only what a mote
itself says again, because it was not acknowledged, may come as often as it was said: the network that heard it first
may have died before it had noted that. What the server sends is an order that was taken once the broker says READY
SEND.
"""

from __future__ import annotations

from base64 import b64decode
from collections import Counter
from random import Random
from typing import Any, Final

from twisted.internet.task import LoopingCall

from broker.simulate.customer import CustomerIdentity, SimulatedCustomer
from broker.simulate.lorawan.air import Air
from broker.simulate.lorawan.forwarder import Forwarder
from broker.simulate.lorawan.links import UdpLink
from broker.simulate.lorawan.mote import SimulatedMote
from broker.simulate.lorawan.plans import PLANS
from broker.simulate.lorawan.session import mote_identity
from broker.simulate.lorawan.tally import Tally
from broker.simulate.lorawan.town import gateway_eui, gateway_places, heard_channels, join_block, mote_paths, preset
from broker.simulate.lorawan.traits import Traits
from tests.faults.calls import made, put
from tests.faults.crowd import Crowd
from tests.faults.kinds import Kind
from tests.faults.orders import LONG, LORACENTER, Order, OrderBook
from tests.faults.targets import Target, bytes_of, mark_in
from tests.ledger import NAMED, Account
from tests.real import RealBroker

REGION: Final = "cn470"
#: Kilometres: everybody hears everybody.
RADIUS: Final = 0.2
#: Seconds between two messages of a mote, and the share of them that wants to be acknowledged.
EVERY: Final = 3.0
CONFIRMED: Final = 0.3
#: Bytes of a message: a number and filling.
SIZE: Final = 8
PORT: Final = 5
#: Seconds between two orders of the customer server; the chance of it to leave in a second.
SEND_EVERY: Final = 1.0
RATE: Final = 0.05
CUSTOMER: Final = "storm-customer"
CS_EUI: Final = "FA01750000000000"
APP_KEY: Final = "FA0175FA0175FA0175FA0175FA0175FA"


class OrderedTally(Tally):
    """Notes what its mote is ordered, and how often each of its messages was in the air."""

    def __init__(self, began: float, target: Target) -> None:
        super().__init__(began)
        self._target = target
        self.said: Counter[int] = Counter()

    def transmitted(self, now: float, seconds: float, rate: int, dbm: float) -> None:
        super().transmitted(now, seconds, rate, dbm)
        self.said[self.messages - 1] += 1

    def command(self, port: int, payload: bytes) -> None:
        super().command(port, payload)
        mark = mark_in(payload)
        self._target.got(mark)
        if mark is not None:
            self._target.answered.add(mark)  # with its next frame, if it has to


class _CustomerMember:
    """The customer server, as what roams."""

    def __init__(self, customer: SimulatedCustomer) -> None:
        self._customer = customer

    @property
    def online(self) -> bool:
        return self._customer.registered

    def disconnect(self) -> None:
        if self._customer.wire is not None:
            self._customer.wire.end()


class LorawanKind(Kind):
    """``count`` motes, a third of them of class C."""

    name = "lorawan"
    order_pause = 3.0

    def __init__(self, crowd: Crowd, book: OrderBook, count: int, seed: int) -> None:
        super().__init__()
        self._crowd = crowd
        self._book = book
        self._seed = seed
        self._random = Random(seed)
        self._dice = Random(seed + 1)
        self._place = crowd.anywhere("loracenter")
        self._customer = SimulatedCustomer(
            crowd.reactor, self._place, CustomerIdentity(CS_EUI, APP_KEY), self._told, longest_delay=2.0
        )
        self._roaming = crowd.roaming([_CustomerMember(self._customer)], self._place, RATE)
        self._sending = LoopingCall(self._send)
        self._sending.clock = crowd.reactor
        self._sent: dict[int, Order] = {}
        #: (DevEUI, number) -> how often it was told the customer server
        self.uploads: Counter[tuple[str, int]] = Counter()
        self._air = Air(crowd.reactor, self._dice, keep=False)
        self._forwarders: list[Forwarder] = []
        self._motes: list[SimulatedMote] = []
        self._tallies: dict[str, OrderedTally] = {}
        for number in range(count):
            how: dict[str, Any] = {"port": PORT, "confirm": number % 2 == 0, "timeout": 60}
            identity = mote_identity(seed, number)
            self.targets.append(Target(identity.dev_eui, "lorawan", True, how, open_ended=True))

    def register(self, broker: RealBroker) -> None:
        brokers = self._crowd.brokers
        for number in range(len(brokers)):
            made(broker, "/lorawan/gateways", {"eui": gateway_eui(self._seed, number), "region": REGION})
        made(broker, "/applications", {"id": CUSTOMER, "kind": "loracenter", "cs_eui": CS_EUI, "app_key": APP_KEY})
        sessions = []
        for number, target in enumerate(self.targets):
            keys = [self._random.randbytes(16) for _ in range(2)]
            address = 0x01FA0000 + number
            sessions.append((address, *keys))
            identity = mote_identity(self._seed, number)
            names = {"dev_addr": f"{address:08X}", "nwk_s_key": keys[0].hex(), "app_s_key": keys[1].hex()}
            kind = {"class": "C" if self._is_c(number) else "A", "region": REGION}
            who = {"protocol": "lorawan", "id": target.id, "app_key": identity.app_key}
            made(broker, "/devices", {**who, **names, **kind})
            put(broker, f"/applications/{CUSTOMER}/devices/{target.id}")
        self._crowd.call(self._build, sessions)

    @staticmethod
    def _is_c(number: int) -> bool:
        return number % 3 == 2

    def _build(self, sessions: list[tuple[int, bytes, bytes]]) -> None:
        reactor, brokers, plan, block = self._crowd.reactor, self._crowd.brokers, PLANS[REGION], join_block(REGION)
        places = gateway_places(len(brokers), RADIUS)
        for number, broker in enumerate(brokers):
            link = UdpLink(reactor, ("127.0.0.1", broker.ports["lorawan"]))
            eui = gateway_eui(self._seed, number)
            heard = heard_channels(REGION, block)
            self._forwarders.append(Forwarder(self._air, eui, link, heard, plan.range, pull_every=1.0))
        for number, (target, session) in enumerate(zip(self.targets, sessions, strict=True)):
            traits = Traits(
                every=EVERY,
                payload=SIZE,
                confirmed=CONFIRMED,
                class_c=self._is_c(number),
                rate=plan.join_rates[0],
                channels=preset(REGION, block),
            )
            paths = mote_paths(self._dice, RADIUS, places)
            mote = SimulatedMote(self._air, plan, mote_identity(self._seed, number), traits, paths, self._dice)
            self._tallies[target.id] = mote.tally = OrderedTally(reactor.seconds(), target)
            mote.personalise(*session)
            self._motes.append(mote)

    def begin(self) -> None:
        def begin() -> None:
            for forwarder in self._forwarders:
                forwarder.start()
            for number, mote in enumerate(self._motes):
                mote.start(1.0 + number * EVERY / len(self._motes))
            self._customer.start()
            self._roaming.start()
            self._sending.start(SEND_EVERY, now=False)

        self._crowd.call(begin)

    def there(self) -> bool:
        return self._customer.registered and len({eui for eui, _ in self.uploads}) == len(self._motes)

    # -- the customer server ---------------------------------------------------------------------------------------

    def _send(self) -> None:
        if self._customer.registered:
            target = self._random.choice(self.targets)
            order = self._book.order(target, LORACENTER, LONG, "any process")
            more = {"Confirm": True} if target.options["confirm"] else {}
            self._sent[self._customer.send_to(target.id, bytes_of(order.mark), PORT, **more)] = order

    def _told(self, message: dict[str, Any]) -> None:
        if message["CMD"] == "UPLOAD":
            data = b64decode(message["payload"])
            self.uploads[message["DevEUI"], int.from_bytes(data[:4], "big")] += 1
        elif message["CMD"] == "SENDTO":
            order = self._sent.get(message["Token"])
            if order is None:
                self._book.odd.append(f"LoRaCenter: {message}")
            elif message["CODE"] == 1:
                self._book.took(order)
            elif order.taken is None:
                self._book.refused[f"SENDTO {message['CODE']}"] += 1

    # -- the end ---------------------------------------------------------------------------------------------------

    def go(self) -> None:
        self._roaming.staying = False

    def hush(self) -> None:
        def hush() -> None:
            self._roaming.staying = True
            if self._sending.running:
                self._sending.stop()

        self._crowd.call(hush)

    def faults(self) -> list[str]:
        twice = [key for key, count in list(self.uploads.items()) if count > self.times_said(*key)]
        return [f"uplinks came to the customer server twice: {twice[:NAMED]}"] if twice else []

    def times_said(self, dev_eui: str, number: int) -> int:
        """How often a message was in the air."""
        return self._tallies[dev_eui].said[number]

    def accounts(self) -> list[Account]:
        said = sum(mote.tally.messages for mote in self._motes)
        confirmed = sum(mote.tally.acknowledged for mote in self._motes)
        account = Account("lorawan, uplinks to LoRaCenter", confirmed, len(self.uploads))
        account.twice = sum(max(0, count - self.times_said(*key)) for key, count in list(self.uploads.items()))
        again = sum(count > 1 for count in list(self.uploads.values())) - account.twice
        account.note = f"of {said} said, best effort, {again} of them came as often as they were said"
        return [account]

    def progress(self) -> str:
        return f"LoRaWAN {len(self.uploads)} uplinks"

    def end(self) -> None:
        def stop() -> None:
            self._roaming.stop()
            if self._sending.running:
                self._sending.stop()
            self._customer.stop()
            for mote in self._motes:
                mote.stop()
            for forwarder in self._forwarders:
                forwarder.stop()

        self._crowd.call(stop)
