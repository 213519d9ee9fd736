"""Packet ids, the plan of a route, and what else a server does that no single client sees."""

from __future__ import annotations

from twisted.internet.interfaces import IProtocolFactory
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from broker.mqtt import encode
from broker.mqtt import packets as p
from broker.mqtt.delivery import deliver, plan_of
from broker.mqtt.settings import Settings
from broker.settings.reading import ConfigError, fill
from tests.mqtt.fakes import Bench, publishes


class PacketIds(SynchronousTestCase):
    def test_they_go_round_and_skip_what_is_in_flight(self) -> None:
        bench = Bench(max_inflight=10)
        client, other = bench.connect("client"), bench.connect("other")
        client.subscribe("a", qos=1)
        session = client.connection._session
        assert session is not None
        session.next_id = 65_534
        session.inflight = dict.fromkeys((65_535, 1, 3), 1)
        other.send(*(p.Publish("a", b"", 1, 1) for _ in range(4)))
        ids = [one.packet_id for one in client.got() if isinstance(one, p.Publish)]
        self.assertEqual(ids, [65_534, 2, 4, 5])
        client.send(*(p.PubAck(one) for one in (65_535, 1, 3, *ids)))
        self.assertEqual(session.inflight, {})

    def test_the_window_is_smaller_than_their_number(self) -> None:
        with self.assertRaises(ConfigError) as caught:
            fill(Settings(), {"max_inflight": 65_536}, "listeners.mqtt", "broker.toml")
        self.assertIn("listeners.mqtt.max_inflight = 65536", str(caught.exception))


class Plans(SynchronousTestCase):
    def setUp(self) -> None:
        self.bench = Bench()

    def test_made_once_until_something_changes(self) -> None:
        client = self.bench.connect()
        client.subscribe("a/b", "a/+")
        client.subscribe("a/#", qos=1)
        route = self.bench.topics.route("a/b")
        plan = plan_of(route)
        self.assertIs(plan_of(route), plan)
        session = client.connection._session
        self.assertEqual((plan.everyone, plan.at_most_once, plan.at_least_once), ((session,), (), (session,)))
        client.ask(p.Unsubscribe(1, ["a/#"]))
        plan = plan_of(self.bench.topics.route("a/b"))
        self.assertEqual((plan.everyone, plan.at_most_once, plan.at_least_once), ((session,), (session,), ()))

    def test_nobody(self) -> None:
        route = self.bench.topics.route("a")
        deliver(route, b"", 1)
        self.assertIsNone(route.plan)

    def test_of_our_own_making(self) -> None:
        clients = [self.bench.connect(str(qos)) for qos in (0, 1)]
        for qos, client in enumerate(clients):
            client.subscribe("ä", qos=qos)
        for qos in (0, 1, 2):
            deliver(self.bench.topics.route("ä"), b"%d" % qos, qos)
        self.bench.flush()
        heard = [publishes(client.got()) for client in clients]
        self.assertEqual(heard[0], [("ä", b"0", 0), ("ä", b"1", 0), ("ä", b"2", 0)])
        self.assertEqual(heard[1], [("ä", b"0", 0), ("ä", b"1", 1), ("ä", b"2", 1)])


class Server(SynchronousTestCase):
    def test_it_is_a_factory(self) -> None:
        verifyObject(IProtocolFactory, Bench().server)

    def test_new_settings_hold_for_new_connections(self) -> None:
        bench = Bench(max_topic_levels=5)
        older = bench.connect("older")
        later = bench.server.reload(Settings(max_topic_levels=1, max_queued_messages=7))
        self.assertEqual(set(later), {"bind", "anonymous", "anonymous_deny"})
        newer = bench.connect("newer")
        self.assertEqual(newer.subscribe("a/b"), [p.SubAck(1, b"\x80")])
        self.assertIsNone(older.closed)

    def test_one_run_for_many(self) -> None:
        bench = Bench()
        clients = [bench.connect(str(number)) for number in range(20)]
        for client in clients:
            client.subscribe("a")
        publisher = bench.connect("publisher")
        publisher.send(*[p.Publish("a", b"x")] * 10)
        self.assertEqual([len(client.got()) for client in clients], [10] * 20)
        self.assertEqual(bench.stats.messages_out, 200)
        self.assertEqual(publisher.connection.messages_in, 11)

    def test_a_long_packet_in_pieces(self) -> None:
        bench = Bench({"max_message_size": 100_000})
        client = bench.connect()
        client.subscribe("a", qos=1)
        for qos in (0, 1):
            packet = p.Publish("a", bytes(70_000), qos, qos)
            wire = encode.encode(packet)
            for at in (1, 2, 3, 4, 5, 50_000):
                client.send(wire[:at])
                client.send(wire[at:])
                self.assertEqual(publishes(client.got()), [("a", bytes(70_000), qos)])
                client.send(*(p.PubAck(one) for one in range(1, 10)))
        self.assertIsNone(client.closed)
