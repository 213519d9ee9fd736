"""What devices say and how they come and go, for consumers in other processes: streams, customer servers.

::

    each process tells what its consumers want to hear of (`IFarConsumer.interests`), when that has changed
    router ──> RouterAcross ──> for each device: the processes that want it, by name, by binding, or all ──> cast

Best effort (DESIGN §10). While nobody elsewhere wants anything, an uplink costs one look at an empty table, and where a
side asks before it makes one, it is not even made. Whether an application is bound to a device is looked up once and
kept; what is said meanwhile waits for that, in a bounded queue.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from broker.cluster.packing import (
    pack_command,
    pack_presence,
    pack_uplink,
    unpack_command,
    unpack_presence,
    unpack_uplink,
)
from broker.model.errors import Unavailable
from broker.model.interfaces import IBackplane, IConsumer
from broker.model.messages import Command, DeviceRef, Presence, Uplink
from broker.routing.router import Router
from broker.storage.identity import Change

#: Devices whose listeners are kept; past this the table is started anew.
MAX_DEVICES: Final = 200_000
#: What may wait for one look-up.
MAX_WAITING: Final = 100

_encode = msgspec.msgpack.Encoder().encode
_wishes = msgspec.msgpack.Decoder(list[str]).decode

_UNPACK: Final[dict[str, Callable[[bytes], Any]]] = {
    "uplink": unpack_uplink,
    "presence": unpack_presence,
    "command": unpack_command,
}


@implementer(IConsumer)
class RouterAcross:
    """``applications_of(device)``: a Deferred of the ids of the applications that are bound to it."""

    log: ClassVar[Logger] = Logger(namespace="broker.cluster")

    def __init__(
        self, backplane: IBackplane, router: Router, applications_of: Callable[[str], Deferred[list[str]]]
    ) -> None:
        self._backplane = backplane
        self._router = router
        self._applications_of = applications_of
        #: command -> the process that submitted it, which hears of its states from `CommandsAcross`; "" for our own
        self.submitter: Callable[[str], str] = lambda command_id: ""
        self.passed_on = 0
        self.dropped = 0
        self._told: set[str] = set()
        #: node -> what it wants
        self._wishes: dict[str, frozenset[str]] = {}
        #: device -> the nodes that want to hear of it, or what waits until that is known
        self._routes: dict[str, tuple[str, ...] | list[tuple[str, bytes, str]]] = {}
        self._generation = 0

    def begin(self, on_change: list[Callable[[Change], None]]) -> None:
        """``on_change``: the registry's."""
        self._router.listen(self)
        self._router.on_listening.append(self.look)
        on_change.append(self._changed)
        backplane = self._backplane
        backplane.hear("wish", self._wished)
        backplane.hear("wish.all", self._asked)
        for what in _UNPACK:
            backplane.hear(f"router.{what}", self._receiver(what))
        backplane.watch(left=self._left, fenced=self._fenced, joined=self._joined)
        backplane.tell("wish.all", b"")

    @property
    def wishes(self) -> int:
        """What the other processes want to hear of, each kind of each process by itself."""
        return sum(map(len, self._wishes.values()))

    # -- what is wanted --------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Tell what consumers here want to hear, if that has changed; called now and then."""
        wanted = self._router.interests()
        if wanted != self._told and self._backplane.node:
            self._told = wanted
            self._backplane.tell("wish", _encode(sorted(wanted)))

    def _asked(self, node: str, body: bytes) -> None:
        if node != self._backplane.node and self._told:
            self._backplane.tell("wish", _encode(sorted(self._told)))

    def _wished(self, node: str, body: bytes) -> None:
        if node == self._backplane.node:
            return
        wishes = frozenset(_wishes(body))
        if wishes:
            self._wishes[node] = wishes
        else:
            self._wishes.pop(node, None)
        self._anew()

    def _left(self, node: str) -> None:
        if self._wishes.pop(node, None) is not None:
            self._anew()

    def _fenced(self) -> None:
        self._wishes.clear()
        self._anew()

    def _joined(self) -> None:
        self._told = set()
        self.look()
        self._backplane.tell("wish.all", b"")

    def _changed(self, change: Change) -> None:
        if change.what in ("bound", "unbound"):
            self._routes.pop(change.other, None)
        elif change.what in ("device_removed", "application_removed"):
            self._anew()

    def _anew(self) -> None:
        self._generation += 1
        self._routes = {}

    # -- IConsumer -------------------------------------------------------------------------------------------------

    def wants(self, device: DeviceRef, kind: str) -> bool:
        """See `IConsumer`."""
        return bool(self._wishes) and self._routes.get(device.id) != ()

    def uplink(self, message: Uplink) -> None:
        if self._wishes and self._routes.get(message.device.id) != ():
            self._send(message.device.id, "router.uplink", pack_uplink(message))

    def presence(self, change: Presence) -> None:
        if self._wishes:
            self._send(change.device.id, "router.presence", pack_presence(change))

    def command(self, change: Command) -> None:
        if self._wishes:
            self._send(change.device, "router.command", pack_command(change), self.submitter(change.id))

    # -- inside ----------------------------------------------------------------------------------------------------

    def _send(self, device_id: str, kind: str, body: bytes, without: str = "") -> None:
        route = self._routes.get(device_id)
        if route is None:
            if len(self._routes) >= MAX_DEVICES:
                self._anew()
            self._routes[device_id] = [(kind, body, without)]
            finding = Deferred.fromCoroutine(self._find(device_id, self._generation))
            finding.addErrback(self._not_found, device_id)
        elif isinstance(route, tuple):
            for node in route:
                if node != without:
                    self.passed_on += 1
                    self._backplane.cast(kind, body, node)
        elif len(route) < MAX_WAITING:
            route.append((kind, body, without))
        else:
            self.dropped += 1

    async def _find(self, device_id: str, generation: int) -> None:
        keys = {"*", f"d:{device_id}"}
        if any(wish.startswith("a:") for wishes in self._wishes.values() for wish in wishes):
            keys.update(f"a:{application}" for application in await self._applications_of(device_id))
        waiting = self._routes.get(device_id)
        if not isinstance(waiting, list):
            return
        if generation != self._generation:
            del self._routes[device_id]
        else:
            self._routes[device_id] = tuple(
                node for node, wishes in self._wishes.items() if not wishes.isdisjoint(keys)
            )
        for kind, body, without in waiting:
            self._send(device_id, kind, body, without)

    def _not_found(self, failure: Failure, device_id: str) -> None:
        waiting = self._routes.pop(device_id, ())
        self.dropped += len(waiting)
        if not failure.check(Unavailable):
            self.log.failure("fault while looking for who hears of a device", failure)

    def _receiver(self, what: str) -> Callable[[str, bytes], None]:
        unpack = _UNPACK[what]

        def received(node: str, body: bytes) -> None:
            self._router.told_elsewhere(what, unpack(body))

        return received
