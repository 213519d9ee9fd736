"""One message on its way to many: what is the same for all its receivers is encoded once (`Message`), and what a
subscription asks for (`Options`).

The properties of a 5.0 message stand in ``shared`` as bytes, without what differs between receivers (topic alias,
subscription identifiers). Its expiry interval is among them and is counted down in place when a copy waits
[MQTT-3.3.2-6].

Payload format, response topic, correlation data, user properties in their order and content type are those bytes, so
they arrive as they came: 5.0 [MQTT-3.3.2-4] [MQTT-3.3.2-15..18] [MQTT-3.3.2-20].
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil
from typing import Any

from broker.mqtt import packets as p
from broker.mqtt import properties as props
from broker.mqtt.encode5 import publish_head
from broker.mqtt.packets import Properties


class Options:
    """What a subscription was granted. Made by `options`, so equal ones are the same object."""

    __slots__ = ("identifier", "no_local", "qos", "retain_as_published")

    def __init__(self, qos: int, no_local: bool, retain_as_published: bool, identifier: int) -> None:
        self.qos = qos
        self.no_local = no_local
        self.retain_as_published = retain_as_published
        #: 0: none.
        self.identifier = identifier

    def __repr__(self) -> str:
        return f"<Options {self.as_number():#x}>"

    def as_number(self) -> int:
        """All of them in one number, for the disk; the way back is `options_of`."""
        return self.qos | self.no_local << 2 | self.retain_as_published << 3 | self.identifier << 4


@lru_cache(maxsize=4096)
def options(qos: int, no_local: bool = False, retain_as_published: bool = False, identifier: int = 0) -> Options:
    """The one object for these options."""
    return Options(qos, no_local, retain_as_published, identifier)


def options_of(number: int) -> Options:
    """What `Options.as_number` was asked of."""
    return options(number & 3, bool(number & 4), bool(number & 8), number >> 4)


class Message:
    """A message as it was published. ``sender`` is the session that it came from, None for the broker's own."""

    __slots__ = (
        "_expiry_at",
        "_heads",
        "_tail",
        "expires_at",
        "hops",
        "name",
        "payload",
        "qos",
        "retain",
        "sender",
        "shared",
    )

    def __init__(
        self,
        name: bytes,
        payload: bytes,
        qos: int,
        retain: bool = False,
        shared: bytes = b"",
        expires_at: float | None = None,
        sender: Any = None,
    ) -> None:
        self.name = name
        self.payload = payload
        self.qos = qos
        self.retain = retain
        self.shared = shared
        self.expires_at = expires_at
        self.sender = sender
        #: How often other processes have passed it on, where it is for a group.
        self.hops = 0
        self._expiry_at = 0
        self._heads: dict[int, bytes] | None = None
        self._tail = b""

    @property
    def topic(self) -> str:
        """Its topic as text."""
        return self.name.decode()

    @property
    def size(self) -> int:
        """Bytes of topic, payload and properties: what limits count."""
        return len(self.name) + len(self.payload) + len(self.shared)

    def head(self, version: int, qos: int, retain: bool) -> bytes:
        """A PUBLISH up to its packet id (at QoS 0: its properties or payload), for receivers that need nothing else."""
        key = (version == p.MQTT_5) << 3 | qos << 1 | retain
        heads = self._heads
        if heads is None:
            heads = self._heads = {}
        head = heads.get(key)
        if head is None:
            head = heads[key] = publish_head(self.name, len(self.tail(version)), qos, retain)
        return head

    def tail(self, version: int) -> bytes:
        """The rest, likewise."""
        if version != p.MQTT_5:
            return self.payload
        tail = self._tail
        if not tail:
            tail = self._tail = props.publish_property_bytes(0, (), self.shared) + self.payload
        return tail

    def shared_at(self, now: float) -> bytes:
        """Its properties with the time that is left at ``now`` (UNIX seconds) as expiry interval."""
        if self.expires_at is None:
            return self.shared
        at = self._expiry_at or self._find_expiry()
        left = max(0, ceil(self.expires_at - now))
        return b"%b%b%b" % (self.shared[:at], left.to_bytes(4, "big"), self.shared[at + 4 :])

    def _find_expiry(self) -> int:
        before: Properties = {}
        block = props.property_block(self.shared)
        for identifier, value in (props.decode_properties(block, 0, len(block), p.PUBLISH)[0] or {}).items():
            if identifier == props.MESSAGE_EXPIRY_INTERVAL:
                break
            before[identifier] = value
        self._expiry_at = len(props.shared_bytes(before)) + 1
        return self._expiry_at


class Copy:
    """One receiver's copy at QoS 1 or 2. ``seq`` and ``position`` are `broker.mqtt.persistent`'s, else 0.

    ``group``: the shared subscription's `SharedGroup`, where the receiver is remembered as one of its members.
    """

    __slots__ = ("dup", "group", "identifiers", "message", "position", "qos", "retain", "seq")

    def __init__(
        self, message: Message, qos: int, retain: bool, identifiers: tuple[int, ...], seq: int = 0, position: int = 0
    ) -> None:
        self.message = message
        self.qos = qos
        self.retain = retain
        self.identifiers = identifiers
        self.seq = seq
        self.position = position
        self.dup = False
        self.group: Any = None


def identifier_bytes(identifiers: tuple[int, ...]) -> bytes:
    """Subscription identifiers as properties."""
    return b"".join([props.property_bytes(props.SUBSCRIPTION_IDENTIFIER, one) for one in identifiers])
