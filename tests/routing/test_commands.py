"""The life cycle of commands: every arrow of its picture, in the order that devices and callers see."""

from collections.abc import Callable

from zope.interface.verify import verifyObject

from broker.model.errors import Conflict, DeviceOffline, Invalid, LimitExceeded, NotFound
from broker.model.interfaces import IConsumer, IDeviceLink
from broker.model.messages import (
    CANCELLED,
    EXPIRED,
    FAILED,
    PENDING,
    QUEUED,
    SENT,
    SUCCEEDED,
    TIMED_OUT,
    Command,
)
from broker.routing.command_tables import MAX_STALE_DEADLINES
from broker.routing.commands import DEFAULT_PENDING_TIMEOUT, NO_WAIT_GRACE
from tests.routing.fakes import CommandsCase, FakeLink, Watching


class LifeTests(CommandsCase):
    def test_the_fakes_are_what_they_stand_for(self) -> None:
        verifyObject(IDeviceLink, FakeLink())
        verifyObject(IConsumer, Watching())

    def test_queued_while_the_device_is_away(self) -> None:
        command = self.submit("a")
        self.assertIsNone(self.error_of("a"))
        self.assertEqual((command.status, self.commands.open, self.commands.queued("d")), (QUEUED, 1, 1))
        self.assertIs(self.commands.get("a"), command)
        self.assertEqual(self.watching.changes, [("a", QUEUED)])
        self.assertEqual(self.commands.counters.submitted, 1)

    def test_sent_when_the_device_is_ready(self) -> None:
        command = self.submit("a")
        live, link = self.connect(ready=False)
        self.assertEqual(link.sent, [])
        self.commands.ready(live)
        self.assertEqual((link.sent, command.status, command.deadline), (["a"], SENT, self.now + link.answer_timeout))
        self.assertEqual((self.commands.open, self.commands.queued("d")), (1, 0))

    def test_sent_at_once_when_the_device_is_there(self) -> None:
        _, link = self.connect()
        self.submit("a")
        self.assertEqual(link.sent, ["a"])
        self.assertEqual(self.watching.of("a"), [QUEUED, SENT])

    def test_answered(self) -> None:
        for status in (SUCCEEDED, FAILED):
            self.connect()
            command = self.submit(status)
            self.now += 1
            self.assertTrue(self.reply(status, status, {"value": 1}))
            self.assertEqual((command.status, command.result, command.deadline), (status, {"value": 1}, None))
            self.assertEqual(command.updated_at, self.now)
            self.assertEqual(self.watching.of(status), [QUEUED, SENT, status])
            self.assertEqual(self.journal.stored[status].status, status)
            self.assertEqual(self.commands.counters.ended[status], 1)
            self.assertIsNone(self.commands.get(status))
        self.assertEqual(self.commands.open, 0)

    def test_pending_then_succeeded(self) -> None:
        self.connect()
        command = self.submit("a")
        self.assertTrue(self.reply("a", PENDING, {"progress": 10}))
        self.assertEqual((command.status, command.result), (PENDING, {"progress": 10}))
        self.reply("a", SUCCEEDED)
        self.assertEqual(self.watching.of("a"), [QUEUED, SENT, PENDING, SUCCEEDED])
        self.assertEqual(command.result, {"progress": 10})

    def test_timed_out(self) -> None:
        _, link = self.connect()
        command = self.submit("a")
        self.advance(link.answer_timeout - 0.1)
        self.assertEqual(command.status, SENT)
        self.advance(0.1)
        self.assertEqual((command.status, self.watching.of("a")), (TIMED_OUT, [QUEUED, SENT, TIMED_OUT]))

    def test_its_own_timeout_counts(self) -> None:
        self.connect()
        short, long = self.submit("short", timeout=5.0), self.submit("long", timeout=100.0)
        self.advance(5.0)
        self.assertEqual((short.status, long.status), (TIMED_OUT, SENT))
        self.advance(99.0)
        self.assertEqual(long.status, SENT)
        self.advance(1.0)
        self.assertEqual(long.status, TIMED_OUT)

    def test_each_pending_extends(self) -> None:
        _, link = self.connect()
        command = self.submit("a")
        for _ in range(5):
            self.advance(link.answer_timeout - 1)
            self.reply("a", PENDING)
        self.assertEqual(command.deadline, self.now + link.pending_timeout)
        self.advance(link.pending_timeout - 1)
        self.assertEqual(command.status, PENDING)
        self.advance(1)
        self.assertEqual(self.watching.of("a"), [QUEUED, SENT, *[PENDING] * 5, TIMED_OUT])

    def test_pending_may_shorten(self) -> None:
        _, link = self.connect()
        command = self.submit("a", timeout=1000.0)
        self.reply("a", PENDING)
        self.advance(link.pending_timeout)
        self.assertEqual(command.status, TIMED_OUT)

    def test_pending_over_a_link_that_is_gone(self) -> None:
        live, link = self.connect()
        command = self.submit("a")
        self.devices.detach(live, link, "connection_lost")
        self.reply("a", PENDING)
        self.assertEqual(command.deadline, self.now + DEFAULT_PENDING_TIMEOUT)

    def test_expired_while_it_waits(self) -> None:
        command = self.submit("a", expires=10.0)
        self.advance(9.9)
        self.assertEqual(command.status, QUEUED)
        self.advance(0.1)
        self.assertEqual((command.status, self.commands.queued("d")), (EXPIRED, 0))
        self.assertEqual(self.connect()[1].sent, [])

    def test_a_short_expiry_is_kept_to(self) -> None:
        command = self.submit("a", expires=0.5)
        self.advance(0.5)
        self.assertEqual(command.status, EXPIRED)

    def test_expired_between_two_ticks_is_not_sent(self) -> None:
        command = self.submit("a", expires=10.0)
        self.submit("b", expires=20.0)
        self.now += 15.0
        _, link = self.connect()
        self.assertEqual((command.status, link.sent), (EXPIRED, ["b"]))

    def test_expiry_does_not_end_what_was_sent(self) -> None:
        self.connect()
        command = self.submit("a", expires=5.0, timeout=60.0)
        self.advance(30.0)
        self.assertEqual(command.status, SENT)

    def test_cancelled(self) -> None:
        command = self.submit("a")
        self.assertIs(self.commands.cancel("a"), command)
        self.assertEqual((command.status, command.deadline), (CANCELLED, None))
        self.assertEqual(self.watching.of("a"), [QUEUED, CANCELLED])
        self.assertEqual(self.connect()[1].sent, [])
        self.advance(10_000)
        self.assertEqual(command.status, CANCELLED)

    def test_what_cannot_be_cancelled(self) -> None:
        self.assertRaises(NotFound, self.commands.cancel, "unknown")
        self.connect()
        self.submit("a")
        self.assertRaises(Conflict, self.commands.cancel, "a")
        self.reply("a", PENDING)
        self.assertRaises(Conflict, self.commands.cancel, "a")
        self.reply("a", SUCCEEDED)
        self.assertRaises(NotFound, self.commands.cancel, "a")

    def test_what_the_protocol_cannot_say_fails(self) -> None:
        _, link = self.connect()

        def refuse(command: Command) -> None:
            raise Invalid("no such word")

        link.on_send = refuse
        command = self.submit("a")
        self.assertEqual((command.status, command.result), (FAILED, {"error": "no such word"}))
        self.assertEqual(self.watching.of("a"), [QUEUED, SENT, FAILED])
        self.assertEqual(self.faults, [])

    def test_a_fault_of_the_protocol_fails_the_command_only(self) -> None:
        _, link = self.connect()

        def break_down(command: Command) -> None:
            raise ZeroDivisionError("ours")

        link.on_send = break_down
        command = self.submit("a")
        link.on_send = lambda command: None
        following = self.submit("b")
        self.assertEqual((command.status, command.result), (FAILED, {"error": "internal error"}))
        self.assertEqual((following.status, self.faults), (SENT, [("send_command", "ours")]))

    def test_answered_while_it_is_written(self) -> None:
        _, link = self.connect()
        link.on_send = lambda command: self.assertTrue(self.reply(command.id, SUCCEEDED))
        commands = [self.submit(name) for name in "abc"]
        self.assertEqual({command.status for command in commands}, {SUCCEEDED})
        self.assertEqual(self.watching.of("b"), [QUEUED, SENT, SUCCEEDED])

    def test_the_first_final_state_stands(self) -> None:
        self.connect()
        command = self.submit("a")
        self.reply("a", SUCCEEDED)
        for status in (FAILED, PENDING, SUCCEEDED):
            self.assertFalse(self.reply("a", status))
        self.advance(10_000)
        self.assertEqual((command.status, self.journal.stored["a"].status), (SUCCEEDED, SUCCEEDED))


class OrderTests(CommandsCase):
    def test_in_the_order_of_arrival_one_at_a_time(self) -> None:
        for name in "abc":
            self.submit(name)
        _, link = self.connect()
        self.assertEqual(link.sent, ["a"])
        self.reply("a", SUCCEEDED)
        self.assertEqual(link.sent, ["a", "b"])
        self.reply("b", PENDING)
        self.assertEqual(link.sent, ["a", "b"])
        self.advance(link.pending_timeout)
        self.assertEqual(link.sent, ["a", "b", "c"])

    def test_as_many_as_the_window_allows(self) -> None:
        for name in "abcde":
            self.submit(name)
        _, link = self.connect(window=3)
        self.assertEqual(link.sent, ["a", "b", "c"])
        self.reply("b", FAILED)
        self.assertEqual(link.sent, ["a", "b", "c", "d"])

    def test_a_refused_command_makes_room_at_once(self) -> None:
        for name in "abc":
            self.submit(name)
        live, link = self.connect(ready=False)

        def refuse(command: Command) -> None:
            if command.id != "c":
                raise Invalid("no")

        link.on_send = refuse
        self.commands.ready(live)
        self.assertEqual(link.sent, ["a", "b", "c"])

    def test_not_sent_again_over_the_next_link(self) -> None:
        live, link = self.connect()
        command = self.submit("a")
        self.devices.detach(live, link, "connection_lost")
        _, again = self.connect()
        self.assertEqual((again.sent, command.status), ([], SENT))
        self.assertTrue(self.reply("a", SUCCEEDED))

    def test_what_an_earlier_link_never_answered_holds_nothing_up(self) -> None:
        live, link = self.connect()
        self.submit("a", timeout=1800.0)
        self.submit("b")
        self.submit("c")
        self.devices.detach(live, link, "connection_lost")
        _, again = self.connect()
        self.assertEqual(again.sent, ["b"])
        self.reply("a", SUCCEEDED)
        self.assertEqual(again.sent, ["b"])
        self.reply("b", SUCCEEDED)
        self.assertEqual(again.sent, ["b", "c"])

    def test_a_takeover_waits_until_the_new_link_is_ready(self) -> None:
        self.connect()
        self.submit("a")
        self.submit("b")
        live, link = self.connect(ready=False)
        self.submit("c")
        self.assertEqual(link.sent, [])
        self.commands.ready(live)
        self.commands.ready(live)
        self.assertEqual(link.sent, ["b"])

    def test_ready_without_a_link_is_nothing(self) -> None:
        live, link = self.connect(ready=False)
        self.devices.detach(live, link, "idle")
        self.commands.ready(live)
        self.assertFalse(live.ready)

    def test_devices_do_not_hold_each_other_up(self) -> None:
        _, one = self.connect(device="1")
        _, two = self.connect(device="2")
        for name in "abc":
            self.submit("1" + name, "1")
        self.submit("2a", "2")
        self.assertEqual((one.sent, two.sent), (["1a"], ["2a"]))


class LimitTests(CommandsCase):
    def test_queue_of_one_device(self) -> None:
        for number in range(self.commands.max_queued):
            self.submit(str(number))
        self.submit("more")
        error = self.error_of("more")
        assert isinstance(error, LimitExceeded)
        self.assertEqual(error.details, {"limit": "commands.max_queued"})
        self.assertIsNone(self.commands.get("more"))
        self.assertNotIn("more", self.journal.stored)
        self.submit("other", "other device")
        self.assertIsNone(self.error_of("other"))

    def test_all_together(self) -> None:
        for number in range(self.commands.max_open):
            self.submit(str(number), str(number))
        self.submit("more", "more")
        error = self.error_of("more")
        assert isinstance(error, LimitExceeded)
        self.assertEqual(error.details, {"limit": "commands.max_open"})
        self.commands.cancel("0")
        self.submit("again", "more")
        self.assertIsNone(self.error_of("again"))

    def test_may_not_wait_and_the_device_is_away(self) -> None:
        command = self.submit("a", expires=0.0)
        self.assertIsInstance(self.error_of("a"), DeviceOffline)
        self.assertEqual((self.commands.open, self.journal.calls, self.watching.changes), (0, [], []))
        self.assertFalse(command.final)
        live, link = self.connect()
        self.devices.detach(live, link, "idle")
        self.submit("b", expires=0.0)
        self.assertIsInstance(self.error_of("b"), DeviceOffline)

    def test_may_not_wait_and_the_device_is_there(self) -> None:
        _, link = self.connect()
        command = self.submit("a", expires=0.0)
        self.assertEqual((link.sent, command.status), (["a"], SENT))

    def test_may_not_wait_and_the_device_is_getting_ready(self) -> None:
        live, link = self.connect(ready=False)
        self.submit("a", expires=0.0)
        self.advance(NO_WAIT_GRACE / 2)
        self.commands.ready(live)
        self.assertEqual(link.sent, ["a"])

    def test_may_not_wait_and_the_device_is_busy(self) -> None:
        _, link = self.connect()
        self.submit("a")
        command = self.submit("b", expires=0.0)
        self.advance(NO_WAIT_GRACE)
        self.assertEqual((command.status, link.sent), (EXPIRED, ["a"]))

    def test_deadlines_of_what_has_ended_do_not_pile_up(self) -> None:
        self.connect()
        for number in range(3 * MAX_STALE_DEADLINES):
            self.submit(str(number))
            self.reply(str(number), SUCCEEDED)
        waiting = [self.submit(f"w{number}", "away", expires=50.0) for number in range(3)]
        self.assertLess(len(self.commands._deadlines), MAX_STALE_DEADLINES + 100)
        self.advance(50.0)
        self.assertEqual({command.status for command in waiting}, {EXPIRED})

    def test_a_device_that_says_pending_for_ever_costs_nothing_more(self) -> None:
        self.connect()
        self.submit("a")
        for _ in range(3 * MAX_STALE_DEADLINES):
            self.now += 0.01
            self.reply("a", PENDING)
        self.assertLess(len(self.commands._deadlines), 10)


class WaitTests(CommandsCase):
    def setUp(self) -> None:
        super().setUp()
        self.told: list[tuple[str, str]] = []

    def tell(self, name: str) -> "Tell":
        return Tell(name, self.told)

    def test_told_once_at_the_end(self) -> None:
        self.connect()
        self.submit("a")
        self.commands.wait("a", self.tell("one"))
        self.commands.wait("a", self.tell("two"))
        self.reply("a", PENDING)
        self.assertEqual(self.told, [])
        self.reply("a", SUCCEEDED)
        self.reply("a", FAILED)
        self.assertEqual(self.told, [("one", SUCCEEDED), ("two", SUCCEEDED)])
        self.assertEqual(self.commands._waiters, {})

    def test_every_way_to_end_is_told(self) -> None:
        for name, end in (
            ("cancelled", lambda: self.commands.cancel("cancelled")),
            ("expired", lambda: self.advance(3600)),
        ):
            self.submit(name)
            self.commands.wait(name, self.tell(name))
            end()
        self.assertEqual(self.told, [("cancelled", CANCELLED), ("expired", EXPIRED)])

    def test_stopped(self) -> None:
        self.submit("a")
        stop = self.commands.wait("a", self.tell("one"))
        stop_other = self.commands.wait("a", self.tell("two"))
        stop()
        stop()
        self.commands.cancel("a")
        self.assertEqual(self.told, [("two", CANCELLED)])
        stop_other()
        stop_other()
        self.submit("b")
        self.commands.wait("b", self.tell("b"))()
        self.assertEqual(self.commands._waiters, {})

    def test_one_that_stops_itself_or_another_skips_nobody_else(self) -> None:
        self.submit("a")
        stops: list[Callable[[], None]] = []

        def first(command: Command) -> None:
            self.told.append(("first", command.status))
            stops[0]()
            stops[1]()

        stops.append(self.commands.wait("a", first))
        stops.append(self.commands.wait("a", self.tell("second")))
        stops.append(self.commands.wait("a", self.tell("third")))
        self.commands.cancel("a")
        self.assertEqual(self.told, [("first", CANCELLED), ("third", CANCELLED)])

    def test_one_that_raises_stops_nobody(self) -> None:
        self.submit("a")

        def fail(command: Command) -> None:
            raise ValueError("mine")

        self.commands.wait("a", fail)
        self.commands.wait("a", self.tell("two"))
        self.commands.cancel("a")
        self.assertEqual((self.told, self.faults), ([("two", CANCELLED)], [("wait", "mine")]))


class Tell:
    """What waits: remembers the state that it was told."""

    def __init__(self, name: str, told: list[tuple[str, str]]) -> None:
        self.name = name
        self.told = told

    def __call__(self, command: Command) -> None:
        self.told.append((self.name, command.status))
