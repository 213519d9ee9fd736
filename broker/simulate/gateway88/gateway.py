"""A 0x88 gateway that is not there.

What it does, all from the document: it connects every 30 s until it succeeds, tells about itself first, sends a
heartbeat every 30 s, answers every command, repeats what is not answered, and gives a connection up after five sends
without an answer. It fetches firmware, checks its MD5, reboots and comes back with the new version; it posts its data
for a backup, and takes over what it fetches for a recovery.

Everything random comes from ``seed``. The reactor is given; nothing here blocks.

    gateway = SimulatedGateway(reactor, TCP4ClientEndpoint(reactor, host, 30000), mac_of(7, 0), seed=7)
    gateway.start()
    ...
    yield gateway.stop()
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from hashlib import md5
from random import Random
from typing import Any, Final

from OpenSSL import SSL
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from broker.devices.gateway88.codec import (
    DATAFILE_BACKUP,
    DATAFILE_RECOVERY,
    FIRMWARE_UPDATE,
    GATEWAY_INFO,
    HB,
    NEWDEVICES,
    OURS,
    REMOTE_CONTROL,
)
from broker.devices.gateway88.frames import Damage, Frame, FrameDecoder
from broker.simulate.gateway88.behaviour import Behaviour, Counts, mac_text
from broker.simulate.gateway88.connecting import Resuming, unchecked_context
from broker.simulate.gateway88.memory import Memory
from broker.simulate.gateway88.speech import Speech
from broker.simulate.gateway88.transfers import TransferError, Transfers

#: Bytes of a frame.
MAX_FRAME: Final = 1_048_576
#: Bytes of the data that a new gateway has for its backups.
DATA_SIZE: Final = 4_096


class GatewayConnection(Protocol):
    """One connection of a simulated gateway."""

    def __init__(self, gateway: SimulatedGateway) -> None:
        self.gateway = gateway
        self.speech = Speech(gateway.mac, gateway.behaviour)
        self._decoder = FrameDecoder(MAX_FRAME)
        self._noted = False

    def connectionMade(self) -> None:
        self.gateway.connected(self)

    def dataReceived(self, data: bytes) -> None:
        if not self._noted:
            self._noted = True
            self.gateway.counts.resumed += self.gateway.tls.note(self.transport)
        for item in self._decoder.feed(data):
            if isinstance(item, Damage) or item.mac != self.gateway.mac:
                self.drop()
                return
            self.gateway.received(self, item)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.gateway.tls.ended()
        self.gateway.lost(self)

    def write(self, data: bytes) -> None:
        if self.transport is not None:
            self.transport.write(data)

    def drop(self) -> None:
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()


class SimulatedGateway:
    """A gateway that connects, and goes on connecting until it is stopped.

    ``endpoint`` is any Twisted client endpoint, to which TLS is added unless ``plain``; ``context`` is for a fleet to
    share; ``told(gateway, what)`` hears a word about each thing that happens.
    """

    def __init__(
        self,
        reactor: Any,
        endpoint: Any,
        mac: bytes,
        seed: int = 0,
        behaviour: Behaviour | None = None,
        told: Callable[[SimulatedGateway, str], None] | None = None,
        *,
        context: SSL.Context | None = None,
        resume: bool = True,
        plain: bool = False,
    ) -> None:
        self.mac = mac
        self.id = mac_text(mac)
        self.behaviour = behaviour if behaviour is not None else Behaviour()
        self.counts = Counts()
        self.running = False
        #: The broker has answered on the present connection.
        self.online = False
        self.random = Random(f"{seed} {self.id}")
        #: What is running, and what a backup has.
        self.version = "2.3.1"
        self.firmware = b""
        self.data = self.random.randbytes(DATA_SIZE)
        self.memory = Memory(Random(f"{seed} {self.id} memory"))
        context = context if context is not None else unchecked_context()
        self.tls = Resuming(context, resume)
        self.transfers = Transfers(reactor, self.behaviour, context)
        #: Hears each command that it is given for the first time, decoded.
        self.on_command: Callable[[dict[str, Any]], object] | None = None
        self._reactor = reactor
        self._endpoint = endpoint if plain else wrapClientTLS(self.tls, endpoint)
        self._told = told
        self._connection: GatewayConnection | None = None
        self._connecting: Deferred[Any] | None = None
        self._timers: set[Any] = set()
        self._repeating: Any = None
        self._works: set[Deferred[Any]] = set()
        self._stopped: Deferred[None] | None = None
        #: When the next attempt to connect is due in the gateway's own rhythm.
        self._beat = 0.0

    # -- from outside ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Connect now. Harmless twice."""
        if not self.running:
            self.running = True
            self._beat = self._reactor.seconds()
            self._connect()

    def stop(self) -> Deferred[None]:
        """Close, and connect no more; fires when the connection is gone."""
        self.running = False
        self._cancel_timers()
        for work in list(self._works):
            work.cancel()
        if self._connecting is not None:
            self._connecting.cancel()
        if self._connection is None:
            return succeed(None)
        stopped = self._stopped
        if stopped is None:
            stopped = self._stopped = Deferred()
            self._connection.drop()
        return stopped

    def disconnect(self) -> None:
        """Drop the connection, as a bad network does; the gateway comes back by itself."""
        if self._connection is not None:
            self._connection.drop()

    def reboot(self) -> None:
        """Go, and be back after a while."""
        self.counts.reboots += 1
        self._tell("reboots")
        self._beat = self._reactor.seconds() + self.behaviour.reboot_time
        if self._connection is not None:
            self._connection.drop()

    def say(self, value: dict[str, Any]) -> None:
        """Send something and repeat it until it is answered, if there is a connection."""
        connection = self._connection
        if connection is not None:
            self._write(connection, connection.speech.say(value, self._reactor.seconds()))
            self._watch(connection)

    def introduce(self) -> None:
        """Tell about ourselves."""
        self.say({"type": GATEWAY_INFO, GATEWAY_INFO: self.info()})

    def report_new_devices(self) -> None:
        """Tell that something new has joined."""
        self.say({"type": NEWDEVICES})

    def info(self) -> dict[str, Any]:
        """What it tells about itself, the document's keys."""
        return {
            "name": f"GW-{self.id[-4:]}",
            "type": "simulated",
            "hwversion": "1.0",
            "swversion": self.version,
            "manufacturer": "nobody",
            "channel": str(11 + self.mac[5] % 16),
            "netid": f"0x{self.mac[4]:02x}{self.mac[5]:02x}",
        }

    # -- from the connection ---------------------------------------------------------------------------------------

    def connected(self, connection: GatewayConnection) -> None:
        self._connection = connection
        self.counts.connections += 1
        self.introduce()
        self._later(self.behaviour.heartbeat_every * self.random.uniform(0.5, 1.0), self._heartbeat)

    def received(self, connection: GatewayConnection, frame: Frame) -> None:
        if not self.running or connection is not self._connection:
            return
        if self._happens(self.behaviour.loss_rate):
            self.counts.faults += 1
            return
        try:
            value = connection.speech.read(frame)
        except ValueError:
            connection.drop()
            return
        if value is None or "status" in value or value.get("type") not in OURS:
            if connection.speech.answered(frame):
                self.counts.answered += 1
                if not self.online:
                    self.online = True
                    self._tell("online")
                self._watch(connection)
            return
        self._command(connection, frame, value)

    def lost(self, connection: GatewayConnection) -> None:
        if connection is not self._connection:
            return
        self._connection = None
        self.online = False
        self._cancel_timers()
        if self._stopped is not None:
            stopped, self._stopped = self._stopped, None
            stopped.callback(None)
        if self.running:
            self._tell("offline")
            self._try_again()

    # -- connecting ------------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        self._connecting = connecting = self._endpoint.connect(Factory.forProtocol(lambda: GatewayConnection(self)))
        connecting.addCallbacks(self._made, self._not_made)

    def _made(self, connection: Any) -> None:
        self._connecting = None
        if not self.running and self._connection is not None:
            self._connection.drop()

    def _not_made(self, failure: Failure) -> None:
        self._connecting = None
        if self.running:
            self._tell(f"cannot connect: {failure.getErrorMessage()}")
            self._try_again()

    def _try_again(self) -> None:
        """At the next beat of the gateway's own rhythm."""
        now = self._reactor.seconds()
        every = self.behaviour.reconnect_every
        if self._beat <= now:
            self._beat += ((now - self._beat) // every + 1) * every
        self._later(self._beat - now, self._connect)

    # -- being a gateway -------------------------------------------------------------------------------------------

    def _heartbeat(self) -> None:
        self._later(self.behaviour.heartbeat_every, self._heartbeat)
        self.counts.heartbeats += 1
        self.say({"type": HB, HB: self.memory.next()})
        if self._happens(self.behaviour.newdevices_rate):
            self.report_new_devices()

    def _watch(self, connection: GatewayConnection) -> None:
        """Have what is not answered sent again in time."""
        due = connection.speech.next_due()
        if self._repeating is not None:
            self._forget(self._repeating)
            self._repeating = None
        if due is not None and connection is self._connection:
            self._repeating = self._later(due - self._reactor.seconds(), lambda: self._repeat(connection))

    def _repeat(self, connection: GatewayConnection) -> None:
        self._repeating = None
        again = connection.speech.due(self._reactor.seconds())
        if connection.speech.missed >= self.behaviour.give_up_after:
            self._tell(f"gives up: {connection.speech.missed} sends without an answer")
            connection.drop()
            return
        for raw in again:
            self.counts.resent += 1
            self._write(connection, raw)
        self._watch(connection)

    def _write(self, connection: GatewayConnection, raw: bytes) -> None:
        if self._happens(self.behaviour.loss_rate):
            self.counts.faults += 1
        else:
            connection.write(raw)

    # -- commands --------------------------------------------------------------------------------------------------

    def _command(self, connection: GatewayConnection, frame: Frame, value: dict[str, Any]) -> None:
        before = connection.speech.seen(frame, self._reactor.seconds())
        if before is not None:
            if before:
                self.counts.repeated_commands += 1
                self._write(connection, before)
            return
        self.counts.commands += 1
        if self.on_command is not None:
            self.on_command(value)
        kind = value["type"]
        good = not self._happens(self.behaviour.error_rate)
        if kind == FIRMWARE_UPDATE:
            self.counts.updates += 1
            if self.behaviour.update == "dumb":
                return
            good = good and self.behaviour.update != "refuses"
        if kind == REMOTE_CONTROL:
            type = GATEWAY_INFO if self.behaviour.wrong_type else kind
            answer = {"type": type, "ack": {"result": 0 if good else 1, "cmd": value.get("cmd")}}
        else:
            answer = {"type": kind, "status": "ok" if good else "error"}
        self._tell(f"{kind}: {'ok' if good else 'error'}")

        def give() -> None:
            if connection is self._connection:
                self._write(connection, connection.speech.answer(frame, answer, self._reactor.seconds()))
            if good and kind != REMOTE_CONTROL:
                self._carry_out(kind, frame.id, value)

        if self._happens(self.behaviour.late_rate):
            self.counts.faults += 1
            self._later(self.behaviour.late_after, give)
        else:
            give()

    def _carry_out(self, kind: str, id: int, value: dict[str, Any]) -> None:
        body = value.get(kind)
        works = {FIRMWARE_UPDATE: self._update, DATAFILE_BACKUP: self._back_up, DATAFILE_RECOVERY: self._recover}
        work = Deferred.fromCoroutine(self._work(kind, id, works[kind](body if isinstance(body, dict) else {})))
        self._works.add(work)

        def over(result: Any) -> None:
            self._works.discard(work)
            if isinstance(result, Failure):
                result.trap(CancelledError)

        work.addBoth(over)

    async def _work(self, kind: str, id: int, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except TransferError as error:
            self._tell(f"{kind} failed: {error}")
            if self._connection is not None:
                self._write(self._connection, self._connection.speech.frame(id, {"type": kind, "status": "error"}))

    async def _update(self, body: dict[str, Any]) -> None:
        how = self.behaviour.update
        if how == "idles":
            return
        if how != "claims":
            image = await self._fetch(body.get("firmware_url"), body.get("firmware_md5"))
            if how == "breaks":
                raise TransferError("the image cannot be installed")
            self.firmware = image
        await deferLater(self._reactor, self.behaviour.install_time)
        if how != "keeps":
            self.version = str(body.get("version"))
        self.reboot()

    async def _recover(self, body: dict[str, Any]) -> None:
        self.data = await self._fetch(body.get("recovery_url"), body.get("recovery_md5"))
        self._tell(f"has recovered {len(self.data)} bytes")
        self.introduce()

    async def _back_up(self, body: dict[str, Any]) -> None:
        await self.transfers.post(str(body.get("backup_url")), self.data)
        self.counts.uploads += 1
        self._tell(f"has posted {len(self.data)} bytes")

    async def _fetch(self, url: Any, digest: Any) -> bytes:
        """What is there, if its MD5 is right."""
        data = await self.transfers.fetch(str(url))
        wanted = str(digest)
        if wanted.startswith(("http://", "https://")):
            wanted = (await self.transfers.fetch(wanted)).decode("ascii", "replace").strip()
        if md5(data, usedforsecurity=False).hexdigest() != wanted.lower():
            raise TransferError("the MD5 is another one")
        self.counts.downloads += 1
        return data

    # -- inside ----------------------------------------------------------------------------------------------------

    def _happens(self, rate: float) -> bool:
        return rate > 0 and self.random.random() < rate

    def _later(self, delay: float, call: Callable[[], None]) -> Any:
        def run() -> None:
            self._timers.discard(timer)
            call()

        timer = self._reactor.callLater(max(0.0, delay), run)
        self._timers.add(timer)
        return timer

    def _forget(self, timer: Any) -> None:
        if timer in self._timers:
            self._timers.discard(timer)
            timer.cancel()

    def _cancel_timers(self) -> None:
        self._repeating = None
        timers, self._timers = self._timers, set()
        for timer in timers:
            timer.cancel()

    def _tell(self, what: str) -> None:
        if self._told is not None:
            self._told(self, what)

    def __repr__(self) -> str:
        return f"<SimulatedGateway {self.id}{' online' if self.online else ''}>"
