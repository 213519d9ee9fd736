"""A reader of the HTTP API's stream, at any process. What it is told is best effort, and never twice."""

from __future__ import annotations

from base64 import b64decode
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

from broker.simulate.api import Api, Stream
from tests.faults.calls import TOKEN
from tests.faults.crowd import SILENCE, Crowd
from tests.faults.kinds import Kind
from tests.ledger import NAMED, Account

#: Seconds between two looks, and the chance to leave at one.
EVERY: Final = 0.5
RATE: Final = 0.02


class StreamKind(Kind):
    name = "stream"

    """``times_said(device, number)``: how often a device said what it numbered so."""

    def __init__(self, crowd: Crowd, seed: int, times_said: Callable[[str, int], int]) -> None:
        super().__init__()
        self._times_said = times_said
        self._crowd = crowd
        self._random = Random(seed)
        self._place = crowd.anywhere("http")
        self._stream: Stream | None = None
        self._opening = False
        self._staying = True
        self._heard_at = 0.0
        self.opened = 0
        #: (device, number) -> how often it was told; messages of all kinds
        self._numbers: Counter[tuple[str, int]] = Counter()
        self._messages = 0
        self._dropped = 0
        self._looking = LoopingCall(self._look)
        self._looking.clock = crowd.reactor

    def begin(self) -> None:
        self._crowd.call(lambda: self._looking.start(EVERY) and None)

    def there(self) -> bool:
        return self._messages > 0

    def _look(self) -> None:
        now = self._crowd.reactor.seconds()
        if self._stream is not None:
            leaves = not self._staying and self._random.random() < RATE
            if leaves or now - self._heard_at > SILENCE:
                self._leave()
        elif not self._opening:
            ports = self._place.ports()
            if ports:
                self._opening = True
                opening = Deferred.fromCoroutine(self._open(self._random.choice(ports)))
                opening.addTimeout(SILENCE, self._crowd.reactor)
                opening.addErrback(lambda _: None)  # another time, at another process
                opening.addBoth(self._opened)

    def _leave(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    async def _open(self, port: int) -> None:
        api = Api(self._crowd.reactor, f"http://127.0.0.1:{port}", TOKEN)
        told: list[Stream] = []

        def ended(why: str) -> None:
            if told and self._stream is told[0]:
                self._stream = None

        def heard(message: dict[str, Any]) -> None:
            if told and self._stream is told[0]:
                self._message(message)

        told.append(await api.stream(heard, ended))
        self._stream, self._heard_at = told[0], self._crowd.reactor.seconds()
        self.opened += 1

    def _opened(self, _: object) -> None:
        self._opening = False

    def _message(self, message: dict[str, Any]) -> None:
        self._heard_at = self._crowd.reactor.seconds()
        self._messages += 1
        if message["type"] == "dropped":
            self._dropped += message["count"]
        elif message["type"] == "uplink":
            number = _number_in(message)
            if number is not None:
                self._numbers[message["device"], number] += 1

    def go(self) -> None:
        self._staying = False

    def hush(self) -> None:
        self._staying = True

    def faults(self) -> list[str]:
        twice = [key for key, count in list(self._numbers.items()) if count > self._times_said(*key)]
        return [f"the stream told twice of {twice[:NAMED]}"] if twice else []

    def accounts(self) -> list[Account]:
        account = Account("stream, uplinks", 0, len(self._numbers))
        account.twice = sum(max(0, count - self._times_said(*key)) for key, count in list(self._numbers.items()))
        account.note = f"{self._messages:,} messages over {self.opened} connections, best effort"
        return [account]

    def progress(self) -> str:
        return f"stream {self._messages:,} messages"

    def end(self) -> None:
        def stop() -> None:
            if self._looking.running:
                self._looking.stop()
            self._leave()

        self._crowd.call(stop)


def _number_in(message: dict[str, Any]) -> int | None:
    """The number that the device gave it, if it numbers what it says."""
    if message["protocol"] == "lorawan" and message["kind"] == "raw":
        return int.from_bytes(b64decode(message["payload_base64"])[:4], "big")
    if message["protocol"] == "novacloud" and message["kind"] == "data":
        number: int = message["payload"]["number"]
        return number
    return None
