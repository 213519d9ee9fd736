"""0x88 gateways over TLS: the Protocol/Factory pair.

::

    connected ──TLS──> first valid frame ──> asking the registry ──> admitted
        │                                        │
        └─ no handshake for 15 s,                ├─ unknown: quarantined, admitted or refused (`admission`)
           no frame for 45 s                     └─ disabled, another certificate, no storage: closed without an answer

* There is no login: the MAC of the first valid frame is the gateway's, and binds the connection. What has another MAC,
  or another version than 2, is dropped and counted; the third closes the connection.
* All requests of a chunk are answered, in one write, before anything is done with them (`conversation`).
* While the registry is asked nothing is read. A gateway in quarantine is answered like any other, so that it stays;
  what it says goes no further.
* Any valid frame keeps the gateway online: late after ``late_after``, closed after ``offline_after``. What is sent
  again is sent on the listener's slow tick, up to a second late; there is no timer for a message.
* Bytes that are no frame are passed over; too many of them, or too many frames that are damaged, close the connection.

What a message means is in `mapping` and `operations`, how a frame looks in `codec`.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHandshakeListener, ISSLTransport
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from broker.core import Core
from broker.devices.gateway88.admission import LOOK_AGAIN, Admission, Refused
from broker.devices.gateway88.backup_care import BackupCare
from broker.devices.gateway88.codec import GATEWAY_INFO
from broker.devices.gateway88.container import FLAVOURS
from broker.devices.gateway88.conversation import GIVE_UP, SEND_AGAIN, Conversation, Incoming, Sent
from broker.devices.gateway88.counters import Gateway88Counters
from broker.devices.gateway88.exchange import Exchange
from broker.devices.gateway88.frames import Damage, FrameDecoder, Item
from broker.devices.gateway88.identity import PROTOCOL, Shown, mac_text
from broker.devices.gateway88.mapping import Session
from broker.devices.gateway88.masking import masked
from broker.devices.gateway88.operations import Operations
from broker.devices.gateway88.settings import Settings
from broker.devices.gateway88.succession import Succession
from broker.devices.gateway88.tracing import Frames
from broker.devices.gateway88.updates import GatewayUpdater
from broker.listening.connection import Connection
from broker.listening.listener import Listener
from broker.listening.tap import Tell
from broker.model.errors import Invalid
from broker.model.interfaces import ITracedLink
from broker.model.messages import Command
from broker.routing.values import LastValues
from broker.storage.registry import Change, Login

#: Frames of somebody else after which a connection is closed.
MAX_FOREIGN: Final = 3
#: Changes in the registry that end a gateway's connection.
ENDING: Final = frozenset({"device_removed", "device_disabled", "device_secret"})
#: Bytes that cost as much as a message: reading and inflating are work, too.
WORK_OF_A_MESSAGE: Final = 16_384


class Asking:
    """The phase while the registry is asked: what was read already, and what came behind it."""

    __slots__ = ("answer", "chunks", "first", "items", "size")

    def __init__(self, first: Item, items: Iterator[Item]) -> None:
        self.first = first
        self.items = items
        self.chunks: list[bytes] = []
        self.size = 0
        self.answer: Deferred[None] | None = None


@implementer(ITracedLink, IHandshakeListener)
class Gateway88Connection(Connection):
    """One gateway's connection, and the way to it while it is admitted."""

    home: Gateway88Listener
    protocol = PROTOCOL
    pending_in_window = False
    #: Waits to close a gateway that may not come in; an attribute of few connections.
    _refusal: Any = None

    def __init__(self, home: Gateway88Listener, host: str, port: int) -> None:
        super().__init__(home, host, port)
        settings = home.settings
        self.window = settings.command_window
        self.answer_timeout = GIVE_UP
        self.pending_timeout = settings.firmware_timeout
        first_limit = min(settings.max_first_frame, home.limits.max_message_size)
        self.decoder = FrameDecoder(first_limit, settings.checksum_without_length)
        self.conversation = Conversation(
            settings.max_plain_size, FLAVOURS[settings.container], settings.checksum_without_length
        )
        self.session: Session | None = None
        #: Not registered: when it was last looked for (monotonic), and what it told about itself.
        self.quarantined_at: float | None = None
        self._introduction: Incoming | None = None
        self._asking: Asking | None = None
        self._handshake_until = inf
        self._foreign = 0
        self._malformed_in_a_row = 0
        #: When the last valid frame came, and when the one that is not complete began (monotonic).
        self._heard_at = 0.0
        self._begun_at = 0.0
        #: When to send again what may not have reached the gateway, and what was sent on this connection.
        self._doubts_due = inf
        self._ordered: set[str] = set()

    # -- TLS -------------------------------------------------------------------------------------------------------

    def opened(self) -> None:
        if ISSLTransport.providedBy(self.transport):
            self._handshake_until = self._opened_at + self.home.settings.handshake_timeout
            self.look_at(self._handshake_until)

    def handshakeCompleted(self) -> None:
        self._handshake_until = inf

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.closing and self._handshake_until < inf:
            self.closing = True
            self.reason = "tls_failed"
        super().connectionLost(reason)

    # -- reading ---------------------------------------------------------------------------------------------------

    def received(self, data: bytes) -> None:
        asking = self._asking
        if asking is None:
            self._read(self.decoder.feed(data))
            return
        # Reading is paused, but TLS delivers what it has decrypted already.
        asking.size += len(data)
        if asking.size > self.home.limits.max_message_size:
            self.close("flood")
        else:
            asking.chunks.append(data)

    def _read(self, items: Iterator[Item]) -> None:
        """Take what one chunk has: answer all, then see to what it says."""
        home = self.home
        now, at = home.monotonic(), home.clock()
        half = self.decoder.buffered
        conversation = self.conversation
        known = self.session is not None or self.quarantined_at is not None
        taken: list[Incoming] = []
        answers: list[bytes] = []
        for item in items:
            if isinstance(item, Damage):
                self._damaged(item)
            elif not conversation.knows(item) and (strange := conversation.stranger(item)) is not None:
                self._stranger(strange)
            elif not known:
                self._ask(item, items)
                break
            else:
                incoming = conversation.take(item, now, int(at))
                if incoming.answer is not None:
                    answers.append(incoming.answer)
                if incoming.work > WORK_OF_A_MESSAGE:
                    self.charge(incoming.work // WORK_OF_A_MESSAGE)
                taken.append(incoming)
            if self.closing:
                return
        decoder = self.decoder
        if decoder.noise > home.settings.max_noise:
            self.close("malformed")
            return
        if decoder.buffered and (taken or not half):
            self._begun_at = now
            self.look_at(now + home.settings.frame_timeout)
        if answers:
            home.stats.messages_out += len(answers)
            self.outbox.put_alone(answers[0] if len(answers) == 1 else b"".join(answers))
        if taken:
            self._heard(now, at)
            self.account(len(taken))
            self._see_to(taken, at)

    def _heard(self, now: float, at: float) -> None:
        self._heard_at = now
        session = self.session
        if session is not None:
            session.live.last_seen = at
            if session.live.late:
                session.live.late = False
                self.look_at(now + self.home.settings.late_after)

    def _see_to(self, taken: list[Incoming], now: float) -> None:
        home = self.home
        counted = home.counted
        session = self.session
        for incoming in taken:
            kind = incoming.kind
            if kind == "undecodable":
                counted.undecodable += 1
                home.stats.malformed += 1
                self._one_more_malformed()
                continue
            self._malformed_in_a_row = 0
            if kind == "repeat":
                counted.repeats += 1
            elif kind == "stray":
                counted.stray_acks += 1
            elif session is None:
                self._wait(incoming)
            elif kind != "answer" or self.conversation.is_news(incoming):
                session.take(incoming, now)

    def _damaged(self, damage: Damage) -> None:
        self.home.stats.malformed += 1
        if damage.size > WORK_OF_A_MESSAGE:
            self.charge(damage.size // WORK_OF_A_MESSAGE)
        self._one_more_malformed()

    def _one_more_malformed(self) -> None:
        self._malformed_in_a_row += 1
        if self._malformed_in_a_row >= self.home.settings.max_malformed:
            self.close("malformed")

    def _stranger(self, strange: str) -> None:
        """A frame that is well-formed and none of this gateway's."""
        counted = self.home.counted
        if strange == "mac":
            counted.foreign_macs += 1
        else:
            counted.wrong_versions += 1
        self._foreign += 1
        if self._foreign >= MAX_FOREIGN:
            self.close("protocol_error")

    # -- admission -------------------------------------------------------------------------------------------------

    def _ask(self, first: Item, items: Iterator[Item]) -> None:
        self._asking = Asking(first, items)
        self.pause("login")
        self._look_up(Shown(self.transport))

    def _look_up(self, shown: Shown) -> None:
        looking = self.home.admission.look_up(mac_text(self.conversation.mac), shown)
        looking.addCallbacks(self._found, self._not_found)
        looking.addErrback(self._admission_fault)

    def _found(self, login: Login | None) -> None:
        """The registry has answered; None: it may stay without being admitted."""
        if self.closing or self.session is not None:
            return
        if login is not None:
            self._admit(login)
        elif not self.home.admission.wait(mac_text(self.conversation.mac), self):
            self.close("auth_failed")
            return
        else:
            self.quarantined_at = self.home.monotonic()
            self._identified()
        self._proceed()

    def _wait(self, incoming: Incoming) -> None:
        """A gateway in quarantine said something."""
        message = incoming.message
        info = None
        if message is not None and message.type == GATEWAY_INFO and isinstance(message.body, dict):
            self._introduction = incoming
            info = masked(message.body)
        self.home.admission.sighted(self.identity, self, info)
        now = self.home.monotonic()
        if self.quarantined_at is not None and now - self.quarantined_at >= LOOK_AGAIN:
            self.quarantined_at = now
            self.look_again()

    def _identified(self) -> None:
        if not self.identity:
            if self.quarantined_at is not None:
                self.home.counted.quarantined += 1
            self.authenticated(mac_text(self.conversation.mac))
            self.decoder.limit = self.home.limits.max_message_size
            self._heard_at = self.home.monotonic()
            self.look_at(self._heard_at + self.home.settings.late_after)

    def _admit(self, login: Login) -> None:
        core = self.home.core
        record = login.record
        self.quarantined_at = None
        self._identified()

        def known() -> tuple[LastValues, dict[str, Any]]:
            return LastValues(login.values, login.unmapped, login.sensors), dict(record.info)

        live = core.devices.attach(record.ref(), self, known)
        sent = live.bridges.get(PROTOCOL)
        if isinstance(sent, Sent):
            # What left through another connection is answered through this one, and not sent again: it may be done.
            sent.give_up()
            self.conversation.sent = sent
        else:
            live.bridges[PROTOCOL] = self.conversation.sent
        self.session = Session(core, live, self.home.operations, self.home.counted, self.home.settings.newdevices_cmd)
        self.home.admission.leave(self.identity, self)
        introduction, self._introduction = self._introduction, None
        if introduction is not None:
            self.session.take(introduction, self.home.clock())

    def _proceed(self) -> None:
        """Read what waited for the registry, and take commands from then on."""
        asking, self._asking = self._asking, None
        if asking is not None:
            self._read(_after(asking.first, asking.items))
            for chunk in asking.chunks:
                if not self.closing:
                    self.received(chunk)
        if not self.closing:
            self.resume("login")
            if self.session is not None:
                self._doubts_due = self.home.monotonic() + SEND_AGAIN
                self.look_at(self._doubts_due)
                self.home.core.commands.ready(self.session.live)

    def _not_found(self, failure: Failure) -> None:
        if self.closing:
            return
        error = failure.value
        if not isinstance(error, Refused):
            failure.raiseException()
        delay = self.home.login_failed(self.host) if error.reason == "auth_failed" else 0.0
        if delay:
            self.pause("refused")
            self._refusal = self.home.reactor.callLater(delay, self._turn_away, error.reason)
        else:
            self.close(error.reason)

    def _turn_away(self, reason: str) -> None:
        self._refusal = None
        self.close(reason)

    def _admission_fault(self, failure: Failure) -> None:
        """A fault of ours while a gateway was admitted, or while its first frames were taken."""
        self.log.failure("{listener} {host}: fault while admitting", failure, listener=self.home.name, host=self.host)
        self.close("internal_error")

    def look_again(self) -> None:
        """The registry may have changed: see whether a gateway that waits is known now, and one that is still may."""
        if not self.closing and self._asking is None and self.identity:
            self._look_up(Shown(self.transport))

    # -- IDeviceLink -----------------------------------------------------------------------------------------------

    def send_command(self, command: Command) -> None:
        try:
            self.home.operations.send(command, self.order)
        except ValueError as error:
            raise Invalid(f"a gateway88 command is JSON: {error}") from None

    def order(self, command: Command, value: dict[str, Any]) -> None:
        """Write an order now. Raises Invalid if it cannot be written, ValueError for what JSON cannot hold."""
        now = self.home.monotonic()
        outgoing = self.conversation.order(command.id, value, now, self._is_open)
        if outgoing is None:
            raise Invalid("every message id is in use")
        if len(outgoing.raw) > self.home.limits.max_message_size:
            outgoing.done()
            raise Invalid(f"a gateway88 command has at most {self.home.limits.max_message_size} bytes as a frame")
        self.home.stats.messages_out += 1
        self._ordered.add(command.id)
        self.send(outgoing.raw)
        self.look_at(outgoing.next_at)

    def _is_open(self, command_id: str) -> bool:
        return self.home.core.commands.get(command_id) is not None

    def trace(self, tell: Tell | None) -> None:
        settings = self.home.settings

        def frames() -> Frames:
            limit = self.home.limits.max_message_size
            return Frames(limit, settings.max_plain_size, settings.checksum_without_length)

        self.tap(frames(), frames(), tell)

    def close_link(self, reason: str) -> None:
        self.close(reason)

    # -- time and the end ------------------------------------------------------------------------------------------

    def check(self, now: float) -> float:
        settings = self.home.settings
        if self._handshake_until <= now:
            self.close("handshake_timeout")
            return inf
        if not self.identity:
            return self._handshake_until
        silent = now - self._heard_at
        if silent >= settings.offline_after:
            self.close("idle")
            return inf
        if self.decoder.buffered and self._begun_at + settings.frame_timeout <= now:
            self._begun_at = now
            self._read(self.decoder.give_up())
            if self.closing:
                return inf
        when = self._heard_at + settings.offline_after
        if silent < settings.late_after:
            when = self._heard_at + settings.late_after
        elif self.session is not None and not self.session.live.late:
            self.session.live.late = True
            self.log.warn(
                "{listener} {identity} is late: nothing for {seconds:.0f} s",
                listener=self.home.name,
                identity=self.identity,
                seconds=silent,
            )
        if self.decoder.buffered:
            when = min(when, self._begun_at + settings.frame_timeout)
        if self.session is not None:
            if self._doubts_due <= now:
                self._doubts_due = inf
                self._send_doubtful(self.session.live.ref.id)
            when = min(when, self._send_again(now), self._doubts_due)
        return when

    def _send_doubtful(self, device_id: str) -> None:
        """What left through an earlier connection, and of which the gateway has shown nothing since it is back."""
        core = self.home.core
        for command in self.home.operations.doubts.about(device_id):
            if command.id not in self._ordered:
                self.home.counted.repeated_orders += 1
                core.commands.put_off(command.id, core.clock() + self.answer_timeout, exactly=True)
                try:
                    self.send_command(command)
                except Invalid as error:
                    core.commands.fail(command.id, {"error": error.message})

    def _send_again(self, now: float) -> float:
        """Send what has not been answered in time; when to look next."""
        for outgoing in self.conversation.due(now, self._is_open):
            self.home.counted.resent += 1
            self.home.stats.messages_out += 1
            self.send(outgoing.raw)
        return self.conversation.next_due()

    def pauseProducing(self) -> None:
        super().pauseProducing()
        # Who does not read our answers may not make us write more of them.
        self.pause("jam")

    def writable(self) -> None:
        self.resume("jam")

    def close(self, reason: str, last: bytes | None = None) -> None:
        super().close(reason, last)
        self._leave()

    def ended(self, reason: str) -> None:
        self._leave()

    def _leave(self) -> None:
        """The gateway cannot be reached here any more; harmless twice."""
        if self._refusal is not None:
            self._refusal.cancel()
            self._refusal = None
        if self.session is not None:
            self.home.operations.doubts.left(self.session.live.ref.id)
            self.home.core.devices.detach(self.session.live, self, self.reason)
        else:
            self.home.admission.leave(self.identity, self)


def _after(first: Item, rest: Iterator[Item]) -> Iterator[Item]:
    yield first
    yield from rest


class Gateway88Listener(Listener):
    """The factory of gateway connections."""

    def __init__(self, core: Core, settings: Settings) -> None:
        super().__init__(PROTOCOL, settings.limits, core.turn, core.reactor, core.clock, core.monotonic)
        self.core = core
        self.settings = settings
        self.counted = Gateway88Counters()
        self.operations = Operations(core, settings)
        self.updates = GatewayUpdater(core, self.operations)
        self.operations.on_info.append(self.updates.reported)
        core.updaters[PROTOCOL] = self.updates
        self.succession = Succession(core)
        self.admission = Admission(core, settings, self.succession)
        self.backup_care = BackupCare(core, settings, self.operations, self.succession.rests)
        self.exchange = Exchange(core, self.succession, self.operations, self.updates, self.moved)
        core.registry.on_change.append(self._changed)

    def reload(self, settings: Settings) -> tuple[str, ...]:
        """Take new settings (SIGHUP); none of them needs a restart. Connections keep what they began with."""
        self.settings = settings
        self.admission.settings = settings
        self.operations.configure(settings)
        self.backup_care.settings = settings
        return ()

    async def prepare(self) -> None:
        """Read who stands in for whom, and which backups there are. Raises Unavailable."""
        await self.succession.open()
        await self.backup_care.open()
        await self.exchange.open()
        self.operations.doubts.every_left()

    def tick(self) -> None:
        super().tick()
        self.backup_care.tick()

    def moved(self, device: str, mac: str) -> None:
        """The frames of ``mac`` belong to another device now: whoever is connected has to come in anew."""
        for id in {device, mac}:
            live = self.core.devices.get(id)
            if live is not None:
                live.bridges.pop(PROTOCOL, None)  # what was sent was sent to another one
                rests = id != device and self.succession.rests(id)
                if isinstance(live.link, Gateway88Connection) and (id == device or rests):
                    live.link.close_link("resting" if rests else "replaced")
        for id in {device, mac}:
            self.admission.look_again(id)

    def connection_for(self, addr: Any) -> Gateway88Connection:
        return Gateway88Connection(self, str(getattr(addr, "host", "")), int(getattr(addr, "port", 0)))

    def counters(self) -> dict[str, float]:
        """For the metrics."""
        return {**self.counted.as_dict(), **self.backup_care.figures()}

    def _changed(self, change: Change) -> None:
        """The registry changed: a gateway that is no longer welcome has to leave."""
        live = self.core.devices.get(change.id)
        if live is None or not isinstance(live.link, Gateway88Connection):
            return
        if change.what in ENDING:
            live.link.close_link("removed")
        elif change.what == "device_updated":
            live.link.look_again()
