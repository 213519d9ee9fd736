"""MQTT 5.0: each property in each packet: where it is allowed, twice, without its value, and identifiers of none."""

from __future__ import annotations

from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from broker.mqtt import packets as p
from broker.mqtt import properties as props
from tests.mqtt.samples import outcome
from tests.mqtt.samples5 import answer, connected, fresh, unconnected

# Table 2-4, written down once more: identifier -> (a value, the packets that may carry it).
TABLE: dict[int, tuple[str, str]] = {
    0x01: ("01", "PUBLISH WILL"),
    0x02: ("00000001", "PUBLISH WILL"),
    0x03: ("0001 70", "PUBLISH WILL"),
    0x08: ("0001 70", "PUBLISH WILL"),
    0x09: ("0001 ff", "PUBLISH WILL"),
    0x0B: ("ff7f", "PUBLISH SUBSCRIBE"),
    0x11: ("00000001", "CONNECT CONNACK DISCONNECT"),
    0x12: ("0001 70", "CONNACK"),
    0x13: ("0005", "CONNACK"),
    0x15: ("0001 70", "CONNECT CONNACK AUTH"),
    0x16: ("0001 ff", "CONNECT CONNACK AUTH"),
    0x17: ("01", "CONNECT"),
    0x18: ("00000001", "WILL"),
    0x19: ("01", "CONNECT"),
    0x1A: ("0001 70", "CONNACK"),
    0x1C: ("0001 70", "CONNACK DISCONNECT"),
    0x1F: ("0001 70", "CONNACK PUBACK PUBREC PUBREL PUBCOMP SUBACK UNSUBACK DISCONNECT AUTH"),
    0x21: ("0005", "CONNECT CONNACK"),
    0x22: ("0005", "CONNECT CONNACK"),
    0x23: ("0005", "PUBLISH"),
    0x24: ("01", "CONNACK"),
    0x25: ("01", "CONNACK"),
    0x26: ("0001 70 0001 71", "everywhere"),
    0x27: ("00000005", "CONNECT CONNACK"),
    0x28: ("01", "CONNACK"),
    0x29: ("01", "CONNACK"),
    0x2A: ("01", "CONNACK"),
}
NOT_EMPTY_TEXT = {0x08}  # a topic


def packet(first: int, *fields: bytes) -> bytes:
    body = b"".join(fields)
    assert len(body) < 128
    return bytes((first, len(body))) + body


def block(raw: bytes) -> bytes:
    return bytes((len(raw),)) + raw


def one(identifier: int) -> bytes:
    return bytes((identifier,)) + bytes.fromhex(TABLE[identifier][0])


_CONNECT = bytes.fromhex("0004 4d515454 05")
_ID = b"\x12\x34"
METHOD = bytes.fromhex("15 0001 6d")
# A packet around properties, for each packet that a client sends.
FROM_CLIENTS: dict[str, Callable[[bytes], bytes]] = {
    "CONNECT": lambda raw: packet(0x10, _CONNECT, b"\x02\x00\x0a", block(raw), b"\x00\x01p"),
    "WILL": lambda raw: packet(0x10, _CONNECT, b"\x06\x00\x0a\x00\x00\x01p", block(raw), b"\x00\x01p\x00\x01p"),
    "PUBLISH": lambda raw: packet(0x32, b"\x00\x05topic", _ID, block(raw), b"payload"),
    "PUBACK": lambda raw: packet(0x40, _ID, b"\x00", block(raw)),
    "PUBREC": lambda raw: packet(0x50, _ID, b"\x00", block(raw)),
    "PUBREL": lambda raw: packet(0x62, _ID, b"\x00", block(raw)),
    "PUBCOMP": lambda raw: packet(0x70, _ID, b"\x00", block(raw)),
    "SUBSCRIBE": lambda raw: packet(0x82, _ID, block(raw), b"\x00\x01p\x00"),
    "UNSUBSCRIBE": lambda raw: packet(0xA2, _ID, block(raw), b"\x00\x01p"),
    "DISCONNECT": lambda raw: packet(0xE0, b"\x00", block(raw)),
    "AUTH": lambda raw: packet(0xF0, b"\x18", block(raw)),
}
FROM_SERVERS: dict[str, Callable[[bytes], bytes]] = {
    "CONNACK": lambda raw: packet(0x20, b"\x00\x00", block(raw)),
    "PUBLISH": FROM_CLIENTS["PUBLISH"],
    "SUBACK": lambda raw: packet(0x90, _ID, block(raw), b"\x00"),
    "UNSUBACK": lambda raw: packet(0xB0, _ID, block(raw), b"\x00"),
    "DISCONNECT": FROM_CLIENTS["DISCONNECT"],
    "AUTH": FROM_CLIENTS["AUTH"],
    "PUBACK": FROM_CLIENTS["PUBACK"],
}


def said(carrier: str, wire: bytes) -> str | None:
    """The code that a server answers a client's packet with, "" for a close without one, None when it is taken."""
    start = carrier in ("CONNECT", "WILL")
    words = answer(unconnected() if start else connected(), wire)
    if not words:
        return words
    head, code, tail = ("200300", words[6:8], words[8:]) if start else ("e001", words[4:6], words[6:])
    assert words.startswith(head) and tail == ("00" if start else ""), words
    return code


def allowed(identifier: int, carrier: str, from_server: bool = False) -> bool:
    if identifier == 0x0B and carrier == "PUBLISH":
        return True  # of a client it is no matter of the codec
    if identifier == 0x11 and carrier == "DISCONNECT":
        return not from_server
    where = TABLE[identifier][1]
    return where == "everywhere" or carrier in where.split()


def needed(identifier: int, carrier: str) -> bytes:
    """What else must be there for the packet to be right."""
    if identifier != 0x15 and (carrier == "AUTH" or (carrier == "CONNECT" and identifier == 0x16)):
        return METHOD
    return b""


def forbidden(carrier: str) -> str:
    return "81" if carrier in ("SUBSCRIBE", "UNSUBSCRIBE") else "82"


class ServerTests(SynchronousTestCase):
    def test_the_table_is_whole(self) -> None:
        self.assertEqual(set(TABLE), set(props.BY_IDENTIFIER))
        self.assertEqual(len(props.TABLE), len(props.BY_IDENTIFIER))

    def test_where_it_may_be(self) -> None:
        for carrier, make in FROM_CLIENTS.items():
            for identifier in TABLE:
                with self.subTest(carrier=carrier, identifier=identifier):
                    wire = make(needed(identifier, carrier) + one(identifier))
                    expected = None if allowed(identifier, carrier) else forbidden(carrier)
                    self.assertEqual(said(carrier, wire), expected)

    def test_twice(self) -> None:
        for carrier, make in FROM_CLIENTS.items():
            for identifier in TABLE:
                with self.subTest(carrier=carrier, identifier=identifier):
                    wire = make(needed(identifier, carrier) + one(identifier) * 2)
                    expected = (
                        None if identifier == 0x26 else "82" if allowed(identifier, carrier) else forbidden(carrier)
                    )
                    self.assertEqual(said(carrier, wire), expected)

    def test_without_its_value(self) -> None:
        for carrier, make in FROM_CLIENTS.items():
            for identifier in TABLE:
                whole = one(identifier)
                for cut in range(1, len(whole)):
                    with self.subTest(carrier=carrier, identifier=identifier, cut=cut):
                        self.assertEqual(said(carrier, make(whole[:cut])), "81")

    def test_empty_values(self) -> None:
        for carrier, make in FROM_CLIENTS.items():
            for identifier, (value, _) in TABLE.items():
                if not value.startswith("0001 "):
                    continue
                empty = bytes((identifier,)) + b"\x00\x00" * (2 if identifier == 0x26 else 1)
                taken = allowed(identifier, carrier) and identifier not in NOT_EMPTY_TEXT
                expected = None if taken else forbidden(carrier)
                with self.subTest(carrier=carrier, identifier=identifier):
                    self.assertEqual(said(carrier, make(needed(identifier, carrier) + empty)), expected)

    def test_identifiers_of_nothing(self) -> None:
        unknown = [bytes((n,)) for n in range(128) if n not in TABLE]
        unknown += [b"\x80" * n + last for n in range(1, 5) for last in (b"\x00", b"\x01")]
        unknown += [b"\xff" * n + b"\x7f" for n in range(1, 4)]
        for carrier, make in FROM_CLIENTS.items():
            for identifier in unknown:
                with self.subTest(carrier=carrier, identifier=identifier.hex()):
                    self.assertEqual(said(carrier, make(identifier + b"\x01")), "81")

    def test_values_out_of_range(self) -> None:
        for carrier, text, code in (
            ("CONNECT", "21 0000", "82"),
            ("CONNECT", "21 0001", None),
            ("CONNECT", "21 ffff", None),
            ("CONNECT", "27 00000000", "82"),
            ("CONNECT", "27 ffffffff", None),
            ("CONNECT", "22 0000", None),
            ("CONNECT", "11 00000000", None),
            ("CONNECT", "11 ffffffff", None),
            ("CONNECT", "17 00", None),
            ("CONNECT", "17 02", "82"),
            ("CONNECT", "19 00", None),
            ("CONNECT", "19 02", "82"),
            ("WILL", "01 00", None),
            ("WILL", "01 02", "82"),
            ("WILL", "08 0003 612f2b", "82"),
            ("WILL", "02 00000000", None),
            ("PUBLISH", "01 ff", "82"),
            ("PUBLISH", "02 00000000", None),
            ("PUBLISH", "23 0000", "94"),
            ("PUBLISH", "23 ffff", None),
            ("PUBLISH", "08 0001 2b", "82"),
            ("PUBLISH", "0b 00", "82"),
            ("PUBLISH", "0b 01 0b 01", "82"),
            ("PUBLISH", "0b 8000", "81"),
            ("PUBLISH", "0b 8080808001", "81"),
            ("PUBLISH", "23 0001 23 0002", "82"),
            ("SUBSCRIBE", "0b 00", "81"),
            ("SUBSCRIBE", "0b 01", None),
            ("SUBSCRIBE", "0b ffffff7f", None),
        ):
            with self.subTest(carrier=carrier, text=text):
                self.assertEqual(said(carrier, FROM_CLIENTS[carrier](bytes.fromhex(text))), code)

    def test_user_properties_of_many_packets(self) -> None:
        raw = bytes.fromhex("26 0001 61 0001 62 26 0001 61 0001 63")
        for carrier, make in FROM_CLIENTS.items():
            start = carrier in ("CONNECT", "WILL")
            packets, reason = outcome(unconnected() if start else connected(), [make(needed(0x26, carrier) + raw)])
            self.assertIsNone(reason)
            (found,) = packets
            assert not isinstance(found, p.PingReq | p.PingResp)
            given = found.properties
            if carrier == "WILL":
                assert isinstance(found, p.Connect) and found.will is not None
                given = found.will.properties
            self.assertEqual(props.user_properties(given), [("a", "b"), ("a", "c")])


class ClientTests(SynchronousTestCase):
    def test_where_it_may_be(self) -> None:
        for carrier, make in FROM_SERVERS.items():
            for identifier in TABLE:
                with self.subTest(carrier=carrier, identifier=identifier):
                    wire = make(needed(identifier, carrier) + one(identifier))
                    packets, reason = outcome(fresh("client"), [wire])
                    if allowed(identifier, carrier, True):
                        self.assertEqual((len(packets), reason), (1, None))
                    else:
                        self.assertEqual((packets, reason), ([], "property_not_allowed"))

    def test_subscription_identifiers_are_many(self) -> None:
        packets, _ = outcome(fresh("client"), [FROM_SERVERS["PUBLISH"](bytes.fromhex("0b 01 0b ff7f 0b 01"))])
        (found,) = packets
        assert isinstance(found, p.Publish) and found.properties is not None
        self.assertEqual(found.properties[props.SUBSCRIPTION_IDENTIFIER], [1, 16383, 1])
