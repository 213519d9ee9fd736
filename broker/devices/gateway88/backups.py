"""Where the backups of gateways are: files of an area of their own, named after the gateway and the command.

::

    <MAC>-<milliseconds of the command, 15 digits>-<id of the command>          so that names sort by time

The name follows from the command, so what has arrived is found again after a crash between keeping and telling. Backups
outlive their gateway: its successor is what they are for.
"""

from __future__ import annotations

from typing import Any, Final

from broker.core import Core
from broker.model.messages import Command
from broker.storage.deferred import deferred
from broker.storage.files import FileInfo, FileStore

#: The area of `broker.storage.files`.
BACKUPS: Final = "backups"
#: Fields of a backup's ``meta``: the gateway that it is of, the command that asked for it, and the applications that
#: the gateway was bound to at that time.
GATEWAY: Final = "gateway"
COMMAND: Final = "command"
APPLICATIONS: Final = "applications"


def backup_name(command: Command) -> str:
    """The name of the file that this backup becomes."""
    return f"{command.device}-{int(command.created_at * 1000):015d}-{command.id}"


async def backup_meta(core: Core, command: Command) -> dict[str, Any]:
    """What is kept with the file of a backup. Raises Unavailable."""
    owners = await core.registry.applications_of(command.device)
    return {GATEWAY: command.device, COMMAND: command.id, APPLICATIONS: list(owners)}


@deferred
async def backups_of(files: FileStore, mac: str, limit: int = 1000) -> list[FileInfo]:
    """All backups of a gateway, oldest first. Raises Unavailable."""
    found: list[FileInfo] = await files.list(BACKUPS, f"{mac}-", limit)
    return found
