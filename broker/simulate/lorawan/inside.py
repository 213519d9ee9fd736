"""A LoRaWAN network of the broker's own in this process, on simulated time: all of it but sockets, threads and disk.

What comes out of it is watched here: every message, once and only once; every command and what became of it.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from zope.interface import implementer

from broker.core import Core
from broker.devices.lorawan import Settings, build
from broker.model.interfaces import IConsumer
from broker.model.messages import FAILED, RAW, Command, Presence, Uplink
from broker.routing.commands import Commands
from broker.routing.live import LiveDevices
from broker.routing.outbox import Turn
from broker.routing.router import Router
from broker.routing.topic_index import TopicIndex
from broker.simulate.lorawan.clock import SimulatedClock
from broker.simulate.lorawan.links import Wire
from broker.simulate.lorawan.memory import SimulatedStorage
from broker.simulate.lorawan.session import MoteIdentity
from broker.storage.quarantine import Quarantine
from broker.storage.registry import Registry

#: UNIX seconds of the beginning of every simulation.
BEGINS: Final = 1_700_000_000.0
TICK: Final = 1.0


@implementer(IConsumer)
class Watcher:
    """Counts what crosses the router. Messages are told apart by the number that begins their payload."""

    def __init__(self) -> None:
        #: By DevEUI.
        self.delivered: dict[str, set[int]] = {}
        self.twice = 0
        self.joins = 0
        #: Of commands: how many are in each state, and why they failed.
        self.states: dict[str, str] = {}
        self.failures: Counter[str] = Counter()
        self.statuses: Counter[str] = Counter()

    def uplink(self, message: Uplink) -> None:
        payload = message.payload
        if message.kind != RAW or not isinstance(payload, bytes):
            self.statuses[message.kind] += 1
            return
        known = self.delivered.setdefault(message.device.id, set())
        number = int.from_bytes(payload[:4], "big")
        if number in known:
            self.twice += 1
        known.add(number)

    def presence(self, change: Presence) -> None:
        self.joins += change.online

    def command(self, change: Command) -> None:
        self.states[change.id] = change.status
        if change.status == FAILED:
            result = change.result if isinstance(change.result, dict) else {}
            self.failures[str(result.get("error", "?"))] += 1


class Inside:
    """``settings`` are those of [listeners.lorawan]; ``before``: an earlier life, on whose storage it goes on."""

    def __init__(self, clock: SimulatedClock, wire: Wire, settings: Settings, before: Inside | None = None) -> None:
        self.clock = clock
        self.faults: list[tuple[str, BaseException]] = [] if before is None else before.faults
        self.watcher: Watcher = Watcher() if before is None else before.watcher
        self._ordered: int = 0 if before is None else before._ordered
        self._ticking: Any = None
        self._kept: SimulatedStorage = SimulatedStorage() if before is None else before._kept
        self.core = self._core()
        self.listener = build(self.core, settings)
        self.network = self.listener.network
        self.listener.prepare().addErrback(self._failed)
        self._socket = self.listener.datagram_protocol()
        transport: Any = wire
        self._socket.transport = transport
        wire.deliver = self._deliver
        self._tick()

    def _core(self) -> Core:
        """The parts of a broker that this side uses, as `broker.service` has them all."""
        clock = self.clock
        router = Router(lambda what, error: self.faults.append((what, error)))
        router.listen(self.watcher)
        storage: Any = self._kept
        unused: Any = None

        def unix() -> float:
            return BEGINS + clock.seconds()

        devices = LiveDevices(router, unix)
        commands = Commands(storage, devices, router, unix)
        commands.restore(self._kept.open())
        return Core(
            reactor=clock,
            clock=unix,
            monotonic=clock.seconds,
            turn=Turn(lambda flush: clock.callLater(0, flush)),
            router=router,
            devices=devices,
            commands=commands,
            storage=storage,
            registry=Registry(storage, unix),
            topics=TopicIndex(),
            files=unused,
            quarantine=Quarantine(storage, unix),
        )

    def _failed(self, failure: Any) -> None:
        self.faults.append(("start", failure.value))

    def _deliver(self, data: bytes, address: tuple[str, int]) -> None:
        self.listener.received(self._socket, data, address)

    def _tick(self) -> None:
        self.core.commands.tick()
        self.listener.tick()
        self._ticking = self.clock.callLater(TICK, self._tick)

    def register(self, identity: MoteIdentity, **fields: Any) -> None:
        """A mote is made known."""
        self.core.registry.add_device(identity.registration(**fields)).addErrback(self._failed)

    def order(self, dev_eui: str, payload: bytes, expires: float = 86_400.0, **options: Any) -> str:
        """A command for a mote; its id."""
        self._ordered += 1
        now = self.core.clock()
        id = f"00000000-0000-4000-8000-{self._ordered:012d}"
        command = Command(id, dev_eui, "lorawan", payload, "admin", now, now + expires, options=options)

        def kept(error: Exception | None) -> None:
            if error is not None:
                self.faults.append(("order", error))

        self.core.commands.submit(command, kept)
        return id

    def kill(self) -> None:
        """It is gone, as if by a power cut: nothing is written any more. What comes then is lost."""
        self._ticking.cancel()
        self.network.agenda.stop()

    def stop(self) -> None:
        self._ticking.cancel()
        self.listener.shut_down()
