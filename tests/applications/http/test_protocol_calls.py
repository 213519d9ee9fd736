"""Calls that protocols add to the API, before or after its listener is built."""

from typing import Any

import msgspec
from openapi_spec_validator import validate

from broker.web.answers import Answer
from broker.web.routes import ADMIN, ANYONE, API, APPLICATION, Call, Route
from tests.applications.http.site import SiteCase


class Pet(msgspec.Struct):
    """A pet."""

    name: str


class Litter(msgspec.Struct):
    """Pets of one day."""

    #: Those that there are.
    pets: list[Pet]
    #: The one before.
    elder: "Litter | None" = None


class PetPath(msgspec.Struct):
    """Which pet."""

    #: The id of its device.
    id: str


class PetQuery(msgspec.Struct, kw_only=True):
    """How it is shown."""

    #: Seconds since when.
    since: float
    #: In which colours.
    colour: list[str] = msgspec.field(name="color", default_factory=list)
    size: int = 1


async def get_pet(call: Call) -> Any:
    """A pet of a device"""
    call.caller.check_device(call.path["id"])
    return Pet(call.path["id"])


async def get_picture(call: Call) -> Any:
    """The picture of a pet"""
    return Answer(200, b"pixels", "image/x")


async def put_picture(call: Call) -> Any:
    """Keep a picture"""
    size = 0
    while data := await call.upload.read():
        size += len(data)
    return Pet(f"{size} bytes")


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

    async def test_texts(self) -> None:
        path = f"{API}/pets/{{id}}/picture/{{number}}"
        self.core.api_routes.append(
            Route("GET", path, get_pet, ADMIN, answers=Litter, query=PetQuery, path_shape=PetPath),
        )
        document = (await self.api("GET", "/openapi.json")).json
        validate(document)
        self.assertEqual(
            document["paths"][path]["get"]["parameters"],
            [
                {
                    "name": "id",
                    "in": "path",
                    "required": True,
                    "schema": {"type": "string"},
                    "description": "The id of its device.",
                },
                {"name": "number", "in": "path", "required": True, "schema": {"type": "string"}},
                {
                    "name": "since",
                    "in": "query",
                    "schema": {"type": "number"},
                    "required": True,
                    "description": "Seconds since when.",
                },
                {
                    "name": "color",
                    "in": "query",
                    "schema": {"type": "array", "items": {"type": "string"}, "default": []},
                    "description": "In which colours.",
                },
                {
                    "name": "size",
                    "in": "query",
                    "schema": {"type": "integer", "default": 1},
                    "description": "In which colours.",
                },
            ],
        )
        fields = document["components"]["schemas"]["Litter"]["properties"]
        self.assertEqual(fields["pets"]["description"], "Those that there are.")
        self.assertEqual(fields["elder"]["description"], "The one before.")
        self.assertEqual(document["components"]["schemas"]["Pet"]["properties"], {"name": {"type": "string"}})

    async def test_files_both_ways(self) -> None:
        path = f"{API}/pictures/{{id}}"
        self.core.api_routes += [
            Route("GET", path, get_picture, ANYONE, answers=bytes, content_type="image/x"),
            Route("PUT", path, put_picture, ADMIN, answers=Pet, upload=True),
        ]
        size = 2 * self.settings.limits.max_message_size
        reply = await self.api("PUT", "/pictures/a", body=b"x" * size)
        self.assertEqual((reply.status, reply.json), (200, {"name": f"{size} bytes"}))
        reply = await self.api("PUT", "/pictures/a", body=b"x" * 100, token=await self.application("a"))
        self.assertProblem(reply, 403, "forbidden")
        self.assertEqual((await self.api("GET", "/pictures/a", token=None)).body, b"pixels")
        document = (await self.api("GET", "/openapi.json")).json
        validate(document)
        operations = document["paths"][path]
        self.assertEqual(operations["get"]["responses"]["200"]["content"], {"image/x": {}})
        self.assertEqual(
            set(operations["put"]["requestBody"]["content"]), {"application/octet-stream", "multipart/form-data"}
        )

    async def test_two_for_one_call_are_found_before_anything_is_bound(self) -> None:
        self.core.api_routes.append(Route("GET", f"{API}/devices", get_pet, ADMIN))
        with self.assertRaisesRegex(ValueError, "two routes"):
            await self.listener.prepare()
