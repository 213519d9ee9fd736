"""MAC commands of LoRaWAN 1.0.2 to 1.0.4 (chapter 5) <-> bytes, both directions, sans-IO.

::

    FOpts, or FRMPayload on port 0:   CID | body | CID | body ...                             fields are little-endian

    CID  from the network                                      from the mote
    02   LinkCheckAns    Margin | GwCnt                         LinkCheckReq      -
    03   LinkADRReq      rate:4 power:4 | ChMask (2)            LinkADRAns        RFU:5 power:1 rate:1 mask:1
                         | RFU:1 ChMaskCntl:3 NbTrans:4
    04   DutyCycleReq    RFU:4 MaxDCycle:4                      DutyCycleAns      -
    05   RXParamSetupReq RFU:1 RX1DROffset:3 RX2 rate:4         RXParamSetupAns   RFU:5 offset:1 rate:1 channel:1
                         | frequency / 100 Hz (3)
    06   DevStatusReq    -                                      DevStatusAns      Battery | RFU:2 Margin:6 (signed)
    07   NewChannelReq   ChIndex | frequency (3)                NewChannelAns     RFU:6 rates:1 frequency:1
                         | max rate:4 min rate:4
    08   RXTimingSetupReq  RFU:4 Del:4                          RXTimingSetupAns  -
    09   TxParamSetupReq RFU:2 down dwell:1 up dwell:1 EIRP:4   TxParamSetupAns   -
    0A   DlChannelReq    ChIndex | frequency (3)                DlChannelAns      RFU:6 uplink:1 frequency:1
    0D   DeviceTimeAns   GPS seconds (4) | 1/256 s (1)          DeviceTimeReq     -            (1.0.3 and later)

The law of this file:

* `parse_up` and `parse_down` read what they can and say whether that was all. What follows an unknown command cannot be
  read, as its length is not known (5): it is left, and counted by the caller. No bytes raise anything.
* RFU bits are written as 0 and not looked at.
* The four commands of class B are passed over: their lengths are known, so what follows them is not lost.
* Whether a value is allowed where the mote is, is not decided here (`regions`, `requests`).

What it does not do: encryption on port 0, what fits into a frame, which answer belongs to which request.
"""

from __future__ import annotations

from typing import ClassVar, Final, Self

import msgspec

#: dBm EIRP by MaxEIRP of TxParamSetupReq (1.0.3, 5.9).
MAX_EIRP: Final = (8, 10, 12, 13, 14, 16, 18, 20, 21, 24, 26, 27, 29, 30, 33, 36)


class Command(msgspec.Struct, frozen=True):
    """One command. ``cid``: its first byte; ``size``: how many follow."""

    cid: ClassVar[int] = -1
    size: ClassVar[int] = 0

    def body(self) -> bytes:
        """What follows the CID. Raises ValueError or OverflowError for what its fields have no place for."""
        return b""

    @classmethod
    def of(cls, body: bytes) -> Self:
        """From the ``size`` bytes that follow the CID."""
        return cls()


# -- from the network --------------------------------------------------------------------------------------------------


class LinkCheckAns(Command, frozen=True):
    """``margin``: dB above what demodulation needs (0..254); ``gateways``: how many heard the request."""

    cid: ClassVar[int] = 0x02
    size: ClassVar[int] = 2
    margin: int
    gateways: int

    def body(self) -> bytes:
        return bytes((self.margin, self.gateways))

    @classmethod
    def of(cls, body: bytes) -> Self:
        return cls(body[0], body[1])


class LinkADRReq(Command, frozen=True):
    """``mask``: ChMask, channel 0 of the sixteen in bit 0; ``repetitions``: NbTrans, 0 leaves it as it is (1.0.2)."""

    cid: ClassVar[int] = 0x03
    size: ClassVar[int] = 4
    rate: int
    power: int
    mask: int
    mask_control: int = 0
    repetitions: int = 1

    def body(self) -> bytes:
        first = _nibbles(self.rate, self.power)
        last = _below(self.mask_control, 8) << 4 | _below(self.repetitions, 16)
        return first + self.mask.to_bytes(2, "little") + bytes((last,))

    @classmethod
    def of(cls, body: bytes) -> Self:
        mask = int.from_bytes(body[1:3], "little")
        return cls(body[0] >> 4, body[0] & 15, mask, body[3] >> 4 & 7, body[3] & 15)


class DutyCycleReq(Command, frozen=True):
    """``exponent``: the mote may be on air for 1 / 2**exponent of the time, all bands together; 0: no limit."""

    cid: ClassVar[int] = 0x04
    size: ClassVar[int] = 1
    exponent: int

    def body(self) -> bytes:
        return bytes((_below(self.exponent, 16),))

    @classmethod
    def of(cls, body: bytes) -> Self:
        return cls(body[0] & 15)


class RXParamSetupReq(Command, frozen=True):
    """RX1DROffset, and data rate and frequency (Hz, a multiple of 100) of RX2."""

    cid: ClassVar[int] = 0x05
    size: ClassVar[int] = 4
    offset: int
    rate: int
    frequency: int

    def body(self) -> bytes:
        return bytes((_below(self.offset, 8) << 4 | _below(self.rate, 16),)) + frequency_bytes(self.frequency)

    @classmethod
    def of(cls, body: bytes) -> Self:
        return cls(body[0] >> 4 & 7, body[0] & 15, frequency_of(body[1:4]))


class DevStatusReq(Command, frozen=True):
    """How are you?"""

    cid: ClassVar[int] = 0x06


class NewChannelReq(Command, frozen=True):
    """Channel ``index`` is at ``frequency`` (Hz; 0 takes it away) for these data rates."""

    cid: ClassVar[int] = 0x07
    size: ClassVar[int] = 5
    index: int
    frequency: int
    min_rate: int
    max_rate: int

    def body(self) -> bytes:
        return bytes((self.index,)) + frequency_bytes(self.frequency) + _nibbles(self.max_rate, self.min_rate)

    @classmethod
    def of(cls, body: bytes) -> Self:
        return cls(body[0], frequency_of(body[1:4]), body[4] & 15, body[4] >> 4)


class RXTimingSetupReq(Command, frozen=True):
    """``delay``: seconds from the end of an uplink to RX1, 1 to 15."""

    cid: ClassVar[int] = 0x08
    size: ClassVar[int] = 1
    delay: int

    def body(self) -> bytes:
        return bytes((_below(self.delay, 16),))

    @classmethod
    def of(cls, body: bytes) -> Self:
        return cls(body[0] & 15 or 1)


class TxParamSetupReq(Command, frozen=True):
    """Dwell times of 400 ms, and the index of the largest EIRP in `MAX_EIRP`."""

    cid: ClassVar[int] = 0x09
    size: ClassVar[int] = 1
    down_dwell: bool
    up_dwell: bool
    eirp: int

    def body(self) -> bytes:
        return bytes(((self.down_dwell and 0x20) | (self.up_dwell and 0x10) | _below(self.eirp, 16),))

    @classmethod
    def of(cls, body: bytes) -> Self:
        return cls(body[0] & 0x20 != 0, body[0] & 0x10 != 0, body[0] & 15)


class DlChannelReq(Command, frozen=True):
    """RX1 after an uplink on channel ``index`` is at ``frequency`` (Hz)."""

    cid: ClassVar[int] = 0x0A
    size: ClassVar[int] = 4
    index: int
    frequency: int

    def body(self) -> bytes:
        return bytes((self.index,)) + frequency_bytes(self.frequency)

    @classmethod
    def of(cls, body: bytes) -> Self:
        return cls(body[0], frequency_of(body[1:4]))


class DeviceTimeAns(Command, frozen=True):
    """GPS time of the end of the uplink that asked, in 1/256 s."""

    cid: ClassVar[int] = 0x0D
    size: ClassVar[int] = 5
    ticks: int

    def body(self) -> bytes:
        return (self.ticks >> 8 & 0xFFFF_FFFF).to_bytes(4, "little") + bytes((self.ticks & 0xFF,))

    @classmethod
    def of(cls, body: bytes) -> Self:
        return cls(int.from_bytes(body[:4], "little") << 8 | body[4])

    @classmethod
    def at(cls, seconds: float) -> Self:
        """From seconds since the GPS epoch."""
        return cls(round(seconds * 256))


# -- from the mote -----------------------------------------------------------------------------------------------------


class LinkCheckReq(Command, frozen=True):
    """How well am I heard?"""

    cid: ClassVar[int] = 0x02


class LinkADRAns(Command, frozen=True):
    """What of a LinkADRReq was right; only if all of it was, the mote follows it."""

    cid: ClassVar[int] = 0x03
    size: ClassVar[int] = 1
    power: bool = True
    rate: bool = True
    mask: bool = True

    def body(self) -> bytes:
        return bytes(((self.power and 4) | (self.rate and 2) | (self.mask and 1),))

    @classmethod
    def of(cls, body: bytes) -> Self:
        return cls(body[0] & 4 != 0, body[0] & 2 != 0, body[0] & 1 != 0)


class DutyCycleAns(Command, frozen=True):
    """Done."""

    cid: ClassVar[int] = 0x04


class RXParamSetupAns(Command, frozen=True):
    """What of the request was right. Sent with every uplink until a downlink of class A comes (5.4)."""

    cid: ClassVar[int] = 0x05
    size: ClassVar[int] = 1
    offset: bool = True
    rate: bool = True
    channel: bool = True

    def body(self) -> bytes:
        return bytes(((self.offset and 4) | (self.rate and 2) | (self.channel and 1),))

    @classmethod
    def of(cls, body: bytes) -> Self:
        return cls(body[0] & 4 != 0, body[0] & 2 != 0, body[0] & 1 != 0)


class DevStatusAns(Command, frozen=True):
    """``battery``: 0 mains, 1..254 of full, 255 unknown; ``margin``: dB of the last DevStatusReq, -32..31."""

    cid: ClassVar[int] = 0x06
    size: ClassVar[int] = 2
    battery: int
    margin: int

    def body(self) -> bytes:
        return bytes((self.battery, self.margin & 0x3F))

    @classmethod
    def of(cls, body: bytes) -> Self:
        margin = body[1] & 0x3F
        return cls(body[0], margin - 64 if margin & 0x20 else margin)


class NewChannelAns(Command, frozen=True):
    """What of the request was right."""

    cid: ClassVar[int] = 0x07
    size: ClassVar[int] = 1
    rates: bool = True
    frequency: bool = True

    def body(self) -> bytes:
        return bytes(((self.rates and 2) | (self.frequency and 1),))

    @classmethod
    def of(cls, body: bytes) -> Self:
        return cls(body[0] & 2 != 0, body[0] & 1 != 0)


class RXTimingSetupAns(Command, frozen=True):
    """Done. Sent with every uplink until a downlink of class A comes (5.7)."""

    cid: ClassVar[int] = 0x08


class TxParamSetupAns(Command, frozen=True):
    """Done; a mote of a region without dwell times does not answer (5.8)."""

    cid: ClassVar[int] = 0x09


class DlChannelAns(Command, frozen=True):
    """What of the request was right. Sent with every uplink until a downlink of class A comes (5.9)."""

    cid: ClassVar[int] = 0x0A
    size: ClassVar[int] = 1
    uplink: bool = True
    frequency: bool = True

    def body(self) -> bytes:
        return bytes(((self.uplink and 2) | (self.frequency and 1),))

    @classmethod
    def of(cls, body: bytes) -> Self:
        return cls(body[0] & 2 != 0, body[0] & 1 != 0)


class DeviceTimeReq(Command, frozen=True):
    """What time is it?"""

    cid: ClassVar[int] = 0x0D


DOWN: Final[tuple[type[Command], ...]] = (
    LinkCheckAns,
    LinkADRReq,
    DutyCycleReq,
    RXParamSetupReq,
    DevStatusReq,
    NewChannelReq,
    RXTimingSetupReq,
    TxParamSetupReq,
    DlChannelReq,
    DeviceTimeAns,
)
UP: Final[tuple[type[Command], ...]] = (
    LinkCheckReq,
    LinkADRAns,
    DutyCycleAns,
    RXParamSetupAns,
    DevStatusAns,
    NewChannelAns,
    RXTimingSetupAns,
    TxParamSetupAns,
    DlChannelAns,
    DeviceTimeReq,
)
#: Commands of class B -> bytes that follow them: PingSlotInfo, PingSlotChannel, BeaconTiming, BeaconFreq.
PASSED_UP: Final = {0x10: 1, 0x11: 1, 0x12: 0, 0x13: 1}
PASSED_DOWN: Final = {0x10: 0, 0x11: 4, 0x12: 3, 0x13: 3}

_UP: Final = {kind.cid: kind for kind in UP}
_DOWN: Final = {kind.cid: kind for kind in DOWN}


def parse_up(data: bytes) -> tuple[list[Command], bool]:
    """What a mote says, and whether all of it could be read."""
    return _parse(data, _UP, PASSED_UP)


def parse_down(data: bytes) -> tuple[list[Command], bool]:
    """What a mote is told, and whether all of it could be read."""
    return _parse(data, _DOWN, PASSED_DOWN)


def _parse(data: bytes, kinds: dict[int, type[Command]], passed: dict[int, int]) -> tuple[list[Command], bool]:
    found: list[Command] = []
    at = 0
    while at < len(data):
        kind = kinds.get(data[at])
        size = passed.get(data[at]) if kind is None else kind.size
        end = at + 1 + (size or 0)
        if size is None or end > len(data):
            return found, False
        if kind is not None:
            found.append(kind.of(data[at + 1 : end]))
        at = end
    return found, True


def encode(*commands: Command) -> bytes:
    """One after the other. Raises ValueError or OverflowError for a field that is out of its range."""
    return b"".join(bytes((command.cid,)) + command.body() for command in commands)


def length(*commands: Command) -> int:
    """Bytes of them in a frame."""
    return sum(1 + command.size for command in commands)


def frequency_bytes(frequency: int) -> bytes:
    """Hz in the three bytes of MAC commands and of a CFList: steps of 100, little-endian."""
    return (frequency // 100).to_bytes(3, "little")


def frequency_of(data: bytes) -> int:
    return int.from_bytes(data, "little") * 100


def _below(value: int, end: int) -> int:
    if not 0 <= value < end:
        raise ValueError(f"{value} is not one of 0 to {end - 1}")
    return value


def _nibbles(high: int, low: int) -> bytes:
    return bytes((_below(high, 16) << 4 | _below(low, 16),))
