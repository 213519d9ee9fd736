"""What a Gizwits device says over HTTP, byte for byte, and how little of the answer it looks at.

A GAgent sends a request on a connection of its own, receives once, searches what it got as if it were one text, and
closes. So an answer that HTTP allows can still be one that devices do not understand:

=============  ======================================================================================================
register       status 201; behind the first ``did=`` 22 characters
provision      status 200; ``host=...&``, ``port=...&``, ``server_ts=...`` up to ``&`` or CR; without that it crashes
OTA            status 200; ``soft_ver=...&``, ``download_url=...`` up to CRLF, at most 255 characters
download       status 200; names of headers in their own case; the first 600 bytes reach into the image
=============  ======================================================================================================

The functions here are pure; `Exchange` is the connection. A `strict` one receives once and takes 1,024 bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import md5
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

#: What a device receives at once.
RECEIVED: Final = 1024
#: ... of a download, at first.
FIRST_PIECE: Final = 600
DID_LENGTH: Final = 22
MAX_URL: Final = 255
#: Seconds to wait for an answer.
PATIENCE: Final = 10.0
#: The largest image that a device takes.
MAX_IMAGE: Final = 16 * 1024 * 1024

_FORM: Final = b"Content-Type: application/x-www-form-urlencoded\r\n\r\n"


class Crashed(Exception):
    """A real device would read past the end of the answer here."""


class NotUnderstood(Exception):
    """The answer is a refusal, or none that the device can read. The text says which."""


# -- requests ----------------------------------------------------------------------------------------------------------


def register_request(host: str, product: str, mac: str, passcode: str) -> bytes:
    return _posted("/dev/devices", host, f"passcode={passcode}&mac={mac}&product_key={product}")


def disable_request(host: str, did: str, passcode: str) -> bytes:
    return _posted("/dev/devices", host, f"did={did}&passcode={passcode}", "DELETE")


def provision_request(host: str, did: str) -> bytes:
    return f"GET /dev/devices/{did} HTTP/1.1\r\nHost: {host}\r\nCache-Control: no-cache\r\n".encode() + _FORM


def check_request(host: str, did: str, passcode: str, kind: int, hard: str, soft: str) -> bytes:
    """OTA v4.1. There are no blanks behind two of the colons."""
    body = f"passcode={passcode}&type={kind}&hard_version={hard}&soft_version={soft}".encode()
    head = f"POST /dev/ota/v4.1/update_and_check/{did} HTTP/1.1\r\nHost:{host}\r\nContent-Length:{len(body)}\r\n"
    return head.encode() + _FORM + body


def target_request(host: str, did: str, product: str, kind: int, hard: str, soft: str, current: int) -> bytes:
    """OTA v4.0."""
    query = f"did={did}&product_key={product}&type={kind}&hard_version={hard}&soft_version={soft}&current_fid={current}"
    return _got(f"/dev/ota/target_fid?{query}", host)


def download_request(url: str) -> bytes:
    """Of a URL as it came. Its port is disregarded, as devices do. Raises NotUnderstood."""
    if not url.startswith("http://") or len(url) > MAX_URL:
        raise NotUnderstood(f"download_url is not http:// or has more than {MAX_URL} characters")
    host, slash, path = url.removeprefix("http://").partition("/")
    return _got(slash + path, host.partition(":")[0])


def _got(path: str, host: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/text\r\n\r\n".encode()


def _posted(path: str, host: str, body: str, method: str = "POST") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + _FORM + body.encode()


# -- answers -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Provision:
    host: str
    port: int
    server_ts: int


@dataclass(frozen=True, slots=True)
class Update:
    """Firmware that is on offer; ``version`` of OTA v4.1, ``fid`` of v4.0."""

    url: str
    version: str = ""
    fid: int = 0


@dataclass(frozen=True, slots=True)
class Image:
    """The head of a download."""

    size: int
    md5: str
    version: str
    name: str
    #: What came of the image so far.
    begin: bytes = field(repr=False)

    def is_whole(self, content: bytes) -> bool:
        return md5(content, usedforsecurity=False).hexdigest() == self.md5


def status_of(answer: bytes) -> str:
    """What stands between the first blank and the second."""
    parts = answer.split(b" ", 2)
    return parts[1].decode("latin-1") if len(parts) == 3 else ""


def did_of(answer: bytes) -> str:
    """Raises NotUnderstood."""
    _expect(answer, "201")
    did = _behind(answer, b"did=")[:DID_LENGTH]
    if len(did) < DID_LENGTH or not did.isalnum():
        raise NotUnderstood(f"no did of {DID_LENGTH} characters")
    return did.decode()


def provision_of(answer: bytes) -> Provision:
    """Raises NotUnderstood, Crashed."""
    _expect(answer, "200")
    host = _cut(_behind(answer, b"host="), b"&")
    port = _cut(_behind(answer, b"port="), b"&")
    time = min(
        (part for end in (b"&", b"\r") if (part := _cut(_behind(answer, b"server_ts="), end)) is not None),
        key=len,
        default=None,
    )
    if host is None or port is None or time is None:
        raise Crashed("the provision ends too early")
    try:
        return Provision(host.decode(), int(port), int(time))
    except ValueError:
        raise NotUnderstood("host, port or server_ts is none") from None


def update_of(answer: bytes) -> Update:
    """OTA v4.1. Raises NotUnderstood, which is also how "nothing to do" looks."""
    _expect(answer, "200")
    version = _cut(_behind(answer, b"soft_ver="), b"&")
    url = _cut(_behind(answer, b"download_url="), b"\r\n")
    if not version or not url:
        raise NotUnderstood("no soft_ver up to & and download_url up to CRLF")
    return Update(url.decode("latin-1"), version=version.decode("latin-1"))


def target_of(answer: bytes) -> Update:
    """OTA v4.0. Raises NotUnderstood."""
    _expect(answer, "200")
    fid = _cut(_behind(answer, b"target_fid="), b"&")
    url = _cut(_behind(answer, b"download_url="), b"&")
    if not fid or not fid.isdigit() or not url:
        raise NotUnderstood("no target_fid up to & and download_url up to &")
    return Update(url.decode("latin-1"), fid=int(fid))


def image_of(answer: bytes) -> Image:
    """Of the first piece of a download. Raises NotUnderstood."""
    _expect(answer, "200")
    head, blank, begin = answer.partition(b"\r\n\r\n")
    if not blank or not begin:
        raise NotUnderstood("the image does not begin in the first piece")
    lines = head + b"\r\n"
    size = _cut(_behind(lines, b"Content-Length: "), b"\r\n")
    digest = _cut(_behind(lines, b"Firmware-MD5: "), b"\r\n")
    name = _cut(_behind(lines, b'filename="'), b'"')
    version = b""
    for header in (b"Soft-Version: ", b"Firmware-Version: "):
        if header in lines:
            version = _cut(_behind(lines, header), b"\r\n") or b""
    if not (size and size.isdigit() and digest and len(digest) == 32 and version and name):
        raise NotUnderstood("Content-Length, Firmware-MD5, Soft-Version or filename is missing")
    if not name.endswith((b".bin", b".hex")) or int(size) > MAX_IMAGE:
        raise NotUnderstood("filename is neither .bin nor .hex, or the image is too large")
    return Image(int(size), digest.decode("latin-1"), version.decode("latin-1"), name.decode("latin-1"), begin)


def _expect(answer: bytes, status: str) -> None:
    if status_of(answer) != status:
        raise NotUnderstood(f"status {status_of(answer) or 'missing'}")


def _behind(answer: bytes, name: bytes) -> bytes:
    """What follows the first ``name`` wherever it stands. Raises NotUnderstood."""
    _, found, rest = answer.partition(name)
    if not found:
        raise NotUnderstood(f"no {name.decode()}")
    return rest


def _cut(text: bytes, end: bytes) -> bytes | None:
    part, found, _ = text.partition(end)
    return part if found else None


# -- the connection ----------------------------------------------------------------------------------------------------


class Exchange(Protocol):
    """One request and its answer. ``done`` fires with what was received, or fails with NotUnderstood.

    ``image``: it is a download, and ``done`` is the whole image.
    """

    def __init__(self, reactor: Any, request: bytes, strict: bool, image: bool) -> None:
        self.done: Deferred[bytes] = Deferred(lambda _: self._close())
        self._reactor = reactor
        self._request = request
        self._strict = strict
        self._is_image = image
        self._image: Image | None = None
        self._held = b""
        self._timeout: Any = None

    def connectionMade(self) -> None:
        self._timeout = self._reactor.callLater(PATIENCE, self._fail, "no answer")
        self._write(self._request)

    def dataReceived(self, data: bytes) -> None:
        if self.done.called:
            return
        self._held += data
        try:
            if self._is_image:
                self._take_image()
            elif self._strict or _is_complete(self._held):
                self._finish(self._held[:RECEIVED])
        except NotUnderstood as error:
            self._fail(str(error))

    def _take_image(self) -> None:
        if self._image is None:
            if not self._strict and b"\r\n\r\n" not in self._held[:-1]:
                return
            first = self._held[:FIRST_PIECE] if self._strict else self._held
            self._image = image_of(first)
            self._held = self._held[len(first) - len(self._image.begin) :]
        if len(self._held) >= self._image.size:
            content = self._held[: self._image.size]
            if not self._image.is_whole(content):
                raise NotUnderstood("the image has another MD5")
            self._finish(content)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._fail("the server closed the connection")

    def _write(self, data: bytes) -> None:
        if self.transport is not None:
            self.transport.write(data)

    def _finish(self, result: bytes) -> None:
        self._close()
        self.done.callback(result)

    def _fail(self, why: str) -> None:
        self._close()
        if not self.done.called:
            self.done.errback(NotUnderstood(why))

    def _close(self) -> None:
        if self._timeout is not None and self._timeout.active():
            self._timeout.cancel()
        if self.transport is not None:
            self.transport.loseConnection()


def _is_complete(answer: bytes) -> bool:
    """Whether a client that keeps to HTTP would have the whole answer. Ours always have a length."""
    head, blank, body = answer.partition(b"\r\n\r\n")
    if not blank:
        return False
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length" and value.strip().isdigit():
            return len(body) >= int(value)
    return True


async def exchange(reactor: Any, endpoint: Any, request: bytes, strict: bool, image: bool = False) -> bytes:
    """Send a request on a connection of its own; the answer. Raises NotUnderstood, and what connecting raises."""
    made: Exchange = await endpoint.connect(Factory.forProtocol(lambda: Exchange(reactor, request, strict, image)))
    return await made.done
