"""What every listener over a stream must stand: a suite that each protocol's tests inherit.

In memory, with a clock. A protocol's tests give `make_listener`, `login_bytes`, `one_valid_message`, `half_message` and
`buffered`; where the protocol differs from the rule, the attributes below say so. Each test ends by seeing that no
fault was logged and that nobody was closed for a fault of ours.
"""

from __future__ import annotations

import ssl
from random import Random
from typing import TYPE_CHECKING, Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from broker.listening.connection import Connection
from broker.listening.listener import Listener
from broker.listening.settings import Limits
from broker.model.names import CLOSE_REASONS
from tests.transports import ADDRESS, BUFFER, CHUNK, Peer

SEEDS = range(20)
MANY = 1_000

# A mixin that is checked as what it is mixed into; trial would run a test case wherever it is imported.
if TYPE_CHECKING:
    Base = SynchronousTestCase
else:
    Base = object


def client_hello() -> bytes:
    """The first bytes of somebody who takes the plain port for the TLS one."""
    outgoing = ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="broker.example").do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


class StreamBehaviour(Base):
    """Mix into a trial `SynchronousTestCase`."""

    #: Limits of the listener under test, small enough to be reached.
    limits = Limits(
        auth_timeout=30.0,
        max_message_size=4_096,
        max_message_rate=100,
        message_burst=200,
        max_outbox=200_000,
        slow_reader_timeout=60.0,
        close_timeout=5.0,
    )
    #: Why garbage may be answered with a close.
    garbage_reasons = frozenset({"malformed", "protocol_error", "too_long", "auth_failed"})
    #: Seconds that a connection which sends nothing for so long survives after its login.
    quiet_for = 10.0

    # -- what a protocol gives -------------------------------------------------------------------------------------

    def make_listener(self, clock: Clock, limits: Limits) -> Listener:
        """A listener with these limits, whose time is this clock's, and on which `login_bytes` are right."""
        raise NotImplementedError

    def login_bytes(self, number: int = 0) -> bytes:
        """What proves an identity; another one for another number (0 or 1)."""
        raise NotImplementedError

    def one_valid_message(self) -> bytes:
        """A whole message that a client which is logged in may send over and over; counted as one message."""
        raise NotImplementedError

    def half_message(self) -> bytes:
        """The beginning of a message that the protocol has to wait for the end of."""
        raise NotImplementedError

    def buffered(self, connection: Any) -> int:
        """How many bytes of unfinished input the connection keeps."""
        raise NotImplementedError

    def write_to(self, connection: Any, data: bytes) -> None:
        """Have the broker write to a client of its own accord."""
        connection.send(data)

    # -- the stage -------------------------------------------------------------------------------------------------

    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.listener = self.make_listener(self.clock, self.limits)

    def tearDown(self) -> None:
        super().tearDown()
        self.assertEqual(self.flushLoggedErrors(), [])
        for reasons in (self.listener.stats.closed, self.listener.stats.refused):
            self.assertNotIn("internal_error", reasons)
            self.assertLessEqual(set(reasons), set(CLOSE_REASONS))

    def connect(self, address: str = ADDRESS) -> Peer:
        return Peer(self.listener, self.clock, address)

    def logged_in(self, number: int = 0) -> Peer:
        peer = self.connect()
        peer.send(self.login_bytes(number))
        self.assertTrue(peer.connection.identity, "the login did not work")
        peer.take()
        return peer

    def pass_time(self, seconds: float, *peers: Peer) -> None:
        """Time passes, the listener ticks once a second, and these clients go on sending what they have."""
        whole, rest = divmod(seconds, 1.0)
        for step in [1.0] * int(whole) + ([rest] if rest else []):
            self.clock.advance(step)
            for peer in peers:
                peer.pump()
            self.listener.tick()
            self.clock.advance(0)

    def check_works(self, peer: Peer) -> None:
        """The client is connected and its next message is taken."""
        before = peer.connection.messages_in
        peer.send(self.one_valid_message())
        self.assertEqual((peer.connection.messages_in - before, peer.reason), (1, ""))

    def check_bounded(self, connection: Connection) -> None:
        self.assertLessEqual(self.buffered(connection), self.limits.max_message_size + CHUNK)

    def check_garbage_is_survived(self, peer: Peer) -> None:
        self.check_bounded(peer.connection)
        if not peer.open:
            self.assertIn(peer.reason, self.garbage_reasons)

    def check_nobody_is_left(self) -> None:
        self.assertEqual(self.listener.connections, set())
        self.assertEqual(sum(self.listener.stats.closed.values()), self.listener.stats.accepted)

    # -- garbage ---------------------------------------------------------------------------------------------------

    def test_garbage_instead_of_a_login(self) -> None:
        for seed in SEEDS:
            random = Random(seed)
            peer = self.connect()
            for _ in range(random.randrange(1, 30)):
                peer.send(random.randbytes(random.randrange(1, 2_000)))
            self.check_garbage_is_survived(peer)
        self.pass_time(self.limits.auth_timeout + self.limits.close_timeout + 2)
        self.check_nobody_is_left()

    def test_garbage_after_a_login(self) -> None:
        other = self.logged_in(1)
        for seed in SEEDS:
            random = Random(seed)
            peer = self.logged_in()
            for _ in range(random.randrange(1, 30)):
                peer.send(random.randbytes(random.randrange(1, 2_000)))
            self.check_garbage_is_survived(peer)
        self.check_works(other)

    def test_garbage_that_begins_well(self) -> None:
        """A valid message with some bytes changed, dropped or doubled."""
        for seed in SEEDS:
            random = Random(seed)
            peer = self.logged_in()
            for _ in range(20):
                message = bytearray(self.one_valid_message() * 3)
                for _ in range(random.randrange(1, 5)):
                    at = random.randrange(len(message))
                    message[at : at + random.randrange(3)] = random.randbytes(random.randrange(3))
                peer.send(bytes(message))
            self.check_garbage_is_survived(peer)

    def test_one_byte_repeated(self) -> None:
        for byte in (b"\x00", b"\xff", b"\n", b"{", b"[", b'"', b" ", b"A"):
            for peer in (self.connect(), self.logged_in()):
                for _ in range(5):
                    peer.send(byte * self.limits.max_message_size)
                self.check_garbage_is_survived(peer)

    def test_a_tls_hello(self) -> None:
        for peer in (self.connect(), self.logged_in()):
            peer.send(client_hello())
            self.check_garbage_is_survived(peer)
        self.pass_time(self.limits.auth_timeout + self.limits.close_timeout + 2)

    def test_a_message_without_end(self) -> None:
        """Far more than a message may have: what is kept stays small, whether the connection does or not."""
        for start in (b"", self.half_message()):
            peer = self.logged_in()
            peer.send(start)
            for _ in range(50):
                peer.send(b"a" * self.limits.max_message_size)
                self.check_bounded(peer.connection)
            self.check_garbage_is_survived(peer)

    # -- halves ----------------------------------------------------------------------------------------------------

    def test_a_message_in_two_pieces(self) -> None:
        message = self.one_valid_message()
        for cut in range(1, len(message)):
            peer = self.logged_in()
            peer.send(message[:cut])
            self.assertEqual(peer.reason, "", cut)
            peer.send(message[cut:])
            self.assertEqual(peer.reason, "", cut)
            self.check_works(peer)

    def test_everything_byte_by_byte(self) -> None:
        peer = self.connect()
        for position in range(len(login := self.login_bytes())):
            peer.send(login[position : position + 1])
        self.assertTrue(peer.connection.identity)
        before = peer.connection.messages_in
        for position in range(len(message := self.one_valid_message())):
            peer.send(message[position : position + 1])
        self.assertEqual((peer.connection.messages_in - before, peer.reason), (1, ""))

    def test_the_peer_goes_in_the_middle(self) -> None:
        for whole in (self.login_bytes(), self.login_bytes() + self.half_message()):
            for cut in range(len(whole) + 1):
                peer = self.connect()
                peer.send(whole[:cut])
                peer.transport.lose()
        self.clock.advance(0)
        self.check_nobody_is_left()

    def test_many_messages_in_one_piece(self) -> None:
        peer = self.logged_in()
        before = peer.connection.messages_in
        peer.send(self.one_valid_message() * 50)
        self.assertEqual((peer.connection.messages_in - before, peer.reason), (50, ""))

    # -- idleness --------------------------------------------------------------------------------------------------

    def test_somebody_who_never_logs_in(self) -> None:
        login = self.login_bytes()
        for sent in (b"", login[:1], login[:-1]):
            peer = self.connect()
            peer.send(sent)
            self.pass_time(self.limits.auth_timeout - 1)
            self.assertEqual(peer.reason, "")
            self.pass_time(2)
            self.assertEqual((peer.reason, peer.gone), ("auth_timeout", True))
            self.assertTrue(peer.take().startswith(peer.connection.goodbye("auth_timeout")))
        self.check_nobody_is_left()

    def test_somebody_who_never_logs_in_nor_takes_our_goodbye(self) -> None:
        peer = self.connect()
        peer.transport.stop_reading()
        peer.transport.unread = 1
        self.pass_time(self.limits.auth_timeout + 1)
        self.assertEqual((peer.reason, peer.gone), ("auth_timeout", False))
        self.pass_time(self.limits.close_timeout + 1)
        self.assertTrue(peer.gone)
        self.check_nobody_is_left()

    def test_a_login_stops_the_clock(self) -> None:
        peer = self.connect()
        self.pass_time(self.limits.auth_timeout - 1)
        peer.send(self.login_bytes())
        self.pass_time(self.quiet_for)
        self.check_works(peer)

    def test_a_thousand_who_never_log_in(self) -> None:
        other = self.logged_in()
        silent = [self.connect(f"198.51.100.{number % 250}") for number in range(MANY)]
        self.check_works(other)
        for _ in range(4):
            self.pass_time(self.limits.auth_timeout / 4, other)
            self.check_works(other)
        self.pass_time(1)
        self.assertEqual({peer.reason for peer in silent}, {"auth_timeout"})
        self.assertEqual(self.listener.connections, {other.connection})
        self.assertEqual(self.listener.stats.closed, {"auth_timeout": MANY})

    # -- floods ----------------------------------------------------------------------------------------------------

    def test_a_flood_is_slowed_down_and_not_closed(self) -> None:
        peer, other = self.logged_in(), self.logged_in(1)
        sent = 1_000
        message = self.one_valid_message()
        before = peer.connection.messages_in
        for _ in range(sent):
            peer.backlog += message
        peer.pump()
        self.assertEqual(self.listener.stats.throttled, 1)
        at_once = peer.connection.messages_in - before
        self.assertLessEqual(at_once, self.limits.message_burst + CHUNK // len(message) + 1)
        self.check_works(other)
        self.check_bounded(peer.connection)
        self.pass_time(sent / self.limits.max_message_rate + 2, peer)
        self.assertEqual((peer.connection.messages_in - before, peer.reason, peer.backlog), (sent, "", b""))

    def test_a_flood_that_goes_away_leaves_nothing_behind(self) -> None:
        peer = self.logged_in()
        peer.send(self.one_valid_message() * 400)
        self.assertGreater(self.listener.stats.throttled, 0)
        peer.hang_up()
        self.pass_time(60)
        self.check_nobody_is_left()

    # -- slow readers ----------------------------------------------------------------------------------------------

    def test_somebody_who_does_not_read(self) -> None:
        slow, other = self.logged_in(), self.logged_in(1)
        slow.transport.stop_reading()
        for _ in range(4):
            self.write_to(slow.connection, b"x" * BUFFER)
            self.clock.advance(0)
        self.assertEqual(slow.reason, "")
        self.assertLessEqual(slow.transport.unread, 2 * BUFFER)
        for _ in range(int(self.limits.slow_reader_timeout)):
            self.pass_time(1, other)
            self.assertEqual(other.reason, "")
            if other.clock.seconds() % 10 == 0:
                self.check_works(other)
        self.pass_time(1)
        self.assertEqual((slow.reason, slow.gone), ("slow_reader", True))
        self.check_works(other)
        self.assertEqual(slow.connection.outbox.size, 0)

    def test_somebody_who_reads_again_in_time(self) -> None:
        peer = self.logged_in()
        peer.transport.stop_reading()
        for _ in range(3):
            self.write_to(peer.connection, b"x" * BUFFER)
            self.clock.advance(0)
        self.pass_time(self.quiet_for)
        peer.transport.start_reading()
        self.clock.advance(0)
        self.assertEqual((peer.connection.outbox.size, peer.reason), (0, ""))
        self.assertGreaterEqual(len(peer.take()), 3 * BUFFER)
        self.check_works(peer)

    # -- the end ---------------------------------------------------------------------------------------------------

    def test_nothing_is_heard_after_a_close(self) -> None:
        peer = self.logged_in()
        peer.connection.close("removed")
        before = peer.connection.messages_in
        peer.connection.dataReceived(self.one_valid_message() * 3)
        self.clock.advance(0)
        self.assertEqual((peer.connection.messages_in, peer.reason, peer.gone), (before, "removed", True))

    def test_the_broker_stops(self) -> None:
        peers = [self.connect(), self.logged_in(0), self.logged_in(1)]
        self.listener.shut_down()
        self.assertRaises(ConnectionRefusedError, self.connect)
        self.pass_time(self.limits.close_timeout + 1)
        self.assertEqual([peer.gone for peer in peers], [True] * 3)
        self.assertEqual(self.listener.stats.closed, {"shutdown": 3})
        self.assertEqual(self.listener.stats.refused, {"shutdown": 1})
        self.check_nobody_is_left()
