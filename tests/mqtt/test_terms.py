"""What a principal may ask for its own connections: watched topics, pings, keep-alive, pace, a delayed close."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import fail
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from broker.model.errors import Disabled, Unauthenticated, Unavailable
from broker.mqtt import packets as p
from broker.mqtt.encode import encode
from broker.mqtt.packets import MQTT_5
from broker.mqtt.terms import Terms, Watched
from tests.mqtt.fakes import Bench, Client, FakePrincipal, publishes


class Strict(Terms):
    def __init__(self) -> None:
        self.max_keep_alive = 10.0
        self.pings = 3
        self.apart: float | None = None
        self.reasons: list[str] = []

    def ping(self, now: float) -> bool:
        self.pings -= 1
        return self.pings >= 0

    def gap(self, version: int) -> float | None:
        return self.apart if version == p.MQTT_3_1 else None

    def left(self, reason: str) -> None:
        self.reasons.append(reason)


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.bench = Bench()
        self.principal = self.bench.identities.principal("device")
        self.terms = Strict()
        self.principal.terms = self.terms

    def device(self, **fields: Any) -> Client:
        return self.bench.connect("d", "device", **{"version": p.MQTT_3_1, **fields})


class WatchedTests(Case):
    def setUp(self) -> None:
        super().setUp()
        self.looked: list[bytes] = []
        self.watched: list[Watched] = []
        original = self.principal.publisher

        def publisher(topic: str) -> Any:
            self.principal.asked.append(topic)
            if not topic.startswith("w"):
                return original(topic)
            self.watched.append(Watched(self.look))
            return self.watched[-1]

        self.principal.publisher = publisher  # type: ignore[method-assign]
        self.reader = self.bench.connect("r", "reader")
        self.reader.subscribe("w/1", "w/2", qos=2)

    def look(self, payload: bytes) -> bool:
        self.looked.append(payload)
        return payload != b"bad"

    def test_what_is_good_goes_on(self) -> None:
        device = self.device()
        device.send(p.Publish("w/1", b"a"), p.Publish("w/1", b"bad"), p.Publish("w/1", b"b"), p.Publish("w/2", b"c"))
        self.assertEqual(publishes(self.reader.got()), [("w/1", b"a", 0), ("w/1", b"b", 0), ("w/2", b"c", 0)])
        self.assertEqual(self.looked, [b"a", b"bad", b"b", b"c"])
        self.assertEqual(self.bench.stats.dropped, {"malformed": 1})
        self.assertEqual(self.principal.asked, ["w/1", "w/2"])

    def test_one_by_one(self) -> None:
        """Each alone in its chunk, and cut in two."""
        device = self.device()
        before = self.bench.stats.bytes_in
        packets = [encode(p.Publish("w/1", payload), p.MQTT_3_1) for payload in (b"a", b"bad", b"b", b"c")]
        for packet in packets:
            device.send(packet)
        for packet in packets:
            device.send(packet[:3])
            device.send(packet[3:])
        self.assertEqual([payload for _, payload, _ in publishes(self.reader.got())], [b"a", b"b", b"c"] * 2)
        self.assertEqual(self.looked, [b"a", b"bad", b"b", b"c"] * 2)
        self.assertEqual(self.bench.stats.dropped, {"malformed": 2})
        self.assertEqual(self.bench.stats.bytes_in - before, 2 * sum(map(len, packets)))

    def test_every_qos_is_answered(self) -> None:
        device = self.device()
        self.assertEqual(device.ask(p.Publish("w/1", b"a", 1, 7)), [p.PubAck(7)])
        self.assertEqual(device.ask(p.Publish("w/1", b"bad", 1, 8)), [p.PubAck(8)])
        self.assertEqual(device.ask(p.Publish("w/1", b"b", 2, 9)), [p.PubRec(9)])
        self.assertEqual(device.ask(p.Publish("w/1", b"b", 2, 9, dup=True)), [p.PubRec(9)])
        self.assertEqual(device.ask(p.PubRel(9)), [p.PubComp(9)])
        self.assertEqual(device.ask(p.Publish("w/1", b"bad", 2, 9)), [p.PubRec(9)])
        self.assertEqual(device.ask(p.PubRel(9)), [p.PubComp(9)])
        self.assertEqual(publishes(self.reader.got()), [("w/1", b"a", 1), ("w/1", b"b", 2)])
        self.assertEqual(self.principal.asked, ["w/1"])

    def test_5_is_told(self) -> None:
        device = self.device(version=MQTT_5)
        (answer,) = device.ask(p.Publish("w/1", b"bad", 1, 8))
        self.assertEqual((answer.packet_id, answer.reason), (8, 0x99))  # type: ignore[union-attr]
        device.send(p.Publish("w/1", b"a", properties={0x23: 1}))
        device.send(p.Publish("", b"b", properties={0x23: 1}))
        self.assertEqual([payload for _, payload, _ in publishes(self.reader.got())], [b"a", b"b"])

    def test_retain_is_disregarded(self) -> None:
        self.device().send(p.Publish("w/1", b"a", retain=True))
        self.assertEqual(len(self.bench.server.retained), 0)
        self.assertEqual(publishes(self.reader.got()), [("w/1", b"a", 0)])

    def test_a_change_of_rights_asks_again(self) -> None:
        device = self.device()
        device.send(p.Publish("w/1", b"a"))
        self.bench.topics.rights_changed()
        device.send(p.Publish("w/1", b"b"))
        self.bench.connect("other", "x").subscribe("w/1")
        device.send(p.Publish("w/1", b"c"))
        self.assertEqual(self.principal.asked, ["w/1", "w/1", "w/1"])
        self.assertEqual([payload for _, payload, _ in publishes(self.reader.got())], [b"a", b"b", b"c"])

    def test_a_will_is_looked_at(self) -> None:
        for payload in (b"bad", b"good"):
            self.device(will=p.Will("w/1", payload, 1, True)).lose()
        self.assertEqual(publishes(self.reader.got()), [("w/1", b"good", 1)])
        self.assertEqual(len(self.bench.server.retained), 0)
        self.assertEqual(self.bench.stats.dropped, {"malformed": 1})

    def test_who_looks_may_close(self) -> None:
        device = self.device()
        self.principal.publisher = self.closing  # type: ignore[method-assign]
        device.send(p.Publish("w/1", b"a"), p.Publish("w/1", b"b"))
        self.assertEqual(device.closed, "malformed")
        self.assertEqual(self.looked, [b"a"])

    def closing(self, topic: str) -> Any:
        return Watched(self.close_it)

    def close_it(self, payload: bytes) -> bool:
        self.looked.append(payload)
        self.principal.closers[-1]("malformed")
        return False


class TimeTests(Case):
    def test_the_keep_alive_is_capped(self) -> None:
        for asked in (0, 600, 11):
            device = self.device(keep_alive=asked)
            self.bench.pass_time(14)
            self.assertIsNone(device.closed)
            self.bench.pass_time(2)
            self.assertEqual(device.closed, "idle")
        device = self.device(keep_alive=4)
        self.bench.pass_time(7)
        self.assertEqual(device.closed, "idle")
        self.assertEqual(self.terms.reasons, ["idle"] * 4)

    def test_pings(self) -> None:
        device = self.device()
        self.assertEqual(device.ask(*[p.PingReq()] * 3), [p.PingResp()] * 3)
        self.assertEqual(device.ask(p.PingReq(), p.PingReq()), [])
        self.assertEqual(device.closed, "flood")

    def test_the_reason_is_told_once(self) -> None:
        first = self.device()
        second = self.device()
        self.assertEqual((first.closed, self.terms.reasons), ("takeover", ["takeover"]))
        first.lose()
        second.send(p.Disconnect())
        second.lose()
        self.assertEqual(self.terms.reasons, ["takeover", "client_closed"])


class Writes(StringTransport):
    """Remembers them one by one."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # without types in Twisted
        self.seen: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.seen.append(data)
        super().write(data)  # type: ignore[no-untyped-call]  # as above


class Lossy(Client):
    """A client that can tell apart what was written apart."""

    def __init__(self, bench: Bench) -> None:
        connection: Any = bench.server.buildProtocol(None)
        super().__init__(bench, connection, p.MQTT_3_1)

    def new_transport(self) -> Writes:
        return Writes()

    def writes(self) -> list[bytes]:
        """Since the last call."""
        transport: Any = self.transport
        found, transport.seen = transport.seen, []
        return list(found)


class PaceTests(Case):
    def setUp(self) -> None:
        super().setUp()
        self.terms.apart = 0.5
        self.client = Lossy(self.bench)
        self.client.send(p.Connect("d", p.MQTT_3_1, user="device", password=b"secret"))
        self.assertEqual(self.client.writes(), [b"\x20\x02\0\0"])
        self.bench.clock.advance(0.01)
        self.client.send(p.Subscribe(1, [("down", 1)]))
        self.assertEqual(self.client.writes(), [b"\x90\x03\0\1\1"])

    def deliver(self, *payloads: bytes, qos: int = 0) -> None:
        for payload in payloads:
            self.bench.server.deliver(self.bench.topics.route("down"), payload, qos)
        self.bench.flush()

    def passed(self, seconds: float) -> list[bytes]:
        self.bench.clock.advance(seconds)
        self.bench.flush()
        return [data[-1:] for data in self.client.writes()]

    def test_one_packet_at_a_time(self) -> None:
        self.deliver(b"1", b"2", b"3")
        self.assertEqual(self.passed(0.4), [])  # the SUBACK was a moment ago
        self.deliver(b"4")
        self.assertEqual(self.passed(0.1), [b"1"])
        self.assertEqual(self.passed(0.4), [])
        self.assertEqual(self.passed(0.1), [b"2"])
        self.assertEqual(self.passed(0.5), [b"3"])
        self.assertEqual(self.passed(0.5), [b"4"])
        self.assertEqual(self.passed(5.0), [])
        self.deliver(b"5")
        self.assertEqual(self.passed(0), [b"5"])

    def test_runs_are_cut_apart(self) -> None:
        other = self.bench.connect("o", "other")
        other.send(*[p.Publish("down", bytes((48 + n,)) * 200) for n in range(3)])
        found = [self.passed(0.5) for _ in range(5)]
        self.assertEqual(found, [[b"0"], [b"1"], [b"2"], [], []])

    def test_who_has_answered_everything_is_not_kept_waiting(self) -> None:
        self.passed(1.0)
        self.deliver(b"1")
        self.assertEqual(self.passed(0.01), [b"1"])
        self.terms.answers += 1
        self.deliver(b"2")
        self.assertEqual(self.passed(0.01), [b"2"])
        self.deliver(b"3")
        self.assertEqual(self.passed(0.4), [])
        self.assertEqual(self.passed(0.1), [b"3"])

    def test_an_answer_to_an_earlier_packet_does_not_shorten_the_wait(self) -> None:
        self.passed(1.0)
        self.deliver(b"1", b"2")
        self.assertEqual(self.passed(0.5), [b"1", b"2"])
        self.terms.answers += 1
        self.deliver(b"3")
        self.assertEqual(self.passed(0.4), [])
        self.assertEqual(self.passed(0.1), [b"3"])

    def test_a_ping_answers_nothing(self) -> None:
        self.passed(1.0)
        self.deliver(b"1")
        self.assertEqual(self.passed(0.01), [b"1"])
        self.client.send(p.PingReq())
        self.assertEqual(self.client.writes(), [])
        self.assertEqual(self.passed(0.5), [b"\0"])

    def test_acknowledged_messages_go_on_when_there_is_room(self) -> None:
        """The outbox is over its limit while packets are kept apart, and nobody jams."""
        bench = self.bench
        limit = bench.server.limits.max_outbox
        big = bytes(limit // 2)
        self.deliver(big, big, big, big, qos=1)
        for _ in range(10):
            bench.clock.advance(0.5)
            bench.flush()
        got = [one for one in self.client.got() if isinstance(one, p.Publish)]
        self.assertEqual([one.packet_id for one in got], [1, 2, 3, 4])
        self.assertFalse(self.client.paused)

    def test_a_full_socket(self) -> None:
        self.deliver(b"1", b"2")
        self.client.jam()
        self.assertEqual(self.passed(0.5), [])
        self.assertEqual(self.passed(5.0), [])
        self.client.unjam()
        self.deliver(b"3")
        found = [self.passed(0.5) for _ in range(5)]
        self.assertEqual([one for one in found if one], [[b"1"], [b"2"], [b"3"]])

    def test_the_end(self) -> None:
        self.deliver(b"1", b"2")
        self.principal.closers[-1]("removed")
        self.assertEqual(b"".join(self.client.writes())[-1:], b"2")
        self.assertEqual(self.bench.clock.getDelayedCalls(), [])
        self.client.lose()

    def test_lost(self) -> None:
        self.deliver(b"1", b"2")
        self.client.lose()
        self.assertEqual(self.bench.clock.getDelayedCalls(), [])

    def test_others_are_not_paced(self) -> None:
        other = self.bench.connect("other", "device", version=p.MQTT_3_1_1)
        other.subscribe("down")
        self.deliver(b"1", b"2")
        self.assertEqual([payload for _, payload, _ in publishes(other.got())], [b"1", b"2"])


class RefusalTests(Case):
    def refuse(self, error: Exception) -> Client:
        self.bench.identities.answer = fail(error)
        client = self.bench.open(version=p.MQTT_3_1)
        return client.send(p.Connect("d", p.MQTT_3_1, user="device", password=b"secret"))

    def test_the_close_comes_later(self) -> None:
        for error, code in (
            (Unauthenticated("no", close_after=5.0), p.REFUSED_CREDENTIALS),
            (Disabled("no", close_after=5.0), p.REFUSED_RIGHTS),
            (Unavailable("no", close_after=5.0), p.REFUSED_UNAVAILABLE),
        ):
            client = self.refuse(error)
            self.assertEqual(client.got(), [p.ConnAck(code)])
            self.assertFalse(client.paused)
            client.send(p.PingReq(), p.Publish("x", b"y"), bytes(2_000_000))
            self.bench.pass_time(4)
            self.assertIsNone(client.closed)
            self.bench.pass_time(1)
            self.assertEqual((client.closed, client.got()), ("unavailable" if code == 3 else "auth_failed", []))
            client.lose()
        self.assertEqual(self.bench.clock.getDelayedCalls(), [])

    def test_it_leaves_before(self) -> None:
        client = self.refuse(Unauthenticated("no", close_after=5.0))
        client.lose(clean=True)
        self.assertEqual(self.bench.clock.getDelayedCalls(), [])
        self.assertEqual(self.bench.stats.closed, {"client_closed": 1})

    def test_the_login_limit_does_not_run(self) -> None:
        client = self.refuse(Unauthenticated("no", close_after=15.0))
        self.bench.pass_time(14)
        self.assertIsNone(client.closed)
        self.bench.pass_time(2)
        self.assertEqual(client.closed, "auth_failed")

    def test_a_delayed_answer(self) -> None:
        bench = self.bench = Bench({"max_failed_logins": 1})
        bench.identities.answer = None
        for _ in range(2):
            bench.identities.answer = fail(Unauthenticated("no", close_after=5.0))
            client = bench.open("10.0.0.1", p.MQTT_3_1)
            client.send(p.Connect("d", p.MQTT_3_1, user="device", password=b"secret"))
        self.assertEqual(client.got(), [])
        bench.pass_time(1)
        self.assertEqual(client.got(), [p.ConnAck(p.REFUSED_CREDENTIALS)])
        bench.pass_time(4)
        self.assertIsNone(client.closed)
        bench.pass_time(1)
        self.assertEqual(client.closed, "auth_failed")


class DefaultTests(SynchronousTestCase):
    def test_they_change_nothing(self) -> None:
        bench = Bench()
        principal: Any = bench.identities.principal("u")
        assert isinstance(principal, FakePrincipal)
        principal.terms = Terms()
        client = bench.connect(keep_alive=1000, version=p.MQTT_3_1)
        self.assertEqual(client.ask(*[p.PingReq()] * 5), [p.PingResp()] * 5)
        bench.pass_time(1400)
        self.assertIsNone(client.closed)
