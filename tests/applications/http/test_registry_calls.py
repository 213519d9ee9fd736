"""Products, devices, import, applications: the calls that change the registry, and their whole shapes."""

from typing import Any

from broker.applications.http.calls.imports import SLICE
from broker.model.records import StoredMessage
from broker.routing.values import LastValues
from tests.applications.http.site import Reply, SiteCase
from tests.routing.fakes import FakeLink

METER = {
    "key": "meter",
    "name": "Meter",
    "protocol": "novacloud",
    "sensors": [{"value_key": "temperature", "name": "T", "unit": "C"}],
    "actuators": [{"command_key": "relay", "name": "R"}],
}
NDJSON = {"content-type": "application/x-ndjson"}


class ProductTests(SiteCase):
    async def test_life(self) -> None:
        self.assertEqual(await self.made("/products", METER), METER)
        self.assertEqual((await self.api("GET", "/products/meter")).json, METER)
        self.assertEqual((await self.api("GET", "/products")).json, {"items": [METER], "next": None})
        changed = await self.api("PATCH", "/products/meter", {"name": "New", "actuators": []})
        self.assertEqual((changed.status, changed.json), (200, {**METER, "name": "New", "actuators": []}))
        self.assertEqual((await self.api("GET", "/products/meter")).json, changed.json)
        gone = await self.api("DELETE", "/products/meter")
        self.assertEqual((gone.status, gone.body), (204, b""))
        for method, value in (("GET", None), ("PATCH", {}), ("DELETE", None)):
            self.assertProblem(await self.api(method, "/products/meter", value), 404, "not-found")

    async def test_conflicts(self) -> None:
        await self.made("/products", METER)
        self.assertProblem(await self.api("POST", "/products", METER), 409, "conflict")
        await self.device(product="meter")
        self.assertProblem(await self.api("DELETE", "/products/meter"), 409, "conflict")

    async def test_a_key_stands_twice(self) -> None:
        sensors = [{"value_key": "a"}, {"value_key": "a"}]
        reply = await self.api("POST", "/products", {**METER, "sensors": sensors})
        self.assertProblem(reply, 400, "invalid", "twice")


class DeviceTests(SiteCase):
    async def test_new_device(self) -> None:
        await self.made("/products", METER)
        made = await self.made("/devices", {"protocol": "novacloud", "product": "meter", "name": "Kitchen"})
        secret = made.pop("secret")
        self.assertGreater(len(secret), 20)
        self.assertEqual(
            made,
            {
                "id": made["id"],
                "protocol": "novacloud",
                "name": "Kitchen",
                "product": "meter",
                "online": False,
                "last_seen": None,
                "presence": {
                    "connected": False,
                    "connected_at": None,
                    "disconnected_at": None,
                    "reason": "",
                    "peer": "",
                    "last_frame": None,
                    "last_heartbeat": None,
                    "flaps": 0,
                    "state": "offline",
                },
                "dev_eui": None,
                "parent": None,
                "applications": [],
                "values": {},
                "unmapped": {},
                "info": {},
                "tags": [],
            },
        )
        self.assertEqual((await self.api("GET", f"/devices/{made['id']}")).json, made)

    async def test_given_id_and_secret(self) -> None:
        made = await self.made("/devices", {"protocol": "novacloud", "id": ID, "secret": "s" * 20})
        self.assertEqual((made["id"], made["secret"]), (ID, "s" * 20))

    async def test_refused(self) -> None:
        await self.device(ID)
        for fields, status, slug in (
            ({"protocol": "novacloud", "id": ID}, 409, "conflict"),
            ({"protocol": "nothing"}, 400, "invalid"),
            ({"protocol": "novacloud", "colour": "red"}, 400, "invalid"),
            ({}, 400, "invalid"),
        ):
            self.assertProblem(await self.api("POST", "/devices", fields), status, slug)
        reply = await self.api("POST", "/devices", {"protocol": "novacloud", "product": "nothing"})
        self.assertIn(reply.status, (400, 404))

    async def test_live_values_and_presence(self) -> None:
        device = await self.device()
        application = await self.application("app", device)
        record = await self.core.registry.get_device(device)
        values = LastValues(sensors=frozenset({"temperature"}))
        live = self.core.devices.attach(record.ref(), FakeLink(), lambda: (values, {"firmware": "1.2"}))
        live.last_seen = 1_763_700_001.23456
        values.update({"temperature": 21.5, "colour": "red"}, 1_763_700_000.12345)
        expected = {
            "online": True,
            "last_seen": 1_763_700_001.235,
            "values": {"temperature": {"value": 21.5, "at": 1_763_700_000.123}},
            "unmapped": {"colour": {"value": "red", "at": 1_763_700_000.123}},
            "info": {"firmware": "1.2"},
            "applications": ["app"],
        }
        shown = (await self.api("GET", f"/devices/{device}")).json
        self.assertEqual({name: shown[name] for name in expected}, expected)
        self.assertEqual((await self.api("GET", "/devices")).json["items"], [shown])
        self.assertEqual((await self.api("GET", f"/devices/{device}", token=application)).json, shown)

    async def test_list(self) -> None:
        ids = sorted([await self.device(name=f"lamp {number}") for number in range(5)])
        page = (await self.api("GET", "/devices?limit=2")).json
        seen = [one["id"] for one in page["items"]]
        while page["next"] is not None:
            page = (await self.api("GET", f"/devices?limit=2&cursor={page['next']}")).json
            seen += [one["id"] for one in page["items"]]
        self.assertEqual(seen, ids)
        self.assertEqual(len((await self.api("GET", "/devices?q=lamp%203")).json["items"]), 1)
        self.assertEqual((await self.api("GET", "/devices?online=true")).json, {"items": [], "next": None})
        self.assertEqual(len((await self.api("GET", "/devices?protocol=novacloud&online=false")).json["items"]), 5)

    async def test_change_and_delete(self) -> None:
        await self.made("/products", METER)
        device = await self.device()
        reply = await self.api("PATCH", f"/devices/{device}", {"name": "New", "product": "meter"})
        self.assertEqual((reply.status, reply.json["name"], reply.json["product"]), (200, "New", "meter"))
        self.assertNotIn("secret", reply.json)
        reply = await self.api("PATCH", f"/devices/{device}", {"secret": None, "product": None})
        self.assertEqual(reply.json["product"], None)
        self.assertGreater(len(reply.json["secret"]), 20)
        for wrong in ({"disabled": "yes"}, {"name": None}, {"id": "other"}, {"protocol": "x"}):
            self.assertProblem(await self.api("PATCH", f"/devices/{device}", wrong), 400, "invalid")
        self.assertEqual((await self.api("DELETE", f"/devices/{device}")).status, 204)
        for method, value in (("GET", None), ("PATCH", {}), ("DELETE", None)):
            self.assertProblem(await self.api(method, f"/devices/{device}", value), 404, "not-found")

    async def test_messages(self) -> None:
        device = await self.device()
        await self.core.storage.add_messages(
            [
                StoredMessage(
                    device=device, protocol="novacloud", kind="data", at=10.0, payload={"a": 1}, meta={"sent_at": 9.5}
                ),
                StoredMessage(device=device, protocol="novacloud", kind="raw", at=20.0, payload=b"\x00\x01"),
            ]
        )
        first: dict[str, Any] = {"device": device, "protocol": "novacloud", "kind": "data", "at": 10.0}
        first |= {"payload": {"a": 1}, "meta": {"sent_at": 9.5}}
        second = {"device": device, "protocol": "novacloud", "kind": "raw", "at": 20.0, "payload_base64": "AAE="}
        for query, items in (
            ("", [second, first]),
            ("?kind=data", [first]),
            ("?since=10&until=20", [first]),
            ("?since=20", [second]),
        ):
            reply = await self.api("GET", f"/devices/{device}/messages{query}")
            self.assertEqual(reply.json, {"items": items, "next": None})
        page = (await self.api("GET", f"/devices/{device}/messages?limit=1")).json
        self.assertEqual(page["items"], [second])
        page = (await self.api("GET", f"/devices/{device}/messages?limit=1&cursor={page['next']}")).json
        self.assertEqual(page["items"], [first])
        self.assertProblem(await self.api("GET", "/devices/nothing/messages"), 404, "not-found")


class ImportTests(SiteCase):
    async def _import(self, body: bytes, **options: Any) -> Reply:
        return await self.api("POST", "/devices/import", body=body, headers=NDJSON, **options)

    async def test_good_and_bad_lines(self) -> None:
        lines = (
            b'{"protocol":"novacloud","id":"%b","secret":"given-secret-123"}' % ID.encode(),
            b"",
            b"not json",
            b'{"protocol":"novacloud","name":1}',
            b'{"protocol":"novacloud"}',
            b'{"protocol":"novacloud","id":"%b"}' % ID.encode(),
            b"[1]",
            b"\xff",
            b'{"protocol":"nothing"}',
        )
        reply = await self._import(b"\r\n".join(lines))
        self.assertEqual(reply.status, 200, reply.body)
        self.assertEqual(reply.json["created"], 2)
        self.assertEqual([one["line"] for one in reply.json["failed"]], [3, 4, 6, 7, 8, 9])
        self.assertTrue(all(one["error"] for one in reply.json["failed"]))
        self.assertEqual(len(reply.json["secrets"]), 1)
        self.assertEqual(len((await self.api("GET", "/devices")).json["items"]), 2)

    async def test_empty(self) -> None:
        reply = await self._import(b"")
        self.assertEqual((reply.status, reply.json), (200, {"created": 0, "failed": []}))

    async def test_ten_thousand(self) -> None:
        lines = b"".join(b'{"protocol":"novacloud","name":"device %d"}\n' % number for number in range(10_000))
        slices: list[int] = []
        add_devices = self.core.registry.add_devices

        def counted(some: Any) -> Any:
            slices.append(len(some))
            return add_devices(some)

        self.patch(self.core.registry, "add_devices", counted)
        reply = await self._import(lines)
        self.assertEqual((reply.json["created"], reply.json["failed"]), (10_000, []))
        self.assertEqual(slices, [SLICE] * (10_000 // SLICE))

    async def test_many_lines_over_the_usual_size(self) -> None:
        line = b'{"protocol":"nothing","name":"' + b"x" * 100 + b'"}\n'
        reply = await self._import(line * 10_000)
        self.assertEqual((reply.status, len(reply.json["failed"])), (200, 10_000))

    async def test_administrator_only(self) -> None:
        application = await self.application("app")
        self.assertProblem(await self._import(b"", token=application), 403, "forbidden")
        self.assertProblem(await self._import(b"", token=None), 401, "unauthenticated")


class ApplicationTests(SiteCase):
    async def test_life(self) -> None:
        made = await self.made("/applications", {"id": "app", "kind": "mqtt", "name": "A"})
        secret = made.pop("secret")
        self.assertGreater(len(secret), 20)
        shape: dict[str, Any] = {
            "id": "app",
            "kind": "mqtt",
            "name": "A",
            "cs_eui": None,
            "disabled": False,
            "devices": [],
        }
        self.assertEqual(made, shape)
        self.assertEqual((await self.api("GET", "/applications/app")).json, shape)
        listed = {name: value for name, value in shape.items() if name != "devices"}
        self.assertEqual((await self.api("GET", "/applications")).json, {"items": [listed], "next": None})
        self.assertProblem(await self.api("POST", "/applications", {"id": "app", "kind": "http"}), 409, "conflict")
        reply = await self.api("PATCH", "/applications/app", {"name": "B", "secret": None})
        self.assertEqual((reply.json["name"], reply.json["secret"] != secret), ("B", True))
        self.assertEqual((await self.api("DELETE", "/applications/app")).status, 204)
        for method, value in (("GET", None), ("PATCH", {}), ("DELETE", None)):
            self.assertProblem(await self.api(method, "/applications/app", value), 404, "not-found")

    async def test_id_is_made(self) -> None:
        made = await self.made("/applications", {"kind": "http"})
        self.assertTrue(made["id"])

    async def test_bind(self) -> None:
        device = await self.device()
        await self.made("/applications", {"id": "app", "kind": "http"})
        for _ in range(2):
            self.assertEqual((await self.api("PUT", f"/applications/app/devices/{device}")).status, 204)
        self.assertEqual((await self.api("GET", "/applications/app")).json["devices"], [device])
        self.assertEqual((await self.api("GET", f"/devices/{device}")).json["applications"], ["app"])
        self.assertEqual((await self.api("DELETE", f"/applications/app/devices/{device}")).status, 204)
        self.assertProblem(await self.api("DELETE", f"/applications/app/devices/{device}"), 404, "not-found")
        self.assertProblem(await self.api("PUT", "/applications/app/devices/nothing"), 404, "not-found")
        self.assertProblem(await self.api("PUT", f"/applications/nothing/devices/{device}"), 404, "not-found")


ID = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"
