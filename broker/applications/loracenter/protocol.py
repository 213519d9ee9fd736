"""Customer servers over TCP and TLS: the Protocol/Factory pair (document, chapters 3, 4.1 and 4.2).

::

    connected ──CSREG──> asking the registry ──> registered ──CSQUIT──> closed when all before it is answered
        │                      │
        └─ anything else:      └─ "CSREG Refused", and the end after a moment
           CODE 0, and the
           end after a few

* Requests are carried out one after another, in the order in which they came; nothing is read while one of them waits
  for storage. Only SENDTOs do not wait for the one before them to be on disk: up to ``max_pending`` of them are under
  way, and everything else waits for them.
* Each message leaves in a write of its own, as a known client takes what one recv gives it for one message. Only what
  waited while the client did not read is joined.
* A client that does not read is told no more once ``max_outbox`` bytes wait for it. If that lasts for
  ``overflow_grace``, or if nothing at all is taken for ``slow_reader_timeout``, it is closed as a slow reader.

What requests mean is in `requests`, how they look in `codec`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from math import inf
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.python.failure import Failure

from broker.applications.loracenter import codec
from broker.applications.loracenter.codec import FrameDecoder, Malformed, Request
from broker.applications.loracenter.counters import LoraCenterCounters
from broker.applications.loracenter.customers import Customer, Customers
from broker.applications.loracenter.gateways import GatewayRequests
from broker.applications.loracenter.requests import REFUSED, Requests
from broker.applications.loracenter.settings import Settings
from broker.core import Core
from broker.listening.connection import Connection
from broker.listening.listener import Listener
from broker.model.errors import BrokerError, Disabled, LimitExceeded, Unauthenticated

NAME: Final = "loracenter"
ACCEPTED: Final = "CSREG ACCEPT"
#: The first byte of a TLS record with a ClientHello.
TLS_HANDSHAKE: Final = 0x16
#: Chunks that TLS may still deliver after reading was paused.
MAX_BACKLOG: Final = 4


class LoraCenterConnection(Connection):
    """One connection of a customer server."""

    home: LoraCenterListener

    def __init__(self, home: LoraCenterListener, host: str, port: int) -> None:
        super().__init__(home, host, port)
        self.decoder = FrameDecoder(home.limits.max_message_size)
        self.customer: Customer | None = None
        self.service = 0
        #: Frames that are still to be carried out, and their bytes.
        self._frames: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._busy = False
        #: SENDTOs that are on their way to the disk, and what waits for them.
        self._unkept = 0
        self._settled: Deferred[None] | None = None
        self._early = 0
        self._malformed_in_a_row = 0
        self._heard_at = 0.0
        #: Since when more than max_outbox has been waiting.
        self._over_since: float | None = None
        self._ending: Any = None

    # -- reading ---------------------------------------------------------------------------------------------------

    def received(self, data: bytes) -> None:
        if data[0] == TLS_HANDSHAKE and not self.messages_in and not self.decoder.buffered:
            self.home.stats.malformed += 1
            self.close("malformed")
            return
        self._heard_at = self.home.monotonic()
        decoder, frames = self.decoder, self._frames
        before, silent = len(frames), decoder.keep_alives
        wrong = None
        try:
            for frame in decoder.feed(data):
                frames.append(frame)
                self._waiting_bytes += len(frame)
        except Malformed as error:
            self.home.stats.malformed += 1
            wrong = error.reason
        self.account(len(frames) - before)
        if decoder.keep_alives != silent:
            self.home.counted.keep_alives += decoder.keep_alives - silent
            self.charge(decoder.keep_alives - silent)
        self._work()
        if wrong is not None:
            self.close(wrong)
        elif self._waiting_bytes > MAX_BACKLOG * max(self.decoder.limit, 65_536):
            self.close("flood")

    def _work(self) -> None:
        """Carry out what is waiting, unless that is being done."""
        if not self._busy and self._frames:
            self._busy = True
            Deferred.fromCoroutine(self._carry_out()).addErrback(self._request_fault)
            if self._busy and not self.closing:
                self.pause("busy")

    async def _carry_out(self) -> None:
        try:
            while self._frames and not self.closing and not self.outbox.blocked:
                frame = self._frames.popleft()
                self._waiting_bytes -= len(frame)
                await self._take(frame)
        finally:
            self._busy = False
        self.resume("busy")

    async def _take(self, frame: bytes) -> None:
        try:
            request = codec.parse(frame)
        except Malformed as error:
            self._refuse_frame(error)
            return
        if request is None:
            self.home.counted.keep_alives += 1
            return
        self._malformed_in_a_row = 0
        if request.cmd != "SENDTO" or self._unkept >= self.home.settings.max_pending:
            await self._all_kept()
            if self.closing:
                return
        if request.cmd == "CSREG":
            await self._register(request)
        elif request.cmd == "CSQUIT":
            self.close("client_closed")
        elif self.customer is None:
            self._too_early(request)
        else:
            await self.home.requests.carry_out(self, self.customer, request)

    def _request_fault(self, failure: Failure) -> None:
        self.log.failure("{listener} {host}: fault of a request", failure, listener=self.home.name, host=self.host)
        self.close("internal_error")

    def _refuse_frame(self, error: Malformed) -> None:
        """What is no message is passed over, but not for ever."""
        self.home.stats.malformed += 1
        self._malformed_in_a_row += 1
        settings = self.home.settings
        most = settings.max_early if self.customer is None else settings.max_malformed
        if self._malformed_in_a_row >= most:
            self.close(error.reason)

    def _too_early(self, request: Request) -> None:
        self._early += 1
        self.say(codec.answer(0, request.cmd, request.token, REFUSED, cs_eui=codec.eui(request.get("cseui"))))
        if self._early >= self.home.settings.max_early:
            self._end_soon("protocol_error")

    # -- SENDTOs on their way to the disk --------------------------------------------------------------------------

    def keeping(self) -> None:
        """A SENDTO was handed over."""
        self._unkept += 1

    def kept(self) -> None:
        """It is on disk, or was refused; its answer has been said."""
        self._unkept -= 1
        if not self._unkept and self._settled is not None:
            settled, self._settled = self._settled, None
            settled.callback(None)

    async def _all_kept(self) -> None:
        if self._unkept:
            self._settled = Deferred()
            await self._settled

    # -- CSREG -----------------------------------------------------------------------------------------------------

    async def _register(self, request: Request) -> None:
        named = request.get("cseui")
        cs_eui = codec.eui(request.get("appeui") if named is None else named)
        nonce = codec.integer(request.get("appnonce"), 0, codec.MAX_TOKEN)
        sent = request.get("serviceid")
        service = 0 if sent is None else codec.integer(sent, 0, codec.MAX_TOKEN)
        reason = "auth_failed"
        customers = self.home.customers
        if cs_eui is not None and service is not None:
            try:
                rights = await customers.admit(cs_eui, nonce, codec.challenge(request.get("challenge")))
                if self.closing:
                    return
                self._leave()
                customer = customers.enter(self, cs_eui, rights, service)
            except (Unauthenticated, Disabled, LimitExceeded) as error:
                # An address that goes on guessing is answered later and later.
                delay = self.home.login_failed(self.host) if isinstance(error, Unauthenticated) else 0.0
                self._refuse(request, cs_eui, reason, delay)
                return
            except BrokerError:
                reason = "unavailable"
            else:
                self._admit(request, customer, service, sent is not None)
                return
        self._refuse(request, cs_eui, reason, 0.0)

    def _admit(self, request: Request, customer: Customer, service: int, named: bool) -> None:
        self.customer, self.service = customer, service
        identity = f"{customer.cs_eui}/{service}"
        if not self.identity:
            self.authenticated(identity)
        self.identity = identity
        more: dict[str, Any] = {"ServiceId": service} if named else {}
        self.say(codec.answer(1, "CSREG", request.token, ACCEPTED, customer.cs_eui, **more))
        if self.home.settings.idle_timeout:
            self.look_at(self._heard_at + self.home.settings.idle_timeout)

    def _refuse(self, request: Request, cs_eui: str | None, reason: str, delay: float) -> None:
        if self.closing:
            return
        answer = codec.answer(0, "CSREG", request.token, REFUSED, cs_eui)
        self._leave()
        if delay:
            self._end_soon(reason, delay, answer)
        else:
            self.say(answer)
            self._end_soon(reason)

    def _end_soon(self, reason: str, delay: float = 0.0, last: bytes = b"") -> None:
        """Nothing more is read; the end comes when the client has had time to read what was said."""
        self.pause("ending")
        self._frames.clear()
        self._waiting_bytes = 0
        if self._ending is None:
            wait = delay or self.home.settings.refused_grace
            self._ending = self.home.reactor.callLater(wait, self._end, reason, last)

    def _end(self, reason: str, last: bytes) -> None:
        self._ending = None
        if last:
            self.say(last)
            self._end_soon(reason)
        else:
            self.close(reason)

    # -- writing ---------------------------------------------------------------------------------------------------

    def say(self, message: bytes) -> None:
        if self.closing:
            return
        home = self.home
        home.stats.messages_out += 1
        if self.outbox.blocked:
            self.outbox.put(message)
        else:
            home.stats.bytes_out += len(message)
            self.outbox.write(message)

    def tell(self, message: bytes) -> None:
        if not self.outbox.blocked or self.outbox.size < self.outbox.limit:
            self.say(message)
            return
        self.home.stats.drop("queue_full")
        if self._over_since is None and not self.closing:
            self._over_since = self.home.monotonic()
            self.look_at(self._over_since + self.home.settings.overflow_grace)

    # -- time, jams and the end ------------------------------------------------------------------------------------

    def check(self, now: float) -> float:
        settings = self.home.settings
        over_at = idle_at = inf
        if self._over_since is not None:
            over_at = self._over_since + settings.overflow_grace
            if over_at <= now:
                self.abort("slow_reader")
                return inf
        if self.customer is not None and settings.idle_timeout:
            idle_at = self._heard_at + settings.idle_timeout
            if idle_at <= now:
                self.close("idle")
                return inf
        return min(over_at, idle_at)

    def pauseProducing(self) -> None:
        super().pauseProducing()
        # Who does not read our answers may not make us write more of them.
        self.pause("jam")

    def writable(self) -> None:
        if self.outbox.size < self.outbox.limit:
            self._over_since = None
        self.resume("jam")
        self._work()

    def close(self, reason: str, last: bytes | None = None) -> None:
        super().close(reason, last)
        self._gone()

    def abort(self, reason: str) -> None:
        super().abort(reason)
        self._gone()

    def ended(self, reason: str) -> None:
        self._gone()

    def _gone(self) -> None:
        """Nobody is registered here any more; harmless twice."""
        if self._ending is not None:
            self._ending.cancel()
            self._ending = None
        self._frames.clear()
        self._leave()

    def _leave(self) -> None:
        customer, self.customer = self.customer, None
        if customer is not None:
            self.home.customers.leave(self, customer, self.service)


class LoraCenterListener(Listener):
    """The factory of customer servers' connections."""

    def __init__(
        self,
        core: Core,
        settings: Settings,
        customers: Customers,
        requests: Requests,
        counted: LoraCenterCounters,
        gateways: GatewayRequests,
        others: Sequence[Any],
    ) -> None:
        """``others``: what else has ``settings``."""
        super().__init__(NAME, settings.limits, core.turn, core.reactor, core.clock, core.monotonic)
        self.core = core
        self.settings = settings
        self.customers = customers
        self.requests = requests
        self.counted = counted
        self._gateways = gateways
        self._parts = (self, customers, requests, gateways, *others)

    async def prepare(self) -> None:
        """By now the LoRaWAN side is there, if it is built at all."""
        if self.core.lora is not None:
            self.core.lora.watch_gateways(self._gateways.came_or_went)

    def connection_for(self, addr: IAddress | None) -> LoraCenterConnection:
        return LoraCenterConnection(self, str(getattr(addr, "host", "")), int(getattr(addr, "port", 0)))

    def reload(self, settings: Settings) -> Sequence[str]:
        """Take new settings while running; all of them can be taken."""
        for part in self._parts:
            part.settings = settings
        return ()

    def counters(self) -> dict[str, float]:
        """For the metrics."""
        return self.counted.as_dict()
