"""The quarantine over the API: seen by a protocol, approved or forgotten by the administrator."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed

from broker.model.errors import Conflict, Invalid
from broker.storage.quarantine import Entry
from tests.applications.http.site import SiteCase


class QuarantineTests(SiteCase):
    async def test_lists(self) -> None:
        self.assertEqual((await self.api("GET", "/quarantine")).json, {"items": [], "next": None})
        for protocol, id in (("toy", "B"), ("toy", "A"), ("game", "C")):
            self.core.quarantine.seen(protocol, id, "192.0.2.1", {"model": id})
        [entry] = (await self.api("GET", "/quarantine?protocol=game")).json["items"]
        self.assertEqual(entry.pop("first_seen"), entry.pop("last_seen"))
        self.assertEqual(
            entry, {"id": "C", "protocol": "game", "peer": "192.0.2.1", "count": 1, "info": {"model": "C"}}
        )
        found, cursor = [], ""
        while cursor is not None:
            page = (await self.api("GET", f"/quarantine?limit=2{cursor}")).json
            found.append([one["id"] for one in page["items"]])
            cursor = page["next"] and f"&cursor={page['next']}"
        self.assertEqual(found, [["C", "A"], ["B"]])

    async def test_approve(self) -> None:
        def approver(entry: Entry, fields: dict[str, Any]) -> Deferred[dict[str, Any]]:
            if "name" not in fields:
                raise Invalid("name is missing")
            if fields["name"] == "taken":
                raise Conflict("there is one already")
            return succeed({"id": entry.id, "secret": "s", **fields})

        self.core.quarantine.approvers["toy"] = approver
        self.core.quarantine.seen("toy", "A", "p")
        self.assertProblem(await self.api("POST", "/quarantine/A/approve", {}), 400, "invalid", "name is missing")
        self.assertProblem(await self.api("POST", "/quarantine/A/approve", {"name": "taken"}), 409, "conflict")
        reply = await self.api("POST", "/quarantine/A/approve", {"name": "n"})
        self.assertEqual((reply.status, reply.json), (200, {"id": "A", "secret": "s", "name": "n"}))
        self.assertProblem(await self.api("POST", "/quarantine/A/approve", {"name": "n"}), 404, "not-found")
        self.core.quarantine.seen("game", "B", "p")
        reply = await self.api("POST", "/quarantine/B/approve", {})
        self.assertProblem(reply, 400, "invalid", "game devices cannot be approved")

    async def test_forget(self) -> None:
        for protocol in ("toy", "game"):
            self.core.quarantine.seen(protocol, "A", "p")
        self.assertProblem(await self.api("DELETE", "/quarantine/A"), 409, "conflict", "game, toy")
        self.assertEqual((await self.api("DELETE", "/quarantine/A?protocol=toy")).status, 204)
        self.assertEqual((await self.api("DELETE", "/quarantine/A")).status, 204)
        self.assertProblem(await self.api("DELETE", "/quarantine/A"), 404, "not-found")

    async def test_only_the_administrator(self) -> None:
        self.core.quarantine.seen("toy", "A", "p")
        token = await self.application("app")
        for method, path in (("GET", ""), ("POST", "/A/approve"), ("DELETE", "/A")):
            value: Any = {} if method == "POST" else None
            reply = await self.api(method, f"/quarantine{path}", value, token=token)
            self.assertProblem(reply, 403, "forbidden")
        self.assertEqual(len((await self.api("GET", "/quarantine")).json["items"]), 1)
