"""One listener: whom it lets in, whom it slows down, its tick and its end."""

from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from broker.listening import failed_logins
from broker.listening.listener import Listener, is_loopback
from broker.listening.settings import Limits
from broker.listening.stats import ListenerStats
from broker.model.names import CLOSE_REASONS, DROP_REASONS
from tests.listening.toy import ToyListener, make_toy
from tests.transports import ADDRESS, Peer, turn_of


class LoopbackTests(SynchronousTestCase):
    def test_addresses(self) -> None:
        for host in ("127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1", "::1%lo"):
            self.assertTrue(is_loopback(host), host)
        for host in ("10.0.0.1", "::", "fe80::1%eth0", "::ffff:10.0.0.1", "localhost", "", "127.0.0.1.example"):
            self.assertFalse(is_loopback(host), host)


class ListenerCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()

    def make(self, **limits: Any) -> ToyListener:
        self.listener = make_toy(self.clock, Limits(**limits))
        return self.listener

    def connect(self, address: str = ADDRESS) -> Peer:
        return Peer(self.listener, self.clock, address)

    def refused(self, address: str = ADDRESS) -> None:
        with self.assertRaises(ConnectionRefusedError):
            self.connect(address)


class ConnectionLimitTests(ListenerCase):
    def test_all_together(self) -> None:
        self.make(max_connections=3)
        peers = [self.connect(f"192.0.2.{number}") for number in range(3)]
        self.refused("192.0.2.9")
        self.refused("127.0.0.1")
        self.assertEqual(self.listener.stats.refused, {"too_many_connections": 2})
        peers[0].hang_up()
        self.connect("192.0.2.9")
        self.assertEqual(self.listener.stats.accepted, 4)

    def test_one_address(self) -> None:
        self.make(max_connections_per_address=2)
        peers = [self.connect() for _ in range(2)]
        self.refused()
        self.connect("192.0.2.9")
        self.assertEqual(self.listener.stats.refused, {"too_many_per_address": 1})
        peers[0].connection.close("idle")
        self.refused()
        self.clock.advance(0)
        self.connect()

    def test_addresses_are_not_remembered(self) -> None:
        self.make()
        for number in range(50):
            self.connect(f"192.0.2.{number}").hang_up()
        self.assertEqual(self.listener._per_address, {})

    def test_loopback_is_exempt(self) -> None:
        self.make(max_connections_per_address=1)
        for _ in range(3):
            self.connect("127.0.0.1")
        self.make(max_connections_per_address=1, exempt_loopback=False)
        self.connect("127.0.0.1")
        self.refused("127.0.0.1")

    def test_every_kind_of_address(self) -> None:
        self.make(max_connections_per_address=1)
        addresses: tuple[IAddress | None, ...] = (
            IPv4Address("TCP", ADDRESS, 1),
            IPv6Address("TCP", "2001:db8::1", 1),
            UNIXAddress("/run/x"),
            None,
        )
        for address in addresses:
            connection = self.listener.buildProtocol(address)
            assert connection is not None
            self.assertIs(connection.factory, self.listener)
            self.assertEqual(connection.host, getattr(address, "host", ""))

    def test_each_refusal_is_one_line(self) -> None:
        self.make(max_connections=1)
        self.connect()
        lines: list[tuple[str, str]] = []

        class Log:
            def info(self, text: str, listener: str, host: str, reason: str) -> None:
                lines.append((host, reason))

        self.patch(Listener, "log", Log())
        self.refused()
        self.assertEqual(lines, [(ADDRESS, "too_many_connections")])

    def test_a_listener_has_to_say_what_it_makes(self) -> None:
        listener = Listener("x", Limits(), turn_of(self.clock), self.clock, self.clock.seconds, self.clock.seconds)
        self.assertRaises(NotImplementedError, listener.connection_for, None)


class FailedLoginTests(ListenerCase):
    def failures(self, count: int, address: str = ADDRESS) -> list[float]:
        return [self.listener.login_failed(address) for _ in range(count)]

    def test_delays_double_past_the_limit(self) -> None:
        self.make(max_failed_logins=3)
        delays = self.failures(20)
        self.assertEqual(delays[:8], [0, 0, 0, 1, 2, 4, 8, 15])
        self.assertEqual(set(delays[8:]), {15})
        self.assertEqual((self.listener.stats.logins_failed, self.listener.stats.logins_delayed), (20, 17))

    def test_the_longest_delay(self) -> None:
        self.make(max_failed_logins=1, max_login_delay=3.0, lockout_failed_logins=0)
        self.assertEqual(self.failures(5000)[:5], [0, 1, 2, 3, 3])

    def test_each_address_on_its_own(self) -> None:
        self.make(max_failed_logins=1)
        self.assertEqual((self.failures(1), self.failures(1, "192.0.2.9"), self.failures(1)), ([0], [0], [1]))

    def test_an_ipv6_address_counts_as_its_network(self) -> None:
        self.make(max_failed_logins=1, max_connections_per_address=1)
        self.assertEqual(self.failures(1, "2001:db8::1") + self.failures(1, "2001:db8::ffff:1%eth0"), [0, 1])
        self.assertEqual(self.failures(1, "2001:db8:0:1::1"), [0])
        self.assertEqual(self.failures(1, "::ffff:192.0.2.7") + self.failures(1, "192.0.2.7"), [0, 1])
        connection = self.listener.buildProtocol(IPv6Address("TCP", "2001:db8::1", 1))
        assert connection is not None
        self.listener.opened(connection)
        self.assertIsNone(self.listener.buildProtocol(IPv6Address("TCP", "2001:db8::2", 1)))
        self.assertIsNotNone(self.listener.buildProtocol(IPv6Address("TCP", "2001:db8:0:1::2", 1)))
        self.listener.ended(connection)
        self.assertIsNotNone(self.listener.buildProtocol(IPv6Address("TCP", "2001:db8::2", 1)))
        for host in ("", "/run/socket:1", "host.example"):
            self.assertEqual(failed_logins.counted_as(host), host)

    def test_forgotten_after_a_while(self) -> None:
        self.make(max_failed_logins=2, failed_login_window=20.0)
        self.failures(4)
        self.clock.advance(10.0)  # one is forgotten
        self.assertEqual(self.failures(1), [2])
        self.clock.advance(40.0)
        self.assertEqual(self.failures(3), [0, 0, 1])

    def test_loopback_is_exempt(self) -> None:
        self.make(max_failed_logins=1, lockout_failed_logins=2)
        self.assertEqual(set(self.failures(5, "127.0.0.1")), {0})
        self.connect("127.0.0.1")
        self.make(max_failed_logins=1, exempt_loopback=False)
        self.assertEqual(self.failures(2, "127.0.0.1"), [0, 1])

    def test_who_does_not_wait_is_not_heard_any_more(self) -> None:
        self.make(max_failed_logins=10, failed_login_window=60.0, lockout_failed_logins=20)
        self.failures(19)
        self.connect().hang_up()
        self.failures(2)
        self.refused()
        self.connect("192.0.2.9")
        self.assertEqual(self.listener.stats.refused, {"too_many_failed_logins": 1})
        self.assertEqual(self.listener.stats.logins_locked_out, 1)
        self.assertEqual(self.listener.locked_out(ADDRESS), 12.0)  # 21 of them, and 6 s for each to be forgotten
        self.clock.advance(11.9)
        self.refused()
        self.clock.advance(0.2)
        self.connect()

    def test_no_more_guesses_than_are_forgotten(self) -> None:
        """Somebody who never stops, for an hour, with ten tries a second."""
        self.make(max_failed_logins=10, failed_login_window=60.0, lockout_failed_logins=100)
        tries = 0
        for _ in range(36_000):
            if not self.listener.locked_out(ADDRESS):
                tries += 1
                self.listener.login_failed(ADDRESS)
            self.clock.advance(0.1)
        self.assertLessEqual(tries, 100 + 60 * 10)
        self.assertGreater(tries, 60 * 10)

    def test_nobody_is_locked_out_where_that_is_switched_off(self) -> None:
        self.make(max_failed_logins=1, lockout_failed_logins=0)
        self.failures(1000)
        self.connect()

    def test_connections_that_are_open_stay(self) -> None:
        self.make(max_failed_logins=1, lockout_failed_logins=2)
        peer = self.connect()
        self.failures(5)
        self.assertTrue(peer.open)

    def test_new_limits_count_at_once(self) -> None:
        self.make(max_failed_logins=1, lockout_failed_logins=2)
        self.failures(5)
        self.refused()
        self.listener.limits = Limits(max_failed_logins=1, lockout_failed_logins=0)
        self.connect()

    def test_addresses_are_bounded_and_the_busy_ones_stay(self) -> None:
        self.patch(failed_logins, "MAX_ADDRESSES", 3)
        self.make(max_failed_logins=1)
        for number in range(20):
            self.failures(1, f"192.0.2.{number}")
            self.failures(1)
        self.assertEqual(len(self.listener.failed_logins), 3)
        self.assertEqual(self.failures(1), [15])


class TickTests(ListenerCase):
    def test_only_those_whose_time_has_come_are_looked_at(self) -> None:
        self.make(auth_timeout=10.0)
        looked: list[str] = []
        for name in ("early", "late"):
            peer = self.connect()
            self.patch(peer.connection, "overdue", lambda now, name=name: looked.append(name))
            self.clock.advance(5)
        self.listener.tick()
        self.assertEqual(looked, ["early"])
        self.clock.advance(5)
        self.listener.tick()
        self.assertEqual(sorted(looked), ["early", "early", "late"])

    def test_a_connection_may_end_others_while_it_is_looked_at(self) -> None:
        self.make(auth_timeout=10.0)
        peers = [self.connect() for _ in range(4)]

        def end_all(now: float) -> None:
            for peer in peers:
                peer.transport.lose()

        for peer in peers:
            self.patch(peer.connection, "overdue", end_all)
        self.clock.advance(10)
        self.listener.tick()
        self.assertEqual(self.listener.connections, set())

    def test_shut_down(self) -> None:
        self.make()
        peers = [self.connect() for _ in range(3)]
        self.listener.shut_down()
        self.refused()
        self.clock.advance(0)
        self.assertEqual([peer.reason for peer in peers], ["shutdown"] * 3)
        self.assertEqual((self.listener.stats.closed, self.listener.stats.refused), ({"shutdown": 3}, {"shutdown": 1}))
        self.listener.shut_down()


class StatsTests(SynchronousTestCase):
    def test_reasons_are_counted(self) -> None:
        stats = ListenerStats()
        for reason in CLOSE_REASONS:
            stats.refuse(reason)
            stats.close(reason)
            stats.close(reason)
        for reason in DROP_REASONS:
            stats.drop(reason)
            stats.drop(reason, 4)
        self.assertEqual(stats.refused, dict.fromkeys(CLOSE_REASONS, 1))
        self.assertEqual(stats.closed, dict.fromkeys(CLOSE_REASONS, 2))
        self.assertEqual(stats.dropped, dict.fromkeys(DROP_REASONS, 5))

    def test_only_those_of_the_catalogue(self) -> None:
        stats = ListenerStats()
        for count in (stats.refuse, stats.close, stats.drop):
            self.assertRaises(AssertionError, count, "made up")
