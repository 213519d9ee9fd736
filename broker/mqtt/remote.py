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

import msgspec

from broker.mqtt.delivery import Remote
from broker.mqtt.journal import SEND
from broker.mqtt.message import Message, Options

#: What a process wants of a filter: messages at QoS 0; at QoS 1 and 2, be it as QoS 0; those reliably.
LOW: Final = 1
HIGH: Final = 2
SURE: Final = 4

#: The kind of note for messages at QoS 0.
CAST: Final = "mqtt"

_encode = msgspec.msgpack.Encoder().encode
_message = msgspec.msgpack.Decoder(tuple[bytes, bytes, int, bool, bytes, float | None]).decode
_parcel = msgspec.msgpack.Decoder(tuple[str, str, int, bytes]).decode


def unpack(data: bytes) -> Message:
    """Raises ValueError."""
    return Message(*_message(data))


def parcel(group: str, topic_filter: str, hops: int, message: bytes) -> bytes:
    """A message for a process: for a group there, or with "" for all that want it. ``hops``: passed on so often."""
    return _encode((group, topic_filter, hops, message))


def open_parcel(data: bytes) -> tuple[str, str, int, bytes]:
    """Raises ValueError."""
    return _parcel(data)


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
            expires_at = message.expires_at
            fields = (message.name, message.payload, message.qos, message.retain, message.shared, expires_at)
            self._packed = _encode(fields)
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


class RemoteNode(Remote):
    """Another process. Its options in the index are what it wants, of `LOW`, `HIGH` and `SURE`."""

    __slots__ = ("_out", "filters", "groups", "node")

    def __init__(self, node: str, out: Outgoing) -> None:
        self.node = node
        self.filters: dict[str, int] = {}
        #: (group, filter) -> the members that it has there
        self.groups: dict[tuple[str, str], list[RemoteMember]] = {}
        self._out = out

    def may_receive(self, topic: str) -> bool:
        """What a process says of itself is no other's."""
        return not topic.startswith("$SYS/")

    def joined(self, wanted: int, given: Any) -> int:
        return wanted | int(given)

    def take(self, message: Message, wanted: int) -> int:
        out = self._out
        if not message.qos:
            if wanted & LOW:
                out.cast(CAST, parcel("", "", 0, out.pack(message)), self.node)
            return 0
        if wanted & SURE:
            return out.send("mq:" + self.node, parcel("", "", 0, out.pack(message)))
        if wanted & HIGH:
            out.cast(CAST, parcel("", "", 0, out.pack(message)), self.node)
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

    def take(self, message: Message, wanted: int) -> int:
        if not (message.qos and wanted):
            return 0  # at QoS 0 its process is asked
        return self._out.box(self.number, self._out.pack(message))


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
        body = parcel(group.name, group.filter, message.hops + 1, out.pack(message))
        if not qos or not message.qos:
            out.cast(CAST, body, self.node)
            return 0
        return out.send("mq:" + self.node, body)
