"""What the fuzzers of the Gizwits listeners stand on: log-ins that work, right lengths, faults that are seen."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from broker.devices.gizwits import codec as g
from broker.devices.gizwits.topics import report_topic
from broker.model.records import Product
from broker.mqtt import packets as p
from broker.mqtt.delivery import deliver
from broker.mqtt.encode import encode
from tests.applications.http.test_fuzz import masked
from tests.devices.gizwits.bed import DID, OTHER, PRODUCT
from tests.devices.gizwits.site import registration
from tests.fuzz import clients, lengths
from tests.fuzz.listeners import converse
from tests.fuzz.memory import MemorySqlite, Rounds
from tests.fuzz.world import ANN, APP, BOB_TOKEN, PLAIN, World, heard, prepared


class LogInTests(SynchronousTestCase):
    def test_who_has_logged_in_is_known(self) -> None:
        person = f"user:{APP}/{ANN}"
        for name, identity in (
            ("gizwits-device-listener", f"device:{DID}"),
            ("gizwits-app-listener", person),
            ("gizwits-websocket-listener", person),
        ):
            for flags, known in ((0, ""), (clients.LOGGED_IN, identity)):
                client = clients.begun(clients.CLIENTS[name], flags)
                self.assertEqual(client.peer.connection.identity.partition(" ")[0], known, name)
                client.world.end()

    def test_company(self) -> None:
        for name in clients.CLIENTS:
            client = clients.begun(clients.CLIENTS[name], clients.COMPANY)
            there = {one.identity.partition(" ")[0] for one in client.world.mqtt.connections}
            expected = f"user:{APP}/{ANN}" if name == "gizwits-device-listener" else f"device:{DID}"
            self.assertIn(expected, there, name)
            self.assertTrue(client.world.core.devices.get(PLAIN), name)
            client.world.end()

    def test_the_lamp_reports_and_the_app_hears(self) -> None:
        """What is said gets where it belongs, so what is behind that is looked at."""
        client = clients.begun(clients.App, clients.LOGGED_IN | clients.COMPANY)
        report = g.encode(g.Report(b"\4"))
        deliver(client.world.core.topics.route(report_topic(DID)), report, 0)
        client.world.reactor.settle()
        self.assertEqual([one.payload for one in heard(client.peer)], [report])
        client.world.end()

    def test_another_connection(self) -> None:
        client = clients.begun(clients.Caller, clients.SLOW)
        first = client.peer
        client.feed(clients.NEXT + registration())
        self.assertIsNot(client.peer, first)
        self.assertEqual((first.open, client.heard()), (True, b""))  # storage has not answered
        client.world.reactor.settle()
        self.assertTrue(client.heard().endswith(b"did=" + DID.encode()))
        client.world.end()


class FaultTests(SynchronousTestCase):
    def said(self) -> World:
        world = World(prepared())
        world.settle_in()
        self.addCleanup(world.end)
        return world

    def test_a_bystander_hears_nothing(self) -> None:
        world = self.said()
        world.check(b"")
        deliver(world.core.topics.route(report_topic(OTHER)), g.encode(g.Report(b"\4")), 0)
        world.reactor.settle()
        self.assertRaises(AssertionError, world.check, b"")

    def test_a_secret_is_not_told(self) -> None:
        self.assertRaises(AssertionError, self.said().check, b"token=" + BOB_TOKEN.encode())

    def test_what_a_router_caught(self) -> None:
        world = self.said()
        world.core.router.listen(object())  # type: ignore[arg-type]  # it breaks with the first uplink
        client = clients.Device(world, clients.LOGGED_IN)
        client.feed(encode(p.Publish(report_topic(DID), g.encode(g.Request(1, b"\4"))), p.MQTT_3_1))
        self.assertRaises(AssertionError, world.check, b"")

    def test_a_deferred_that_nobody_looked_at(self) -> None:
        """It is told when it is collected; that is within what made it."""

        def broken(client: Any) -> None:
            lost: Deferred[None] = Deferred()
            lost.ring = lost  # type: ignore[attr-defined]  # so that it does not go at once
            lost.errback(ZeroDivisionError("lost"))

        self.patch(clients.Caller, "log_in", broken)
        with self.assertRaises(AssertionError) as caught:
            converse("gservice-listener", bytes((clients.LOGGED_IN,)))
        self.assertIn("ZeroDivisionError: lost", str(caught.exception))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        converse("gservice-listener", b"\0")

    def test_a_connection_that_ends_by_a_fault_of_ours(self) -> None:
        def broken(peer: Any) -> None:
            peer.connection.abort("internal_error")

        self.patch(clients.Caller, "log_in", lambda client: broken(client.peer))
        self.assertRaises(AssertionError, converse, "gservice-listener", bytes((clients.LOGGED_IN,)))


class LengthTests(SynchronousTestCase):
    def test_requests(self) -> None:
        whole = registration()
        changed = whole.replace(b"Content-Length: ", b"Content-Length: 9") + b"more"
        right = lengths.of_request(changed)
        size = len(whole.partition(b"\r\n\r\n")[2]) + 4
        self.assertIn(b"\r\nContent-Length: %d\r\n" % size, right)
        self.assertEqual(lengths.of_request(right), right)
        for other in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\r\n\r\nContent-Length: 3"):
            self.assertEqual(lengths.of_request(other), other)

    def test_packets(self) -> None:
        for qos in (0, 1):
            for size in (0, 1, 120, 300):
                whole = encode(p.Publish("dev2app/d", g.encode(g.Report(bytes(size))), qos, qos), p.MQTT_3_1)
                self.assertEqual(lengths.of_packet(whole), whole)
                longer = encode(p.Publish("dev2app/d", g.encode(g.Report(bytes(size + 9))), qos, qos), p.MQTT_3_1)
                self.assertEqual(lengths.of_packet(whole + bytes(9)), longer)
        self.assertEqual(lengths.of_packet(b"\xc0\7"), b"\xc0\0")
        for other in (b"", b"\x30", b"\x30\xff\xff\xff\xff\1"):
            self.assertEqual(lengths.of_packet(other), other)

    def test_frames(self) -> None:
        for size in (0, 5, 200, 70_000):
            whole = masked(0x81, bytes(size))
            self.assertEqual(lengths.of_frame(whole), whole)
            self.assertEqual(lengths.of_frame(whole + b"x"), masked(0x81, bytes(size) + b"x"))
        self.assertEqual(lengths.of_frame(b"\x81"), b"\x81")


class MemoryTests(SynchronousTestCase):
    """The storage that waits for its rounds."""

    def test_an_answer_takes_a_round(self) -> None:
        reactor = Rounds()
        storage = MemorySqlite(reactor)
        asked = storage.add_product(Product(key=PRODUCT, name="", protocol="gizwits"))
        self.assertNoResult(asked)
        reactor.round()
        self.assertIsNone(self.successResultOf(asked))
        failed = storage.add_product(Product(key=PRODUCT, name="", protocol="gizwits"))
        self.assertNoResult(failed)
        reactor.settle()
        self.assertEqual(str(self.failureResultOf(failed).type.__name__), "Conflict")

    def test_an_image_is_all_of_it(self) -> None:
        reactor = Rounds()
        first = MemorySqlite(reactor)
        first.add_product(Product(key=PRODUCT, name="lamp", protocol="gizwits"))
        second = MemorySqlite(reactor, first.image())
        first.delete_product(PRODUCT)
        found = second.get_product(PRODUCT)
        reactor.settle()
        product = self.successResultOf(found)
        assert product is not None
        self.assertEqual(product.name, "lamp")

    def test_what_never_ends_is_told(self) -> None:
        reactor = Rounds()

        def again() -> None:
            reactor.callFromThread(again)

        again()
        self.assertRaises(AssertionError, reactor.settle)
