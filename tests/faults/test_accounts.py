"""The account finds what is wrong: each thing that must not be is a line of it, and nothing else is."""

from __future__ import annotations

import time
from typing import Any

from twisted.trial.unittest import TestCase

from broker.mqtt import packets as p
from tests.faults.orders import HTTP, LONG, MQTT, PENDING, SHORT, Order, OrderBook
from tests.faults.targets import Target, bytes_of, mark_in, mark_of, new_mark
from tests.ledger import Account, Ledger, Subscriber, table


def publish(subscriber: Subscriber, number: int, packet_id: int) -> None:
    subscriber.got(p.Publish(subscriber.topic, b"%064d" % number, subscriber.qos, packet_id))


class LedgerTests(TestCase):
    def setUp(self) -> None:
        self.ledger = Ledger("secret")
        for publisher, subscriber in self.ledger.pairs():
            subscriber.certain = publisher.welcome = True
            publisher.work()
            for packet_id in range(1, publisher.sent + 1):
                if publisher.qos == 1:
                    publisher.got(p.PubAck(packet_id))
                else:
                    publisher.got(p.PubRec(packet_id))
                    publisher.got(p.PubComp(packet_id))

    def deliver(self, *left_out: int) -> None:
        for publisher, subscriber in self.ledger.pairs():
            for number in range(publisher.sent):
                if number not in left_out or subscriber.name != "s4-2-0":
                    publish(subscriber, number, number + 1)

    def test_all_is_well(self) -> None:
        self.deliver()
        self.assertTrue(self.ledger.delivered())
        self.assertEqual(self.ledger.faults(), [])
        self.assertEqual([one.lost for one in self.ledger.accounts()], [0, 0])

    def test_one_is_missing(self) -> None:
        self.deliver(7)
        self.assertEqual(self.ledger.faults(), ["s4-2-0: 1 of 20 are missing: [7]"])
        self.assertEqual(
            [(one.lost, one.acknowledged - one.delivered) for one in self.ledger.accounts()], [(0, 0), (1, 1)]
        )

    def test_what_has_its_pubrec_is_the_brokers(self) -> None:
        """It is not sent again, so it counts as lost before its PUBCOMP."""
        publisher, subscriber = self.ledger.publishers[1], self.ledger.subscribers[1]
        publisher.work()
        publisher.got(p.PubRec(21))
        self.deliver(20)
        self.assertEqual([one.lost for one in self.ledger.accounts()], [0, 1])
        self.assertEqual(subscriber.qos, 2)

    def test_out_of_order(self) -> None:
        self.deliver(3)
        publish(self.ledger.subscribers[1], 3, 100)
        self.assertEqual(self.ledger.faults(ordered=False), [])
        self.assertEqual(self.ledger.faults(), ["s4-2-0: 1 times out of order: [[17, 18, 19, 3]]"])

    def test_twice(self) -> None:
        self.deliver()
        for subscriber in self.ledger.subscribers:
            publish(subscriber, 3, 100)
        found = ["s4-2-0: 1 came twice: [3]", "s5-2-0: 1 came twice: [3]"]
        self.assertEqual(self.ledger.faults(), found)
        self.assertEqual([one.twice for one in self.ledger.accounts()], [2, 2])
        self.assertRaises(AssertionError, self.ledger.check)


class OrderTests(TestCase):
    def setUp(self) -> None:
        self.book = OrderBook()
        self.device = Target("d", "novacloud")
        self.mote = Target("m", "lorawan", True, open_ended=True)

    def order(self, target: Target, *states: str, via: str = HTTP, expires: int = LONG, taken: bool = True) -> Order:
        """One that became commands in these states."""
        order = self.book.order(target, via, expires, "node-1")
        if taken:
            self.book.took(order)
        self.book.commands[order.mark] = [{"status": state, "result": None} for state in states]
        return order

    def says(self, *words: str) -> None:
        """Each fault has its word, in their order."""
        found = self.book.faults()
        self.assertEqual(len(found), len(words), found)
        for line, word in zip(found, words, strict=True):
            self.assertIn(word, line)

    def test_as_it_is_stated(self) -> None:
        done = self.order(self.device, "succeeded")
        self.device.got(done.mark)
        self.device.answered.add(done.mark)
        self.order(self.device, "timed_out")
        self.order(self.device, "expired", expires=SHORT)
        self.order(self.mote, "queued")
        self.order(self.mote, "failed")
        self.order(self.mote, "succeeded")
        self.order(self.device, taken=False)
        self.says()
        (device, mote) = sorted(self.book.accounts(), key=lambda one: one.kind, reverse=True)
        self.assertEqual(device, Account(device.kind, 3, delivered=1, expired=1, failed=1))
        self.assertEqual(mote, Account(mote.kind, 3, delivered=1, queued=1, failed=1))
        self.assertEqual((device.note, mote.note), ("1 timed_out", "1 failed"))

    def test_lost(self) -> None:
        self.order(self.device)
        self.says("LOST")
        self.assertEqual([one.lost for one in self.book.accounts()], [1])

    def test_it_has_not_ended(self) -> None:
        self.order(self.device, "sent")
        under_way, forgotten = self.order(self.mote, "pending"), self.order(self.mote, "pending")
        self.book.commands[under_way.mark][0]["updated_at"] = time.time()
        self.book.commands[forgotten.mark][0]["updated_at"] = time.time() - PENDING - 1
        self.says("has not ended", f"order {forgotten.mark} ")

    def test_came_twice(self) -> None:
        order = self.order(self.device, "timed_out")
        self.device.got(order.mark)
        self.device.got(order.mark)
        self.says("came 2 times")
        self.assertEqual([one.twice for one in self.book.accounts()], [1])

    def test_came_though_it_was_never_taken(self) -> None:
        order = self.order(self.device, taken=False)
        self.device.got(order.mark)
        self.says("came 1 times")

    def test_more_commands_than_were_sent(self) -> None:
        order = self.order(self.device, "timed_out", "timed_out", via=MQTT)
        self.says("became 2 commands")
        order.sends = 2
        self.says()

    def test_a_device_that_never_answered(self) -> None:
        self.order(self.device, "succeeded")
        self.says("unanswered")

    def test_expired_and_came_all_the_same(self) -> None:
        order = self.order(self.device, "expired", expires=SHORT)
        self.device.got(order.mark)
        self.order(self.device, "expired", expires=LONG)
        self.says("expired, came 1 times", "expired, came 0 times")

    def test_one_of_two_commands_of_an_order_expired(self) -> None:
        """It was sent again, as QoS 1 has it, and came by the other one."""
        order = self.order(self.device, "expired", "succeeded", via=MQTT, expires=SHORT)
        order.sends = 2
        self.device.got(order.mark)
        self.device.answered.add(order.mark)
        self.says()
        self.device.got(order.mark)
        self.says("expired, came 2 times")

    def test_a_device_does_not_fail(self) -> None:
        self.order(self.device, "failed")
        self.says("failed None")

    def test_an_odd_answer(self) -> None:
        self.book.odd.append("404: gone")
        self.says("404: gone")


class MarkTests(TestCase):
    def test_they_are_found_again(self) -> None:
        mark = new_mark()
        for target in (Target("a", "novacloud"), Target("b", "gizwits", True, {"ack": True})):
            self.assertEqual(mark_of(target.body(mark)), mark)
        self.assertEqual(mark_in(bytes_of(mark)), mark)
        payloads: tuple[dict[str, Any], ...] = ({"payload": {}}, {"payload_base64": "AQI="}, {"payload": {"mark": "x"}})
        for payload in payloads:
            self.assertIsNone(mark_of(payload))

    def test_a_table(self) -> None:
        text = table([Account("orders", 1234, delivered=1200, note="34 under way"), Account("x")])
        head, orders, last = text.splitlines()
        self.assertEqual(" ".join(head.split()), "kind acknowledged delivered queued expired failed lost twice unknown")
        self.assertEqual(orders.split()[:3] + orders.split()[-3:], ["orders", "1,234", "1,200", "34", "under", "way"])
        self.assertEqual(last.split(), ["x", *"00000000"])
