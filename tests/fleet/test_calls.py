"""The calls of campaigns over HTTP, on SQLite; their place in the OpenAPI document and in the stream."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

from openapi_spec_validator import validate

from broker.fleet.calls import CAMPAIGNS, Calls
from broker.fleet.settings import CampaignSettings
from broker.fleet.side import CampaignSide
from broker.routing.values import LastValues
from tests.applications.http.site import AnyId, SiteCase, reactor
from tests.fleet.bed import NEW, FakeUpdater, Link

PLAN = {"protocol": "made", "image": "image", "version": NEW, "targets": {"filter": {}}}


class CampaignCallTests(SiteCase):
    async def _start(self) -> None:
        await super()._start()
        self.core.registry.protocols["made"] = AnyId()
        self.updater = FakeUpdater()
        self.updater.bed = SimpleNamespace(at_work={}, clock=reactor)
        self.core.updaters["made"] = self.updater
        side = self.side = CampaignSide(self.core, CampaignSettings())
        self.core.api_routes.extend(Calls(side).routes())
        await side.open()
        self.campaigns = side.campaigns

    async def fleet(self, count: int, **fields: Any) -> list[str]:
        """Devices that are online, and do nothing with an order that they are given."""
        ids = [f"D{number:03}" for number in range(count)]
        for id in ids:
            await self.device(id, protocol="made", **fields)
            record = await self.core.registry.get_device(id)
            self.core.devices.attach(record.ref(), Link(), lambda: (LastValues(), {"version": "1.0"}))
            self.updater.behaviour[id] = "stuck"
        return ids

    async def begun(self, **plan: Any) -> str:
        """A campaign that is started and has its lines."""
        made = await self.made("/campaigns", {**PLAN, **plan})
        self.assertEqual((made["state"], made["total"]), ("draft", 0))
        reply = await self.api("POST", f"/campaigns/{made['id']}/start")
        self.assertEqual((reply.status, reply.json["state"]), (200, "running"))
        self.campaigns.tick()
        await self.until(lambda: self.campaigns.get(made["id"]).prepared)
        return str(made["id"])

    async def test_the_life_of_a_campaign(self) -> None:
        await self.fleet(5)
        id = await self.begun(name="spring", pace={"concurrency": 2}, backup=True)
        self.campaigns.tick()
        await self.until(lambda: len(self.updater.given) == 2)
        shown = (await self.api("GET", f"/campaigns/{id}")).json
        self.assertEqual((shown["counts"]["queued"], shown["counts"]["waiting"], shown["total"]), (2, 3, 5))
        self.assertEqual((shown["name"], shown["version"], shown["backup"]), ("spring", NEW, True))
        paused = await self.api("POST", f"/campaigns/{id}/pause")
        self.assertEqual((paused.status, paused.json["state"]), (200, "paused"))
        self.assertProblem(await self.api("POST", f"/campaigns/{id}/pause"), 409, "conflict")
        self.assertProblem(await self.api("DELETE", f"/campaigns/{id}"), 409, "conflict")
        changed = await self.api("PATCH", f"/campaigns/{id}", {"pace": {"concurrency": 3}, "name": "summer"})
        self.assertEqual((changed.json["pace"]["concurrency"], changed.json["name"]), (3, "summer"))
        self.assertProblem(await self.api("PATCH", f"/campaigns/{id}", {"backup": False}), 409, "conflict")
        self.assertEqual((await self.api("POST", f"/campaigns/{id}/resume")).json["state"], "running")
        cancelled = await self.api("POST", f"/campaigns/{id}/cancel")
        self.assertEqual(cancelled.json["state"], "cancelled")

        def over() -> bool:
            self.campaigns.tick()
            return self.campaigns.get(id).closed

        await self.until(over)
        shown = (await self.api("GET", f"/campaigns/{id}")).json
        self.assertEqual((shown["counts"]["skipped"], shown["closed"]), (5, True))
        self.assertProblem(await self.api("POST", f"/campaigns/{id}/retry"), 409, "conflict")
        self.assertEqual((await self.api("DELETE", f"/campaigns/{id}")).status, 204)
        self.assertProblem(await self.api("GET", f"/campaigns/{id}"), 404, "not-found")
        self.assertEqual((await self.api("GET", "/campaigns")).json, {"items": [], "next": None})

    async def test_lines_page_by_page_and_by_state(self) -> None:
        ids = await self.fleet(7)
        id = await self.begun(targets={"devices": [*ids, "nobody"]}, pace={"concurrency": 3})
        self.campaigns.tick()
        await self.until(lambda: len(self.updater.given) == 3)
        pages, cursor = [], ""
        while True:
            page = (await self.api("GET", f"/campaigns/{id}/lines?limit=3{cursor}")).json
            pages.append([line["device"] for line in page["items"]])
            if page["next"] is None:
                break
            cursor = f"&cursor={quote(page['next'])}"
        self.assertEqual(pages, [ids[:3], ids[3:6], [ids[6], "nobody"]])
        queued = (await self.api("GET", f"/campaigns/{id}/lines?state=queued&limit=2")).json
        self.assertEqual(([line["device"] for line in queued["items"]], queued["next"]), (ids[:2], ids[1]))
        skipped = (await self.api("GET", f"/campaigns/{id}/lines?state=skipped")).json["items"]
        self.assertEqual(
            [(line["device"], line["reason"]) for line in skipped], [("nobody", "there is no such device")]
        )
        one = (await self.api("GET", f"/campaigns/{id}/lines/{ids[0]}")).json
        self.assertEqual([step["state"] for step in one["history"]], ["waiting", "queued"])
        self.assertEqual((one["version"], one["attempt"]), ("1.0", 1))
        self.assertProblem(await self.api("GET", f"/campaigns/{id}/lines/other"), 404, "not-found")
        self.assertProblem(await self.api("GET", f"/campaigns/{id}/lines?state=odd"), 400, "invalid")

    async def test_a_dry_run(self) -> None:
        ids = await self.fleet(5)
        await self.api("PATCH", f"/devices/{ids[1]}", {"disabled": True})
        reply = await self.api("POST", "/campaigns/preview?limit=2", PLAN)
        self.assertEqual(reply.status, 200, reply.body)
        first = reply.json
        self.assertEqual((first["touched"], first["skipped"], first["next"]), (4, 1, ids[1]))
        self.assertEqual(
            first["items"],
            [
                {"device": ids[0], "touched": True, "reason": "", "version": "1.0", "online": True},
                {"device": ids[1], "touched": False, "reason": "it is disabled", "version": "1.0", "online": True},
            ],
        )
        second = (await self.api("POST", f"/campaigns/preview?limit=10&cursor={ids[1]}", PLAN)).json
        self.assertEqual([one["device"] for one in second["items"]], ids[2:])
        self.assertEqual((second["touched"], second["next"]), (None, None))
        made = await self.made("/campaigns", PLAN)
        draft = (await self.api("GET", f"/campaigns/{made['id']}/preview")).json
        self.assertEqual((draft["touched"], draft["skipped"]), (4, 1))
        self.assertEqual(self.updater.given, {})

    async def test_by_tag(self) -> None:
        await self.fleet(3, tags=["roof", "roof", "2nd floor"])
        await self.device("other", protocol="made", tags=["cellar"])
        self.assertEqual((await self.api("GET", "/devices/D000")).json["tags"], ["2nd floor", "roof"])
        plan = {**PLAN, "targets": {"filter": {"tag": "2nd floor"}}}
        self.assertEqual((await self.api("POST", "/campaigns/preview", plan)).json["touched"], 3)
        listed = (await self.api("GET", "/devices?tag=cellar")).json["items"]
        self.assertEqual([one["id"] for one in listed], ["other"])
        changed = await self.api("PATCH", "/devices/other", {"tags": None})
        self.assertEqual(changed.json["tags"], [])
        self.assertProblem(await self.api("PATCH", "/devices/other", {"tags": [""]}), 400, "invalid")
        self.assertProblem(await self.api("PATCH", "/devices/other", {"tags": ["x"] * 33}), 400, "invalid")

    async def test_a_list_page_by_page(self) -> None:
        ids = []
        for _ in range(3):
            ids.append((await self.made("/campaigns", PLAN))["id"])
            self.ahead += 1
        page = (await self.api("GET", "/campaigns?limit=2&state=draft")).json
        self.assertEqual(([one["id"] for one in page["items"]], page["next"]), ([ids[2], ids[1]], ids[1]))
        page = (await self.api("GET", f"/campaigns?limit=2&cursor={page['next']}")).json
        self.assertEqual(([one["id"] for one in page["items"]], page["next"]), ([ids[0]], None))
        self.assertEqual((await self.api("GET", "/campaigns?state=running")).json["items"], [])
        self.assertProblem(await self.api("GET", "/campaigns?state=odd"), 400, "invalid")
        self.assertProblem(await self.api("GET", "/campaigns?cursor=odd"), 400, "invalid")

    async def test_only_for_the_administrator(self) -> None:
        token = await self.application("app", *(await self.fleet(1)))
        made = await self.made("/campaigns", PLAN)
        for route in Calls(self.side).routes():
            path = route.path.replace("{id}", made["id"]).replace("{device}", "D000")
            value = PLAN if route.body is not None else None
            self.assertProblem(await self.call(route.method, path, value, token=token), 403, "forbidden")
            self.assertProblem(await self.call(route.method, path, value, token=None), 401, "unauthenticated")

    async def test_what_is_no_campaign(self) -> None:
        changes: tuple[dict[str, Any], ...] = (
            {"targets": {}},
            {"targets": {"devices": []}},
            {"targets": {"devices": ["a"], "filter": {}}},
            {"targets": {"filter": {}, "percentage": 0}},
            {"targets": {"filter": {}, "percentage": 101}},
            {"targets": {"filter": {"colour": "red"}}},
            {"protocol": "nothing"},
            {"pace": {"concurrency": 0}},
            {"pace": {"concurrency": 100_000}},
            {"pace": {"rate": 0}},
            {"pace": {"stop": {"percent": 0}}},
            {"pace": {"windows": [{"from": "02:00", "to": "25:00"}]}},
            {"pace": {"windows": [{"from": "02:00", "to": "03:00", "time_zone": "Mars"}]}},
            {"pace": {"ends_at": 1.0}},
            {"pace": {"retries": {"count": -1}}},
            {"version": ""},
            {"odd": 1},
        )
        for change in changes:
            reply = await self.api("POST", "/campaigns", {**PLAN, **change})
            self.assertProblem(reply, 400, "invalid")
            self.assertProblem(await self.api("POST", "/campaigns/preview", {**PLAN, **change}), 400, "invalid")
        self.assertProblem(await self.api("POST", "/campaigns", {**PLAN, "image": "none"}), 404, "not-found")
        self.assertEqual((await self.api("GET", "/campaigns")).json["items"], [])

    async def test_windows_and_when_they_open(self) -> None:
        window = {"from": "02:00", "to": "04:00", "days": ["sat", "sun"], "time_zone": "Europe/Berlin"}
        made = await self.made("/campaigns", {**PLAN, "pace": {"windows": [window]}})
        self.assertEqual(made["pace"]["windows"], [window])
        self.assertTrue(made["opens_at"] is None or made["opens_at"] > self.clock())

    async def test_it_is_described(self) -> None:
        document = (await self.api("GET", "/openapi.json")).json
        validate(document)
        paths = {path: set(calls) for path, calls in document["paths"].items() if path.startswith(CAMPAIGNS)}
        self.assertEqual(paths[CAMPAIGNS], {"get", "post"})
        self.assertEqual(paths[f"{CAMPAIGNS}/{{id}}"], {"get", "patch", "delete"})
        self.assertEqual(len(paths), 11)

    async def test_the_stream(self) -> None:
        token = await self.application("app", *(await self.fleet(2)))
        mine, theirs = await self.stream("?kind=campaign"), await self.stream("", token)
        id = await self.begun()
        self.campaigns.tick()
        told = await mine.next()
        self.assertEqual((told["type"], told["id"], told["state"]), ("campaign", id, "running"))
        self.assertEqual(set(told), {"type", "id", "name", "protocol", "version", "state", "reason", "counts"})
        self.assertEqual(theirs.messages.pending, [])

    async def test_figures(self) -> None:
        await self.fleet(3)
        await self.begun(pace={"concurrency": 1})
        self.campaigns.tick()
        await self.until(lambda: self.updater.given)
        figures = self.campaigns.counters()
        self.assertEqual(
            {name: value for name, value in figures.items() if value},
            {
                "campaigns_running": 1,
                "campaign_lines_queued": 1,
                "campaign_lines_waiting": 2,
                "campaign_orders_total": 1,
            },
        )
