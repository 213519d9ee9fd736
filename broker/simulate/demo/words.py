"""What crosses the demo, in words for people: what devices say in whatever form it came, values, times."""

from __future__ import annotations

import struct
from base64 import b64decode
from typing import Any, Final

import msgspec

from broker.devices.gizwits.datapoints import DataPoint, Table
from broker.model.messages import payload_object
from broker.simulate.demo.cast import GIZWITS, LORAWAN, Subject
from broker.simulate.gizwits_lamp import DATAPOINTS

_LAMP: Final = Table(msgspec.convert(DATAPOINTS, list[DataPoint]))
#: Bytes of a mote's message, see `broker.simulate.room.Room.telemetry`.
_TELEMETRY: Final = struct.Struct(">hBB")
_MEBIBYTE: Final = 1 << 20


def said(subject: Subject, data: bytes) -> str:
    """A device's message that came as bytes."""
    if subject.protocol == GIZWITS:
        return text(_LAMP.attrs(data) or data)
    if subject.protocol == LORAWAN and len(data) == _TELEMETRY.size:
        tenths, humidity, battery = _TELEMETRY.unpack(data)
        return f"temperature={tenths / 10} humidity={humidity} battery={battery}"
    fields = payload_object(data)
    return text(data) if set(fields) == {"base64"} else said_fields(fields)


def said_fields(fields: dict[str, Any]) -> str:
    """One that came as an object. What a gateway says is in a member that is called as its type."""
    inner = fields.get(str(fields.get("type")), fields)
    if not isinstance(inner, dict):
        return text(inner)
    if "freeram" in inner:
        return f"free RAM {inner['freeram'] / _MEBIBYTE:.1f} MB, flash {inner['freedisk'] / 1024:.1f} MB"
    return text(inner)


def uplink_text(subject: Subject, message: dict[str, Any]) -> str:
    """One in our own JSON: its ``payload`` is the object, or ``payload_base64`` the bytes."""
    payload = message.get("payload")
    return said_fields(payload) if payload is not None else said(subject, b64decode(message["payload_base64"]))


def failure_text(result: object) -> str:
    """Why a command has failed, of its result; empty if that does not say."""
    return text(result.get("error")) if isinstance(result, dict) else ""


def text(value: object) -> str:
    """A value in a line; of an object what is in it."""
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return " ".join(f"{key}={_plain(inner)}" for key, inner in value.items())
    return _plain(value)


def _plain(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def cut(words: str, columns: int) -> str:
    return words if len(words) <= columns else words[: columns - 3] + "..."


def took(seconds: float) -> str:
    """How long something took."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
