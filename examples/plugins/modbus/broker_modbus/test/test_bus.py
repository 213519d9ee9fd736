"""Peers that do not do what they should: late, for somebody else, garbage, silence, a lost connection. On a clock."""

from __future__ import annotations

from typing import Any

from pymodbus.pdu import ModbusPDU
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from broker.extension import ListenerStats
from broker_modbus import codec
from broker_modbus.bus import Bus, BusConnection, Counts, NoAnswer, Refused
from broker_modbus.registers import Register, plan
from broker_modbus.settings import Settings

REQUEST = codec.read(plan([Register(name="r", address=0)])[0])


class Wire(StringTransport):
    def setTcpNoDelay(self, enabled: bool) -> None:
        """As a real one."""

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """As a real one."""


class BusTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.stats, self.counts = ListenerStats(), Counts()
        self.bus = Bus(self.clock, Settings(timeout=2.0), "host", 502, self.stats, self.counts, set())
        self.connect()

    def connect(self) -> None:
        self.wire = Wire()
        self.connection = BusConnection(self.bus)
        self.connection.makeConnection(self.wire)

    def ask(self, unit: int = 1) -> Deferred[ModbusPDU]:
        return Deferred.fromCoroutine(self.bus.ask(unit, REQUEST))

    def asked(self) -> bytes:
        """What was written since the last look."""
        data: bytes = self.wire.value()
        self.wire.clear()
        return data

    def say(self, transaction: int, text: str = "01 03 02 0007") -> None:
        rest = bytes.fromhex(text)
        self.connection.dataReceived(bytes((0, transaction, 0, 0, 0, len(rest))) + rest)

    def test_one_at_a_time_in_turn(self) -> None:
        first, second = self.ask(), self.ask(2)
        self.assertEqual(self.asked(), bytes.fromhex("0001 0000 0006 01 03 0000 0001"))
        self.say(1)
        self.assertEqual(self.successResultOf(first).registers, [7])
        self.assertEqual(self.asked(), bytes.fromhex("0002 0000 0006 02 03 0000 0001"))
        self.assertNoResult(second)

    def test_refused_and_not_there(self) -> None:
        asked = self.ask()
        self.say(1, "01 83 02")
        self.assertEqual(self.failureResultOf(asked, Refused).value.code, 2)
        asked = self.ask()
        self.say(2, "01 83 0B")
        self.failureResultOf(asked, NoAnswer)

    def test_answers_for_somebody_else_and_late_ones(self) -> None:
        asked = self.ask()
        self.say(9)
        self.say(1, "02 03 02 0007")
        self.assertNoResult(asked)
        self.clock.advance(2)
        self.failureResultOf(asked, NoAnswer)
        again = self.ask()
        self.say(1)
        self.assertNoResult(again)
        self.say(2, "01 03 02 0008")
        self.assertEqual(self.successResultOf(again).registers, [8])
        self.assertEqual(self.counts.strays, 3)

    def test_garbage_and_the_answer_to_something_else_end_the_connection(self) -> None:
        for text in (b"HTTP/1.1 400 Bad Request\r\n", bytes.fromhex("0001 0000 0003 01 84 01")):
            self.connect()
            asked = self.ask()
            self.connection.dataReceived(text)
            self.assertTrue(self.wire.disconnected)
            self.end()
            self.failureResultOf(asked, NoAnswer)
            self.assertFalse(self.bus.connected)
        self.assertEqual(self.stats.malformed, 2)

    def test_a_half_open_connection_is_made_anew(self) -> None:
        for _ in range(3):
            self.assertFalse(self.wire.disconnected)
            asked = self.ask()
            self.clock.advance(2)
            self.failureResultOf(asked, NoAnswer)
        self.assertTrue(self.wire.disconnected)

    def test_nobody_waits_without_a_connection(self) -> None:
        asked, behind = self.ask(), self.ask()
        self.end()
        self.failureResultOf(asked, NoAnswer)
        self.failureResultOf(behind, NoAnswer)

    def end(self) -> None:
        connection: Any = self.connection
        connection.connectionLost()
