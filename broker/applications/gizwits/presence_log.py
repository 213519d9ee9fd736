"""When devices came and went, as far as it is remembered: in memory, a few lines a device, of so many devices."""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from broker.model.messages import Presence

#: Lines of one device.
LINES: Final = 20
#: Devices; the one that came or went longest ago is forgotten first.
MAX_DEVICES: Final = 20_000


class PresenceLog:
    """The lines by device id, oldest first."""

    def __init__(self) -> None:
        self._lines: dict[str, deque[tuple[float, str]]] = {}

    def note(self, change: Presence) -> None:
        did = change.device.id
        lines = self._lines.pop(did, None)
        if lines is None:
            lines = deque(maxlen=LINES)
            if len(self._lines) >= MAX_DEVICES:
                del self._lines[next(iter(self._lines))]
        if not change.online:
            kind = "dev_offline"
        else:
            kind = "dev_re_online" if change.reason == "takeover" else "dev_online"
        lines.append((change.at, kind))
        self._lines[did] = lines

    def of(self, did: str) -> list[dict[str, Any]]:
        """As the Open API shows them."""
        lines = self._lines.get(did, ())
        return [{"type": kind, "ip": "", "timestamp": round(at, 3), "payload_bin": ""} for at, kind in lines]
