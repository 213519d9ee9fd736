"""Log lines, as text or as JSON, with a level for each namespace.

::

    2026-11-21T07:31:00.123Z info broker.service: listening: mqtt tcp 127.0.0.1:1883
    {"time":"2026-11-21T07:31:00.123Z","level":"info","namespace":"broker.service","message":"listening: ..."}

One event is one line: control characters in a message are escaped, so that no client can write lines of its own; only
the traceback of a fault follows, indented by a tab (in JSON: the member ``traceback``). Of an event nothing is written
but its message, so what is not in the message cannot leak.

How it gets into twistd: `broker.service` sets the `Lines` observer as the application's ILogObserver, which twistd
prefers to its own. `sink` opens what twistd's options name: stdout with ``-n``, else ``twistd.log`` or ``--logfile``
(rotated as twistd does). With ``--syslog`` or ``--logger`` twistd's own choice stays, and ``[log]`` has no effect.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import IO, Any, cast

from twisted.logger import (
    ILogObserver,
    LogEvent,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    PredicateResult,
    formatEvent,
)
from twisted.python.logfile import LogFile
from zope.interface import implementer

from broker.model.jsontext import encode
from broker.routing.traces import TracedPacket
from broker.settings.tables import LogTable

#: Old-style messages of Twisted (each port starting and stopping, each timed-out client): only what is wrong.
_LEGACY = "log_legacy"
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {9: "\\t", 10: "\\n", 13: "\\r"}


@implementer(ILogObserver)
class Lines:
    """Writes events to ``out``. `configure` may be called again at any time."""

    def __init__(self, out: IO[Any], table: LogTable) -> None:
        self._out = out
        self._levels = LogLevelFilterPredicate()
        self._format: Callable[[LogEvent], str] = as_text
        self.configure(table)

    def configure(self, table: LogTable) -> None:
        """Take the format and the levels of ``table``."""
        self._format = as_json if table.format == "json" else as_text
        self._levels.clearLogLevels()
        self._levels.setLogLevelForNamespace("", LogLevel.levelWithName(table.level))
        self._levels.setLogLevelForNamespace(_LEGACY, LogLevel.warn)
        for namespace, level in table.levels.items():
            self._levels.setLogLevelForNamespace(namespace, LogLevel.levelWithName(level))

    def __call__(self, event: LogEvent) -> None:
        if self._levels(event) is not PredicateResult.no:
            self._out.write(self._format(event) + "\n")
            self._out.flush()


def as_text(event: LogEvent) -> str:
    """One line, and a traceback's lines below it."""
    head = f"{_time(event)} {_level(event)} {_namespace(event)}: {_message(event)}"
    trace = _traceback(event)
    if trace:
        head += "".join(f"\n\t{line.translate(_ESCAPES)}" for line in trace.splitlines())
    return head


def as_json(event: LogEvent) -> str:
    """One JSON object."""
    members = {
        "time": _time(event),
        "level": _level(event),
        "namespace": _namespace(event),
        "message": _message(event),
    }
    trace = _traceback(event)
    if trace:
        members["traceback"] = trace
    try:
        return encode(members).decode()
    except ValueError:  # lone surrogates
        safe = {name: text.encode("utf-8", "backslashreplace").decode() for name, text in members.items()}
        return encode(safe).decode()


def sink(options: Mapping[str, Any] | None) -> IO[Any] | None:
    """Where twistd with these options would log to (unknown options: stdout).

    None when its own observer has to do it: syslog, --logger.
    """
    if options is None:
        return sys.stdout
    if options.get("logger") or options.get("syslog"):
        return None
    name = options.get("logfile")
    if options.get("nodaemon") and name in (None, "", "-"):
        return sys.stdout
    if name == "-":  # twistd refuses that for a daemon
        return None
    file: LogFile = LogFile.fromFullPath(name or "twistd.log")
    if not signal.getsignal(signal.SIGUSR1):
        signal.signal(signal.SIGUSR1, lambda *_: file.rotate())
    return cast("IO[Any]", file)


def _time(event: LogEvent) -> str:
    at = datetime.fromtimestamp(event.get("log_time", 0.0), UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"


def _level(event: LogEvent) -> str:
    level = event.get("log_level")
    return "info" if level is None else str(level.name)


def _namespace(event: LogEvent) -> str:
    return str(event.get("log_namespace") or "-")


def _message(event: LogEvent) -> str:
    """The message with its control characters escaped; without one, what kind of fault it was."""
    text = formatEvent(event)
    failure = event.get("log_failure")
    if not text and failure is not None:
        text = f"{failure.type.__name__}: {failure.getErrorMessage()}"
    return text.translate(_ESCAPES)


def _traceback(event: LogEvent) -> str:
    failure = event.get("log_failure")
    return "" if failure is None else str(failure.getTraceback()).rstrip()


_trace_log = Logger(namespace="broker.trace")


def log_packet(packet: TracedPacket) -> None:
    """A line for a packet of a device that is traced."""
    _trace_log.info(
        "{protocol} {device} {direction} {raw} {decoded}",
        protocol=packet.protocol,
        device=packet.device,
        direction=packet.direction,
        raw="(secret)" if packet.raw is None else packet.raw.hex(),
        decoded=encode(packet.decoded).decode("utf-8", "replace"),
    )
