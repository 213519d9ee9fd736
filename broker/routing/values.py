"""Last values of a device: which keys of an uplink become them, and which value is the last.

A product names its sensors by ``value_key`` (NovaCloud guide 4.1). With a product, its sensors' keys become values and
all others are kept apart as *unmapped*, to be turned into sensors later; never an error. Without a product every key is
a value, as there is nothing that it could fail to match. ``null`` is "no value" and changes nothing. A late report
(after an outage) must not replace a newer value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broker.model.weight import LIGHT, weight

#: (value, at): at in UNIX seconds, the device's own time where it gave one.
Reading = tuple[Any, float]

#: A device can invent keys without end; past this many of either kind new keys are ignored.
MAX_KEYS = 512

#: Nor may the keys themselves be without end.
MAX_KEY_LENGTH = 256

#: Nor the values: one of more bytes in memory is history, but never a last value.
MAX_VALUE = 16_384


class LastValues:
    """Values and unmapped values of one device. ``changed`` holds the keys not yet written to storage."""

    __slots__ = ("_sensors", "changed", "unmapped", "values")

    def __init__(
        self,
        values: dict[str, Reading] | None = None,
        unmapped: dict[str, Reading] | None = None,
        sensors: frozenset[str] | None = None,
    ) -> None:
        self.values: dict[str, Reading] = values if values is not None else {}
        self.unmapped: dict[str, Reading] = unmapped if unmapped is not None else {}
        self.changed: set[str] = set()
        self._sensors = sensors
        misplaced = self.unmapped if sensors is None else self.values.keys() - sensors or self.unmapped.keys() & sensors
        if misplaced:  # the product changed while the device was away
            self.remap(sensors)

    @property
    def sensors(self) -> frozenset[str] | None:
        """The product's value keys, or None for a device without a product."""
        return self._sensors

    def remap(self, sensors: frozenset[str] | None) -> None:
        """The product changed: sort what is known into values and unmapped anew."""
        known = dict(self.unmapped)
        for key, reading in self.values.items():
            if key not in known or known[key][1] <= reading[1]:
                known[key] = reading
        self._sensors = sensors
        self.values = {key: reading for key, reading in known.items() if sensors is None or key in sensors}
        self.unmapped = {key: reading for key, reading in known.items() if key not in self.values}
        self.changed.update(known)

    def update(self, fields: Mapping[str, Any], at: float) -> None:
        """Take over the fields of one uplink, measured at ``at``."""
        sensors = self._sensors
        values = self.values
        add = self.changed.add
        for key, value in fields.items():
            if value is None or (type(value) not in LIGHT and weight(value) > MAX_VALUE):
                continue
            table = values if sensors is None or key in sensors else self.unmapped
            old = table.get(key)
            if old is None:
                if len(table) >= MAX_KEYS or len(key) > MAX_KEY_LENGTH:
                    continue
            elif old[1] > at:
                continue
            table[key] = (value, at)
            add(key)
