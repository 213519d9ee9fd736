"""Several simulated devices of any protocol, started and stopped together."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Final, Generic, Protocol, TypeVar

from twisted.internet.defer import Deferred, DeferredList


class Member(Protocol):
    """What a fleet asks of a device."""

    @property
    def online(self) -> bool:
        """Logged in."""

    def start(self) -> None:
        """Connect, and go on connecting."""

    def stop(self) -> Deferred[None]:
        """Close, and connect no more; fires when the connection is gone."""


D = TypeVar("D", bound=Member)


#: Seconds after which those begin that come later.
LATER: Final = 60.0


class Fleet(Generic[D]):
    """Devices that start ``gap`` seconds apart, so that they do not all connect in one moment.

    ``late``: the places of those that come `LATER`.
    """

    def __init__(self, reactor: Any, devices: Iterable[D], gap: float = 0.01, late: Collection[int] = ()) -> None:
        self.devices = list(devices)
        self._late = late
        self._reactor = reactor
        self._gap = gap
        self._starts: list[Any] = []

    @property
    def online(self) -> int:
        return sum(device.online for device in self.devices)

    def start(self) -> None:
        for number, device in enumerate(self.devices):
            delay = number * self._gap + (LATER if number in self._late else 0.0)
            self._starts.append(self._reactor.callLater(delay, device.start))

    def stop(self) -> Deferred[Any]:
        """Fires when all connections are gone."""
        for start in self._starts:
            if start.active():
                start.cancel()
        return DeferredList([device.stop() for device in self.devices])
