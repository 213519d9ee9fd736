"""Simulated packet forwarders and the air between them and motes, for the command line, demos and tests.

A forwarder behaves as Semtech's does: two sockets, PULL_DATA and stat at intervals, a queue of transmissions that takes
what lies between 32.5 ms and 512 s ahead and does not overlap, and TX_ACK. What it sends is heard by the motes that
listen on that frequency and data rate at that time; what a mote sends, by each forwarder that it reaches.
"""

from __future__ import annotations

import json
import random
from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import Any, Final, Protocol

from twisted.internet.protocol import DatagramProtocol

from broker.devices.lorawan.airtime import airtime
from broker.devices.lorawan.regions import Region, data_rate

#: What the forwarder's queue takes: seconds ahead, at least and at most.
LEAST_AHEAD: Final = 0.0325
MOST_AHEAD: Final = 512.0
#: Seconds until "at once".
IMMEDIATE: Final = 1.0
PULL_EVERY: Final = 5.0
STAT_EVERY: Final = 30.0
_WRAP: Final = 1 << 32


class Listener(Protocol):
    """What the air has to know of a mote."""

    def hears(self, frame: bytes, frequency: int, datr: str | int, began: float) -> None:
        """Something was sent, and has just ended; ``began`` in the reactor's seconds."""


class Air:
    """Who hears whom. ``loss``: the share of packets that a gateway, or a mote, does not receive.

    ``block``: which channels of a fixed plan the gateways hear, and motes use. Raises ValueError for one too many.
    """

    def __init__(self, reactor: Any, region: Region, dice: random.Random, loss: float = 0.0, block: int = 0) -> None:
        self.reactor = reactor
        self.region = region
        self.dice = dice
        self.loss = loss
        heard = region.block(block) if region.fixed else range(len(region.channels_up))
        #: What motes send on.
        self.channels = tuple(channel for channel in region.channels_up if channel.index in heard)
        self.forwarders: list[Forwarder] = []
        self.motes: list[Listener] = []

    def lost(self) -> bool:
        return self.dice.random() < self.loss

    def from_mote(self, frame: bytes, frequency: int, datr: str | int, reach: list[int]) -> float:
        """A mote begins to send, heard by the forwarders with these numbers; the seconds that it takes."""
        seconds = airtime(data_rate(datr), len(frame), crc=True)
        for number in reach:
            if not self.lost():
                self.reactor.callLater(seconds, self.forwarders[number].received, frame, frequency, datr)
        return seconds

    def from_forwarder(self, frame: bytes, frequency: int, datr: str | int) -> None:
        """A forwarder begins to send."""
        began = self.reactor.seconds()

        def ended() -> None:
            for mote in self.motes:
                if not self.lost():
                    mote.hears(frame, frequency, datr, began)

        self.reactor.callLater(airtime(data_rate(datr), len(frame)), ended)


class _Socket(DatagramProtocol):
    noisy = False

    def __init__(self, server: tuple[str, int], take: Callable[[bytes], None]) -> None:
        self._server = server
        self._take = take

    def startProtocol(self) -> None:
        transport: Any = self.transport
        transport.connect(*self._server)

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self._take(datagram)

    def connectionRefused(self) -> None:
        """Nobody listens there at the moment: UDP may ask again."""

    def send(self, data: bytes) -> None:
        transport: Any = self.transport
        if transport is not None:
            transport.write(data)


class Forwarder:
    """One gateway. ``late``: the share of its TX_ACK that come two seconds late; ``version`` 1 sends none."""

    def __init__(self, air: Air, eui: str, server: tuple[str, int], *, version: int = 2, late: float = 0.0) -> None:
        self.air = air
        self.eui = eui
        self.version = version
        self.late = late
        self.acknowledged = self.forwarded = self.transmitted = self.refused = 0
        self._reactor = air.reactor
        self._offset = air.dice.randrange(_WRAP)
        self._up = _Socket(server, self._push_ack)
        self._down = _Socket(server, self._told)
        self._ports: list[Any] = []
        self._timers: list[Any] = []
        #: (start, end) of what it is going to send, in the reactor's seconds.
        self._queue: list[tuple[float, float]] = []
        self._stopped = False
        air.forwarders.append(self)

    def start(self) -> None:
        for socket in (self._up, self._down):
            self._ports.append(self._reactor.listenUDP(0, socket))
        self._pull()
        self._stat()

    def stop(self) -> None:
        self._stopped = True
        for timer in self._timers:
            if timer.active():
                timer.cancel()
        for port in self._ports:
            port.stopListening()

    @property
    def tmst(self) -> int:
        """Its clock, in microseconds."""
        return (int(self._reactor.seconds() * 1e6) + self._offset) % _WRAP

    def _send(self, through: _Socket, kind: int, body: bytes = b"", token: bytes | None = None) -> None:
        token = self.air.dice.randbytes(2) if token is None else token
        through.send(bytes((self.version,)) + token + bytes((kind,)) + bytes.fromhex(self.eui) + body)

    def _pull(self) -> None:
        self._send(self._down, 2)
        self._again(PULL_EVERY, self._pull)

    def _stat(self) -> None:
        share = 100.0 * self.acknowledged / self.forwarded if self.forwarded else 0.0
        stat = {"rxnb": self.forwarded, "rxok": self.forwarded, "rxfw": self.forwarded, "ackr": round(share, 1)}
        stat |= {"dwnb": self.transmitted + self.refused, "txnb": self.transmitted}
        self._send(self._up, 0, json.dumps({"stat": stat}).encode())
        self._again(STAT_EVERY, self._stat)

    def _again(self, seconds: float, call: Callable[[], None]) -> None:
        if not self._stopped:
            self._timers = [timer for timer in self._timers if timer.active()]
            self._timers.append(self._reactor.callLater(seconds, call))

    # -- up --------------------------------------------------------------------------------------------------------

    def received(self, frame: bytes, frequency: int, datr: str | int) -> None:
        """A mote's packet has just ended."""
        packet = {
            "tmst": self.tmst,
            "chan": 0,
            "rfch": 0,
            "freq": frequency / 1e6,
            "stat": 1,
            "modu": "LORA",
            "datr": datr,
            "codr": "4/5",
            "rssi": -50 - self.air.dice.randrange(60),
            "lsnr": round(self.air.dice.uniform(-5.0, 10.0), 1),
            "size": len(frame),
            "data": b64encode(frame).decode(),
        }
        self.forwarded += 1
        self._send(self._up, 0, json.dumps({"rxpk": [packet]}).encode())

    def _push_ack(self, data: bytes) -> None:
        if len(data) == 4 and data[3] == 1:
            self.acknowledged += 1

    # -- down ------------------------------------------------------------------------------------------------------

    def _told(self, data: bytes) -> None:
        if len(data) < 5 or data[3] != 3:
            return
        packet = json.loads(data[4:])["txpk"]
        error = self._enqueue(packet)
        if error:
            self.refused += 1
        if self.version == 1:
            return
        body = json.dumps({"txpk_ack": {"error": error}}).encode() if error else b""
        if self.air.dice.random() < self.late:
            self._timers.append(self._reactor.callLater(2.0, self._send, self._down, 5, body, data[1:3]))
        else:
            self._send(self._down, 5, body, data[1:3])

    def _enqueue(self, packet: dict[str, Any]) -> str:
        now = self._reactor.seconds()
        ahead = IMMEDIATE if packet.get("imme") else ((packet["tmst"] - self.tmst) % _WRAP) / 1e6
        if ahead > MOST_AHEAD:
            return "TOO_EARLY"  # also what is past
        if ahead < LEAST_AHEAD:
            return "TOO_LATE"
        frame = b64decode(packet["data"])
        start = now + ahead
        end = start + airtime(data_rate(packet["datr"]), len(frame))
        self._queue = [span for span in self._queue if span[1] > now]
        if any(start < until and begin < end for begin, until in self._queue):
            return "COLLISION_PACKET"
        self._queue.append((start, end))
        self._timers.append(self._reactor.callLater(ahead, self._transmit, frame, packet))
        return ""

    def _transmit(self, frame: bytes, packet: dict[str, Any]) -> None:
        self.transmitted += 1
        self.air.from_forwarder(frame, round(packet["freq"] * 1e6), packet["datr"])
