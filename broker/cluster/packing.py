"""Messages as they travel between processes: MessagePack arrays of their fields, bytes as bytes. Pure."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from broker.model.messages import Command, DeviceRef, Presence, Uplink

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode

#: What a Command is made with, and what changes in its life.
_MADE: Final = (
    "id",
    "device",
    "protocol",
    "payload",
    "origin",
    "created_at",
    "expires_at",
    "timeout",
    "ref",
    "options",
)
_CHANGES: Final = ("updated_at", "status", "result", "late", "deadline")


def pack_command(command: Command) -> bytes:
    return _encode([getattr(command, name) for name in (*_MADE, *_CHANGES)])


def unpack_command(data: bytes) -> Command:
    """Raises ValueError."""
    values: list[Any] = _decode(data)
    command = Command(*values[: len(_MADE)])
    for name, value in zip(_CHANGES, values[len(_MADE) :], strict=True):
        setattr(command, name, value)
    return command


def pack_uplink(message: Uplink) -> bytes:
    ref = message.device
    meta = None if message.meta is None else dict(message.meta)
    fields = (ref.protocol, ref.id, message.kind, message.payload, message.received_at, message.sent_at, meta)
    return _encode(fields)


def unpack_uplink(data: bytes) -> Uplink:
    """Raises ValueError."""
    protocol, id, *rest = _decode(data)
    return Uplink(DeviceRef(protocol, id), *rest)


def pack_presence(change: Presence) -> bytes:
    ref = change.device
    return _encode((ref.protocol, ref.id, change.online, change.reason, change.at))


def unpack_presence(data: bytes) -> Presence:
    """Raises ValueError."""
    protocol, id, online, reason, at = _decode(data)
    return Presence(DeviceRef(protocol, id), online, reason, at)
