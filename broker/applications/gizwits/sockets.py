"""The app WebSocket, ``/ws/app/v1``: a person's app that speaks JSON instead of MQTT.

::

    handshake ──> login_req ──> login_res ──> subscribe_req, c2s_..., ping ──> end
                     │  auth_timeout             heartbeat_interval and half of it again without a word: 1011, closed
                     └ wrong: success false; too many wrong messages in a row: closed

It hears what an app on MQTT hears: it is a subscriber of ``dev2app/<did>`` and ``dev2app/<did>/<its client id>`` in the
topic index, for devices that its user has bound, and the other processes know of that (`audience`). What it sends goes
the way of MQTT apps' messages (`business`).
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from secrets import token_hex
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from broker.applications.gizwits import socket_forms as f
from broker.applications.gizwits.business import ACK_SN, Business
from broker.applications.gizwits.forms import MAX_AT_ONCE
from broker.applications.gizwits.people import Person
from broker.applications.gizwits.side import Side, side_of
from broker.applications.gizwits.translation import Translation
from broker.applications.gizwits.user_records import token_key
from broker.devices.gizwits import codec
from broker.devices.gizwits import errors as e
from broker.devices.gizwits.identity import PROTOCOL
from broker.devices.gizwits.topics import report_topic, split
from broker.model.errors import BrokerError
from broker.model.jsontext import decode_object
from broker.model.messages import Command, Presence
from broker.mqtt.message import Message
from broker.web.routes import ANYONE, Call
from broker.web.websocket import WebSocketPeer, WebSocketRoute

#: An app may be late by half of what it promised.
GRACE: Final = 1.5
#: Messages that may come between a log-in and its answer.
MAX_EARLY: Final = 16


class AppSocket(WebSocketPeer):
    """One client; after its log-in an `broker.applications.gizwits.people.OnlineApp`."""

    log = Logger(namespace="broker.gizwits")

    #: For `broker.mqtt.delivery`: a subscriber that takes each message itself.
    plain = False
    persistent = False
    plain_5 = False

    def __init__(self, side: Side) -> None:
        super().__init__()
        self.client_id = f"web{token_hex(10)}"
        self.token = ""  # nosec B105 # no password
        self.name = ""
        self.person: Person = _NOBODY
        self._side = side
        self._business: Business = side.business
        self._translation: Translation = side.translation
        self._attrs = True
        self._auto = True
        self._logging_in = False
        #: What came while the log-in was being looked at: some apps do not wait for its answer.
        self._early: list[tuple[Callable[[Any], None], Any]] = []
        self._wrong = 0
        self._deadline = inf
        self._patience = 0.0
        #: Device id -> (passcode, mac), for those subscribed.
        self._devices: dict[str, tuple[str, str]] = {}
        self._verbs: Final[dict[str, Callable[[Any], None]]] = {
            "login_req": self._login_req,
            "subscribe_req": self._subscribe_req,
            "c2s_raw": self._raw,
            "c2s_write": self._write,
            "c2s_read": self._read,
            "c2s_ack": self._ack,
        }

    # -- WebSocketPeer ---------------------------------------------------------------------------------------------

    @property
    def ping_interval(self) -> float:
        """Heartbeats are the app's own messages here."""
        return inf

    def opened(self) -> None:
        self._expect(self.connection.home.limits.auth_timeout)

    def text(self, message: str) -> None:
        try:
            given = decode_object(message)
        except ValueError:
            self._invalid(*f.NOT_A_MESSAGE)
            return
        cmd, data = given.get("cmd"), given.get("data")
        if cmd == "ping":
            self._heard()
            self.send_text(f.message("pong"))
            return
        verb = self._verbs.get(cmd) if isinstance(cmd, str) else None
        if verb is None:
            self._invalid(*f.UNKNOWN_COMMAND)
        elif self.person is not _NOBODY or cmd == "login_req":
            self._do(verb, data)
        elif self._logging_in and len(self._early) < MAX_EARLY:
            self._early.append((verb, data))
        else:
            self._invalid(*f.NOT_LOGGED_IN)

    def _do(self, verb: Callable[[Any], None], data: Any) -> None:
        self._heard()
        try:
            verb(data)
        except e.Refused as refusal:
            self._refused(refusal)
        except ValueError:  # msgspec's, and the codec's Malformed
            self._invalid(*f.NOT_A_MESSAGE)
        else:
            self._wrong = 0

    def binary(self, data: bytes) -> None:
        self._invalid(*f.NOT_A_MESSAGE)

    def check(self, now: float) -> float:
        if self._deadline > now:
            return self._deadline
        if self.person is _NOBODY:
            self.close("auth_timeout")
        else:
            self._say_invalid(*f.NO_HEARTBEAT)
            self.close("idle")
        return inf

    def ended(self, reason: str) -> None:
        self._leave()

    def _leave(self) -> None:
        for did in list(self._devices):
            self._unsubscribe(did)
        self._side.refusals.told.pop(self.client_id, None)
        if self.person is not _NOBODY:
            self._side.people.left(self)

    def _heard(self) -> None:
        if self.person is not _NOBODY:
            self._expect(self._patience)

    def _expect(self, seconds: float) -> None:
        """Something has to come within so many seconds."""
        self._deadline = self.connection.home.monotonic() + seconds
        self.connection.look_at(self._deadline)

    # -- what is wrong ---------------------------------------------------------------------------------------------

    def _refused(self, refusal: e.Refused) -> None:
        self._invalid(refusal.code.number, refusal.code.text)

    def _invalid(self, number: int, text: str) -> None:
        """Say so; too often in a row is the end."""
        self._say_invalid(number, text)
        self._wrong += 1
        if self._wrong >= self._side.limits.max_invalid_messages:
            self.close("protocol_error")

    def _say_invalid(self, number: int, text: str) -> None:
        if not self.connection.closing:
            self.send_text(f.message("s2c_invalid_msg", {"error_code": number, "msg": text}))

    # -- logging in ------------------------------------------------------------------------------------------------

    def _login_req(self, data: Any) -> None:
        request = msgspec.convert(data, f.LoginRequest)
        if self._logging_in or self.person is not _NOBODY:
            raise e.Refused(e.FORM_INVALID)
        self._logging_in = True
        self._begin(self._log_in(request))

    async def _log_in(self, request: f.LoginRequest) -> None:
        if self.connection.home.locked_out(self.connection.host):
            self._not_logged_in(e.THROTTLED.number, e.THROTTLED.text)
            return
        try:
            person, expires_at = await self._side.people.prove(request.appid, request.uid, request.token)
        except e.Refused as refusal:
            await self._delay()
            self._not_logged_in(refusal.code.number, refusal.code.text)
            return
        if self.connection.closing:
            return
        if sum(isinstance(app, AppSocket) for app in person.apps) >= self._side.limits.max_sockets:
            self._not_logged_in(*f.TOO_MANY)
            return
        self.person = person
        self.token = token_key(request.token)
        self.name = f"user:{person.app}/{person.uid}"
        self._attrs = request.p0_type == f.ATTRS
        self._auto = request.auto_subscribe
        self._patience = min(request.heartbeat_interval, self._side.limits.max_heartbeat_interval) * GRACE
        self._heard()
        self.connection.identity = self.name
        self.send_text(f.message("login_res", {"success": True}))
        self._side.people.arrived(self, expires_at)
        self._side.refusals.told[self.client_id] = self._failed_command
        if self.connection.closing:  # the token ended while it was looked at
            return
        early, self._early = self._early, []
        for verb, data in early:
            self._do(verb, data)
        if self._auto:
            await self._hear_of(sorted(person.devices))

    def _not_logged_in(self, number: int, text: str) -> None:
        self._logging_in = False
        self._early.clear()
        if not self.connection.closing:
            self.send_text(f.message("login_res", {"success": False}))
            self._invalid(number, text)

    async def _delay(self) -> None:
        home = self.connection.home
        seconds = home.login_failed(self.connection.host)
        if seconds:
            self._deadline += seconds  # the wait is ours
            waited: Deferred[None] = deferLater(home.reactor, seconds)
            await waited

    def _begin(self, job: Any) -> None:
        begun: Deferred[None] = Deferred.fromCoroutine(job)
        begun.addErrback(self._failed)

    def _failed(self, failure: Failure) -> None:
        self._logging_in = False
        self._early.clear()
        if isinstance(failure.value, BrokerError):
            self._refused(e.refused(failure.value))
        else:
            self.log.failure("fault behind a message of an app", failure)
            self.close("internal_error")

    # -- OnlineApp -------------------------------------------------------------------------------------------------

    def end(self, reason: str) -> None:
        self._say_invalid(*f.LOGGED_OUT)
        self.close(reason)
        self._leave()  # the socket may take its time

    def binding_changed(self, did: str, bound: bool) -> None:
        self.offer(f.framed("s2c_binding_changed", {"did": did, "bind": bound}))
        if not bound:
            self._unsubscribe(did)
        elif self._auto:
            self._begin(self._hear_of([did]))

    # -- subscriptions ---------------------------------------------------------------------------------------------

    def _subscribe_req(self, data: Any) -> None:
        wanted = msgspec.convert(data, list[f.Subscribed])
        if len(wanted) > max(MAX_AT_ONCE, self._side.limits.max_bindings):
            raise e.Refused(e.FORM_INVALID)
        self._begin(self._subscribe_all([one.did for one in wanted]))

    async def _subscribe_all(self, wanted: list[str]) -> None:
        heard = set(await self._subscribe_to(wanted))
        if self.connection.closing:
            return
        success = [{"did": did, "error_code": 0, "msg": ""} for did in wanted if did in heard]
        refusal = {"error_code": e.NOT_BOUND.number, "msg": e.NOT_BOUND.text}
        failed = [{"did": did, **refusal} for did in wanted if did not in heard]
        self.send_text(f.message("subscribe_res", {"success": success, "failed": failed}))
        for one in success:
            self._tell_presence(str(one["did"]))

    async def _hear_of(self, devices: list[str]) -> None:
        """Listen to devices without having been asked to, and say whether they are online."""
        for did in await self._subscribe_to(devices):
            self._tell_presence(did)

    async def _subscribe_to(self, devices: list[str]) -> list[str]:
        """Listen to those that the app may see, which are returned when all processes know."""
        heard = [did for did in devices if await self._subscribe(did)]
        known = self._side.audience.known()
        if known is not None:
            await known
        return heard

    async def _subscribe(self, did: str) -> bool:
        """Listen to a device. False without the right."""
        if not self.person.may_see(did):
            return False
        record = await self._side.core.registry.find_device(did)
        if record is None:
            return False
        if record.protocol == PROTOCOL and not self._side.core.backplane.alone:
            await self._side.products.table(record.product)
        # It may have been unbound, and the app may have gone, while that was looked up.
        if self.connection.closing or not self.person.may_see(did):
            return False
        if did not in self._devices:
            for app in ("", self.client_id):
                self._side.audience.join(self, report_topic(did, app))
            self._side.consumer.watch(did, record.product, self._presence)
        passcode = record.secret if record.protocol == PROTOCOL else ""
        self._devices[did] = (passcode, str(record.attributes.get("mac", "")))
        return True

    def _unsubscribe(self, did: str) -> None:
        if self._devices.pop(did, None) is not None:
            for app in ("", self.client_id):
                self._side.audience.leave(self, report_topic(did, app))
            self._side.consumer.ignore(did, self._presence)

    def _presence(self, change: Presence) -> None:
        self._tell_presence(change.device.id)

    def _tell_presence(self, did: str) -> None:
        known = self._devices.get(did)
        if known is not None:
            core = self._side.core
            live = core.devices.get(did)
            online = (live is not None and live.online) or core.whereabouts.online(did)
            data = {"did": did, "passcode": known[0], "mac": known[1], "online": online}
            self.offer(f.framed("s2c_online_status", data))

    # -- from devices ----------------------------------------------------------------------------------------------

    def may_receive(self, topic: str) -> bool:
        """Asked by the topic index when it makes a route."""
        parts = split(topic)
        return parts is not None and self.person.may_see(parts[1])

    def take(self, message: Message, qos: int, retain: bool, identifiers: tuple[int, ...]) -> int:
        """See `broker.mqtt.session.Session.take`."""
        frame = self._translation.for_app(message, self._attrs)
        if frame is not None and not self.connection.closing:
            if self.offer(frame):
                self.connection.home.stats.messages_out += 1
            else:
                self.connection.home.stats.drop("slow_subscriber")
        return 0

    # -- to devices ------------------------------------------------------------------------------------------------

    def _raw(self, data: Any) -> None:
        request = msgspec.convert(data, f.RawMessage)
        self._send(request.did, bytes(request.raw))

    def _write(self, data: Any) -> None:
        request = msgspec.convert(data, f.WriteRequest)
        if (request.attrs is None) == (request.raw is None):
            raise e.Refused(e.FORM_INVALID)
        self._check(request.did)
        if request.attrs is not None:
            p0 = self._translation.control(request.did, request.attrs)
        else:
            p0 = bytes(request.raw or ())
        self._order(request.did, p0, request.req_sn)

    def _read(self, data: Any) -> None:
        request = msgspec.convert(data, f.ReadRequest)
        self._check(request.did)
        self._order(request.did, self._translation.read(request.did), request.req_sn)

    def _ack(self, data: Any) -> None:
        request = msgspec.convert(data, f.AckMessage)
        self._send(request.did, codec.encode(codec.Ack(request.req_sn)))

    def _order(self, did: str, p0: bytes, sn: int | None) -> None:
        self._send(did, codec.encode(codec.Control(p0) if sn is None else codec.Request(sn, p0)), sn)

    def _check(self, did: str) -> None:
        if not self.person.may_see(did):
            raise e.Refused(e.NOT_BOUND)

    def _send(self, did: str, frame: bytes, sn: int | None = None) -> None:
        def sent(error: Exception | None) -> None:
            if error is not None:
                refusal = e.refused(error) if isinstance(error, BrokerError) else e.Refused(e.UNAVAILABLE)
                self._say_not_done(did, sn, refusal.code, refusal.message)

        self._check(did)
        self._business.send(did, self.client_id, self.name, frame, sent)

    def _failed_command(self, command: Command) -> None:
        """See `broker.applications.gizwits.refusals`."""
        result = command.result
        why = result.get("error") if isinstance(result, dict) else None
        text = why if isinstance(why, str) else command.status
        self._say_not_done(command.device, command.options[ACK_SN], e.COMMAND_FAILED, text)

    def _say_not_done(self, did: str, sn: int | None, code: e.Code, why: str) -> None:
        """Nothing is wrong with the message, but what it asks for is not done."""
        told: dict[str, Any] = {"error_code": code.number, "msg": code.text, "did": did, "detail_message": why or None}
        if not self.connection.closing:
            self.offer(f.framed("s2c_invalid_msg", told if sn is None else {**told, "req_sn": sn}))


#: Who a socket is before its log-in.
_NOBODY: Final = Person("", "", ())


async def open_socket(call: Call) -> Any:
    """The app WebSocket."""
    return AppSocket(side_of(call))


ROUTES = (WebSocketRoute("/ws/app/v1", open_socket, ANYONE, any_origin=True, lenient=True),)
