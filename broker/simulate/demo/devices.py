"""NovaCloud devices, 0x88 gateways and Gizwits devices of the demo: switched on together, troubled when it is time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredList
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

#: Seconds from one device that is switched on to the next.
GAP: Final = 0.05
#: Seconds between messages of the cast.
DATA_EVERY: Final = 3.0
HEARTBEAT_EVERY: Final = 5.0
REPORT_EVERY: Final = 4.0
#: Seconds until a gateway that was cut off is back.
RECONNECT_EVERY: Final = 10.0
#: So many times as long between messages of the crowd.
SLOWNESS: Final = 10.0

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
    """All of them. ``told(subject, what)`` hears what those of the cast do."""

    def __init__(
        self, reactor: Any, config: Config, keys: Keys, seed: int, extras: Iterable[Subject], told: Tell
    ) -> None:
        self._reactor = reactor
        self._config = config
        self._keys = keys
        self._seed = seed
        self._told = told
        self._context = unchecked_context()
        self._gateways = HostnameEndpoint(reactor, *place_of(config, "gateway88", "tls"))
        self._cast = {one.id: self._made(one, 1.0) for one in cast.SUBJECTS if one.protocol != cast.LORAWAN}
        crowd = [self._made(one, SLOWNESS) for one in extras if one.protocol != cast.LORAWAN]
        stranger = self._gateway(cast.STRANGER, 1.0, None)
        self._fleets = [
            Fleet(reactor, [*self._cast.values(), stranger], gap=GAP),
            Fleet(reactor, crowd, gap=min(GAP, 10.0 / max(1, len(crowd)))),
        ]

    def start(self) -> None:
        for fleet in self._fleets:
            fleet.start()

    def stop(self) -> Deferred[Any]:
        """Fires when all connections are gone."""
        return DeferredList([fleet.stop() for fleet in self._fleets])

    def trouble(self) -> None:
        """From now on something goes wrong now and then."""
        for device in self._cast.values():
            faults = (
                FAULTY
                if isinstance(device, SimulatedDevice)
                else FAULTY_GATEWAY
                if isinstance(device, SimulatedGateway)
                else FAULTY_GIZWITS
            )
            device.behaviour = replace(device.behaviour, **faults)

    def of(self, subject: Subject) -> Any:
        """The device of the cast that plays this subject."""
        return self._cast[subject.id]

    # -- making them -----------------------------------------------------------------------------------------------

    def _made(self, subject: Subject, slowness: float) -> Any:
        match subject.protocol:
            case cast.NOVACLOUD:
                return self._novacloud(subject, slowness)
            case cast.GATEWAY88:
                return self._gateway(bytes.fromhex(subject.id), slowness, self._teller(subject))
            case _:
                return self._gizwits(subject, slowness)

    def _teller(self, subject: Subject) -> Callable[[Any, str], None] | None:
        """What a device of the cast calls; the crowd says nothing."""
        if subject.id not in cast.BY_ID:
            return None
        return lambda _, what: self._told(subject, what)

    def _novacloud(self, subject: Subject, slowness: float) -> SimulatedDevice:
        endpoint = TCP4ClientEndpoint(self._reactor, *place_of(self._config, "novacloud"))
        identity = Identity(subject.id, self._keys.devices[subject.id])
        behaviour = Behaviour(data_every=DATA_EVERY * slowness)
        told = self._teller(subject)
        return SimulatedDevice(self._reactor, endpoint, identity, self._seed, behaviour, told)

    def _gateway(self, mac: bytes, slowness: float, told: Callable[[Any, str], None] | None) -> SimulatedGateway:
        behaviour = GatewayBehaviour(
            heartbeat_every=HEARTBEAT_EVERY * slowness,
            reconnect_every=RECONNECT_EVERY,
            wrong_type=mac[5] % 2 == 0,  # both kinds are about
        )
        return SimulatedGateway(self._reactor, self._gateways, mac, self._seed, behaviour, told, context=self._context)

    def _gizwits(self, subject: Subject, slowness: float) -> SimulatedGizwits:
        host, port = place_of(self._config, "gservice")
        device = SimulatedGizwits(
            self._reactor,
            HostnameEndpoint(self._reactor, host, port),
            f"{host}:{port}",
            lambda name, at: HostnameEndpoint(self._reactor, name, at),
            gizwits_identity(subject.product, cast.SEED, subject.number),
            self._seed,
            GizwitsBehaviour(report_every=REPORT_EVERY * slowness),
        )
        # It registers itself with the passcode that apps know already.
        device.flash.passcode = self._keys.devices[subject.id]
        return device
