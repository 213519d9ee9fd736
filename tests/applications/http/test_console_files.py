"""What a browser is given at ``/``: the page, its files, its policy; and that nothing vendored was changed."""

from __future__ import annotations

import gzip
import json
import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from broker.applications.http.assets import FOLDER, Console
from tests.applications.http.site import SiteCase

#: Bytes that the first view may cost on the wire.
MOST = 300_000


class FileTests(SynchronousTestCase):
    def test_vendored_files_are_what_they_were(self) -> None:
        listed = json.loads((FOLDER / "vendor" / "vendored.json").read_text())
        for one in listed:
            self.assertEqual(sha256((FOLDER / "vendor" / one["file"]).read_bytes()).hexdigest(), one["sha256"], one)
            self.assertTrue((FOLDER / "vendor" / f"LICENSE.{one['package']}").exists())
        files = {path.name for path in (FOLDER / "vendor").iterdir() if path.suffix in (".mjs", ".js", ".css")}
        self.assertEqual(files, {one["file"] for one in listed})

    def test_nothing_of_another_host_and_nothing_inline(self) -> None:
        own = [path for path in FOLDER.iterdir() if path.suffix in (".mjs", ".html", ".css", ".svg")]
        self.assertGreater(len(own), 8)
        for path in own:
            text = path.read_text("utf-8")
            self.assertEqual(re.findall(r"https?://(?!www\.w3\.org/2000/svg)\S+", text), [], path)
            self.assertNotRegex(text, r"innerHTML|dangerously|eval\(|new Function|document\.write|\bstyle=", str(path))

    def test_each_text_is_there_in_both_languages(self) -> None:
        quoted = r"""("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')"""
        entry = re.compile(rf"^\s+(\w+): \[\s*{quoted},\s*{quoted},?\s*\],", re.M)
        count = 0
        for path in FOLDER.glob("*.mjs"):
            text = path.read_text("utf-8")
            for table in re.findall(r"= texts\(\{\n(.*?)\n\}\);", text, re.S):
                found = entry.findall(table + "\n")
                count += len(found)
                self.assertEqual(len(found), len(re.findall(r"^  \w+: \[", table, re.M)), path)
                for name, english, chinese in found:
                    self.assertTrue(english[1:-1].strip() and chinese[1:-1].strip(), (path.name, name))
                    self.assertEqual(
                        sorted(re.findall(r"\{(\w+)\}", english)),
                        sorted(re.findall(r"\{(\w+)\}", chinese)),
                        (path.name, name),
                    )
                    self.assertNotRegex(english, r"[\u4e00-\u9fff]", (path.name, name))
        self.assertGreater(count, 60)

    def test_every_module_that_is_imported_is_there(self) -> None:
        console = Console()
        for path in FOLDER.glob("*.mjs"):
            for name in re.findall(r'from "(console/[^"]+)"', path.read_text("utf-8")):
                self.assertIn(name.removeprefix("console/"), console.assets, path)

    def test_it_is_small(self) -> None:
        console = Console()
        self.assertLess(sum(len(asset.packed) for asset in (*console.assets.values(), console.page)), MOST)


class PageTests(SiteCase):
    async def test_the_page(self) -> None:
        reply = await self.call("GET", "/")
        self.assertEqual((reply.status, reply.header("content-type")), (200, "text/html; charset=utf-8"))
        policy = reply.header("content-security-policy")
        self.assertTrue(policy.startswith("default-src 'none'; script-src 'self' 'sha256-"))
        self.assertNotIn("unsafe", policy)
        self.assertIn("frame-ancestors 'none'", policy)
        inline = re.search(rb'<script type="importmap">(.*?)</script>', reply.body, re.S)
        assert inline is not None
        self.assertIn(f"'sha256-{b64encode(sha256(inline[1]).digest()).decode()}'", policy)
        for name in ("cache-control", "referrer-policy", "x-content-type-options", "cross-origin-opener-policy"):
            self.assertTrue(reply.header(name), name)

    async def test_a_file_packed_plain_and_kept(self) -> None:
        page = await self.call("GET", "/")
        (address,) = re.findall(r'"(/console/app\.mjs\?v=[0-9a-f]+)"', page.body.decode().split("</script>", 1)[1])
        plain = await self.call("GET", address)
        self.assertEqual(plain.body, Path(FOLDER / "app.mjs").read_bytes())
        self.assertIn("immutable", plain.header("cache-control"))
        packed = await self.call("GET", address, headers={"accept-encoding": "gzip, br"})
        self.assertEqual((packed.header("content-encoding"), gzip.decompress(packed.body)), ("gzip", plain.body))
        again = await self.call("GET", address, headers={"if-none-match": plain.header("etag")})
        self.assertEqual((again.status, again.body), (304, b""))
        self.assertEqual((await self.call("GET", "/console/app.mjs?v=0")).header("cache-control"), "no-cache")

    async def test_what_is_not_there(self) -> None:
        for path in ("/console/nothing.mjs", "/console/..%2Fside.py", "/console/LICENSE.htm", "/console/"):
            self.assertEqual((await self.call("GET", path)).status, 404, path)

    async def test_it_is_in_no_document(self) -> None:
        paths = (await self.api("GET", "/openapi.json")).json["paths"]
        self.assertNotIn("/", paths)
        self.assertIn("/api/v1/overview", paths)

    async def test_overview(self) -> None:
        await self.made("/devices", {"protocol": "novacloud"})
        await self.api("GET", "/devices", token="wrong")
        shown = (await self.api("GET", "/overview")).json
        self.assertEqual((shown["devices"]["registered"], shown["problems"]), ({"novacloud": 1}, []))
