"""A gateway's frames, for whoever traces it. What holds secrets is shown masked, and without its bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from broker.devices.gateway88.container import FLAVOURS, Undecodable, decode
from broker.devices.gateway88.frames import Damage, Frame, FrameDecoder
from broker.devices.gateway88.masking import MASK, masked

_NAMES: Final = {flavour: name for name, flavour in FLAVOURS.items()}


class Frames:
    """One direction. ``limit``: bytes of a frame; ``plain``: bytes of the JSON in it."""

    def __init__(self, limit: int, plain: int, checksum_without_length: bool) -> None:
        self._decoder = FrameDecoder(limit, checksum_without_length)
        self._plain = plain

    def feed(self, data: bytes) -> Iterator[tuple[bytes | None, Any]]:
        for item in self._decoder.feed(data):
            if isinstance(item, Damage):
                yield None, {"damaged": item.kind, "bytes": item.size}
            else:
                yield self._told(item)

    def _told(self, frame: Frame) -> tuple[bytes | None, Any]:
        told: dict[str, Any] = {"id": frame.id, "status": frame.status}
        if not frame.data:
            return frame.raw, {**told, "acknowledgement": True}
        try:
            content = decode(frame.data, self._plain)
        except Undecodable as error:
            return frame.raw, {**told, "undecodable": str(error)}
        shown = without_urls(masked(content.value))
        raw = frame.raw if shown is content.value else None
        return raw, {**told, "container": _NAMES.get(content.flavour, "another one"), "message": shown}


def without_urls(value: dict[str, Any]) -> dict[str, Any]:
    """The same without the addresses that let a gateway fetch or post; the same object if there are none."""
    body = value.get(str(value.get("type")))
    if not isinstance(body, dict):
        return value
    hidden = {key: MASK for key, text in body.items() if isinstance(text, str) and "://" in text}
    return {**value, str(value["type"]): {**body, **hidden}} if hidden else value
