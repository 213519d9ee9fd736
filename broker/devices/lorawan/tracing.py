"""A mote's frames, for whoever traces it: what was in them, in clear, and MAC commands by their names."""

from __future__ import annotations

from typing import Any

import msgspec

from broker.devices.lorawan.frames import DataUp
from broker.devices.lorawan.mac import codec
from broker.devices.lorawan.reception import Heard


def uplink(heard: Heard, frame: DataUp, fcnt: int, clear: bytes) -> dict[str, Any]:
    """``clear``: the payload, decrypted; ``gateways``: who heard it, the best first."""
    return {
        "frame": "data_up",
        "fcnt": fcnt,
        "port": frame.port,
        "confirmed": frame.confirmed,
        "ack": frame.ack,
        "adr": frame.adr,
        "adr_ack_req": frame.adr_ack_req,
        "mac": _named(*codec.parse_up(clear if frame.port == 0 else frame.fopts)),
        "payload": clear.hex() if frame.port else "",
        "data_rate": heard.receptions[0].datr,
        "frequency": heard.receptions[0].frequency,
        "gateways": [reception.as_dict() for reception in heard.receptions],
    }


def downlink(fcnt: int, port: int | None, payload: bytes, fopts: bytes, confirmed: bool, ack: bool) -> dict[str, Any]:
    """A frame that is on its way to a gateway."""
    return {
        "frame": "data_down",
        "fcnt": fcnt,
        "port": port,
        "confirmed": confirmed,
        "ack": ack,
        "mac": _named(*codec.parse_down(payload if port == 0 else fopts)),
        "payload": payload.hex() if port else "",
    }


def _named(commands: list[codec.Command], whole: bool) -> list[dict[str, Any]]:
    named = [{"command": type(one).__name__, **msgspec.to_builtins(one)} for one in commands]
    return named if whole else [*named, {"command": "unknown"}]
