"""Commands over HTTP: ordered, waited for, looked at, cancelled."""

import time
from typing import Any

import msgspec
from twisted.internet.defer import ensureDeferred

from broker.model.messages import SUCCEEDED, Command, Reply
from broker.routing.values import LastValues
from tests.applications.http.site import SiteCase
from tests.routing.fakes import FakeLink

RELAY = {"payload": {"relay": True}}


class CommandTests(SiteCase):
    async def online(self, device: str, answer: Any = None, window: int = 1) -> FakeLink:
        """Put a device online; it answers each command with ``answer``, or with nothing."""
        link = FakeLink(window)
        record = await self.core.registry.get_device(device)
        live = self.core.devices.attach(record.ref(), link, lambda: (LastValues(), {}))

        def answered(command: Command) -> None:
            if answer is not None:
                reply = Reply(command.id, SUCCEEDED, answer, self.clock())
                self.core.reactor.callLater(0, self.core.commands.reply, device, reply)

        link.on_send = answered
        self.core.commands.ready(live)
        return link

    async def ordered(self, device: str, value: Any = RELAY, query: str = "") -> Any:
        reply = await self.api("POST", f"/devices/{device}/commands{query}", value)
        self.assertEqual(reply.status, 202, reply.body)
        return reply.json

    async def test_order(self) -> None:
        device = await self.device()
        taken = await self.ordered(device, {**RELAY, "ref": "r1", "expires": 60})
        self.assertEqual(taken, {"id": taken["id"], "status": "queued"})
        shown = (await self.api("GET", f"/commands/{taken['id']}")).json
        created = shown["created_at"]
        self.assertLess(abs(created - time.time()), 10)
        self.assertEqual(created, round(created, 3))
        self.assertEqual(
            shown,
            {
                "id": taken["id"],
                "ref": "r1",
                "device": device,
                "status": "queued",
                "payload": {"relay": True},
                "result": None,
                "created_at": created,
                "updated_at": created,
                "expires_at": round(created + 60, 3),
                "late": [],
            },
        )
        self.assertEqual((await self.api("GET", f"/devices/{device}/commands")).json, {"items": [shown], "next": None})

    async def test_bytes(self) -> None:
        taken = await self.ordered(await self.device(), {"payload_base64": "AAEC", "port": 5, "confirm": True})
        command = self.core.commands.get(taken["id"])
        assert command is not None
        self.assertEqual((command.payload, command.options), (b"\x00\x01\x02", {"port": 5, "confirm": True}))
        self.assertEqual((await self.api("GET", f"/commands/{taken['id']}")).json["payload_base64"], "AAEC")

    async def test_one_payload(self) -> None:
        device = await self.device()
        for body in ({}, {"payload": {}, "payload_base64": ""}, {"payload_base64": "!"}, {"payload_base64": "AAA"}):
            self.assertProblem(await self.api("POST", f"/devices/{device}/commands", body), 400, "invalid", "payload")

    async def test_wait_for_the_answer(self) -> None:
        device = await self.device()
        await self.online(device, answer={"done": 1})
        reply = await self.api("POST", f"/devices/{device}/commands?wait=5", RELAY)
        self.assertEqual((reply.status, reply.json["status"], reply.json["result"]), (200, "succeeded", {"done": 1}))
        self.assertEqual(self.core.commands._waiters, {})

    async def test_wait_in_vain(self) -> None:
        device = await self.device()
        await self.online(device)
        reply = await self.api("POST", f"/devices/{device}/commands?wait=0.05", RELAY)
        self.assertEqual((reply.status, reply.json["status"]), (202, "sent"))
        self.assertEqual(self.core.commands._waiters, {})

    async def test_wait_for_longer_than_allowed(self) -> None:
        device = await self.device()
        await self.online(device)
        self.patch(self.listener.api, "settings", msgspec.structs.replace(self.listener.api.settings, max_wait=0.05))
        reply = await self.api("POST", f"/devices/{device}/commands?wait=3600", RELAY)
        self.assertEqual((reply.status, reply.json["status"]), (202, "sent"))

    async def test_wait_not_at_all(self) -> None:
        reply = await self.api("POST", f"/devices/{await self.device()}/commands?wait=0", RELAY)
        self.assertEqual((reply.status, reply.json["status"]), (202, "queued"))

    async def test_the_client_goes_away(self) -> None:
        device = await self.device()
        client = await self.connect()
        body = b'{"payload":{"relay":true}}'
        client.write(
            b"POST /api/v1/devices/%b/commands?wait=30 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (device.encode(), TOKEN, len(body), body)
        )
        await self.until(lambda: self.core.commands._waiters)
        client.transport.abortConnection()  # type: ignore[union-attr]
        await self.until(lambda: not self.core.commands._waiters)
        self.assertEqual(self.core.commands.queued(device), 1)

    async def test_the_broker_stops(self) -> None:
        device = await self.device()
        waiting = ensureDeferred(self.api("POST", f"/devices/{device}/commands?wait=30", RELAY))
        await self.until(lambda: self.core.commands._waiters)
        self.listener.shut_down()
        reply = await waiting
        self.assertEqual((reply.status, reply.json["status"]), (202, "queued"))

    async def test_unknown_keys(self) -> None:
        product = {"key": "p", "protocol": "novacloud", "actuators": [{"command_key": "relay"}]}
        await self.made("/products", product)
        device = await self.device(product="p")
        await self.ordered(device)
        unknown = {"payload": {"relay": 1, "colour": "red"}}
        self.assertProblem(await self.api("POST", f"/devices/{device}/commands", unknown), 400, "invalid", "colour")
        await self.ordered(device, {**unknown, "force": True})

    async def test_refused(self) -> None:
        device = await self.device()
        reply = await self.api("POST", f"/devices/{device}/commands", {**RELAY, "expires": 0})
        self.assertProblem(reply, 409, "device-offline")
        self.assertProblem(await self.api("POST", "/devices/nothing/commands", RELAY), 404, "not-found")
        self.core.commands.max_queued = 1
        await self.ordered(device)
        reply = await self.api("POST", f"/devices/{device}/commands", RELAY)
        problem = self.assertProblem(reply, 429, "limit")
        self.assertEqual(problem["details"], {"limit": "commands.max_queued"})
        self.assertEqual(reply.header("retry-after"), "5")

    async def test_cancel(self) -> None:
        device = await self.device()
        taken = await self.ordered(device)
        reply = await self.api("DELETE", f"/commands/{taken['id']}")
        self.assertEqual((reply.status, reply.json["status"]), (200, "cancelled"))
        self.assertEqual((await self.api("GET", f"/commands/{taken['id']}")).json, reply.json)
        self.assertProblem(await self.api("DELETE", f"/commands/{taken['id']}"), 409, "conflict", "cancelled")
        self.assertProblem(await self.api("DELETE", "/commands/nothing"), 404, "not-found")

    async def test_cancel_what_was_sent(self) -> None:
        device = await self.device()
        await self.online(device)
        taken = await self.ordered(device)
        self.assertProblem(await self.api("DELETE", f"/commands/{taken['id']}"), 409, "conflict", "sent")

    async def test_pages(self) -> None:
        device = await self.device()
        ids = []
        for number in range(5):
            self.ahead = number
            ids.append((await self.ordered(device))["id"])
        page = (await self.api("GET", f"/devices/{device}/commands?limit=3")).json
        rest = (await self.api("GET", f"/devices/{device}/commands?limit=3&cursor={page['next']}")).json
        self.assertEqual([one["id"] for one in page["items"] + rest["items"]], ids[::-1])
        self.assertIs(rest["next"], None)

    async def test_applications(self) -> None:
        mine, other = await self.device(), await self.device()
        token = await self.application("app", mine)
        reply = await self.api("POST", f"/devices/{mine}/commands", RELAY, token=token)
        own = reply.json["id"]
        command = self.core.commands.get(own)
        assert command is not None
        self.assertEqual(command.origin, "application:app")
        administrators = (await self.ordered(mine))["id"]
        hidden = (await self.ordered(other))["id"]
        self.assertEqual((await self.api("GET", f"/commands/{administrators}", token=token)).status, 200)
        self.assertProblem(await self.api("GET", f"/commands/{hidden}", token=token), 404, "not-found")
        self.assertProblem(await self.api("DELETE", f"/commands/{hidden}", token=token), 404, "not-found")
        self.assertProblem(await self.api("DELETE", f"/commands/{administrators}", token=token), 403, "forbidden")
        self.assertEqual((await self.api("DELETE", f"/commands/{own}", token=token)).status, 200)


TOKEN = b"admin-token-of-the-tests"
