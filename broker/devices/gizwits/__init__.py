"""Gizwits devices (device and cloud 4.0.6): GService over HTTP, business messages over MQTT."""

from __future__ import annotations

from broker.core import Core
from broker.devices.gizwits.api import Calls
from broker.devices.gizwits.settings import DeviceSettings
from broker.devices.gizwits.side import GizwitsDevices

__all__ = ["DeviceSettings", "GizwitsDevices", "build_devices"]


def build_devices(core: Core, settings: DeviceSettings) -> GizwitsDevices:
    """The device side: makes its rules known to the registry and its devices to the MQTT server.

    Whoever calls it has to call ``prepare()`` of the answer before devices come.
    """
    devices = GizwitsDevices(core, settings)
    core.api_routes.extend(Calls(devices).routes())
    return devices
