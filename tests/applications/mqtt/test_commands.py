"""Commands that come over MQTT, and what is said about them."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import TestCase

from broker.model.errors import Unavailable
from broker.model.messages import PENDING, SUCCEEDED, Reply
from broker.model.records import Actuator, Product
from broker.mqtt import packets as p
from broker.mqtt import properties as props
from tests.applications.mqtt.bed import Bed
from tests.mqtt.fakes import Client
from tests.routing.fakes import FakeJournal

TOPIC = "devices/d1/command"


def body(**fields: Any) -> bytes:
    return json.dumps({"payload": {"a": 1}, **fields}).encode()


class Case(TestCase):
    journal: FakeJournal | None = None

    async def setUp(self) -> None:  # type: ignore[override] # trial waits for it
        self.bed = await Bed(self.mktemp(), self.journal).open("d1", "d2", "d3")
        self.addCleanup(self.bed.storage.close)
        self.client = await self.bed.login()
        self.watcher = await self.bed.login(client_id="watcher")
        self.watcher.subscribe("devices/+/reply")

    def replies(self, client: Client | None = None) -> list[dict[str, Any]]:
        packets = (client or self.watcher).got()
        return [json.loads(one.payload) for one in packets if isinstance(one, p.Publish)]

    async def order(self, payload: bytes, qos: int = 1) -> list[p.Packet]:
        return await self.bed.ask(self.client, p.Publish(TOPIC, payload, qos, 1 if qos else 0))


class Taken(Case):
    async def test_from_the_order_to_the_answer(self) -> None:
        _, link = self.bed.device("d1")
        self.assertEqual(await self.order(body(ref="mine", timeout=5, expires=60)), [p.PubAck(1)])
        (command,) = link.sent
        self.assertEqual((command.payload, command.ref, command.timeout), ({"a": 1}, "mine", 5.0))
        self.assertEqual((command.origin, command.expires_at), ("application:app", self.bed.clock.seconds() + 60))
        self.assertEqual([one["status"] for one in self.replies()], ["queued", "sent"])
        now = self.bed.clock.seconds()
        self.bed.core.commands.reply("d1", Reply(command.id, PENDING, None, now))
        self.bed.core.commands.reply("d1", Reply(command.id, SUCCEEDED, {"done": True}, now))
        self.bed.flush()
        pending, succeeded = self.replies()
        self.assertEqual((pending["status"], pending["id"], pending["ref"]), ("pending", command.id, "mine"))
        expected = {"id": command.id, "ref": "mine", "status": "succeeded", "result": {"done": True}, "at": now}
        self.assertEqual(succeeded, expected)

    async def test_the_response_topic_and_its_data(self) -> None:
        self.bed.device("d1")
        told: p.Properties = {props.RESPONSE_TOPIC: "answers/me", props.CORRELATION_DATA: b"\x007"}
        asker = await self.bed.login(client_id="asker", version=p.MQTT_5)
        await self.bed.ask(asker, p.Subscribe(1, [("answers/me", 1)]))
        for payload in (body(ref="mine"), b"{}"):
            await self.bed.ask(asker, p.Publish(TOPIC, payload, 1, 1, properties=told))
        heard = [one for one in asker.received + asker.got() if isinstance(one, p.Publish)]
        self.assertEqual([json.loads(one.payload)["status"] for one in heard], ["queued", "sent", "failed"])
        self.assertTrue(all(one.properties == {props.CORRELATION_DATA: b"\x007"} for one in heard))
        self.assertEqual([one["status"] for one in self.replies()], ["queued", "sent", "failed"])

    async def test_a_response_topic_without_the_right(self) -> None:
        self.bed.device("d1")
        told: p.Properties = {props.RESPONSE_TOPIC: "devices/d1/up/data"}
        asker = await self.bed.login(client_id="asker", version=p.MQTT_5)
        self.watcher.subscribe("devices/d1/up/data")
        await self.bed.ask(asker, p.Publish(TOPIC, body(), 1, 1, properties=told))
        heard = [one.topic for one in self.watcher.got() if isinstance(one, p.Publish)]
        self.assertEqual(set(heard), {"devices/d1/reply"})

    async def test_at_every_qos(self) -> None:
        _, link = self.bed.device("d1")
        for qos, answer in ((0, []), (1, [p.PubAck(1)]), (2, [p.PubRec(1)])):
            self.assertEqual(await self.order(body(), qos), answer)
        self.assertEqual(len(link.sent), 3)

    async def test_the_device_is_away(self) -> None:
        await self.order(body())
        self.assertEqual([one["status"] for one in self.replies()], ["queued"])
        _, link = self.bed.device("d1")
        self.assertEqual(len(link.sent), 1)
        self.assertEqual([one["status"] for one in self.replies()], ["sent"])

    async def test_it_is_on_disk_before_it_is_acknowledged(self) -> None:
        await self.order(body(ref="kept"))
        ((kept, *_), _cursor) = await self.bed.storage.list_commands("d1", 10, None)
        self.assertEqual(kept.ref, "kept")

    async def test_in_the_order_of_the_publishes(self) -> None:
        _, link = self.bed.device("d1")
        orders = [p.Publish(TOPIC, body(ref=str(n)), 1, n) for n in range(1, 11)]
        answers = await self.bed.ask(self.client, *orders)
        self.assertEqual(answers, [p.PubAck(n) for n in range(1, 11)])
        self.assertEqual([command.ref for command in link.sent], [str(n) for n in range(1, 11)])


class Refused(Case):
    async def refusal(self, payload: bytes) -> dict[str, Any]:
        """What is told about a refused command; the publish itself is acknowledged."""
        self.assertEqual(await self.order(payload), [p.PubAck(1)])
        (reply,) = self.replies()
        self.assertEqual((reply["id"], reply["status"]), (None, "failed"))
        self.assertEqual(reply["at"], self.bed.clock.seconds())
        self.assertIsNone(self.client.closed)
        return reply

    async def test_what_is_not_a_command(self) -> None:
        for payload in (
            b"",
            b"\xff",
            b"[]",
            b"[" * 100_000,
            b"{}",
            b'{"payload": 1}',
            b'{"payload": NaN}',
            body(payload_base64="AA=="),
            b'{"payload_base64": "!"}',
            body(unknown=1),
            body(timeout=0),
            body(expires=-1),
            body(ref="x" * 129),
        ):
            reply = await self.refusal(payload)
            self.assertEqual((reply["result"]["error"], reply["ref"]), ("invalid", None), payload[:40])

    async def test_the_ref_comes_back(self) -> None:
        self.assertEqual((await self.refusal(body(ref="mine", timeout="soon")))["ref"], "mine")
        self.assertIsNone((await self.refusal(body(ref=7)))["ref"])

    async def test_keys_that_the_product_does_not_have(self) -> None:
        product = Product(key="lamp", name="Lamp", protocol="plain", actuators=(Actuator("on"),))
        await self.bed.registry.add_product(product)
        await self.bed.registry.update_device("d1", {"product": "lamp"})
        self.assertIn("no actuator a", (await self.refusal(body()))["result"]["message"])
        self.assertEqual(await self.order(body(force=True)), [p.PubAck(1)])
        self.assertEqual([one["status"] for one in self.replies()], ["queued"])

    async def test_it_may_not_wait_and_the_device_is_away(self) -> None:
        self.assertEqual((await self.refusal(body(expires=0)))["result"]["error"], "device-offline")

    async def test_too_many_wait(self) -> None:
        self.bed.core.commands.max_queued = 1
        await self.order(body())
        self.replies()
        self.assertEqual((await self.refusal(body()))["result"]["error"], "limit")

    async def test_the_device_is_gone(self) -> None:
        deleting = self.bed.registry.delete_device("d1")
        self.assertEqual(await self.order(body()), [p.PubAck(1)])
        await deleting
        # With the device went the right to hear of it.
        self.assertEqual((self.replies(), self.bed.core.commands.open), ([], 0))

    async def test_nobody_listens(self) -> None:
        self.watcher.lose()
        self.assertEqual(await self.order(b"nonsense"), [p.PubAck(1)])

    async def test_only_who_may_see_the_device_hears_of_it(self) -> None:
        await self.bed.registry.add_application({"kind": "mqtt", "id": "other", "secret": "s"})
        other = await self.bed.login("other", "s")
        other.subscribe("#")
        await self.order(b"nonsense")
        self.assertEqual(self.replies(other), [])


class NotKept(Case):
    async def setUp(self) -> None:  # type: ignore[override] # trial waits for it
        self.journal = FakeJournal()
        await super().setUp()

    async def test_the_acknowledgement_waits_for_the_journal(self) -> None:
        assert self.journal is not None
        self.journal.held = True
        self.assertEqual(await self.order(body()), [])
        self.assertEqual(self.replies(), [])
        self.journal.waiting.pop(0)()
        self.assertEqual(self.client.ask(), [p.PubAck(1)])

    async def test_storage_cannot_take_it(self) -> None:
        assert self.journal is not None
        self.journal.failure = Unavailable("the disk is full")
        self.assertEqual(await self.order(body(ref="again")), [])
        self.assertEqual(self.client.closed, "unavailable")
        (reply,) = self.replies()
        self.assertEqual((reply["result"]["error"], reply["ref"]), ("unavailable", "again"))

    async def test_storage_cannot_take_it_and_nobody_waits_for_an_answer(self) -> None:
        assert self.journal is not None
        self.journal.failure = Unavailable("the disk is full")
        self.assertEqual(await self.order(body(), 0), [])
        self.assertIsNone(self.client.closed)
        self.assertEqual([one["result"]["error"] for one in self.replies()], ["unavailable"])

    async def test_a_fault_of_ours(self) -> None:
        assert self.journal is not None
        self.journal.failure = ZeroDivisionError()
        self.assertEqual(await self.order(body()), [])
        self.assertEqual(self.client.closed, "unavailable")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertNotIn("division", json.dumps(self.replies()))
