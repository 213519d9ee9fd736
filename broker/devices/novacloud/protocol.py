"""NovaCloud devices over TCP: the Protocol/Factory pair.

::

    connected ──auth──> asking the registry ──> logged in ──(1 s, or the first message)──> takes commands
        │                     │
        └─ anything else,     └─ wrong, disabled,      each with an auth_response that says why, then closed (guide 3.3)
           nothing for 30 s      no storage

* While the registry is asked nothing is read. Lines that came behind the auth message wait, no more than
  ``max_message_size`` bytes of them.
* The answer to auth leaves alone: the guide's client takes everything of its first recv for one JSON text. So nothing
  else is written for `ALONE` seconds, and commands wait for the device's next message or ``ready_after`` seconds.
* A malformed line is answered with an error line, and with the end after ``max_malformed`` in a row. A line that is too
  long is answered likewise, and with the end when it happens again.
* Any valid message keeps the device online (guide 5.1, 5.2): late after ``late_after``, closed after ``offline_after``.

What a message means is in `mapping`, how a line looks in `codec`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import inf
from typing import Any, Final

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IAddress
from twisted.python.failure import Failure
from zope.interface import implementer

from broker.core import Core
from broker.devices.novacloud import codec, texts
from broker.devices.novacloud.codec import Item, LineDecoder, Malformed, Message
from broker.devices.novacloud.counters import NovaCloudCounters
from broker.devices.novacloud.identity import Credentials, credentials
from broker.devices.novacloud.mapping import Session
from broker.devices.novacloud.settings import Settings
from broker.devices.novacloud.tracing import Lines
from broker.listening.connection import Connection
from broker.listening.listener import Listener
from broker.listening.tap import Tell
from broker.model.errors import Disabled, Invalid, Unauthenticated, Unavailable
from broker.model.interfaces import ITracedLink
from broker.model.jsontext import decode_object
from broker.model.messages import Command
from broker.routing.values import LastValues
from broker.storage.registry import Change, Login

PROTOCOL: Final = "novacloud"
#: Seconds in which nothing follows the answer to auth, so that it gets a segment and a recv of its own.
ALONE: Final = 0.05
#: Changes in the registry that end a device's connection.
ENDING: Final = frozenset({"device_removed", "device_disabled", "device_secret"})
#: The first byte of a TLS record with a ClientHello.
TLS_HANDSHAKE: Final = 0x16

LOGGED_IN: Final = codec.auth_response(True, texts.LOGGED_IN)
ACKNOWLEDGED: Final = {kind: codec.acknowledgement(text) for kind, text in texts.RECEIVED.items()}


class PendingLogin:
    """The phase between the auth message and the registry's answer: what came behind it."""

    __slots__ = ("answer", "asked", "chunks", "delayed", "items", "size")

    def __init__(self, asked: Credentials, items: Iterator[Item]) -> None:
        self.asked = asked
        self.items = items
        self.chunks: list[bytes] = []
        self.size = 0
        self.answer: Deferred[Login] | None = None
        #: The refusal of an address that failed too often.
        self.delayed: Any = None


@implementer(ITracedLink)
class NovaCloudConnection(Connection):
    """One device's connection, and the way to it while it is logged in."""

    home: NovaCloudListener
    protocol = PROTOCOL

    def __init__(self, home: NovaCloudListener, host: str, port: int) -> None:
        super().__init__(home, host, port)
        settings = home.settings
        self.window = settings.command_window
        self.answer_timeout = settings.answer_timeout
        self.pending_timeout = settings.pending_timeout
        self.decoder = LineDecoder(min(settings.max_auth_size, home.limits.max_message_size))
        self.login: PendingLogin | None = None
        self.session: Session | None = None
        self._acknowledgements: dict[str, bytes] = {}
        self._malformed_in_a_row = 0
        self._was_too_long = False
        #: When the last valid message came (monotonic).
        self._heard_at = 0.0
        self._alone: Any = None
        self._getting_ready: Any = None

    # -- reading ---------------------------------------------------------------------------------------------------

    def received(self, data: bytes) -> None:
        if self.session is not None:
            self._talk(self.decoder.feed(data))
        elif self.login is not None:
            self._keep(self.login, data)
        elif data[0] == TLS_HANDSHAKE and not self.decoder.buffered:
            self.home.stats.malformed += 1
            self.close("malformed", b"")
        else:
            self._meet(self.decoder.feed(data))

    def _keep(self, login: PendingLogin, data: bytes) -> None:
        """Reading is paused, but TLS delivers what it has decrypted already."""
        login.size += len(data)
        if login.size > self.home.limits.max_message_size:
            self.close("flood")
        else:
            login.chunks.append(data)

    def _talk(self, items: Iterable[Item], early: bool = False) -> None:
        """Take the messages of one chunk. ``early``: they were sent before our answer to auth."""
        session = self.session
        assert session is not None
        session.now = self.home.clock()
        takes = session.takes
        acknowledgements = self._acknowledgements
        count = 0
        valid = False
        for item in items:
            count += 1
            if isinstance(item, Message):
                take = takes.get(item.type)
                wrong = take(item) if take is not None else self._take_other(item)
                if wrong is None:
                    valid = True
                    self._malformed_in_a_row = 0
                    if acknowledgements and item.type in acknowledgements:
                        self._say(acknowledgements[item.type])
                else:
                    self._refuse_line(Malformed(wrong))
            else:
                self._refuse_line(item)
            if self.closing:
                break
        self.account(count)
        if valid and not self.closing:
            self._heard(session, early)

    def _heard(self, session: Session, early: bool) -> None:
        """Something valid came: the device is there."""
        live = session.live
        live.last_seen = session.now
        self._heard_at = self.home.monotonic()
        if live.late:
            live.late = False
            self.look_at(self._heard_at + self.home.settings.late_after)
        if not live.ready and not early:
            self._get_ready()

    def _take_other(self, message: Message) -> str | None:
        if message.type == codec.AUTH:
            return self._meet_again(message)
        return f"unknown type {message.type[:40]!r}"

    def _refuse_line(self, line: Malformed) -> None:
        """Answer a line that is no message of a device; the connection goes on unless it is one too many."""
        self.home.stats.malformed += 1
        self._malformed_in_a_row += 1
        answer = codec.error_line(f"{texts.BAD_LINE}: {line.text}")
        if line.reason == "too_long" and self._was_too_long:
            self.close("too_long", answer)
            return
        self._was_too_long = self._was_too_long or line.reason == "too_long"
        if self._malformed_in_a_row >= self.home.settings.max_malformed:
            self.close("malformed", answer)
        else:
            self._say(answer)

    # -- logging in ------------------------------------------------------------------------------------------------

    def _meet(self, items: Iterator[Item]) -> None:
        """The first line has to be an auth message."""
        item = next(items, None)
        if item is None:
            return
        self.account(1)
        if isinstance(item, Malformed):
            self.home.stats.malformed += 1
            self._turn_away(item.reason, f"{texts.AUTH_FIRST}: {item.text}")
        elif item.type != codec.AUTH:
            self._turn_away("protocol_error", texts.AUTH_FIRST)
        else:
            try:
                asked = credentials(item, self.home.settings.flat_auth)
            except Invalid as error:
                self.home.stats.malformed += 1
                self._turn_away("malformed", error.message)
            else:
                self._ask(asked, items)

    def _ask(self, asked: Credentials, items: Iterator[Item]) -> None:
        login = self.login = PendingLogin(asked, items)
        self.pause("login")
        login.answer = maybeDeferred(self.home.core.registry.login_device, PROTOCOL, asked.device_id, asked.key)
        login.answer.addCallbacks(self._admit, self._not_admitted, callbackArgs=(login,))
        login.answer.addErrback(self._login_fault)

    def _admit(self, answer: Login, login: PendingLogin) -> None:
        if self.closing:
            return
        core, settings = self.home.core, self.home.settings
        record = answer.record
        self.login = None
        self.authenticated(record.id)

        def known() -> tuple[LastValues, dict[str, Any]]:
            return LastValues(answer.values, answer.unmapped, answer.sensors), dict(record.info)

        live = core.devices.attach(record.ref(), self, known)
        self.session = Session(core, live, settings, self.home.counted, self.home.stats)
        if login.asked.flat:
            self._acknowledgements = ACKNOWLEDGED
        self.decoder.limit = self.home.limits.max_message_size
        self._heard_at = self.home.monotonic()
        self.look_at(self._heard_at + settings.late_after)
        self._say(LOGGED_IN)
        self._stay_quiet()
        self._getting_ready = self.home.reactor.callLater(settings.ready_after, self._ready_by_time)
        self._talk(login.items, early=True)
        for chunk in login.chunks:
            if not self.closing:
                self._talk(self.decoder.feed(chunk), early=True)
        self.resume("login")

    def _not_admitted(self, failure: Failure) -> None:
        login = self.login
        if self.closing or login is None:
            return
        error = failure.value
        if isinstance(error, Unauthenticated):
            delay = self.home.login_failed(self.host)
            if delay:
                login.delayed = self.home.reactor.callLater(delay, self._refuse_login)
            else:
                self._refuse_login()
        elif isinstance(error, Disabled):
            self._turn_away("auth_failed", texts.DISABLED)
        elif isinstance(error, Unavailable):
            self._turn_away("unavailable", texts.TRY_LATER)
        else:
            failure.raiseException()

    def _refuse_login(self) -> None:
        if self.login is not None:
            self.login.delayed = None
        self._turn_away("auth_failed", texts.WRONG_CREDENTIALS)

    def _login_fault(self, failure: Failure) -> None:
        """A fault of ours while a device was logged in, or while its first lines were taken."""
        self.log.failure("{listener} {host}: fault while logging in", failure, listener=self.home.name, host=self.host)
        self.close("internal_error")

    def _meet_again(self, message: Message) -> str | None:
        """Auth on a live session: the same device hears that all is well, another one has to leave."""
        try:
            asked = credentials(message, self.home.settings.flat_auth)
        except Invalid as error:
            return error.message
        if asked.device_id == self.identity:
            self._say(LOGGED_IN)
        else:
            self._turn_away("protocol_error", texts.OTHER_DEVICE)
        return None

    def _turn_away(self, reason: str, text: str) -> None:
        self.close(reason, codec.auth_response(False, text))

    # -- getting ready for commands --------------------------------------------------------------------------------

    def _stay_quiet(self) -> None:
        """Write what is there (the answer to auth) and nothing more for a moment."""
        self.outbox.flush()
        self.outbox.block()
        self._alone = self.home.reactor.callLater(ALONE, self._quiet_no_more)

    def _quiet_no_more(self) -> None:
        self._alone = None
        if self._blocked_since is None and not self.closing:
            self.outbox.unblock()

    def _get_ready(self) -> None:
        if self._getting_ready is not None:
            self._getting_ready.cancel()
            self._getting_ready = None
        if self.session is not None:
            self.home.core.commands.ready(self.session.live)

    def _ready_by_time(self) -> None:
        self._getting_ready = None
        self._get_ready()

    # -- IDeviceLink -----------------------------------------------------------------------------------------------

    def send_command(self, command: Command) -> None:
        payload = command.payload
        try:
            line = codec.command_line(command.id, decode_object(payload) if isinstance(payload, bytes) else payload)
        except ValueError as error:
            raise Invalid(f"a novacloud command is a JSON object: {error}") from None
        if len(line) > self.home.limits.max_message_size:
            raise Invalid(f"a novacloud command has at most {self.home.limits.max_message_size} bytes as a line")
        self._say(line)

    def trace(self, tell: Tell | None) -> None:
        limit = self.home.limits.max_message_size
        self.tap(Lines(limit), Lines(limit), tell)

    def close_link(self, reason: str) -> None:
        self.close(reason)

    # -- time, jams and the end ------------------------------------------------------------------------------------

    def check(self, now: float) -> float:
        session = self.session
        if session is None:
            return super().check(now)
        settings = self.home.settings
        silent = now - self._heard_at
        if silent >= settings.offline_after:
            self.close("idle")
            return inf
        if silent >= settings.late_after:
            session.live.late = True
            return self._heard_at + settings.offline_after
        return self._heard_at + settings.late_after

    def pauseProducing(self) -> None:
        super().pauseProducing()
        # Who does not read our answers may not make us write more of them.
        self.pause("jam")

    def writable(self) -> None:
        self.resume("jam")

    def goodbye(self, reason: str) -> bytes:
        text = texts.GOODBYE.get(reason)
        if text is None:
            return b""
        return codec.auth_response(False, text) if self.session is None else codec.error_line(text)

    def close(self, reason: str, last: bytes | None = None) -> None:
        super().close(reason, last)
        self._leave()

    def ended(self, reason: str) -> None:
        self._leave()

    def _leave(self) -> None:
        """The device cannot be reached here any more; harmless twice."""
        for call in (self._alone, self._getting_ready, self.login.delayed if self.login is not None else None):
            if call is not None and call.active():
                call.cancel()
        if self.session is not None:
            self.home.core.devices.detach(self.session.live, self, self.reason)

    def _say(self, line: bytes) -> None:
        self.home.stats.messages_out += 1
        self.send(line)


class NovaCloudListener(Listener):
    """The factory of NovaCloud connections."""

    def __init__(self, core: Core, settings: Settings) -> None:
        super().__init__(PROTOCOL, settings.limits, core.turn, core.reactor, core.clock, core.monotonic)
        self.core = core
        self.settings = settings
        self.counted = NovaCloudCounters()
        core.registry.on_change.append(self._changed)

    def connection_for(self, addr: IAddress | None) -> NovaCloudConnection:
        return NovaCloudConnection(self, str(getattr(addr, "host", "")), int(getattr(addr, "port", 0)))

    def counters(self) -> dict[str, float]:
        """For the metrics."""
        return self.counted.as_dict()

    def _changed(self, change: Change) -> None:
        """The registry changed: a device that is no longer welcome has to leave."""
        if change.what not in ENDING:
            return
        live = self.core.devices.get(change.id)
        if live is not None and isinstance(live.link, NovaCloudConnection):
            live.link.close_link("removed")
