"""The smallest protocol: lines. ``hello NAME`` logs in, ``say WORDS`` is answered ``ok``; anything else ends it."""

from typing import Any

from twisted.internet.interfaces import IAddress
from twisted.internet.task import Clock

from broker.listening.connection import Connection
from broker.listening.listener import Listener
from broker.listening.settings import Limits
from tests.transports import turn_of


class ToyConnection(Connection):
    """What a connection does by itself, and what it is told, in ``events``."""

    def __init__(self, home: Any, host: str, port: int = 0) -> None:
        super().__init__(home, host, port)
        self.waiting = b""
        self.events: list[str] = []

    def opened(self) -> None:
        self.events.append("opened")

    def received(self, data: bytes) -> None:
        *lines, self.waiting = (self.waiting + data).split(b"\n")
        taken = 0
        for line in lines:
            if self.closing:
                break
            self.line(line)
            taken += 1
        self.account(taken)
        if len(self.waiting) > self.home.limits.max_message_size:
            self.waiting = b""
            self.close("too_long")

    def line(self, line: bytes) -> None:
        verb, _, rest = line.partition(b" ")
        if len(line) > self.home.limits.max_message_size:
            self.close("too_long")
        elif not line.isascii():
            self.close("malformed")
        elif verb == b"hello" and rest:
            self.authenticated(rest.decode())
        elif not self.identity:
            self.close("auth_failed")
        elif verb == b"say":
            self.send(b"ok\n")
        elif verb == b"break":
            raise ZeroDivisionError("our fault")
        else:
            self.close("protocol_error")

    def goodbye(self, reason: str) -> bytes:
        return b"bye " + reason.encode() + b"\n"

    def ended(self, reason: str) -> None:
        self.events.append(f"ended {reason}")

    def writable(self) -> None:
        self.events.append("writable")


class ToyListener(Listener):
    protocol = ToyConnection

    def connection_for(self, addr: IAddress | None) -> Connection:
        return self.protocol(self, str(getattr(addr, "host", "")), int(getattr(addr, "port", 0)))


def make_toy(clock: Clock, limits: Limits | None = None) -> ToyListener:
    return ToyListener("toy", limits or Limits(), turn_of(clock), clock, clock.seconds, clock.seconds)
