"""What a device's connection needs of the device side; `side` provides it."""

from __future__ import annotations

from typing import Any, Protocol

from broker.core import Core
from broker.devices.gizwits.apps_online import AppsOnline
from broker.devices.gizwits.settings import DeviceSettings


class Host(Protocol):
    """The part of `broker.devices.gizwits.side.GizwitsDevices` that its connections use."""

    core: Core
    settings: DeviceSettings
    online: AppsOnline

    def take_news(self, did: str) -> dict[str, Any]: ...

    def subscribed(self, did: str) -> None: ...

    def wait_for(self, did: str, sn: int, command_id: str) -> None: ...

    def acknowledged(self, did: str, sn: int) -> str | None: ...
