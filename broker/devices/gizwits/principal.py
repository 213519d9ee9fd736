"""A Gizwits device on its MQTT connection: what it may do there, what it says, and the way to it.

It subscribes three filters and no others, and publishes on ``dev2app/<did>[/<app client id>]`` and on the two request
topics and no others (3.3). What it publishes is looked at and goes on as it is, to whoever is subscribed; besides

=====================================  ===============================================================
0x0091 to all apps, or to us           Uplink "raw": the bytes behind the command
0x0093 likewise                        Uplink "raw": the bytes behind the number, ``meta.sn``
0x0094 likewise                        the command that waits for this number has succeeded
0x0012                                 Uplink "log": ``{"level", "tag", "source", "log"}``
0x0011                                 the log setting is confirmed
0x020F                                 answered with 0x0210
others                                 nothing: they are the device's and its apps' own
=====================================  ===============================================================

The broker acknowledges no business message (4.9). Malformed ones are dropped; some in a row close the connection.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any, Final

from twisted.internet.defer import Deferred
from zope.interface import implementer

from broker.devices.gizwits import codec as g
from broker.devices.gizwits.datapoints import BRIDGE, Table
from broker.devices.gizwits.host import Host
from broker.devices.gizwits.identity import PROTOCOL
from broker.devices.gizwits.log_switches import remembered, setting
from broker.devices.gizwits.switches import Switches
from broker.devices.gizwits.topics import (
    BROKER,
    REQUESTS,
    command_topic,
    commands_filter,
    notice_topic,
    report_topic,
    response_topic,
)
from broker.devices.gizwits.tracing import told
from broker.model.errors import Invalid
from broker.model.interfaces import IMqttPrincipal, ITracedLink
from broker.model.messages import LOG, RAW, SUCCEEDED, Command, Reply, Uplink, payload_bytes, payload_object
from broker.mqtt.delivery import deliver
from broker.mqtt.packets import MQTT_3_1
from broker.mqtt.terms import Terms, Watched
from broker.routing.live import LiveDevice
from broker.routing.values import LastValues
from broker.storage.identity import Login

#: The broker publishes to devices at this QoS; a device gets the lower of this and what it subscribed.
QOS: Final = 1
#: A connection that was taken over has this many seconds until its successor is up, or the device is offline.
TAKEOVER: Final = 5.0
#: Bytes of a PUBLISH besides topic and payload, at most: first byte, length, topic length, packet id.
_PACKET_HEAD: Final = 1 + 4 + 2 + 2


def serial_number(command_id: str) -> int:
    """That of a 0x0093 which is a command of ours: made of its id, so that a restarted broker knows the answer."""
    return int.from_bytes(sha256(command_id.encode()).digest()[:4], "big")


class DeviceTerms(Terms):
    """How a device's connection is kept (4.6, 4.7)."""

    def __init__(self, device: DevicePrincipal) -> None:
        self._device = device
        settings = device.side.settings
        self.max_keep_alive = settings.max_keep_alive
        self._most = settings.max_pings
        self._window = settings.ping_window
        self._pings: list[float] = []

    def ping(self, now: float) -> bool:
        self._device.pinged()
        if not self._most:
            return True
        pings = self._pings
        while pings and pings[0] <= now - self._window:
            del pings[0]
        pings.append(now)
        return len(pings) <= self._most

    def gap(self, version: int) -> float | None:
        wanted = self._device.switches.one_packet
        if wanted is None:
            wanted = version == MQTT_3_1
        return self._device.side.settings.packet_gap if wanted else None

    def left(self, reason: str) -> None:
        self._device.gone(reason)


@implementer(IMqttPrincipal, ITracedLink)
class DevicePrincipal:
    """A device that is logged in, on one connection."""

    protocol = PROTOCOL

    def __init__(self, side: Host, login: Login, switches: Switches, peer: str = "") -> None:
        record = login.record
        self.side = side
        self.switches = switches
        self.did = record.id
        self.peer = peer
        self.product = record.product
        self.name = f"device:{record.id}"
        self.terms = DeviceTerms(self)
        self.window = side.settings.command_window
        self.answer_timeout = self.pending_timeout = side.settings.ack_timeout
        self._login = login
        self._core = side.core
        self._clock = side.core.clock
        self._uplink = side.core.router.uplink
        self._wanted = side.core.router.wanted
        self._close: Callable[[str], None] | None = None
        self._live: LiveDevice | None = None
        self._malformed = 0
        #: Whether it listens to what it is told, and was told how many apps there are.
        self.greeted = False
        self._to_all = report_topic(record.id)
        self._to_one = self._to_all + "/"
        self._commands = command_topic(record.id)

    # -- IMqttPrincipal --------------------------------------------------------------------------------------------

    def may_subscribe(self, topic_filter: str) -> bool:
        if topic_filter in (commands_filter(self.did), response_topic(self.did)):
            self._later(self._subscribed)
            return True
        product = self.product
        return product is not None and topic_filter.lower() == notice_topic(product).lower()

    def may_receive(self, topic: str) -> bool:
        """It is subscribed to nothing but its own."""
        return True

    def publisher(self, topic: str) -> Watched | bool:
        if topic == self._to_all:
            return Watched(self._report)
        if topic.startswith(self._to_one):
            app = topic[len(self._to_one) :]
            if app and "/" not in app:
                return Watched(self._report if app == BROKER else self._private)
        return Watched(self._request) if topic in REQUESTS else False

    def retained(self, topic_filter: str, cursor: str | None) -> None:
        """Nothing is retained for devices."""
        return None

    def connected(self, close: Callable[[str], None]) -> None:
        self._close = close
        login = self._login
        record = login.record

        news = self.side.take_news(self.did)

        def known() -> tuple[LastValues, dict[str, Any]]:
            return LastValues(login.values, login.unmapped, login.sensors), {**record.info, **news}

        self._live = self._core.devices.attach(record.ref(), self, known)
        self._later(self._subscribed)  # a session that was there before has its subscriptions

    def trace(self, tell: Callable[[str, bytes | None, Any], None] | None) -> None:
        if self.terms.connection is not None:
            self.terms.connection.trace(tell, told)

    def disconnected(self) -> None:
        self._close = None

    def gone(self, reason: str) -> None:
        """The connection is over. After a takeover the device stays online if its new connection comes up; until then
        its commands wait."""
        live = self._live
        if live is not None and live.link is self:
            live.ready = False
        if reason == "takeover":
            self._core.reactor.callLater(TAKEOVER, self._detach, reason)
        else:
            self._detach(reason)

    def _detach(self, reason: str) -> None:
        if self._live is not None:
            self._core.devices.detach(self._live, self, reason)

    def _later(self, call: Callable[[], None]) -> None:
        """Once what is being done (a log-in, a subscription) is done and answered."""
        self._core.reactor.callLater(0, self._once_known, call)

    def _once_known(self, call: Callable[[], None]) -> None:
        """Where there are other processes, a SUBACK waits for them, and nothing may come before it."""
        server = self._core.listeners.get("mqtt")
        known: Deferred[None] | None = None if server is None else server.known()
        if known is None:
            call()
        else:
            known.addCallback(lambda _: call())

    def _subscribed(self) -> None:
        """Say what there is to say, once it listens. Agents subscribe one by one, the commands last."""
        live = self._live
        if live is None or live.link is not self or self._session(self._commands) is None:
            return
        if not live.ready:
            self._core.commands.ready(live)
            log = remembered(live.info)
            if log is not None and not log["sent"]:
                self.set_log(log["bits"])
        if not self.greeted and self._session(response_topic(self.did)) is not None:
            self.greeted = True
            self.side.subscribed(self.did)

    # -- what it says ----------------------------------------------------------------------------------------------

    def heard(self) -> None:
        """It is there."""
        if self._live is not None:
            self._live.last_seen = self._clock()

    def pinged(self) -> None:
        """It is there, and has nothing to say."""
        if self._live is not None:
            self._live.last_seen = self._live.last_heartbeat = self._clock()

    def _report(self, payload: bytes) -> bool:
        """A business message to all apps, or to us."""
        live = self._live
        assert live is not None
        self.terms.answers += 1
        try:
            command, at = g.open_business(payload)
            now = live.last_seen = self._clock()
            if command == g.REPORT:
                if self._wanted(live.ref, RAW):
                    self._uplink(Uplink(live.ref, RAW, payload[at:], now))
            elif command == g.REQUEST:
                sn = int.from_bytes(payload[at : at + 4], "big")
                self._uplink(Uplink(live.ref, RAW, payload[at + 4 :], now, None, {"sn": sn}))
            elif command == g.ACK:
                self._acknowledged(payload, at, now)
            elif command in (g.LOG, g.LOG_SET):
                self._other(g.decode_business(payload), now)
        except g.Malformed:
            return self._wrong()
        self._malformed = 0
        return True

    def _private(self, payload: bytes) -> bool:
        """A business message to one app: its own affair, but for the log setting."""
        self.terms.answers += 1
        try:
            command, _ = g.open_business(payload)
            if command in (g.LOG, g.LOG_SET):
                self._other(g.decode_business(payload), self._clock())
        except g.Malformed:
            return self._wrong()
        self.heard()
        self._malformed = 0
        return True

    def _request(self, payload: bytes) -> bool:
        """A system message; those that are not in the documents are left alone."""
        try:
            packet = g.decode_system(payload)
        except g.Malformed:
            return self._wrong()
        self.heard()
        self._malformed = 0
        if isinstance(packet, g.AskApps):
            self.side.online.tell(self.did)
        return True

    def _other(self, packet: g.Business, now: float) -> None:
        live = self._live
        assert live is not None
        if isinstance(packet, g.Log):
            self._uplink(Uplink(live.ref, LOG, _log_object(packet), now))
        else:
            log = remembered(live.info)
            if log is not None and not log["confirmed"]:
                live.info["log"] = setting(log["bits"], sent=True, confirmed=True)
                live.info_changed = True

    def _acknowledged(self, payload: bytes, at: int, now: float) -> None:
        command_id = self.side.acknowledged(self.did, int.from_bytes(payload[at : at + 4], "big"))
        if command_id is not None:
            data = payload[at + 4 :]
            reply = Reply(command_id, SUCCEEDED, payload_object(data) if data else None, now)
            self._core.commands.reply(self.did, reply)

    def _wrong(self) -> bool:
        self._malformed += 1
        if self._malformed >= self.side.settings.max_malformed and self._close is not None:
            self._close("malformed")
        return False

    # -- IDeviceLink -----------------------------------------------------------------------------------------------

    def send_command(self, command: Command) -> None:
        data = self._data(command)
        if len(data) > g.MAX_DATA:
            raise Invalid(f"a gizwits command has at most {g.MAX_DATA} bytes")
        if not command.options.get("ack"):
            self._say(g.encode(g.Control(data)))
            self._core.commands.reply(self.did, Reply(command.id, SUCCEEDED, None, self._clock()))
            return
        sn = serial_number(command.id)
        self._say(g.encode(g.Request(sn, data)))
        self.side.wait_for(self.did, sn, command.id)

    def _data(self, command: Command) -> bytes:
        """The P0 bytes: of an object the data points that it names, where the product has any. Raises Invalid."""
        payload = command.payload
        table: Table | None = None if self._live is None else self._live.bridges.get(BRIDGE)
        if table is None or isinstance(payload, bytes) or command.options.get("force"):
            return payload_bytes(payload)
        try:
            return table.control(payload)
        except ValueError as error:
            raise Invalid(str(error)) from None

    def close_link(self, reason: str) -> None:
        if self._close is not None:
            self._close(reason)

    def set_log(self, bits: int) -> bool:
        """Send a log setting and remember it; whether it was sent."""
        live = self._live
        assert live is not None
        try:
            self._say(g.encode(g.SetLog(bits)))
        except Invalid:
            sent = False
        else:
            sent = True
        live.info["log"] = setting(bits, sent)
        live.info_changed = True
        return sent

    def _session(self, topic: str) -> Any:
        """Our session, once it is subscribed to this topic."""
        for session, _ in self._core.topics.route(topic).targets:
            if getattr(session, "principal", None) is self:
                return session
        return None

    def _say(self, payload: bytes) -> None:
        """Send a business message as coming from the broker. Raises Invalid."""
        size = len(self._commands) + len(payload) + _PACKET_HEAD
        if 0 < self.switches.max_packet < size:
            raise Invalid(f"devices of this product take packets of at most {self.switches.max_packet} bytes")
        session = self._session(self._commands)
        if session is None:
            raise Invalid("the device is not subscribed to commands")
        if session.outbox.size >= session.outbox.limit:
            raise Invalid("the device does not keep up")
        deliver(self._core.topics.route(self._commands), payload, QOS)

    def __repr__(self) -> str:
        return f"<DevicePrincipal {self.did}>"


def _log_object(log: g.Log) -> dict[str, Any]:
    return {
        "level": g.LEVELS.get(log.level, str(log.level)),
        "tag": log.tag.decode("utf-8", "replace"),
        "source": log.source.decode("utf-8", "replace"),
        "log": log.text.decode("utf-8", "replace"),
    }
