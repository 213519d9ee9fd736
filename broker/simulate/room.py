"""A room as a device sees it: values that drift slowly, over the day, and go where its actuators send them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from math import pi, sin
from random import Random
from time import localtime
from typing import Any, Final

#: Degrees by which the afternoon is warmer than the mean of the day; the hour at which it is as warm as that.
WARMTH: Final = 2.5
MEAN_AT: Final = 9.0
#: Bytes of `Room.telemetry`.
TELEMETRY_SIZE: Final = 4
#: A battery that is so empty (percent) is replaced.
EMPTY: Final = 5.0


class Drift:
    """A value that wanders around ``middle``, within ``low`` and ``high``, by about ``step`` each time."""

    __slots__ = ("_high", "_low", "_random", "_step", "middle", "value")

    def __init__(self, random: Random, low: float, high: float, middle: float, step: float) -> None:
        self._random = random
        self._low = low
        self._high = high
        self._step = step
        self.middle = middle
        self.value = min(high, max(low, random.gauss(middle, 3 * step)))

    def next(self) -> float:
        pull = (self.middle - self.value) * 0.05
        moved = self.value + pull + self._random.gauss(0, self._step)
        self.value = min(self._high, max(self._low, moved))
        return self.value


def warmth(at: float) -> float:
    """Degrees above the mean of the day, by local time; ``at``: UNIX seconds. Warmest at 15:00."""
    clock = localtime(at)
    return WARMTH * sin(2 * pi * (clock.tm_hour + clock.tm_min / 60 - MEAN_AT) / 24)


class Room:
    """Sensors and actuators with the names that the NovaCloud guide uses. ``seconds``: UNIX seconds, for the day."""

    SENSORS = ("temperature", "humidity", "pressure", "light", "is_window_open")
    ACTUATORS = ("light_switch", "fan_speed", "set_temperature")

    def __init__(self, random: Random, seconds: Callable[[], float] = lambda: 0.0) -> None:
        self._random = random
        self._seconds = seconds
        self._temperature = Drift(random, -20, 60, 23, 0.1)
        self._humidity = Drift(random, 0, 100, 55, 0.3)
        self._pressure = Drift(random, 95, 105, 101.3, 0.02)
        self._light = Drift(random, 0, 1000, 300, 8)
        self._signal = Drift(random, -95, -35, -60, 1)
        self._window_open = False
        self._battery = random.uniform(60, 100)
        self._measured = 0
        self.state: dict[str, Any] = {"light_switch": "OFF", "fan_speed": 0, "set_temperature": 23}

    def measure(self) -> dict[str, Any]:
        """The payload of a data message."""
        self._measured += 1
        self._battery -= 0.005
        if self._battery < EMPTY:
            self._battery = 100.0
        if self._random.random() < 0.01:
            self._window_open = not self._window_open
        return {
            "temperature": round(self._temperature.next() + warmth(self._seconds()), 2),
            "humidity": round(self._humidity.next(), 1),
            "pressure": round(self._pressure.next(), 2),
            "light": round(self._light.next()),
            "is_window_open": self._window_open,
        }

    def status(self) -> dict[str, Any]:
        """The payload of a status message (guide 6.2)."""
        return {
            "battery": round(self._battery),
            "signal": round(self._signal.next()),
            "memory": 40 + self._measured % 7,
            "uptime": self._measured * 5,
            "firmware_version": "1.2.3",
        }

    def telemetry(self) -> bytes:
        """What a mote has to say in four bytes: tenths of a degree (signed, big endian), percent humidity, battery."""
        now = self.measure()
        return struct.pack(">hBB", round(now["temperature"] * 10), round(now["humidity"]), round(self._battery))

    def set(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Do what a command asks; the new state of what it named."""
        self.state.update(wanted)
        target = self.state["set_temperature"]
        if isinstance(target, int | float) and not isinstance(target, bool):
            self._temperature.middle = float(target)
        self._light.middle = 700 if self.state["light_switch"] == "ON" else 300
        return {name: self.state[name] for name in wanted}
