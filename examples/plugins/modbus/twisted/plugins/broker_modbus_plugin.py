"""Makes the protocol known to `twistd broker`. Plugin files only declare."""

from broker.listening.plugin import ProtocolPlugin

modbus = ProtocolPlugin("modbus", "Modbus/TCP devices: polled registers, written by commands", "broker_modbus")
