"""What 0x88 gateways fetch and post over HTTPS: firmware, backups, recoveries; the table [listeners.files]."""

from __future__ import annotations

from broker.core import Core
from broker.devices.gateway88.files.listener import FilesListener
from broker.devices.gateway88.files.settings import FilesSettings as Settings

__all__ = ["FilesListener", "Settings", "build"]


def build(core: Core, settings: Settings) -> FilesListener:
    """The listener; `broker.devices.gateway88.operations` finds it by its name."""
    return FilesListener(core, settings)
