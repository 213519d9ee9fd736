"""The PROXY header: what it says, every way to cut it, and bytes of any kind."""

from ipaddress import ip_address
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from broker.listening.proxy_header import (
    MAX_BINARY,
    MAX_LINE,
    SIGNATURE,
    ProxyHeader,
    ProxyHeaderError,
    crc32c,
    parse,
)

IPV4 = ip_address("192.0.2.7").packed + ip_address("198.51.100.1").packed + b"\xc3\x50\x07\x5b"
IPV6 = ip_address("2001:db8::7").packed + ip_address("2001:db8::1").packed + b"\xc3\x50\x07\x5b"


def binary(version: int, kind: int, body: bytes) -> bytes:
    return SIGNATURE + bytes([version, kind]) + len(body).to_bytes(2, "big") + body


def tlv(kind: int, value: bytes) -> bytes:
    return bytes([kind]) + len(value).to_bytes(2, "big") + value


def with_checksum(before: bytes, after: bytes, off_by: int = 0) -> bytes:
    """An IPv4 header with a checksum between these TLVs."""
    blank = binary(0x21, 0x11, IPV4 + before + tlv(3, bytes(4)) + after)
    value = (crc32c(blank) + off_by) & 0xFFFF_FFFF
    return binary(0x21, 0x11, IPV4 + before + tlv(3, value.to_bytes(4, "big")) + after)


FOUR = ("192.0.2.7", 50000)
SIX = ("2001:db8::7", 50000)
TLVS = tlv(1, b"h2") + tlv(4, b"") + tlv(0xEE, bytes(300))

#: A header, and the client that it names.
GOOD: tuple[tuple[bytes, tuple[str, int] | None], ...] = (
    (b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 1883\r\n", FOUR),
    (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", ("255.255.255.255", 65535)),
    (b"PROXY TCP4 192.0.2.7 198.51.100.1 0 0\r\n", ("192.0.2.7", 0)),
    (b"PROXY TCP6 2001:db8::7 2001:DB8::1 50000 1883\r\n", SIX),
    (b"PROXY TCP6 " + b" ".join([b":".join([b"ffff"] * 8)] * 2) + b" 65535 65535\r\n", ("ffff:" * 7 + "ffff", 65535)),
    (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 50000 1883\r\n", ("::ffff:192.0.2.7", 50000)),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN " + b"f" * (MAX_LINE - 16) + b"\r\n", None),
    (binary(0x21, 0x11, IPV4), FOUR),
    (binary(0x21, 0x12, IPV4), FOUR),
    (binary(0x21, 0x21, IPV6), SIX),
    (binary(0x21, 0x22, IPV6 + TLVS), SIX),
    (binary(0x21, 0x11, IPV4 + TLVS), FOUR),
    (with_checksum(b"", b""), FOUR),
    (with_checksum(TLVS, tlv(2, b"x")), FOUR),
    (binary(0x21, 0x31, b"/run/x".ljust(216, b"\0")), None),
    (binary(0x21, 0x32, bytes(216) + TLVS), None),
    (binary(0x21, 0x00, b""), None),
    (binary(0x21, 0x00, TLVS), None),
    (binary(0x20, 0x00, b""), None),
    (binary(0x20, 0x11, IPV4), None),
    (binary(0x20, 0xFF, b"whatever"), None),
    (binary(0x21, 0x11, IPV4 + tlv(1, bytes(MAX_BINARY - 16 - 12 - 3))), FOUR),
)

BAD: tuple[tuple[bytes, str], ...] = (
    (b"GET / HTTP/1.1\r\n", "begins so"),
    (b"\x10\x0c\0\x04MQTT", "begins so"),
    (b"proxy TCP4 192.0.2.7 198.51.100.1 1 1\r\n", "begins so"),
    (b"\r\n\r\n\x00\r\nQUIT\r", "begins so"),
    (b"PROXY TCP4 " + b"1" * 100, "does not end"),
    (b"PROXY UNKNOWN " + b"f" * (MAX_LINE - 15) + b"\r\n", "does not end"),
    (b"PROXY \r\n", "not a line"),
    (b"PROXY UNKNOWNS\r\n", "not a line"),
    (b"PROXY TCP5 192.0.2.7 198.51.100.1 1 1\r\n", "not a line"),
    (b"PROXY TCP4  192.0.2.7 198.51.100.1 1 1\r\n", "not a line"),
    (b"PROXY TCP4 192.0.2.7 198.51.100.1 1 1 \r\n", "not a line"),
    (b"PROXY TCP4 192.0.2.7 198.51.100.1 1\r\n", "not a line"),
    (b"PROXY TCP4 192.0.2.7 198.51.100.1 01 1\r\n", "not a line"),
    (b"PROXY TCP4 192.0.2.7 198.51.100.1 -1 1\r\n", "not a line"),
    (b"PROXY TCP4 192.0.2.7\n198.51.100.1 1 1\r\n", "not a line"),
    (b"PROXY TCP6 fe80::1%lo ::1 1 1\r\n", "not a line"),
    (b"PROXY TCP4 192.0.2.07 198.51.100.1 1 1\r\n", "not an address of TCP4"),
    (b"PROXY TCP4 ::1 ::1 1 1\r\n", "not an address of TCP4"),
    (b"PROXY TCP4 192.0.2.7 198.51.100.256 1 1\r\n", "not an address of TCP4"),
    (b"PROXY TCP6 192.0.2.7 198.51.100.1 1 1\r\n", "not an address of TCP6"),
    (b"PROXY TCP4 192.0.2.7 198.51.100.1 65536 1\r\n", "no port"),
    (b"PROXY TCP4 192.0.2.7 198.51.100.1 1 99999\r\n", "no port"),
    (binary(0x11, 0x11, IPV4), "version and command 0x11"),
    (binary(0x22, 0x11, IPV4), "version and command 0x22"),
    (binary(0x21, 0x10, IPV4), "family and transport 0x10"),
    (binary(0x21, 0x01, IPV4), "family and transport 0x01"),
    (binary(0x21, 0x41, bytes(300)), "family and transport 0x41"),
    (binary(0x21, 0x11, IPV4[:-1]), "too short"),
    (binary(0x21, 0x21, IPV4), "too short"),
    (binary(0x21, 0x31, bytes(215)), "too short"),
    (binary(0x21, 0x00, bytes(MAX_BINARY - 15)), "longer than 8192"),
    (binary(0x20, 0x00, bytes(MAX_BINARY - 15)), "longer than 8192"),
    (binary(0x21, 0x11, IPV4 + b"\x01"), "a TLV"),
    (binary(0x21, 0x11, IPV4 + b"\x01\x00"), "a TLV"),
    (binary(0x21, 0x11, IPV4 + b"\x01\x00\x01"), "a TLV"),
    (binary(0x21, 0x11, IPV4 + TLVS[:-1]), "a TLV"),
    (binary(0x21, 0x11, IPV4 + tlv(3, bytes(3))), "four bytes"),
    (binary(0x21, 0x11, IPV4 + tlv(3, bytes(4))), "the checksum is wrong"),
    (with_checksum(TLVS, b"", off_by=1), "the checksum is wrong"),
)


class HeaderTests(SynchronousTestCase):
    def test_good_ones(self) -> None:
        for text, client in GOOD:
            expected = None if client is None else (ip_address(client[0]), client[1])
            self.assertEqual(parse(text), ProxyHeader(len(text), expected), text)

    def test_what_follows_is_not_theirs(self) -> None:
        for text, _ in GOOD:
            self.assertEqual(parse(text + b"\r\nPROXY \x10\0"), parse(text), text)

    def test_every_cut_needs_more(self) -> None:
        for text, _ in GOOD:
            for cut in range(len(text)):
                self.assertIsNone(parse(text[:cut]), (text, cut))

    def test_bad_ones(self) -> None:
        for text, why in BAD:
            self.assertIn(why, str(self.assertRaises(ProxyHeaderError, parse, text)), text)

    def test_bad_ones_never_look_good_on_the_way(self) -> None:
        for text, _ in BAD:
            for cut in range(len(text)):
                try:
                    header = parse(text[:cut])
                except ProxyHeaderError:
                    continue
                self.assertIsNone(header, (text, cut))

    def test_the_checksum_itself(self) -> None:
        """RFC 3720, B.4."""
        self.assertEqual(crc32c(b"123456789"), 0xE3069283)
        self.assertEqual(crc32c(bytes(32)), 0x8A9136AA)
        self.assertEqual(crc32c(bytes(range(32))), 0x46DD794E)


beginnings = st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", b"PROXY TCP6 ::1 ::", SIGNATURE, SIGNATURE + b"\x21\x11"])


class AnythingTests(SynchronousTestCase):
    @given(beginnings, st.binary(max_size=300))
    def test_any_bytes(self, beginning: bytes, rest: bytes) -> None:
        """A header, need more, or an error; and nothing that was decided is decided otherwise when more comes."""
        data = beginning + rest
        decided: Any = None
        for cut in range(len(data) + 1):
            try:
                now: Any = parse(data[:cut])
            except ProxyHeaderError as error:
                now = str(error)
            if isinstance(decided, ProxyHeader):
                self.assertEqual(now, decided)
            elif decided is not None:
                self.assertIsInstance(now, str)
            if isinstance(now, ProxyHeader):
                self.assertLessEqual(now.size, cut)
            decided = now

    @given(st.sampled_from(GOOD), st.integers(0, 10_000), st.integers(1, 255))
    def test_one_byte_flipped(self, good: tuple[bytes, Any], place: int, flip: int) -> None:
        text = bytearray(good[0])
        text[place % len(text)] ^= flip
        try:
            header = parse(bytes(text))
        except ProxyHeaderError:
            return
        self.assertTrue(header is None or header.size <= len(text))

    @given(st.ip_addresses(), st.integers(0, 65535), st.lists(st.tuples(st.integers(16, 255), st.binary(max_size=20))))
    def test_both_versions_say_the_same(self, address: Any, port: int, tlvs: list[tuple[int, bytes]]) -> None:
        four = address.version == 4
        line = f"PROXY TCP{address.version} {address} {address} {port} 1\r\n".encode()
        body = address.packed * 2 + port.to_bytes(2, "big") + b"\0\1" + b"".join(tlv(*one) for one in tlvs)
        first, second = parse(line), parse(binary(0x21, 0x11 if four else 0x21, body))
        assert first is not None and second is not None
        self.assertEqual((first.source, second.source), ((address, port),) * 2)
