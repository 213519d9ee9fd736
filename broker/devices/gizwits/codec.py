"""What Gizwits devices, apps and the cloud put into MQTT publishes: bytes <-> packets. Sans-IO.

Two forms (device and cloud 4.0.6, sections 4.4 to 4.13; integers are big-endian)::

    business   00 00 00 03 | varlen | flag | command(2) | [sn(4)] | data        topics app2dev/..., dev2app/...
    system     00 00 00 03 | command(2) | data                                 topics ser2cli_*, cli2ser_*

    varlen: MQTT's remaining length, 1 to 4 bytes of 7 bits, low ones first: the bytes from the flag to the end

    0x0090 control    data                                         to the device                 4.8
    0x0091 report     data                                         from the device               4.8
    0x0093 request    sn(4) data                                   both ways, wants an ack       4.9
    0x0094 ack        sn(4) data                                   both ways                     4.9
    0x0010 set log    bits 15..8, bits 7..0                        to the device                 4.10
    0x0011 log set                                                 from the device               4.10
    0x0012 log        level(1) len(2) tag len(2) source len(2) text   from the device            4.13
    0x020E firmware   type(1) fid(4) len(2) url                    to the device                 4.4
    0x020F ask apps                                                from the device               4.11
    0x0210 apps       count(2)                                     to the device                 4.12
    0x0211 check      type(1) [len(2) did]                         to the device                 4.5

`open_business` and `open_system` check the frame alone, which is all that a message on its way needs; `decode_business`
and `decode_system` make packets. There is no "need more": a publish is a whole message. What is wrong with one is a
`Malformed`, whose blame is the sender's; `encode` raises ValueError for what we must not say.

What is not done here: what the data means (it is the product's own), who may say what (`principal`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

HEADER: Final = b"\0\0\0\3"

#: Bytes of the data of a business message, and of a log's text (4.8, 4.9, 4.13).
MAX_DATA: Final = 65_535
#: Bytes of a log's tag and source (4.13), and of a download URL (4.4).
MAX_TAG: Final = 256
MAX_SOURCE: Final = 32
MAX_URL: Final = 512
MAX_SN: Final = 0xFFFFFFFF

CONTROL: Final = 0x0090
REPORT: Final = 0x0091
REQUEST: Final = 0x0093
ACK: Final = 0x0094
SET_LOG: Final = 0x0010
LOG_SET: Final = 0x0011
LOG: Final = 0x0012
FIRMWARE: Final = 0x020E
ASK_APPS: Final = 0x020F
APPS: Final = 0x0210
CHECK_FIRMWARE: Final = 0x0211

#: Bits of `SetLog` (4.10, in the English text).
ERROR_LOGS: Final = 1
WARNING_LOGS: Final = 2
INFO_LOGS: Final = 4
LEDS: Final = 8

#: Levels of a `Log`.
LEVELS: Final[dict[int, str]] = {1: "error", 2: "warning", 3: "info"}
#: Kinds of firmware.
WIFI: Final = 1
MCU: Final = 2


class Malformed(ValueError):
    """Bytes that are no message; ``reason`` is one word: header, length, truncated, too_long, trailing, text."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


# -- packets -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Control:
    """App to device."""

    command: ClassVar[int] = CONTROL
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Report:
    """Device to apps, of itself or in answer to a `Control`."""

    command: ClassVar[int] = REPORT
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Request:
    """Either way; who gets it answers with an `Ack` of the same number. The cloud never does."""

    command: ClassVar[int] = REQUEST
    sn: int
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Ack:
    """The answer to a `Request`."""

    command: ClassVar[int] = ACK
    sn: int
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class SetLog:
    """Which levels a device logs, and whether its LEDs are on: `ERROR_LOGS` | ..."""

    command: ClassVar[int] = SET_LOG
    bits: int


@dataclass(frozen=True, slots=True)
class LogSet:
    """The device has taken a `SetLog`."""

    command: ClassVar[int] = LOG_SET


@dataclass(frozen=True, slots=True)
class Log:
    """A line of a device's log. ``text`` is to be UTF-8, and is kept as it came."""

    command: ClassVar[int] = LOG
    level: int
    tag: bytes
    source: bytes
    text: bytes


@dataclass(frozen=True, slots=True)
class Other:
    """A business or system message that these documents do not know; such pass untouched."""

    command: int
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Firmware:
    """The firmware that the device should have, by number (OTA v4.0)."""

    command: ClassVar[int] = FIRMWARE
    kind: int
    fid: int
    url: str


@dataclass(frozen=True, slots=True)
class AskApps:
    """How many apps are online?"""

    command: ClassVar[int] = ASK_APPS


@dataclass(frozen=True, slots=True)
class Apps:
    """So many bound apps are online."""

    command: ClassVar[int] = APPS
    count: int


@dataclass(frozen=True, slots=True)
class CheckFirmware:
    """Ask GService for firmware of this kind (OTA v4.1). Real clouds append the DID, which nobody reads."""

    command: ClassVar[int] = CHECK_FIRMWARE
    kind: int
    did: str = ""


Business = Control | Report | Request | Ack | SetLog | LogSet | Log | Other
System = Firmware | AskApps | Apps | CheckFirmware | Other

#: What each end may say in a business message.
FROM_DEVICE: Final = frozenset({REPORT, REQUEST, ACK, LOG_SET, LOG})
TO_DEVICE: Final = frozenset({CONTROL, REQUEST, ACK, SET_LOG})


# -- from bytes --------------------------------------------------------------------------------------------------------


def open_business(payload: bytes) -> tuple[int, int]:
    """(command, where its data begins) of a business message whose frame is sound. Raises Malformed."""
    size = len(payload)
    if payload[:4] != HEADER:
        raise Malformed("header")
    if size < 8:
        raise Malformed("truncated")
    at = 5
    length = payload[4]
    if length > 127:
        length, at = _varlen(payload)
    if at + length != size:
        raise Malformed("length")
    if length < 3:
        raise Malformed("truncated")
    command = payload[at + 1] << 8 | payload[at + 2]
    at += 3
    if size - at > MAX_DATA and size - at > MAX_DATA + _BESIDE.get(command, 0):
        raise Malformed("too_long")
    if command in _NUMBERED and size - at < 4:
        raise Malformed("truncated")
    return command, at


_NUMBERED: Final = frozenset({REQUEST, ACK})
#: Bytes that may stand beside `MAX_DATA` of them: a serial number; a log's other fields and its lengths.
_BESIDE: Final = {REQUEST: 4, ACK: 4, LOG: 1 + 2 + MAX_TAG + 2 + MAX_SOURCE + 2}


def _varlen(payload: bytes) -> tuple[int, int]:
    """(value, where it ends) of the variable length at 4."""
    value = 0
    for place in range(4):
        if 4 + place >= len(payload):
            raise Malformed("truncated")
        byte = payload[4 + place]
        value |= (byte & 127) << 7 * place
        if byte < 128:
            return value, 5 + place
    raise Malformed("length")


def decode_business(payload: bytes) -> Business:
    """The packet of a business message. Raises Malformed."""
    command, at = open_business(payload)
    size = len(payload) - at
    match command:
        case 0x0090:
            return Control(payload[at:])
        case 0x0091:
            return Report(payload[at:])
        case 0x0093:
            return Request(int.from_bytes(payload[at : at + 4], "big"), payload[at + 4 :])
        case 0x0094:
            return Ack(int.from_bytes(payload[at : at + 4], "big"), payload[at + 4 :])
        case 0x0010:
            _exactly(size, 2)
            return SetLog(int.from_bytes(payload[at:], "big"))
        case 0x0011:
            _exactly(size, 0)
            return LogSet()
        case 0x0012:
            return _log(payload, at)
        case _:
            return Other(command, payload[at:])


def open_system(payload: bytes) -> int:
    """The command of a system message, whose data begins at 6. Raises Malformed."""
    if payload[:4] != HEADER:
        raise Malformed("header")
    if len(payload) < 6:
        raise Malformed("truncated")
    if len(payload) - 6 > MAX_DATA:
        raise Malformed("too_long")
    return payload[4] << 8 | payload[5]


def decode_system(payload: bytes) -> System:
    """The packet of a system message. Raises Malformed."""
    command = open_system(payload)
    size = len(payload) - 6
    match command:
        case 0x020E:
            return _firmware(payload)
        case 0x020F:
            _exactly(size, 0)
            return AskApps()
        case 0x0210:
            _exactly(size, 2)
            return Apps(int.from_bytes(payload[6:], "big"))
        case 0x0211:
            return _check(payload)
        case _:
            return Other(command, payload[6:])


def _exactly(size: int, wanted: int) -> None:
    if size < wanted:
        raise Malformed("truncated")
    if size > wanted:
        raise Malformed("trailing")


def _log(payload: bytes, at: int) -> Log:
    if at >= len(payload):
        raise Malformed("truncated")
    level = payload[at]
    tag, at = _field(payload, at + 1, MAX_TAG)
    source, at = _field(payload, at, MAX_SOURCE)
    text, at = _field(payload, at, MAX_DATA)
    _exactly(len(payload), at)
    return Log(level, tag, source, text)


def _firmware(payload: bytes) -> Firmware:
    if len(payload) < 11:
        raise Malformed("truncated")
    url, at = _field(payload, 11, MAX_URL)
    _exactly(len(payload), at)
    return Firmware(payload[6], int.from_bytes(payload[7:11], "big"), _ascii(url))


def _check(payload: bytes) -> CheckFirmware:
    if len(payload) < 7:
        raise Malformed("truncated")
    did = b""
    if len(payload) > 7:
        did, at = _field(payload, 7, MAX_DATA)
        _exactly(len(payload), at)
        if not did:
            raise Malformed("text")
    return CheckFirmware(payload[6], _ascii(did))


def _field(payload: bytes, at: int, most: int) -> tuple[bytes, int]:
    """A text behind its length of two bytes, and where it ends."""
    if at + 2 > len(payload):
        raise Malformed("truncated")
    length = payload[at] << 8 | payload[at + 1]
    if length > most:
        raise Malformed("too_long")
    end = at + 2 + length
    if end > len(payload):
        raise Malformed("truncated")
    return payload[at + 2 : end], end


def _ascii(text: bytes) -> str:
    try:
        return text.decode("ascii")
    except UnicodeDecodeError:
        raise Malformed("text") from None


# -- to bytes ----------------------------------------------------------------------------------------------------------


def encode(packet: Business | System) -> bytes:
    """The payload of a publish; `Other` as a business message. Raises ValueError for a value out of its limits."""
    match packet:
        case Control() | Report() | Other():
            return frame(packet.command, _data(packet.data))
        case Request() | Ack():
            return frame(packet.command, _number(packet.sn, 4) + _data(packet.data))
        case SetLog():
            return frame(packet.command, _number(packet.bits, 2))
        case LogSet():
            return frame(packet.command, b"")
        case Log():
            texts = _text(packet.tag, MAX_TAG) + _text(packet.source, MAX_SOURCE) + _text(packet.text, MAX_DATA)
            return frame(packet.command, _number(packet.level, 1) + texts)
        case Firmware():
            return _system(
                packet.command,
                _number(packet.kind, 1) + _number(packet.fid, 4) + _text(packet.url.encode("ascii"), MAX_URL),
            )
        case AskApps():
            return _system(packet.command, b"")
        case Apps():
            return _system(packet.command, _number(packet.count, 2))
        case CheckFirmware():
            did = _text(packet.did.encode("ascii"), MAX_DATA) if packet.did else b""
            return _system(packet.command, _number(packet.kind, 1) + did)


def frame(command: int, rest: bytes) -> bytes:
    """A business message: header, length and flag before ``command`` and what follows it."""
    length = 3 + len(rest)
    varlen = bytearray()
    while length > 127:
        varlen.append(length & 127 | 128)
        length >>= 7
    varlen.append(length)
    return b"%b%b\0%c%c%b" % (HEADER, bytes(varlen), command >> 8, command & 255, rest)


def _system(command: int, rest: bytes) -> bytes:
    return b"%b%c%c%b" % (HEADER, command >> 8, command & 255, rest)


def _data(data: bytes) -> bytes:
    if len(data) > MAX_DATA:
        raise ValueError(f"a business message has at most {MAX_DATA} bytes")
    return data


def _number(value: int, size: int) -> bytes:
    if not 0 <= value < 1 << 8 * size:
        raise ValueError(f"{value} does not fit into {size} bytes")
    return value.to_bytes(size, "big")


def _text(text: bytes, most: int) -> bytes:
    if len(text) > most:
        raise ValueError(f"a text of {len(text)} bytes where {most} are allowed")
    return len(text).to_bytes(2, "big") + text
