"""How a Modbus device is registered.

::

    POST /api/v1/devices {"protocol": "modbus", "id": "boiler-1", "host": "10.0.0.5", "unit": 1, "map": "boiler"}

The device proves nothing, as the protocol has no way to: whoever answers at the address is it.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from broker.extension import Invalid
from broker_modbus.registers import Register
from broker_modbus.settings import Settings

PROTOCOL: Final = "modbus"
DEFAULT_PORT: Final = 502
MAX_HOST: Final = 253


class Address(NamedTuple):
    """Where a device is: a gateway has several units."""

    host: str
    port: int
    unit: int


class ModbusRules:
    """`broker.extension.DeviceRules`."""

    hashed: Final = False
    known_fields: Final = frozenset({"host", "port", "unit", "map"})

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def normal_id(self, id: str | None, fields: dict[str, Any]) -> str:
        """The id as it is; without one, the address makes it. Raises Invalid, also for the fields."""
        if not fields and id is not None:  # it is being looked up
            return id
        where = address_of(fields)
        registers_of(fields, self._settings)
        return id if id is not None else f"{where.host}:{where.port}:{where.unit}"

    def make_secret(self) -> str:
        """None: a device does not log in."""
        return ""

    def check_secret(self, secret: str) -> None:
        """Raises Invalid."""
        raise Invalid("a modbus device has no secret")


def address_of(fields: dict[str, Any]) -> Address:
    """Where a device is, by the fields of its registration. Raises Invalid."""
    host, port, unit = fields.get("host"), fields.get("port", DEFAULT_PORT), fields.get("unit", 1)
    if not isinstance(host, str) or not 0 < len(host) <= MAX_HOST or not host.isprintable() or " " in host:
        raise Invalid("host is the name or the address of the device, or of the gateway before it")
    if not _is_whole(port, 1, 65_535):
        raise Invalid("port is a whole number from 1 to 65535")
    if not _is_whole(unit, 0, 255):
        raise Invalid("unit is a whole number from 0 to 255")
    return Address(host, port, unit)


def registers_of(fields: dict[str, Any], settings: Settings) -> tuple[Register, ...]:
    """The registers of a device, likewise. Raises Invalid."""
    name = fields.get("map")
    found = settings.maps.get(name) if isinstance(name, str) else None
    if found is None:
        known = ", ".join(sorted(settings.maps)) or "none is configured"
        raise Invalid(f"map is one of listeners.modbus.maps: {known}")
    return found


def _is_whole(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
