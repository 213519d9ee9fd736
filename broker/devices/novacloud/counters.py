"""What NovaCloud counts beyond what every listener does."""

from __future__ import annotations


class NovaCloudCounters:
    """Plain integers since the start."""

    __slots__ = ("early_heartbeats", "odd_timestamps", "unmapped_values")

    def __init__(self) -> None:
        #: Heartbeats faster than the guide allows.
        self.early_heartbeats = 0
        #: Timestamps in milliseconds or unusable.
        self.odd_timestamps = 0
        #: Values whose keys are no sensor of the device's product.
        self.unmapped_values = 0

    def as_dict(self) -> dict[str, float]:
        """By name, as the metrics want them."""
        return {f"novacloud_{name}_total": getattr(self, name) for name in self.__slots__}
