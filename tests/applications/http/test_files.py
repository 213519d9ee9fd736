"""Files over the API: handed in, listed, fetched, deleted."""

from __future__ import annotations

import hashlib
import os
from typing import Any

from broker.applications.http.side import Settings
from broker.listening.settings import Limits
from tests.applications.http.site import ADMIN_TOKEN, SiteCase

#: More than is read, written or waits at a time.
DATA = os.urandom(1_500_000)


class FileTests(SiteCase):
    async def put(self, name: str, data: bytes, **options: Any) -> Any:
        reply = await self.api("PUT", f"/files/{name}", body=data, **options)
        self.assertIn(reply.status, (200, 201), reply.body)
        return reply.json

    async def test_there_and_back(self) -> None:
        reply = await self.api("PUT", "/files/relay%202.1.bin", body=DATA)
        self.assertEqual(reply.status, 201, reply.body)
        info = reply.json
        self.assertEqual(set(info), {"name", "id", "size", "md5", "sha256", "created_at"})
        self.assertEqual((info["name"], info["size"]), ("relay 2.1.bin", len(DATA)))
        self.assertEqual(info["md5"], hashlib.md5(DATA, usedforsecurity=False).hexdigest())
        self.assertEqual(info["sha256"], hashlib.sha256(DATA).hexdigest())
        for key in ("relay%202.1.bin", info["id"]):
            self.assertEqual((await self.api("GET", f"/files/{key}")).json, info)
            content = await self.api("GET", f"/files/{key}/content")
            self.assertEqual((content.status, content.body), (200, DATA))
        self.assertEqual(content.header("content-type"), "application/octet-stream")
        self.assertEqual(content.header("etag"), f'"{info["sha256"]}"')
        self.assertEqual(content.header("content-disposition"), "attachment")
        part = await self.api("GET", f"/files/{info['id']}/content", headers={"Range": "bytes=10-19"})
        self.assertEqual((part.status, part.body), (206, DATA[10:20]))

    async def test_one_takes_the_place_of_another(self) -> None:
        old = await self.put("f", b"old")
        reply = await self.api("PUT", "/files/f", body=b"new")
        self.assertEqual(reply.status, 200)
        self.assertNotEqual(reply.json["id"], old["id"])
        self.assertEqual((await self.api("GET", "/files/f/content")).body, b"new")
        self.assertProblem(await self.api("GET", f"/files/{old['id']}"), 404, "not-found")

    async def test_a_form(self) -> None:
        body = (
            b'--x\r\nContent-Disposition: form-data; name="version"\r\n\r\n2.1\r\n'
            b'--x\r\nContent-Disposition: form-data; name="file"; filename="../up.bin"\r\n\r\n'
        )
        body += DATA + b"\r\n--x--\r\n"
        info = await self.put("f.bin", body, headers={"Content-Type": "multipart/form-data; boundary=x"})
        self.assertEqual((info["name"], info["size"]), ("f.bin", len(DATA)))
        self.assertEqual(info["sha256"], hashlib.sha256(DATA).hexdigest())

    async def test_an_empty_one(self) -> None:
        self.assertEqual((await self.put("empty", b""))["size"], 0)
        self.assertEqual((await self.api("GET", "/files/empty/content")).body, b"")

    async def test_delete(self) -> None:
        await self.put("f", b"x")
        self.assertEqual((await self.api("DELETE", "/files/f")).status, 204)
        for method, path in (("DELETE", "/files/f"), ("GET", "/files/f"), ("GET", "/files/f/content")):
            self.assertProblem(await self.api(method, path), 404, "not-found", "'f'")

    async def test_pages(self) -> None:
        for name in ("b1", "a", "b2", "b3"):
            await self.put(name, b"")
        found, cursor = [], ""
        while cursor is not None:
            page = (await self.api("GET", f"/files?prefix=b&limit=2{cursor}")).json
            found.append([one["name"] for one in page["items"]])
            cursor = page["next"] and f"&cursor={page['next']}"
        self.assertEqual(found, [["b1", "b2"], ["b3"]])
        self.assertEqual(len((await self.api("GET", "/files")).json["items"]), 4)

    async def test_names(self) -> None:
        for name in ("a%2Fb", "..%2F..%2Fetc", "%00", "x" * 256, "file-" + "0" * 32, "a%5Cb"):
            self.assertProblem(await self.api("PUT", f"/files/{name}", body=b"x"), 400, "invalid")

    async def test_only_the_administrator(self) -> None:
        await self.put("f", b"x")
        token = await self.application("app")
        for method, path in (
            ("PUT", "/files/f"),
            ("GET", "/files"),
            ("GET", "/files/f"),
            ("GET", "/files/f/content"),
            ("DELETE", "/files/f"),
        ):
            body = b"y" if method == "PUT" else None
            self.assertProblem(await self.api(method, path, body=body, token=token), 403, "forbidden")
            self.assertProblem(await self.api(method, path, body=body, token=None), 401, "unauthenticated")
        self.assertEqual((await self.api("GET", "/files/f/content")).body, b"x")

    async def test_a_client_that_goes_away(self) -> None:
        client = await self.connect()
        client.write(
            b"PUT /api/v1/files/f HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n"
            + f"Authorization: Bearer {ADMIN_TOKEN}\r\n\r\n".encode()
            + DATA[:500_000]
        )
        await self.until(lambda: self.core.files.writers)
        client.transport.loseConnection()  # type: ignore[union-attr]  # a TCP transport has it
        await self.until(lambda: not self.core.files.writers)
        self.assertProblem(await self.api("GET", "/files/f"), 404, "not-found")


class LimitTests(SiteCase):
    settings = Settings(max_upload=1_000, limits=Limits(max_message_size=500))

    async def test_too_long(self) -> None:
        reply = await self.api("PUT", "/files/f", body=b"x" * 1_001)
        self.assertEqual(reply.status, 413)
        self.assertEqual((await self.api("GET", "/files")).json["items"], [])
        self.assertEqual((await self.api("PUT", "/files/f", body=b"x" * 1_000)).status, 201)
