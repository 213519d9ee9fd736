"""What one mote counts: messages, transmissions by hour and data rate, downlinks, and the charge that all takes."""

from __future__ import annotations

from collections import deque
from typing import Final

from broker.simulate.lorawan import radio
from broker.simulate.lorawan.ledger import HOUR

#: Commands that are kept.
MAX_COMMANDS: Final = 100


class Tally:
    """``began``: seconds of the simulation's clock."""

    def __init__(self, began: float) -> None:
        self._began = began
        #: Messages, each with a number of its own from 0 on, and those of them that asked for an acknowledgement.
        self.messages = self.confirmed = 0
        self.acknowledged = 0
        self.transmissions = self.repeated = 0
        #: Messages that had to wait for the mote's own duty cycle.
        self.delayed = 0
        self.joins = 0
        self.joined_at: float | None = None
        self.adr_requests = 0
        #: Downlinks by window: continuous, RX1, RX2; those for it that it could not take (old, forged).
        self.downlinks = [0, 0, 0]
        self.unread = 0
        #: Frames of groups: new ones, and those that it had heard or could not read.
        self.shared = self.shared_again = 0
        #: (port, payload) of the last ones, in their order, and how many there were.
        self.commands: deque[tuple[int, bytes]] = deque(maxlen=MAX_COMMANDS)
        self.commanded = 0
        #: Hour -> data rate -> transmissions.
        self.rates: dict[int, dict[int, int]] = {}
        #: mA s.
        self.sending = self.listening = 0.0
        self.sent_seconds = self.listened_seconds = 0.0

    def message(self, now: float, confirmed: bool) -> int:
        """The number of a new message."""
        self.messages += 1
        self.confirmed += confirmed
        return self.messages - 1

    def transmitted(self, now: float, seconds: float, rate: int, dbm: float) -> None:
        self.transmissions += 1
        hour = self.rates.setdefault(int((now - self._began) / HOUR), {})
        hour[rate] = hour.get(rate, 0) + 1
        self.sent_seconds += seconds
        self.sending += seconds * radio.sending_current(dbm)

    def listened(self, seconds: float) -> None:
        self.listened_seconds += seconds
        self.listening += seconds * radio.RECEIVING

    def received(self, window: int) -> None:
        self.downlinks[window] += 1

    def command(self, port: int, payload: bytes) -> None:
        self.commanded += 1
        self.commands.append((port, payload))

    def charge(self, seconds: float) -> float:
        """mA s that it used in so many seconds; of class C without the continuous listening, which is on the mains."""
        return self.sending + self.listening + radio.SLEEPING * seconds
