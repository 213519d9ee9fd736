"""NovaCloud devices."""

from __future__ import annotations

from typing import Any, Final

from broker.simulate.novacloud import Behaviour, SimulatedDevice, identity
from tests.faults.calls import made
from tests.faults.crowd import Crowd
from tests.faults.kinds import Kind
from tests.faults.targets import Target
from tests.real import RealBroker

#: Seconds between data messages; the chance of each device to leave in a second.
EVERY: Final = 0.5
RATE: Final = 0.25


class OrderedDevice(SimulatedDevice):
    """Notes what it is ordered, and numbers what it says."""

    def __init__(self, target: Target, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._target = target
        #: command id -> mark, on the present connection
        self._marks: dict[str, int] = {}

    def connected(self, connection: Any) -> None:
        self._marks.clear()
        super().connected(connection)

    def received(self, message: dict[str, Any]) -> None:
        if message.get("type") == "command":
            mark = message["payload"].get("mark")
            self._marks[message["command_id"]] = mark
            self._target.got(mark)
        super().received(message)

    def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "command_response" and message["status"] == "success":
            self._target.answered.add(self._marks[message["command_id"]])
        super().send(message)

    def data_message(self) -> dict[str, Any]:
        return {"type": "data", "payload": {"number": self.counts.data}}


class NovaCloudKind(Kind):
    name = "novacloud"

    def __init__(self, crowd: Crowd, count: int, seed: int) -> None:
        super().__init__()
        self._crowd = crowd
        self._place = crowd.anywhere("novacloud")
        self._devices: list[OrderedDevice] = []
        behaviour = Behaviour(data_every=EVERY, data_per_status=0, longest_delay=2.0)
        for number in range(count):
            who = identity(seed, number)
            target = Target(who.id, "novacloud")
            self.targets.append(target)
            self._devices.append(OrderedDevice(target, crowd.reactor, self._place, who, seed, behaviour))
        self._roaming = crowd.roaming(self._devices, self._place, RATE)

    def register(self, broker: RealBroker) -> None:
        for device in self._devices:
            made(broker, "/devices", device.identity.registration())

    def begin(self) -> None:
        def begin() -> None:
            for device in self._devices:
                device.start()
            self._roaming.start()

        self._crowd.call(begin)

    def there(self) -> bool:
        return all(device.online for device in self._devices)

    def go(self) -> None:
        self._roaming.staying = False

    def hush(self) -> None:
        self._roaming.staying = True

    def progress(self) -> str:
        return f"NovaCloud {sum(device.online for device in self._devices)} of {len(self._devices)} online"

    def end(self) -> None:
        self._crowd.call(self._roaming.stop)
        for device in self._devices:
            self._crowd.call(device.stop)
