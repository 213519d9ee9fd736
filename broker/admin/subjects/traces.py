"""``trace``: every packet of a device."""

from __future__ import annotations

from typing import Any

from broker.admin.cells import Columns
from broker.admin.client import at
from broker.admin.live import Stream
from broker.admin.options import Subject, count, duration, given
from broker.admin.session import Session
from broker.admin.subjects.stream import follow

COLUMNS: Columns = ("device", "until")


def add(several: Any) -> None:
    subject = Subject(several, "trace", "every packet of a device, in the broker's log and in the stream")
    parser = subject.verb(
        "start", _start, "trace a device for a while; one that is away is traced when it comes", "02123456789A --for 1h"
    )
    parser.add_argument("device")
    parser.add_argument("--for", dest="length", type=duration, metavar="DURATION", help="how long (default: 10m)")
    parser = subject.verb("stop", _stop, "stop tracing a device", "02123456789A")
    parser.add_argument("device")
    subject.verb("list", _list, "which devices are traced")
    parser = subject.verb(
        "watch",
        _watch,
        "the packets of devices that are traced, until Ctrl-C; tracing goes on for as long as it was asked for",
        "02123456789A --for 30m",
    )
    parser.add_argument("devices", nargs="*", metavar="DEVICE", help="left out: all that are traced")
    parser.add_argument(
        "--for", dest="length", type=duration, metavar="DURATION", help="start tracing them for so long"
    )
    parser.add_argument("--count", type=count, metavar="N", help="end after so many")


def _begin(session: Session, device: str) -> Any:
    length = session.arguments.length
    return session.client.call("PUT", at("devices", device, "trace"), given(seconds=length))


def _start(session: Session) -> None:
    session.output.item(_begin(session, session.arguments.device))


def _stop(session: Session) -> None:
    device = session.arguments.device
    session.output.done(session.client.call("DELETE", at("devices", device, "trace")), f"{device} is not traced")


def _list(session: Session) -> None:
    session.list(at("traces"), COLUMNS, empty="no device is traced", paged=False)


def _watch(session: Session) -> None:
    arguments = session.arguments
    stream = Stream(session.client, kind=["trace"], device=arguments.devices or None)
    if arguments.length is not None:
        for device in arguments.devices:
            _begin(session, device)
    follow(session, stream, arguments.count)
