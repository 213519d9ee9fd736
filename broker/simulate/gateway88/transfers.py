"""Fetching and posting files as a gateway does: over HTTPS, no faster than its line, again when it broke off.

A download goes on where it stopped (Range), an upload begins anew.
"""

from __future__ import annotations

from typing import Any, Final

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, ConnectionClosed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web.client import (
    Agent,
    RequestTransmissionFailed,
    ResponseDone,
    ResponseFailed,
    readBody,
)
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers

from broker.simulate.gateway88.behaviour import Behaviour
from broker.simulate.gateway88.connecting import Unchecked

CONNECT_TIMEOUT: Final = 10.0
#: Seconds between two pieces of a transfer whose rate is limited.
BEAT: Final = 0.05
#: Bytes of an upload that are handed on at once.
PIECE: Final = 65_536

_BROKEN: Final = (
    ConnectError,
    ConnectionClosed,
    ResponseFailed,
    RequestTransmissionFailed,
    PotentialDataLoss,
    SSL.Error,
    OSError,
)


class TransferError(Exception):
    """The file could not be had, or not be handed in; the text is one line."""


class Transfers:
    """A gateway's HTTP client. ``fetched`` and ``posted`` are bytes of the present transfer, for whoever watches."""

    def __init__(self, reactor: Any, behaviour: Behaviour, context: SSL.Context) -> None:
        self.fetched = 0
        self.posted = 0
        self._reactor = reactor
        self._behaviour = behaviour
        self._agent = Agent(reactor, Unchecked(context), connectTimeout=CONNECT_TIMEOUT)

    async def fetch(self, url: str) -> bytes:
        """The file there. Raises TransferError."""
        got = bytearray()
        for _ in range(self._behaviour.transfer_tries):
            self.fetched = len(got)
            try:
                if await self._fetch_on(url, got):
                    return bytes(got)
            except _BROKEN:
                pass  # once more
            await deferLater(self._reactor, self._behaviour.transfer_again)
        raise TransferError("the download went on breaking off")

    async def _fetch_on(self, url: str, got: bytearray) -> bool:
        headers = Headers({"Range": [f"bytes={len(got)}-"]} if got else {})
        response: Any = await self._agent.request(b"GET", url.encode(), headers)
        if response.code == 503:
            await readBody(response)
            return False
        if response.code not in (200, 206):
            raise TransferError(f"GET: {response.code}")
        if response.code == 200:
            got.clear()
        await self._read(response, got)
        return True

    def _read(self, response: Any, got: bytearray) -> Deferred[None]:
        body = _Body(self, got)
        response.deliverBody(body)
        return body.done

    async def post(self, url: str, data: bytes) -> None:
        """Hand a file in. Raises TransferError."""
        headers = Headers({"Content-Type": ["application/octet-stream"]})
        for _ in range(self._behaviour.transfer_tries):
            try:
                body: Any = _Paced(self, data)
                response: Any = await self._agent.request(b"POST", url.encode(), headers, body)
                await readBody(response)
            except _BROKEN:
                response = None
            if response is not None and response.code == 200:
                return
            if response is not None and response.code != 503:
                raise TransferError(f"POST: {response.code}")
            await deferLater(self._reactor, self._behaviour.transfer_again)
        raise TransferError("the upload went on breaking off")

    @property
    def clock(self) -> IReactorTime:
        clock: IReactorTime = self._reactor
        return clock

    @property
    def per_beat(self) -> int:
        """Bytes between two beats; 0: no limit."""
        rate = self._behaviour.transfer_rate
        return max(1, int(rate * BEAT)) if rate else 0


class _Body(Protocol):
    """Reads the body of an answer."""

    def __init__(self, transfers: Transfers, got: bytearray) -> None:
        self.done: Deferred[None] = Deferred(self._cancelled)
        self._transfers = transfers
        self._got = got
        self._timer: Any = None

    def dataReceived(self, data: bytes) -> None:
        self._got += data
        self._transfers.fetched = len(self._got)
        per_beat = self._transfers.per_beat
        transport: Any = self.transport
        if per_beat and transport is not None:
            transport.pauseProducing()
            delay = BEAT * len(data) / per_beat
            if self._timer is not None:  # what had been read already comes all the same
                # One that is overdue on a busy machine gives no time back.
                delay += max(0.0, self._timer.getTime() - self._transfers.clock.seconds())
                self._timer.cancel()
            self._timer = self._transfers.clock.callLater(delay, self._go_on, transport)

    def _go_on(self, transport: Any) -> None:
        self._timer = None
        transport.resumeProducing()

    def _cancelled(self, done: Deferred[None]) -> None:
        self._stop()
        transport: Any = self.transport
        if transport is not None:
            transport.loseConnection()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._stop()
        if self.done.called:
            return
        if reason.check(ResponseDone):
            self.done.callback(None)
        else:
            self.done.errback(reason)


class _Paced:
    """A request body that is written piece by piece (IBodyProducer)."""

    def __init__(self, transfers: Transfers, data: bytes) -> None:
        self.length = len(data)
        self._transfers = transfers
        self._data = data
        self._at = 0
        self._consumer: Any = None
        self._done: Deferred[None] = Deferred()
        self._timer: Any = None
        self._paused = False

    def startProducing(self, consumer: Any) -> Deferred[None]:
        self._consumer = consumer
        self._write()
        return self._done

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        if self._paused:
            self._paused = False
            if self._timer is None:
                self._write()

    def stopProducing(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._paused = True

    def _write(self) -> None:
        self._timer = None
        if self._paused:
            return
        piece = self._data[self._at : self._at + (self._transfers.per_beat or PIECE)]
        self._at += len(piece)
        self._transfers.posted = self._at
        if piece:
            self._timer = self._transfers.clock.callLater(BEAT if self._transfers.per_beat else 0, self._write)
            self._consumer.write(piece)
        else:
            self._done.callback(None)
