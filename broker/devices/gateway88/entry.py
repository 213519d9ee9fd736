"""How a gateway comes in: from the first frame that names it to its being a device, or being turned away.

::

    first valid frame ──> asking the registry ──registered──> admitted: attached, and given commands
                             │                ──unknown─────> quarantined (answered and unheard), or refused
                             └ nothing is read meanwhile; what TLS delivers all the same waits (`Asking`)

`protocol` reads and writes; who may come in is decided by `admission`.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from broker.devices.gateway88.admission import LOOK_AGAIN, Refused
from broker.devices.gateway88.codec import GATEWAY_INFO
from broker.devices.gateway88.container import FLAVOURS
from broker.devices.gateway88.conversation import SEND_AGAIN, Conversation, Incoming, Sent
from broker.devices.gateway88.frames import FrameDecoder, Item
from broker.devices.gateway88.home import Gateway88Home
from broker.devices.gateway88.identity import PROTOCOL, Shown, mac_text
from broker.devices.gateway88.mapping import Session
from broker.devices.gateway88.masking import masked
from broker.listening.connection import Connection
from broker.routing.values import LastValues
from broker.storage.registry import Login


class Asking:
    """The phase while the registry is asked: what was read already, and what came behind it."""

    __slots__ = ("answer", "chunks", "first", "items", "size")

    def __init__(self, first: Item, items: Iterator[Item]) -> None:
        self.first = first
        self.items = items
        self.chunks: list[bytes] = []
        self.size = 0
        self.answer: Deferred[None] | None = None


class GatewayEntry(Connection):
    """A connection on its way in. `read` takes the items of one chunk."""

    home: Gateway88Home
    protocol = PROTOCOL
    #: Waits to close a gateway that may not come in; an attribute of few connections.
    _refusal: Any = None

    def __init__(self, home: Gateway88Home, host: str, port: int) -> None:
        super().__init__(home, host, port)
        settings = home.settings
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
        #: When the last valid frame came (monotonic).
        self._heard_at = 0.0
        #: When to send again what may not have reached the gateway.
        self._doubts_due = inf

    def read(self, items: Iterator[Item]) -> None:
        raise NotImplementedError

    def received(self, data: bytes) -> None:
        asking = self._asking
        if asking is None:
            self.read(self.decoder.feed(data))
            return
        # Reading is paused, but TLS delivers what it has decrypted already.
        asking.size += len(data)
        if asking.size > self.home.limits.max_message_size:
            self.close("flood")
        else:
            asking.chunks.append(data)

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

        link: Any = self  # `protocol` makes an IDeviceLink of it
        live = core.devices.attach(record.ref(), link, known)
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
            self.read(after(asking.first, asking.items))
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


def after(first: Item, rest: Iterator[Item]) -> Iterator[Item]:
    yield first
    yield from rest
