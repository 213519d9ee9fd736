"""What the files listener is counted for beyond what every listener counts."""

from __future__ import annotations


class FilesCounters:
    """Plain integers since the start."""

    __slots__ = ("backups", "downloads", "pruned", "refused", "repeated", "uploads_failed")

    def __init__(self) -> None:
        #: Backups that have arrived.
        self.backups = 0
        #: Requests for firmware and backups that were answered with bytes, ranges included.
        self.downloads = 0
        #: Backups that were removed to make room for newer ones.
        self.pruned = 0
        #: Requests with a wrong token, or one whose time was over.
        self.refused = 0
        #: Uploads of what had arrived already.
        self.repeated = 0
        #: Uploads that were not kept: broken off, too long, empty, no room.
        self.uploads_failed = 0

    def as_dict(self) -> dict[str, float]:
        """By name, as the metrics want them."""
        return {f"files_{name}_total": getattr(self, name) for name in self.__slots__}
