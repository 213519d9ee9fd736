"""The life of one connection: how it can end, what it limits, and what it still does after each."""

from typing import Any

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from broker.listening.connection import MAX_IGNORED, Connection
from broker.listening.settings import Limits
from broker.model.names import CLOSE_REASONS
from tests.listening.toy import ToyConnection, make_toy
from tests.transports import ADDRESS, BUFFER, Peer


class ConnectionCase(SynchronousTestCase):
    limits = Limits(max_outbox=1_000, max_message_rate=10, message_burst=20)
    kind: type[ToyConnection] = ToyConnection

    def setUp(self) -> None:
        self.clock = Clock()
        self.listener = make_toy(self.clock, self.limits)
        self.listener.protocol = self.kind
        self.stats = self.listener.stats
        self.peer = self.connect()

    def connect(self) -> Peer:
        peer = Peer(self.listener, self.clock)
        assert isinstance(peer.connection, ToyConnection)
        return peer

    @property
    def connection(self) -> Any:
        return self.peer.connection

    def jam(self, peer: Peer) -> None:
        peer.transport.stop_reading()
        peer.connection.send(b"j" * (BUFFER + 1))
        self.clock.advance(0)

    def tick_after(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.listener.tick()
        self.clock.advance(0)


class EndTests(ConnectionCase):
    def test_every_reason_of_the_catalogue(self) -> None:
        for reason in CLOSE_REASONS:
            for end in ("close", "abort"):
                peer = self.connect()
                getattr(peer.connection, end)(reason)
                self.clock.advance(0)
                self.assertEqual((peer.gone, peer.reason), (True, reason))
                self.assertIn(f"ended {reason}", peer.connection.events)  # type: ignore[attr-defined]  # of the toy
                self.assertEqual(peer.take(), b"bye " + reason.encode() + b"\n" if end == "close" else b"")
        self.assertEqual(self.stats.closed, dict.fromkeys(CLOSE_REASONS, 2))

    def test_closed_by_the_client(self) -> None:
        self.peer.hang_up()
        self.assertEqual((self.peer.reason, self.stats.closed), ("client_closed", {"client_closed": 1}))
        self.assertEqual(self.connection.events, ["opened", "ended client_closed"])

    def test_lost(self) -> None:
        for error in (ConnectionLost(), OSError("reset")):
            peer = self.connect()
            peer.transport.lose(error)
            self.assertEqual(peer.reason, "connection_lost")

    def test_our_reason_stands(self) -> None:
        self.connection.close("idle")
        self.connection.close("flood")
        self.connection.abort("slow_reader")
        self.clock.advance(0)
        self.assertEqual((self.peer.reason, self.stats.closed), ("idle", {"idle": 1}))
        self.assertEqual(self.peer.take(), b"bye idle\n")

    def test_who_goes_on_sending_is_not_waited_for(self) -> None:
        aborted: list[bool] = []
        self.peer.transport.abortConnection = lambda: aborted.append(True)  # type: ignore[method-assign]
        self.connection.close("too_long")
        for _ in range(MAX_IGNORED >> 16):
            self.connection.dataReceived(bytes(1 << 16))
        self.assertEqual(aborted, [])
        self.connection.dataReceived(b"x")
        self.assertEqual(aborted, [True])

    def test_what_waits_goes_out_before_the_goodbye(self) -> None:
        self.connection.send(b"one,")
        self.connection.send(b"two,")
        self.connection.close("idle")
        self.assertEqual(self.peer.take(), b"one,two,bye idle\n")

    def test_last_words_of_its_own(self) -> None:
        self.connection.close("idle", b"farewell")
        self.assertEqual(self.peer.take(), b"farewell")
        peer = self.connect()
        peer.connection.close("idle", b"")
        self.assertEqual(peer.take(), b"")

    def test_abort_throws_away_what_waits(self) -> None:
        self.connection.send(b"one")
        self.connection.abort("slow_reader")
        self.clock.advance(0)
        self.assertEqual((self.peer.take(), self.peer.gone), (b"", True))

    def test_what_comes_after_close_is_ignored(self) -> None:
        self.connection.close("idle")
        self.connection.dataReceived(b"hello a\nbreak\n")
        self.assertEqual((self.connection.identity, self.connection.messages_in, self.connection.waiting), ("", 0, b""))

    def test_close_in_the_middle_of_a_chunk(self) -> None:
        self.peer.send(b"hello a\nwhat\nsay 1\n")
        self.assertEqual((self.peer.reason, self.connection.messages_in), ("protocol_error", 2))

    def test_what_is_sent_after_close_is_forgotten(self) -> None:
        self.connection.close("idle")
        self.peer.take()
        for _ in range(100):
            self.connection.send(b"x" * 1000)
        self.clock.advance(0)
        self.assertEqual((self.peer.take(), self.connection.outbox.size), (b"", 0))
        self.connection.send(b"x")
        self.assertEqual(self.connection.outbox.size, 0)

    def test_pausing_and_resuming_after_close_is_harmless(self) -> None:
        self.connection.pause("mine")
        self.connection.close("idle")
        self.connection.pause("mine")
        self.connection.resume("mine")
        self.clock.advance(0)
        self.connection.resume("mine")
        self.assertTrue(self.peer.gone)

    def test_a_paused_connection_can_close(self) -> None:
        self.connection.pause("mine")
        self.connection.close("idle")
        self.assertEqual(self.peer.transport.producerState, "producing")

    def test_a_client_that_does_not_take_the_goodbye_is_cut_off(self) -> None:
        self.jam(self.peer)
        self.connection.close("idle")
        self.tick_after(self.limits.close_timeout - 1)
        self.assertFalse(self.peer.gone)
        self.tick_after(1)
        self.assertEqual((self.peer.gone, self.peer.reason), (True, "idle"))

    def test_close_before_it_is_connected(self) -> None:
        for end in ("close", "abort"):
            connection = ToyConnection(self.listener, ADDRESS)
            getattr(connection, end)("shutdown")
            self.assertEqual((connection.closing, connection.reason), (True, "shutdown"))

    def test_close_while_being_opened(self) -> None:
        class Refusing(ToyConnection):
            def opened(self) -> None:
                self.close("unavailable")

        self.listener.protocol = Refusing
        peer = self.connect()
        self.clock.advance(0)
        self.assertEqual((peer.gone, peer.reason), (True, "unavailable"))

    def test_the_rest_of_the_broker_hears_of_the_end_whatever_the_listener_does(self) -> None:
        self.connection.close("no such reason")
        with self.assertRaises(AssertionError):
            self.peer.transport.lose(ConnectionDone())
        self.assertEqual(self.connection.events[-1], "ended no such reason")

    def test_shut_down(self) -> None:
        self.connection.shut_down()
        self.clock.advance(0)
        self.assertEqual((self.peer.reason, self.peer.gone), ("shutdown", True))


class FaultTests(ConnectionCase):
    def check_closed_for_a_fault(self, peer: Peer) -> None:
        self.clock.advance(0)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual((peer.gone, peer.reason), (True, "internal_error"))

    def test_while_reading(self) -> None:
        self.peer.send(b"hello a\nbreak\nbreak\n")
        self.peer.connection.dataReceived(b"break\n")
        self.check_closed_for_a_fault(self.peer)

    def test_while_opening(self) -> None:
        class Broken(ToyConnection):
            def opened(self) -> None:
                raise ZeroDivisionError

        self.listener.protocol = Broken
        self.check_closed_for_a_fault(self.connect())

    def test_while_looking_at_its_time_limits(self) -> None:
        class Broken(ToyConnection):
            def check(self, now: float) -> float:
                raise ZeroDivisionError

        self.listener.protocol = Broken
        broken, other = self.connect(), self.connect()
        for peer in (broken, other):
            peer.connection.look_at(self.clock.seconds())
        self.listener.protocol = ToyConnection
        self.listener.tick()
        self.clock.advance(0)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)
        self.assertEqual((broken.reason, other.reason), ("internal_error", "internal_error"))
        self.assertTrue(self.peer.open)

    def test_in_its_last_words(self) -> None:
        class Broken(ToyConnection):
            def goodbye(self, reason: str) -> bytes:
                raise ZeroDivisionError

        self.listener.protocol = Broken
        peer = self.connect()
        peer.send(b"hello a\nwhat\n")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.tick_after(self.limits.close_timeout)
        self.assertEqual((peer.gone, peer.reason), (True, "protocol_error"))


class LimitTests(ConnectionCase):
    def test_auth_timeout(self) -> None:
        self.tick_after(self.limits.auth_timeout - 0.5)
        self.assertTrue(self.peer.open)
        self.tick_after(0.5)
        self.assertEqual((self.peer.reason, self.peer.take()), ("auth_timeout", b"bye auth_timeout\n"))

    def test_authenticated(self) -> None:
        self.peer.send(b"hello a\n")
        self.assertEqual((self.connection.identity, self.stats.authenticated), ("a", 1))
        self.tick_after(10 * self.limits.auth_timeout)
        self.assertTrue(self.peer.open)

    def test_slow_reader(self) -> None:
        self.peer.send(b"hello a\n")
        self.jam(self.peer)
        self.connection.send(b"waits")
        self.tick_after(self.limits.slow_reader_timeout - 1)
        self.assertTrue(self.peer.open)
        self.tick_after(1)
        self.assertEqual((self.peer.reason, self.peer.gone), ("slow_reader", True))

    def test_a_jam_that_ends_in_time_starts_anew(self) -> None:
        self.peer.send(b"hello a\n")
        for _ in range(3):
            self.jam(self.peer)
            self.tick_after(self.limits.slow_reader_timeout - 1)
            self.peer.transport.start_reading()
            self.tick_after(1)
            self.assertTrue(self.peer.open)

    def test_jammed_keeps_what_comes_and_writes_it_afterwards(self) -> None:
        self.peer.send(b"hello a\n")
        self.jam(self.peer)
        self.peer.take()
        self.connection.send(b"one,")
        self.connection.send(b"two")
        self.clock.advance(0)
        self.assertEqual(self.peer.take(), b"")
        self.peer.transport.start_reading()
        self.assertEqual((self.peer.take(), self.connection.events[-1]), (b"one,two", "writable"))

    def test_best_effort_over_the_outbox_limit(self) -> None:
        self.jam(self.peer)
        offered = [self.connection.outbox.offer(b"x" * 400) for _ in range(5)]
        self.assertEqual(offered, [True, True, True, False, False])

    def test_the_last_write_may_jam_it(self) -> None:
        self.peer.transport.stop_reading()
        self.connection.send(b"x" * (2 * BUFFER))
        self.connection.close("idle")
        self.tick_after(self.limits.close_timeout)
        self.assertEqual((self.peer.gone, self.peer.reason), (True, "idle"))

    def test_a_protocol_looks_at_its_own_limits(self) -> None:
        looked: list[float] = []

        class Looking(ToyConnection):
            def check(self, now: float) -> float:
                looked.append(now)
                if now >= 20:
                    self.close("idle")
                return now + 10

        self.listener.protocol = Looking
        peer = self.connect()
        peer.send(b"hello a\n")
        peer.connection.look_at(5.0)
        peer.connection.look_at(7.0)
        for _ in range(20):
            self.tick_after(1)
        self.assertEqual(looked, [5.0, 15.0])
        self.tick_after(5)
        self.assertEqual((looked[2:], peer.reason), ([25.0], "idle"))
        self.tick_after(0.1)
        self.assertEqual(len(looked), 3)

    def test_closing_while_looking_still_ends_in_time(self) -> None:
        class Closing(ToyConnection):
            def check(self, now: float) -> float:
                self.close("idle")
                return now + 1000

        self.listener.protocol = Closing
        peer = self.connect()
        self.jam(peer)
        peer.connection.look_at(0.0)
        self.listener.tick()
        self.tick_after(self.limits.close_timeout)
        self.assertTrue(peer.gone)


class PauseTests(ConnectionCase):
    def setUp(self) -> None:
        super().setUp()
        self.peer.send(b"hello a\n")

    @property
    def reading(self) -> bool:
        return self.peer.transport.producerState == "producing"

    def test_each_cause_on_its_own(self) -> None:
        self.connection.pause("one")
        self.connection.pause("two")
        self.connection.pause("two")
        self.connection.resume("two")
        self.assertFalse(self.reading)
        self.connection.resume("unknown")
        self.assertFalse(self.reading)
        self.connection.resume("one")
        self.assertTrue(self.reading)
        self.connection.resume("one")
        self.assertTrue(self.reading)

    def test_a_burst_is_free(self) -> None:
        self.peer.send(b"say 1\n" * (self.limits.message_burst - 1))
        self.assertTrue(self.reading)
        self.assertEqual(self.stats.throttled, 0)

    def test_throttled_for_as_long_as_it_was_too_fast(self) -> None:
        over = 15
        self.peer.send(b"say 1\n" * (self.limits.message_burst - 1 + over))
        self.assertEqual((self.reading, self.stats.throttled), (False, 1))
        wait = over / self.limits.max_message_rate
        self.clock.advance(wait - 0.01)
        self.assertFalse(self.reading)
        self.clock.advance(0.02)
        self.assertTrue(self.reading)
        self.assertEqual(self.connection.messages_in, self.limits.message_burst + over)

    def test_throttled_again_and_again_comes_to_the_rate(self) -> None:
        self.peer.backlog = b"say 1\n" * 100
        self.peer.pump()
        seconds = 0.0
        while self.peer.backlog or not self.reading:
            self.clock.advance(0.1)
            seconds += 0.1
            self.peer.pump()
        wanted = (101 - self.limits.message_burst) / self.limits.max_message_rate
        self.assertLess(abs(seconds - wanted), 0.3)

    def test_time_without_messages_gives_a_burst_and_not_more(self) -> None:
        for _ in range(3):
            self.clock.advance(1000)
            self.peer.send(b"say 1\n" * self.limits.message_burst)
            self.assertTrue(self.reading)
        self.peer.send(b"say 1\n")
        self.assertFalse(self.reading)

    def test_another_cause_outlasts_the_rate(self) -> None:
        self.connection.pause("mine")
        self.connection.dataReceived(b"say 1\n" * 50)
        self.clock.advance(100)
        self.assertFalse(self.reading)
        self.connection.resume("mine")
        self.assertTrue(self.reading)

    def test_no_limit(self) -> None:
        self.listener.limits = Limits(max_message_rate=0)
        self.peer.send(b"say 1\n" * 1000)
        self.assertEqual((self.reading, self.connection.messages_in), (True, 1001))

    def test_gone_while_throttled(self) -> None:
        self.peer.send(b"say 1\n" * 100)
        self.assertEqual(self.stats.throttled, 1)
        self.peer.hang_up()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_closed_while_throttled(self) -> None:
        self.peer.send(b"say 1\n" * 100)
        self.connection.close("idle")
        self.clock.advance(0)
        self.assertEqual((self.peer.gone, self.clock.getDelayedCalls()), (True, []))


class FigureTests(ConnectionCase):
    def test_counted(self) -> None:
        self.peer.send(b"hello a\n")
        self.peer.send(b"say 1\nsay 2\n")
        self.assertEqual(self.peer.take(), b"ok\nok\n")
        stats = self.stats
        self.assertEqual((stats.accepted, stats.bytes_in, stats.bytes_out, stats.messages_in), (1, 20, 6, 3))

    def test_one_write_a_turn(self) -> None:
        writes: list[bytes] = []
        self.connection.outbox.write = writes.append
        self.peer.send(b"hello a\n" + b"say 1\n" * 10)
        self.assertEqual(writes, [b"ok\n" * 10])

    def test_one_line_for_its_whole_life(self) -> None:
        events: list[dict[str, Any]] = []

        class Quiet:
            def info(self, text: str, **values: Any) -> None:
                events.append(values)

        self.patch(Connection, "log", Quiet())
        self.peer.send(b"hello a\n" + b"say secret\n" * 5)
        self.peer.hang_up()
        (event,) = events
        self.assertEqual(
            (event["identity"], event["reason"], event["messages"], event["host"]), ("a", "client_closed", 6, ADDRESS)
        )
        self.assertNotIn("secret", repr(event))

    def test_sockets_are_asked_for_no_delay_and_keep_alive(self) -> None:
        asked: list[str] = []

        class Socket(StringTransport):
            def setTcpNoDelay(self, enabled: bool) -> None:
                asked.append(f"no delay {enabled}")

            def setTcpKeepAlive(self, enabled: bool) -> None:
                asked.append(f"keep alive {enabled}")

        connection = ToyConnection(self.listener, ADDRESS)
        connection.makeConnection(Socket())
        self.assertEqual(asked, ["no delay True", "keep alive True"])
        connection.connectionLost(Failure(ConnectionDone()))
