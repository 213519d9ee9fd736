"""The opening of a WebSocket, from the server's side: an HTTP request in, an answer out (RFC 6455, 4.2).

::

    GET /mqtt HTTP/1.1                         HTTP/1.1 101 Switching Protocols
    Host: ...                                  Upgrade: WebSocket
    Connection: Upgrade              ───>      Connection: Upgrade
    Upgrade: websocket                         Sec-WebSocket-Accept: ...
    Sec-WebSocket-Version: 13                  Sec-WebSocket-Protocol: mqtt
    Sec-WebSocket-Key: ...
    Sec-WebSocket-Protocol: mqtt

Anything else is refused with an answer that says why:

    400  not HTTP; a WebSocket request with a part missing; none of our subprotocols offered [MQTT-6.0.0-3]
    403  a page of an origin that is not allowed
    404  another path
    405  another method than GET
    426  a plain request (with ``Upgrade``); another version than 13 (with ``Sec-WebSocket-Version``)
    431  a head that is too large

No extension is agreed to: compression costs memory for each connection and lets a few bytes become many.

Sans-IO. h11 reads the request, wsproto makes the answer; the time that it may take is the connection's login limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

import h11
from wsproto.connection import Connection as Frames
from wsproto.connection import ConnectionType
from wsproto.events import AcceptConnection, Request
from wsproto.handshake import H11Handshake
from wsproto.utilities import ProtocolError

from broker.listening.settings import WebSocketSettings

VERSION: Final = b"13"

Headers = Sequence[tuple[str, str]]
#: What a client that speaks plain HTTP, or another version, is told.
UPGRADE: Final[Headers] = (("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", "13"))


class Refused(Exception):
    """No WebSocket comes of it. ``answer`` is for the client, ``reason`` of the catalogue of close reasons."""

    def __init__(self, status: int, text: str, reason: str = "protocol_error", headers: Headers = ()) -> None:
        super().__init__(text)
        self.reason = reason
        self.answer = refusal(status, text, headers)


def refusal(status: int, text: str, headers: Headers = ()) -> bytes:
    """A whole HTTP answer, after which the connection is closed."""
    body = text.encode() + b"\n"
    if not any(name == "Connection" for name, _ in headers):
        headers = (*headers, ("Connection", "close"))
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Length: {len(body)}",
        *(f"{name}: {value}" for name, value in headers),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Handshake:
    """Reads one request. ``subprotocols`` are ours, the one that we like best first."""

    def __init__(self, subprotocols: Sequence[str], settings: WebSocketSettings) -> None:
        self._subprotocols = subprotocols
        self._settings = settings
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=settings.max_handshake_size)

    def receive(self, data: bytes) -> tuple[bytes, Frames] | None:
        """What to answer, and what reads the frames from now on; None while the request is not complete.

        Raises Refused; then, and when it has answered, it must not be called again.
        """
        try:
            self._http.receive_data(data)
            request = self._http.next_event()
            if not isinstance(request, h11.Request):
                return None
            self._check(request)
            if not isinstance(self._http.next_event(), h11.EndOfMessage):
                raise Refused(400, "a request for a WebSocket has no body")
            answer, frames = self._accept(request)
        except h11.RemoteProtocolError as error:
            status = error.error_status_hint
            if status == 431:
                raise Refused(431, "the head is too large", "too_long") from None
            raise Refused(status, "this is not a request of HTTP/1.1", "malformed") from None
        except ProtocolError as error:
            raise Refused(400, str(error), "malformed") from None
        except ValueError:
            raise Refused(400, "a header is not ASCII", "malformed") from None
        frames.receive_data(self._http.trailing_data[0])
        return answer, frames

    def _check(self, request: h11.Request) -> None:
        """Whether this is a request for a WebSocket at all, and for one of ours."""
        path = request.target.partition(b"?")[0].decode("ascii")
        if path not in self._settings.paths:
            raise Refused(404, "there is nothing here")
        if request.method != b"GET":
            raise Refused(405, "only GET is allowed here", headers=[("Allow", "GET")])
        upgrade = [value.strip().lower() for name, value in request.headers if name == b"upgrade"]
        if b"websocket" not in upgrade or request.http_version != b"1.1":
            raise Refused(426, "a WebSocket is expected here", headers=UPGRADE)
        versions = [value for name, value in request.headers if name == b"sec-websocket-version"]
        if versions and versions != [VERSION]:
            raise Refused(426, "only version 13 of the WebSocket protocol is spoken here", headers=UPGRADE)
        origins = [value.decode("latin-1") for name, value in request.headers if name == b"origin"]
        allowed = self._settings.origins
        if allowed and any(origin not in allowed for origin in origins):
            raise Refused(403, "pages of this origin may not connect", "auth_failed")

    def _accept(self, request: h11.Request) -> tuple[bytes, Frames]:
        handshake = H11Handshake(ConnectionType.SERVER)
        handshake.initiate_upgrade_connection(list(request.headers), request.target)
        offer = next(handshake.events())
        assert isinstance(offer, Request)
        subprotocol = next((name for name in self._subprotocols if name in offer.subprotocols), None)
        if subprotocol is None:
            ours = ", ".join(self._subprotocols)
            raise Refused(400, f"Sec-WebSocket-Protocol has to offer one of: {ours}")
        answer = handshake.send(AcceptConnection(subprotocol=subprotocol))
        frames = handshake.connection
        assert frames is not None
        return answer, frames
