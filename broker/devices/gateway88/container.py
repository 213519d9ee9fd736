"""DATA <-> a JSON object, sans-IO: every container that gateways use on input, the gateway's own one on output.

The document says ``zip(base64(json))``; the implementations that are known compress the JSON text itself; neither reads
the other. So a container is found out from its bytes, layer by layer from the outside::

    base64?  ->  zlib | gzip | raw deflate | PKZIP | nothing  ->  base64?  ->  JSON text

    1F 8B          gzip                             {              JSON
    50 4B 03 04    PKZIP: its first file            base64 only    base64, either alphabet, with or without padding
    78 .. and such zlib (its two bytes check)       anything else  raw deflate

The law of this file:

* `decode` gives a `Content` or raises `Undecodable`; any other exception is a bug here.
* The order above is the order of the attempts; what begins like one and turns out not to be it, is tried as the next.
* Whatever inflates to more than ``limit`` bytes is refused while it inflates: no more than that is ever in memory,
  twice with base64 in between.
* Line breaks, a byte order mark, and zeros at the end are passed over. A stream that is cut off is refused.
* JSON that is not JSON is read forgivingly (`forgiving`) and marked ``repaired``.
* `encode` writes the flavour that it is given: base64 with padding and without line breaks, compact JSON in UTF-8.
"""

from __future__ import annotations

import re
import zlib
from base64 import b64encode
from binascii import a2b_base64
from collections.abc import Iterator
from io import BytesIO
from struct import Struct
from typing import Any, Final, Literal, NamedTuple, TypeAlias
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from broker.devices.gateway88.forgiving import repaired
from broker.model import jsontext

Compression: TypeAlias = Literal["none", "zlib", "gzip", "deflate", "pkzip"]

#: For zlib.decompressobj: which header and trailer there are around deflate.
_WINDOW: Final[dict[str, int]] = {"zlib": 15, "gzip": 31, "deflate": -15}
_GZIP: Final = b"\x1f\x8b"
_PKZIP: Final = b"PK\x03\x04"
#: Local file header: flags, method, compressed size, lengths of name and extra field.
_LOCAL: Final = Struct("<4s2xHH8xI4xHH")
_STORED: Final = 0
_DEFLATED: Final = 8
_ENCRYPTED: Final = 1

_BASE64: Final = re.compile(rb"[A-Za-z0-9+/_\-\s]+={0,2}[\s\0]*")
_STANDARD: Final = bytes.maketrans(b"-_", b"+/")
_BOM: Final = b"\xef\xbb\xbf"
#: What may stand around a text or behind a stream without meaning anything.
_BLANK: Final = b"\0 \t\r\n"


class Flavour(NamedTuple):
    """A container: base64 around the compression, the compression, base64 inside it."""

    outer: bool
    compression: Compression
    inner: bool


#: By the names that the settings have.
FLAVOURS: Final[dict[str, Flavour]] = {
    "zlib(base64)": Flavour(False, "zlib", True),
    "zlib": Flavour(False, "zlib", False),
    "base64(zlib)": Flavour(True, "zlib", False),
    "gzip(base64)": Flavour(False, "gzip", True),
    "gzip": Flavour(False, "gzip", False),
    "base64(gzip)": Flavour(True, "gzip", False),
    "deflate(base64)": Flavour(False, "deflate", True),
    "deflate": Flavour(False, "deflate", False),
    "base64(deflate)": Flavour(True, "deflate", False),
    "pkzip(base64)": Flavour(False, "pkzip", True),
    "pkzip": Flavour(False, "pkzip", False),
    "base64(pkzip)": Flavour(True, "pkzip", False),
    "base64": Flavour(False, "none", True),
    "json": Flavour(False, "none", False),
}
#: As the document is written.
AS_WRITTEN: Final = FLAVOURS["zlib(base64)"]


_WITH_BASE64: Final = FLAVOURS["zlib(base64)"]
_WITHOUT: Final = FLAVOURS["zlib"]


class Undecodable(ValueError):
    """DATA that is no JSON object in any container. ``work``: bytes that were made on the way to know it."""

    def __init__(self, text: str, work: int = 0) -> None:
        super().__init__(text)
        self.work = work


class TooLarge(Undecodable):
    """It inflates to more than the limit."""


class Content(NamedTuple):
    """What was in DATA. ``size`` is that of the JSON text in bytes."""

    value: dict[str, Any]
    flavour: Flavour
    repaired: bool
    size: int


def decode(data: bytes, limit: int) -> Content:
    """The JSON object in ``data``; nothing on the way may have more than ``limit`` bytes. Raises Undecodable."""
    usual = _usual(data, limit)
    if usual is not None:
        return usual
    stripped = data.strip(_BLANK)
    if not stripped:
        raise Undecodable("nothing in it")
    if len(data) > limit:
        raise TooLarge("larger than allowed", len(data))
    work = 0
    for outer, compression, plain in _layers(data, stripped, limit):
        if plain is None:
            continue
        work += len(plain)
        found = _object(plain, limit)
        if found is not None:
            value, inner, mended = found
            return Content(value, Flavour(outer, compression, inner), mended, len(plain))
    raise Undecodable("no JSON object in any known container", work)


def _usual(data: bytes, limit: int) -> Content | None:
    """What nearly every gateway sends: strict JSON in zlib, in base64 or not. None for everything else."""
    stream = zlib.decompressobj()
    try:
        plain = stream.decompress(data, limit)
        if not stream.eof or stream.unused_data:
            return None
        inner = plain[:1] != b"{"
        value = jsontext.decode(a2b_base64(plain, strict_mode=True) if inner else plain)
    except (zlib.error, ValueError):
        return None
    return Content(value, _WITH_BASE64 if inner else _WITHOUT, False, len(plain)) if value.__class__ is dict else None


def _layers(data: bytes, stripped: bytes, limit: int) -> Iterator[tuple[bool, Compression, bytes | None]]:
    """What could be inside, likeliest first: base64 around it, the compression, what came out of it.

    At most one stream is inflated by each of the compressions that its beginning allows.
    """
    # Raw deflate may begin with any byte, that of JSON too.
    plain = stripped.startswith((b"{", _BOM))
    if plain:
        yield False, "none", stripped
    for compression in _compressions(data):
        yield False, compression, inflate(data, compression, limit)
    if not plain:
        below = _from_base64(stripped)
        if below is not None and not below.lstrip(_BLANK).startswith((b"{", _BOM)):
            for compression in _compressions(below):
                yield True, compression, inflate(below, compression, limit)
    if not plain:
        yield False, "none", stripped


def _compressions(data: bytes) -> Iterator[Compression]:
    if data.startswith(_GZIP):
        yield "gzip"
    elif data.startswith(_PKZIP):
        yield "pkzip"
    elif len(data) > 2 and data[0] & 0x8F == 8 and not (data[0] << 8 | data[1]) % 31:
        yield "zlib"
    yield "deflate"


def inflate(data: bytes, compression: Compression, limit: int) -> bytes | None:
    """What was compressed, None if it was not or is cut off. Raises TooLarge."""
    if compression == "pkzip":
        return _unzip(data, limit)
    stream = zlib.decompressobj(_WINDOW[compression])
    try:
        plain = stream.decompress(data, limit + 1)
    except zlib.error:
        return None
    if len(plain) > limit:
        raise TooLarge("it inflates to more than allowed", limit)
    if not stream.eof or stream.unused_data.strip(_BLANK):
        return None
    return plain


def _unzip(data: bytes, limit: int) -> bytes | None:
    """The first file of an archive, read from its front: the directory at the end may be missing."""
    if len(data) < _LOCAL.size:
        return None
    _, flags, method, size, name, extra = _LOCAL.unpack_from(data)
    if flags & _ENCRYPTED:
        return None
    start = _LOCAL.size + name + extra
    if method == _STORED:
        return data[start : start + size] if start + size <= len(data) else None
    if method != _DEFLATED:
        return None
    stream = zlib.decompressobj(_WINDOW["deflate"])
    try:
        plain = stream.decompress(data[start:], limit + 1)
    except zlib.error:
        return None
    if len(plain) > limit:
        raise TooLarge("it inflates to more than allowed", limit)
    return plain if stream.eof else None


def _object(text: bytes, limit: int) -> tuple[dict[str, Any], bool, bool] | None:
    """The JSON object of a text, perhaps in base64; whether it was, and whether it had to be repaired."""
    inner = False
    text = text.strip(_BLANK)
    if text[:1] != b"{" and not text.startswith(_BOM):
        below = _from_base64(text)
        if below is None:
            return None
        inner, text = True, below.strip(_BLANK)
    if text.startswith(_BOM):
        text = text[len(_BOM) :].strip(_BLANK)
    if text[:1] != b"{":
        return None
    mended = False
    try:
        value = jsontext.decode(text)
    except ValueError:
        try:
            value = jsontext.decode(repaired(text))
        except ValueError:
            return None
        mended = True
    return (value, inner, mended) if isinstance(value, dict) else None


def _from_base64(text: bytes) -> bytes | None:
    """What base64 stands for, as the standard has it or as others write it; None if it is none."""
    try:
        return a2b_base64(text, strict_mode=True)
    except ValueError:
        pass  # padding is missing, there are line breaks, or letters of the other alphabet
    if _BASE64.fullmatch(text) is None:
        return None
    letters = b"".join(text.translate(_STANDARD, b"\0").split()).rstrip(b"=")
    try:
        return a2b_base64(letters + b"=" * (-len(letters) % 4), strict_mode=True)
    except ValueError:
        return None


def encode(value: dict[str, Any], flavour: Flavour) -> bytes:
    """DATA with this object. Raises ValueError for what JSON cannot hold."""
    data = jsontext.encode(value)
    if flavour.inner:
        data = b64encode(data)
    if flavour.compression == "pkzip":
        data = _zip(data)
    elif flavour.compression != "none":
        stream = zlib.compressobj(wbits=_WINDOW[flavour.compression])
        data = stream.compress(data) + stream.flush()
    return b64encode(data) if flavour.outer else data


def _zip(data: bytes) -> bytes:
    """An archive with one file, the same bytes each time."""
    archive = BytesIO()
    with ZipFile(archive, "w", ZIP_DEFLATED) as file:
        file.writestr(ZipInfo("data"), data, ZIP_DEFLATED)
    return archive.getvalue()
