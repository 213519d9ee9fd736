"""A gateway: its radio, and the packet forwarder that speaks Semtech UDP for it.

It behaves as Semtech's does: two sockets, PULL_DATA and stat at intervals, a queue of transmissions that takes what
lies between 32.5 ms and 512 s ahead and does not overlap, and TX_ACK. Its radio has eight demodulators, hears nothing
while it sends, and its clock runs a little fast or slow.
"""

from __future__ import annotations

from base64 import b64decode
from binascii import b2a_base64
from typing import Any, Final

import msgspec

from broker.simulate.lorawan.air import Air
from broker.simulate.lorawan.ledger import Ledger
from broker.simulate.lorawan.links import Link
from broker.simulate.lorawan.radio import Modulation

#: What the forwarder's queue takes: seconds ahead, at least and at most.
LEAST_AHEAD: Final = 0.0325
MOST_AHEAD: Final = 512.0
#: Seconds until "at once".
IMMEDIATE: Final = 1.0
PULL_EVERY: Final = 5.0
STAT_EVERY: Final = 30.0
DEMODULATORS: Final = 8
#: Parts in a million by which clocks of gateways are off at most.
DRIFT: Final = 1.0
#: Seconds for which a transmission is remembered: longer than any packet takes.
REMEMBERED: Final = 10.0
_WRAP: Final[int] = 1 << 32


class _Received(msgspec.Struct):
    tmst: int
    freq: float
    chan: int
    rfch: int
    stat: int
    modu: str
    datr: str | int
    codr: str
    rssi: int
    lsnr: float
    size: int
    data: str


class _Push(msgspec.Struct):
    rxpk: list[_Received]


class _Told(msgspec.Struct):
    """What is used of a txpk."""

    freq: float
    datr: str | int
    data: str
    powe: int = 14
    tmst: int = 0
    imme: bool = False


class _PullResp(msgspec.Struct):
    txpk: _Told


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(_PullResp).decode


class Forwarder:
    """One gateway. ``late``: the share of its TX_ACK that come two seconds late; ``version`` 1 sends none.

    ``heard``: the frequencies that it listens on; ``range``: the lowest and highest that it can send on, Hz.
    """

    def __init__(
        self,
        air: Air,
        eui: str,
        link: Link,
        heard: frozenset[int],
        range: tuple[int, int],
        *,
        version: int = 2,
        late: float = 0.0,
        pull_every: float = PULL_EVERY,
    ) -> None:
        self.air = air
        self.eui = self.name = eui
        self.number = len(air.stations)
        self.heard = heard
        self.range = range
        self.version = version
        self.late = late
        self.pull_every = pull_every
        self.demodulators = DEMODULATORS
        self.busy = 0
        self.ledger = Ledger(air.keep)
        self.acknowledged = self.forwarded = self.transmitted = self.refused = 0
        #: TX_ACK errors.
        self.errors: dict[str, int] = {}
        self._eui = bytes.fromhex(eui)
        self._reactor = air.reactor
        self._offset: int = air.dice.randrange(_WRAP)
        self._pace = 1e6 * (1.0 + air.dice.uniform(-DRIFT, DRIFT) * 1e-6)
        self._began = self._reactor.seconds()
        self._link = link
        self._token = air.dice.randrange(1 << 16)
        #: (start, end) of what it is going to send or has just sent, in the reactor's seconds.
        self._queue: list[tuple[float, float]] = []
        self._timers: list[Any] = []
        self._stopped = False
        air.stations.append(self)

    def start(self) -> None:
        self._link.open(self._push_ack, self._told)
        self._pull()
        self._stat()

    def stop(self) -> None:
        self._stopped = True
        for timer in self._timers:
            if timer.active():
                timer.cancel()
        self._link.close()

    # -- its clock -------------------------------------------------------------------------------------------------

    def tmst(self, when: float) -> int:
        """Its clock at a time, in microseconds."""
        passed: int = round((when - self._began) * self._pace)
        return (passed + self._offset) % _WRAP

    def _ahead(self, tmst: int, now: float) -> float:
        """Seconds until its clock says this; what is past is nearly 72 minutes ahead."""
        passed = (now - self._began) * self._pace + self._offset
        return float((tmst - passed) % _WRAP) / self._pace

    # -- datagrams -------------------------------------------------------------------------------------------------

    def _send(self, down: bool, kind: int, body: bytes = b"", token: bytes | None = None) -> None:
        if token is None:
            self._token = (self._token + 1) & 0xFFFF
            token = self._token.to_bytes(2, "big")
        self._link.send(down, bytes((self.version,)) + token + bytes((kind,)) + self._eui + body)

    def _pull(self) -> None:
        self._send(True, 2)
        self._again(self.pull_every, self._pull)

    def _stat(self) -> None:
        share = 100.0 * self.acknowledged / self.forwarded if self.forwarded else 0.0
        stat = {"rxnb": self.forwarded, "rxok": self.forwarded, "rxfw": self.forwarded, "ackr": round(share, 1)}
        stat |= {"dwnb": self.transmitted + self.refused, "txnb": self.transmitted}
        self._send(False, 0, _encode({"stat": stat}))
        self._again(STAT_EVERY, self._stat)

    def _again(self, seconds: float, call: Any, *arguments: object) -> None:
        if not self._stopped:
            if len(self._timers) > 50:
                self._timers = [timer for timer in self._timers if timer.active()]
            self._timers.append(self._reactor.callLater(seconds, call, *arguments))

    # -- up --------------------------------------------------------------------------------------------------------

    def sending(self, start: float, end: float) -> bool:
        """Whether its transmitter is on in any of that time."""
        return any(start < until and begin < end for begin, until in self._queue)

    def received(
        self, frame: bytes, frequency: int, modulation: Modulation, rssi: float, snr: float, end: float
    ) -> None:
        """A packet ended then."""
        packet = _Received(
            tmst=self.tmst(end),
            freq=frequency / 1e6,
            chan=0,
            rfch=0,
            stat=1,
            modu="LORA" if modulation.spreading else "FSK",
            datr=modulation.datr,
            codr="4/5",
            rssi=round(rssi),
            # As the chip has it: quarters of a dB, and no more than it can tell.
            lsnr=max(-32.0, min(15.0, round(snr * 4) / 4)),
            size=len(frame),
            data=b2a_base64(frame, newline=False).decode("ascii"),
        )
        self.forwarded += 1
        self._send(False, 0, _encode(_Push([packet])))

    def _push_ack(self, data: bytes) -> None:
        if len(data) == 4 and data[3] == 1:
            self.acknowledged += 1

    # -- down ------------------------------------------------------------------------------------------------------

    def _told(self, data: bytes) -> None:
        if self._stopped or len(data) < 5 or data[3] != 3:
            return
        error = self._enqueue(_decode(data[4:]).txpk)
        if error:
            self.refused += 1
            self.errors[error] = self.errors.get(error, 0) + 1
        if self.version == 1:
            return
        body = _encode({"txpk_ack": {"error": error}}) if error else b""
        if self.late and self.air.dice.random() < self.late:
            self._again(2.0, self._send, True, 5, body, data[1:3])
        else:
            self._send(True, 5, body, data[1:3])

    def _enqueue(self, packet: _Told) -> str:
        now = self._reactor.seconds()
        ahead = IMMEDIATE if packet.imme else self._ahead(packet.tmst, now)
        if ahead > MOST_AHEAD:
            return "TOO_EARLY"  # also what is past
        if ahead < LEAST_AHEAD:
            return "TOO_LATE"
        frequency = round(packet.freq * 1e6)
        if not self.range[0] <= frequency <= self.range[1]:
            return "TX_FREQ"
        frame = b64decode(packet.data)
        modulation = modulation_of(packet.datr)
        start = now + ahead
        end = start + modulation.airtime(len(frame), crc=False)
        self._queue = [span for span in self._queue if span[1] > now - REMEMBERED]
        if self.sending(start, end):
            return "COLLISION_PACKET"
        self._queue.append((start, end))
        self._again(ahead, self._transmit, frame, frequency, modulation, float(packet.powe), start)
        return ""

    def _transmit(self, frame: bytes, frequency: int, modulation: Modulation, power: float, start: float) -> None:
        self.transmitted += 1
        self.air.down(self, frame, frequency, modulation, power, start)


def modulation_of(datr: str | int) -> Modulation:
    """The data rate that Semtech's JSON names. Raises ValueError."""
    if isinstance(datr, int):
        return Modulation(0, datr)
    spreading, _, bandwidth = datr.removeprefix("SF").partition("BW")
    return Modulation(int(spreading), int(bandwidth) * 1000)
