"""Who may call what, and what an application sees."""

import time
from typing import Any

import msgspec

from tests.applications.http.site import SiteCase


class TokenTests(SiteCase):
    async def test_missing_and_wrong(self) -> None:
        application = await self.application("app")
        for token in (None, "wrong", "app:wrong", "nobody:wrong", ":", "app:", application + "x", "\u00e9:\u00e9"):
            reply = await self.api("GET", "/devices", token=token)
            self.assertProblem(reply, 401, "unauthenticated")
            self.assertEqual(reply.header("www-authenticate"), 'Bearer realm="broker"')

    async def test_other_schemes(self) -> None:
        for value in ("Basic YTpi", "Bearer", "Bearer ", "bearer\t"):
            reply = await self.api("GET", "/devices", token=None, headers={"authorization": value})
            self.assertProblem(reply, 401, "unauthenticated")

    async def test_the_same_words_for_an_unknown_id_and_a_wrong_secret(self) -> None:
        await self.application("app")
        wrong = await self.api("GET", "/devices", token="app:wrong")
        unknown = await self.api("GET", "/devices", token="nobody:wrong")
        self.assertEqual(wrong.body, unknown.body)

    async def test_every_kind_may_log_in(self) -> None:
        for kind in ("http", "mqtt", "gizwits"):
            made = await self.made("/applications", {"id": kind, "kind": kind})
            reply = await self.api("GET", "/devices", token=f"{kind}:{made['secret']}")
            self.assertEqual(reply.status, 200, kind)

    async def test_a_changed_secret_counts_at_once(self) -> None:
        old = await self.application("app")
        self.assertEqual((await self.api("GET", "/devices", token=old)).status, 200)
        changed = await self.api("PATCH", "/applications/app", {"secret": None})
        self.assertEqual((await self.api("GET", "/devices", token=old)).status, 401)
        self.assertEqual((await self.api("GET", "/devices", token=f"app:{changed.json['secret']}")).status, 200)

    async def test_disabled_and_removed_count_at_once(self) -> None:
        token = await self.application("app")
        self.assertEqual((await self.api("GET", "/devices", token=token)).status, 200)
        await self.api("PATCH", "/applications/app", {"disabled": True})
        self.assertProblem(await self.api("GET", "/devices", token=token), 403, "disabled")
        await self.api("PATCH", "/applications/app", {"disabled": False})
        self.assertEqual((await self.api("GET", "/devices", token=token)).status, 200)
        await self.api("DELETE", "/applications/app")
        self.assertProblem(await self.api("GET", "/devices", token=token), 401, "unauthenticated")

    async def test_proven_tokens_are_remembered_for_a_while(self) -> None:
        token = await self.application("app")
        looked: list[str] = []
        login = self.core.registry.login_application

        def counted(id: str, *arguments: Any) -> Any:
            looked.append(id)
            return login(id, *arguments)

        self.patch(self.core.registry, "login_application", counted)
        for _ in range(3):
            await self.api("GET", "/devices", token=token)
        self.assertEqual(looked, ["app"])
        self.pass_time(31)
        await self.api("GET", "/devices", token=token)
        self.assertEqual(looked, ["app", "app"])

    async def test_repeated_failures_are_delayed(self) -> None:
        limits = self.listener.limits
        self.listener.limits = msgspec.structs.replace(limits, max_failed_logins=3, exempt_loopback=False)
        for _ in range(3):
            await self.api("GET", "/devices", token="wrong")
        began = time.monotonic()
        self.assertProblem(await self.api("GET", "/devices", token="wrong"), 401, "unauthenticated")
        self.assertGreater(time.monotonic() - began, 0.9)
        self.assertEqual(self.listener.stats.logins_failed, 4)


class RightsTests(SiteCase):
    async def test_an_application_sees_its_devices_only(self) -> None:
        mine, other = await self.device(), await self.device()
        token = await self.application("app", mine)
        listed = (await self.api("GET", "/devices", token=token)).json["items"]
        self.assertEqual([one["id"] for one in listed], [mine])
        for path in ("", "/messages", "/commands"):
            self.assertEqual((await self.api("GET", f"/devices/{mine}{path}", token=token)).status, 200)
            reply = await self.api("GET", f"/devices/{other}{path}", token=token)
            self.assertProblem(reply, 404, "not-found")
        ordered = await self.api("POST", f"/devices/{other}/commands", {"payload": {}}, token=token)
        self.assertProblem(ordered, 404, "not-found")

    async def test_not_yours_and_not_there_read_the_same(self) -> None:
        other = await self.device()
        token = await self.application("app")
        hidden = await self.api("GET", f"/devices/{other}", token=token)
        missing = await self.api("GET", f"/devices/{other[:-1]}0", token=token)
        self.assertEqual(
            hidden.body.replace(other.encode(), b""), missing.body.replace(other[:-1].encode() + b"0", b"")
        )

    async def test_it_does_not_see_other_applications(self) -> None:
        device = await self.device()
        token = await self.application("app", device)
        await self.application("other", device)
        self.assertEqual((await self.api("GET", f"/devices/{device}", token=token)).json["applications"], ["app"])
        self.assertEqual((await self.api("GET", f"/devices/{device}")).json["applications"], ["app", "other"])

    async def test_binding_counts_at_once(self) -> None:
        device = await self.device()
        token = await self.application("app")
        self.assertEqual((await self.api("GET", f"/devices/{device}", token=token)).status, 404)
        await self.api("PUT", f"/applications/app/devices/{device}")
        self.assertEqual((await self.api("GET", f"/devices/{device}", token=token)).status, 200)
        await self.api("DELETE", f"/applications/app/devices/{device}")
        self.assertEqual((await self.api("GET", f"/devices/{device}", token=token)).status, 404)

    async def test_what_is_the_administrators(self) -> None:
        device = await self.device()
        token = await self.application("app", device)
        for method, path in (
            ("POST", "/devices"),
            ("PATCH", f"/devices/{device}"),
            ("DELETE", f"/devices/{device}"),
            ("POST", "/devices/import"),
            ("GET", "/products"),
            ("POST", "/products"),
            ("GET", "/products/x"),
            ("PATCH", "/products/x"),
            ("DELETE", "/products/x"),
            ("GET", "/applications"),
            ("POST", "/applications"),
            ("GET", "/applications/app"),
            ("PATCH", "/applications/app"),
            ("DELETE", "/applications/app"),
            ("PUT", f"/applications/app/devices/{device}"),
            ("DELETE", f"/applications/app/devices/{device}"),
        ):
            value: Any = {} if method in ("POST", "PATCH") else None
            self.assertProblem(await self.api(method, path, value, token=token), 403, "forbidden")
            self.assertProblem(await self.api(method, path, value, token=None), 401, "unauthenticated")
