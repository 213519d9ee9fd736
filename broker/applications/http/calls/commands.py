"""Commands: order, watch, cancel (DESIGN §5).

``POST`` answers 202 as soon as the command is kept; with ``?wait=SECONDS`` it answers 200 with the command in its final
state, or 202 with where it stands when the time is over (also when the broker stops). An application may order from and
look at its own devices, and cancel what it ordered itself.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta
from twisted.internet.defer import Deferred

from broker.applications.http.api import api_of
from broker.applications.http.calls.devices import Cursor, DevicePath, Limit, visible_device
from broker.applications.http.shapes import CommandPage, CommandShape, CommandTaken, command_shape
from broker.applications.ordering import CommandBody, order
from broker.cluster.commands import cancel_anywhere
from broker.model.errors import Conflict, Forbidden, NotFound, Unavailable
from broker.model.messages import CANCELLED, Command
from broker.web.answers import Answer
from broker.web.problems import Problem
from broker.web.routes import API, APPLICATION, Call, Route


class WaitQuery(msgspec.Struct, kw_only=True):
    """Whether to wait."""

    #: Seconds to wait for the command's end, cut to ``max_wait``; left out, it is answered as soon as it is kept.
    wait: Annotated[float, Meta(ge=0, le=1e9)] | None = None


class CommandFilter(msgspec.Struct, kw_only=True):
    """Which page."""

    #: Entries of one page at most.
    limit: Limit = 100
    #: The ``next`` of the page before; left out, the first page.
    cursor: Cursor | None = None


class CommandPath(msgspec.Struct):
    """Which command."""

    #: The id that the broker gave the command, a UUID.
    id: str


async def order_command(call: Call) -> Any:
    """Order a command. It is kept when this is answered."""
    device_id = call.path["id"]
    call.caller.check_device(device_id)
    command = await order(call.core, device_id, call.body, call.caller.name)
    seconds = call.query.wait
    if seconds is None:
        return Answer(202, CommandTaken(id=command.id, status=command.status))
    if seconds and not command.final:
        await _final_state(call, command, min(seconds, api_of(call).settings.max_wait))
    return Answer(200 if command.final else 202, command_shape(command))


async def list_commands(call: Call) -> Any:
    """Commands to a device, newest first."""
    record = await visible_device(call)
    commands, cursor = await call.core.storage.list_commands(record.id, call.query.limit, call.query.cursor)
    return CommandPage([command_shape(_newest(call, command)) for command in commands], cursor)


async def get_command(call: Call) -> Any:
    """A command and where it stands."""
    return command_shape(await _visible_command(call))


async def cancel_command(call: Call) -> Any:
    """Take back a command that still waits for its device."""
    command = await _visible_command(call)
    if not call.caller.is_admin and command.origin != call.caller.name:
        raise Forbidden("only who ordered a command may cancel it")
    if command.final:
        raise Conflict(f"the command is {command.status} and cannot be cancelled any more")
    await cancel_anywhere(call.core.commands, command)
    # Storage sees every write that was asked for before, so this tells whether the cancelling is on disk.
    stored = await call.core.storage.get_command(command.id)
    if stored is None or stored.status != CANCELLED:
        raise Unavailable("the command is cancelled, but that could not be written yet")
    return command_shape(stored)


async def _final_state(call: Call, command: Command, seconds: float) -> None:
    """Wait until the command has ended, the time is over, the client has gone or the broker stops."""
    over: Deferred[None] = Deferred()

    def stop() -> None:
        if not over.called:
            over.callback(None)

    timer = call.core.reactor.callLater(seconds, stop)
    forget_command = call.core.commands.wait(command.id, lambda _: stop())
    forget_request = call.request.waits(stop)
    await over
    forget_request()
    forget_command()
    if timer.active():
        timer.cancel()


async def _visible_command(call: Call) -> Command:
    command_id = call.path["id"]
    command: Command | None = call.core.commands.get(command_id)
    if command is None:
        command = await call.core.storage.get_command(command_id)
    if command is None or not call.caller.may_see(command.device):
        raise NotFound(f"no command {command_id!r}"[:200])
    return command


def _newest(call: Call, command: Command) -> Command:
    return call.core.commands.get(command.id) or command


_TAKEN = {
    200: (CommandShape, "With wait: the final state"),
    409: (Problem, "The device is offline and the command may not wait"),
    429: (Problem, "Too many commands wait for this device"),
}

ROUTES = (
    Route(
        "POST",
        f"{API}/devices/{{id}}/commands",
        order_command,
        APPLICATION,
        body=CommandBody,
        query=WaitQuery,
        answers=CommandTaken,
        status=202,
        also=_TAKEN,
        path_shape=DevicePath,
    ),
    Route(
        "GET",
        f"{API}/devices/{{id}}/commands",
        list_commands,
        APPLICATION,
        answers=CommandPage,
        query=CommandFilter,
        path_shape=DevicePath,
    ),
    Route("GET", f"{API}/commands/{{id}}", get_command, APPLICATION, answers=CommandShape, path_shape=CommandPath),
    Route(
        "DELETE",
        f"{API}/commands/{{id}}",
        cancel_command,
        APPLICATION,
        answers=CommandShape,
        also={409: (Problem, "It has been sent or has ended")},
        path_shape=CommandPath,
    ),
)
