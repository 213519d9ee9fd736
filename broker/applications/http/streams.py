"""``GET /api/v1/stream``: what happens, as it happens, to WebSocket clients.

::

    router ──uplink/presence/command──> Streams ──one text frame for all──> outbox of each client that wants it

Best effort and bounded (DESIGN §10): a client whose outbox is full misses messages, which are counted
(``stream_full``), and is told how many as soon as there is room: ``{"type": "dropped", "count": n}``. The router is
listened to only while there is a client. Server frames are not masked, so one encoding serves everybody.

What a client says is of no interest: its messages are dropped, over-long ones close the connection with 1009.
"""

from __future__ import annotations

from typing import Any, Final

from zope.interface import implementer

from broker.applications.http.shapes import command_shape
from broker.applications.http.sign_in import Session
from broker.events.event import Event, seen_by
from broker.listening.frames import text_frame
from broker.listening.stats import ListenerStats
from broker.model.errors import LimitExceeded
from broker.model.interfaces import IFarConsumer
from broker.model.jsontext import encode
from broker.model.messages import KINDS, Command, Presence, Uplink
from broker.routing.router import Router
from broker.routing.traces import TracedPacket
from broker.web.callers import Caller
from broker.web.websocket import WebSocketPeer

PRESENCE: Final = "presence"
COMMAND: Final = "command"
#: A campaign that has changed; for the administrator.
CAMPAIGN: Final = "campaign"
#: Events of the broker; the word for uplinks of the kind ``event`` is taken.
BROKER_EVENT: Final = "broker_event"
#: Packets of devices that are traced: the administrator's, and only for who asks for them by this name.
TRACE: Final = "trace"
#: What ``?kind=`` may ask for.
STREAM_KINDS: Final = (*KINDS, PRESENCE, COMMAND, BROKER_EVENT, CAMPAIGN, TRACE)


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


class StreamClient(WebSocketPeer):
    """One client."""

    counted = False

    def __init__(self, streams: Streams, caller: Caller, wish: Wish, session: Session | None = None) -> None:
        super().__init__()
        #: The browser's sign-in that it came with.
        self.session = session
        self.streams = streams
        self.caller = caller
        self.wish = wish
        self.dropped = 0

    @property
    def max_message(self) -> int:
        return int(self.connection.home.settings.max_stream_message)

    @property
    def ping_interval(self) -> float:
        return float(self.connection.home.settings.stream_ping)

    def opened(self) -> None:
        self.streams.add(self)

    def ended(self, reason: str) -> None:
        self.streams.remove(self)

    def tell(self, frame: bytes) -> None:
        """Send if there is room, else count."""
        if self.dropped:
            self.writable()
        if self.dropped or not self.offer(frame):
            self.dropped += 1
            self.streams.stats.drop("stream_full")

    def writable(self) -> None:
        """Tell how many messages were missed, once half of the outbox is free again."""
        outbox = self.connection.outbox
        if self.dropped and outbox.size * 2 < outbox.limit:
            outbox.put(text_frame(b'{"type":"dropped","count":%d}' % self.dropped))
            self.dropped = 0


@implementer(IFarConsumer)
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
        for told in self._router.on_listening:
            told()
        if client.session is not None and client.session.ended:  # signed out while it was opened
            client.close("removed")

    def remove(self, client: StreamClient) -> None:
        self.clients.discard(client)
        if not self.clients:
            self._router.ignore(self)

    def interests(self) -> set[str]:
        """See `IFarConsumer`."""
        wanted: set[str] = set()
        for client in self.clients:
            if client.wish.devices:
                wanted.update(f"d:{device}" for device in client.wish.devices)
            else:
                wanted.add("*" if client.caller.is_admin else f"a:{client.caller.application}")
        return wanted

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

    # -- for the administrator -------------------------------------------------------------------------------------

    def announce(self, kind: str, value: dict[str, Any]) -> None:
        """Something that is no single device's; clients that asked for single ones do not get it."""
        protocol = str(value.get("protocol", ""))
        clients = [one for one in self.clients if one.caller.is_admin and one.wish.wants(kind, "", protocol)]
        if clients:
            self._send(clients, encode({"type": kind, **value}))

    # -- events, traces ---------------------------------------------------------------------------------------------

    def event(self, event: Event) -> None:
        """What concerns no device is the administrator's; of the others, each sees what it may."""
        device, protocol = event.device or "", event.protocol or ""
        clients = [client for client in self.clients if client.wish.wants(BROKER_EVENT, device, protocol)]
        whole = [client for client in clients if client.caller.is_admin]
        if whole:
            self._send(whole, b'{"type":"event",' + encode(event.as_dict())[1:])
        for client in clients:
            if not client.caller.is_admin and (seen := seen_by(event, client.caller.may_see)) is not None:
                self._send([client], b'{"type":"event",' + encode(seen.as_dict())[1:])

    def packet(self, packet: TracedPacket) -> None:
        """A packet of a device that is traced."""
        device, protocol = packet.device, packet.protocol
        clients = [
            client
            for client in self.clients
            if TRACE in client.wish.kinds and client.caller.is_admin and client.wish.wants(TRACE, device, protocol)
        ]
        if clients:
            self._send(clients, b'{"type":"trace",' + encode(packet.as_dict())[1:])

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
            client.tell(frame)

    def signed_out(self, session: Session) -> None:
        """A browser's session is over: its streams are."""
        for client in [one for one in self.clients if one.session is session]:
            client.close("removed")

    def _changed(self, change: Any) -> None:
        """An application that may not log in any more may not go on reading either."""
        if change.what in ("application_removed", "application_disabled", "application_secret"):
            for client in [one for one in self.clients if one.caller.application == change.id]:
                client.close("removed")
