"""The devices that are connected now: one `LiveDevice` each, and the rules of takeover.

A device side attaches a link (its connection) after the device proved who it is. A new link of the same device closes
the old one, and only the present link may set the device offline (DESIGN §6). What a connection needs for each message
hangs on the `LiveDevice`, so that a message costs no look-up by id.

A device that goes stays here, offline, until its last values are in storage; then `forget` drops it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from broker.model.interfaces import IDeviceLink
from broker.model.messages import DeviceRef, Presence
from broker.routing.router import Router
from broker.routing.values import LastValues


class LiveDevice:
    """A device with a link, or one that had a link a moment ago."""

    __slots__ = (
        "bridges",
        "info",
        "info_changed",
        "last_heartbeat",
        "last_seen",
        "late",
        "link",
        "presence_reason",
        "ready",
        "ref",
        "since",
        "values",
    )

    def __init__(self, ref: DeviceRef, values: LastValues, info: dict[str, Any]) -> None:
        self.ref = ref
        self.values = values
        #: What the device tells about itself (status, versions); whoever changes it sets ``info_changed``.
        self.info = info
        self.info_changed = False
        self.link: Any = None
        #: When the present link was attached or detached.
        self.since = 0.0
        self.presence_reason = ""
        #: When the last valid message came; written by the device side with every message.
        self.last_seen = 0.0
        #: When its protocol's own sign of life came (0x88 hb, NovaCloud heartbeat, PINGREQ); 0: not yet. Written by the
        #: device side.
        self.last_heartbeat = 0.0
        #: Nothing came for longer than the protocol's normal interval, but it is not given up yet.
        self.late = False
        #: Whether commands may be written to the link now; `broker.routing.commands.Commands.ready` sets it.
        self.ready = False
        #: What application sides keep per device (prepared routes ...), by their name.
        self.bridges: dict[str, Any] = {}

    @property
    def online(self) -> bool:
        return self.link is not None


class LiveDevices:
    """All live devices by id. ``clock`` gives UNIX seconds."""

    def __init__(self, router: Router, clock: Callable[[], float]) -> None:
        self._router = router
        self._clock = clock
        self._devices: dict[str, LiveDevice] = {}
        self.online_by_protocol: dict[str, int] = {}
        #: Told of each device whose link was replaced by a newer one, of which no presence tells.
        self.on_takeover: list[Callable[[LiveDevice], None]] = []
        #: Told of each link that was attached.
        self.attached: list[Callable[[LiveDevice], None]] = []

    def __iter__(self) -> Iterator[LiveDevice]:
        return iter(list(self._devices.values()))

    def __len__(self) -> int:
        return len(self._devices)

    def get(self, device_id: str) -> LiveDevice | None:
        return self._devices.get(device_id)

    def attach(
        self, ref: DeviceRef, link: IDeviceLink, known: Callable[[], tuple[LastValues, dict[str, Any]]]
    ) -> LiveDevice:
        """Make ``link`` the way to the device. An older link is closed with reason ``takeover``.

        ``known()`` gives what storage has of the last values and the info; it is asked only if nothing newer is here.
        Attaching the present link again changes nothing.
        """
        now = self._clock()
        live = self._devices.get(ref.id)
        if live is None or (live.link is None and live.ref.protocol != ref.protocol):
            # Of another protocol: a device that was removed, and its id given to a new one.
            live = self._devices[ref.id] = LiveDevice(ref, *known())
        old, live.link = live.link, link
        if old is link:
            return live
        live.since = live.last_seen = now
        live.late = live.ready = False
        if old is not None:
            old.close_link("takeover")
            self._tell_takeover(live)
        else:
            protocol = live.ref.protocol
            self.online_by_protocol[protocol] = self.online_by_protocol.get(protocol, 0) + 1
            live.presence_reason = "connected"
            self._router.presence(Presence(live.ref, True, "connected", now))
        for told in self.attached:
            told(live)
        return live

    def _tell_takeover(self, live: LiveDevice) -> None:
        for told in self.on_takeover:
            try:
                told(live)
            except Exception as error:
                self._router.fault("takeover", error)

    def detach(self, live: LiveDevice, link: IDeviceLink, reason: str) -> bool:
        """The link is gone. True if that made the device offline, False if a newer link had taken over before."""
        if live.link is not link:
            return False
        live.link = None
        live.ready = False
        live.since = self._clock()
        live.presence_reason = reason
        self.online_by_protocol[live.ref.protocol] -= 1
        self._router.presence(Presence(live.ref, False, reason, live.since))
        return True

    def surrender(self, live: LiveDevice) -> Any:
        """The device is connected to another process now, or may be: drop it without telling anybody. Its link."""
        link, live.link = live.link, None
        live.ready = False
        if link is not None:
            self.online_by_protocol[live.ref.protocol] -= 1
        if self._devices.get(live.ref.id) is live:
            del self._devices[live.ref.id]
        return link

    def forget(self, live: LiveDevice) -> None:
        """Drop a device that is offline and has nothing left to write."""
        if live.link is None and self._devices.get(live.ref.id) is live:
            del self._devices[live.ref.id]
