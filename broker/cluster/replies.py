"""What comes to one process and belongs to a command that another one drives.

A gateway posts its backup, or fetches its image, where HTTPS has led it, which need not be where it is connected. What
follows for the command goes to the process that has the device (directory, space "dev"), until that has taken it: it
moves at most a few times.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Any, ClassVar, Final

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from broker.model.errors import BrokerError, Unavailable
from broker.model.interfaces import IBackplane
from broker.model.messages import Reply
from broker.routing.commands import Commands

#: The space of the directory that says which process drives a device's commands.
SPACE: Final = "dev"
#: Attempts to find the process that has a device.
ATTEMPTS: Final = 3

_encode = msgspec.msgpack.Encoder().encode
_reply = msgspec.msgpack.Decoder(tuple[str, str, str, Any, float, float | None]).decode
_failed = msgspec.msgpack.Decoder(tuple[str, Any]).decode


class RepliesAcross:
    """``owned``: the devices whose commands this process drives, as it changes."""

    log: ClassVar[Logger] = Logger(namespace="broker.cluster")

    def __init__(self, backplane: IBackplane, commands: Commands, owned: Set[str]) -> None:
        self._backplane = backplane
        self._commands = commands
        self._owned = owned

    def begin(self) -> None:
        self._backplane.answer("cmd.reply", self._replied)
        self._backplane.hear("cmd.fail", self._fail)

    def pass_on(self, device: str, reply: Reply, pending_for: float | None) -> bool:
        """Have the process told that drives the device's commands; whether that is another one."""
        if device in self._owned:
            return False
        passing = Deferred.fromCoroutine(self._pass_on(device, reply, pending_for))
        passing.addErrback(self._not_passed_on, device, reply)
        return True

    async def _pass_on(self, device: str, reply: Reply, pending_for: float | None) -> None:
        body = _encode((device, reply.command_id, reply.status, reply.payload, reply.received_at, pending_for))
        for attempt in range(ATTEMPTS):
            owner = (await self._backplane.find(SPACE, device)).node
            if not owner or owner == self._backplane.node:
                break
            try:
                await self._backplane.ask(owner, "cmd.reply", body)
                return
            except Unavailable:
                if attempt == ATTEMPTS - 1:
                    raise
        if device in self._owned:
            self._commands.reply(device, reply, pending_for)
        else:  # nobody drives it, so it has ended
            self._commands.late_reply(device, reply)

    def _not_passed_on(self, failure: Failure, device: str, reply: Reply) -> None:
        if failure.check(BrokerError):
            why = failure.getErrorMessage()
            self.log.warn("an answer of {device} is lost: {why}", device=device, why=why, command=reply.command_id)
        else:
            self.log.failure("fault while an answer of {device} was passed on", failure, device=device)

    def _replied(self, node: str, body: bytes) -> bytes:
        device, command_id, status, payload, at, pending_for = _reply(body)
        if device not in self._owned:
            raise Unavailable("the device is another process's by now")
        self._commands.reply(device, Reply(command_id, status, payload, at), pending_for)
        return b""

    def _fail(self, node: str, body: bytes) -> None:
        command_id, result = _failed(body)
        self._commands.fail(command_id, result)


async def ask_owner(backplane: IBackplane, device: str, kind: str, body: bytes) -> None:
    """Ask the process that drives a device's commands, if that is another one. Raises Unavailable."""
    owner = (await backplane.find(SPACE, device)).node
    if owner and owner != backplane.node:
        await backplane.ask(owner, kind, body)


def fail_anywhere(backplane: IBackplane, commands: Commands, command_id: str, result: Any) -> None:
    """`Commands.fail`, whichever process drives the command."""
    if backplane.alone or commands.get(command_id) is not None:
        commands.fail(command_id, result)
    else:
        backplane.cast("cmd.fail", _encode((command_id, result)))
