"""How many apps that are bound to a device are online, and the device's being told (4.11, 4.12).

The application side says what it is; the device hears of every change, and when it asks. Agents that never ask expect
to be told unasked, so one that has just subscribed hears of it too, unless it is none.
"""

from __future__ import annotations

from collections.abc import Callable

from broker.devices.gizwits.codec import Apps, encode

#: What two bytes can hold.
MOST = 0xFFFF


class AppsOnline:
    """``push(did, payload)`` sends a system message to a device, if it is there."""

    def __init__(self, push: Callable[[str, bytes], None]) -> None:
        self._push = push
        #: Only those that are not 0.
        self._counts: dict[str, int] = {}

    def count(self, did: str) -> int:
        return self._counts.get(did, 0)

    def change(self, did: str, count: int) -> None:
        """So many are online now."""
        if count == self.count(did):
            return
        if count:
            self._counts[did] = count
        else:
            del self._counts[did]
        self.tell(did)

    def tell(self, did: str) -> None:
        """Send the device its count."""
        self._push(did, encode(Apps(min(self.count(did), MOST))))

    def greet(self, did: str) -> None:
        """The device has just subscribed to what it is told."""
        if did in self._counts:
            self.tell(did)
