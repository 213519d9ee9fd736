"""Calls of the HTTP API, one after the other, over one connection that is kept open between them.

Redirects are not followed and proxies of the environment not used: the token goes to the broker that was named, and
nowhere else. A GET is asked again when the connection that it went out on had been closed meanwhile; nothing else is,
as it may have been done.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

from broker.admin.failures import Failure, Misuse, Refused
from broker.model.jsontext import decode, encode

API: Final = "/api/v1"
CHUNK: Final = 65_536
#: Items of one page: as many as the API gives at once.
PAGE: Final = 1_000
#: A connection that has rested for so many seconds is not used again for calls that may not be repeated.
FRESH: Final = 5.0

Query = Mapping[str, Any]


def at(*segments: str) -> str:
    """A path of the API, with every segment quoted: ``at("devices", id)``."""
    return API + "".join(f"/{quote(segment, safe='')}" for segment in segments)


@dataclass(frozen=True)
class Address:
    """Where the broker's HTTP side is."""

    scheme: str
    host: str
    port: int
    prefix: str = ""

    @classmethod
    def parse(cls, url: str) -> Address:
        """Of ``http://host:port``, with or without a path before the API's own. Raises Misuse."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise Misuse(f"--api: {url!r} is no address, such as http://127.0.0.1:8080")
        if parts.username is not None or parts.password is not None:
            raise Misuse("--api: the token does not belong there, but into --token-file or BROKER_ADMIN_TOKEN")
        prefix = parts.path.rstrip("/").removesuffix(API)
        return cls(parts.scheme, parts.hostname, port or (443 if parts.scheme == "https" else 80), prefix)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.prefix}"


def tls_context(authority: str | None, insecure: bool) -> ssl.SSLContext:
    """What servers have to prove. Raises Misuse for a file that holds no certificates."""
    try:
        context = ssl.create_default_context(cafile=authority)
    except (OSError, ssl.SSLError) as error:
        raise Misuse(f"--ca: {authority}: {error.strerror or error}") from None
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class Client:
    """The API of one broker, called with one token. Raises Failure for whatever goes wrong, Refused for refusals."""

    def __init__(self, address: Address, token: str, context: ssl.SSLContext | None, timeout: float) -> None:
        self.address = address
        self.timeout = timeout
        self._context = context
        self._headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        self._connection: http.client.HTTPConnection | None = None
        self._used = 0.0

    @property
    def authorization(self) -> str:
        return self._headers["Authorization"]

    # -- calls -----------------------------------------------------------------------------------------------------

    def get(self, path: str, query: Query | None = None) -> Any:
        """The answer's JSON."""
        return self.call("GET", path, query=query)

    def call(
        self, method: str, path: str, body: Any = None, query: Query | None = None, timeout: float | None = None
    ) -> Any:
        """The answer's JSON, None where it is empty. ``timeout``: seconds without a byte, where it may take longer."""
        headers, data = {}, None
        if body is not None:
            data, headers["Content-Type"] = encode(body), "application/json"
        return _json_of(*self._exchange(method, _target(path, query), data, headers, timeout))

    def post_lines(self, path: str, lines: bytes) -> Any:
        """NDJSON out, JSON back."""
        return _json_of(*self._exchange("POST", path, lines, {"Content-Type": "application/x-ndjson"}, None))

    def text(self, path: str) -> str:
        """An answer that is no JSON."""
        return self._exchange("GET", path, None, {}, None)[1].decode("utf-8", "replace")

    def upload(
        self, path: str, pieces: Iterable[bytes], length: int, method: str = "PUT", query: Query | None = None
    ) -> Any:
        """Send a file of so many bytes. Raises also what ``pieces`` raises."""
        self._drop()
        connection = self._open(None)
        with self._spoken():
            connection.putrequest(method, self.address.prefix + _target(path, query))
            headers = {"Content-Type": "application/octet-stream", "Content-Length": str(length)}
            for name, value in {**self._headers, **headers}.items():
                connection.putheader(name, value)
            connection.endheaders()
        complaint: OSError | None = None
        for piece in pieces:
            try:
                with self._spoken(BrokenPipeError, ConnectionResetError):
                    connection.send(piece)
            except (BrokenPipeError, ConnectionResetError) as error:
                complaint = error  # a refusal may have come before all was sent
                break
        with self._spoken():
            try:
                response = connection.getresponse()
                answer = response.read()
            except (OSError, http.client.HTTPException) as error:
                raise complaint or error from None
        return _json_of(*self._taken(response, answer))

    def download(self, path: str) -> Iterator[bytes]:
        """GET a file's bytes, piece by piece. Raises Failure also when they end too early."""
        self._drop()
        with self._spoken():
            response = self._send("GET", path, None, {}, None)
        if response.status != 200:
            with self._spoken():
                answer = response.read()
            self._taken(response, answer)
        left = response.length or 0
        while True:
            with self._spoken():
                piece = response.read(CHUNK)
            if not piece:
                break
            left -= len(piece)
            yield piece
        if left > 0:
            raise Failure(f"the connection was lost {left} bytes before the end")

    def pages(
        self,
        path: str,
        query: Query | None = None,
        limit: int | None = None,
        paged: bool = True,
        method: str = "GET",
        body: Any = None,
    ) -> Pages:
        """The items of a list, page after page; ``limit``: so many at most. ``paged``: the call knows pages."""

        def page(wish: Query) -> Any:
            return self.call(method, path, body, wish)

        return Pages(page, dict(query or {}), limit, paged)

    def open_socket(self) -> socket.socket:
        """A connection of its own for the stream."""
        with self._spoken():
            opened = socket.create_connection((self.address.host, self.address.port), self.timeout)
            if self._context is None:
                return opened
            try:
                return self._context.wrap_socket(opened, server_hostname=self.address.host)
            except BaseException:
                opened.close()
                raise

    def close(self) -> None:
        self._drop()

    # -- inside ----------------------------------------------------------------------------------------------------

    def _exchange(
        self, method: str, path: str, data: bytes | None, headers: dict[str, str], timeout: float | None
    ) -> tuple[http.client.HTTPResponse, bytes]:
        again = method == "GET" and self._connection is not None
        if not again and time.monotonic() - self._used > FRESH:
            self._drop()
        try:
            response = self._send(method, path, data, headers, timeout)
            answer = response.read()
        except (ConnectionError, http.client.RemoteDisconnected, http.client.CannotSendRequest):
            self._drop()
            if not again:
                with self._spoken():
                    raise
            with self._spoken():
                response = self._send(method, path, data, headers, timeout)
                answer = response.read()
        except (OSError, http.client.HTTPException):
            with self._spoken():
                raise
        self._used = time.monotonic()
        return self._taken(response, answer)

    def _send(
        self, method: str, path: str, data: bytes | None, headers: dict[str, str], timeout: float | None
    ) -> http.client.HTTPResponse:
        connection = self._connection or self._open(timeout)
        if connection.sock is not None:
            connection.sock.settimeout(timeout or self.timeout)
        connection.request(method, self.address.prefix + path, data, {**self._headers, **headers})
        return connection.getresponse()

    def _open(self, timeout: float | None) -> http.client.HTTPConnection:
        host, port, patience = self.address.host, self.address.port, timeout or self.timeout
        if self._context is None:
            self._connection = http.client.HTTPConnection(host, port, timeout=patience)
        else:
            self._connection = http.client.HTTPSConnection(host, port, timeout=patience, context=self._context)
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _taken(self, response: http.client.HTTPResponse, answer: bytes) -> tuple[http.client.HTTPResponse, bytes]:
        if response.status < 300:
            return response, answer
        try:
            problem = decode(answer)
        except ValueError:
            problem = {}
        if not isinstance(problem, dict):
            problem = {}
        # The readiness of a broker that is not ready is an answer, too: see `Refused.problem`.
        raise Refused(response.status, response.reason, problem)

    @contextmanager
    def _spoken(self, *passed: type[Exception]) -> Iterator[None]:
        """Turns what sockets, TLS and HTTP raise into a Failure that says what to do about it, but for ``passed``."""
        try:
            yield
        except passed:
            raise
        except (OSError, http.client.HTTPException) as error:
            self._drop()
            raise Failure(_complaint(error, self.address, self.timeout)) from error


def _complaint(error: Exception, address: Address, timeout: float) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"the certificate of {address} is not to be trusted: {error.verify_message}; "
            "--ca FILE names the one to trust (of a broker that made its own: var/tls/certificate.pem)"
        )
    if isinstance(error, ssl.SSLError):
        return f"no TLS with {address}: {error.reason or error}; is it http:// there?"
    if isinstance(error, TimeoutError):
        return f"no answer from {address} within {timeout:g} s (--timeout)"
    if isinstance(error, http.client.RemoteDisconnected | ConnectionResetError | BrokenPipeError):
        return f"{address} has closed the connection without an answer; is it https:// there, or does the broker stop?"
    if isinstance(error, http.client.HTTPException):
        return f"what answers at {address} is no HTTP server: {type(error).__name__}"
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"cannot reach {address}: {why}; is the broker running there? (--api)"


class Pages:
    """The items of a list. After they were gone through, ``more`` says whether there would have been others."""

    def __init__(self, page: Callable[[Query], Any], query: dict[str, Any], limit: int | None, paged: bool) -> None:
        self._page = page
        self._query = query
        self._limit = limit
        self._paged = paged
        self.more = False
        #: The first page, without its items: some lists say more there.
        self.head: dict[str, Any] = {}

    def __iter__(self) -> Iterator[Any]:
        left = self._limit
        query = dict(self._query)
        while True:
            if self._paged:
                query["limit"] = PAGE if left is None else min(left, PAGE)
            page = self._page(query)
            if not isinstance(page, dict) or not isinstance(page.get("items"), list):
                raise Failure("the answer is no list; is this the broker's API?")
            items = page["items"]
            self.head = self.head or {name: value for name, value in page.items() if name != "items"}
            yield from items if left is None else items[:left]
            cursor = page.get("next")
            if left is not None:
                self.more = bool(cursor) or len(items) > left
                left -= len(items)
                if left <= 0:
                    return
            if not cursor:
                self.more = False
                return
            query["cursor"] = cursor


def _target(path: str, query: Query | None) -> str:
    """``path`` with what was given of a query: lists are repeated, None is left out."""
    pairs: list[tuple[str, str]] = []
    for name, value in (query or {}).items():
        for one in value if isinstance(value, list | tuple) else [value]:
            if one is not None:
                pairs.append((name, str(one).lower() if isinstance(one, bool) else str(one)))
    return f"{path}?{urlencode(pairs)}" if pairs else path


def _json_of(response: http.client.HTTPResponse, answer: bytes) -> Any:
    if not answer:
        return None
    try:
        return decode(answer)
    except ValueError:
        raise Failure("the answer is not JSON; is this the broker's API?") from None
