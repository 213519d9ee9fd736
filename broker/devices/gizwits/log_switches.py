"""Which log levels and LEDs of a device are on (4.10): remembered in its ``info``, and sent when it is there.

``info["log"]``: ``{"error", "warning", "info", "leds": bool, "bits": all of them, "sent": bool, "confirmed": bool}``.
``sent``: it is on its way or with the device, and not waiting for it to come back. ``confirmed``: the device has
answered 0x0011; agents that do not know the setting never do.
"""

from __future__ import annotations

from typing import Any

from broker.devices.gizwits.codec import ERROR_LOGS, INFO_LOGS, LEDS, WARNING_LOGS

_NAMES = {"error": ERROR_LOGS, "warning": WARNING_LOGS, "info": INFO_LOGS, "leds": LEDS}


def bits_of(switches: dict[str, bool], before: int = 0) -> int:
    """The bits with some of them set or cleared."""
    bits = before
    for name, bit in _NAMES.items():
        if name in switches:
            bits = bits | bit if switches[name] else bits & ~bit
    return bits


def setting(bits: int, sent: bool, confirmed: bool = False) -> dict[str, Any]:
    """What is remembered."""
    named = {name: bool(bits & bit) for name, bit in _NAMES.items()}
    return {**named, "bits": bits, "sent": sent, "confirmed": confirmed}


def remembered(info: dict[str, Any]) -> dict[str, Any] | None:
    """The setting in an ``info``, if there is one."""
    known = info.get("log")
    return known if isinstance(known, dict) and isinstance(known.get("bits"), int) else None
