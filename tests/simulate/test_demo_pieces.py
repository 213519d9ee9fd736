"""Pieces of the demo on a clock of our own: turns, the board, lines that come slowly, the table, who takes part."""

from __future__ import annotations

import io
import re
from base64 import b64encode
from itertools import pairwise
from random import Random
from typing import Any

from rich.console import Console
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from broker.simulate.demo import cast
from broker.simulate.demo.board import Board
from broker.simulate.demo.cast import CELLS, GATEWAY88, GIZWITS, LORAWAN, NOVACLOUD, PROTOCOLS, SUBJECTS, Subject, of
from broker.simulate.demo.enrolment import Keys, registration
from broker.simulate.demo.lines import MAX_WAITING, PACE, Lines
from broker.simulate.demo.orders import Order, body, order
from broker.simulate.demo.table import Table
from broker.simulate.demo.turns import HASTE, HURRY, PATIENCE, PAUSE, SUCCEEDED, Turns
from broker.simulate.demo.words import said, said_fields, took, uplink_text
from broker.simulate.gateway88.memory import TOTAL_DISK, TOTAL_RAM, Memory
from broker.simulate.gizwits_lamp import REPORT
from broker.simulate.room import WARMTH, Room, warmth

SIDE = "mqtt-dashboard"


class CastTests(SynchronousTestCase):
    def test_ids_and_aliases_are_one_device_s_each(self) -> None:
        everybody = [*SUBJECTS, *cast.crowd(500)]
        self.assertEqual(len({one.id for one in everybody}), len(everybody))
        self.assertEqual(len({one.eui for one in SUBJECTS}), len(SUBJECTS))
        self.assertNotIn(cast.STRANGER.hex().upper(), {one.id for one in everybody})

    def test_a_crowd_is_of_every_protocol(self) -> None:
        self.assertEqual({one.protocol for one in cast.crowd(5)}, set(PROTOCOLS))

    def test_every_application_has_somebody_of_every_protocol_that_can_be_commanded_at_once(self) -> None:
        for protocol in PROTOCOLS:
            self.assertTrue(any(one.prompt for one in of(protocol)), protocol)

    def test_everything_has_a_name_in_both_languages(self) -> None:
        products = [product["name"] for product in cast.PRODUCTS]
        inner = [one["name"] for product in cast.PRODUCTS for one in (*product["sensors"], *product["actuators"])]
        applications = [name for _, name in cast.APPLICATIONS.values()]
        for name in (*products, *inner, *applications, cast.CUSTOMER_NAME, *(one.name for one in SUBJECTS)):
            self.assertRegex(name, r"^[A-Za-z0-9].*[\u4e00-\u9fff]", name)

    def test_registrations_have_fresh_secrets_that_do_not_show(self) -> None:
        first, second = Keys(), Keys()
        for subject in SUBJECTS:
            bodies = registration(subject, first), registration(subject, second)
            self.assertEqual([one["id"] for one in bodies], [subject.id] * 2)
            if subject.protocol != GATEWAY88:
                self.assertNotEqual(first.devices[subject.id], second.devices[subject.id])
                self.assertNotIn(first.devices[subject.id], repr(first))
            if subject.protocol == LORAWAN:
                self.assertEqual("join_eui" in bodies[0], not subject.prompt)


class OrderTests(SynchronousTestCase):
    def test_each_protocol_is_told_in_its_own_form(self) -> None:
        chance = Random(1)
        for subject in SUBJECTS:
            given = order(subject, chance)
            fields = body(subject, given, ref="x")
            self.assertEqual(fields["ref"], "x")
            self.assertEqual("payload" in fields, subject.protocol != LORAWAN)
            self.assertEqual("payload_base64" in fields, subject.protocol == LORAWAN)
            self.assertEqual(fields.get("ack"), True if subject.protocol == GIZWITS else None)
            self.assertTrue(given.data)
            product = next(one for one in cast.PRODUCTS if one["key"] == subject.product)
            keys = {one["command_key"] for one in product["actuators"]}
            self.assertLessEqual(set(given.payload or {}), keys)


class WordsTests(SynchronousTestCase):
    def test_what_devices_say_is_said_alike_whatever_it_came_as(self) -> None:
        climate, gateway, lamp, mote = (of(protocol)[0] for protocol in PROTOCOLS)
        for subject, data, words in (
            (climate, b'{"temperature":21.5,"is_window_open":false}', "temperature=21.5 is_window_open=false"),
            (gateway, b'{"type":"hb","hb":{"freeram":1048576,"freedisk":2048}}', "free RAM 1.0 MB, flash 2.0 MB"),
            (gateway, b'{"type":"newdevices"}', "type=newdevices"),
            (lamp, bytes((REPORT, 1, 40, 2, 214)), "power=true brightness=40 temperature=22.6"),
            (mote, bytes((0, 215, 61, 93)), "temperature=21.5 humidity=61 battery=93"),
            (mote, b"\xff", "ff"),
        ):
            self.assertEqual(said(subject, data), words)
            self.assertEqual(uplink_text(subject, {"payload_base64": b64encode(data).decode()}), words)
        self.assertEqual(said_fields({"type": "hb", "hb": 5}), "5")
        self.assertEqual((took(0.0123), took(2.345)), ("12 ms", "2.3 s"))


class Sent:
    """A side whose commands are kept, with a device for each protocol heard if ``heard``."""

    def __init__(self, heard: bool = True) -> None:
        self.clock = Clock()
        self.board = Board(CELLS, self.clock.seconds)
        self.commands: list[tuple[int, Subject, Order]] = []
        self.turns = Turns(self.clock, self.board, SIDE, SUBJECTS, Random(1), lambda *what: self.commands.append(what))
        if heard:
            for protocol in PROTOCOLS:
                self.board.uplink(SIDE, of(protocol)[0], "")
        self.turns.start()

    def protocols(self) -> list[str]:
        return [subject.protocol for _, subject, _ in self.commands]

    def cell(self, protocol: str) -> Any:
        return self.board.cells[protocol, SIDE]


class TurnsTests(SynchronousTestCase):
    def test_each_protocol_is_commanded_at_once_motes_first(self) -> None:
        sent = Sent()
        sent.clock.pump([HASTE] * 4)
        self.assertEqual(sent.protocols(), [LORAWAN, NOVACLOUD, GATEWAY88, GIZWITS])
        self.assertTrue(all(subject.prompt for _, subject, _ in sent.commands))
        # Nobody is asked twice while there may be an answer ...
        sent.clock.pump([HASTE] * 6)
        self.assertEqual(len(sent.commands), 4)
        # ... and everybody is when there was none.
        sent.clock.pump([HASTE] * int(HURRY / HASTE))
        self.assertEqual(sorted(sent.protocols()[4:]), sorted(PROTOCOLS))

    def test_who_was_not_heard_waits_but_for_motes(self) -> None:
        sent = Sent(heard=False)
        sent.clock.pump([HASTE] * 4)
        self.assertEqual(sent.protocols(), [LORAWAN])
        sent.board.uplink(SIDE, of(GIZWITS)[0], "")
        sent.clock.advance(HASTE)
        self.assertEqual(sent.protocols(), [LORAWAN, GIZWITS])

    def test_then_there_are_pauses_and_every_protocol_goes_on(self) -> None:
        sent = Sent()
        for _ in range(4):
            sent.clock.advance(HASTE)
            sent.turns.answered(sent.commands[-1][0], SUCCEEDED)
        sent.commands.clear()
        sent.clock.pump([PAUSE / 10] * 400)
        self.assertEqual(set(sent.protocols()), set(PROTOCOLS))
        self.assertLess(len(sent.commands), 40 / 0.7 + 1)
        self.assertGreater(len(sent.commands), 40 / 1.3 - 2)

    def test_an_answer_counts_once_under_whatever_name(self) -> None:
        sent = Sent()
        sent.clock.advance(HASTE)
        (number, subject, given), cell = sent.commands[0], sent.cell(LORAWAN)
        sent.turns.call(number, "token")
        sent.clock.advance(0.25)
        sent.turns.answered_as("token", SUCCEEDED)
        sent.turns.answered_as("token", "failed")
        sent.turns.answered(number, "failed")
        sent.turns.answered_as("another", "failed")
        self.assertEqual((cell.answers, cell.failures, cell.succeeded, cell.answer), (1, 0, True, SUCCEEDED))
        self.assertEqual(cell.command, f"{cast.short(subject)} {given.text}")
        self.assertTrue(cell.whole)

    def test_what_is_never_answered_is_forgotten_in_the_end(self) -> None:
        sent = Sent()
        sent.clock.advance(HASTE)
        number = sent.commands[0][0]
        sent.clock.pump([HASTE] * int(PATIENCE / HASTE + 2))
        cell = sent.cell(LORAWAN)
        self.assertEqual((cell.answers, cell.failures, cell.answer), (1, 1, "unanswered"))
        sent.turns.answered(number, SUCCEEDED)
        self.assertEqual(cell.answers, 1)

    def test_stopped_it_commands_no_more(self) -> None:
        sent = Sent()
        sent.turns.stop()
        sent.clock.advance(60)
        self.assertEqual((sent.commands, sent.clock.getDelayedCalls()), ([], []))


def fill(board: Board) -> None:
    """Everything is seen once."""
    for protocol, side in CELLS:
        board.uplink(side, of(protocol)[0], "value=1")
        board.answer(side, of(protocol)[0], "do=it", True, SUCCEEDED, 0.012)


class BoardTests(SynchronousTestCase):
    def test_it_is_whole_when_everything_was_seen_once(self) -> None:
        board, told = Board(CELLS, lambda: 0.0), []
        board.on_whole.append(lambda: told.append("whole"))
        for protocol, side in CELLS:
            board.uplink(side, of(protocol)[0], "value=1")
            board.answer(side, of(protocol)[0], "do=it", False, "failed", 0.1)
        self.assertEqual((board.whole, told), (False, []))
        fill(board)
        fill(board)
        self.assertEqual((board.whole, told), (True, ["whole"]))


class LinesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.board = Board(CELLS, self.clock.seconds)
        self.said: list[str] = []
        self.lines = Lines(self.clock, self.board, self.said.append, lambda failure: self.fail(str(failure)))
        self.lines.start()

    def test_each_cell_once_a_few_a_second(self) -> None:
        fill(self.board)
        self.board.note("hello")
        self.clock.advance(1)
        self.assertLessEqual(len(self.said), 5)
        self.clock.pump([PACE] * 2 * len(CELLS))
        cells = [line for line in self.said if "cell  " in line]
        self.assertEqual(len(cells), len(CELLS))
        for protocol, side in CELLS:
            self.assertTrue(
                any(re.search(rf"cell +{protocol} x {side} .*do=it: succeeded, 12 ms$", one) for one in cells)
            )
        self.assertIn("note  hello", self.said[-1])

    def test_later_one_a_second_the_oldest_first(self) -> None:
        fill(self.board)
        self.clock.pump([PACE] * 2 * len(CELLS))
        self.said.clear()
        for _ in range(10):
            fill(self.board)
            self.clock.pump([PACE] * 5)
        self.assertLessEqual(len(self.said), 11)
        places = [line.split("  ")[2] for line in self.said]
        self.assertEqual(len(places), len(set(places)))

    def test_a_flood_of_notes_is_cut_and_counted(self) -> None:
        for number in range(MAX_WAITING + 50):
            self.board.note(f"number {number}")
        self.lines.stop()
        self.assertEqual(len(self.said), MAX_WAITING + 1)
        self.assertIn("50 more lines were left out", self.said[-1])
        self.assertEqual(self.clock.getDelayedCalls(), [])


class Terminal(io.StringIO):
    """One that is gone after so many writes."""

    left = 1_000_000

    def write(self, text: str) -> int:
        self.left -= 1
        if self.left < 0:
            raise OSError("gone")
        return super().write(text)


class TableTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.board = Board(CELLS, self.clock.seconds)
        self.terminal = Terminal()
        self.failures: list[Failure] = []

    def table(self, width: int) -> Table:
        console = Console(file=self.terminal, width=width, height=40, force_terminal=True, color_system=None)
        return Table(self.clock, self.board, console, "[bold]caption", self.failures.append)

    def draw(self, width: int) -> str:
        table = self.table(width)
        fill(self.board)
        self.board.answer(SIDE, of(NOVACLOUD)[0], "do=it", False, "failed [red]", 1.5)
        self.board.note("[not markup] and no colour")
        table.start()
        self.clock.pump([0.5] * 3)
        table.stop()
        self.assertEqual((self.clock.getDelayedCalls(), self.failures), ([], []))
        return self.terminal.getvalue()

    def test_wide_it_has_words(self) -> None:
        drawn = self.draw(200)
        self.assertIn("↑ climate-1 value=1", drawn)
        self.assertIn("↓ do=it ✗ failed [red] climate-1", drawn)
        self.assertIn("↓ do=it ✓ 12 ms gateway-1", drawn)
        self.assertIn("no passcode to bind", drawn)
        self.assertIn("[not markup] and no colour", drawn)
        self.assertIn("[bold]caption", drawn)

    def test_narrow_it_begins_with_figures(self) -> None:
        drawn = self.draw(80)
        self.assertIn("↑ 1 value=1", drawn)
        self.assertIn("↓ ✓ 12 ms do…", drawn)

    def test_a_terminal_that_goes_is_told_once(self) -> None:
        for left in (0, 3):
            self.failures.clear()
            self.terminal.left = left
            table = self.table(80)
            table.start()
            self.clock.pump([0.5] * 3)
            table.stop()
            self.assertEqual([failure.type for failure in self.failures], [OSError], left)
            self.assertEqual(self.clock.getDelayedCalls(), [])


class RoomTests(SynchronousTestCase):
    def test_afternoons_are_warmer_than_nights(self) -> None:
        day = [warmth(1_790_000_000 + hour * 3600) for hour in range(24)]
        self.assertApproximates(max(day), WARMTH, 0.1)
        self.assertApproximates(min(day), -WARMTH, 0.1)
        self.assertApproximates(sum(day), 0, 0.1)

    def test_a_battery_falls_and_is_replaced(self) -> None:
        room = Room(Random(1))
        levels = []
        for _ in range(40_000):
            room.measure()
            levels.append(room.status()["battery"])
        falls = sum(before > after for before, after in pairwise(levels))
        rises = sum(before < after for before, after in pairwise(levels))
        self.assertGreater(falls, 100)
        self.assertIn(rises, (2, 3))
        self.assertGreaterEqual(min(levels), 5)

    def test_a_gateway_s_memory_fills_and_is_freed(self) -> None:
        memory = Memory(Random(1))
        free = [memory.next() for _ in range(2_000)]
        for total, name, most in ((TOTAL_RAM, "ram", 0.85), (TOTAL_DISK, "disk", 0.9)):
            self.assertEqual({one[f"total{name}"] for one in free}, {total})
            levels = [one[f"free{name}"] for one in free]
            self.assertGreaterEqual(min(levels), total * (1 - most) - 1)
            self.assertTrue(any(after > before * 1.5 for before, after in pairwise(levels)))
