"""The table ``[listeners.modbus]``.

::

    [listeners.modbus]
    poll_every = 5
    [listeners.modbus.maps]
    boiler = [
        { name = "temperature", table = "input", address = 0, type = "int16", scale = 0.1 },
        { name = "set_point", address = 10, type = "int16", scale = 0.1, writable = true },
        { name = "pump", table = "coil", address = 0, type = "bool", writable = true },
    ]

We connect to devices and nobody connects to us, so there is nothing to bind.
"""

from __future__ import annotations

from typing import Literal

from broker.extension import ListenerSettings, Seconds, Size
from broker_modbus.registers import Register, check_map


class Settings(ListenerSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What can be configured; a device says in its registration which of the maps is its own."""

    #: Seconds from the end of one poll of a device to the next one.
    poll_every: Seconds = 5.0
    #: Seconds that a device has for its answer, and that a connection may take.
    timeout: Seconds = 2.0
    #: Seconds that a command has, its place behind what the connection is busy with counted in.
    command_timeout: Seconds = 10.0
    #: Polls without an answer after which a device counts as off-line.
    offline_after: Size = 3
    #: The longest pause between two attempts to connect, in seconds.
    reconnect_max: Seconds = 30.0
    #: Devices that are polled at most: each costs a timer, and each host of theirs a connection.
    max_devices: Size = 2_000
    #: ``every``: each poll is a message; ``changes``: only one that differs from the poll before it.
    report: Literal["every", "changes"] = "every"
    #: The registers of each kind of device.
    maps: dict[str, tuple[Register, ...]] = {}

    def __post_init__(self) -> None:
        for name, registers in self.maps.items():
            try:
                check_map(registers)
            except ValueError as error:
                raise ValueError(f"maps.{name}: {error}") from None
