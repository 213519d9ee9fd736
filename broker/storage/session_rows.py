"""A message owed to a session as bytes, in whatever storage.

::

    flags 1 | expires_at 8 | length of topic 2 | of properties 4 | topic | properties | payload      little-endian

``flags``: the QoS and 4 for RETAIN; ``expires_at``: a double, infinity for never. What is released is the head alone,
which no other row is: every message has a topic.
"""

from __future__ import annotations

from math import inf
from struct import Struct
from typing import Final

from broker.model.sessions import Op, QueueRow

HEAD: Final = Struct("<BdHI")
_RETAIN_FLAG: Final = 4


def pack_message(op: Op) -> bytes:
    """Of a PUT."""
    _kind, _session, _seq, qos, expires_at, text, payload, properties, retain = op
    flags = qos | _RETAIN_FLAG if retain else qos
    topic = text.encode()
    head = HEAD.pack(flags, inf if expires_at is None else expires_at, len(topic), len(properties))
    return head + topic + properties + payload  # type: ignore[no-any-return]  # an op is a tuple of anything


def unpack_message(seq: int, data: bytes) -> QueueRow:
    """The other way round."""
    flags, expires_at, topic_size, properties_size = HEAD.unpack_from(data)
    middle = HEAD.size + topic_size
    end = middle + properties_size
    return QueueRow(
        seq=seq,
        qos=flags & ~_RETAIN_FLAG,
        expires_at=None if expires_at == inf else expires_at,
        topic=data[HEAD.size : middle].decode(),
        payload=data[end:],
        properties=data[middle:end],
        retain=flags >= _RETAIN_FLAG,
        released=len(data) == HEAD.size,
    )
