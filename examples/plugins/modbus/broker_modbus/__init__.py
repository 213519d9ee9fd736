"""Modbus/TCP devices for the broker: registers that are polled become values, commands write registers.

A package of its own that uses the broker's public names alone (`broker.extension`). From the wire inwards:

::

    codec       bytes <-> frames, and what is in them (pymodbus)             no Twisted
    registers   which registers a device has, what their words mean          no Twisted
    bus         the connection to a slave, or to a gateway before several
    slave       one device: its polls, its presence, its commands
    listener    all of them: who is polled, from the start to the end
    identity    how such a device is registered        settings    the table [listeners.modbus]
"""

from __future__ import annotations

from broker.extension import Core
from broker_modbus.identity import PROTOCOL, ModbusRules
from broker_modbus.listener import ModbusListener
from broker_modbus.settings import Settings

__all__ = ["ModbusListener", "Settings", "build"]


def build(core: Core, settings: Settings) -> ModbusListener:
    """What the broker calls once, before anything listens."""
    core.registry.protocols[PROTOCOL] = ModbusRules(settings)
    return ModbusListener(core, settings)
