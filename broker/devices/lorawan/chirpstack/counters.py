"""What is counted of ChirpStack."""

from __future__ import annotations


class ChirpstackCounters:
    """Plain integers since the start."""

    __slots__ = (
        "bad_events",
        "connections",
        "events",
        "events_unsaved",
        "gateway_refusals",
        "handed_over",
        "joins",
        "other_applications",
        "other_topics",
        "repeated_events",
        "stray_items",
        "too_many_gateways",
        "unknown_motes",
        "untaken",
    )

    def __init__(self) -> None:
        #: Times that its MQTT broker let us in.
        self.connections = 0
        #: Events that were taken.
        self.events = 0
        #: Messages that are not what their topic is for.
        self.bad_events = 0
        #: Messages on topics that we have no use for, though a subscription has them.
        self.other_topics = 0
        #: Events that came before.
        self.repeated_events = 0
        #: Events of motes that are not registered here as ChirpStack's.
        self.unknown_motes = 0
        #: Events of our motes that came as another application's.
        self.other_applications = 0
        #: Joins that were told.
        self.joins = 0
        #: Commands that were handed over.
        self.handed_over = 0
        #: Of these, how often nobody was subscribed to take one.
        self.untaken = 0
        #: Downlinks that gateways refused.
        self.gateway_refusals = 0
        #: What ChirpStack says of downlinks that are not under way for us.
        self.stray_items = 0
        #: Gateways over max_gateways.
        self.too_many_gateways = 0
        #: Times that what events say could not be written.
        self.events_unsaved = 0

    def as_dict(self) -> dict[str, float]:
        """By name, as the metrics want them."""
        return {f"lorawan_chirpstack_{name}_total": getattr(self, name) for name in self.__slots__}
