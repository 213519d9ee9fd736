"""``GET /api/v1/stream``: what happens, as it happens, to WebSocket clients.

::

    router ──uplink/presence/command──> Streams ──one text frame for all──> outbox of each client that wants it

Best effort and bounded (DESIGN §10): a client whose outbox is full misses messages, which are counted
(``stream_full``), and is told how many as soon as there is room: ``{"type": "dropped", "count": n}``. The router is
listened to only while there is a client. Server frames are not masked, so one encoding serves everybody.

What a client says is of no interest: its messages are dropped, over-long ones close the connection with 1009. The
handshake and the client's frames are `twisted.web.websocket`'s business; who may open a stream is decided before that.
"""

from __future__ import annotations

from typing import Any, Final

from twisted.python.failure import Failure
from zope.interface import implementer

from broker.applications.http.auth import Caller
from broker.applications.http.shapes import command_shape
from broker.listening.connection import Connection
from broker.listening.frames import PING, text_frame
from broker.listening.stats import ListenerStats
from broker.model.errors import LimitExceeded
from broker.model.interfaces import IConsumer
from broker.model.jsontext import encode
from broker.model.messages import KINDS, Command, Presence, Uplink
from broker.routing.router import Router

PRESENCE: Final = "presence"
COMMAND: Final = "command"
#: What ``?kind=`` may ask for.
STREAM_KINDS: Final = (*KINDS, PRESENCE, COMMAND)


class Wish:
    """Which messages a client asked for. An empty set asks for all."""

    __slots__ = ("devices", "kinds", "protocols")

    def __init__(self, devices: set[str], kinds: set[str], protocols: set[str]) -> None:
        self.devices = devices
        self.kinds = kinds
        self.protocols = protocols

    def wants(self, kind: str, device: str, protocol: str) -> bool:
        return (
            (not self.devices or device in self.devices)
            and (not self.kinds or kind in self.kinds)
            and (not self.protocols or protocol in self.protocols)
        )


class StreamClient:
    """One client; `twisted.web.websocket` calls the camelCase methods."""

    def __init__(self, streams: Streams, connection: Connection, caller: Caller, wish: Wish) -> None:
        self.streams = streams
        self.connection = connection
        self.caller = caller
        self.wish = wish
        self.dropped = 0
        #: Pings that were not answered yet.
        self.unanswered = 0
        #: Bytes that came since the last whole message.
        self.unfinished = 0

    def offer(self, frame: bytes) -> None:
        """Send if there is room, else count."""
        if self.dropped:
            self.make_up()
        if self.dropped or not self.connection.outbox.offer(frame):
            self.dropped += 1
            self.streams.stats.drop("stream_full")

    def make_up(self) -> None:
        """Tell how many messages were missed, once half of the outbox is free again."""
        outbox = self.connection.outbox
        if self.dropped and outbox.size * 2 < outbox.limit:
            outbox.put(text_frame(b'{"type":"dropped","count":%d}' % self.dropped))
            self.dropped = 0

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
        self.streams.add(self)

    def pongReceived(self, payload: bytes) -> None:
        self.unanswered = 0
        self.unfinished = 0

    def textMessageReceived(self, message: str) -> None:
        self.unfinished = 0

    def bytesMessageReceived(self, data: bytes | bytearray) -> None:
        self.unfinished = 0

    def connectionLost(self, reason: Failure) -> None:
        self.streams.remove(self)


@implementer(IConsumer)
class Streams:
    """All stream clients, and the one consumer that serves them."""

    def __init__(self, router: Router, stats: ListenerStats, max_streams: int, on_change: list[Any]) -> None:
        self.stats = stats
        self.max_streams = max_streams
        self.clients: set[StreamClient] = set()
        self._router = router
        on_change.append(self._changed)

    def admit(self) -> None:
        """Raises LimitExceeded when there are as many streams as allowed."""
        if len(self.clients) >= self.max_streams:
            raise LimitExceeded(f"{self.max_streams} streams are open already", limit="listeners.http.max_streams")

    def add(self, client: StreamClient) -> None:
        if not self.clients:
            self._router.listen(self)
        self.clients.add(client)

    def remove(self, client: StreamClient) -> None:
        self.clients.discard(client)
        if not self.clients:
            self._router.ignore(self)

    # -- IConsumer -------------------------------------------------------------------------------------------------

    def uplink(self, message: Uplink) -> None:
        ref = message.device
        clients = self._wanting(message.kind, ref.id, ref.protocol)
        if clients:
            self._send(clients, b'{"type":"uplink",' + message.as_json()[1:])

    def presence(self, change: Presence) -> None:
        ref = change.device
        clients = self._wanting(PRESENCE, ref.id, ref.protocol)
        if clients:
            self._send(clients, b'{"type":"presence",' + change.as_json()[1:])

    def command(self, change: Command) -> None:
        clients = self._wanting(COMMAND, change.device, change.protocol)
        if clients:
            self._send(clients, b'{"type":"command",' + encode(command_shape(change))[1:])

    # -- inside ----------------------------------------------------------------------------------------------------

    def _wanting(self, kind: str, device: str, protocol: str) -> list[StreamClient]:
        return [
            client
            for client in self.clients
            if client.wish.wants(kind, device, protocol) and client.caller.may_see(device)
        ]

    def _send(self, clients: list[StreamClient], text: bytes) -> None:
        frame = text_frame(text)
        self.stats.messages_out += len(clients)
        for client in clients:
            client.offer(frame)

    def _changed(self, change: Any) -> None:
        """An application that may not log in any more may not go on reading either."""
        if change.what in ("application_removed", "application_disabled", "application_secret"):
            for client in [one for one in self.clients if one.caller.application == change.id]:
                client.connection.close("removed")
