"""What a gateway can be told to do, and when it has done it (DESIGN §5).

==================  ===========  =====================================================  ============
                    ``ok``       done                                                   in time
==================  ===========  =====================================================  ============
remote_control      is the end   the answer                                             18 s
firmware_update     pending      a later gateway_info with that swversion               30 min
datafile_backup     pending      the upload has arrived                                 10 min
datafile_recovery   pending      the next gateway_info or hb, if no fetch is half done  30 min
==================  ===========  =====================================================  ============

Any of them fails by an answer that says so. A second status, whether under the same id or of its own accord, is the
outcome. What is pending is in the journal of commands, with everything that its end needs, so a broker that was killed
in between knows as much as before.

A command's payload is what is asked for, without the URLs: whoever may see a command may not thereby fetch or post.
Which of the four it is, stands in its options (``operation``), which only this protocol sets: the payload of any other
command is remote_control's ``cmd``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol
from uuid import uuid4

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from broker.cluster.replies import ask_owner
from broker.core import Core
from broker.devices.gateway88 import codec
from broker.devices.gateway88.doubts import Doubts
from broker.devices.gateway88.identity import PROTOCOL
from broker.devices.gateway88.settings import Settings
from broker.model.errors import BrokerError, Invalid
from broker.model.messages import FAILED, PENDING, SUCCEEDED, Command, Payload, Reply, payload_object

log = Logger(namespace="broker.gateway88")

#: The option that says which operation a command is.
OPERATION: Final = "operation"
#: The option with the id of the command that has to succeed before this one is sent (`broker.routing.commands`).
AFTER: Final = "after"
#: Of a recovery's result: how far the gateway has got with its data. False: some of it, True: all.
FETCHED: Final = "fetched"
#: The commands that are not over with their first ok.
LONG: Final = frozenset({codec.FIRMWARE_UPDATE, codec.DATAFILE_BACKUP, codec.DATAFILE_RECOVERY})

#: Gateways of which something may wait until their commands are ours, and how much of each.
MAX_SAID: Final = 10_000
MAX_SAID_BY_ONE: Final = 20

Write = Callable[[Command, dict[str, Any]], None]


class Links(Protocol):
    """What is used of the files listener: the addresses at which a gateway fetches and posts. All raise Invalid."""

    def firmware_url(self, command: Command) -> str:
        """Where the image of this firmware update is fetched."""

    def backup_url(self, command: Command) -> str:
        """Where the data of this backup is posted, once; `Operations.arrived` is told when it has come."""

    def recovery_url(self, command: Command) -> str:
        """Where the data of this recovery is fetched."""

    def digest(self, url: str, md5: str) -> str:
        """What a gateway is given as the MD5 of what is at this URL: the digits, or where they are."""


def operation_of(command: Command) -> str:
    """Which of the four a command is."""
    return str(command.options.get(OPERATION, codec.REMOTE_CONTROL))


class Operations:
    """The commands of all gateways."""

    def __init__(self, core: Core, settings: Settings) -> None:
        self._core = core
        #: Recoveries whose data was asked for before they were answered -> whether all of it was fetched.
        self._early: dict[str, bool] = {}
        self.doubts = Doubts(core, lambda command: operation_of(command) in LONG)
        #: Told what a gateway has said about itself, before commands end by it: ``(device id, its info)``.
        self.on_info: list[Callable[[str, dict[str, Any]], None]] = []
        #: What gateways have said before their commands were ours: they have just come from another process.
        self._said: dict[str, list[Callable[[], None]]] = {}
        core.backplane.answer("gw88.fetching", self._told_of_fetching)
        core.commands.on_adopted.append(self._adopted)
        self.configure(settings)

    def configure(self, settings: Settings) -> None:
        """Take new settings."""
        self.backup_before_update = settings.backup_before_update
        self._pending_for = {
            codec.FIRMWARE_UPDATE: settings.firmware_timeout,
            codec.DATAFILE_BACKUP: settings.backup_timeout,
            codec.DATAFILE_RECOVERY: settings.recovery_timeout,
        }

    # -- what gateways say -----------------------------------------------------------------------------------------

    def _once_ours(self, device_id: str, call: Callable[[], None]) -> None:
        """Now, or as soon as this process knows what is open of the gateway."""
        if self._core.commands.drives(device_id):
            call()
        elif device_id in self._said or len(self._said) < MAX_SAID:
            said = self._said.setdefault(device_id, [])
            said.append(call)
            del said[:-MAX_SAID_BY_ONE]

    def _adopted(self, device_id: str) -> None:
        self.doubts.left(device_id)
        for call in self._said.pop(device_id, ()):
            call()

    def answered(self, device_id: str, command_id: str, good: bool, result: Any, now: float) -> None:
        """A gateway answered a command, for the first time or anew."""
        self._once_ours(device_id, lambda: self._answered(device_id, command_id, good, result, now))

    def _answered(self, device_id: str, command_id: str, good: bool, result: Any, now: float) -> None:
        command = self._core.commands.get(command_id)
        if command is not None and good and command.status != PENDING:
            operation = operation_of(command)
            if operation in LONG:
                whole = self._early.pop(command_id, None)
                self._pend(command, result if whole is None else with_fetched(result, whole), now)
                return
        self._end(device_id, command_id, SUCCEEDED if good else FAILED, result, now)

    def reported(self, device_id: str, kind: str, good: bool, result: Any, now: float) -> None:
        """A gateway told a status under an id that was never ours: that of what is pending, if it is of this kind."""
        self._once_ours(device_id, lambda: self._reported(device_id, kind, good, result, now))

    def _reported(self, device_id: str, kind: str, good: bool, result: Any, now: float) -> None:
        for command in self._core.commands.unanswered(device_id):
            if command.status == PENDING and operation_of(command) == kind:
                self._end(device_id, command.id, SUCCEEDED if good else FAILED, result, now)
                return

    def introduced(self, device_id: str, info: dict[str, Any]) -> None:
        """A gateway_info came; ``info`` is what is known of the gateway now."""
        for tell in self.on_info:
            tell(device_id, info)

    def alive(self, device_id: str, now: float, version: Any = None) -> None:
        """A heartbeat came, or a gateway_info with this swversion: what waited for it is done."""
        self._once_ours(device_id, lambda: self._alive(device_id, now, version))

    def _alive(self, device_id: str, now: float, version: Any) -> None:
        for command in self._core.commands.unanswered(device_id):
            operation = operation_of(command)
            if operation == codec.DATAFILE_RECOVERY and command.status == PENDING and not half_fetched(command):
                self._end(device_id, command.id, SUCCEEDED, None, now)
            elif operation == codec.FIRMWARE_UPDATE and version is not None and same(version, asked_version(command)):
                self._end(device_id, command.id, SUCCEEDED, {"swversion": version}, now)

    def arrived(self, command: Command, result: dict[str, Any], now: float) -> None:
        """The upload that a backup asked for is complete and kept; ``result`` tells of it."""
        self._end(command.device, command.id, SUCCEEDED, result, now)

    def fetched_somewhere(self, command: Command, whole: bool | None) -> None:
        """The same as `fetching`, for whichever process drives the gateway's commands.

        ``whole`` is None where it is no recovery: then it is only known that the gateway has the order.
        """
        now = self._core.commands.get(command.id)
        if now is not None:
            self._fetches(now, whole)
        elif not self._core.backplane.alone:
            body = msgspec.msgpack.encode((command.id, whole))
            telling = Deferred.fromCoroutine(ask_owner(self._core.backplane, command.device, "gw88.fetching", body))
            telling.addErrback(self._not_told, command)

    def _told_of_fetching(self, node: str, body: bytes) -> bytes:
        id, whole = msgspec.msgpack.decode(body, type=tuple[str, bool | None])
        command = self._core.commands.get(id)
        if command is not None:
            self._fetches(command, whole)
        return b""

    def _fetches(self, command: Command, whole: bool | None) -> None:
        self.doubts.arrived(command.id)
        if whole is not None:
            self.fetching(command, whole, self._core.clock())

    @staticmethod
    def _not_told(failure: Failure, command: Command) -> None:
        failure.trap(BrokerError)
        log.warn("that {device} fetches is not known: {why}", device=command.device, why=failure.getErrorMessage())

    def fetching(self, command: Command, whole: bool, now: float) -> None:
        """A gateway has asked for what a recovery goes back to, or (``whole``) was handed the last byte of it.

        In between no sign of life means that it is done: a gateway that loses its connection tells about itself, too.
        """
        if command.status != PENDING:
            early = {id: done for id, done in self._early.items() if self._core.commands.get(id) is not None}
            self._early = {**early, command.id: whole or early.get(command.id, False)}
        elif progress(command) is None or (whole and progress(command) is False):
            self._pend(command, with_fetched(command.result, whole), now)

    def _pend(self, command: Command, result: Any, now: float) -> None:
        reply = Reply(command.id, PENDING, result, now)
        self._core.commands.reply(command.device, reply, self._pending_for[operation_of(command)])

    def _end(self, device_id: str, command_id: str, status: str, result: Any, now: float) -> None:
        self._core.commands.reply(device_id, Reply(command_id, status, result, now))

    # -- what gateways are told ------------------------------------------------------------------------------------

    def send(self, command: Command, write: Write) -> None:
        """Have a command written, now or when what it has to come after is known. Raises Invalid, ValueError."""
        before = command.options.get(AFTER)
        if before is None:
            write(command, self._content(command))
            return
        finding = self._core.storage.get_command(before)
        finding.addCallback(self._send_after, command, write)
        finding.addErrback(self._not_sent, command)

    def _send_after(self, before: Command | None, command: Command, write: Write) -> None:
        if self._core.commands.get(command.id) is None:
            return
        if before is None or before.status != SUCCEEDED:
            raise Invalid("the backup before it did not succeed")
        write(command, self._content(command))

    def _not_sent(self, failure: Failure, command: Command) -> None:
        error = failure.value
        text = getattr(error, "message", None) or str(error)
        if not isinstance(error, BrokerError | ValueError):
            log.failure("fault while sending {command}", failure, command=command)
            text = "internal error"
        self._end(command.device, command.id, FAILED, {"error": text}, self._core.clock())

    def _content(self, command: Command) -> dict[str, Any]:
        """What the gateway is told. Raises Invalid."""
        operation = operation_of(command)
        payload = payload_object(command.payload)
        if operation == codec.REMOTE_CONTROL:
            return codec.remote_control(payload)
        links = self._links()
        if operation == codec.FIRMWARE_UPDATE:
            url = links.firmware_url(command)
            return codec.firmware_update(payload["version"], url, links.digest(url, payload["md5"]))
        if operation == codec.DATAFILE_BACKUP:
            return codec.datafile_backup(links.backup_url(command))
        url = links.recovery_url(command)
        return codec.datafile_recovery(url, links.digest(url, payload["md5"]))

    def _links(self) -> Links:
        links: Links | None = self._core.listeners.get("files")
        if links is None:
            raise Invalid("[listeners.files] is not running")
        return links

    def order(
        self,
        device_id: str,
        operation: str,
        payload: Payload,
        origin: str,
        *,
        ref: str | None = None,
        expires: float | None = None,
        after: str | None = None,
        timeout: float | None = None,
        id: str | None = None,
    ) -> Deferred[Command]:
        """Take a command for a gateway that is registered; answers when it is kept.

        ``after``: the id of one that has to succeed before. ``expires``, ``timeout``: seconds, as for every command.
        ``id``: a UUID, where it is not to be a new one.
        Fails with DeviceOffline, LimitExceeded, Unavailable.
        """
        now = self._core.clock()
        options = {} if operation == codec.REMOTE_CONTROL else {OPERATION: operation}
        if after is not None:
            options[AFTER] = after
        command = Command(
            id=str(uuid4()) if id is None else id,
            device=device_id,
            protocol=PROTOCOL,
            payload=payload,
            origin=origin,
            created_at=now,
            expires_at=now + (self._core.default_expires if expires is None else expires),
            timeout=timeout,
            ref=ref,
            options=options,
        )
        kept: Deferred[Command] = Deferred()
        self._core.commands.submit(
            command, lambda error: kept.callback(command) if error is None else kept.errback(error)
        )
        return kept

    def ask(self, device_id: str, cmd: dict[str, Any]) -> None:
        """Order a remote_control of our own accord; what becomes of it is seen where commands are."""
        self.order(device_id, codec.REMOTE_CONTROL, cmd, PROTOCOL).addErrback(
            lambda failure: log.warn("{device} is not asked: {why}", device=device_id, why=failure.getErrorMessage())
        )


def with_fetched(result: Any, whole: bool) -> dict[str, Any]:
    """The result of a recovery whose data is being fetched, or has been."""
    return {**(result if isinstance(result, dict) else {}), FETCHED: whole}


def progress(command: Command) -> bool | None:
    """None: nothing of a recovery's data was asked for; False: some of it; True: all of it is with the gateway."""
    found = command.result.get(FETCHED) if isinstance(command.result, dict) else None
    return found if isinstance(found, bool) else None


def half_fetched(command: Command) -> bool:
    return progress(command) is False


def same(version: Any, asked: Any) -> bool:
    """Whether a gateway's version is the one that was asked for; some tell theirs as a number."""
    return str(version).strip() == str(asked).strip()


def asked_version(command: Command) -> Any:
    """The version of a firmware update."""
    return command.payload.get("version") if isinstance(command.payload, dict) else None
