"""Events, rules and sinks over HTTP, and presence as the API shows it."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from broker.events.settings import EventsTable, MailTable
from broker.events.sinks import Outcome, delivered, never
from broker.routing.values import LastValues
from tests.applications.http.site import SiteCase
from tests.events.receiver import SECRET, Answer, Receiver

ID = "0e7b7f40-57e6-4ae1-9c58-1ae5bb5e0b4c"


class Link:
    """A connection of a device."""

    peer = "192.0.2.7:40000"

    def close_link(self, reason: str) -> None:
        """Nothing is behind it."""


class EventCase(SiteCase):
    events_table = EventsTable(offline_after=5.0, debounce=0.0, restart_grace=0.0)
    mail_table = MailTable(host="mail.invalid", sender="broker@example.org")

    @property
    def side(self) -> Any:
        return self.core.event_side

    async def tick(self, seconds: float = 0.0) -> None:
        self.ahead += seconds
        self.side.tick()
        await self.side.watch.settled()
        await self.core.events.settled()

    async def emit(self, kind: str, device: str | None = None, **details: Any) -> None:
        self.core.events.emit(kind, device, details)
        await self.core.events.settled()

    async def listed(self, query: str = "", **options: Any) -> list[Any]:
        reply = await self.api("GET", f"/events{query}", **options)
        self.assertEqual(reply.status, 200, reply.body)
        items: list[Any] = reply.json["items"]
        return items


class ListTests(EventCase):
    async def test_the_newest_first(self) -> None:
        for number in range(5):
            await self.emit("backup_failed", f"g{number % 2}", n=number)
        await self.emit("storage_problem", problem="full")
        items = await self.listed()
        self.assertEqual([item["kind"] for item in items], ["storage_problem", *["backup_failed"] * 5])
        self.assertEqual(
            set(items[0]), {"id", "kind", "severity", "at", "device", "protocol", "details"}, "the shape of an event"
        )
        self.assertEqual((items[0]["severity"], items[0]["device"]), ("critical", None))
        self.assertEqual([item["details"]["n"] for item in await self.listed("?device=g1")], [3, 1])
        self.assertEqual(len(await self.listed("?kind=storage_problem&kind=backup_failed")), 6)
        self.assertEqual(len(await self.listed("?kind=storage_problem")), 1)
        self.assertEqual(await self.listed(f"?since={self.clock() + 1}"), [])

    async def test_pages(self) -> None:
        for number in range(5):
            await self.emit("backup_failed", None, n=number)
        seen, cursor = [], ""
        for _ in range(3):
            page = (await self.api("GET", f"/events?limit=2{cursor}")).json
            seen += [item["details"]["n"] for item in page["items"]]
            cursor = f"&cursor={page['next']}"
        self.assertEqual((seen, page["next"]), ([4, 3, 2, 1, 0], None))

    async def test_wrong_questions(self) -> None:
        self.assertProblem(await self.api("GET", "/events?kind=made_up"), 400, "invalid", "made_up")
        self.assertProblem(await self.api("GET", "/events?cursor=x"), 400, "invalid", "cursor")
        self.assertProblem(await self.api("GET", "/events", token=None), 401, "unauthenticated")

    async def test_an_application_sees_its_devices(self) -> None:
        mine, other = await self.device(), await self.device()
        token = await self.application("app", mine)
        await self.emit("backup_failed", mine)
        await self.emit("backup_failed", other)
        await self.emit("storage_problem")
        self.assertEqual([item["device"] for item in await self.listed(token=token)], [mine])
        reply = await self.api("GET", f"/events?device={other}", token=token)
        self.assertProblem(reply, 404, "not-found")
        for path in ("/sinks", "/event-rules"):
            self.assertProblem(await self.api("GET", path, token=token), 403, "forbidden")

    async def test_an_application_learns_of_no_other_device(self) -> None:
        gateway, mine, other = await self.device("gw"), await self.device(), await self.device()
        token = await self.application("app", gateway, mine)
        own, everything = await self.stream(token=token), await self.stream()
        await self.emit("gateway_offline", gateway, children={"known": 2, "offline": 2, "offline_ids": [mine, other]})
        for seen, ids in (
            ((await self.listed(token=token))[0], [mine]),
            (await own.next(), [mine]),
            ((await self.listed())[0], [mine, other]),
            (await everything.next(), [mine, other]),
        ):
            self.assertEqual(seen["details"]["children"], {"known": 2, "offline": 2, "offline_ids": ids})

    async def test_kinds(self) -> None:
        kinds = {item["kind"]: item for item in (await self.api("GET", "/event-kinds")).json["items"]}
        self.assertEqual(kinds["device_online"]["clears"], "device_offline")
        self.assertIn("campaign_stopped", kinds)


class StreamTests(EventCase):
    async def test_as_they_happen(self) -> None:
        mine, other = await self.device(), await self.device()
        token = await self.application("app", mine)
        everything, own = await self.stream(), await self.stream(token=token)
        asked, others = await self.stream("?kind=broker_event"), await self.stream("?kind=presence")
        await self.emit("backup_failed", other)
        await self.emit("backup_failed", mine, n=1)
        await self.emit("storage_problem")
        for socket, devices in ((everything, [other, mine, None]), (asked, [other, mine, None]), (own, [mine])):
            for device in devices:
                message = await socket.next()
                self.assertEqual((message["type"], message["device"]), ("event", device))
        self.core.devices.attach((await self.record(mine)).ref(), Link(), lambda: (LastValues(), {}))  # type: ignore[arg-type]
        self.assertEqual((await others.next())["type"], "presence")
        self.assertEqual((await own.next())["type"], "presence")

    async def record(self, id: str) -> Any:
        return await self.core.registry.get_device(id)


class PresenceTests(EventCase):
    async def presence(self) -> Any:
        return (await self.api("GET", f"/devices/{ID}")).json["presence"]

    async def test_what_is_kept_apart(self) -> None:
        await self.device(ID)
        record = await self.core.registry.get_device(ID)
        link: Any = Link()
        live = self.core.devices.attach(record.ref(), link, lambda: (LastValues(), {}))
        live.last_seen, live.last_heartbeat = live.since + 10, live.since + 5
        shown = await self.presence()
        self.assertEqual(
            shown,
            {
                "connected": True,
                "connected_at": round(live.since, 3),
                "disconnected_at": None,
                "reason": "connected",
                "peer": "192.0.2.7:40000",
                "last_frame": round(live.since + 10, 3),
                "last_heartbeat": round(live.since + 5, 3),
                "flaps": 0,
                "state": "online",
            },
        )
        live.late = True
        self.assertEqual((await self.presence())["state"], "late")
        self.core.devices.detach(live, link, "idle")
        shown = await self.presence()
        self.assertEqual((shown["connected"], shown["state"], shown["flaps"]), (False, "away", 1))
        self.assertEqual((shown["reason"], shown["peer"], shown["disconnected_at"]), ("idle", "", round(live.since, 3)))
        await self.tick(6)
        self.assertEqual((await self.presence())["state"], "offline")
        (event,) = await self.listed()
        self.assertEqual((event["kind"], event["device"], event["protocol"]), ("device_offline", ID, "novacloud"))

    async def test_children(self) -> None:
        gateway = await self.device("gw")
        made = await self.made("/devices", {"protocol": "novacloud", "id": "c1", "parent": gateway})
        self.assertEqual(made["parent"], "gw")
        await self.device("c2")
        changed = await self.api("PATCH", "/devices/c2", {"parent": "aa:bb:cc:dd:ee:ff"})
        self.assertEqual(changed.json["parent"], "AABBCCDDEEFF")
        found = (await self.api("GET", "/devices?parent=gw")).json["items"]
        self.assertEqual([item["id"] for item in found], ["c1"])
        self.assertIsNone((await self.api("PATCH", "/devices/c1", {"parent": None})).json["parent"])
        self.assertEqual((await self.api("GET", "/devices?parent=gw")).json["items"], [])
        self.assertProblem(await self.api("PATCH", "/devices/c1", {"parent": "c1"}), 400, "invalid", "own parent")
        self.assertProblem(await self.api("PATCH", "/devices/c1", {"parent": "a b"}), 400, "invalid")


class RuleTests(EventCase):
    async def test_a_life(self) -> None:
        sink = (await self.made("/sinks", {"kind": "webhook", "url": "http://x.invalid/"}))["id"]
        wish = {
            "name": "pumps",
            "kinds": ["device_offline", "device_online"],
            "devices": {"protocols": ["novacloud"], "q": "pump"},
            "offline_after": 300,
            "sinks": [sink],
            "rate_limit": {"events": 10, "seconds": 60},
        }
        made = await self.made("/event-rules", wish)
        for name, value in wish.items():
            if name != "devices":
                self.assertEqual(made[name], value, name)
        self.assertEqual(made["devices"]["protocols"], ["novacloud"])
        self.assertIsNone(made["flap_count"])
        path = f"/event-rules/{made['id']}"
        changed = await self.api("PATCH", path, {"offline_after": None, "enabled": False})
        self.assertEqual((changed.json["offline_after"], changed.json["enabled"]), (None, False))
        self.assertEqual(changed.json["kinds"], wish["kinds"])
        self.assertEqual((await self.api("GET", path)).json, changed.json)
        self.assertEqual((await self.api("GET", "/event-rules")).json["items"], [changed.json])
        self.assertProblem(await self.api("DELETE", f"/sinks/{sink}"), 409, "conflict", made["id"])
        self.assertEqual((await self.api("DELETE", path)).status, 204)
        self.assertProblem(await self.api("GET", path), 404, "not-found")
        self.assertProblem(await self.api("PATCH", path, {}), 404, "not-found")

    async def test_wrong_ones(self) -> None:
        for wish, word in (
            ({"kinds": ["made_up"]}, "made_up"),
            ({"sinks": ["nobody"]}, "nobody"),
            ({"offline_after": 0}, "offline_after"),
            ({"offline_after": 1e99}, "offline_after"),
            ({"flap_count": 1}, "flap_count"),
            ({"devices": {"colour": "red"}}, "colour"),
            ({"rate_limit": {"events": 0, "seconds": 1}}, "events"),
            ({"colour": "red"}, "colour"),
        ):
            self.assertProblem(await self.api("POST", "/event-rules", wish), 400, "invalid", word)
        self.assertEqual((await self.api("GET", "/event-rules")).json["items"], [])


class SinkTests(EventCase):
    def receiver(self, answer: Answer | None = None) -> Receiver:
        receiver = Receiver(lambda request: answer or Answer())
        self.addCleanup(deferToThread, receiver.stop)
        return receiver

    async def hook(self, receiver: Receiver, **fields: Any) -> str:
        made = await self.made("/sinks", {"kind": "webhook", "url": receiver.url, "secret": SECRET, **fields})
        return str(made["id"])

    async def test_a_webhooks_life(self) -> None:
        made = await self.made(
            "/sinks", {"kind": "webhook", "url": "https://x.invalid/a", "headers": {"Authorization": "Bearer hush"}}
        )
        secret = made.pop("secret")
        self.assertGreater(len(secret), 20)
        self.assertEqual(made["headers"], ["Authorization"])
        path = f"/sinks/{made['id']}"
        shown = await self.api("GET", path)
        self.assertEqual(shown.json, made)
        changed = await self.api("PATCH", path, {"name": "ops", "secret": None})
        self.assertNotIn(changed.json["secret"], (secret, None))
        given = await self.api("PATCH", path, {"secret": "one of my own"})
        for reply in (shown, given, await self.api("GET", "/sinks")):
            self.assertNotIn(b"hush", reply.body)
            self.assertNotIn(b"my own", reply.body)
            self.assertNotIn("secret", reply.json)
        self.assertEqual((await self.api("DELETE", path)).status, 204)
        self.assertProblem(await self.api("GET", path), 404, "not-found")

    async def test_an_emails_life(self) -> None:
        made = await self.made("/sinks", {"kind": "email", "to": ["a@example.org"], "from": "Broker <b@example.org>"})
        self.assertEqual((made["to"], made["from"]), (["a@example.org"], "Broker <b@example.org>"))
        self.assertNotIn("url", made)
        changed = await self.api("PATCH", f"/sinks/{made['id']}", {"subject": "$count: $kind"})
        self.assertEqual(changed.json["subject"], "$count: $kind")

    async def test_wrong_ones(self) -> None:
        hook, mail = {"kind": "webhook", "url": "http://x.invalid/"}, {"kind": "email", "to": ["a@b.c"]}
        for wish, word in (
            ({"kind": "pigeon"}, "kind"),
            ({"kind": "webhook"}, "url"),
            ({**hook, "url": "ftp://x.invalid/"}, "url"),
            ({**hook, "url": "http://"}, "url"),
            ({**hook, "url": "http://x.invalid/\r\nHost: y"}, "url"),
            ({**hook, "url": "http://me:secret@x.invalid/"}, "headers"),
            ({**hook, "url": "http://x.invalid:99999/"}, "url"),
            ({**hook, "headers": {"Host": "y"}}, "Host"),
            ({**hook, "headers": {"A b": "y"}}, "A b"),
            ({**hook, "headers": {"A": "y\r\nB: z"}}, "printable"),
            ({**hook, "to": ["a@b.c"]}, "email"),
            ({**hook, "batch": 0}, "batch"),
            ({**hook, "secret": "short"}, "secret"),
            ({**mail, "to": []}, "to"),
            ({**mail, "to": ["a@b.c>\r\nRCPT TO:<d@e.f"]}, "to"),
            ({**mail, "to": ["nobody"]}, "to"),
            ({**mail, "from": "a@b.c\r\nBcc: d@e.f"}, "from"),
            ({**mail, "subject": "100 $"}, "subject"),
            ({**mail, "subject": "a\nb"}, "subject"),
            ({**mail, "url": "http://x.invalid/"}, "webhook"),
        ):
            self.assertProblem(await self.api("POST", "/sinks", wish), 400, "invalid", word)
        self.assertEqual((await self.api("GET", "/sinks")).json["items"], [])
        made = await self.made("/sinks", hook)
        self.assertProblem(await self.api("PATCH", f"/sinks/{made['id']}", {"url": "x"}), 400, "invalid", "url")

    async def test_a_test_event(self) -> None:
        receiver = self.receiver()
        id = await self.hook(receiver)
        reply = await self.api("POST", f"/sinks/{id}/test")
        self.assertEqual((reply.json["delivered"], reply.json["status"]), (True, 200))
        ((event,),) = [request.body["events"] for request in receiver.requests]
        self.assertEqual((event["kind"], event["details"]["sink"]), ("sink_test", id))
        self.assertEqual(await self.listed(), [])
        bad = await self.hook(self.receiver(Answer(500, b"no room")))
        reply = await self.api("POST", f"/sinks/{bad}/test")
        self.assertEqual((reply.json["delivered"], reply.json["detail"]), (False, "answered 500: no room"))

    async def test_what_a_rule_sends(self) -> None:
        receiver = self.receiver()
        id = await self.hook(receiver)
        await self.made("/event-rules", {"sinks": [id], "kinds": ["backup_failed"]})
        await self.emit("backup_failed", "g1", why="no answer")
        await self.emit("campaign_finished")
        await self.until(lambda: self.side.couriers[id].delivered == 1)
        ((event,),) = [request.body["events"] for request in receiver.requests]
        self.assertEqual(event, (await self.listed("?kind=backup_failed"))[0])
        self.assertEqual((await self.api("GET", f"/sinks/{id}")).json["delivered"], 1)

    async def test_trouble_and_dead_letters(self) -> None:
        outcomes: list[Outcome | Deferred[Outcome]] = [never("answered 410: gone", 410) for _ in range(3)]

        async def deliver(sink: Any, events: Any) -> Outcome:
            given = outcomes.pop(0) if outcomes else delivered(200)
            return await given if isinstance(given, Deferred) else given

        id = await self.hook(self.receiver())
        self.side.couriers[id]._deliver = deliver
        await self.made("/event-rules", {"sinks": [id]})
        for number in range(3):
            await self.emit("backup_failed", None, n=number)
        await self.until(lambda: self.side.couriers[id].dead == 3)
        shown = (await self.api("GET", f"/sinks/{id}")).json
        self.assertEqual((shown["dead_letters"], shown["trouble"]["status"]), (3, 410))
        page = (await self.api("GET", f"/sinks/{id}/dead-letters?limit=2")).json
        rest = (await self.api("GET", f"/sinks/{id}/dead-letters?cursor={page['next']}")).json
        letters = page["items"] + rest["items"]
        self.assertEqual([one["event"]["details"]["n"] for one in letters], [0, 1, 2])
        self.assertEqual((letters[0]["reason"], letters[0]["attempts"]), ("answered 410: gone", 1))
        first, second, third = (one["event"]["id"] for one in letters)
        reply = await self.api("POST", f"/sinks/{id}/dead-letters/retry", {"events": [second]})
        self.assertEqual(reply.json, {"count": 1})
        reply = await self.api("DELETE", f"/sinks/{id}/dead-letters?event={first}")
        self.assertEqual(reply.json, {"count": 1})
        reply = await self.api("POST", f"/sinks/{id}/dead-letters/retry", {"events": [first]})
        self.assertProblem(reply, 404, "not-found")
        self.assertEqual((await self.api("POST", f"/sinks/{id}/dead-letters/retry")).json, {"count": 1})
        await self.until(lambda: self.side.couriers[id].delivered == 2)
        self.assertEqual((await self.api("GET", f"/sinks/{id}/dead-letters")).json["items"], [])
        self.assertIsNone((await self.api("GET", f"/sinks/{id}")).json["trouble"])
        self.assertNotEqual(third, second)


class NoMailTests(EventCase):
    mail_table = MailTable()

    async def test_without_a_server_there_is_no_email(self) -> None:
        reply = await self.api("POST", "/sinks", {"kind": "email", "to": ["a@example.org"]})
        self.assertProblem(reply, 400, "invalid", "[mail] host")
