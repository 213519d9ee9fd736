"""Calls that protocols add to the API, before or after its listener is built."""

from typing import Any

import msgspec

from broker.web.routes import ADMIN, API, APPLICATION, Call, Route
from tests.applications.http.site import SiteCase


class Pet(msgspec.Struct):
    """A pet."""

    name: str


async def get_pet(call: Call) -> Any:
    """A pet of a device"""
    call.caller.check_device(call.path["id"])
    return Pet(call.path["id"])


async def put_pet(call: Call) -> Any:
    """Keep a pet"""
    return call.body


class ProtocolCallTests(SiteCase):
    async def test_served_and_described(self) -> None:
        # The listener is built; nobody has asked it anything yet.
        self.core.api_routes += [
            Route("GET", f"{API}/pets/{{id}}", get_pet, APPLICATION, answers=Pet),
            Route("PUT", f"{API}/pets/{{id}}", put_pet, ADMIN, body=Pet, answers=Pet),
        ]
        await self.device("d")
        application = await self.application("a", "d")
        reply = await self.api("GET", "/pets/d", token=application)
        self.assertEqual((reply.status, reply.json), (200, {"name": "d"}))
        self.assertProblem(await self.api("GET", "/pets/e", token=application), 404, "not-found")
        self.assertProblem(await self.api("GET", "/pets/d", token=None), 401, "unauthenticated")
        self.assertProblem(await self.api("PUT", "/pets/d", {"name": "x"}, token=application), 403, "forbidden")
        self.assertProblem(await self.api("PUT", "/pets/d", {"name": 1}), 400, "invalid")
        self.assertEqual((await self.api("PUT", "/pets/d", {"name": "x"})).json, {"name": "x"})
        document = (await self.api("GET", "/openapi.json")).json
        self.assertEqual(set(document["paths"][f"{API}/pets/{{id}}"]), {"get", "put"})

    async def test_two_for_one_call_are_found_before_anything_is_bound(self) -> None:
        self.core.api_routes.append(Route("GET", f"{API}/devices", get_pet, ADMIN))
        with self.assertRaisesRegex(ValueError, "two routes"):
            await self.listener.prepare()
