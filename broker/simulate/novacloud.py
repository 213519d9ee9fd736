"""NovaCloud devices that are not there: clients that keep the guide's rules, with plausible values and a few faults.

What a device does, all from the guide: it authenticates at once (3.1), sends data and now and then its status (8.1), a
heartbeat every 60 s (5.2), answers every command and first with "pending" if that takes long (7, 9.4), and comes back
after a loss with a back-off that doubles from 1 to 60 s (8.2), authenticating anew.

Everything random comes from ``seed``: the same seed gives the same values, delays and faults in the same order. The
reactor is given; nothing here blocks.

    device = SimulatedDevice(reactor, TCP4ClientEndpoint(reactor, host, 8100), identity(7, 0), seed=7)
    device.start()
    ...
    yield device.stop()
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from random import Random
from typing import Any, Final
from uuid import UUID, uuid5

from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from broker.simulate.room import Room

#: Seconds (guide 8.2).
FIRST_DELAY: Final = 1.0
LONGEST_DELAY: Final = 60.0
#: Seconds to wait for the answer to auth.
PATIENCE: Final = 40.0
_IDENTITIES: Final = UUID("0b6f7a52-6d0e-4c55-9a57-51a1c0de0000")


@dataclass(frozen=True, slots=True)
class Identity:
    """Id and key of a device."""

    id: str
    key: str = field(repr=False)

    def registration(self, **more: Any) -> dict[str, Any]:
        """The object for `POST /devices`, or a line of `POST /devices/import`."""
        return {"protocol": "novacloud", "id": self.id, "secret": self.key, **more}


def identity(seed: int, number: int) -> Identity:
    """The same for the same numbers, so that registering and connecting can be done in two places."""
    name = f"{seed}/{number}"
    return Identity(str(uuid5(_IDENTITIES, name)), sha256(f"simulated {name}".encode()).hexdigest())


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """How a device behaves. Times are in seconds, rates are probabilities from 0 to 1."""

    #: Between data messages; 0 for none.
    data_every: float = 5.0
    #: Between heartbeats; the guide's standard.
    heartbeat_every: float = 60.0
    #: Between two attempts to connect, at most; the guide's.
    longest_delay: float = LONGEST_DELAY
    #: Data messages for each status message.
    data_per_status: int = 3
    #: Speak the dialect of the shipped server.
    flat: bool = False
    #: From a command to its answer.
    answer_after: float = 0.05
    #: Commands that take long: "pending" at once, the answer after `work_time`.
    pending_rate: float = 0.0
    work_time: float = 3.0
    #: Commands that fail.
    error_rate: float = 0.0
    #: Commands that are answered only after `late_after`.
    late_rate: float = 0.0
    late_after: float = 45.0
    #: Data messages that are spoiled, and moments at which the connection is dropped.
    malformed_rate: float = 0.0
    disconnect_rate: float = 0.0


#: A fleet in which something goes wrong now and then, for demos.
LIVELY: Final = Behaviour(
    pending_rate=0.2, error_rate=0.03, late_rate=0.01, malformed_rate=0.002, disconnect_rate=0.002
)


class Counts:
    """What a device has done."""

    __slots__ = ("acknowledged", "commands", "connections", "data", "errors", "faults", "logins", "refused")

    def __init__(self) -> None:
        self.connections = 0
        self.logins = 0
        self.refused = 0
        self.data = 0
        self.commands = 0
        self.acknowledged = 0
        #: Error lines from the broker.
        self.errors = 0
        #: Faults made on purpose.
        self.faults = 0


class DeviceConnection(Protocol):
    """One connection of a simulated device: lines in both directions."""

    def __init__(self, device: SimulatedDevice) -> None:
        self.device = device
        self._rest = b""

    def connectionMade(self) -> None:
        self.device.connected(self)

    def dataReceived(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if not line.strip():
                continue
            try:
                message = json.loads(line)
            except ValueError:
                message = None
            if not isinstance(message, dict):
                self.drop()
                return
            self.device.received(message)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.device.lost(self)

    def write(self, data: bytes) -> None:
        if self.transport is not None:
            self.transport.write(data)

    def drop(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()


class SimulatedDevice:
    """A device that connects, and goes on connecting until it is stopped.

    ``endpoint`` is any Twisted client endpoint; ``told(device, what)`` hears a word about each thing that happens.
    """

    def __init__(
        self,
        reactor: Any,
        endpoint: Any,
        identity: Identity,
        seed: int = 0,
        behaviour: Behaviour | None = None,
        told: Callable[[SimulatedDevice, str], None] | None = None,
    ) -> None:
        self.identity = identity
        self.behaviour = behaviour if behaviour is not None else Behaviour()
        self.counts = Counts()
        self.running = False
        #: Logged in.
        self.online = False
        self.random = Random(f"{seed} {identity.id}")
        self.room = Room(self.random, reactor.seconds)
        self._reactor = reactor
        self._endpoint = endpoint
        self._told = told
        self._connection: DeviceConnection | None = None
        self._connecting: Deferred[Any] | None = None
        self._timers: set[Any] = set()
        self._delay = FIRST_DELAY
        self._stopped: Deferred[None] | None = None

    # -- from outside ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Connect now. Harmless twice."""
        if not self.running:
            self.running = True
            self._connect()

    def stop(self) -> Deferred[None]:
        """Close, and connect no more; fires when the connection is gone."""
        self.running = False
        self._cancel_timers()
        if self._connecting is not None:
            self._connecting.cancel()
        if self._connection is None:
            return succeed(None)
        if self._stopped is None:
            self._stopped = Deferred()
            self._connection.drop()
        return self._stopped

    def disconnect(self) -> None:
        """Drop the connection, as a bad network does; the device comes back by itself."""
        if self._connection is not None:
            self._connection.drop()

    def send(self, message: dict[str, Any]) -> None:
        """One line, if there is a connection."""
        self.send_raw(encode(message))

    def send_raw(self, data: bytes) -> None:
        if self._connection is not None:
            self._connection.write(data)

    def send_data(self) -> None:
        """The present values, once."""
        self.counts.data += 1
        self.send(self.data_message())

    def burst(self, count: int) -> None:
        """Many data messages in one write, as after an outage."""
        self.counts.data += count
        self.send_raw(b"".join(encode(self.data_message()) for _ in range(count)))

    def data_message(self) -> dict[str, Any]:
        return {"type": "data", "timestamp": int(self._reactor.seconds()), "payload": self.room.measure()}

    # -- from the connection ---------------------------------------------------------------------------------------

    def connected(self, connection: DeviceConnection) -> None:
        self._connection = connection
        self.counts.connections += 1
        self._later(PATIENCE, self.disconnect)
        names = {"device_id": self.identity.id, "device_key": self.identity.key}
        self.send({"type": "auth", **names} if self.behaviour.flat else {"type": "auth", "payload": names})

    def received(self, message: dict[str, Any]) -> None:
        if not self.running:
            return
        kind = message.get("type")
        if kind == "command":
            self._obey(message)
        elif kind == "auth_response":
            self._answered(message)
        elif kind == "error":
            self.counts.errors += 1
            self._tell(f"error: {message.get('message')}")
        elif message.get("status") == "ok":
            self.counts.acknowledged += 1

    def lost(self, connection: DeviceConnection) -> None:
        if connection is not self._connection:
            return
        self._connection = None
        self.online = False
        self._cancel_timers()
        if self._stopped is not None:
            stopped, self._stopped = self._stopped, None
            stopped.callback(None)
        if self.running:
            self._try_again()

    # -- connecting ------------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        self._connecting = connecting = self._endpoint.connect(Factory.forProtocol(lambda: DeviceConnection(self)))
        connecting.addCallbacks(self._made, self._not_made)

    def _made(self, connection: DeviceConnection) -> None:
        self._connecting = None
        if not self.running:
            connection.drop()

    def _not_made(self, failure: Failure) -> None:
        self._connecting = None
        self._tell(f"cannot connect: {failure.getErrorMessage()}")
        if self.running:
            self._try_again()

    def _try_again(self) -> None:
        delay = self._delay
        self._delay = min(self._delay * 2, self.behaviour.longest_delay)
        self._tell(f"comes back in {delay:g} s")
        self._later(delay, self._connect)

    def _answered(self, message: dict[str, Any]) -> None:
        payload = message.get("payload", {})
        if payload.get("status") != "success":
            self.counts.refused += 1
            self._tell(f"refused: {payload.get('message')}")
            self.disconnect()
            return
        self._cancel_timers()
        self._delay = FIRST_DELAY
        self.counts.logins += 1
        self.online = True
        self._tell("logged in")
        self._heartbeat()
        if self.behaviour.data_every > 0:
            # Not all devices of a fleet at the same moment.
            self._later(self.random.uniform(0, self.behaviour.data_every), self._report)

    # -- being a device --------------------------------------------------------------------------------------------

    def _heartbeat(self) -> None:
        self.send({"type": "heartbeat"})
        self._later(self.behaviour.heartbeat_every, self._heartbeat)

    def _report(self) -> None:
        behaviour = self.behaviour
        self._later(behaviour.data_every, self._report)
        if self._happens(behaviour.malformed_rate):
            self.counts.faults += 1
            line = encode(self.data_message())
            self.send_raw(line[: self.random.randrange(1, len(line) - 1)] + b"\n")
            return
        self.send_data()
        if behaviour.data_per_status and self.counts.data % behaviour.data_per_status == 0:
            self.send({"type": "status", "payload": self.room.status()})
        if self._happens(behaviour.disconnect_rate):
            self.counts.faults += 1
            self.disconnect()

    def _obey(self, command: dict[str, Any]) -> None:
        behaviour = self.behaviour
        self.counts.commands += 1
        delay = behaviour.answer_after
        if self._happens(behaviour.pending_rate):
            self._answer(command, "pending", {"progress": 0})
            delay = behaviour.work_time
        if self._happens(behaviour.late_rate):
            self.counts.faults += 1
            delay = behaviour.late_after
        failing = self._happens(behaviour.error_rate)
        self._later(delay, lambda: self._finish(command, failing, delay))

    def _finish(self, command: dict[str, Any], failing: bool, took: float) -> None:
        asked = command.get("payload")
        if failing or not isinstance(asked, dict):
            self._answer(command, "error", {"error": "the actuator does not move"})
            return
        state = self.room.set(asked)
        self._answer(command, "success", {"current_state": state, "execution_time": took})

    def _answer(self, command: dict[str, Any], status: str, payload: dict[str, Any]) -> None:
        self.send(
            {
                "type": "command_response",
                "command_id": command.get("command_id"),
                "status": status,
                "payload": payload,
            }
        )

    # -- inside ----------------------------------------------------------------------------------------------------

    def _happens(self, rate: float) -> bool:
        return rate > 0 and self.random.random() < rate

    def _later(self, delay: float, call: Callable[[], None]) -> None:
        def run() -> None:
            self._timers.discard(timer)
            call()

        timer = self._reactor.callLater(delay, run)
        self._timers.add(timer)

    def _cancel_timers(self) -> None:
        timers, self._timers = self._timers, set()
        for timer in timers:
            timer.cancel()

    def _tell(self, what: str) -> None:
        if self._told is not None:
            self._told(self, what)

    def __repr__(self) -> str:
        return f"<SimulatedDevice {self.identity.id}{' online' if self.online else ''}>"


def encode(message: dict[str, Any]) -> bytes:
    """As the guide's client does."""
    return (json.dumps(message) + "\n").encode("utf-8")
