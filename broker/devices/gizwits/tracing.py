"""What Gizwits messages say, for whoever traces a device."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from broker.devices.gizwits import codec as g
from broker.devices.gizwits.topics import split


def told(topic: str, payload: bytes) -> dict[str, Any]:
    """``{"command": "0x0091", ...}`` with the fields of the packet, bytes in hexadecimal."""
    try:
        business = split(topic) is not None
        packet: Any = g.decode_business(payload) if business else g.decode_system(payload)
    except g.Malformed as error:
        return {"malformed": error.reason, "bytes": payload.hex()}
    shown = {"command": f"0x{packet.command:04X}"}
    for field in fields(packet):
        value = getattr(packet, field.name)
        if field.name != "command":
            shown[field.name] = value.hex() if isinstance(value, bytes) else value
    return shown
