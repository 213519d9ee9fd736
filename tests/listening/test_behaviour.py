"""The behaviour suite on the smallest protocol; and that it notices when a protocol misbehaves."""

from typing import Any
from unittest import TestResult

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from broker.listening.listener import Listener
from broker.listening.settings import Limits
from tests.behaviour import StreamBehaviour
from tests.listening.toy import ToyConnection, make_toy


class ToyBehaviour(StreamBehaviour):
    kind: type[ToyConnection] = ToyConnection

    def make_listener(self, clock: Clock, limits: Limits) -> Listener:
        listener = make_toy(clock, limits)
        listener.protocol = self.kind
        return listener

    def login_bytes(self, number: int = 0) -> bytes:
        return b"hello client-%d\n" % number

    def one_valid_message(self) -> bytes:
        return b"say something\n"

    def half_message(self) -> bytes:
        return b"say some"

    def buffered(self, connection: Any) -> int:
        return len(connection.waiting)


class ToyBehaviourTests(ToyBehaviour, SynchronousTestCase):
    pass


class Hoarding(ToyConnection):
    """Keeps whatever comes until a line ends."""

    def received(self, data: bytes) -> None:
        *lines, self.waiting = (self.waiting + data).split(b"\n")
        for line in lines:
            self.line(line)
        self.account(len(lines))


class Fragile(ToyConnection):
    """Takes every line for text."""

    def line(self, line: bytes) -> None:
        line.decode()
        super().line(line)


class Deaf(ToyConnection):
    """Loses what comes in two pieces."""

    def received(self, data: bytes) -> None:
        self.waiting = b""
        super().received(data)


class Unlimited(ToyConnection):
    """Counts nothing against its rate."""

    def account(self, messages: int) -> None:
        self.messages_in += messages


class Strict(ToyConnection):
    """Closes those who come too fast."""

    def _throttle(self, messages: int) -> None:
        super()._throttle(messages)
        self.close("flood")


class Patient(ToyConnection):
    """Waits for ever for those who do not read."""

    def overdue(self, now: float) -> None:
        self._blocked_since = None
        super().overdue(now)


class BehaviourNoticesTests(SynchronousTestCase):
    def failing(self, connection_kind: type[ToyConnection]) -> set[str]:
        class Case(ToyBehaviour, SynchronousTestCase):
            kind = connection_kind

        failed = set()
        for name in dir(Case):
            if name.startswith("test_"):
                result = TestResult()
                Case(name).run(result)
                if not result.wasSuccessful():
                    failed.add(name)
        return failed

    def test_the_toy_passes(self) -> None:
        self.assertEqual(self.failing(ToyConnection), set())

    def test_faults_are_noticed(self) -> None:
        for kind, by in (
            (Hoarding, "test_a_message_without_end"),
            (Fragile, "test_garbage_after_a_login"),
            (Deaf, "test_a_message_in_two_pieces"),
            (Deaf, "test_everything_byte_by_byte"),
            (Unlimited, "test_a_flood_is_slowed_down_and_not_closed"),
            (Strict, "test_a_flood_is_slowed_down_and_not_closed"),
            (Patient, "test_somebody_who_does_not_read"),
        ):
            self.assertIn(by, self.failing(kind), kind)
