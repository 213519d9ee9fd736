"""CONNECT in every variant: who gets in, who gets which answer, and what happens meanwhile."""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from broker.model.errors import BrokerError, Disabled, Forbidden, Unauthenticated, Unavailable
from broker.mqtt import encode
from broker.mqtt import packets as p
from tests.mqtt.fakes import Bench, FakeIdentities, publishes

CONNECT = p.Connect("c", user="u", password=b"secret")


class FirstPacket(SynchronousTestCase):
    def setUp(self) -> None:
        self.bench = Bench()

    def test_accepted(self) -> None:
        client = self.bench.open("192.0.2.1")
        self.assertEqual(client.ask(CONNECT), [p.ConnAck(0, False)])
        self.assertEqual(client.connection.identity, "u (c)")
        self.assertEqual(self.bench.identities.peers, ["192.0.2.1"])
        self.assertEqual(self.bench.stats.authenticated, 1)
        self.assertIsNone(client.closed)

    def test_accepted_as_3_1_and_with_a_session_wanted(self) -> None:
        for number, version in enumerate((p.MQTT_3_1, p.MQTT_3_1_1)):
            client = self.bench.open()
            answer = client.ask(p.Connect(f"a client id of more than 23 {number}", version, False, 0, "u", b"secret"))
            # No session is kept here, and the client is told so.
            self.assertEqual(answer, [p.ConnAck(0, False)])

    def test_byte_by_byte(self) -> None:
        client = self.bench.open()
        for byte in encode.encode(CONNECT):
            self.assertEqual(client.got(), [])
            client.send(bytes((byte,)))
        self.assertEqual(client.got(), [p.ConnAck(0)])

    def test_a_client_id_is_made(self) -> None:
        one, other = (self.bench.connect("") for _ in range(2))
        self.assertNotEqual(one.connection.identity, other.connection.identity)
        self.assertIsNone(one.closed)

    def test_an_empty_client_id_where_one_is_needed(self) -> None:
        for version, clean in ((p.MQTT_3_1_1, False), (p.MQTT_3_1, True), (p.MQTT_3_1, False)):
            client = self.bench.open()
            self.assertEqual(client.ask(p.Connect("", version, clean)), [p.ConnAck(p.REFUSED_CLIENT_ID)])
            self.assertEqual(client.closed, "protocol_error")

    def test_a_client_id_that_is_too_long(self) -> None:
        bench = Bench(max_client_id_length=4)
        bench.connect("äb")
        client = bench.open()
        self.assertEqual(client.ask(p.Connect("äbcd", user="u")), [p.ConnAck(p.REFUSED_CLIENT_ID)])
        self.assertEqual(client.closed, "protocol_error")

    def test_a_level_that_is_not_spoken(self) -> None:
        client = self.bench.open()
        self.assertEqual(client.ask(bytes.fromhex("100d 0004 4d515454 06 02 000a 0001 70")), [p.ConnAck(1)])
        self.assertEqual(client.closed, "protocol_error")
        self.assertEqual(self.bench.stats.malformed, 1)

    def test_closed_without_an_answer(self) -> None:
        tls_hello = bytes.fromhex("160301 0200 010001fc0303")
        for sent, reason in (
            (p.PingReq(), "protocol_error"),
            (p.Publish("a", b""), "protocol_error"),
            (b"\x30", "protocol_error"),
            (b"\x30\xff", "protocol_error"),
            (b"GET / HTTP/1.1\r\n\r\n", "protocol_error"),
            (tls_hello, "malformed"),
            (b"\x00\x00", "malformed"),
            (b"\xff" * 100, "malformed"),
            (bytes.fromhex("10 0f 0006 4d5149736471 03 02 000a 0001 70"), "malformed"),
            (b"\x10\xff\xff\xff\x7f", "too_long"),
            (b"\x10\xff\xff\xff\xff", "malformed"),
        ):
            with self.subTest(sent=sent):
                client = self.bench.open()
                self.assertEqual(client.ask(sent), [])
                self.assertEqual(client.closed, reason)

    def test_a_second_connect(self) -> None:
        client = self.bench.connect()
        self.assertEqual(client.ask(CONNECT), [])
        self.assertEqual(client.closed, "protocol_error")

    def test_nothing_comes(self) -> None:
        client = self.bench.open()
        client.send(b"\x10\x0d\x00")
        self.bench.pass_time(9)
        self.assertIsNone(client.closed)
        self.bench.pass_time(2)
        self.assertEqual(client.closed, "auth_timeout")

    def test_a_will_with_a_topic_beyond_the_limits(self) -> None:
        for topic in ("a/b/c/d", "abcdefghi"):
            bench = Bench(max_topic_length=8, max_topic_levels=3)
            client = bench.open()
            connect = p.Connect("c", user="u", password=b"secret", will=p.Will(topic, b""))
            self.assertEqual(client.ask(connect), [])
            self.assertEqual(client.closed, "too_long")


class Refusals(SynchronousTestCase):
    def refuse(self, error: Exception) -> tuple[list[p.Packet], str | None]:
        bench = Bench()
        bench.identities.answer = fail(error)
        client = bench.open()
        return client.ask(CONNECT), client.closed

    def test_codes(self) -> None:
        for error, code, reason in (
            (Unauthenticated("no"), p.REFUSED_CREDENTIALS, "auth_failed"),
            (Forbidden("no"), p.REFUSED_RIGHTS, "auth_failed"),
            (Disabled("no"), p.REFUSED_RIGHTS, "auth_failed"),
            (Unavailable("no"), p.REFUSED_UNAVAILABLE, "unavailable"),
        ):
            with self.subTest(error=error):
                self.assertEqual(self.refuse(error), ([p.ConnAck(code)], reason))

    def test_a_fault_of_ours(self) -> None:
        for error in (ZeroDivisionError(), BrokerError("of no kind")):
            self.assertEqual(self.refuse(error), ([], "internal_error"))
            self.assertEqual(len(self.flushLoggedErrors(type(error))), 1)

    def test_nobody_claims_it(self) -> None:
        bench = Bench()
        client = bench.open()
        self.assertEqual(client.ask(p.Connect("c")), [p.ConnAck(p.REFUSED_RIGHTS)])
        self.assertEqual(client.closed, "auth_failed")
        self.assertEqual(bench.stats.logins_failed, 0)

    def test_the_first_that_claims_it_decides(self) -> None:
        bench = Bench()
        special = FakeIdentities("2$")
        bench.last.insert(0, special)
        bench.connect("a", "2$somebody")
        bench.connect("b", "somebody")
        self.assertEqual(list(special.principals), ["2$somebody"])
        self.assertEqual(list(bench.identities.principals), ["somebody"])

    def test_a_claim_that_raises(self) -> None:
        bench = Bench()
        bench.last.insert(0, None)
        client = bench.open()
        self.assertEqual(client.ask(CONNECT), [])
        self.assertEqual(client.closed, "internal_error")
        self.assertEqual(len(self.flushLoggedErrors(AttributeError)), 1)

    def test_repeated_failures_are_answered_late(self) -> None:
        bench = Bench({"max_failed_logins": 2})
        wrong = p.Connect("c", user="u", password=b"wrong")
        for _ in range(2):
            client = bench.open("192.0.2.1")
            self.assertEqual(client.ask(wrong), [p.ConnAck(p.REFUSED_CREDENTIALS)])
        for delay in (1, 2, 4, 8, 15, 15):
            client = bench.open("192.0.2.1")
            self.assertEqual(client.ask(wrong), [])
            self.assertTrue(client.paused)
            bench.clock.advance(delay - 0.001)
            bench.server.tick()
            self.assertIsNone(client.closed)
            bench.clock.advance(0.001)
            self.assertEqual(client.got(), [p.ConnAck(p.REFUSED_CREDENTIALS)])
            self.assertEqual(client.closed, "auth_failed")
        self.assertEqual(bench.stats.logins_failed, 8)

    def test_gone_before_the_late_answer(self) -> None:
        bench = Bench({"max_failed_logins": 1})
        for _ in range(2):
            client = bench.open("192.0.2.1")
            client.send(p.Connect("c", user="u", password=b"wrong"))
        client.lose()
        self.assertEqual(bench.clock.getDelayedCalls(), [])


class WhileLoggingIn(SynchronousTestCase):
    def setUp(self) -> None:
        self.bench = Bench({"max_message_size": 200})
        self.login = self.bench.identities.answer = Deferred()
        self.client = self.bench.open()

    def let_in(self) -> None:
        self.login.callback(self.bench.identities.principal("u"))
        self.bench.flush()

    def test_early_packets_wait(self) -> None:
        chunk = encode.encode(CONNECT) + encode.encode(p.Subscribe(7, [("a", 1)])) + encode.encode(p.PingReq())
        publish = encode.encode(p.Publish("a", b"early"))
        self.client.send(chunk)
        self.assertTrue(self.client.paused)
        self.client.send(publish[:4])
        self.client.send(publish[4:])
        self.assertEqual(self.client.got(), [])
        self.let_in()
        self.assertEqual(self.client.got(), [p.ConnAck(0), p.SubAck(7, b"\1"), p.PingResp(), p.Publish("a", b"early")])
        self.assertFalse(self.client.paused)

    def test_half_a_packet_waits_too(self) -> None:
        self.client.send(CONNECT, b"\xc0")
        self.let_in()
        self.assertEqual(self.client.got(), [p.ConnAck(0)])
        self.assertEqual(self.client.ask(b"\0"), [p.PingResp()])

    def test_early_packets_are_bounded(self) -> None:
        self.client.send(CONNECT, bytes(150))
        self.assertIsNone(self.client.closed)
        self.client.send(bytes(51))
        self.assertEqual(self.client.closed, "too_long")
        self.let_in()
        self.assertEqual(self.client.got(), [])

    def test_early_packets_that_break_the_rules(self) -> None:
        self.client.send(CONNECT, p.Publish("a", b""), CONNECT, p.PingReq())
        self.let_in()
        self.assertEqual(self.client.got(), [p.ConnAck(0)])
        self.assertEqual(self.client.closed, "protocol_error")

    def test_an_early_goodbye(self) -> None:
        self.client.send(CONNECT, p.Disconnect(), p.PingReq())
        self.let_in()
        self.assertEqual(self.client.got(), [p.ConnAck(0)])
        self.assertEqual(self.client.closed, "client_closed")

    def test_the_client_goes_away(self) -> None:
        self.client.send(CONNECT)
        self.client.lose()
        self.let_in()
        self.assertEqual(self.client.got(), [])
        self.assertEqual(self.bench.identities.principal("u").closers, [])
        self.assertEqual(self.bench.stats.authenticated, 0)

    def test_the_client_goes_away_and_the_login_fails(self) -> None:
        self.client.send(CONNECT)
        self.client.lose()
        self.login.errback(Failure(Unauthenticated("no")))
        self.assertEqual(self.bench.stats.logins_failed, 0)

    def test_it_takes_too_long(self) -> None:
        self.client.send(CONNECT)
        self.bench.pass_time(11)
        self.assertEqual(self.client.closed, "auth_timeout")
        self.let_in()
        self.assertEqual(self.client.got(), [])

    def test_the_keep_alive_runs_from_the_answer(self) -> None:
        self.client.send(p.Connect("c", user="u", password=b"secret", keep_alive=2))
        self.bench.pass_time(8)
        self.let_in()
        self.bench.pass_time(2)
        self.assertIsNone(self.client.closed)
        self.bench.pass_time(2)
        self.assertEqual(self.client.closed, "idle")

    def test_ended_while_being_welcomed(self) -> None:
        principal = self.bench.identities.principal("u")
        principal.on_connected = lambda: principal.closers[-1]("removed")
        self.client.send(p.Connect("c", user="u", password=b"secret", will=p.Will("w", b"")))
        self.let_in()
        self.assertEqual(self.client.got(), [])
        self.assertEqual(self.client.closed, "removed")

    def test_a_fault_while_being_welcomed(self) -> None:
        principal = self.bench.identities.principal("u")

        def fault() -> None:
            raise ZeroDivisionError

        principal.on_connected = fault
        self.client.send(p.Connect("c", user="u", password=b"secret", will=p.Will("w", b"")))
        self.let_in()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual((self.client.got(), self.client.closed), ([], "internal_error"))
        self.assertEqual(principal.closers, [])


class Takeover(SynchronousTestCase):
    def setUp(self) -> None:
        self.bench = Bench()

    def test_the_newer_one_stays(self) -> None:
        older = self.bench.connect("c")
        older.subscribe("a")
        newer = self.bench.connect("c")
        self.assertEqual(older.closed, "takeover")
        self.assertIsNone(newer.closed)
        newer.subscribe("a")
        older.lose()
        newer.send(p.Publish("a", b"1"))
        self.assertEqual(publishes(newer.got()), [("a", b"1", 0)])
        third = self.bench.connect("c")
        self.assertEqual(newer.closed, "takeover")
        self.assertIsNone(third.closed)

    def test_only_of_the_same_identity(self) -> None:
        one = self.bench.connect("c", "one")
        other = self.bench.connect("c", "other")
        same = self.bench.connect("d", "one")
        self.assertEqual([client.closed for client in (one, other, same)], [None, None, None])

    def test_the_older_ones_will_is_published(self) -> None:
        watcher = self.bench.connect("watcher")
        watcher.subscribe("will")
        older = self.bench.connect("c", will=p.Will("will", b"gone"))
        self.bench.connect("c")
        older.lose()
        self.assertEqual(publishes(watcher.got()), [("will", b"gone", 0)])

    def test_what_a_closing_one_still_sends_and_gets(self) -> None:
        older = self.bench.connect("c")
        older.subscribe("a")
        newer = self.bench.connect("c")
        newer.send(p.Publish("a", b"1"), p.Publish("a", b"2", 1, 1))
        older.send(p.Publish("a", b"3"))
        self.assertEqual(older.got(), [])
        self.assertEqual(self.bench.stats.dropped, {})
        self.assertEqual(self.bench.topics.subscriptions, 0)
