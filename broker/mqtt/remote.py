"""Subscribers that are in other processes, as the topic index of this one knows them.

::

    RemoteNode      all clean sessions of a process, and what comes at QoS 0 for any session there
                       QoS 0 ──> cast                     QoS 1 and 2 ──> journal: SEND mq:<node>
    RemoteSession   a persistent session, wherever it is
                       QoS 1 and 2 ──> journal: SEND box:<session>
    RemoteMember    a member of a shared subscription there: likewise, for the group's own choice

What is sent by the journal is on disk together with everything else that the message caused, in one commit: the packet
id of a QoS 2 message, what local sessions are owed. So the publisher's acknowledgement waits for nothing new. A
persistent session has its box for itself, not its process, so it misses nothing and gets nothing twice while it moves.

Rights are asked where the session is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from broker.mqtt.delivery import Plan, Remote
from broker.mqtt.journal import SEND
from broker.mqtt.message import Message, Options
from broker.mqtt.parcels import for_group, pack

#: What a process wants of a filter: messages at QoS 0; at QoS 1 and 2, be it as QoS 0; those reliably.
LOW: Final = 1
HIGH: Final = 2
SURE: Final = 4

#: The kind of note for messages at QoS 0.
CAST: Final = "mqtt"


class Outgoing:
    """How messages leave. ``append`` is the journal's; ``position()`` its position; ``cast(kind, body, node)``."""

    def __init__(self, journal: Any, cast: Callable[[str, bytes, str], object]) -> None:
        self._journal = journal
        self.cast = cast
        self._last: Message | None = None
        self._packed = b""
        #: Sessions whose boxes have got something: number -> position.
        self.news: dict[int, int] = {}

    def pack(self, message: Message) -> bytes:
        """The message as bytes, made once for all who get it."""
        if message is not self._last:
            self._packed = pack(message)
            self._last = message
        return self._packed

    def send(self, stream: str, body: bytes) -> int:
        """Have the journal send it; the position to wait for."""
        journal = self._journal
        journal.append((SEND, stream, body))
        position: int = journal.position
        return position

    def box(self, number: int, body: bytes) -> int:
        """Put it into a session's box, whose process hears of it when it is there."""
        self.news[number] = int(self._journal.position) + 1
        return self.send(f"box:{number}", body)


class Cast:
    """A process that wants a topic at QoS 0, where packets go on as they came: see `broker.mqtt.stream`."""

    __slots__ = ("_cast", "_node")

    def __init__(self, node: str, cast: Callable[[str, bytes, str], object]) -> None:
        self._node = node
        self._cast = cast

    def offer(self, packet: bytes, count: int = 1) -> None:
        """See `broker.mqtt.session.Session.offer`."""
        self._cast(CAST, packet, self._node)

    offer_alone = offer


class Sent:
    """Who wants a topic at QoS 1. ``send(body)``: the journal's position to wait for."""

    __slots__ = ("_send",)

    def __init__(self, send: Callable[[bytes], int]) -> None:
        self._send = send

    def keep(self, plan: Plan, head: bytes, payload: bytes) -> int:
        """See `broker.mqtt.persistent.PersistentSession.keep`."""
        return self._send(head + b"\0\0" + payload)

    def keep_run(self, plan: Plan, run: bytes, at: int, step: int) -> int:
        """See `broker.mqtt.persistent.PersistentSession.keep_run`."""
        return self._send(run)


class RemoteNode(Remote):
    """Another process. Its options in the index are what it wants, of `LOW`, `HIGH` and `SURE`."""

    __slots__ = ("_out", "_stream", "filters", "groups", "node")

    def __init__(self, node: str, out: Outgoing) -> None:
        self.node = node
        self._stream = "mq:" + node
        self.filters: dict[str, int] = {}
        #: (group, filter) -> the members that it has there
        self.groups: dict[tuple[str, str], list[RemoteMember]] = {}
        self._out = out

    def may_receive(self, topic: str) -> bool:
        """What a process says of itself is no other's."""
        return not topic.startswith("$SYS/")

    def joined(self, wanted: int, given: Any) -> int:
        return wanted | int(given)

    def offered(self, wanted: int) -> Cast | None:
        return Cast(self.node, self._out.cast) if wanted & LOW else None

    def kept(self, wanted: int) -> Sent | None:
        if wanted & SURE:
            return Sent(self._send)
        return Sent(self._cast) if wanted & HIGH else None

    def take(self, message: Message, wanted: int) -> int:
        if message.qos and wanted & SURE:
            return self._send(self._out.pack(message))
        if wanted & (HIGH if message.qos else LOW):
            self._cast(self._out.pack(message))
        return 0

    def _send(self, body: bytes) -> int:
        return self._out.send(self._stream, body)

    def _cast(self, body: bytes) -> int:
        self._out.cast(CAST, body, self.node)
        return 0


class RemoteSession(Remote):
    """A persistent session of another process. Its options in the index are those of its subscriptions."""

    __slots__ = ("_out", "filters", "key", "number")

    def __init__(self, number: int, key: tuple[str, str], out: Outgoing) -> None:
        self.number = number
        self.key = key
        self.filters: dict[str, Options] = {}
        self._out = out

    def may_receive(self, topic: str) -> bool:
        return True

    def joined(self, wanted: int, given: Any) -> int:
        return max(wanted, int(given.qos))

    def offered(self, wanted: int) -> None:
        """At QoS 0 its process is asked."""

    def kept(self, wanted: int) -> Sent | None:
        return Sent(self._box) if wanted else None

    def take(self, message: Message, wanted: int) -> int:
        if not (message.qos and wanted):
            return 0
        return self._box(self._out.pack(message))

    def _box(self, body: bytes) -> int:
        return self._out.box(self.number, body)


class RemoteMember:
    """A member of a shared subscription. ``connected``: whether it has a connection there."""

    __slots__ = ("_out", "connected", "node")
    afar = True
    #: Nobody knows.
    room = 1

    def __init__(self, node: str, connected: bool, out: Outgoing) -> None:
        self.node = node
        self.connected = connected
        self._out = out

    def may_receive(self, topic: str) -> bool:
        return True

    def take(self, message: Message, qos: int, retain: bool, identifiers: tuple[int, ...], group: Any = None) -> int:
        """See `broker.mqtt.session.Session.take`: the group there chooses the member and its options."""
        out = self._out
        body = for_group(group.name, group.filter, message.hops + 1, out.pack(message))
        if not qos or not message.qos:
            out.cast(CAST, body, self.node)
            return 0
        return out.send("mq:" + self.node, body)
