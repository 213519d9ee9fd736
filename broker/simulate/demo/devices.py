"""NovaCloud devices, 0x88 gateways and Gizwits devices of the demo: switched on together, troubled when it is time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Final, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint

from broker.config import Config
from broker.simulate.demo import cast
from broker.simulate.demo.cast import Subject
from broker.simulate.demo.enrolment import Keys
from broker.simulate.demo.places import place_of
from broker.simulate.fleet import Fleet
from broker.simulate.gateway88.behaviour import Behaviour as GatewayBehaviour
from broker.simulate.gateway88.connecting import unchecked_context
from broker.simulate.gateway88.gateway import SimulatedGateway
from broker.simulate.gizwits import SimulatedGizwits
from broker.simulate.gizwits_traits import GizwitsBehaviour, gizwits_identity
from broker.simulate.novacloud import Behaviour, Identity, SimulatedDevice

Tell = Callable[[Subject, str], None]

#: Seconds from one device that is switched on to the next, and until the last one is on if there are many.
GAP: Final = 0.05
ALL_ON: Final = 10.0
#: Seconds until a gateway that was cut off is back.
RECONNECT_EVERY: Final = 10.0


class Pace(NamedTuple):
    """Seconds between messages: data of NovaCloud devices, heartbeats of gateways, reports of Gizwits devices."""

    data: float
    heartbeat: float
    report: float


#: There is something to see.
CAST_PACE: Final = Pace(3.0, 5.0, 4.0)
#: There are many.
CROWD_PACE: Final = Pace(30.0, 30.0, 40.0)

FAULTY: Final = {
    "pending_rate": 0.2,
    "work_time": 2.0,
    "error_rate": 0.1,
    "malformed_rate": 0.02,
    "disconnect_rate": 0.01,
}
FAULTY_GATEWAY: Final = {"late_rate": 0.02, "loss_rate": 0.005, "error_rate": 0.05, "newdevices_rate": 0.05}
FAULTY_GIZWITS: Final = {"disconnect_rate": 0.01}


class Devices:
    """Some of them; those of LoRaWAN are not theirs. ``told(subject, what)`` hears what they do.

    ``strangers``: MACs of gateways that nobody has registered.
    """

    def __init__(
        self,
        reactor: Any,
        config: Config,
        keys: Keys,
        seed: int,
        subjects: Iterable[Subject],
        pace: Pace,
        told: Tell | None = None,
        strangers: Iterable[bytes] = (),
    ) -> None:
        self._reactor = reactor
        self._config = config
        self._keys = keys
        self._seed = seed
        self._pace = pace
        self._told = told
        self._context = unchecked_context()
        self._gateways = HostnameEndpoint(reactor, *place_of(config, "gateway88", "tls"))
        self._devices = {one.id: self._made(one) for one in subjects if one.protocol != cast.LORAWAN}
        everybody = [*self._devices.values(), *(self._gateway(mac, None) for mac in strangers)]
        self._fleet = Fleet(reactor, everybody, gap=min(GAP, ALL_ON / max(1, len(everybody))))

    def start(self) -> None:
        self._fleet.start()

    def stop(self) -> Deferred[Any]:
        """Fires when all connections are gone."""
        return self._fleet.stop()

    def trouble(self) -> None:
        """From now on something goes wrong now and then."""
        for device in self._devices.values():
            faults = (
                FAULTY
                if isinstance(device, SimulatedDevice)
                else FAULTY_GATEWAY
                if isinstance(device, SimulatedGateway)
                else FAULTY_GIZWITS
            )
            device.behaviour = replace(device.behaviour, **faults)

    def of(self, subject: Subject) -> Any:
        """The device that plays this subject."""
        return self._devices[subject.id]

    # -- making them -----------------------------------------------------------------------------------------------

    def _made(self, subject: Subject) -> Any:
        match subject.protocol:
            case cast.NOVACLOUD:
                return self._novacloud(subject)
            case cast.GATEWAY88:
                return self._gateway(bytes.fromhex(subject.id), self._teller(subject))
            case _:
                return self._gizwits(subject)

    def _teller(self, subject: Subject) -> Callable[[Any, str], None] | None:
        """What a device calls."""
        told = self._told
        return None if told is None else lambda _, what: told(subject, what)

    def _novacloud(self, subject: Subject) -> SimulatedDevice:
        endpoint = TCP4ClientEndpoint(self._reactor, *place_of(self._config, "novacloud"))
        identity = Identity(subject.id, self._keys.devices[subject.id])
        behaviour = Behaviour(data_every=self._pace.data)
        told = self._teller(subject)
        return SimulatedDevice(self._reactor, endpoint, identity, self._seed, behaviour, told)

    def _gateway(self, mac: bytes, told: Callable[[Any, str], None] | None) -> SimulatedGateway:
        behaviour = GatewayBehaviour(
            heartbeat_every=self._pace.heartbeat,
            reconnect_every=RECONNECT_EVERY,
            wrong_type=mac[5] % 2 == 0,  # both kinds are about
        )
        return SimulatedGateway(self._reactor, self._gateways, mac, self._seed, behaviour, told, context=self._context)

    def _gizwits(self, subject: Subject) -> SimulatedGizwits:
        host, port = place_of(self._config, "gservice")
        device = SimulatedGizwits(
            self._reactor,
            HostnameEndpoint(self._reactor, host, port),
            f"{host}:{port}",
            lambda name, at: HostnameEndpoint(self._reactor, name, at),
            gizwits_identity(subject.product, cast.SEED, subject.number),
            self._seed,
            GizwitsBehaviour(report_every=self._pace.report),
        )
        # It registers itself with the passcode that apps know already.
        device.flash.passcode = self._keys.devices[subject.id]
        return device
