"""0x88 gateways: acknowledged frames over TLS, port 30000 (the gateway document)."""

from __future__ import annotations

from broker.core import Core
from broker.devices.gateway88 import backup_calls, replacement
from broker.devices.gateway88.calls import routes
from broker.devices.gateway88.identity import PROTOCOL, DeviceRules
from broker.devices.gateway88.protocol import Gateway88Connection, Gateway88Listener
from broker.devices.gateway88.settings import Settings

__all__ = ["Gateway88Connection", "Gateway88Listener", "Settings", "build"]


def build(core: Core, settings: Settings) -> Gateway88Listener:
    """The listener; makes the rules for gateways known to the registry, and their calls to the API."""
    core.registry.protocols[PROTOCOL] = DeviceRules()
    listener = Gateway88Listener(core, settings)
    core.api_routes.extend(routes(core, listener.operations, listener.succession))
    core.api_routes.extend(backup_calls.routes(core, listener.backup_care))
    core.api_routes.extend(replacement.routes(core, listener))
    return listener
