"""What a persistent MQTT session and a retained message are on disk, and the ops that change them.

The ops are tuples, the first field the kind; `broker.mqtt.journal` has their fields and what each means.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

PUT: Final = "put"
ACK: Final = "ack"
REC: Final = "rec"
IN: Final = "in"
OUT: Final = "out"
DROP: Final = "drop"
SESSION: Final = "session"
SEEN: Final = "seen"
SUB: Final = "sub"
UNSUB: Final = "unsub"
WILL: Final = "will"
UNWILL: Final = "unwill"
RETAIN: Final = "retain"
FORGET: Final = "forget"
SEND: Final = "send"
TAKEN: Final = "taken"

#: Ops whose loss somebody is told of; the others are tried again.
#: The kind of note that tells other processes in which sessions' boxes something was put.
NEWS: Final = "mqtt.news"
NEW_WORK: Final = frozenset((PUT, IN, SESSION, SUB, WILL, RETAIN, SEND, TAKEN))

#: A tuple as above.
Op: TypeAlias = tuple[Any, ...]


@dataclass(slots=True, frozen=True)
class SessionRecord:
    """A persistent session. ``expiry``: seconds it outlives its connection, None for ever."""

    number: int
    owner: str
    client_id: str
    version: int
    expiry: int | None
    disconnected_at: float | None = None


@dataclass(slots=True, frozen=True)
class LoadedSession:
    """A session as it is found at the start: its record, its subscriptions, and what is owed to it.

    ``next_seq`` is above every seq that the session ever had a row for as far as rows are left (1 when there are none);
    ``queued`` and ``size``: its rows, and their bytes of topic, payload and properties. ``subscriptions``: filter -> a
    number that only the MQTT server reads.
    """

    record: SessionRecord
    next_seq: int
    queued: int
    size: int
    subscriptions: Mapping[str, int] = field(default_factory=dict)


@dataclass(slots=True, frozen=True)
class WillRecord:
    """The will of a connection, of whatever session. ``properties``: those that go with the message, as bytes.

    ``delay`` in seconds; ``lost_at``: when the connection ended without a goodbye, if the delay is still to pass.
    """

    number: int
    owner: str
    client_id: str
    topic: str
    payload: bytes
    qos: int
    retain: bool
    properties: bytes
    delay: int
    lost_at: float | None = None


@dataclass(slots=True, frozen=True)
class QueueRow:
    """A message owed to a session. ``released``: PUBREC came; topic, payload and properties are then empty."""

    seq: int
    qos: int
    expires_at: float | None
    topic: str
    payload: bytes
    properties: bytes
    retain: bool
    released: bool = False

    @property
    def size(self) -> int:
        """Its bytes, as limits count them."""
        return len(self.topic.encode()) + len(self.payload) + len(self.properties)


@dataclass(slots=True, frozen=True)
class RetainedRow:
    """The retained message of a topic."""

    topic: str
    payload: bytes
    qos: int
    properties: bytes
    expires_at: float | None
