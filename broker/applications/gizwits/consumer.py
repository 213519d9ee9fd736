"""What devices say and how they come and go, as far as apps are concerned.

A device of another protocol looks like a Gizwits device to apps: its uplink becomes a 0x0091 on ``dev2app/<id>`` with
the payload as bytes, made only when somebody is subscribed and once for all of them. What Gizwits devices publish
reaches the apps as it is, and is looked at here only where its product has data points.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from zope.interface import implementer

from broker.applications.gizwits.business import ACK_APP, ACK_SN
from broker.applications.gizwits.presence_log import PresenceLog
from broker.applications.gizwits.products import Products
from broker.devices.gizwits import codec
from broker.devices.gizwits.identity import PROTOCOL
from broker.devices.gizwits.topics import report_topic
from broker.model.interfaces import IConsumer
from broker.model.messages import SUCCEEDED, Command, DeviceRef, Presence, Uplink, payload_bytes
from broker.mqtt.delivery import SessionIndex, SessionRoute, deliver

#: What the broker itself sends to apps goes out at this QoS; real devices publish at 0 as well.
QOS: Final = 0
#: Routes kept; past this the table is started anew.
MAX_ROUTES: Final = 200_000


@implementer(IConsumer)
class Consumer:
    """The one consumer of this side.

    ``watchers``: device id -> who is told when it comes or goes.
    """

    def __init__(self, topics: SessionIndex, products: Products, presence_log: PresenceLog) -> None:
        self._topics = topics
        self._products = products
        self._presence_log = presence_log
        self._routes: dict[str, SessionRoute] = {}
        self.watchers: dict[str, set[Callable[[Presence], None]]] = {}

    def wants(self, device: DeviceRef, kind: str) -> bool:
        """See `IConsumer`. Those of other protocols come to `uplink`, which looks for subscribers."""
        return device.protocol != PROTOCOL or self._products.in_use

    def uplink(self, message: Uplink) -> None:
        device = message.device
        if device.protocol == PROTOCOL:
            if self._products.in_use:
                self._products.uplink(message)
            return
        route = self._routes.get(device.id)
        if route is None or route.generation != self._topics.generation:
            if len(self._routes) >= MAX_ROUTES:
                self._routes.clear()
            route = self._routes[device.id] = self._topics.route(report_topic(device.id))
        if route.targets:
            data = message.as_bytes()
            if len(data) <= codec.MAX_DATA:
                deliver(route, codec.frame(codec.REPORT, data), QOS)

    def presence(self, change: Presence) -> None:
        if change.device.protocol == PROTOCOL and change.online:
            self._products.arrived(change.device)
        self._presence_log.note(change)
        self.presence_elsewhere(change)

    def presence_elsewhere(self, change: Presence) -> None:
        """The same for a device that another process has, which notes it itself."""
        for watcher in list(self.watchers.get(change.device.id, ())):
            watcher(change)

    def command(self, change: Command) -> None:
        options = change.options
        if not options or ACK_SN not in options or change.status != SUCCEEDED:
            return
        route = self._topics.route(report_topic(change.device, options[ACK_APP]))
        if route.targets:
            result = change.result
            data = payload_bytes(result) if isinstance(result, dict) and result else b""
            if len(data) > codec.MAX_DATA:
                data = b""
            deliver(route, codec.encode(codec.Ack(options[ACK_SN], data)), QOS)

    def watch(self, did: str, product: str | None, watcher: Callable[[Presence], None]) -> None:
        """Have it told when this device of that product comes or goes."""
        watchers = self.watchers.get(did)
        if watchers is None:
            watchers = self.watchers[did] = set()
            self._products.follow(did, product)
        watchers.add(watcher)

    def ignore(self, did: str, watcher: Callable[[Presence], None]) -> None:
        watchers = self.watchers.get(did)
        if watchers is not None:
            watchers.discard(watcher)
            if not watchers:
                del self.watchers[did]
                self._products.unfollow(did)
