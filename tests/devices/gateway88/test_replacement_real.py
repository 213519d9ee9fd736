"""A gateway is replaced while its applications are connected, through the real process: they do nothing and go on."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.threads import deferToThread

from broker.mqtt.client import MqttClient
from broker.simulate.gateway88.gateway import SimulatedGateway
from tests.applications.loracenter.bed import CS_EUI
from tests.applications.loracenter.socket_customer import SocketCustomer, add_customer
from tests.devices.gateway88.real import RealCase

reactor: Any = global_reactor
ALIAS = "FF000000000000AA"
FINAL = ("succeeded", "failed", "timed_out", "expired")


class ReplacementTests(RealCase):
    async def quarantined(self, mac: str) -> bool:
        return mac in [entry["id"] for entry in (await self.call(200, "GET", "/quarantine"))["items"]]

    async def until_quarantined(self, mac: str) -> None:
        """It is there when the broker has looked the gateway up."""
        for _ in range(2_000):
            if await self.quarantined(mac):
                return
        self.fail(f"{mac} is not in quarantine")

    async def backed_up(self, gateway: SimulatedGateway) -> str:
        taken = await self.call(202, "POST", f"/gateways/{gateway.id}/backup", {})
        command = await self.command(taken["id"], *FINAL)
        self.assertEqual(command["status"], "succeeded", command)
        return str(command["result"]["backup"])

    async def app(self, device: str) -> tuple[MqttClient, list[tuple[str, Any]]]:
        """An MQTT application that is bound to the device, and what it hears."""
        secret = (await self.call(201, "POST", "/applications", {"id": "app", "kind": "mqtt"}))["secret"]
        await self.call(204, "PUT", f"/applications/app/devices/{device}")
        heard: list[tuple[str, Any]] = []
        client = MqttClient(
            reactor,
            TCP4ClientEndpoint(reactor, "127.0.0.1", self.broker.ports["mqtt"]),
            user="app",
            password=secret,
            on_message=lambda message: heard.append((message.topic, json.loads(message.payload))),
        )
        self.addCleanup(client.stop)
        client.start()
        granted: Deferred[int] = client.subscribe(f"devices/{device}/#")
        await granted
        return client, heard

    def succeeded(self, heard: list[tuple[str, Any]], ref: str) -> bool:
        return any(
            topic.endswith("/reply") and said["ref"] == ref and said["status"] == "succeeded" for topic, said in heard
        )

    async def test_applications_do_nothing(self) -> None:
        old = await self.known(0)
        device = old.id
        await self.call(200, "PATCH", f"/devices/{device}", {"name": "hall", "dev_eui": ALIAS})
        backup = await self.backed_up(old)
        client, heard = await self.app(device)
        await deferToThread(add_customer, self.broker, device)
        customer = await deferToThread(SocketCustomer, self.broker.ports["loracenter"])
        self.addCleanup(customer.close)

        new = self.gateway(1)
        new.start()
        await self.until_quarantined(new.id)
        asked: dict[str, Any] = {"by": new.id}
        refusal = await self.call(409, "POST", f"/gateways/{device}/replacement", asked)
        self.assertIn(backup, refusal["detail"])
        preview = await self.call(200, "GET", f"/gateways/{device}/replacement/preview?by={new.id}")
        self.assertEqual(refusal["detail"], f"{preview['text']}. confirm: true does it")
        await self.call(404, "GET", f"/gateways/{device}/replacement")
        taken = await self.call(202, "POST", f"/gateways/{device}/replacement", {**asked, "confirm": True})
        self.assertEqual(taken["replacement"]["by"], new.id)
        command = await self.command(taken["id"], *FINAL)
        self.assertEqual((command["status"], command["device"]), ("succeeded", device), command)
        await self.until(lambda: new.data == old.data, "it has the backup")
        await self.until_quarantined(old.id)
        self.assertFalse(await self.quarantined(new.id))

        # The same topics, the same bindings, the same alias; another gateway.
        before = new.counts.commands, old.counts.commands
        await client.publish(f"devices/{device}/command", b'{"payload":{"light":"on"},"ref":"7"}', 1)
        await self.until(lambda: self.succeeded(heard, "7"), "the application has its answer")
        self.assertEqual((new.counts.commands, old.counts.commands), (before[0] + 1, before[1]))
        fields = {"CsEUI": CS_EUI, "DevEUI": ALIAS, "payload": "e30=", "Port": 1}
        await deferToThread(customer.ask, "SENDTO", **fields)
        await deferToThread(customer.until, "SENDTO", 2)
        self.assertEqual(new.counts.commands, before[0] + 2)
        shown = await self.call(200, "GET", f"/devices/{device}")
        self.assertEqual((shown["name"], shown["online"], shown["applications"]), ("hall", True, ["app", "customer"]))

        # Its operations go under either name, and its backups are the device's.
        self.assertNotEqual(await self.backed_up(new), backup)
        listed = await self.call(200, "GET", f"/gateways/{device}/backups")
        self.assertEqual(len(listed["items"]), 2)

        await self.kill_and_start()
        await self.until(lambda: new.online, "it is back")
        shown = await self.call(200, "GET", f"/gateways/{device}/replacement")
        self.assertEqual((shown["by"], shown["before"], shown["backup"]), (new.id, [device], backup))
        await self.call(409, "POST", f"/quarantine/{old.id}/approve", {})

        await self.call(204, "DELETE", f"/gateways/{device}/replacement")
        await self.until_quarantined(new.id)
        asked = {"cmd": {"light": "off"}}
        taken = await self.call(202, "POST", f"/gateways/{device}/remote_control", asked)
        command = await self.command(taken["id"], *FINAL)
        self.assertEqual((command["status"], old.counts.commands), ("succeeded", before[1] + 1))

    async def test_a_gateway_that_is_not_there_yet_has_its_backup_when_it_comes(self) -> None:
        old = await self.known(0)
        await self.backed_up(old)
        await old.stop()
        new = self.gateway(1)
        asked = {"by": new.id, "confirm": True}
        taken = await self.call(202, "POST", f"/gateways/{old.id}/replacement", asked)
        self.assertEqual(taken["status"], "queued")
        await self.kill_and_start()
        new.start()
        command = await self.command(taken["id"], *FINAL)
        self.assertEqual((command["status"], new.data), ("succeeded", old.data), command)

    async def test_one_with_a_registration_of_its_own(self) -> None:
        old, new = await self.known(0), await self.known(1)
        asked = {"by": new.id, "backup": None}
        refusal = await self.call(409, "POST", f"/gateways/{old.id}/replacement", asked)
        self.assertIn("rest meanwhile", refusal["detail"])
        taken = await self.call(202, "POST", f"/gateways/{old.id}/replacement", {**asked, "confirm": True})
        self.assertEqual((taken["id"], taken["status"]), (None, "none"))
        taken = await self.call(202, "POST", f"/gateways/{old.id}/remote_control", {"cmd": {"a": 1}})
        self.assertEqual((await self.command(taken["id"], *FINAL))["status"], "succeeded")
        self.assertEqual((old.counts.commands, new.counts.commands), (0, 1))
        rests = await self.call(200, "GET", f"/devices/{new.id}")
        self.assertEqual((rests["online"], rests["presence"]["reason"]), (False, "resting"))
        third = await self.known(2)
        refusal = await self.call(409, "POST", f"/gateways/{third.id}/replacement", {"by": new.id, "confirm": True})
        self.assertIn(f"stands in for {old.id}", refusal["detail"])
        await self.call(204, "DELETE", f"/gateways/{old.id}/replacement")
        taken = await self.call(202, "POST", f"/gateways/{new.id}/remote_control", {"cmd": {"a": 1}})
        self.assertEqual((await self.command(taken["id"], *FINAL))["status"], "succeeded")
        self.assertEqual((old.counts.commands, new.counts.commands), (0, 2))

    async def test_a_refused_certificate_replaces_nothing(self) -> None:
        old = await self.known(0)
        asked = {"by": self.gateway(1).id, "backup": None, "certificate": "sha256:zz", "confirm": True}
        await self.call(400, "POST", f"/gateways/{old.id}/replacement", asked)
        await self.call(404, "GET", f"/gateways/{old.id}/replacement")
        self.assertNotIn("certificate", await self.call(200, "GET", f"/devices/{old.id}"))
        await self.call(202, "POST", f"/gateways/{old.id}/replacement", {**asked, "certificate": "hall"})
        self.assertEqual((await self.call(200, "GET", f"/devices/{old.id}"))["certificate"], "hall")
        await self.call(204, "DELETE", f"/gateways/{old.id}/replacement")
        self.assertNotIn("certificate", await self.call(200, "GET", f"/devices/{old.id}"))

    async def test_an_update_of_the_gateway_before_is_not_the_one_of_the_next(self) -> None:
        """It has said that it will; the next one, of that version already, has never heard of it."""
        status, answer = await deferToThread(self.broker.call, "PUT", "/files/relay.bin", b"an image")
        self.assertIn(status, (200, 201), answer)
        old = await self.known(0, update="idles")
        new = self.gateway(1)
        new.version = "2.4"
        plan = {
            "protocol": "gateway88",
            "image": "relay.bin",
            "version": "2.4",
            "targets": {"devices": [old.id]},
        }
        campaign = (await self.call(201, "POST", "/campaigns", plan))["id"]
        await self.call(200, "POST", f"/campaigns/{campaign}/start")
        await self.until(lambda: old.counts.updates == 1, "it has its order")
        line = f"/campaigns/{campaign}/lines/{old.id}"
        while (await self.call(200, "GET", line))["state"] != "accepted":
            pass
        asked = {"by": new.id, "backup": None, "confirm": True}
        await self.call(202, "POST", f"/gateways/{old.id}/replacement", asked)
        new.start()
        await self.until(lambda: new.online, "the new one is there")
        shown = await self.call(200, "GET", line)
        self.assertEqual(
            (shown["state"], shown["reason"]), ("failed", f"the gateway {old.id} was replaced by {new.id}")
        )
        listed = await self.call(200, "GET", f"/devices/{old.id}/commands")
        self.assertEqual([one["status"] for one in listed["items"]], ["failed"])

    async def test_the_way_back_before_the_new_one_was_mounted(self) -> None:
        old = await self.known(0)
        await self.backed_up(old)
        await old.stop()
        taken = await self.call(202, "POST", f"/gateways/{old.id}/replacement", {"by": "02AABBCCDDEE", "confirm": True})
        await self.call(204, "DELETE", f"/gateways/{old.id}/replacement")
        old.start()
        asked = await self.call(202, "POST", f"/gateways/{old.id}/remote_control", {"cmd": {"a": 1}})
        self.assertEqual((await self.command(asked["id"], *FINAL))["status"], "succeeded")
        self.assertEqual((await self.call(200, "GET", f"/commands/{taken['id']}"))["status"], "cancelled")
