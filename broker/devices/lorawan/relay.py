"""LoRaWAN in several processes: one of them has the network, the others pass their datagrams on to it.

::

    gateway ──> socket of process B ──> cast lora.up ──> process A, which has the network: one window for a frame,
    gateway <── socket of process B <── cast lora.down ── whoever heard it where; counters, downlinks, air time

A window of 200 ms, duty cycles of gateways and frame counters allow no second opinion, so the network is one process's
at a time (directory, space "lora"). When that one is gone another reads everything from storage and goes on. One that
was fenced forgets all that it knew, as it is old, and may have the network again once it has joined again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final

import msgspec
from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger
from twisted.python.failure import Failure

from broker.model.errors import Unavailable
from broker.model.interfaces import IBackplane

SPACE: Final = "lora"
#: The duty (`broker.cluster.duty`) that calls of the API name.
DUTY: Final = "lorawan"
KEY: Final = "network"

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, str, int, bytes]).decode


class Afar:
    """A socket of another process, as what an answer goes through."""

    __slots__ = ("_cast", "_node", "_socket")

    def __init__(self, cast: Callable[[str, bytes, str], object], node: str, socket: int) -> None:
        self._cast = cast
        self._node = node
        self._socket = socket

    def send(self, data: bytes, address: tuple[str, int]) -> None:
        self._cast("lora.down", _encode((self._socket, *address, data)), self._node)


class Relay:
    """``load()``: a Deferred, everything is read from storage; ``look_up()``: what is registered alone, for who asks.
    ``heard(data, address)``: a datagram for the network. ``forget()``: all that is known may be another's by now.
    ``sockets``: ours, by number. ``once``: who lost the network cannot have it again in its life.
    """

    log: ClassVar[Logger] = Logger(namespace="broker.lorawan")
    name = DUTY

    def __init__(
        self,
        backplane: IBackplane,
        load: Callable[[], Deferred[Any]],
        look_up: Callable[[], Deferred[Any]],
        heard: Callable[[bytes, tuple[str, int, Any]], object],
        forget: Callable[[], object],
        sockets: list[Any],
        *,
        once: bool = False,
    ) -> None:
        self._backplane = backplane
        self._load = load
        self._look_up = look_up
        self._heard = heard
        self._forget = forget
        self._sockets = sockets
        self._once = once
        #: Whether this process has the network; who has it otherwise, "" when that is not known.
        self.leads = False
        self.leader = ""
        #: Datagrams passed on, and those that came while nobody had the network.
        self.passed_on = 0
        self.lost = 0
        self._over = False
        self._looking = False
        self._afar: dict[tuple[str, int], Afar] = {}
        backplane.hear("lora.up", self._up)
        backplane.hear("lora.down", self._down)
        backplane.watch(left=self._left, fenced=self._fenced, joined=self.begin)

    async def begin(self) -> None:
        """Joined: find out who has the network, and know what there is in any case. Raises Unavailable."""
        await self.look()
        if self.leader:
            await self._look_up()

    async def look(self) -> None:
        """Find out who has the network; take it, if nobody has. Raises Unavailable."""
        if self.leads or self._looking:
            return
        self._looking = True
        try:
            if self._over:
                self.leader = (await self._backplane.find(SPACE, KEY)).node
                return
            node = self._backplane.node
            taken = await self._backplane.take(SPACE, KEY)
            if not taken.mine:
                self.leader = taken.node
                return
            await self._load()
            if node != self._backplane.node:  # fenced meanwhile: what was read is old
                self._forget()
                return
            self.leads, self.leader = True, ""
            self.log.info("lorawan: the network is this process's")
        finally:
            self._looking = False

    def tick(self) -> None:
        """About once a second."""
        if not self.leads and not self.leader:
            Deferred.fromCoroutine(self.look()).addErrback(self._failed)

    def _failed(self, failure: Failure) -> None:
        if not failure.check(Unavailable):
            self.log.failure("fault while looking for the LoRaWAN network", failure)

    def retire(self) -> None:
        """The process stops."""

    def ask(self, kind: str, body: bytes) -> Deferred[bytes]:
        """Ask the process that has the network. Fails with Unavailable."""
        if not self.leader:
            return fail(Unavailable("no broker process has the LoRaWAN network at the moment"))
        answer: Deferred[bytes] = self._backplane.ask(self.leader, kind, body)
        return answer

    def trouble(self) -> str:
        """Why LoRaWAN does not work here; empty when it does."""
        return "" if self.leads or self.leader else "no process has the LoRaWAN network"

    def pass_on(self, socket: int, data: bytes, address: tuple[str, int]) -> None:
        """A datagram for whoever has the network."""
        if not self.leader:
            self.lost += 1
            return
        self.passed_on += 1
        self._backplane.cast("lora.up", _encode((socket, address[0], address[1], data)), self.leader)

    def _up(self, node: str, body: bytes) -> None:
        if not self.leads:
            self.lost += 1
            return
        socket, host, port, data = _decode(body)
        afar = self._afar.get((node, socket))
        if afar is None:
            afar = self._afar[node, socket] = Afar(self._backplane.cast, node, socket)
        self._heard(data, (host, port, afar))

    def _down(self, node: str, body: bytes) -> None:
        socket, host, port, data = _decode(body)
        if socket < len(self._sockets):
            self._sockets[socket].send(data, (host, port))

    def _left(self, node: str) -> None:
        for key in [key for key in self._afar if key[0] == node]:
            del self._afar[key]
        if node == self.leader:
            self.leader = ""
            self.tick()

    def _fenced(self) -> None:
        if self.leads:
            self.leads, self._over = False, self._once
            self.log.warn("lorawan: the network is another process's by now")
        self._forget()
        self._afar.clear()
        self.leader = ""
