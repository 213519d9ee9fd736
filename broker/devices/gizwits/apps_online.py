"""How many apps that are bound to a device are online, and the device's being told (4.11, 4.12).

The application side says what it is; the device hears of every change, and when it asks. Agents that never ask expect
to be told unasked, so one that has just subscribed hears of it too, unless it is none.

Apps at other processes count as well (`broker.devices.gizwits.apps_across`).
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
        #: did -> node -> how many are at that process; only of devices that are connected here, and not 0.
        self._far: dict[str, dict[str, int]] = {}
        #: Whether the device hears of the apps here from another process, which was told now: ``(did, count)``.
        self.pass_on: Callable[[str, int], bool] | None = None

    def count(self, did: str) -> int:
        """Those at this process."""
        return self._counts.get(did, 0)

    def total(self, did: str) -> int:
        """Those at all processes, of a device that is connected here."""
        far = self._far.get(did)
        return self.count(did) + (sum(far.values()) if far else 0)

    def change(self, did: str, count: int) -> None:
        """So many are online now at this process."""
        if count == self.count(did):
            return
        if count:
            self._counts[did] = count
        else:
            del self._counts[did]
        if self.pass_on is None or not self.pass_on(did, count):
            self.tell(did)

    def tell(self, did: str) -> None:
        """Send the device its count."""
        self._push(did, encode(Apps(min(self.total(did), MOST))))

    def greet(self, did: str) -> None:
        """The device has just subscribed to what it is told."""
        if self.total(did):
            self.tell(did)

    # -- other processes -------------------------------------------------------------------------------------------

    def far(self) -> list[tuple[str, str]]:
        """(device, node) of those with apps at other processes."""
        return [(did, node) for did, counts in self._far.items() for node in counts]

    def change_far(self, did: str, node: str, count: int) -> bool:
        """So many are online at that process; whether that is new."""
        counts = self._far.get(did, {})
        if counts.get(node, 0) == count:
            return False
        if count:
            self._far.setdefault(did, counts)[node] = count
        else:
            del counts[node]
            if not counts:
                del self._far[did]
        return True

    def forget_far(self, did: str) -> None:
        """The device is connected here no more."""
        self._far.pop(did, None)
