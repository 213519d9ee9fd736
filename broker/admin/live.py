"""The API's stream (``GET /api/v1/stream``): what happens, as it happens. A WebSocket, read by blocking.

A stream that says nothing is not broken: the broker pings, and after half a minute without a byte so do we. Only when
that is not answered either the connection counts as lost.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlencode

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Message,
    Ping,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.utilities import ProtocolError

from broker.admin.client import API, Client
from broker.admin.failures import Failure, Refused
from broker.model.jsontext import decode

#: Seconds without a byte after which we ask, and as many again for the answer.
QUIET: Final = 30.0
CHUNK: Final = 65_536


class Stream:
    """One stream; begins when it is made. Raises Failure, Refused."""

    def __init__(self, client: Client, **filters: list[str] | None) -> None:
        address = client.address
        query = urlencode([(name, one) for name, values in filters.items() for one in values or ()])
        self._lost = Failure(f"the stream of {address} was lost")
        self._protocol = WSConnection(ConnectionType.CLIENT)
        self._messages: deque[Any] = deque()
        self._parts: list[str] = []
        self._opened = False
        self._refusal: tuple[int, bytes] | None = None
        self._heard = time.monotonic()
        self._asked = False
        self._socket = client.open_socket()
        try:
            target = f"{address.prefix}{API}/stream" + (f"?{query}" if query else "")
            headers = [(b"Authorization", client.authorization.encode("latin-1"))]
            host = str(address).partition("//")[2].partition("/")[0]
            self._send(self._protocol.send(Request(host=host, target=target, extra_headers=headers)))
            until = time.monotonic() + client.timeout
            while not self._opened:
                self._read(max(0.001, until - time.monotonic()))
                if time.monotonic() > until:
                    raise Failure(f"no answer from {address} within {client.timeout:g} s (--timeout)")
        except BaseException:
            self.close()
            raise

    def __iter__(self) -> Iterator[Any]:
        """All messages, without end."""
        while True:
            message = self.receive(None)
            if message is not None:
                yield message

    def receive(self, seconds: float | None) -> Any:
        """The next message, or None when there was none for so many seconds."""
        until = None if seconds is None else time.monotonic() + seconds
        while not self._messages:
            now = time.monotonic()
            if until is not None and now >= until:
                return None
            quiet = self._heard + QUIET * (2 if self._asked else 1)
            if now >= quiet:
                if self._asked:
                    raise self._lost
                self._asked = True
                self._send(self._protocol.send(Ping()))
                continue
            self._read((quiet if until is None else min(until, quiet)) - now)
        return self._messages.popleft()

    def close(self) -> None:
        self._socket.close()

    # -- inside ----------------------------------------------------------------------------------------------------

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError:
            raise self._lost from None

    def _read(self, seconds: float) -> None:
        """Take in what comes, if something comes for so many seconds."""
        self._socket.settimeout(max(seconds, 0.001))
        try:
            data = self._socket.recv(CHUNK)
        except TimeoutError:
            return
        except OSError:
            raise self._lost from None
        finally:
            self._socket.settimeout(QUIET)
        if not data:
            raise self._lost
        self._heard, self._asked = time.monotonic(), False
        try:
            self._protocol.receive_data(data)
            for event in self._protocol.events():
                self._take(event)
        except ProtocolError as error:
            raise Failure(f"what answers is no stream: {error}") from None

    def _take(self, event: Any) -> None:
        match event:
            case AcceptConnection():
                self._opened = True
            case RejectConnection():
                self._refusal = (event.status_code, b"")
                if not event.has_body:
                    raise self._refused()
            case RejectData():
                assert self._refusal is not None
                self._refusal = (self._refusal[0], self._refusal[1] + bytes(event.data))
                if event.body_finished:
                    raise self._refused()
            case Ping():
                self._send(self._protocol.send(event.response()))
            case CloseConnection():
                raise Failure(f"the broker has ended the stream: {event.reason or event.code}")
            case Message():
                self._take_message(event)

    def _take_message(self, event: Message[Any]) -> None:
        if not isinstance(event, TextMessage):
            return
        self._parts.append(event.data)
        if event.message_finished:
            text = "".join(self._parts)
            self._parts.clear()
            try:
                self._messages.append(decode(text))
            except ValueError:
                raise Failure("a message of the stream is not JSON") from None

    def _refused(self) -> Refused:
        assert self._refusal is not None
        status, body = self._refusal
        try:
            problem = decode(body)
        except ValueError:
            problem = {}
        return Refused(status, "refused", problem if isinstance(problem, dict) else {})
