"""Semtech UDP datagrams <-> fields, sans-IO (PROTOCOL.TXT 1.4 of packet_forwarder, PROTOCOL.md 1.5 of sx1302_hal).

::

    byte 0   version: 2; forwarders of version 1 know no TX_ACK
    1, 2     token
    3        00 PUSH_DATA  gateway  + EUI (8) + JSON {"rxpk": [..], "stat": {..}}     01 PUSH_ACK  4 bytes, same token
             02 PULL_DATA  gateway  + EUI (8)                                         04 PULL_ACK  4 bytes, same token
             03 PULL_RESP  ours     + JSON {"txpk": {..}}, own token                  05 TX_ACK    gateway, same token
                                                                                         + EUI (8) + nothing or JSON

The law of this file:

* `parse` has two outcomes: a `Datagram`, or DatagramError. `PushBody` and `TxAck` likewise raise it for their JSON.
  Any other exception is a bug here.
* What one received packet (rxpk) says wrongly costs that packet, not the others of its datagram.
* ``size`` has to be the length of ``data``; who lies about one may lie about the other, so nothing is taken.
* Base64 is read padded or not, in either alphabet (the documents' own examples are of all kinds), and written padded.
* txpk holds all that the reference forwarder demands: without one of them it stays silent.

What it does not do: LoRaWAN frames, who the gateway is, when anything is sent.
"""

from __future__ import annotations

from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from broker.model import jsontext

PUSH_DATA: Final = 0
_PUSH_ACK: Final = b"\x01"
PULL_DATA: Final = 2
_PULL_RESP: Final = b"\x03"
_PULL_ACK: Final = b"\x04"
TX_ACK: Final = 5

_OF_GATEWAYS: Final = (PUSH_DATA, PULL_DATA, TX_ACK)
VERSIONS: Final = (1, 2)
#: Version, token, id, EUI.
HEAD: Final = 12

#: A LoRa packet has at most 255 bytes.
MAX_PACKET: Final = 255
#: What stands in ``error`` of a TX_ACK when nothing is wrong; SUCCESS and OK are of other forwarders.
_FINE: Final = ("", "NONE", "SUCCESS", "OK")
#: Of an error that is not in the documents, this much is kept.
_MAX_ERROR: Final = 32
#: Datagrams no longer than this cannot be nested deeper than jsontext.MAX_DEPTH.
_NEVER_DEEP: Final = 2 * jsontext.MAX_DEPTH
_OTHER_ALPHABET: Final = str.maketrans("-_", "+/", "\r\n \t")


class DatagramError(ValueError):
    """Not a datagram of this protocol."""


class Datagram:
    """From a gateway: ``kind`` is PUSH_DATA, PULL_DATA or TX_ACK; ``body`` what follows the EUI.

    ``head`` is the version and the token, with which its acknowledgement begins.
    """

    __slots__ = ("body", "eui", "head", "kind")

    def __init__(self, head: bytes, kind: int, eui: bytes, body: bytes) -> None:
        self.head = head
        self.kind = kind
        self.eui = eui
        self.body = body

    @property
    def version(self) -> int:
        return self.head[0]

    @property
    def token(self) -> bytes:
        return self.head[1:]


def parse(data: bytes) -> Datagram:
    """Raises DatagramError."""
    if len(data) < HEAD or data[0] not in VERSIONS:
        raise DatagramError("not a Semtech UDP datagram")
    kind = data[3]
    if kind not in _OF_GATEWAYS:
        raise DatagramError("not a datagram of a gateway")
    return Datagram(data[:3], kind, data[4:HEAD], data[HEAD:])


#: What a figure of a gateway can be at all: whatever is said beyond would not fit where it is reckoned with, or shown.
Megahertz = Annotated[float, Meta(ge=0, le=10_000)]
Decibels = Annotated[float, Meta(ge=-1_000, le=1_000)]
#: LoRa, or FSK.
Datr = Annotated[str, Meta(max_length=16)] | Annotated[int, Meta(ge=0, le=10_000_000)]
Tick = Annotated[int, Meta(ge=0, lt=1 << 32)]
#: Up to the year 10,000.
GpsMilliseconds = Annotated[int, Meta(ge=0, le=253_402_300_799_000)]
_MOST: Final = 1 << 53
Figure = Annotated[int, Meta(ge=-_MOST, le=_MOST)] | Annotated[float, Meta(ge=-_MOST, le=_MOST)]


class Rxpk(msgspec.Struct, gc=False):
    """A packet that a gateway received (PROTOCOL 1.5, chapter 4): what is used of it."""

    freq: Megahertz
    #: "SF7BW125", or bits a second for FSK.
    datr: Datr
    data: str
    #: Microseconds of the gateway's own clock at the end of the packet, modulo 2**32; None: it does not say.
    tmst: Tick | None = None
    #: 1 CRC right, 0 none, -1 wrong.
    stat: int = 1
    #: dBm.
    rssi: Decibels | None = None
    lsnr: Decibels | None = None
    size: int | None = None
    #: The end of the packet by GPS, and the same in ISO 8601.
    tmms: GpsMilliseconds | None = None
    time: str | None = None


class Stat(msgspec.Struct):
    """The state of a gateway (PROTOCOL 1.5, chapter 4), as it says it."""

    #: The gateway's own time, as it writes it.
    time: str | None = None
    #: Degrees north of the equator.
    lati: float | None = None
    #: Degrees east of the prime meridian.
    long: float | None = None
    #: Metres above the sea.
    alti: float | None = None
    #: Packets that it received by radio.
    rxnb: Figure = 0
    #: Packets of these with a right checksum.
    rxok: Figure = 0
    #: Packets of these that it passed on.
    rxfw: Figure = 0
    #: Percentage of its datagrams that were acknowledged.
    ackr: Figure = 0
    #: Datagrams that it was sent.
    dwnb: Figure = 0
    #: Packets that it sent by radio.
    txnb: Figure = 0
    #: Its temperature, degrees Celsius; null: it does not say.
    temp: float | None = None


class PushBody(msgspec.Struct):
    """The JSON of a PUSH_DATA. ``faulty`` counts received packets that are no such."""

    rxpk: list[Rxpk] = []
    stat: Stat | None = None
    faulty: int = 0


_NULL: Final = msgspec.Raw(b"null")


class _Parts(msgspec.Struct):
    rxpk: list[msgspec.Raw] | None = None
    stat: msgspec.Raw = _NULL


_push: Final = msgspec.json.Decoder(PushBody).decode
_parts: Final = msgspec.json.Decoder(_Parts).decode
_rxpk: Final = msgspec.json.Decoder(Rxpk).decode
_stat: Final = msgspec.json.Decoder(Stat | None).decode


def push_body(text: bytes) -> PushBody:
    """Raises DatagramError when it is not JSON of that kind at all."""
    try:
        body = _push(text)
    except (ValueError, RecursionError):
        body = _piecewise(text)
    else:
        body.faulty = 0  # not for a gateway to say
    return body


def _piecewise(text: bytes) -> PushBody:
    """Something is wrong somewhere: keep what is right."""
    body = PushBody(rxpk=[])
    try:
        parts = _parts(text)
    except (ValueError, RecursionError):
        raise DatagramError("not the JSON of a PUSH_DATA") from None
    for raw in parts.rxpk or ():
        try:
            body.rxpk.append(_rxpk(raw))
        except (ValueError, RecursionError):
            body.faulty += 1
    try:
        body.stat = _stat(parts.stat)
    except (ValueError, RecursionError):
        body.faulty += 1
    return body


def packet_bytes(packet: Rxpk) -> bytes:
    """The PHYPayload. Raises DatagramError for what is not base64, or not of the size that it says."""
    text = packet.data
    try:
        data = a2b_base64(text, strict_mode=True)
    except ValueError:
        data = _loose_base64(text)
    if packet.size is not None and packet.size != len(data):
        raise DatagramError("size is not the length of data")
    if not 0 < len(data) <= MAX_PACKET:
        raise DatagramError("not the length of a LoRa packet")
    return data


def _loose_base64(text: str) -> bytes:
    if not text.isascii():
        raise DatagramError("data is not base64")
    text = text.translate(_OTHER_ALPHABET).rstrip("=")
    try:
        return a2b_base64(text + "=" * (-len(text) % 4), strict_mode=True)
    except Base64Error:
        raise DatagramError("data is not base64") from None


def tx_error(text: bytes) -> str | None:
    """The error of a TX_ACK, None when the gateway took the packet. Raises DatagramError.

    Nothing at all, white space, and an object without an error are all "taken".
    """
    text = text.strip(b"\0 \t\r\n")
    if not text:
        return None
    try:
        value: Any = jsontext.decode(text)
    except (ValueError, RecursionError):
        raise DatagramError("not the JSON of a TX_ACK") from None
    ack = value.get("txpk_ack") if isinstance(value, dict) else None
    error = ack.get("error") if isinstance(ack, dict) else None
    if error is None:
        return None
    if not isinstance(error, str):
        raise DatagramError("error is not text")
    error = error.strip().upper()[:_MAX_ERROR]
    return None if error in _FINE else error


# -- what we send ------------------------------------------------------------------------------------------------------


def push_ack(datagram: Datagram) -> bytes:
    return datagram.head + _PUSH_ACK


def pull_ack(datagram: Datagram) -> bytes:
    return datagram.head + _PULL_ACK


class Txpk(msgspec.Struct, gc=False):
    """What a gateway is to send: LoRa with inverted polarity and without CRC, as LoRaWAN downlinks are."""

    #: Microseconds of the gateway's clock; UNSET together with ``imme``.
    tmst: int | msgspec.UnsetType
    #: MHz.
    freq: float
    powe: int
    datr: str | int
    size: int
    data: str
    imme: bool | msgspec.UnsetType = msgspec.UNSET
    rfch: int = 0
    modu: str = "LORA"
    codr: str | msgspec.UnsetType = "4/5"
    fdev: int | msgspec.UnsetType = msgspec.UNSET
    ipol: bool | msgspec.UnsetType = True
    ncrc: bool | msgspec.UnsetType = True


class _PullResp(msgspec.Struct, gc=False):
    txpk: Txpk


_encode: Final = msgspec.json.Encoder().encode


def pull_resp(version: int, token: bytes, packet: Txpk) -> bytes:
    """A PULL_RESP; its token comes back in the TX_ACK."""
    return bytes((version,)) + token + _PULL_RESP + _encode(_PullResp(packet))


def txpk(data: bytes, frequency: int, datr: str | int, power: int, tmst: int | None) -> Txpk:
    """``frequency`` in Hz, ``power`` in dBm; without ``tmst`` at once."""
    packet = Txpk(
        tmst=msgspec.UNSET if tmst is None else tmst,
        freq=frequency / 1_000_000,
        powe=power,
        datr=datr,
        size=len(data),
        data=b2a_base64(data, newline=False).decode("ascii"),
    )
    if tmst is None:
        packet.imme = True
    if not isinstance(datr, str):
        packet.modu = "FSK"
        packet.fdev = datr // 2
        packet.codr = packet.ipol = packet.ncrc = msgspec.UNSET
    return packet
