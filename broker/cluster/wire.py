"""What nodes send one another: MessagePack, a list of notes an envelope. Pure.

::

    envelope   [sender, number, [[kind, body], ...]]      what one turn had for one channel or stream
    question   kind "?"   body [id, kind, body]
    answer     kind "!"   body [id, "", body] or [id, slug of the error, its message and details]

``number`` only grows in what one node sends to one stream: what comes a second time, because its sender could not know
whether it had arrived, is known by it.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import msgspec

from broker.model import errors

#: (kind, body)
Note: TypeAlias = "tuple[str, bytes]"

QUESTION: Final = "?"
ANSWER: Final = "!"

_encode = msgspec.msgpack.Encoder().encode
_envelope = msgspec.msgpack.Decoder(tuple[str, int, list[tuple[str, bytes]]]).decode
_question = msgspec.msgpack.Decoder(tuple[int, str, bytes]).decode


class NodeGone(errors.Unavailable):
    """The node is no more."""

    def __init__(self, node: str) -> None:
        super().__init__(f"the broker process {node} is gone")


def envelope(sender: str, number: int, notes: list[Note]) -> bytes:
    return _encode((sender, number, notes))


def open_envelope(data: bytes) -> tuple[str, int, list[Note]]:
    """Raises ValueError."""
    return _envelope(data)


def question(number: int, kind: str, body: bytes) -> bytes:
    """Also an answer; then ``kind`` is the slug of the error, or empty."""
    return _encode((number, kind, body))


def open_question(data: bytes) -> tuple[int, str, bytes]:
    """Raises ValueError."""
    return _question(data)


def pack_error(error: errors.BrokerError) -> bytes:
    details = {key: value for key, value in error.details.items() if isinstance(value, (str, int, float, bool))}
    return _encode((error.message, details))


def unpack_error(slug: str, body: bytes) -> errors.BrokerError:
    """The same error on this side; of a class that is not known here, a plain BrokerError."""
    message, details = msgspec.msgpack.decode(body, type=tuple[str, dict[str, Any]])
    for known in (
        errors.Invalid,
        errors.NotFound,
        errors.Conflict,
        errors.Forbidden,
        errors.Unauthenticated,
        errors.Disabled,
        errors.LimitExceeded,
        errors.DeviceOffline,
        errors.Unavailable,
    ):
        if known.slug == slug:
            return known(message, **details)
    return errors.BrokerError(message, **details)
