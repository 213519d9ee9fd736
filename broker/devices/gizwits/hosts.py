"""Hosts and ports that devices are told: what is configured, or else what they called us."""

from __future__ import annotations

import re
from typing import Any, Final

from broker.devices.gizwits.side import GizwitsDevices
from broker.web.routes import Call

#: The port of MQTT, where none of the listener's own can be named.
MQTT_PORT: Final = 1883
#: A name or an address, with or without a port; nothing that could end a field.
_HOST: Final = re.compile(r"([A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?")


def download_host(devices: GizwitsDevices, call: Call) -> str:
    """What stands behind ``http://`` in a download URL, with the port unless that is 80."""
    return devices.settings.public_host or _named(call)


def m2m_address(devices: GizwitsDevices, call: Call) -> tuple[str, int]:
    """Host and port at which devices and apps log in over MQTT."""
    settings = devices.settings
    host = settings.m2m_host
    if not host:
        found = _HOST.fullmatch(_named(call))
        host = found[1] if found is not None else "127.0.0.1"
    if settings.m2m_port:
        return host, settings.m2m_port
    plain = [port for kind, port in devices.core.ports("mqtt") if kind == "tcp"]
    return host, plain[0] if plain else MQTT_PORT


def _named(call: Call) -> str:
    """How the request called us, or the address that it came to."""
    host = call.host.strip()
    if _HOST.fullmatch(host) is not None:
        return host
    local: Any = call.request.connection.socket.getHost()
    address, port = str(getattr(local, "host", "127.0.0.1")), getattr(local, "port", 80)
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
