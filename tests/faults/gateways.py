"""0x88 gateways over TLS: heartbeats, and operations with their answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from broker.simulate.gateway88.behaviour import Behaviour, mac_of, registration
from broker.simulate.gateway88.connecting import unchecked_context
from broker.simulate.gateway88.gateway import SimulatedGateway
from tests.faults.calls import made
from tests.faults.crowd import Crowd
from tests.faults.kinds import Kind
from tests.faults.targets import Target
from tests.real import RealBroker

#: The chance of each gateway to leave in a second.
RATE: Final = 0.1
#: The document's times are those of a slow line.
QUICK: Final = Behaviour(heartbeat_every=1.0, reconnect_every=1.0, answer_within=1.5)


class Gateway88Kind(Kind):
    name = "gateway88"

    def __init__(self, crowd: Crowd, count: int, seed: int) -> None:
        super().__init__()
        self._crowd = crowd
        self._place = crowd.anywhere("gateway88", tls=True)
        context = unchecked_context()
        self._gateways: list[SimulatedGateway] = []
        for number in range(count):
            gateway = SimulatedGateway(crowd.reactor, self._place, mac_of(seed, number), seed, QUICK, context=context)
            target = Target(gateway.id, "gateway88", at_least_once=True)
            gateway.on_command = self._obeying(target)
            self.targets.append(target)
            self._gateways.append(gateway)
        self._roaming = crowd.roaming(self._gateways, self._place, RATE)

    @staticmethod
    def settings() -> Mapping[str, str]:
        return {"listeners.gateway88.bind": '["tls:0:interface=127.0.0.1"]'}

    @staticmethod
    def _obeying(target: Target) -> Any:
        def obeyed(command: dict[str, Any]) -> None:
            mark = command["cmd"]["mark"]
            target.got(mark)
            target.answered.add(mark)  # it does so at once

        return obeyed

    def register(self, broker: RealBroker) -> None:
        for gateway in self._gateways:
            made(broker, "/devices", registration(gateway.mac))

    def begin(self) -> None:
        def begin() -> None:
            for gateway in self._gateways:
                gateway.start()
            self._roaming.start()

        self._crowd.call(begin)

    def there(self) -> bool:
        return all(gateway.online for gateway in self._gateways)

    def go(self) -> None:
        self._roaming.staying = False

    def hush(self) -> None:
        self._roaming.staying = True

    def progress(self) -> str:
        return f"0x88 {sum(gateway.online for gateway in self._gateways)} of {len(self._gateways)} online"

    def end(self) -> None:
        self._crowd.call(self._roaming.stop)
        for gateway in self._gateways:
            self._crowd.call(gateway.stop)
