"""Orders that may not have reached their gateway, and gateways that come back."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionLost
from twisted.trial.unittest import SynchronousTestCase

from broker.model.messages import Command
from broker.routing.commands import Commands
from tests.devices.gateway88.bed import Bed, Gateway

UPDATE = {"file": "relay.bin", "file_id": "file-1", "size": 3, "md5": "0" * 32, "version": "2.4"}


class DoubtTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.bed = Bed()
        self.gateway = self.bed.admitted()

    def come_back(self, after: float = 40.0) -> Gateway:
        """The connection is lost, and the gateway is there again later."""
        self.gateway.lose(ConnectionLost)
        self.bed.tick(after)
        return self.bed.admitted()

    def orders(self, gateway: Gateway) -> list[Any]:
        return [value for _, value, _ in gateway.read() if value is not None and "status" not in value]

    def update(self, number: int = 1) -> Command:
        command = self.bed.operation("firmware_update", UPDATE, number)
        self.assertEqual(self.orders(self.gateway)[0]["type"], "firmware_update")
        return command

    def test_it_is_sent_again_and_answered(self) -> None:
        command = self.update()
        gateway = self.come_back()
        self.bed.tick(5)
        self.assertEqual(self.orders(gateway), [], "it may have it")
        self.bed.tick(2)
        ((number, value, _),) = gateway.read()
        assert value is not None
        self.assertEqual(value["firmware_update"]["firmware_url"], f"https://files/f/{command.id}")
        gateway.say({"type": "firmware_update", "status": "ok"}, number)
        self.bed.tick(60)
        self.assertEqual((self.orders(gateway), command.status), ([], "pending"))
        self.assertEqual(self.bed.listener.counted.repeated_orders, 1)

    def test_of_which_nothing_comes_has_its_whole_time(self) -> None:
        command = self.update()
        gateway = self.come_back()
        self.bed.tick(7)
        self.bed.tick(16)
        self.assertEqual((len(self.orders(gateway)), command.status), (3, "sent"))
        self.bed.tick(3)
        self.assertEqual(command.status, "timed_out")

    def test_a_gateway_that_never_comes_back(self) -> None:
        command = self.update()
        self.gateway.lose(ConnectionLost)
        self.bed.tick(77)
        self.assertEqual(command.status, "sent")
        self.bed.tick(3)
        self.assertEqual(command.status, "timed_out")

    def test_one_that_fetches_has_it(self) -> None:
        command = self.update()
        gateway = self.come_back()
        self.bed.listener.operations.fetched_somewhere(command, None)
        self.bed.tick(30)
        self.assertEqual(self.orders(gateway), [])

    def test_one_that_has_the_version_has_done_it(self) -> None:
        command = self.update()
        self.gateway.lose(ConnectionLost)
        self.bed.tick(40)
        gateway = self.bed.connect()
        gateway.say({"type": "gateway_info", "gateway_info": {"swversion": "2.4"}}, 1)
        self.bed.tick(30)
        self.assertEqual((self.orders(gateway), command.status), ([], "succeeded"))

    def test_what_was_answered_is_not_sent_again(self) -> None:
        command = self.update()
        self.gateway.say({"type": "firmware_update", "status": "ok"}, 0x80)
        gateway = self.come_back()
        self.bed.tick(30)
        self.assertEqual((self.orders(gateway), command.status), ([], "pending"))

    def test_a_remote_control_is_not_sent_again(self) -> None:
        command = self.bed.command({"valve": "open"})
        self.gateway.read()
        gateway = self.come_back(5)
        self.bed.tick(30)
        self.assertEqual((self.orders(gateway), command.status), ([], "timed_out"))

    def test_after_a_start(self) -> None:
        """What an earlier life of the broker has sent, perhaps."""
        command = self.update()
        self.gateway.lose(ConnectionLost)
        bed = Bed(clock=self.bed.clock)
        bed.core.commands = Commands(bed.journal, bed.core.devices, bed.core.router, bed.clock.seconds)
        command.deadline = bed.clock.seconds() + 1
        bed.core.commands.restore([command])
        bed.listener.operations.doubts.every_left()
        self.bed = bed
        bed.tick(30)
        gateway = bed.admitted()
        bed.tick(7)
        self.assertEqual([order["type"] for order in self.orders(gateway)], ["firmware_update"])
