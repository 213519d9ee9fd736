"""``stream``: what happens, as it happens."""

from __future__ import annotations

from typing import Any

from rich.text import Text

from broker.admin.cells import cell
from broker.admin.live import Stream
from broker.admin.options import count, verb
from broker.admin.plain import json_line, safe
from broker.admin.session import Session
from broker.admin.subjects.commands import command_line

#: What stands at the beginning of every line.
_REST = frozenset({"type", "device", "protocol", "at"})


def add(several: Any) -> None:
    parser = verb(
        several,
        "stream",
        _stream,
        "uplinks, presence, commands, events and traced packets as they happen, until Ctrl-C",
        "--protocol lorawan",
        "--device 02123456789A --kind presence --kind command",
        "--count 10 --json",
        more="Options may be repeated. Packets of traced devices are there for --kind trace only.",
    )
    add_filters(parser)
    parser.add_argument("--count", type=count, metavar="N", help="end after so many")


def add_filters(parser: Any) -> None:
    parser.add_argument("--device", action="append", metavar="ID")
    parser.add_argument("--kind", action="append", help="data, status, event, ..., presence, command, trace")
    parser.add_argument("--protocol", action="append")


def _stream(session: Session) -> None:
    arguments = session.arguments
    follow(
        session,
        Stream(session.client, device=arguments.device, kind=arguments.kind, protocol=arguments.protocol),
        arguments.count,
    )


def follow(session: Session, stream: Stream, most: int | None = None) -> None:
    """Show what comes, so many at most."""
    for shown, message in enumerate(stream, 1):
        session.output.event(message, message_line(message, str(message.get("type", ""))))
        if most is not None and shown >= most:
            stream.close()
            return


def message_line(message: Any, kind: str = "uplink") -> Text:
    """Whatever a stream may say, on one line; ``kind`` is its type."""
    if kind == "dropped":
        return Text(f"{message.get('count')} messages were missed: this side is too slow", style="yellow")
    if kind == "command":
        return command_line(message)
    device = Text(f"  {safe(str(message.get('device') or '-'))}  ")
    when = cell("at", message.get("at"))
    if kind == "uplink":
        content = message.get("payload", message.get("payload_base64"))
        return Text.assemble(when, device, safe(str(message.get("kind"))), "  ", json_line(content))
    if kind == "presence":
        online = bool(message.get("online"))
        state = Text("online", style="green") if online else Text("offline", style="red")
        return Text.assemble(when, device, state, "  ", safe(str(message.get("reason") or "")))
    if kind == "event":
        severity = cell("severity", message.get("severity"))
        details = json_line(message.get("details") or {})
        return Text.assemble(when, device, severity, "  ", safe(str(message.get("kind"))), "  ", details)
    rest = {name: value for name, value in message.items() if name not in _REST}
    return Text.assemble(when, device, safe(kind), "  ", json_line(rest))
