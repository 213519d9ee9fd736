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

How a gateway comes in is in `entry`, what a message means in `mapping` and `operations`, how a frame looks in `codec`.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import Any, Final

from twisted.internet.interfaces import IHandshakeListener, ISSLTransport
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from broker.devices.gateway88.conversation import GIVE_UP, Incoming
from broker.devices.gateway88.entry import GatewayEntry
from broker.devices.gateway88.frames import Damage, Item
from broker.devices.gateway88.home import Gateway88Home
from broker.devices.gateway88.tracing import Frames
from broker.listening.tap import Tell
from broker.model.errors import Invalid
from broker.model.interfaces import ITracedLink
from broker.model.messages import Command

#: Frames of somebody else after which a connection is closed.
MAX_FOREIGN: Final = 3
#: Bytes that cost as much as a message: reading and inflating are work, too.
WORK_OF_A_MESSAGE: Final = 16_384


@implementer(ITracedLink, IHandshakeListener)
class Gateway88Connection(GatewayEntry):
    """One gateway's connection, and the way to it while it is admitted."""

    pending_in_window = False

    def __init__(self, home: Gateway88Home, host: str, port: int) -> None:
        super().__init__(home, host, port)
        settings = home.settings
        self.window = settings.command_window
        self.answer_timeout = GIVE_UP
        self.pending_timeout = settings.firmware_timeout
        self._handshake_until = inf
        self._foreign = 0
        self._malformed_in_a_row = 0
        #: When the frame that is not complete began (monotonic).
        self._begun_at = 0.0
        #: What was sent on this connection.
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

    def read(self, items: Iterator[Item]) -> None:
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
            self.read(self.decoder.give_up())
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


class Gateway88Listener(Gateway88Home):
    """The factory of gateway connections."""

    def connection_for(self, addr: Any) -> Gateway88Connection:
        return Gateway88Connection(self, str(getattr(addr, "host", "")), int(getattr(addr, "port", 0)))
