"""What the LoRaCenter side counts beyond what every listener does."""

from __future__ import annotations


class LoraCenterCounters:
    """Plain integers since the start."""

    __slots__ = (
        "broadcasts",
        "group_broadcasts",
        "keep_alives",
        "lost_uploads",
        "sendtos",
        "undelivered",
        "unknown_commands",
        "uploads",
    )

    def __init__(self) -> None:
        #: UPLOADs that went out, one for each connection.
        self.uploads = 0
        #: SENDTOs that were taken.
        self.sendtos = 0
        #: BROADCASTs that were taken.
        self.broadcasts = 0
        #: Multicast groups that a BROADCAST went to.
        self.group_broadcasts = 0
        #: NULs by themselves.
        self.keep_alives = 0
        #: Messages of devices that are no motes, whose alias storage could not tell, or not soon enough.
        self.lost_uploads = 0
        #: Later answers to commands (CODE 2, -6, -7) whose customer server was not connected.
        self.undelivered = 0
        #: Requests with a CMD that the document does not have.
        self.unknown_commands = 0

    def as_dict(self) -> dict[str, float]:
        """By name, as the metrics want them."""
        return {f"loracenter_{name}_total": getattr(self, name) for name in self.__slots__}
