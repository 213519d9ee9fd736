"""Telling devices that are online of firmware for them: 0x020E to agents of OTA v4.0, 0x0211 to all others.

Not all at once: each that is told comes for its image, so they are told some a second.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from broker.core import Core
from broker.devices.gizwits.identity import PROTOCOL
from broker.devices.gizwits.rollout import KIND_NAMES, Image, choose, notice

#: Devices that are told together, and seconds until the next ones are.
AT_ONCE: Final = 50
PAUSE: Final = 0.5


class Notices:
    """``tell(did, payload)`` sends a system message; ``host()`` is what stands in download URLs, if that is known."""

    def __init__(self, core: Core, tell: Callable[[str, bytes], None], host: Callable[[], str]) -> None:
        self._core = core
        self._tell = tell
        self._host = host
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._call: Any = None

    def announce(self, image: Image) -> int:
        """Tell every online device that gets this image; how many those are."""
        told = 0
        for live in self._core.devices:
            if live.ref.protocol != PROTOCOL or not live.online:
                continue
            payload = self._for(live.link, live.info, image)
            if payload is not None:
                self._waiting.append((live.ref.id, payload))
                told += 1
        if self._call is None:
            self._next()
        return told

    def _for(self, link: Any, info: dict[str, Any], image: Image) -> bytes | None:
        """What this device is to be told. One that never said what it has is told to ask."""
        if (link.product or "").lower() != image.product.lower():
            return None
        known = info.get(KIND_NAMES[image.kind])
        if not isinstance(known, dict):
            covered = image.rule.devices is None or link.did in image.rule.devices
            return notice(image, "", "") if covered else None
        if known.get("hard_version") != image.hard_version:
            return None
        if choose((image,), link.did, str(known.get("soft_version"))) is None:
            return None
        return notice(image, str(known.get("ota")), self._host())

    def _next(self) -> None:
        self._call = None
        for _ in range(min(AT_ONCE, len(self._waiting))):
            self._tell(*self._waiting.popleft())
        if self._waiting:
            self._call = self._core.reactor.callLater(PAUSE, self._next)
