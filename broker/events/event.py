"""One event, as it is kept and as it is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from broker.events.catalogue import KINDS
from broker.model.jsontext import decode_object, encode

#: Bytes of the details as JSON; longer ones are replaced by a note, so that no event is too long for a sink.
MAX_DETAILS: Final = 65_536


class Event(msgspec.Struct, kw_only=True):
    """``id`` is the same wherever and however often it is told; ``at`` is UNIX seconds.

    ``number`` is its place in the journal, which gives the order; 0 until it has one.
    """

    id: str
    kind: str
    at: float
    device: str | None = None
    protocol: str | None = None
    details: dict[str, Any] = {}
    number: int = 0

    def as_dict(self) -> dict[str, Any]:
        """``{"id", "kind", "severity", "at", "device", "protocol", "details"}``: stream, webhooks, HTTP."""
        return {
            "id": self.id,
            "kind": self.kind,
            "severity": severity_of(self.kind),
            "at": round(self.at, 3),
            "device": self.device,
            "protocol": self.protocol,
            "details": self.details,
        }


def seen_by(event: Event, may_see: Callable[[str], bool]) -> Event | None:
    """What an application may know of it: nothing of what concerns none of its devices, and no other device's id."""
    if event.device is None or not may_see(event.device):
        return None
    children = event.details.get("children")
    if not isinstance(children, dict) or "offline_ids" not in children:
        return event
    mine = [id for id in children["offline_ids"] if may_see(id)]
    return msgspec.structs.replace(event, details={**event.details, "children": {**children, "offline_ids": mine}})


def severity_of(kind: str) -> str:
    """Of the catalogue; a kind of a later version, in a journal that was put back, is a warning."""
    known = KINDS.get(kind)
    return "warning" if known is None else known.severity


def checked_details(details: dict[str, Any]) -> dict[str, Any]:
    """A copy as JSON has it. What JSON cannot hold, or what is too long, becomes a note that says so."""
    try:
        text = encode(details)
        if len(text) > MAX_DETAILS:
            return {"omitted": f"{len(text)} bytes of details"}
        copy = decode_object(text)
        msgspec.msgpack.encode(copy)  # JSON has greater numbers than a record can hold
        return copy
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        return {"omitted": str(error)[:200]}
