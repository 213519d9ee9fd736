"""The HTTPS that gateways fetch firmware and backups from, and post backups to.

===========================================  ======================================================================
GET   /firmware/{command}/{token}            the image of a firmware_update; ranges, ETag, Repr-Digest
GET   /firmware/{command}/{token}/md5        its MD5 as text, for gateways that want a URL for ``firmware_md5``
POST  /backups/{command}/{token}             the data of a datafile_backup, once: the body itself, or the first file of
                                             a form; PUT is the same, and so is a name behind the token
GET   /recovery/{command}/{token}            the data of a datafile_recovery, as firmware; ``/md5`` too
===========================================  ======================================================================

Whoever has the URL may do it, nobody else: there is no other login. `Urls` makes and checks tokens.
"""

from __future__ import annotations

from base64 import b64encode
from functools import partial
from typing import Any, Final

from broker.core import Core
from broker.devices.gateway88.backups import BACKUPS
from broker.devices.gateway88.codec import DATAFILE_BACKUP, DATAFILE_RECOVERY, FIRMWARE_UPDATE
from broker.devices.gateway88.files.counters import FilesCounters
from broker.devices.gateway88.files.intake import Intake
from broker.devices.gateway88.files.settings import FilesSettings
from broker.devices.gateway88.files.urls import NAME, Urls
from broker.devices.gateway88.operations import Operations, operation_of
from broker.devices.gateway88.updates import GatewayUpdater
from broker.model.errors import NotFound, Unauthenticated
from broker.model.messages import Command
from broker.storage.files import UPLOADS, FileInfo
from broker.web.answers import Answer
from broker.web.callers import Caller
from broker.web.files import FileAnswer
from broker.web.listener import WebListener
from broker.web.routes import ANYONE, Call, Route
from broker.web.settings import WebSettings
from broker.web.surface import Surface

FIRMWARE: Final = "firmware"
BACKUP: Final = "backups"
RECOVERY: Final = "recovery"
#: What URLs are for -> the operation that they belong to.
PURPOSES: Final = {FIRMWARE: FIRMWARE_UPDATE, BACKUP: DATAFILE_BACKUP, RECOVERY: DATAFILE_RECOVERY}
#: Where a command names its file, by purpose: the key of its payload, and the area.
SOURCES: Final = {FIRMWARE: ("file_id", UPLOADS), RECOVERY: ("backup", BACKUPS)}

OCTETS: Final = "application/octet-stream"
TEXT: Final = "text/plain; charset=utf-8"


class FilesSurface(Surface):
    """No route asks who calls."""

    async def authenticate(self, request: Any, route: Route) -> Caller:
        raise Unauthenticated("nobody logs in here")


class FilesListener(WebListener):
    """The listener, and what `broker.devices.gateway88.operations.Links` asks of it."""

    settings: FilesSettings

    def __init__(self, core: Core, settings: FilesSettings) -> None:
        super().__init__(NAME, core, settings, FilesSurface(), self.routes)
        self.counted = FilesCounters()
        self.urls = Urls(core, lambda: self.settings)
        self.intake = Intake(core, self.counted)

    async def prepare(self) -> None:
        await super().prepare()
        await self.urls.open()
        await self.intake.recover()

    def reload(self, settings: WebSettings) -> tuple[str, ...]:
        assert isinstance(settings, FilesSettings)
        return super().reload(settings)

    def counters(self) -> dict[str, float]:
        """For the metrics."""
        return self.counted.as_dict()

    def routes(self) -> tuple[Route, ...]:
        """All calls; their paths hold secrets."""
        download = [
            Route(
                "GET",
                f"/{purpose}/{{command}}/{{token}}{tail}",
                partial(call, purpose),
                ANYONE,
                lenient=True,
                private=True,
            )
            for purpose in SOURCES
            for tail, call in (("", self._download), ("/md5", self._digest))
        ]
        upload = [
            Route(
                method,
                f"/{BACKUP}/{{command}}/{{token}}{tail}",
                self._upload,
                ANYONE,
                accepts=("*/*",),
                upload=True,
                lenient=True,
                private=True,
            )
            for method in ("POST", "PUT")
            for tail in ("", "/{name}")
        ]
        return (*download, *upload)

    # -- Links -----------------------------------------------------------------------------------------------------

    def firmware_url(self, command: Command) -> str:
        """Where the image of this firmware update is fetched. Raises Invalid."""
        return self.urls.make(FIRMWARE, command)

    def backup_url(self, command: Command) -> str:
        """Where the data of this backup is posted, once. Raises Invalid."""
        return self.urls.make(BACKUP, command)

    def recovery_url(self, command: Command) -> str:
        """Where the data of this recovery is fetched. Raises Invalid."""
        return self.urls.make(RECOVERY, command)

    def digest(self, url: str, md5: str) -> str:
        """The MD5 of what is at this URL as gateways are given it (`FilesSettings.digest_urls`)."""
        return f"{url}/md5" if self.settings.digest_urls else md5

    # -- calls -----------------------------------------------------------------------------------------------------

    async def _download(self, purpose: str, call: Call) -> Any:
        """An image or a backup, whole or a range of it."""
        command, info = await self._source(purpose, call)
        self.counted.downloads += 1
        fields = (
            (b"Content-Disposition", b"attachment"),
            (b"Repr-Digest", b"sha-256=:%b:, md5=:%b:" % (in_field(info.sha256), in_field(info.md5))),
        )
        sent = None
        if purpose == RECOVERY and call.request.method == b"GET":
            self._fetching(command, False)
            sent = partial(self._fetching, command, True)
        elif purpose == FIRMWARE and call.request.method == b"GET":
            updates: GatewayUpdater | None = getattr(self.core.listeners.get("gateway88"), "updates", None)
            self._fetching(command, None)
            if updates is not None:
                await updates.fetching(command)  # that is on disk before the first byte leaves
                sent = partial(updates.fetched, command)
        return FileAnswer(call.core.files.path(info), info.size, OCTETS, fields, info.sha256, sent)

    async def _digest(self, purpose: str, call: Call) -> Any:
        """Its MD5, 32 hexadecimal digits and no line end."""
        _, info = await self._source(purpose, call)
        return Answer(200, info.md5.encode(), TEXT)

    async def _upload(self, call: Call) -> Any:
        """A backup."""
        command = await self._command(BACKUP, call)
        self._fetching(command, None)
        return Answer(200, await self.intake.take(command, call.upload, self.settings.keep_backups))

    async def _source(self, purpose: str, call: Call) -> tuple[Command, FileInfo]:
        command = await self._command(purpose, call)
        key, area = SOURCES[purpose]
        wanted = command.payload.get(key) if isinstance(command.payload, dict) else None
        info: FileInfo | None = await call.core.files.get(area, str(wanted))
        if info is None:
            raise NotFound("this file is not there any more")
        return command, info

    def _fetching(self, command: Command, whole: bool | None) -> None:
        """A gateway asks for what it goes back to, or was handed all of it; None: it posts, or fetches an image."""
        operations: Operations | None = getattr(self.core.listeners.get("gateway88"), "operations", None)
        if operations is not None:
            operations.fetched_somewhere(command, whole)

    async def _command(self, purpose: str, call: Call) -> Command:
        """The command that the URL was made for. Raises NotFound."""
        command_id = call.path["command"]
        try:
            self.urls.check(purpose, command_id, call.path["token"])
            command: Command | None = call.core.commands.get(command_id)
            if command is None:
                command = await call.core.storage.get_command(command_id)
            if command is None or operation_of(command) != PURPOSES[purpose]:
                raise NotFound("the command of this address is gone")
        except NotFound:
            self.counted.refused += 1
            raise
        return command


def in_field(hexadecimal: str) -> bytes:
    """A digest as a byte sequence of a header field (RFC 9530)."""
    return b64encode(bytes.fromhex(hexadecimal))
