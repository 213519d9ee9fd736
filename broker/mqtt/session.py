"""What one MQTT client is subscribed to, and what is on its way to it.

A session is the subscriber that the topic index knows. It holds the window of QoS 1 messages (MQTT 3.1.1, §4.4)::

    deliver ──> window has room and the outbox too ──> in flight, until PUBACK
                no ──> queue (bounded in messages and bytes) ──> in flight when a PUBACK or a writable socket makes room
                queue full ──> dropped, counted as queue_full

and offers QoS 0 messages to the connection's outbox, which drops them when the client does not keep up.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from broker.listening.stats import ListenerStats
from broker.mqtt.settings import Settings
from broker.routing.outbox import Outbox


class Session:
    """A client's session. ``principal`` is the IMqttPrincipal that logged in."""

    __slots__ = (
        "_queue",
        "_queued_bytes",
        "_settings",
        "client_id",
        "inflight",
        "next_id",
        "outbox",
        "principal",
        "stats",
        "subscriptions",
    )

    def __init__(
        self, client_id: str, principal: Any, outbox: Outbox, settings: Settings, stats: ListenerStats
    ) -> None:
        self.client_id = client_id
        self.principal = principal
        self.outbox = outbox
        self.stats = stats
        self._settings = settings
        #: filter -> granted QoS
        self.subscriptions: dict[str, int] = {}
        #: Packet ids sent at QoS 1 and not acknowledged, oldest first.
        self.inflight: dict[int, None] = {}
        self.next_id = 1
        self._queue: deque[tuple[bytes, bytes]] = deque()
        self._queued_bytes = 0

    def may_receive(self, topic: str) -> bool:
        """Asked by the topic index when it makes a route."""
        return bool(self.principal.may_receive(topic))

    def offer(self, packet: bytes, count: int = 1) -> None:
        """Send ``count`` whole QoS 0 packets, if the client keeps up."""
        if self.outbox.offer(packet):
            self.stats.messages_out += count
        else:
            self.stats.drop("slow_subscriber", count)

    def deliver(self, head: bytes, payload: bytes) -> None:
        """Send at QoS 1. ``head``: the PUBLISH up to its packet id, made for this payload (`encode.publish_head`)."""
        outbox = self.outbox
        if (
            self._queue
            or len(self.inflight) >= self._settings.max_inflight
            or (outbox.size >= outbox.limit and outbox.blocked)
        ):
            self._wait(head, payload)
        else:
            self._send(head, payload)

    def acknowledged(self, packet_id: int) -> bool:
        """A PUBACK came. False if nothing of that id is in flight; which is harmless after a takeover."""
        if packet_id not in self.inflight:
            return False
        del self.inflight[packet_id]
        if self._queue:
            self.fill()
        return True

    def fill(self) -> None:
        """Send what waits, as far as window and outbox have room."""
        queue = self._queue
        outbox = self.outbox
        # A full outbox alone is empty by the end of the turn; one whose socket is full too tells when there is room.
        while (
            queue
            and len(self.inflight) < self._settings.max_inflight
            and not (outbox.size >= outbox.limit and outbox.blocked)
        ):
            head, payload = queue.popleft()
            self._queued_bytes -= len(head) + len(payload)
            self._send(head, payload)

    def _send(self, head: bytes, payload: bytes) -> None:
        packet_id = self.next_id
        inflight = self.inflight
        while packet_id in inflight:  # ends: the window is smaller than the number of ids
            packet_id = packet_id + 1 if packet_id < 65535 else 1
        inflight[packet_id] = None
        self.next_id = packet_id + 1 if packet_id < 65535 else 1
        self.stats.messages_out += 1
        self.outbox.put(b"%b%c%c%b" % (head, packet_id >> 8, packet_id & 255, payload))

    def _wait(self, head: bytes, payload: bytes) -> None:
        settings = self._settings
        size = len(head) + len(payload)
        if len(self._queue) >= settings.max_queued_messages or self._queued_bytes + size > settings.max_queued_bytes:
            self.stats.drop("queue_full")
            return
        self._queue.append((head, payload))
        self._queued_bytes += size
