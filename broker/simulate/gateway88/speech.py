"""A gateway's side of the conversation, sans-IO: ids, what is unanswered, and which commands were seen already.

The document, "网关与服务器交互规则": what is not answered within 6 s is sent again, three sends in all; after five
sends in a row without an answer the connection is given up. Every request of the broker is answered, also when it comes
again.
"""

from __future__ import annotations

from typing import Any, Final

from broker.devices.gateway88 import container
from broker.devices.gateway88.frames import Frame, encode_frame
from broker.simulate.gateway88.behaviour import Behaviour

#: Gateways use the lower half.
LAST_ID: Final = 127
#: Seconds in which the same frame is the same command.
REMEMBER: Final = 20.0
#: Bytes that the JSON of the broker may have.
LIMIT: Final = 4_194_304


class Said:
    """What waits for an answer."""

    __slots__ = ("at", "raw", "sends")

    def __init__(self, raw: bytes, at: float) -> None:
        self.raw = raw
        self.at = at
        self.sends = 1


class Speech:
    """One connection. ``now`` is monotonic, in seconds."""

    def __init__(self, mac: bytes, behaviour: Behaviour) -> None:
        self.mac = mac
        #: Sends in a row that were not answered.
        self.missed = 0
        self._behaviour = behaviour
        self._flavour = container.FLAVOURS[behaviour.container]
        self._last_id = 0
        self._waiting: dict[int, Said] = {}
        #: Commands by their bytes: when, and what was answered (nothing yet: empty).
        self._obeyed: dict[bytes, tuple[float, bytes]] = {}

    def say(self, value: dict[str, Any], now: float) -> bytes:
        """The frame of something new, which waits for its answer from now on."""
        self._last_id = self._last_id % LAST_ID + 1
        raw = self.frame(self._last_id, value)
        self._waiting[self._last_id] = Said(raw, now)
        return raw

    def frame(self, id: int, value: dict[str, Any]) -> bytes:
        return encode_frame(self.mac, id, container.encode(value, self._flavour))

    def read(self, frame: Frame) -> dict[str, Any] | None:
        """What a frame says; None for a general acknowledgement. Raises ValueError for what cannot be read."""
        return container.decode(frame.data, LIMIT).value if frame.data else None

    def answered(self, frame: Frame) -> bool:
        """Something that we said is answered; False if nothing with this id waited."""
        if self._waiting.pop(frame.id, None) is None:
            return False
        self.missed = 0
        return True

    def seen(self, frame: Frame, now: float) -> bytes | None:
        """None for a command that is new; else what it was answered with, empty if it was not answered yet."""
        self._obeyed = {raw: known for raw, known in self._obeyed.items() if now - known[0] < REMEMBER}
        known = self._obeyed.get(frame.raw)
        if known is None:
            self._obeyed[frame.raw] = (now, b"")
            return None
        return known[1]

    def answer(self, frame: Frame, value: dict[str, Any], now: float) -> bytes:
        """The answer to a command, to be given again if it comes again."""
        raw = self.frame(frame.id, value)
        self._obeyed[frame.raw] = (now, raw)
        return raw

    def due(self, now: float) -> list[bytes]:
        """What has to be sent again now; see `missed` for whether there is any use in it."""
        again = []
        for id, said in list(self._waiting.items()):
            if now - said.at < self._behaviour.answer_within:
                continue
            self.missed += 1
            if said.sends == self._behaviour.sends:
                del self._waiting[id]
                continue
            said.sends += 1
            said.at = now
            again.append(said.raw)
        return again

    def next_due(self) -> float | None:
        """When `due` is to be asked next."""
        if not self._waiting:
            return None
        return min(said.at for said in self._waiting.values()) + self._behaviour.answer_within
