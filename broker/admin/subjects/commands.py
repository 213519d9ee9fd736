"""``commands``: order, look, cancel, watch."""

from __future__ import annotations

import time
from typing import Any, Final

from rich.text import Text

from broker.admin.cells import Column, Columns, cell
from broker.admin.client import at
from broker.admin.failures import FAILED, Failure, Misuse
from broker.admin.live import Stream
from broker.admin.options import (
    Subject,
    add_ordering,
    add_paging,
    count,
    duration,
    given,
    hex_bytes,
    json_object,
    ordering_of,
    positive,
)
from broker.admin.plain import json_line, safe
from broker.admin.session import Session

FINAL: Final = frozenset({"succeeded", "failed", "timed_out", "expired", "cancelled"})
#: The longest wait of one call that the broker has by default; it cuts longer ones itself.
LONGEST_WAIT: Final = 60.0
#: Seconds between looks at a command that takes longer.
PAUSE: Final = 0.5

COLUMNS: Columns = (
    "id",
    "status",
    "created_at",
    "updated_at",
    Column("payload", show=lambda item: item.get("payload", item.get("payload_base64"))),
    "result",
)


def add(several: Any) -> None:
    subject = Subject(several, "commands", "commands to devices")
    parser = subject.verb(
        "send",
        _send,
        "order a command; it is kept when this is answered",
        '02123456789A \'{"light": "ON"}\' --wait 10s',
        "70B3D57ED0000001 --hex 0102 --port 5 --confirm",
        more="With --wait, the exit status is 0 only if the command has succeeded.",
    )
    parser.add_argument("device")
    parser.add_argument("payload", nargs="?", type=json_object, metavar="JSON", help="an object")
    parser.add_argument("--hex", type=hex_bytes, metavar="BYTES", help="bytes in place of an object")
    parser.add_argument("--base64", metavar="TEXT", help="the same in base64")
    parser.add_argument("--wait", type=duration, metavar="DURATION", help="wait so long for its final state")
    parser.add_argument("--answer-within", type=positive, metavar="SECONDS", help="how long the device may take")
    parser.add_argument("--force", action="store_true", help="also keys that the product does not know")
    parser.add_argument("--port", type=count, help="LoRaWAN: the port")
    parser.add_argument("--confirm", action="store_true", help="LoRaWAN: have the mote acknowledge it")
    parser.add_argument("--priority", type=count)
    add_ordering(parser)
    parser = subject.verb("list", _list, "commands to a device, newest first", "02123456789A")
    parser.add_argument("device")
    add_paging(parser)
    parser = subject.verb("show", _show, "a command and where it stands", "COMMAND")
    parser.add_argument("id")
    parser = subject.verb("cancel", _cancel, "take back a command that still waits for its device", "COMMAND")
    parser.add_argument("id")
    parser = subject.verb(
        "watch",
        _watch,
        "every change of a command until its end, or of all commands",
        "COMMAND",
        "--device 02123456789A",
        more="Watching one command, the exit status is 0 only if it has succeeded.",
    )
    parser.add_argument("id", nargs="?")
    parser.add_argument("--device", action="append", metavar="ID", help="only those to this device; may be repeated")


def wait_for(session: Session, id: str, until: float) -> Any:
    """The command in its final state, or as it is when the time (of the monotonic clock) is over."""
    while True:
        command = session.client.get(at("commands", id))
        left = until - time.monotonic()
        if command["status"] in FINAL or left <= 0:
            return command
        time.sleep(min(PAUSE, left))


def verdict(session: Session, command: Any, waited: bool) -> int:
    """Show a command that was waited for; the exit status."""
    session.output.item(command)
    if not waited or command["status"] == "succeeded":
        return 0
    if command["status"] not in FINAL:
        session.output.note(f"it is still {command['status']}: broker-admin commands watch {command['id']}")
    return FAILED


def _send(session: Session) -> int:
    arguments = session.arguments
    contents = [one for one in (arguments.payload, arguments.hex, arguments.base64) if one is not None]
    if len(contents) != 1:
        raise Misuse("one of a JSON object, --hex and --base64 is needed")
    body = ordering_of(arguments) | given(
        payload=arguments.payload,
        payload_base64=arguments.hex if arguments.base64 is None else arguments.base64,
        timeout=arguments.answer_within,
        port=arguments.port,
        priority=arguments.priority,
        force=arguments.force or None,
        confirm=arguments.confirm or None,
    )
    path, wait = at("devices", arguments.device, "commands"), arguments.wait
    if wait is None:
        return verdict(session, session.client.call("POST", path, body), False)
    until = time.monotonic() + wait
    first = min(wait, LONGEST_WAIT)
    command = session.client.call("POST", path, body, {"wait": first}, timeout=session.arguments.timeout + first)
    if command["status"] not in FINAL and time.monotonic() < until:
        command = wait_for(session, command["id"], until)
    return verdict(session, command, True)


def _list(session: Session) -> None:
    session.list(at("devices", session.arguments.device, "commands"), COLUMNS, empty="no commands")


def _show(session: Session) -> None:
    session.output.item(session.client.get(at("commands", session.arguments.id)))


def _cancel(session: Session) -> None:
    id = session.arguments.id
    session.output.done(session.client.call("DELETE", at("commands", id)), f"cancelled {id}")


def command_line(command: Any) -> Text:
    """A change of a command, on one line."""
    parts = [cell("updated_at", command.get("updated_at")), Text("  ")]
    parts += [Text(f"{safe(str(command.get('device')))}  {safe(str(command.get('id')))}  ")]
    parts += [cell("status", command.get("status"))]
    if command.get("result") is not None:
        parts.append(Text(f"  {json_line(command['result'])}"))
    return Text.assemble(*parts)


def _watch(session: Session) -> int:
    arguments, output = session.arguments, session.output
    id = arguments.id
    if id is None:
        stream = Stream(session.client, kind=["command"], device=arguments.device)
        for message in stream:
            output.event(message, _line(message))
        return 0
    command = session.client.get(at("commands", id))
    stream = Stream(session.client, kind=["command"], device=[command["device"]])
    # Asked again: it may have changed before the stream was open.
    command = session.client.get(at("commands", id))
    while True:
        output.event(command, command_line(command))
        if command["status"] in FINAL:
            return 0 if command["status"] == "succeeded" else FAILED
        shown = (command["status"], command["updated_at"])
        for message in stream:
            if message.get("type") == "dropped":
                message = session.client.get(at("commands", id))
            if message.get("id") == id and (message["status"], message["updated_at"]) != shown:
                command = {name: value for name, value in message.items() if name != "type"}
                break
        else:
            raise Failure("the stream has ended")


def _line(message: Any) -> Text:
    if message.get("type") == "dropped":
        return Text(f"{message.get('count')} messages were missed: this side is too slow", style="yellow")
    return command_line(message)
