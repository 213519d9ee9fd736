"""The messages that cross the broker (DESIGN §3), slotted and cheap to make.

An `Uplink` keeps its payload as it came: a JSON object (``dict``) or ``bytes``. It is converted when a consumer of the
other form first asks, once per form, never on arrival. What a payload becomes on a side that is not its own is written
in `payload_bytes` and `payload_object` below and nowhere else:

======  ==========  ========================================================================
from    to          becomes
======  ==========  ========================================================================
JSON    bytes       compact UTF-8 JSON
bytes   JSON        the object itself when the bytes are a JSON object, else {"base64": "..."}
======  ==========  ========================================================================

All times are UNIX seconds as floats.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import Any, Final

from broker.model.jsontext import decode, encode

Payload = dict[str, Any] | bytes

DATA: Final = "data"
STATUS: Final = "status"
EVENT: Final = "event"
LOG: Final = "log"
RAW: Final = "raw"
KINDS: Final = (DATA, STATUS, EVENT, LOG, RAW)


def _kind_json(kind: str) -> bytes:
    return b',"kind":"%b","at":' % kind.encode()


_KINDS_JSON: Final = {kind: _kind_json(kind) for kind in KINDS}


def payload_bytes(payload: Payload) -> bytes:
    """The payload for a side that carries bytes."""
    return payload if isinstance(payload, bytes) else encode(payload)


def payload_object(payload: Payload) -> dict[str, Any]:
    """The payload for a side that carries JSON objects."""
    if not isinstance(payload, bytes):
        return payload
    try:
        value = decode(payload)
    except ValueError:
        value = None
    if isinstance(value, dict):
        return value
    return {"base64": b64encode(payload).decode("ascii")}


def payload_member(payload: Payload) -> tuple[str, Any]:
    """Name and value of the member that carries a payload in our JSON: ``payload`` or ``payload_base64``."""
    if isinstance(payload, bytes):
        return "payload_base64", b64encode(payload).decode("ascii")
    return "payload", payload


class DeviceRef:
    """Who a device is: its protocol and its id. One object per device that is live, shared by all its messages."""

    __slots__ = ("_at", "_at_text", "_sent_at", "_sent_tail", "id", "json_head", "protocol")

    def __init__(self, protocol: str, id: str) -> None:
        self.protocol = protocol
        self.id = id
        #: The start of every JSON message about this device, encoded once.
        self.json_head = b'{"device":' + encode(id) + b',"protocol":' + encode(protocol)
        self._at = 0.0
        self._at_text = b"0.000"
        self._sent_at: float | None = None
        self._sent_tail = b""

    def at_text(self, at: float) -> bytes:
        """A time as it stands in JSON. All that came in one chunk came at one time, so the last one is kept."""
        if at != self._at:
            self._at_text = b"%.3f" % at
            self._at = at
        return self._at_text

    def sent_tail(self, sent_at: float) -> bytes:
        """The end of the JSON of a message with nothing in ``meta`` but the device's own time.

        Devices say whole seconds, so several messages have the same one.
        """
        if sent_at != self._sent_at:
            self._sent_tail = b',"meta":{"sent_at":%b}}' % encode(sent_at)
            self._sent_at = sent_at
        return self._sent_tail

    def __repr__(self) -> str:
        return f"<{self.protocol} device {self.id}>"


class Uplink:
    """Something that a device said.

    ``kind`` is one of `KINDS`; ``received_at`` is when the broker got it, ``sent_at`` the device's own time where it
    gave a usable one; ``meta`` holds what the protocol knows beyond the payload (LoRaWAN: port, fcnt, rssi ...).
    """

    __slots__ = ("_bytes", "_json", "device", "kind", "meta", "payload", "received_at", "sent_at")

    def __init__(
        self,
        device: DeviceRef,
        kind: str,
        payload: Payload,
        received_at: float,
        sent_at: float | None = None,
        meta: dict[str, Any] | None = None,
    ) -> None:
        self.device = device
        self.kind = kind
        self.payload = payload
        self.received_at = received_at
        self.sent_at = sent_at
        self.meta = meta
        self._json: bytes | None = None
        self._bytes: bytes | None = None

    def as_json(self) -> bytes:
        """``{"device", "protocol", "kind", "at", "payload" | "payload_base64", "meta"?}`` for topics, stream and HTTP.

        ``at`` is the time of receipt; the device's own time is ``meta.sent_at``.
        """
        text = self._json
        if text is None:
            payload = self.payload
            device = self.device
            if self.meta is not None:
                tail = b',"meta":%b}' % encode(self.full_meta())
            elif self.sent_at is not None:
                tail = device.sent_tail(self.sent_at)
            else:
                tail = b"}"
            kind = _KINDS_JSON.get(self.kind) or _kind_json(self.kind)
            at = device.at_text(self.received_at)
            if isinstance(payload, bytes):
                text = b'%b%b%b,"payload_base64":"%b"%b' % (device.json_head, kind, at, b64encode(payload), tail)
            else:
                text = b'%b%b%b,"payload":%b%b' % (device.json_head, kind, at, encode(payload), tail)
            self._json = text
        return text

    def full_meta(self) -> dict[str, Any] | None:
        """``meta`` together with the device's own time, or None when there is neither."""
        if self.sent_at is None:
            return self.meta
        if self.meta is None:
            return {"sent_at": self.sent_at}
        return {**self.meta, "sent_at": self.sent_at}

    def as_bytes(self) -> bytes:
        """The payload alone, for sides that carry bytes."""
        data = self._bytes
        if data is None:
            data = self._bytes = payload_bytes(self.payload)
        return data

    def __repr__(self) -> str:
        return f"<Uplink {self.kind} of {self.device.id}>"


class Presence:
    """A device came or went. ``reason`` is a word of `broker.model.names.PRESENCE_REASONS` or a close reason."""

    __slots__ = ("_json", "at", "device", "online", "reason")

    def __init__(self, device: DeviceRef, online: bool, reason: str, at: float) -> None:
        self.device = device
        self.online = online
        self.reason = reason
        self.at = at
        self._json: bytes | None = None

    def as_json(self) -> bytes:
        """``{"device", "online", "reason", "at"}``, plus the protocol."""
        if self._json is None:
            self._json = b'%b,"online":%b,"reason":%b,"at":%.3f}' % (
                self.device.json_head,
                b"true" if self.online else b"false",
                encode(self.reason),
                self.at,
            )
        return self._json


QUEUED: Final = "queued"
SENT: Final = "sent"
PENDING: Final = "pending"
SUCCEEDED: Final = "succeeded"
FAILED: Final = "failed"
TIMED_OUT: Final = "timed_out"
EXPIRED: Final = "expired"
CANCELLED: Final = "cancelled"
OPEN_STATES: Final = frozenset({QUEUED, SENT, PENDING})
FINAL_STATES: Final = frozenset({SUCCEEDED, FAILED, TIMED_OUT, EXPIRED, CANCELLED})


class Command:
    """What an application asks of a device, through its whole life (DESIGN §5).

    ``id`` is a UUID made by the broker and the wire's id where the protocol has one; ``ref`` is the caller's own
    reference, echoed; ``origin`` says where it came from (``"admin"`` or ``"application:<id>"``); ``expires_at`` is
    when it stops waiting for its device; ``timeout`` is how many seconds the first answer may take after sending, None
    for the protocol's own; ``options`` are the protocol's (ack, port, confirm, priority, force). Only the life cycle
    (`broker.routing.commands`) changes a command after it was made.
    """

    __slots__ = (
        "created_at",
        "deadline",
        "device",
        "expires_at",
        "id",
        "late",
        "options",
        "origin",
        "payload",
        "protocol",
        "ref",
        "result",
        "status",
        "timeout",
        "updated_at",
    )

    def __init__(
        self,
        id: str,
        device: str,
        protocol: str,
        payload: Payload,
        origin: str,
        created_at: float,
        expires_at: float,
        timeout: float | None = None,
        ref: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.id = id
        self.device = device
        self.protocol = protocol
        self.payload = payload
        self.origin = origin
        self.created_at = created_at
        self.updated_at = created_at
        self.expires_at = expires_at
        self.timeout = timeout
        self.ref = ref
        self.options: dict[str, Any] = dict(options or {})
        self.status = QUEUED
        self.result: Any = None
        self.late: list[dict[str, Any]] = []
        #: When the present state ends by itself: expiry while queued, time-out while sent or pending, None when final.
        self.deadline: float | None = expires_at

    @property
    def final(self) -> bool:
        return self.status in FINAL_STATES

    def as_dict(self) -> dict[str, Any]:
        """The ``command`` shape of DESIGN §8."""
        name, value = payload_member(self.payload)
        return {
            "id": self.id,
            "ref": self.ref,
            "device": self.device,
            "status": self.status,
            name: value,
            "result": self.result,
            "created_at": self.created_at,
            "updated_at": self.updated_at,
            "expires_at": self.expires_at,
            "late": self.late,
        }

    def reply_json(self) -> bytes:
        """What goes out on ``devices/<id>/reply``: ``{"id", "ref", "status", "result", "at"}`` (DESIGN §9)."""
        return encode(
            {
                "id": self.id,
                "ref": self.ref,
                "status": self.status,
                "result": self.result,
                "at": round(self.updated_at, 3),
            }
        )

    def __repr__(self) -> str:
        return f"<Command {self.id} to {self.device}: {self.status}>"


class Reply:
    """What a device answered. ``status`` is PENDING, SUCCEEDED or FAILED; ``payload`` is JSON or None."""

    __slots__ = ("command_id", "payload", "received_at", "status")

    def __init__(self, command_id: str, status: str, payload: Any, received_at: float) -> None:
        self.command_id = command_id
        self.status = status
        self.payload = payload
        self.received_at = received_at
