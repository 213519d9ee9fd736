"""A Gizwits app on the WebSocket of the Open API, ``/ws/app/v1``: JSON texts ``{"cmd", "data"}``.

::

    app = GizwitsSocket(reactor, "http://127.0.0.1:8081", appid, uid, token, on_message)
    yield app.start()              logs in and is subscribed to what its user has bound
    app.write(did, {"power": True}, sn)
    ...on_message(cmd, data) hears s2c_noti, s2c_raw, s2c_ack, s2c_online_status, s2c_invalid_msg
    app.stop()
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure
from twisted.web.websocket import WebSocketClientEndpoint, WebSocketTransport

from broker.simulate.api import CONNECT_TIMEOUT

#: Seconds between two pings; the broker waits half as long again.
HEARTBEAT: Final = 60.0


class SocketRefused(Exception):
    """The broker did not let the app in."""


class GizwitsSocket:
    """One connection (WebSocketProtocol). ``on_end(why)`` is called when it is over, unless it was stopped."""

    def __init__(
        self,
        reactor: Any,
        url: str,
        appid: str,
        uid: str,
        token: str,
        on_message: Callable[[str, dict[str, Any]], object],
        on_end: Callable[[str], object] = lambda why: None,
    ) -> None:
        self._reactor = reactor
        self._url = f"ws{url.removeprefix('http').rstrip('/')}/ws/app/v1"
        self._login = {"appid": appid, "uid": uid, "token": token, "p0_type": "attrs_v4"}
        self._on_message = on_message
        self._on_end = on_end
        self._transport: WebSocketTransport | None = None
        #: Fires with the answer to the log-in.
        self.logged_in: Deferred[None] = Deferred()
        self._pings = LoopingCall(self.say, "ping")
        self._pings.clock = reactor
        self._stopped = False

    async def start(self) -> None:
        """Connect and log in. Raises SocketRefused, and what connecting raises."""
        endpoint = WebSocketClientEndpoint.new(self._reactor, self._url, connectTimeout=CONNECT_TIMEOUT)
        await endpoint.connect(self)
        self.say("login_req", {**self._login, "heartbeat_interval": HEARTBEAT, "auto_subscribe": True})
        await self.logged_in
        self._pings.start(HEARTBEAT, now=False)

    def stop(self) -> None:
        self._stopped = True
        if self._transport is not None:
            self._transport.loseConnection()

    def write(self, did: str, attrs: dict[str, Any], sn: int) -> None:
        """Set data points by name; the device acknowledges with the number."""
        self.say("c2s_write", {"did": did, "attrs": attrs, "req_sn": sn})

    def write_raw(self, did: str, data: bytes, sn: int) -> None:
        """The same in bytes."""
        self.say("c2s_write", {"did": did, "raw": list(data), "req_sn": sn})

    def say(self, cmd: str, data: Any = None) -> None:
        """Any message; it is lost while there is no connection."""
        if self._transport is not None:
            message = {"cmd": cmd} if data is None else {"cmd": cmd, "data": data}
            self._transport.sendTextMessage(msgspec.json.encode(message).decode())

    # -- WebSocketProtocol -----------------------------------------------------------------------------------------

    def buildProtocol(self, url: str) -> GizwitsSocket:
        """It is its own factory: one connection is all there is."""
        return self

    def negotiationStarted(self, transport: WebSocketTransport) -> None:
        self._transport = transport
        if self._stopped:
            transport.loseConnection()

    def negotiationFinished(self) -> None:
        """`start` goes on."""

    def pongReceived(self, payload: bytes) -> None:
        """Signs of life are messages here."""

    def textMessageReceived(self, message: str) -> None:
        value = msgspec.json.decode(message)
        cmd, data = value.get("cmd"), value.get("data") or {}
        if cmd == "login_res" and not self.logged_in.called:
            if data.get("success"):
                self.logged_in.callback(None)
            else:
                self.logged_in.errback(SocketRefused("the broker does not accept this user"))
        elif cmd != "pong":
            self._on_message(cmd, data)

    def bytesMessageReceived(self, data: bytes | bytearray) -> None:
        """The broker sends none."""

    def connectionLost(self, reason: Failure) -> None:
        self._transport = None
        if self._pings.running:
            self._pings.stop()
        why = "closed" if reason.check(ConnectionDone) else reason.getErrorMessage()
        if not self.logged_in.called:
            self.logged_in.errback(SocketRefused(why))
        elif not self._stopped:
            self._on_end(why)
