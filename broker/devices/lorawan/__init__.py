"""LoRaWAN motes behind Semtech packet forwarders (UDP, port 1700), and motes on ChirpStack."""

from __future__ import annotations

from dataclasses import replace

from broker.core import Core
from broker.devices.lorawan.api import add_calls
from broker.devices.lorawan.identity import DeviceRules
from broker.devices.lorawan.listener import LorawanListener
from broker.devices.lorawan.mote_api import MoteCalls
from broker.devices.lorawan.motes import PROTOCOL
from broker.devices.lorawan.relay import DUTY
from broker.devices.lorawan.settings import Settings

__all__ = ["LorawanListener", "Settings", "build"]


def build(core: Core, settings: Settings) -> LorawanListener:
    """The listener; makes motes known to the registry, and the network to application sides."""
    core.registry.protocols[PROTOCOL] = DeviceRules()
    listener = LorawanListener(core, settings)
    core.lora = listener.lora
    add_calls(listener.network)
    core.api_routes.extend(replace(route, duty=DUTY) for route in MoteCalls(listener.network).routes())
    return listener
