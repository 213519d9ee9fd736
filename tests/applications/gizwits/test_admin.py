"""The administrator's calls about apps, over the broker's own API."""

from __future__ import annotations

from typing import Any

import msgspec
from openapi_spec_validator import validate

from broker.applications.gizwits.calls.admin import admin_routes
from broker.applications.gizwits.passwords import Passwords
from broker.applications.gizwits.settings import Settings, UserLimits
from broker.applications.gizwits.side import Side, threads_of
from broker.applications.gizwits.user_records import PHONE_ID, USERNAME
from broker.devices.gizwits.settings import DeviceSettings
from broker.devices.gizwits.side import GizwitsDevices
from tests.applications.gizwits.test_datapoints import LAMP
from tests.applications.http.site import SiteCase

APP = "gizapp"
PRODUCT = "p" * 32
POINTS = msgspec.to_builtins(LAMP)


class AdminTests(SiteCase):
    async def stage(self) -> None:
        """With an application that has users, and a product."""
        gizwits = GizwitsDevices(self.core, DeviceSettings())
        passwords = Passwords(threads_of(self.core.reactor), cost=4)
        self.side = Side(self.core, UserLimits(), gizwits, passwords)
        self.core.api_routes += admin_routes(self.side)
        await self.api("POST", "/applications", {"kind": "gizwits", "id": APP})
        await self.api("POST", "/applications", {"kind": "mqtt", "id": "other"})
        for key, protocol in ((PRODUCT, "gizwits"), ("weather", "novacloud")):
            await self.api("POST", "/products", {"key": key, "protocol": protocol})

    async def users(self, query: str = "") -> Any:
        reply = await self.api("GET", f"/gizwits/applications/{APP}/users{query}")
        self.assertEqual(reply.status, 200)
        return reply.json

    async def test_users(self) -> None:
        await self.stage()
        users = self.side.users
        made = [(await users.known(APP, PHONE_ID, f"phone-{number}")).uid for number in range(4)]
        made.append((await users.register(APP, USERNAME, "ann", "secret", {"lang": "en"})).uid)
        seen: list[str] = []
        cursor = ""
        while True:
            page = await self.users(f"?limit=2{cursor}")
            seen += [one["uid"] for one in page["items"]]
            if page["next"] is None:
                break
            cursor = f"&cursor={page['next']}"
        self.assertEqual(seen, sorted(made))
        ann = f"/gizwits/applications/{APP}/users/{made[-1]}"
        reply = await self.api("GET", ann)
        self.assertEqual((reply.json["names"], reply.json["profile"]), ({"username": "ann"}, {"lang": "en"}))
        self.assertNotIn("scrypt", repr(reply.json))
        self.assertEqual((await self.api("DELETE", ann)).status, 204)
        for method in ("GET", "DELETE"):
            self.assertProblem(await self.api(method, ann), 404, "not-found")
        self.assertEqual(len((await self.users())["items"]), 4)
        for app in ("other", "unknown"):
            self.assertProblem(await self.api("GET", f"/gizwits/applications/{app}/users"), 404, "not-found")

    async def test_a_user_and_its_bindings(self) -> None:
        await self.stage()
        users = f"/gizwits/applications/{APP}/users"
        made = await self.api("POST", users, {"username": "bob", "password": "secret"})
        self.assertEqual((made.status, made.json["names"]), (201, {"username": "bob"}))
        self.assertEqual((await self.side.users.log_in_with(APP, "bob", "secret")).uid, made.json["uid"])
        self.assertProblem(await self.api("POST", users, {"username": "bob", "password": "other"}), 409, "conflict")
        device = (await self.api("POST", "/devices", {"protocol": "novacloud"})).json["id"]
        binding = f"{users}/{made.json['uid']}/devices/{device}"
        self.assertEqual((await self.api("PUT", binding)).json["devices"], [device])
        self.assertEqual(await self.side.users.bound_to(device), [(APP, made.json["uid"])])
        self.assertEqual((await self.api("DELETE", binding)).status, 204)
        self.assertEqual(await self.side.users.bound_to(device), [])
        self.assertProblem(await self.api("DELETE", binding), 404, "not-found")
        for path in (f"{users}/nobody/devices/{device}", f"{users}/{made.json['uid']}/devices/none"):
            for method in ("PUT", "DELETE"):
                self.assertProblem(await self.api(method, path), 404, "not-found")

    async def test_only_the_administrator(self) -> None:
        await self.stage()
        token = await self.application("mine")
        for method, path, body in (
            ("GET", f"/gizwits/applications/{APP}/users", None),
            ("DELETE", f"/gizwits/applications/{APP}/users/u", None),
            ("POST", f"/gizwits/applications/{APP}/users", {"username": "u", "password": "p"}),
            ("PUT", f"/gizwits/applications/{APP}/users/u/devices/d", None),
            ("DELETE", f"/gizwits/applications/{APP}/users/u/devices/d", None),
            ("GET", f"/gizwits/products/{PRODUCT}/datapoints", None),
            ("PUT", f"/gizwits/products/{PRODUCT}/datapoints", {}),
            ("PUT", f"/gizwits/applications/{APP}/auth", {}),
        ):
            self.assertProblem(await self.api(method, path, body, token=token), 403, "forbidden")

    async def test_data_points(self) -> None:
        await self.stage()
        path = f"/gizwits/products/{PRODUCT}/datapoints"
        self.assertEqual((await self.api("GET", path)).json, {"datapoints": [], "secret": False})
        reply = await self.api("PUT", path, {"datapoints": POINTS, "secret": "hush"})
        self.assertEqual((reply.status, len(reply.json["datapoints"]), reply.json["secret"]), (200, len(LAMP), True))
        self.assertNotIn("hush", repr(reply.json))
        # What is left out stays, after a restart, too.
        await self.api("PUT", path, {})
        extra = await Side(self.core, UserLimits(), self.side.devices, self.side.users.passwords).products.extra(
            PRODUCT
        )
        self.assertEqual((extra.secret, extra.datapoints), ("hush", LAMP))
        self.assertNotIn("hush", repr(extra))
        for points in (
            [POINTS[0], POINTS[0]],
            [{**POINTS[0], "data_type": "float"}],
            [{**POINTS[0], "position": {"byte_offset": 0, "unit": "byte", "len": 1}}],
            [{"name": "x"}],
            "none",
        ):
            self.assertProblem(await self.api("PUT", path, {"datapoints": points}), 400, "invalid")
        self.assertEqual((await self.api("GET", path)).json["datapoints"][0]["name"], "power")
        for key in ("weather", "unknown"):
            self.assertProblem(await self.api("GET", f"/gizwits/products/{key}/datapoints"), 404, "not-found")

    async def test_who_vouches(self) -> None:
        await self.stage()
        path = f"/gizwits/applications/{APP}/auth"
        self.assertEqual((await self.api("GET", path)).json, {"secret": False, "sources": []})
        body = {"secret": "hush", "sources": {"shop": "k" * 32}}
        reply = await self.api("PUT", path, body)
        self.assertEqual((reply.status, reply.json), (200, {"secret": True, "sources": ["shop"]}))
        self.assertEqual((await self.api("PUT", path, {"sources": {}})).json, {"secret": True, "sources": []})
        wrong: list[Any] = [{"sources": {"shop": "short"}}, {"sources": {"a b": "k" * 32}}, {"unknown": 1}]
        for one in wrong:
            self.assertProblem(await self.api("PUT", path, one), 400, "invalid")

    async def test_they_are_described(self) -> None:
        await self.stage()
        document = (await self.api("GET", "/openapi.json")).json
        self.assertIn("/api/v1/gizwits/products/{key}/datapoints", document["paths"])
        validate(document)

    def test_the_defaults_are_consistent(self) -> None:
        settings = Settings()
        self.assertEqual(settings.users, UserLimits())
        self.assertGreaterEqual(settings.limits.max_message_size, 4 * 65_535)
