"""The PROXY header, versions 1 and 2: where a connection that came through a proxy was really opened.

After HAProxy's "The PROXY protocol", sections 2.1 and 2.2::

    PROXY TCP4 192.0.2.7 198.51.100.1 50000 1883\\r\\n          version 1, at most 107 bytes; TCP6 alike
    PROXY UNKNOWN ...\\r\\n                                      the rest says nothing

    0D 0A 0D 0A 00 0D 0A 51 55 49 54 0A                        version 2: the signature,
    2c ft ll ll                                                command, family and transport, length of what follows:
      c 0 LOCAL, 1 PROXY                                       for IPv4 4+4+2+2, IPv6 16+16+2+2, UNIX 108+108 bytes,
      f 0 none, 1 IPv4, 2 IPv6, 3 UNIX                         then TLVs (type, length in two bytes, value), of which
      t 0 none, 1 stream, 2 datagram                           only the checksum is looked at

A header without an address of use (LOCAL, UNKNOWN, none, UNIX) leaves the connection's own. Sans-IO: three outcomes,
a header, need more, `ProxyHeaderError`. Whom to believe is decided elsewhere (`broker.listening.proxy`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
#: The longest line of version 1, its end included (2.1).
MAX_LINE: Final = 107
#: The longest header of version 2 that is taken: TLVs may hold a client's certificate. The document allows 65,551.
MAX_BINARY: Final = 8_192

_HEAD: Final = len(SIGNATURE) + 4
_V1: Final = b"PROXY "
_LINE: Final = re.compile(rb"PROXY TCP([46]) ([0-9A-Fa-f.:]+) ([0-9A-Fa-f.:]+) (0|[1-9]\d{0,4}) (0|[1-9]\d{0,4})")
#: Family and transport -> bytes of the addresses. No others may be sent (2.2).
_ADDRESSES: Final = {0x00: 0, 0x11: 12, 0x12: 12, 0x21: 36, 0x22: 36, 0x31: 216, 0x32: 216}
_CRC32C: Final = 0x03


class ProxyHeaderError(ValueError):
    """These bytes are no PROXY header and do not become one."""


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """``size`` bytes of the stream; ``source`` is the client's address and port, None if the header names none."""

    size: int
    source: tuple[IPv4Address | IPv6Address, int] | None = None


def parse(data: bytes) -> ProxyHeader | None:
    """The header at the beginning of a stream; None if more of it has to come. Raises ProxyHeaderError."""
    if data.startswith(SIGNATURE[: len(data)]):
        return _binary(data)
    if data.startswith(_V1[: len(data)]):
        return _line(data)
    raise ProxyHeaderError("neither version of the PROXY header begins so")


def _line(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\r\n", 0, MAX_LINE)
    if end < 0:
        if len(data) >= MAX_LINE:
            raise ProxyHeaderError(f"the line does not end within {MAX_LINE} bytes")
        return None
    line = data[:end]
    if line == b"PROXY UNKNOWN" or line.startswith(b"PROXY UNKNOWN "):
        return ProxyHeader(end + 2)
    found = _LINE.fullmatch(line)
    if found is None:
        raise ProxyHeaderError("not a line of version 1")
    family, source, destination, *ports = (part.decode("ascii") for part in found.groups())
    kind = IPv4Address if family == "4" else IPv6Address
    try:
        address, _ = kind(source), kind(destination)
    except ValueError:
        raise ProxyHeaderError(f"not an address of TCP{family}") from None
    if any(int(port) > 65_535 for port in ports):
        raise ProxyHeaderError("no port is over 65535")
    return ProxyHeader(end + 2, (address, int(ports[0])))


def _binary(data: bytes) -> ProxyHeader | None:
    if len(data) < _HEAD:
        return None
    version, kind = data[12], data[13]
    size = _HEAD + int.from_bytes(data[14:16], "big")
    if version not in (0x20, 0x21):
        raise ProxyHeaderError(f"version and command 0x{version:02x}")
    if size > MAX_BINARY:
        raise ProxyHeaderError(f"longer than {MAX_BINARY} bytes")
    if version == 0x20:  # LOCAL: the proxy's own business, and what follows is not to be looked at
        return ProxyHeader(size) if len(data) >= size else None
    if kind not in _ADDRESSES:
        raise ProxyHeaderError(f"family and transport 0x{kind:02x}")
    tlvs = _HEAD + _ADDRESSES[kind]
    if tlvs > size:
        raise ProxyHeaderError("too short for its addresses")
    if len(data) < size:
        return None
    _check_tlvs(data[:size], tlvs)
    match kind >> 4:
        case 1:
            return ProxyHeader(size, (IPv4Address(data[16:20]), int.from_bytes(data[24:26], "big")))
        case 2:
            return ProxyHeader(size, (IPv6Address(data[16:32]), int.from_bytes(data[48:50], "big")))
    return ProxyHeader(size)


def _check_tlvs(header: bytes, offset: int) -> None:
    """Walk over them; a checksum has to be right (2.2.4)."""
    while offset < len(header):
        value = offset + 3
        end = value + int.from_bytes(header[offset + 1 : value], "big")
        if end > len(header) or value > len(header):
            raise ProxyHeaderError("a TLV is longer than the header")
        if header[offset] == _CRC32C:
            if end - value != 4:
                raise ProxyHeaderError("a checksum has four bytes")
            if crc32c(header[:value] + bytes(4) + header[end:]) != int.from_bytes(header[value:end], "big"):
                raise ProxyHeaderError("the checksum is wrong")
        offset = end


def crc32c(data: bytes) -> int:
    """The Castagnoli checksum (RFC 3720, B.4): polynomial 0x1EDC6F41, here with its bits reversed."""
    crc = 0xFFFF_FFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFF_FFFF


def _table_entry(crc: int) -> int:
    for _ in range(8):
        crc = crc >> 1 ^ (0x82F6_3B78 if crc & 1 else 0)
    return crc


_TABLE: Final = tuple(_table_entry(byte) for byte in range(256))
