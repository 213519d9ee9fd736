"""Log lines: their form, their levels, and where twistd would have them."""

import json
import sys
from io import StringIO
from pathlib import Path
from typing import Any

from twisted.logger import Logger, LogLevel, LogPublisher
from twisted.python import log as legacy
from twisted.python.logfile import LogFile
from twisted.trial.unittest import SynchronousTestCase

from broker.logs import Lines, as_json, as_text, sink
from broker.settings.tables import LogTable
from tests.log_lines import LogLines

AT = 1763710260.1239


def event(text: str = "{a} of {b}", **members: Any) -> dict[str, Any]:
    return {
        "log_format": text,
        "log_time": AT,
        "log_level": LogLevel.warn,
        "log_namespace": "broker.x",
        "a": 1,
        "b": "two",
        **members,
    }


class FormatTests(SynchronousTestCase):
    def test_text(self) -> None:
        self.assertEqual(as_text(event()), "2025-11-21T07:31:00.123Z warn broker.x: 1 of two")

    def test_json(self) -> None:
        expected = {
            "time": "2025-11-21T07:31:00.123Z",
            "level": "warn",
            "namespace": "broker.x",
            "message": "1 of two",
        }
        self.assertEqual(json.loads(as_json(event())), expected)

    def test_nobody_writes_lines_of_their_own(self) -> None:
        line = as_text(event(b="x\n2026 info broker: lies\r\x1b[2J\x85"))
        self.assertEqual(
            line, "2025-11-21T07:31:00.123Z warn broker.x: 1 of x\\n2026 info broker: lies\\r\\x1b[2J\\x85"
        )
        self.assertNotIn("\n", as_json(event(b="x\ny")))

    def test_text_that_is_not_unicode(self) -> None:
        self.assertEqual(json.loads(as_json(event(b="\ud800")))["message"], "1 of \\ud800")

    def test_members_that_the_message_does_not_name_stay_out(self) -> None:
        for form in (as_text, as_json):
            self.assertNotIn("hush", form(event(secret="hush")))

    def test_a_fault_has_its_traceback(self) -> None:
        out = StringIO()
        log = Logger(namespace="broker.y", observer=LogPublisher(Lines(out, LogTable())))
        try:
            raise ValueError("bad\nthing")
        except ValueError:
            log.failure("while trying")
        first, *others = out.getvalue().splitlines()
        self.assertTrue(first.endswith(" critical broker.y: while trying"), first)
        self.assertTrue(others and all(line.startswith("\t") for line in others), others)
        self.assertIn("ValueError", others[-2] + others[-1])


class LevelTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.out = StringIO()
        self.lines = Lines(self.out, LogTable())
        self.publisher = LogPublisher(self.lines)

    def written(self, namespace: str) -> list[str]:
        """The levels that come through."""
        self.out.truncate(0)
        log = Logger(namespace=namespace, observer=self.publisher)
        for level in LogLevel.iterconstants():
            log.emit(level, level.name)
        return [line.split()[1] for line in self.out.getvalue().replace("\0", "").splitlines()]

    def test_default(self) -> None:
        self.assertEqual(self.written("broker"), ["info", "warn", "error", "critical"])

    def test_by_namespace_and_below(self) -> None:
        self.lines.configure(LogTable(level="error", levels={"broker.a": "debug", "broker.a.b": "critical"}))
        self.assertEqual(self.written("broker"), ["error", "critical"])
        self.assertEqual(self.written("broker.a.x"), ["debug", "info", "warn", "error", "critical"])
        self.assertEqual(self.written("broker.a.b"), ["critical"])

    def test_reconfigured_from_scratch(self) -> None:
        self.lines.configure(LogTable(levels={"broker.a": "debug"}, format="json"))
        self.lines.configure(LogTable(level="critical"))
        self.assertEqual(self.written("broker.a"), ["critical"])

    def test_old_style_messages_only_when_something_is_wrong(self) -> None:
        self.assertEqual(self.written("log_legacy"), ["warn", "error", "critical"])
        self.lines.configure(LogTable(levels={"log_legacy": "info"}))
        self.assertEqual(self.written("log_legacy")[0], "info")

    def test_what_twisted_calls_old_style(self) -> None:
        seen = LogLines(self, "log_legacy")
        legacy.msg("port starting")
        self.assertEqual([event["log_namespace"] for event in seen.events], ["log_legacy"])


class SinkTests(SynchronousTestCase):
    def test_standard_output(self) -> None:
        self.assertIs(sink(None), sys.stdout)
        self.assertIs(sink({"nodaemon": True, "logfile": None}), sys.stdout)
        self.assertIs(sink({"nodaemon": True, "logfile": "-"}), sys.stdout)

    def test_left_to_twistd(self) -> None:
        self.assertIsNone(sink({"nodaemon": True, "logfile": None, "syslog": True}))
        self.assertIsNone(sink({"nodaemon": True, "logfile": None, "logger": print}))
        self.assertIsNone(sink({"nodaemon": False, "logfile": "-"}))

    def test_files(self) -> None:
        path = Path(self.mktemp()).absolute()
        for nodaemon in (True, False):
            file = sink({"nodaemon": nodaemon, "logfile": str(path)})
            assert isinstance(file, LogFile)
            self.addCleanup(file.close)
            self.assertEqual(file.path, str(path))

    def test_a_daemon_without_a_name(self) -> None:
        file = sink({"nodaemon": False, "logfile": None})
        assert isinstance(file, LogFile)
        self.addCleanup(file.close)
        self.assertEqual(file.path, str(Path("twistd.log").absolute()))
