"""NovaCloud devices: JSON lines over TCP, port 8100 (the NovaCloud TCP guide)."""

from __future__ import annotations

from broker.core import Core
from broker.devices.novacloud.identity import DeviceRules
from broker.devices.novacloud.protocol import PROTOCOL, NovaCloudConnection, NovaCloudListener
from broker.devices.novacloud.settings import Settings

__all__ = ["NovaCloudConnection", "NovaCloudListener", "Settings", "build"]


def build(core: Core, settings: Settings) -> NovaCloudListener:
    """The listener; makes the rules for NovaCloud devices known to the registry."""
    core.registry.protocols[PROTOCOL] = DeviceRules()
    return NovaCloudListener(core, settings)
