"""Devices whose packets somebody is looking at (DESIGN §12).

::

    trace on ──> the device's link tells of each packet ──> log line, stream
                 (now, and each link that it gets later)
    time over, or trace off ──> the link stops

A link that can be traced has ``trace(tell)`` (`broker.model.interfaces.ITracedLink`); while nobody traces it, that
costs its packets nothing. How many are traced at once and for how long is limited: a trace costs more than the message.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from broker.model.errors import Invalid, LimitExceeded, NotFound
from broker.routing.live import LiveDevice, LiveDevices

IN = "in"
OUT = "out"


class TracedPacket:
    """One packet: ``raw`` as it was on the wire (None where it holds secrets), ``decoded`` for JSON."""

    __slots__ = ("at", "decoded", "device", "direction", "protocol", "raw")

    def __init__(self, device: str, protocol: str, direction: str, raw: bytes | None, decoded: Any, at: float) -> None:
        self.device = device
        self.protocol = protocol
        self.direction = direction
        self.raw = raw
        self.decoded = decoded
        self.at = at

    def as_dict(self) -> dict[str, Any]:
        """``{"device", "protocol", "direction", "at", "raw": hexadecimal or null, "decoded"}``."""
        return {
            "device": self.device,
            "protocol": self.protocol,
            "direction": self.direction,
            "at": round(self.at, 3),
            "raw": None if self.raw is None else self.raw.hex(),
            "decoded": self.decoded,
        }


class Traces:
    """``clock`` gives UNIX seconds. ``watchers`` are told of each packet; they must not block or raise."""

    def __init__(
        self, devices: LiveDevices, clock: Callable[[], float], max_devices: int = 20, max_seconds: float = 3_600.0
    ) -> None:
        self._devices = devices
        self._clock = clock
        self.max_devices = max_devices
        self.max_seconds = max_seconds
        self.watchers: list[Callable[[TracedPacket], None]] = []
        #: Told of a trace that somebody begins here (device, seconds), or ends (device, 0).
        self.on_change: list[Callable[[str, float], None]] = []
        #: Device -> UNIX seconds at which its trace ends.
        self._until: dict[str, float] = {}
        devices.attached.append(self._attached)

    def every(self) -> list[tuple[str, float]]:
        """Who is traced, and until when (UNIX seconds)."""
        return sorted(self._until.items())

    def until(self, device: str) -> float | None:
        return self._until.get(device)

    def begin(self, device: str, seconds: float) -> float:
        """Trace a device for so long from now; when that ends. Raises Invalid, LimitExceeded.

        One that is away is traced when it comes.
        """
        if not 0 < seconds <= self.max_seconds:
            raise Invalid(f"a trace may last {self.max_seconds:.0f} seconds at most")
        if device not in self._until and len(self._until) >= self.max_devices:
            raise LimitExceeded(f"{self.max_devices} devices are traced already", limit="log.max_traced")
        live = self._devices.get(device)
        if live is not None and live.link is not None and not hasattr(live.link, "trace"):
            raise Invalid(f"{live.ref.protocol} devices cannot be traced")
        self.follow(device, seconds)
        for told in self.on_change:
            told(device, seconds)
        return self._until[device]

    def follow(self, device: str, seconds: float) -> None:
        """A trace that was begun here, or at another process: for so long from now; 0: it has ended."""
        if not seconds:
            self._stop(device)
            return
        traced = device in self._until
        self._until[device] = self._clock() + seconds
        live = self._devices.get(device)
        if live is not None and not traced:
            self._attached(live)

    def end(self, device: str) -> None:
        """Stop. Raises NotFound."""
        if device not in self._until:
            raise NotFound(f"{device} is not traced")
        self._stop(device)
        for told in self.on_change:
            told(device, 0.0)

    def told_elsewhere(self, packet: TracedPacket) -> None:
        """A packet that crossed a connection of another process."""
        for watcher in self.watchers:
            watcher(packet)

    def _stop(self, device: str) -> None:
        self._until.pop(device, None)
        live = self._devices.get(device)
        link: Any = None if live is None else live.link
        if hasattr(link, "trace"):
            link.trace(None)

    def tick(self) -> None:
        """About once a second: end those whose time is over."""
        now = self._clock()
        for device, until in list(self._until.items()):
            if until <= now:
                self._stop(device)

    def _attached(self, live: LiveDevice) -> None:
        device, protocol = live.ref.id, live.ref.protocol
        link = live.link
        if device not in self._until or not hasattr(link, "trace"):
            return

        def tell(direction: str, raw: bytes | None, decoded: Any) -> None:
            packet = TracedPacket(device, protocol, direction, raw, decoded, self._clock())
            for watcher in self.watchers:
                watcher(packet)

        link.trace(tell)
