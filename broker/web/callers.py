"""Who calls."""

from __future__ import annotations

from typing import Any, Final

from broker.model.errors import NotFound


class Caller:
    """Who calls. ``rights`` is None for the administrator, who may do anything."""

    __slots__ = ("name", "rights")

    def __init__(self, name: str, rights: Any) -> None:
        #: ``admin`` or ``application:<id>``, as in `broker.model.messages.Command.origin`; empty for nobody.
        self.name = name
        self.rights = rights

    @property
    def is_admin(self) -> bool:
        return self.rights is None and self.name == "admin"

    @property
    def application(self) -> str | None:
        """The id of the calling application, or None for the administrator."""
        return None if self.rights is None else str(self.rights.id)

    def may_see(self, device_id: str) -> bool:
        return self.is_admin or (self.rights is not None and bool(self.rights.may_see(device_id)))

    def check_device(self, device_id: str) -> None:
        """Raises NotFound for a device that this caller may not know of, in the words for one that does not exist."""
        if not self.may_see(device_id):
            raise NotFound(f"there is no device {device_id!r}")


NOBODY: Final = Caller("", None)
ADMINISTRATOR: Final = Caller("admin", None)
