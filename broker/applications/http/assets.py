"""The console's files, read once and kept: each as it is and packed, with a tag of its content.

::

    GET /                     index.html, with the policy that allows scripts of this host alone
    GET /console/{name}       everything else: modules, styles, texts, and what is vendored

A file's tag is in its address (``app.mjs?v=<tag>`` in the import map), so a browser keeps it until it changes and never
has two versions side by side. The page itself is asked for anew each time.
"""

from __future__ import annotations

import gzip
import json
from base64 import b64encode
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from broker.model.errors import NotFound
from broker.web.answers import Answer, Fields
from broker.web.routes import ANYONE, Call, Route

FOLDER: Final = Path(__file__).parent / "console"
PATH: Final = "/console"
TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
#: Where the page has its import map and its style sheets.
MAP: Final = b"<!-- importmap -->"
#: Seconds that a browser keeps a file whose address has its tag.
FOR_EVER: Final = 31_536_000
#: Names that modules import others by, besides ``console/<file>``.
BARE: Final = {"preact": "preact.mjs", "preact/hooks": "hooks.mjs", "htm": "htm.mjs"}


class Asset:
    """One file."""

    __slots__ = ("content", "media", "packed", "tag")

    def __init__(self, content: bytes, media: str) -> None:
        self.content = content
        self.packed = gzip.compress(content, 9, mtime=0)
        self.media = media
        self.tag = sha256(content).hexdigest()[:16]


class Console:
    """All files of the console in ``folder``. Raises OSError."""

    def __init__(self, folder: Path = FOLDER) -> None:
        files = [path for path in sorted(folder.rglob("*")) if path.suffix in TYPES]
        self.assets = {path.name: Asset(path.read_bytes(), TYPES[path.suffix]) for path in files}
        if len(self.assets) != len(files):
            raise ValueError("two files of the console have one name")
        page = self.assets.pop("index.html")
        mapped = self._import_map()
        html = page.content.replace(MAP, b'<script type="importmap">' + mapped + b"</script>")
        for name, asset in self.assets.items():
            html = html.replace(f'"{PATH}/{name}"'.encode(), f'"{PATH}/{name}?v={asset.tag}"'.encode())
        self.page = Asset(html, page.media)
        self.policy = _policy(mapped)

    def _import_map(self) -> bytes:
        def address(name: str) -> str:
            return f"{PATH}/{name}?v={self.assets[name].tag}"

        imports = {name: address(file) for name, file in BARE.items()}
        imports.update({f"console/{name}": address(name) for name in self.assets if name.endswith(".mjs")})
        return json.dumps({"imports": imports}, separators=(",", ":")).encode()

    def routes(self) -> Iterable[Route]:
        """The page and its files; anybody may have them, as there is nothing in them."""
        return (
            Route("GET", "/", self._page, ANYONE, answers=str, content_type=TYPES[".html"], hidden=True),
            Route("GET", f"{PATH}/{{name}}", self._file, ANYONE, answers=bytes, lenient=True, hidden=True),
        )

    async def _page(self, call: Call) -> Any:
        """The console."""
        fields: Fields = (
            (b"Cache-Control", b"no-cache"),
            (b"Content-Security-Policy", self.policy),
            (b"Referrer-Policy", b"no-referrer"),
            (b"Cross-Origin-Opener-Policy", b"same-origin"),
            (b"Cross-Origin-Resource-Policy", b"same-origin"),
            (b"Permissions-Policy", b"camera=(), geolocation=(), microphone=()"),
        )
        return answer(call, self.page, fields)

    async def _file(self, call: Call) -> Any:
        """One of the console's files."""
        asset = self.assets.get(call.path["name"])
        if asset is None:
            raise NotFound("the console has no such file")
        current = call.arguments().get("v") == [asset.tag]
        kept = b"public, max-age=%d, immutable" % FOR_EVER if current else b"no-cache"
        return answer(call, asset, ((b"Cache-Control", kept), (b"Cross-Origin-Resource-Policy", b"same-origin")))


def answer(call: Call, asset: Asset, fields: Fields) -> Answer:
    """A file for this request: packed for those who can, nothing for those who have it."""
    tag = f'"{asset.tag}"'
    fields = ((b"ETag", tag.encode()), (b"Vary", b"Accept-Encoding"), *fields)
    if tag in (call.header("if-none-match") or ""):
        return Answer(304, headers=fields)
    if "gzip" in (call.header("accept-encoding") or ""):
        return Answer(200, asset.packed, asset.media, ((b"Content-Encoding", b"gzip"), *fields))
    return Answer(200, asset.content, asset.media, fields)


def _policy(import_map: bytes) -> bytes:
    """The Content-Security-Policy: nothing inline but the import map, nothing of another host."""
    digest = b64encode(sha256(import_map).digest())
    return (
        b"default-src 'none'; script-src 'self' 'sha256-%b'; style-src 'self'; img-src 'self' data:; "
        b"connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'" % digest
    )
