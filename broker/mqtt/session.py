"""What one MQTT client is subscribed to, and what is on its way to it.

A session is the subscriber that the topic index knows. It holds the window of QoS 1 and 2 messages (§4.3, §4.4; the
receive maximum of 5.0, §4.9)::

    deliver, take ──> window has room and the outbox too ──> in flight, until PUBACK or PUBCOMP
                      no ──> queue (bounded in messages and bytes) ──> in flight when there is room again
                      queue full ──> dropped, counted as queue_full

and offers QoS 0 messages to the connection's outbox, which drops them when the client does not keep up. This one ends
with its connection; `broker.mqtt.persistent` has the one that does not.

5.0: an id is free, and is not zero, when a message gets it [MQTT-2.2.1-4] [MQTT-4.3.2-1] [MQTT-4.3.3-1]; DUP is ours
and not the publisher's [MQTT-3.3.1-3] [MQTT-4.3.1-1] [MQTT-4.3.2-2] [MQTT-4.3.3-2]; a message is in flight until it is
acknowledged [MQTT-4.3.2-3] [MQTT-4.3.3-3..5], also with a code of 0x80 or more, which ends it [MQTT-4.4.0-2]
[MQTT-4.8.2-6]. The window is never zero nor above the receive maximum, and only PUBLISH waits for it [MQTT-3.3.4-9]
[MQTT-3.3.4-10] [MQTT-4.9.0-1..3]. No alias is above what the client allows [MQTT-3.1.2-26] [MQTT-3.1.2-27]
[MQTT-3.3.2-11].
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from broker.listening.stats import ListenerStats
from broker.mqtt import encode
from broker.mqtt import packets as p
from broker.mqtt.encode5 import publish_head
from broker.mqtt.message import Copy, Message, Options
from broker.mqtt.packets import MQTT_5, ProtocolError
from broker.mqtt.properties import publish_property_bytes
from broker.mqtt.settings import Settings
from broker.routing.outbox import Outbox

#: What a packet id in flight waits for.
PUBACK: Final = 1
PUBREC: Final = 2
PUBCOMP: Final = 3


#: Every packet id as it stands in a packet, one after the other.
_IDS: Final = b"".join(packet_id.to_bytes(2, "big") for packet_id in range(65_536))
#: The queue and the ids of a session that has none yet; never added to.
_NOTHING: Final[deque[Any]] = deque(maxlen=0)
_NO_IDS: Final[set[int]] = set()


def topic_of(head: bytes) -> str:
    """The topic in a `publish_head`."""
    at = 1
    while head[at] & 128:
        at += 1
    return head[at + 3 : at + 3 + int.from_bytes(head[at + 1 : at + 3], "big")].decode()


class Session:
    """A client's session. ``principal`` is the IMqttPrincipal that logged in."""

    __slots__ = (
        "_aliases",
        "_queue",
        "_queued_bytes",
        "_settings",
        "_shared",
        "alias_limit",
        "client_id",
        "clock",
        "connection",
        "expiry",
        "incoming",
        "inflight",
        "key",
        "largest",
        "moved",
        "next_id",
        "outbox",
        "plain",
        "plain_5",
        "principal",
        "retained",
        "stats",
        "subscriptions",
        "version",
        "window",
    )
    #: Does it outlive its connection, on disk?
    persistent = False
    #: What takes its messages of QoS 1 and 2 instead, for a while: see `broker.mqtt.boxes`.
    detour: Callable[[Message], int] | None = None

    def __init__(
        self,
        client_id: str,
        principal: Any,
        outbox: Outbox,
        settings: Settings,
        stats: ListenerStats,
        clock: Callable[[], float],
        version: int = p.MQTT_3_1_1,
    ) -> None:
        self.client_id = client_id
        #: Whether it is another process's, and of no concern here any more: see `broker.mqtt.elsewhere`.
        self.moved = 0
        self.principal = principal
        self.key = ("" if principal is None else str(principal.name), client_id)
        self.outbox = outbox
        self.stats = stats
        self.clock = clock
        self._settings = settings
        self.version = version
        #: Served with the same bytes as everybody else: see `broker.mqtt.delivery`.
        self.plain = version != MQTT_5
        #: The same among those of 5.0; set by `allow`.
        self.plain_5 = False
        #: Seconds that it outlives its connection; None: for ever.
        self.expiry: int | None = 0
        #: The connection that it has now; None: it is away.
        self.connection: Any = None
        #: filter -> what was granted
        self.subscriptions: dict[str, Options] = {}
        #: Packet ids sent at QoS 1 and 2 and not settled, oldest first -> what they wait for.
        self.inflight: dict[int, int] = {}
        self.next_id = 1
        #: Packet ids of the client's QoS 2 messages that were taken and not yet released [MQTT-4.3.3-2]: added to by
        #: `take_in` alone, or set anew.
        self.incoming: set[int] = _NO_IDS
        #: Retained messages that it is owed: see `broker.mqtt.retained`.
        self.retained: Any = None
        #: Made when something waits: an empty deque is most of a kilobyte, and most sessions are idle.
        self._queue: deque[tuple[bytes, bytes] | Copy] = _NOTHING
        self._queued_bytes = 0
        self._aliases: dict[bytes, int] = {}
        #: Packet id -> what was sent under it at QoS 1 as a member of a group, and is not acknowledged.
        self._shared: dict[int, Copy] | None = None
        self.window = settings.max_inflight
        self.largest = 0
        self.alias_limit = 0

    def allow(self, receive_maximum: int, largest: int, aliases: int) -> None:
        """What the client's CONNECT said: §3.1.2.11.3..5 of 5.0. ``largest``: bytes of a packet, 0 for no limit."""
        self.window = min(self._settings.max_inflight, receive_maximum)
        self.largest = largest
        self.alias_limit = min(aliases, self._settings.max_topic_aliases)
        self.plain_5 = self.version == MQTT_5 and not (self.persistent or largest or self.alias_limit)

    def may_receive(self, topic: str) -> bool:
        """Asked by the topic index when it makes a route."""
        return bool(self.principal.may_receive(topic))

    @property
    def connected(self) -> bool:
        """Whether it has a connection now."""
        return self.connection is not None

    @property
    def position(self) -> int:
        """The journal's position after everything that was said for this session."""
        return 0

    @property
    def room(self) -> int:
        """How many messages it takes now before they have to wait; see `broker.mqtt.shared`."""
        return self.window - len(self.inflight) - len(self._queue)

    @property
    def waiting(self) -> int:
        """Messages that wait for room in the window."""
        return len(self._queue)

    # -- to the client ---------------------------------------------------------------------------------------------

    def offer(self, packet: bytes, count: int = 1) -> None:
        """Send ``count`` whole QoS 0 packets, if the client keeps up."""
        if self.outbox.offer(packet):
            self.stats.messages_out += count
        else:
            self.stats.drop("slow_subscriber", count)

    def offer_alone(self, packet: bytes) -> None:
        """`offer` a packet with which no other one came."""
        if self.outbox.offer_alone(packet):
            self.stats.messages_out += 1
        else:
            self.stats.drop("slow_subscriber")

    def deliver(self, head: bytes, payload: bytes, alone: bool = False) -> None:
        """Send at QoS 1. ``head``: the PUBLISH up to its packet id, made for this payload (`encode.publish_head`).

        ``alone``: no other message came with it.
        """
        outbox = self.outbox
        inflight = self.inflight
        packet_id = self.next_id
        if self._queue or len(inflight) >= self.window or (outbox.size >= outbox.limit and outbox.blocked):
            self._wait((head, payload), len(head) + len(payload))
        elif packet_id in inflight:
            self._send(head, payload, PUBACK)
        else:  # as `_send` does
            inflight[packet_id] = PUBACK
            self.next_id = packet_id + 1 if packet_id < 65535 else 1
            self.stats.messages_out += 1
            packet = head + _IDS[2 * packet_id : 2 * packet_id + 2] + payload
            if alone:
                outbox.put_alone(packet)
            else:
                outbox.put(packet)

    def deliver_run(self, run: bytes, at: int, step: int) -> None:
        """`deliver` for whole packets of ``step`` bytes with one head, which ends at ``at``."""
        outbox = self.outbox
        inflight = self.inflight
        first = self.next_id
        beyond = first + len(run) // step
        if (
            beyond > 65_535
            or self._queue
            or len(inflight) + beyond - first > self.window
            or (outbox.blocked and outbox.size + len(run) > outbox.limit)
            or not inflight.keys().isdisjoint(range(first, beyond))
        ):
            if self._queue and len(self._queue) >= self._settings.max_queued_messages:
                self.stats.drop("queue_full", beyond - first)
                return
            for start in range(0, len(run), step):
                self.deliver(run[start : start + at], run[start + at + 2 : start + step])
            return
        packets = bytearray(run)
        packets[at::step] = _IDS[2 * first : 2 * beyond : 2]
        packets[at + 1 :: step] = _IDS[2 * first + 1 : 2 * beyond : 2]
        inflight.update(dict.fromkeys(range(first, beyond), PUBACK))
        self.next_id = beyond
        self.stats.messages_out += beyond - first
        outbox.put(bytes(packets))

    def take(self, message: Message, qos: int, retain: bool, identifiers: tuple[int, ...], group: Any = None) -> int:
        """Send at any QoS. The journal's position that this has to wait for: here 0.

        ``group``: the `SharedGroup` that it was chosen from, None for a subscription of its own.
        """
        if qos:
            copy = Copy(message, qos, retain, identifiers)
            copy.group = group
            if self._queue or not self._room():
                self._wait(copy, message.size)
            else:
                self._send_copy(copy)
            return 0
        outbox = self.outbox
        if outbox.size >= outbox.limit:  # before an alias is spent on it
            self.stats.drop("slow_subscriber")
            return 0
        head, tail = self._parts(message, 0, retain, identifiers)
        if self._fits(head, tail):
            self.offer(head + tail)
        return 0

    def show(self, message: Message, granted: Options) -> None:
        """Send a retained message for a subscription; at QoS 0 whether the client keeps up or not."""
        identifiers = (granted.identifier,) if granted.identifier else ()
        qos = min(message.qos, granted.qos)
        if qos:
            self.take(message, qos, True, identifiers)
            return
        head, tail = self._parts(message, 0, True, identifiers)
        if self._fits(head, tail):
            self.stats.messages_out += 1
            self.outbox.put(head + tail)

    def fill(self) -> None:
        """Send what waits, as far as window and outbox have room."""
        queue = self._queue
        while queue and self._room():
            item = queue.popleft()
            if isinstance(item, Copy):
                self._queued_bytes -= item.message.size
                self._send_copy(item)
            else:
                head, payload = item
                self._queued_bytes -= len(head) + len(payload)
                self._send(head, payload, PUBACK)
        if not queue and self.retained is not None:
            self.retained.go_on()

    def left(self) -> list[Copy]:
        """It is over: what members of its groups may have in its place (§4.8.2 of 5.0), oldest first.

        What was sent at QoS 1 is among it; at QoS 2 it must not be [MQTT-4.8.2-5].
        """
        sent = [copy for packet_id, copy in (self._shared or {}).items() if self.inflight.get(packet_id) == PUBACK]
        return sent + [one for one in self._queue if isinstance(one, Copy) and one.group is not None]

    def recheck(self) -> None:
        """Rights were lost: what waits here and may not be received any more goes."""
        queue = self._queue
        for _ in range(len(queue)):
            item = queue.popleft()
            if self.may_receive(item.message.topic if isinstance(item, Copy) else topic_of(item[0])):
                queue.append(item)
            else:
                self.stats.drop("not_allowed")
                self._forbidden(item)

    def _forbidden(self, item: tuple[bytes, bytes] | Copy) -> None:
        """It waits no more."""
        size = item.message.size if isinstance(item, Copy) else len(item[0]) + len(item[1])
        self._queued_bytes -= size

    # -- from the client -------------------------------------------------------------------------------------------

    def acknowledged(self, packet_id: int) -> bool:
        """A PUBACK came. False if nothing of that id is in flight; which is harmless after a takeover.

        Raises ProtocolError if that is a QoS 2 message.
        """
        inflight = self.inflight
        state = inflight.get(packet_id)
        if state != PUBACK:
            if state is None:
                return False
            raise ProtocolError("direction", p.PUBACK)
        del inflight[packet_id]
        if self._shared:
            self._shared.pop(packet_id, None)
        if self._queue:
            self.fill()
        return True

    def acknowledged_run(self, data: bytes, offset: int) -> int:
        """PUBACKs of four bytes, one after the other from ``offset``; where they end. Raises ProtocolError."""
        size = len(data)
        inflight = self.inflight
        while True:
            packet_id = data[offset + 2] << 8 | data[offset + 3]
            if inflight.get(packet_id) == PUBACK and not self._queue and not self._shared:
                del inflight[packet_id]
            elif not self.acknowledged(packet_id) and not packet_id:
                raise ProtocolError("packet_id")
            offset += 4
            if offset + 4 > size or data[offset] != 0x40 or data[offset + 1] != 2:
                return offset

    def received(self, packet_id: int, reason: int = 0) -> None:
        """A PUBREC came (§4.3.3): PUBREL goes out [MQTT-4.3.3-1]. Raises ProtocolError for a QoS 1 message's."""
        state = self.inflight.get(packet_id)
        if state == PUBACK:
            raise ProtocolError("direction", p.PUBREC)
        if reason >= 0x80:  # 5.0 §4.3.3: the end of it
            if state is not None:
                self._settle(packet_id)
            return
        if state is None:
            self.connection.send(encode.pubrel(packet_id))
        else:
            self.inflight[packet_id] = PUBCOMP
            self._release(packet_id)

    def completed(self, packet_id: int) -> None:
        """A PUBCOMP came. Raises ProtocolError if it comes too early."""
        state = self.inflight.get(packet_id)
        if state is None:
            return
        if state != PUBCOMP:
            raise ProtocolError("direction", p.PUBCOMP)
        self._settle(packet_id)

    def take_in(self, packet_id: int) -> int:
        """A QoS 2 message of the client was taken; the position that PUBREC has to wait for."""
        if self.incoming:
            self.incoming.add(packet_id)
        else:
            self.incoming = {packet_id}
        return 0

    def let_go(self, packet_id: int) -> int:
        """PUBREL came for it, or for none; the position that PUBCOMP has to wait for."""
        self.incoming.discard(packet_id)
        return 0

    def not_taken_in(self, packet_id: int) -> None:
        """What came under this id could not be kept."""
        self.incoming.discard(packet_id)

    def _release(self, packet_id: int) -> None:
        self.connection.send(encode.pubrel(packet_id))

    def _settle(self, packet_id: int) -> None:
        del self.inflight[packet_id]
        if self._shared:
            self._shared.pop(packet_id, None)
        self.fill()

    # -- inside ----------------------------------------------------------------------------------------------------

    def _room(self) -> bool:
        # A full outbox alone is empty by the end of the turn; one whose socket is full too tells when there is room.
        outbox = self.outbox
        return len(self.inflight) < self.window and not (outbox.size >= outbox.limit and outbox.blocked)

    def _send(self, head: bytes, payload: bytes, state: int) -> int:
        packet_id = self.next_id
        inflight = self.inflight
        while packet_id in inflight:  # ends: the window is smaller than the number of ids
            packet_id = packet_id + 1 if packet_id < 65535 else 1
        inflight[packet_id] = state
        self.next_id = packet_id + 1 if packet_id < 65535 else 1
        self.stats.messages_out += 1
        self.outbox.put(b"%b%c%c%b" % (head, packet_id >> 8, packet_id & 255, payload))
        return packet_id

    def _send_copy(self, copy: Copy) -> None:
        message = copy.message
        if self._expired(message):
            return
        head, tail = self._parts(message, copy.qos, copy.retain, copy.identifiers)
        if self._fits(head, tail):
            packet_id = self._send(head, tail, copy.qos)
            if copy.group is not None and copy.qos == 1:
                if self._shared is None:
                    self._shared = {}
                self._shared[packet_id] = copy

    def _expired(self, message: Message) -> bool:
        if message.expires_at is None or message.expires_at > self.clock():
            return False
        self.stats.drop("expired")  # [MQTT-3.3.2-5]
        return True

    def _fits(self, head: bytes, tail: bytes) -> bool:
        if self.largest and len(head) + len(tail) + 2 > self.largest:
            self.stats.drop("too_large")  # [MQTT-3.1.2-24] [MQTT-3.1.2-25] of 5.0
            return False
        return True

    def _parts(
        self, message: Message, qos: int, retain: bool, identifiers: tuple[int, ...], dup: bool = False
    ) -> tuple[bytes, bytes]:
        """The packet before and after its packet id."""
        version = self.version
        if not (dup or (version == MQTT_5 and (identifiers or self.alias_limit or message.expires_at is not None))):
            return message.head(version, qos, retain), message.tail(version)
        name = message.name
        tail = message.payload
        if version == MQTT_5:
            alias, name = self._alias(name)
            tail = publish_property_bytes(alias, identifiers, message.shared_at(self.clock())) + tail
        return publish_head(name, len(tail), qos, retain, dup), tail

    def _alias(self, name: bytes) -> tuple[int, bytes]:
        """(alias or 0, the topic or nothing) for the next packet: the first topics get one (§3.3.2.3.4 of 5.0)."""
        aliases = self._aliases
        alias = aliases.get(name)
        if alias is not None:
            return alias, b""
        if len(aliases) >= self.alias_limit or len(name) < 2:
            return 0, name
        aliases[name] = alias = len(aliases) + 1
        return alias, name

    def _wait(self, item: tuple[bytes, bytes] | Copy, size: int) -> None:
        settings = self._settings
        if len(self._queue) >= settings.max_queued_messages or self._queued_bytes + size > settings.max_queued_bytes:
            self.stats.drop("queue_full")
            return
        if self._queue is _NOTHING:
            self._queue = deque()
        self._queue.append(item)
        self._queued_bytes += size
