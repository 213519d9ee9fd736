"""WebSocket clients of routes: who may open one, what one is.

::

    request ──handshake checked──> handler(call) ──returns──> WebSocketPeer ──101──> opened, text, binary ... ended

The handshake and the client's frames are `twisted.web.websocket`'s business; limits, pings and the end are the
connection's. Server frames are not masked, so one encoding serves everybody (`broker.listening.frames`).
"""

from __future__ import annotations

from math import inf
from typing import Any
from urllib.parse import urlsplit

from twisted.python.failure import Failure
from twisted.web.server import NOT_DONE_YET
from twisted.web.websocket import WebSocketResource

from broker.listening.frames import PING, binary_frame, text_frame
from broker.model.errors import Forbidden, Invalid
from broker.web.problems import Problem, UpgradeRequired
from broker.web.routes import Handler, Route

_UPGRADE = ((b"Upgrade", b"websocket"), (b"Connection", b"Upgrade"))


def WebSocketRoute(path: str, handler: Handler, access: str, **options: Any) -> Route:  # makes a Route
    """A route whose handler returns a `WebSocketPeer`.

    Pages of other hosts are refused, unless ``any_origin``: a page must not open a socket in its visitor's name.
    """
    also = {426: (Problem, "Not a WebSocket handshake")}
    return Route("GET", path, handler, access, status=101, websocket=True, also=also, **options)


class WebSocketPeer:
    """One client, from the handshake to the end; `twisted.web.websocket` calls the camelCase methods.

    Derive from it and override `opened`, `text`, `binary`, `ended`, `writable`, `check` and the two properties. An
    exception that escapes them is a fault of ours: logged, and the connection is closed with 1011.
    """

    #: Whether messages count as such in the listener's figures and against its message rate.
    counted = True

    def __init__(self) -> None:
        #: The `broker.web.connection.WebConnection`, from `opened` on.
        self.connection: Any = None
        #: Bytes that came since the last whole message.
        self.unfinished = 0
        #: Pings that were not answered yet.
        self.unanswered = 0

    # -- to override -----------------------------------------------------------------------------------------------

    @property
    def max_message(self) -> int:
        """Bytes that may come between two whole messages; more closes with ``too_long`` (1009)."""
        return int(self.connection.home.limits.max_message_size)

    @property
    def ping_interval(self) -> float:
        """Seconds between pings; a client that answers none of two is closed as ``idle``."""
        return 30.0

    def opened(self) -> None:
        """The handshake is answered; frames can be sent."""

    def text(self, message: str) -> None:
        """A text message came."""

    def binary(self, data: bytes) -> None:
        """A binary message came."""

    def writable(self) -> None:
        """There is room again after a jam."""

    def check(self, now: float) -> float:
        """Look at time limits of one's own (`close` when one is over); return when to look next."""
        return inf

    def ended(self, reason: str) -> None:
        """The connection is gone; the reason is one of the catalogue's."""

    # -- to use ----------------------------------------------------------------------------------------------------

    def send_text(self, text: bytes) -> None:
        """Send what must not be lost: UTF-8."""
        self.connection.send(text_frame(text))

    def send_binary(self, data: bytes) -> None:
        self.connection.send(binary_frame(data))

    def offer(self, frame: bytes) -> bool:
        """Send a whole frame if the outbox has room for it."""
        return bool(self.connection.outbox.offer(frame))

    def close(self, reason: str) -> None:
        """End the connection with a reason of the catalogue; the client sees its code of `CLOSE_CODES`."""
        self.connection.close(reason)

    # -- from the connection ---------------------------------------------------------------------------------------

    def ping(self) -> bool:
        """Send a ping. False if the last two were not answered."""
        if self.unanswered >= 2:
            return False
        self.unanswered += 1
        self.connection.send(PING)
        return True

    def negotiationStarted(self, transport: Any) -> None:
        """The handshake is being answered."""

    def negotiationFinished(self) -> None:
        self.opened()

    def pongReceived(self, payload: bytes) -> None:
        self.unanswered = 0
        self.unfinished = 0

    def textMessageReceived(self, message: str) -> None:
        if self._takes():
            self.text(message)

    def bytesMessageReceived(self, data: bytes | bytearray) -> None:
        if self._takes():
            self.binary(bytes(data))

    def connectionLost(self, reason: Failure) -> None:
        self.ended(self.connection.reason)

    def _takes(self) -> bool:
        """Count a message that is whole; none is taken any more once the connection is closing."""
        self.unfinished = 0
        if self.counted:
            self.connection.account(1)
        return not self.connection.closing


class _Once:
    """The factory that `WebSocketResource` wants: one client, made before."""

    def __init__(self, peer: WebSocketPeer) -> None:
        self._peer = peer

    def buildProtocol(self, request: Any) -> WebSocketPeer:
        return self._peer


def upgrade(request: Any, peer: WebSocketPeer) -> None:
    """Answer the handshake and make a WebSocket of the request's connection."""
    connection = request.connection
    peer.connection = connection
    if WebSocketResource(_Once(peer)).render_GET(request) is not NOT_DONE_YET:
        raise Invalid("the WebSocket handshake is not valid")
    connection.upgrade(peer)
    connection.home.count_answer(101)


def check_handshake(request: Any, any_origin: bool) -> None:
    """What the handshake (RFC 6455, 4.2.1) needs, looked at before Twisted logs its absence as a fault.

    Raises UpgradeRequired, Invalid, Forbidden.
    """
    headers = request.requestHeaders

    def has(name: bytes, token: bytes) -> bool:
        values = b",".join(headers.getRawHeaders(name, [])).lower().split(b",")
        return token in [value.strip() for value in values]

    if not (has(b"upgrade", b"websocket") and has(b"connection", b"upgrade")):
        raise UpgradeRequired("this is a WebSocket", headers=_UPGRADE)
    if not has(b"sec-websocket-version", b"13"):
        raise UpgradeRequired("WebSocket version 13 is needed", headers=((b"Sec-WebSocket-Version", b"13"), *_UPGRADE))
    if len(headers.getRawHeaders(b"sec-websocket-key", [])) != 1 or request.clientproto != b"HTTP/1.1":
        raise Invalid("the WebSocket handshake is not valid")
    if not any_origin:
        _check_origin(headers)


def _check_origin(headers: Any) -> None:
    origins = headers.getRawHeaders(b"origin", [])
    hosts = headers.getRawHeaders(b"host", [])
    if not origins:
        return
    try:
        origin = urlsplit(origins[0].decode("ascii")).netloc.lower()
    except ValueError:
        origin = ""
    if not origin or len(origins) > 1 or not hosts or origin.encode() != hosts[0].strip().lower():
        raise Forbidden("a stream may be opened only by pages of this host")
