"""MQTT codec: what the standard forbids, and the reason that it is refused for; what 3.1 allows beside it."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from broker.mqtt import packets as p
from broker.mqtt.codec import Role
from tests.mqtt.samples import fresh, outcome, quick_outcome

# The client id "p" and what stands before it, by connect flags
_MQTT = "0004 4d515454 04"
_ISDP = "0006 4d5149736470 03"

# (bytes, reason) at a server that waits for CONNECT
BEFORE_CONNECT: tuple[tuple[str, str], ...] = (
    ("c0 00", "connect_expected"),
    ("30 05 0003 612f62", "connect_expected"),
    ("e0 00", "connect_expected"),
    ("20 02 00 00", "direction"),
    ("d0 00", "direction"),
    ("00 00", "packet_type"),
    ("f0 00", "packet_type"),
    ("47 45 54 20", "connect_expected"),  # GET
    ("16 03 01 02 00 01 00", "truncated"),  # a TLS hello
    ("10 00", "truncated"),
    ("10 ff ff ff ff 7f", "remaining_length"),
    ("10 8d 00", "remaining_length"),
    ("10 0c 0003 4d5154 04 02 000a 0001 70", "protocol_name"),
    ("10 09 0000 04 02 000a 0001 70", "protocol_name"),
    ("10 0e 0005 4d51545454 04 02 000a 0001 70", "protocol_name"),
    ("10 0d 0004 4d515455 04 02 000a 0001 70", "protocol_name"),
    ("10 0d 0004 6d717474 04 02 000a 0001 70", "protocol_name"),
    ("10 06 0004 4d515454", "truncated"),
    ("10 07 0004 4d515454 04", "truncated"),
    ("10 0d 0004 4d515454 00 02 000a 0001 70", "protocol_level"),
    ("10 0d 0004 4d515454 02 02 000a 0001 70", "protocol_level"),
    ("10 0d 0004 4d515454 03 02 000a 0001 70", "protocol_level"),
    ("10 0d 0004 4d515454 06 02 000a 0001 70", "protocol_level"),
    ("10 0d 0004 4d515454 84 02 000a 0001 70", "protocol_level"),
    ("10 07 0004 4d515454 63", "protocol_level"),
    ("10 0f 0006 4d5149736470 02 02 000a 0001 70", "protocol_level"),
    ("10 0f 0006 4d5149736470 04 02 000a 0001 70", "protocol_level"),
    *((f"1{flags:x} 0d {_MQTT} 02 000a 0001 70", "reserved_flags") for flags in range(1, 16)),
    (f"10 0d {_MQTT} 03 000a 0001 70", "connect_flags"),
    (f"10 0d {_MQTT} 0a 000a 0001 70", "will_flags"),
    (f"10 0d {_MQTT} 12 000a 0001 70", "will_flags"),
    (f"10 0d {_MQTT} 22 000a 0001 70", "will_flags"),
    (f"10 13 {_MQTT} 1e 000a 0001 70 0001 70 0001 70", "will_flags"),
    (f"10 0a {_MQTT} 02 000a", "truncated"),
    (f"10 0b {_MQTT} 02 000a 00", "truncated"),
    (f"10 0d {_MQTT} 06 000a 0001 70", "truncated"),
    (f"10 10 {_MQTT} 06 000a 0001 70 0001 70", "truncated"),
    (f"10 12 {_MQTT} 06 000a 0001 70 0000 0001 70", "topic_name"),
    (f"10 13 {_MQTT} 06 000a 0001 70 0001 23 0001 70", "topic_name"),
    (f"10 17 {_MQTT} 06 000a 0001 70 0005 746f700000 0001 70", "topic_name"),
    (f"10 0d {_MQTT} 82 000a 0001 70", "credentials"),
    (f"10 10 {_MQTT} c2 000a 0001 70 0001 70", "credentials"),
    (f"10 10 {_MQTT} 42 000a 0001 70 0001 70", "password_without_user"),
    (f"10 10 {_MQTT} 02 000a 0001 70 0001 70", "trailing_bytes"),
    (f"10 13 {_MQTT} 82 000a 0001 70 0001 70 0001 70", "trailing_bytes"),
    (f"10 07 {_MQTT} c2 003c 0004 74657374 0005 61646d696e", "truncated"),
    *(
        (f"10 11 {_MQTT} 02 000a 0005 746f{tail}", "client_id")
        for tail in ("700000", "eda080", "edbfbf", "701f70", "70ff70")
    ),
    *(
        (f"10 14 {_MQTT} 82 000a 0001 70 0005 746f{tail}", "credentials")
        for tail in ("700000", "eda080", "c29f70", "707f70")
    ),
    (f"10 11 {_ISDP} c2 000a 0001 70 0003 70", "credentials"),
    (f"10 12 {_ISDP} 42 000a 0001 70 0001 70", "password_without_user"),
    (f"10 12 {_ISDP} 02 000a 0001 70 0001 70", "trailing_bytes"),
    (f"10 15 {_ISDP} 1e 000a 0001 70 0001 70 0001 70", "will_flags"),
)

# (bytes, reason) at a server of a connected 3.1.1 client
CONNECTED: tuple[tuple[str, str], ...] = (
    ("10 0d 0004 4d515454 04 02 000a 0001 70", "connect_repeated"),
    ("20 02 00 00", "direction"),
    ("90 03 0001 00", "direction"),
    ("b0 02 0001", "direction"),
    ("d0 00", "direction"),
    ("00 00", "packet_type"),
    ("f0 00", "packet_type"),
    ("30 ff ff ff ff 01", "remaining_length"),
    ("c0 80 00", "remaining_length"),
    *((f"{kind}{flags:x} 02 0001", "reserved_flags") for kind in "457" for flags in range(1, 16)),
    *((f"{kind}{flags:x} 00", "reserved_flags") for kind in "ce" for flags in range(1, 16)),
    *((f"6{flags:x} 02 0001", "reserved_flags") for flags in range(16) if flags != 2),
    *((f"8{flags:x} 06 0001 0001 70 00", "reserved_flags") for flags in range(16) if flags != 2),
    *((f"a{flags:x} 05 0001 0001 70", "reserved_flags") for flags in range(16) if flags != 2),
    *((f"3{flags} 07 0003 612f62 0001", "qos") for flags in "67ef"),
    *((f"3{flags} 05 0003 612f62", "dup") for flags in "89"),
    ("30 00", "truncated"),
    ("30 01 00", "truncated"),
    ("30 02 0001", "truncated"),
    ("30 04 0003 612f", "truncated"),
    ("32 05 0003 612f62", "truncated"),
    ("32 06 0003 612f62 00", "truncated"),
    ("32 07 0003 612f62 0000", "packet_id"),
    ("34 08 0003 612f62 0000 78", "packet_id"),
    ("30 02 0000", "topic_name"),
    ("30 04 0000 7878", "topic_name"),
    ("30 03 0001 2b", "topic_name"),
    ("30 07 0005 236f706963", "topic_name"),
    *((f"30 09 0005 746f{tail} 7878", "topic_name") for tail in ("700000", "eda080", "700170", "701f70", "707f70")),
    *((f"30 09 0005 746f{tail} 7878", "topic_name") for tail in ("c29f70", "edbfbf", "efbfbf", "f00000", "c08070")),
    *((f"{first} 00", "truncated") for first in ("40", "50", "62", "70")),
    *((f"{first} 01 01", "truncated") for first in ("40", "50", "62", "70")),
    *((f"{first} 02 0000", "packet_id") for first in ("40", "50", "62", "70")),
    *((f"{first} 03 0001 00", "trailing_bytes") for first in ("40", "50", "62", "70")),
    ("82 00", "truncated"),
    ("82 01 12", "truncated"),
    ("82 02 1234", "no_filters"),
    ("82 03 1234 00", "truncated"),
    ("82 04 1234 0000", "topic_filter"),
    ("82 05 1234 0000 00", "topic_filter"),
    ("82 05 1234 0001 70", "truncated"),
    ("82 06 0000 0001 70 00", "packet_id"),
    ("82 07 1234 0001 70 00 00", "truncated"),
    ("82 09 1234 0001 71 00 0000 00", "topic_filter"),
    *((f"82 06 1234 0001 70 {options}", "subscription_options") for options in ("03", "04", "08", "10", "40", "80")),
    ("82 08 1234 0003 612b62 00", "topic_filter"),
    ("82 08 1234 0003 232f62 00", "topic_filter"),
    ("82 0a 1234 0005 746f700000 00", "topic_filter"),
    ("82 0a 1234 0005 746feda080 00", "topic_filter"),
    ("a2 00", "truncated"),
    ("a2 02 1234", "no_filters"),
    ("a2 03 1234 00", "truncated"),
    ("a2 04 1234 0000", "topic_filter"),
    ("a2 05 0000 0001 70", "packet_id"),
    ("a2 05 1234 0001 ff", "topic_filter"),
    ("a2 06 1234 0001 70 00", "truncated"),
    ("c0 01 00", "trailing_bytes"),
    ("e0 01 00", "trailing_bytes"),
)

# (bytes, reason) at a 3.1.1 client
AT_THE_CLIENT: tuple[tuple[str, str], ...] = (
    ("10 0d 0004 4d515454 04 02 000a 0001 70", "direction"),
    ("82 06 0001 0001 70 00", "direction"),
    ("a2 05 0001 0001 70", "direction"),
    ("c0 00", "direction"),
    ("e0 00", "direction"),
    ("21 02 00 00", "reserved_flags"),
    ("20 00", "truncated"),
    ("20 01 00", "truncated"),
    ("20 03 00 00 00", "trailing_bytes"),
    ("20 02 02 00", "connack"),
    ("20 02 01 05", "connack"),
    ("20 02 00 06", "connack"),
    ("92 03 0001 00", "reserved_flags"),
    ("90 02 0001", "truncated"),
    ("90 03 0000 00", "packet_id"),
    ("90 03 0001 03", "suback_code"),
    ("90 04 0001 00 81", "suback_code"),
    ("b0 02 0000", "packet_id"),
    ("b0 03 0001 00", "trailing_bytes"),
    ("d0 01 00", "trailing_bytes"),
    ("36 07 0003 612f62 0001", "qos"),
    ("30 03 0001 23", "topic_name"),
)

# What a 3.1 server takes and a 3.1.1 server does not (IBM's specification, §3.1, §3.6, §3.8, §3.10)
ONLY_IN_3_1: tuple[tuple[int, str, p.Packet], ...] = (
    (0, f"14 0f {_ISDP} 02 000a 0001 70", p.Connect("p", 3, True, 10)),
    (0, f"1f 0f {_ISDP} 03 000a 0001 70", p.Connect("p", 3, True, 10)),
    (0, f"10 0f {_ISDP} 3a 000a 0001 70", p.Connect("p", 3, True, 10)),
    (0, f"10 0f {_ISDP} 82 000a 0001 70", p.Connect("p", 3, True, 10)),
    (0, f"10 0f {_ISDP} c2 000a 0001 70", p.Connect("p", 3, True, 10)),
    (0, f"10 12 {_ISDP} c2 000a 0001 70 0001 75", p.Connect("p", 3, True, 10, "u")),
    (3, "6a 02 0001", p.PubRel(1)),
    (3, "8a 06 0001 0001 70 00", p.Subscribe(1, [("p", 0)])),
    (3, "aa 05 0001 0001 70", p.Unsubscribe(1, ["p"])),
)


class MalformedTests(SynchronousTestCase):
    def refused(self, role: Role, version: int, table: tuple[tuple[str, str], ...]) -> None:
        for text, reason in table:
            wire = bytes.fromhex(text)
            with self.subTest(wire=text):
                self.assertEqual(outcome(fresh(role, version), [wire]), ([], reason))
                pieces = [wire[n : n + 1] for n in range(len(wire))]
                self.assertEqual(outcome(fresh(role, version), pieces), ([], reason))
                self.assertEqual(quick_outcome(fresh(role, version), [wire]), ([], reason))

    def test_before_connect(self) -> None:
        self.refused("server", 0, BEFORE_CONNECT)

    def test_connected(self) -> None:
        self.refused("server", 4, CONNECTED)

    def test_at_the_client(self) -> None:
        self.refused("client", 4, AT_THE_CLIENT)

    def test_3_1_is_more_lenient(self) -> None:
        for version, text, packet in ONLY_IN_3_1:
            with self.subTest(wire=text):
                self.assertEqual(outcome(fresh("server", version), [bytes.fromhex(text)]), ([packet], None))

    def test_3_1_is_not_lenient_with_everything(self) -> None:
        self.refused(
            "server",
            3,
            (
                ("80 06 0001 0001 70 00", "reserved_flags"),
                ("83 06 0001 0001 70 00", "reserved_flags"),
                ("60 02 0001", "reserved_flags"),
                ("c8 00", "reserved_flags"),
                ("36 07 0003 612f62 0001", "qos"),
            ),
        )

    def test_3_1_connack_disregards_its_first_byte(self) -> None:
        self.assertEqual(outcome(fresh("client", 3), [b"\x20\x02\x01\x05"]), ([p.ConnAck(5)], None))

    def test_errors_carry_the_code_of_5_0(self) -> None:
        self.assertEqual(p.ProtocolError("protocol_level").code, 0x84)
        self.assertEqual(p.ProtocolError("packet_too_large").code, 0x95)
        self.assertEqual(p.ProtocolError("utf8").code, 0x81)
