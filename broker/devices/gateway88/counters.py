"""What 0x88 gateways are counted for beyond what every listener counts."""

from __future__ import annotations


class Gateway88Counters:
    """Plain integers since the start."""

    __slots__ = (
        "foreign_macs",
        "quarantined",
        "repaired",
        "repeated_orders",
        "repeats",
        "resent",
        "stray_acks",
        "undecodable",
        "unknown_types",
        "wrong_versions",
    )

    def __init__(self) -> None:
        #: Frames with a MAC that is not the connection's.
        self.foreign_macs = 0
        #: Connections of gateways that are not registered.
        self.quarantined = 0
        #: Messages whose JSON had to be mended.
        self.repaired = 0
        #: Orders that were sent again to a gateway that came back, as it may not have got them.
        self.repeated_orders = 0
        #: Messages that came again and were answered again.
        self.repeats = 0
        #: Commands that were sent again.
        self.resent = 0
        #: Acknowledgements of nothing that was sent.
        self.stray_acks = 0
        #: Frames with a good checksum whose DATA is no JSON object.
        self.undecodable = 0
        #: Messages of no known type, or of one that only the server sends.
        self.unknown_types = 0
        #: Frames of another version than 2.
        self.wrong_versions = 0

    def as_dict(self) -> dict[str, float]:
        """By name, as the metrics want them."""
        return {f"gateway88_{name}_total": getattr(self, name) for name in self.__slots__}
