"""Applications on the HTTP API: a backend that asks and waits, a monitor that listens to the WebSocket stream."""

from __future__ import annotations

from collections.abc import Coroutine
from random import Random
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

from broker.simulate.api import Api, ApiError, Message, Stream, segment
from broker.simulate.demo.board import Board
from broker.simulate.demo.cast import BY_ID, PROTOCOLS, SUBJECTS, Subject, of
from broker.simulate.demo.orders import Order, body
from broker.simulate.demo.turns import FINAL, Turns
from broker.simulate.demo.words import failure_text, uplink_text

#: Seconds between two looks at the newest message of a device.
LOOK: Final = 0.5
#: Seconds that the backend waits for an answer.
WAIT: Final = 20
#: Seconds until the monitor opens its stream again.
REOPEN: Final = 2.0


class HttpApplication:
    """What both have: calls that go wrong are a line, until it is over."""

    def __init__(self, reactor: Any, api: Api, board: Board, side: str, chance: Random) -> None:
        self.reactor = reactor
        self.api = api
        self.board = board
        self.side = side
        self.turns = Turns(reactor, board, side, SUBJECTS, chance, self.send)
        self.stopped = False

    def send(self, number: int, subject: Subject, given: Order) -> None:
        """Send a command."""
        raise NotImplementedError

    def stop(self) -> Deferred[None]:
        self.stopped = True
        self.turns.stop()
        return self.api.close()

    def begin(self, work: Coroutine[Any, Any, Any]) -> None:
        Deferred.fromCoroutine(work).addErrback(self._failed)

    async def post(self, number: int, subject: Subject, given: Order, **query: Any) -> Any:
        """POST a command; None if it was refused, which is its answer."""
        try:
            return await self.api.call(
                "POST", f"/devices/{segment(subject.id)}/commands", body(subject, given), **query
            )
        except ApiError as error:
            self.turns.answered(number, f"refused: {error}")
            return None

    def _failed(self, failure: Any) -> None:
        if not self.stopped:
            self.board.note(f"{self.side}: {failure.getErrorMessage()}")


class Backend(HttpApplication):
    """Reads what is in the history, and waits for the answers to its commands."""

    def __init__(self, reactor: Any, api: Api, board: Board, side: str, chance: Random) -> None:
        super().__init__(reactor, api, board, side, chance)
        self._looks = LoopingCall(self._look)
        self._looks.clock = reactor
        self._looked = 0
        #: Device -> the time of the newest message that was seen.
        self._newest: dict[str, float] = {}

    async def start(self) -> None:
        """What was there before is no news. Raises ApiError."""
        for protocol in PROTOCOLS:
            await self._read(of(protocol)[0], shown=False)

    def go(self) -> None:
        self._looks.start(LOOK)
        self.turns.start()

    def stop(self) -> Deferred[None]:
        if self._looks.running:
            self._looks.stop()
        return super().stop()

    def _look(self) -> None:
        # The first of each protocol, one after the other.
        subject = of(PROTOCOLS[self._looked % len(PROTOCOLS)])[0]
        self._looked += 1
        self.begin(self._read(subject))

    async def _read(self, subject: Subject, shown: bool = True) -> None:
        page = await self.api.call("GET", f"/devices/{segment(subject.id)}/messages", limit=1)
        for message in page["items"]:
            if message["at"] > self._newest.get(subject.id, 0.0):
                self._newest[subject.id] = message["at"]
                if shown:
                    self.board.uplink(self.side, subject, uplink_text(subject, message))

    def send(self, number: int, subject: Subject, given: Order) -> None:
        self.begin(self._send(number, subject, given))

    async def _send(self, number: int, subject: Subject, given: Order) -> None:
        answer = await self.post(number, subject, given, wait=WAIT)
        if answer is not None:
            self.turns.answered(number, answer["status"], failure_text(answer["result"]))


class Monitor(HttpApplication):
    """Sees everything as it happens."""

    def __init__(self, reactor: Any, api: Api, board: Board, side: str, chance: Random) -> None:
        super().__init__(reactor, api, board, side, chance)
        self._stream: Stream | None = None
        self._again: Any = None

    async def start(self) -> None:
        """Open the stream. Raises what connecting raises."""
        kinds = ["data", "status", "event", "raw", "command"]
        self._stream = await self.api.stream(self._message, self._ended, kind=kinds)

    def go(self) -> None:
        self.turns.start()

    def stop(self) -> Deferred[None]:
        stopping = super().stop()
        if self._again is not None and self._again.active():
            self._again.cancel()
        if self._stream is not None:
            self._stream.close()
        return stopping

    def send(self, number: int, subject: Subject, given: Order) -> None:
        self.begin(self._send(number, subject, given))

    async def _send(self, number: int, subject: Subject, given: Order) -> None:
        answer = await self.post(number, subject, given)
        if answer is None:
            return
        self.turns.call(number, answer["id"])
        # Its end may have come through the stream before we knew its id.
        now = await self.api.call("GET", f"/commands/{segment(answer['id'])}")
        self._state(now)

    def _message(self, message: Message) -> None:
        subject = BY_ID.get(message.get("device", ""))
        if message["type"] == "uplink" and subject is not None:
            self.board.uplink(self.side, subject, uplink_text(subject, message))
        elif message["type"] == "command":
            self._state(message)

    def _state(self, command: Message) -> None:
        if command["status"] in FINAL:
            self.turns.answered_as(command["id"], command["status"], failure_text(command["result"]))

    def _ended(self, why: str) -> None:
        if not self.stopped:
            self.board.note(f"{self.side}: {why}")
            self._again = self.reactor.callLater(REOPEN, lambda: self.begin(self.start()))
