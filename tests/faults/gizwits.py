"""Gizwits devices with their GService, and an app of a user who is bound to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from random import Random
from typing import Any, Final

from twisted.internet.task import LoopingCall

from broker.devices.gizwits import codec as g
from broker.devices.gizwits.identity import derived_did
from broker.simulate.gizwits import SimulatedGizwits
from broker.simulate.gizwits_app import GizwitsApp
from broker.simulate.gizwits_lamp import Lamp
from broker.simulate.gizwits_traits import GizwitsBehaviour, gizwits_identity
from tests.faults.calls import made
from tests.faults.crowd import Crowd
from tests.faults.kinds import Kind
from tests.faults.targets import Target, bytes_of, mark_in, new_mark
from tests.ledger import NAMED, Account
from tests.real import RealBroker

PRODUCT: Final = "fa017500fa017500fa017500fa017500"
APPLICATION: Final = "storm-gizwits"
#: The chance of each device, and of the app, to leave in a second.
RATE: Final = 0.1
APP_RATE: Final = 0.05
#: Seconds between two things that the app asks for.
ASK_EVERY: Final = 0.3
#: A real one takes its time.
QUICK: Final = GizwitsBehaviour(report_every=1.0, ping_every=1.5, tempo=10.0)


class OrderedLamp(Lamp):
    """Notes what it is ordered; every order is answered at once."""

    def __init__(self, target: Target, random: Random) -> None:
        super().__init__(random)
        self._target = target

    def hear(self, data: bytes) -> bytes:
        mark = mark_in(data)
        self._target.got(mark)
        if mark is not None:
            self._target.answered.add(mark)
        return super().hear(data)


class _AppMember:
    """The app, as what roams."""

    def __init__(self, app: GizwitsApp) -> None:
        self._app = app

    @property
    def online(self) -> bool:
        return self._app.mqtt is not None and self._app.mqtt.connected

    def disconnect(self) -> None:
        if self._app.mqtt is not None:
            self._app.mqtt.cut()


class GizwitsKind(Kind):
    """What the app asks for is QoS 0 both ways: it may be lost, and must not come twice."""

    name = "gizwits"

    def __init__(self, crowd: Crowd, count: int, seed: int) -> None:
        super().__init__()
        self._crowd = crowd
        self._place = crowd.anywhere("mqtt")
        self._app_place = crowd.anywhere("mqtt")
        self._devices: list[SimulatedGizwits] = []
        for number in range(count):
            who = gizwits_identity(PRODUCT, seed, number)
            gservice = crowd.anywhere("gservice")
            device = SimulatedGizwits(
                crowd.reactor, gservice, "127.0.0.1:8081", lambda host, port: self._place, who, seed, QUICK
            )
            target = Target(derived_did(PRODUCT, who.mac), "gizwits", takes_bytes=True, options={"ack": True})
            device.lamp = OrderedLamp(target, device.random)
            self.targets.append(target)
            self._devices.append(device)
        self._roaming = [crowd.roaming(self._devices, self._place, RATE)]
        self._app: GizwitsApp | None = None
        self._asking = LoopingCall(self._ask)
        self._asking.clock = crowd.reactor
        self._random = Random(seed)
        #: number of a request -> its mark; what devices said about them
        self._asked: dict[int, int] = {}
        self._acknowledged: Counter[int] = Counter()

    @staticmethod
    def settings() -> Mapping[str, str]:
        return {"listeners.gservice.max_pings": "0"}

    def register(self, broker: RealBroker) -> None:
        made(broker, "/products", {"key": PRODUCT, "name": "Lamp", "protocol": "gizwits"})
        made(broker, "/applications", {"id": APPLICATION, "kind": "gizwits"})
        for device in self._devices:
            mac, passcode = device.identity.mac, device.flash.passcode
            who = {"protocol": "gizwits", "id": derived_did(PRODUCT, mac), "product": PRODUCT, "mac": mac}
            made(broker, "/devices", {**who, "secret": passcode})
        self._crowd.run(lambda: self._sign_in(broker))

    async def _sign_in(self, broker: RealBroker) -> None:
        """Before any fault, at one process."""
        app = GizwitsApp(
            self._crowd.reactor,
            f"http://127.0.0.1:{broker.ports['gservice']}",
            APPLICATION,
            "phone",
            lambda host, port: self._app_place,
            self._heard,
        )
        self._app = app
        await app.log_in()
        targets = zip(self.targets, self._devices, strict=True)
        await app.bind_all([(target.id, device.flash.passcode, "lamp") for target, device in targets])

    def begin(self) -> None:
        async def begin() -> None:
            for device in self._devices:
                device.start()
            app = self._app
            assert app is not None
            await app.start()
            self._roaming.append(self._crowd.roaming([_AppMember(app)], self._app_place, APP_RATE))
            for roaming in self._roaming:
                roaming.start()
            self._asking.start(ASK_EVERY, now=False)

        self._crowd.run(begin)

    def there(self) -> bool:
        return all(device.online for device in self._devices)

    def _ask(self) -> None:
        app = self._app
        if app is None or app.mqtt is None or not app.mqtt.connected:
            return
        mark = new_mark()
        number = app.control(self._random.choice(self.targets).id, bytes_of(mark), acknowledged=True)
        self._asked[number] = mark

    def _heard(self, did: str, packet: g.Business) -> None:
        if isinstance(packet, g.Ack) and packet.sn in self._asked:
            self._acknowledged[packet.sn] += 1

    def go(self) -> None:
        for roaming in self._roaming:
            roaming.staying = False

    def hush(self) -> None:
        def hush() -> None:
            if self._asking.running:
                self._asking.stop()
            for roaming in self._roaming:
                roaming.staying = True

        self._crowd.call(hush)

    def _times(self, mark: int) -> int:
        return sum(target.came[mark] for target in self.targets)

    def faults(self) -> list[str]:
        twice = [number for number, mark in list(self._asked.items()) if self._times(mark) > 1]
        found = [f"Gizwits app: requests {twice[:NAMED]} came to their devices twice"] if twice else []
        again = [number for number, count in list(self._acknowledged.items()) if count > 1]
        return found + ([f"Gizwits app: it was told twice of requests {again[:NAMED]}"] if again else [])

    def accounts(self) -> list[Account]:
        came = sum(1 for mark in list(self._asked.values()) if self._times(mark))
        twice = sum(1 for mark in list(self._asked.values()) if self._times(mark) > 1)
        account = Account("Gizwits app, QoS 0", len(self._acknowledged), came, twice=twice)
        account.note = f"of {len(self._asked)} requests, best effort"
        return [account]

    def progress(self) -> str:
        return f"Gizwits {sum(device.online for device in self._devices)} of {len(self._devices)} online"

    def end(self) -> None:
        def stop() -> Any:
            if self._asking.running:
                self._asking.stop()
            for roaming in self._roaming:
                roaming.stop()

        self._crowd.call(stop)
        for device in self._devices:
            self._crowd.call(device.stop)
        app = self._app
        if app is not None:
            self._crowd.run(app.stop)
