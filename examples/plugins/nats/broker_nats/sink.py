"""What is published: a consumer of all that crosses the broker (`broker.extension.IConsumer`).

It never blocks: the JSON of a message is made once for all who want it, and appended to what waits (`feed`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zope.interface import implementer

from broker.extension import Command, Core, DeviceRef, IConsumer, ListenerStats, Presence, Uplink, encode_json
from broker_nats.feed import Feed
from broker_nats.settings import Settings


def token(device: str) -> str:
    """A device's id as one word of a subject, which dots would cut."""
    return device.replace(".", "%2E")


@implementer(IConsumer)
class NatsSink:
    """What `build` returns. The broker calls `begin` and `shut_down`, and reads the rest."""

    def __init__(self, core: Core, settings: Settings) -> None:
        self.stats = ListenerStats()
        self.limits = settings.limits
        #: The feed while it lives: the broker waits for it when it stops.
        self.connections: set[Feed] = set()
        self._core = core
        self._settings = settings
        self._kinds = frozenset(settings.kinds)
        self._protocols = frozenset(settings.protocols)
        self._feed = Feed(settings, lambda: core.reactor.callFromThread(self._ended))

    # -- from the broker -------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Everything listens."""
        if self._settings.servers:
            self._feed.start()
            self.connections.add(self._feed)
            self._core.router.listen(self)

    def shut_down(self) -> None:
        """The broker stops: devices are told to go first, and that is published as well."""
        if self.connections:
            self._core.reactor.callLater(0, self._feed.stop)

    def counters(self) -> Mapping[str, float]:
        feed = self._feed
        return {
            "nats_connected": feed.connected,
            "nats_waiting": len(feed),
            "nats_published_total": feed.published,
            "nats_dropped_total": feed.dropped,
            "nats_too_large_total": feed.too_large,
            "nats_repeated_total": feed.repeated,
            "nats_reconnects_total": feed.reconnects,
        }

    def troubles(self) -> list[str]:
        """Why nothing is published."""
        return [self._feed.problem] if self.connections and not self._feed.connected else []

    def _ended(self) -> None:
        self._core.router.ignore(self)
        self.connections.discard(self._feed)

    # -- IConsumer -------------------------------------------------------------------------------------------------

    def wants(self, device: DeviceRef, kind: str) -> bool:
        return kind in self._kinds and self._is_ours(device.protocol)

    def uplink(self, message: Uplink) -> None:
        if self.wants(message.device, message.kind):
            self._put(message.device.id, f"up.{message.kind}", message.as_json())

    def presence(self, change: Presence) -> None:
        if self._settings.presence and self._is_ours(change.device.protocol):
            self._put(change.device.id, "presence", change.as_json())

    def command(self, change: Command) -> None:
        if self._settings.commands and self._is_ours(change.protocol):
            told: dict[str, Any] = {**change.as_dict(), "protocol": change.protocol}
            self._put(change.device, "command", encode_json(told))

    def _is_ours(self, protocol: str) -> bool:
        return not self._protocols or protocol in self._protocols

    def _put(self, device: str, what: str, data: bytes) -> None:
        self.stats.messages_out += 1
        self._feed.put(f"{self._settings.subject}.{token(device)}.{what}", data)
