"""What hangs on a simulated Gizwits module: a lamp with a thermometer, and what it says and hears as P0 data.

::

    to it      01 | flags | power | brightness       flags: bit 0 power, bit 1 brightness
               02                                    read
    from it    03 | values                           the answer to a read
               04 | values                           a report
    values     power | brightness | temperature(2)   tenths of a degree above -50

All other data is taken as it is and changes nothing.
"""

from __future__ import annotations

from random import Random
from typing import Any, Final

from broker.simulate.room import Drift

CONTROL: Final = 1
READ: Final = 2
STATUS: Final = 3
REPORT: Final = 4


def _point(name: str, data_type: str, number: int, offset: int, unit: str, **more: Any) -> dict[str, Any]:
    position = {"byte_offset": offset, "unit": unit, "len": 2 if data_type == "uint16" else 1, "bit_offset": 0}
    return {"name": name, "data_type": data_type, "id": number, "position": position, **more}


#: The lamp's data points, in the form of ``entities[0].attrs`` of the console's export.
DATAPOINTS: Final[list[dict[str, Any]]] = [
    _point("power", "bool", 0, 0, "bit", type="status_writable"),
    _point("brightness", "uint8", 1, 1, "byte", type="status_writable", uint_spec={"min": 0, "max": 100}),
    _point("temperature", "uint16", 2, 2, "byte", uint_spec={"ratio": 0.1, "addition": -50, "min": 0, "max": 1500}),
]


class Lamp:
    def __init__(self, random: Random) -> None:
        self.power = False
        self.brightness = 0
        self._temperature = Drift(random, -40, 90, 23, 0.1)

    def report(self) -> bytes:
        """What it says of itself."""
        return bytes((REPORT,)) + self._values()

    def hear(self, data: bytes) -> bytes:
        """Do what it is told; the answer, empty for none."""
        if not data:
            return b""
        if data[0] == READ:
            return bytes((STATUS,)) + self._values()
        if data[0] == CONTROL and len(data) >= 4:
            if data[1] & 1:
                self.power = bool(data[2] & 1)
            if data[1] & 2:
                self.brightness = data[3]
            return self.report()
        return b""

    def _values(self) -> bytes:
        tenths = round((self._temperature.next() + 50) * 10)
        return bytes((self.power, self.brightness)) + tenths.to_bytes(2, "big")


def control(power: bool | None = None, brightness: int | None = None) -> bytes:
    """P0 data that sets what is given."""
    flags = (power is not None) | (brightness is not None) << 1
    return bytes((CONTROL, flags, bool(power), brightness or 0))
