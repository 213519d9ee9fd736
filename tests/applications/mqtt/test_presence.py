"""The retained presence that a subscriber gets."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import TestCase

from broker.applications.mqtt import presence as under_test
from broker.model.records import LiveState
from broker.mqtt import packets as p
from tests.applications.mqtt.bed import NOW, Bed
from tests.mqtt.fakes import Client


class Presence(TestCase):
    async def setUp(self) -> None:  # type: ignore[override] # trial waits for it
        self.bed = await Bed(self.mktemp(), anonymous=True).open("live", "stored", "never", "other")
        self.addCleanup(self.bed.storage.close)
        self.live, self.link = self.bed.device("live")
        await self.bed.storage.save_live([self.state("stored"), self.state("other")])
        self.client = await self.bed.login()

    def state(self, device: str) -> LiveState:
        return LiveState(
            device=device, online=False, reason="idle", presence_at=NOW - 9, last_seen=NOW - 9, values={}, unmapped={}
        )

    async def retained(self, topic_filter: str, client: Client | None = None) -> list[dict[str, Any]]:
        answer = await self.bed.ask(client or self.client, p.Subscribe(1, [(topic_filter, 1)]))
        found = [one for one in answer if isinstance(one, p.Publish)]
        self.assertIsInstance(answer[0], p.SubAck)
        self.assertTrue(all(one.retain for one in found))
        values = [json.loads(one.payload) for one in found]
        self.assertEqual([one.topic for one in found], [f"devices/{one['device']}/presence" for one in values])
        return values

    async def test_live(self) -> None:
        expected = {"device": "live", "protocol": "plain", "online": True, "reason": "connected", "at": NOW}
        self.assertEqual(await self.retained("devices/live/presence"), [expected])
        self.assertEqual(await self.retained("devices/live/#"), [expected])

    async def test_stored(self) -> None:
        await self.bed.registry.bind("app", "stored")
        expected = {"device": "stored", "protocol": "plain", "online": False, "reason": "idle", "at": NOW - 9}
        self.assertEqual(await self.retained("devices/stored/presence"), [expected])

    async def test_what_is_live_counts_more_than_what_is_stored(self) -> None:
        await self.bed.storage.save_live([self.state("live")])
        self.assertEqual([one["online"] for one in await self.retained("devices/+/presence")][:1], [True])
        self.bed.clock.advance(5)
        self.bed.core.devices.detach(self.live, self.link, "takeover")
        found = await self.retained("devices/live/presence", await self.bed.login(client_id="later"))
        self.assertEqual([(one["online"], one["reason"], one["at"]) for one in found], [(False, "takeover", NOW + 5)])

    async def test_never_seen_and_never_registered(self) -> None:
        await self.bed.registry.bind("app", "never")
        self.assertEqual(await self.retained("devices/never/presence"), [])
        anybody = await self.bed.login(None, None)
        self.assertEqual(await self.retained("devices/unknown/presence", anybody), [])

    async def test_other_topics(self) -> None:
        for topic_filter in ("devices/live/reply", "devices/+/up/#", "free/#"):
            self.assertEqual(await self.retained(topic_filter), [])

    async def test_a_wildcard_is_cut_to_what_may_be_seen(self) -> None:
        self.assertEqual([one["device"] for one in await self.retained("#")], ["live", "stored"])
        anybody = await self.bed.login(None, None)
        self.assertEqual([one["device"] for one in await self.retained("#", anybody)], ["live", "other", "stored"])

    async def test_page_by_page(self) -> None:
        self.patch(under_test, "PAGE", 2)
        fleet = [f"device-{number:02}" for number in range(7)]
        for device in fleet:
            await self.bed.registry.add_device({"protocol": "plain", "id": device})
        await self.bed.storage.save_live([self.state(device) for device in fleet])
        anybody = await self.bed.login(None, None)
        devices = [one["device"] for one in await self.retained("devices/+/presence", anybody)]
        self.assertEqual(devices, [*fleet, "live", "other", "stored"])

    async def test_lost_rights_while_storage_answers(self) -> None:
        self.client.send(p.Subscribe(1, [("devices/+/presence", 0)]))
        session = self.client.connection._session
        assert session is not None
        session.principal.rights.devices.discard("live")
        await self.bed.settle()
        topics = [one.topic for one in self.client.got() if isinstance(one, p.Publish)]
        self.assertNotIn("devices/live/presence", topics)

    async def test_storage_is_gone(self) -> None:
        await self.bed.storage.close()
        self.client.send(p.Subscribe(1, [("devices/+/presence", 0)]))
        self.assertEqual(self.client.closed, "unavailable")

    async def test_a_change_reaches_who_is_subscribed_without_retain(self) -> None:
        await self.retained("devices/+/presence")
        self.bed.core.devices.detach(self.live, self.link, "idle")
        self.bed.flush()
        (change,) = self.client.got()
        assert isinstance(change, p.Publish)
        self.assertEqual((change.topic, change.retain, change.qos), ("devices/live/presence", False, 1))
        self.assertEqual(json.loads(change.payload)["online"], False)
