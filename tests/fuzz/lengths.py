"""Lengths that are put right: a chunk that was changed says how long it is by now, so that what is in it is looked at.

Without this nearly every change of a request, a packet or a frame ends as a wrong length. What is too broken to have a
length is left as it is.
"""

from __future__ import annotations

import re

from broker.devices.gizwits.codec import HEADER
from broker.mqtt.fields import length_bytes
from tests.applications.http.test_fuzz import masked

_CONTENT_LENGTH = re.compile(rb"(?i)(?<=\r\ncontent-length:) *\d+")
_PUBLISH = 3


def of_request(chunk: bytes) -> bytes:
    """An HTTP request: its Content-Length."""
    head, end, body = chunk.partition(b"\r\n\r\n")
    return _CONTENT_LENGTH.sub(b" %d" % len(body), head, count=1) + end + body


def of_packet(chunk: bytes) -> bytes:
    """An MQTT packet; of a publish with a Gizwits business message in it that one's length, too."""
    begin = _after_varlen(chunk, 1)
    if begin is None:
        return chunk
    body = chunk[begin:]
    if chunk[0] >> 4 == _PUBLISH:
        body = _publish(body, chunk[0] >> 1 & 3)
    return chunk[:1] + length_bytes(len(body)) + body


def of_frame(chunk: bytes) -> bytes:
    """A client's WebSocket frame. Its mask is zero by now: what is in it has no other form."""
    if len(chunk) < 2:
        return chunk
    size = chunk[1] & 127
    begin = 2 + {126: 2, 127: 8}.get(size, 0) + (4 if chunk[1] & 128 else 0)
    return masked(chunk[0], chunk[begin:])


def _publish(body: bytes, qos: int) -> bytes:
    topic_ends = 2 + int.from_bytes(body[:2], "big") + (2 if qos else 0)
    payload = body[topic_ends:]
    begin = _after_varlen(payload, len(HEADER)) if payload.startswith(HEADER) else None
    if begin is None:
        return body
    return body[:topic_ends] + HEADER + length_bytes(len(payload) - begin) + payload[begin:]


def _after_varlen(data: bytes, at: int) -> int | None:
    for place in range(at, min(at + 4, len(data))):
        if data[place] < 128:
            return place + 1
    return None
