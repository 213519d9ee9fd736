"""MQTT 5.0 codec: what the standard forbids, and what a server says to it before it closes."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from broker.mqtt import packets as p
from broker.mqtt.answers import last_words
from tests.mqtt.samples import outcome
from tests.mqtt.samples5 import answer, connected, fresh, quick_outcome, unconnected
from tests.mqtt.test_codec_malformed import AT_THE_CLIENT as AT_THE_OLD_CLIENT
from tests.mqtt.test_codec_malformed import BEFORE_CONNECT, CONNECTED

_MQTT = "0004 4d515454 05"
# Strings of five bytes that are not text, or not text that anybody needs: U+0000, surrogates, control characters.
NOT_TEXT = ("746f700000", "746feda080", "746fedbfbf", "746f700170", "746f701f70", "746f707f70", "746fc29f70")

# (bytes, reason, reason code of the CONNACK, 0 for none) at a server that waits for CONNECT
AT_THE_START: tuple[tuple[str, str, int], ...] = (
    ("c0 00", "connect_expected", 0),
    ("30 0f 0005 746f706963 00 7061796c6f6164", "connect_expected", 0),
    ("82 07 1234 00 0001 70 00", "connect_expected", 0),
    ("e0 00", "connect_expected", 0),
    ("f0 00", "packet_type", 0),
    ("00 00", "packet_type", 0),
    ("20 03 00 00 00", "direction", 0),
    ("d0 00", "direction", 0),
    ("10 80 80 80 80 01", "remaining_length", 0),
    (f"11 0e {_MQTT} 02 000a 00 0001 70", "reserved_flags", 0x81),
    (f"10 08 {_MQTT} 02", "truncated", 0x81),
    (f"10 0a {_MQTT} 02 000a", "truncated", 0x81),
    (f"10 0b {_MQTT} 02 000a 00", "truncated", 0x81),
    (f"10 0e {_MQTT} 03 000a 00 0001 70", "connect_flags", 0x81),
    (f"10 0e {_MQTT} 0a 000a 00 0001 70", "will_flags", 0x81),
    (f"10 0e {_MQTT} 22 000a 00 0001 70", "will_flags", 0x81),
    (f"10 15 {_MQTT} 1e 000a 00 0001 70 00 0001 70 0001 70", "will_flags", 0x81),
    (f"10 0e {_MQTT} 06 000a 00 0001 70", "truncated", 0x81),
    (f"10 12 {_MQTT} 06 000a 00 0001 70 00 0001 70", "truncated", 0x81),
    (f"10 15 {_MQTT} 06 000a 00 0001 70 00 0001 23 0001 70", "topic_name", 0x81),
    *((f"10 12 {_MQTT} 02 000a 00 0005 {text}", "client_id", 0x85) for text in NOT_TEXT),
    (f"10 11 {_MQTT} 02 000a 00 0001 71 0001 71", "trailing_bytes", 0x81),
    (f"10 14 {_MQTT} 82 000a 00 0001 70 0001 70 0001 70", "trailing_bytes", 0x81),
    # Who cannot state a user name and a password is not told what is wrong.
    (f"10 0e {_MQTT} 82 000a 00 0001 70", "credentials", 0),
    (f"10 11 {_MQTT} c2 000a 00 0001 70 0001 70", "credentials", 0),
    *((f"10 15 {_MQTT} 82 000a 00 0001 70 0005 {text}", "credentials", 0) for text in NOT_TEXT),
    (f"10 12 {_MQTT} 02 000a 04 16 0001 70 0001 70", "auth_method", 0x82),
    # A property length that goes past the end, or is not well-formed
    (f"10 0f {_MQTT} 02 000a 24 01 0001 70", "truncated", 0x81),
    (f"10 0f {_MQTT} 02 000a 80 00 0001 70", "variable_integer", 0x81),
    (f"10 12 {_MQTT} 02 000a 80 80 80 80 01 0001 70", "variable_integer", 0x81),
)

# (bytes, reason, reason code of the DISCONNECT, 0 for none) at a server of a connected client
ONCE_CONNECTED: tuple[tuple[str, str, int], ...] = (
    (f"10 0e {_MQTT} 02 000a 00 0001 70", "connect_repeated", 0x82),
    # A reserved type is refused at once; otherwise a length that is none is not worth an answer.
    ("00 00", "packet_type", 0x82),
    ("08 00", "packet_type", 0x82),
    ("0a c0", "packet_type", 0x82),
    ("00 80 80 80 80 01", "packet_type", 0x82),
    *(
        (f"{first:02x} 80 80 80 80 01", "remaining_length", 0)
        for first in bytes.fromhex("20 30 40 50 62 70 82 90 a2 b0 c0 d0 e0 f0")
    ),
    ("c0 80 00", "remaining_length", 0),
    ("30 ff ff ff 7f", "packet_too_large", 0x95),
    # What only servers send
    ("20 00", "direction", 0x82),
    *((f"2{flags} 03 00 00 00", "direction", 0x82) for flags in "01248"),
    ("29 02 00 01", "direction", 0x82),
    *((f"{first} {rest}", "direction", 0x82) for first in ("90", "b0") for rest in ("00", "01 01", "04 0001 00 11")),
    ("d0 00", "direction", 0x82),
    *((f"{first}{flags} 03 0001 00", "reserved_flags", 0x81) for first in "9b" for flags in "1248"),
    *((f"d{flags} 00", "direction", 0x82) for flags in "1248"),
    ("d0 01 00", "trailing_bytes", 0),
    ("c0 01 00", "trailing_bytes", 0),
    # Reserved flags
    *((f"{kind}{flags:x} 03 0001 00", "reserved_flags", 0x81) for kind in "457" for flags in range(1, 16)),
    *((f"{kind}{flags:x} 00", "reserved_flags", 0x81) for kind in "ce" for flags in range(1, 16)),
    *((f"6{flags:x} 03 0001 00", "reserved_flags", 0x81) for flags in range(16) if flags != 2),
    *((f"8{flags:x} 07 0001 00 0001 70 00", "reserved_flags", 0x81) for flags in range(16) if flags != 2),
    *((f"a{flags:x} 06 0001 00 0001 70", "reserved_flags", 0x81) for flags in range(16) if flags != 2),
    *((f"f{flags:x} 00", "reserved_flags", 0x82) for flags in range(1, 16)),
    # PUBLISH
    *((f"3{flags} 08 0003 612f62 0001 00", "qos", 0x81) for flags in "67ef"),
    *((f"3{flags} 06 0003 612f62 00", "dup", 0x81) for flags in "89"),
    ("30 00", "truncated", 0x81),
    ("30 05 0003 612f62", "truncated", 0x81),
    ("32 07 0003 612f62 0001", "truncated", 0x81),
    ("30 06 0003 612f62 01", "truncated", 0x81),
    ("30 0a 0000 00 7061796c6f6164", "topic_name", 0x81),
    ("30 0b 0005 2b6f706963 00 787878", "topic_name", 0x81),
    ("30 0b 0005 236f706963 00 787878", "topic_name", 0x81),
    *((f"30 0b 0005 {text} 00 787878", "topic_name", 0x81) for text in NOT_TEXT),
    ("32 08 0003 612f62 0000 00", "packet_id", 0x82),
    ("34 09 0003 612f62 0000 00 78", "packet_id", 0x82),
    ("30 09 0003 612f62 03 23 0000", "topic_alias", 0x94),
    ("30 08 0003 612f62 02 01 02", "property_value", 0x82),
    ("30 0a 0003 612f62 04 08 0001 23", "response_topic", 0x82),
    ("30 09 0003 612f62 03 08 0000", "response_topic", 0x82),
    ("30 0e 0003 612f62 08 08 0005 746feda080", "utf8", 0x81),
    ("30 0e 0003 612f62 08 03 0005 746f700000", "utf8", 0x81),
    # Acknowledgements
    *((f"{first} 00", "truncated", 0x81) for first in ("40", "50", "62", "70")),
    *((f"{first} 01 01", "truncated", 0x81) for first in ("40", "50", "62", "70")),
    *((f"{first} 02 0000", "packet_id", 0x82) for first in ("40", "50", "62", "70")),
    *((f"{first} 03 0000 00", "packet_id", 0x82) for first in ("40", "50", "62", "70")),
    *((f"{first} 04 0001 00 01", "truncated", 0x81) for first in ("40", "50", "62", "70")),
    *((f"{first} 05 0001 00 00 00", "trailing_bytes", 0x81) for first in ("40", "50", "62", "70")),
    *((f"{first} 03 0001 ff", "reason_code", 0x82) for first in ("40", "50", "62", "70")),
    *((f"{first} 04 0001 ff 00", "reason_code", 0x82) for first in ("40", "50", "62", "70")),
    *((f"{first} 04 0001 01 00", "reason_code", 0x82) for first in ("40", "50", "62", "70")),
    ("40 03 0001 92", "reason_code", 0x82),
    ("62 03 0001 10", "reason_code", 0x82),
    ("40 06 0001 00 02 1f 00", "truncated", 0x81),
    # SUBSCRIBE
    ("82 00", "truncated", 0x81),
    ("82 01 12", "truncated", 0x81),
    ("82 02 1234", "truncated", 0x81),
    ("82 03 1234 00", "no_filters", 0x81),
    ("82 04 1234 00 00", "truncated", 0x81),
    ("82 05 1234 00 0000", "topic_filter", 0x81),
    ("82 06 1234 00 0001 70", "truncated", 0x81),
    ("82 06 1234 00 0000 00", "topic_filter", 0x81),
    ("82 07 0000 00 0001 70 00", "packet_id", 0x81),
    ("82 08 1234 00 0001 70 00 00", "truncated", 0x81),
    ("82 0a 1234 00 0000 00 0001 71 00", "topic_filter", 0x81),
    ("82 0a 1234 00 0001 71 00 0000 00", "topic_filter", 0x81),
    *((f"82 0b 1234 00 0005 {text} 00", "topic_filter", 0x81) for text in NOT_TEXT),
    ("82 09 1234 00 0003 612b62 00", "topic_filter", 0x81),
    *(
        (f"82 07 1234 00 0001 70 {byte:02x}", "subscription_options", 0x81)
        for byte in b"\x03\x30\x40\x80\xf0\x07\x3c\xc0"
    ),
    ("82 10 1234 00 000a 24736861 72652f2b 2f70 00", "shared_filter", 0x82),
    ("82 10 1234 00 000a 24736861 72652f23 2f70 00", "topic_filter", 0x81),
    ("82 0f 1234 00 0009 24736861 72652f70 2f 00", "shared_filter", 0x82),
    ("82 0e 1234 00 0008 24736861 72652f70 00", "shared_filter", 0x82),
    ("82 0f 1234 00 0009 24736861 72652f2f 70 00", "shared_filter", 0x82),
    ("82 10 1234 00 000a 24736861 72652f70 2f70 04", "shared_no_local", 0x82),
    ("82 09 0001 02 0b 00 0001 70 00", "subscription_identifier", 0x81),
    ("82 0a 0001 03 0b 80 00 0001 70 00", "variable_integer", 0x81),
    ("82 0d 0001 06 0b 80 80 80 80 01 0001 70 00", "variable_integer", 0x81),
    ("82 0b 0001 04 0b 01 0b 01 0001 70 00", "property_repeated", 0x82),
    # UNSUBSCRIBE
    ("a2 00", "truncated", 0x81),
    ("a2 01 12", "truncated", 0x81),
    ("a2 03 1234 00", "no_filters", 0x81),
    ("a2 04 1234 00 01", "truncated", 0x81),
    ("a2 05 1234 00 0001", "truncated", 0x81),
    ("a2 06 0000 00 0001 70", "packet_id", 0x81),
    ("a2 08 1234 00 0000 0001 71", "topic_filter", 0x81),
    ("a2 08 1234 00 0001 71 0000", "topic_filter", 0x81),
    *((f"a2 0a 1234 00 0005 {text}", "topic_filter", 0x81) for text in NOT_TEXT),
    # DISCONNECT: it is the end anyway, so a code that only servers use is not worth an answer.
    *((f"e0 01 {code:02x}", "reason_code", 0) for code in bytes.fromhex("0105 87898b8d8e8f 9a9b9c9d9e9f a0a1a2 ff")),
    ("e0 03 00 01 00", "property_unknown", 0x81),
    ("e0 03 00 01 11", "truncated", 0x81),
    ("e0 06 00 04 11 000000", "truncated", 0x81),
    ("e0 03 00 00 00", "trailing_bytes", 0x81),
    ("e0 02 00 01", "truncated", 0x81),
    # AUTH
    ("f0 00", "reason_code", 0x82),
    ("f0 01 00", "reason_code", 0x82),
    ("f0 01 18", "auth_method", 0x82),
    ("f0 02 19 00", "auth_method", 0x82),
    ("f0 06 00 04 15 0001 6d", "reason_code", 0x82),
)

# (bytes, reason) at a client
AT_THE_CLIENT: tuple[tuple[str, str], ...] = (
    ("10 0e 0004 4d515454 05 02 000a 00 0001 70", "direction"),
    ("82 07 0001 00 0001 70 00", "direction"),
    ("c0 00", "direction"),
    ("21 03 00 00 00", "reserved_flags"),
    ("20 02 00 00", "truncated"),
    ("20 04 00 00 00 00", "trailing_bytes"),
    ("20 03 02 00 00", "connack"),
    ("20 03 01 87 00", "connack"),
    ("20 03 00 01 00", "reason_code"),
    ("20 03 00 8d 00", "reason_code"),
    ("20 05 00 00 02 24 02", "property_value"),
    ("20 06 00 00 03 21 0000", "property_value"),
    ("20 08 00 00 05 27 00000000", "property_value"),
    ("90 03 0001 00", "truncated"),
    ("90 04 0000 00 00", "packet_id"),
    ("90 04 0001 00 03", "suback_code"),
    ("b0 03 0001 00", "truncated"),
    ("b0 04 0001 00 01", "suback_code"),
    ("e0 01 04", "reason_code"),
    ("e0 07 00 05 11 00000000", "property_not_allowed"),
    ("f0 01 19", "reason_code"),
    ("30 08 0003 612f62 02 0b 00", "subscription_identifier"),
)


class MalformedTests(SynchronousTestCase):
    def check(self, text: str, reason: str, said: str, accepted: bool) -> None:
        make = connected if accepted else unconnected
        wire = bytes.fromhex(text)
        with self.subTest(wire=text):
            self.assertEqual(outcome(make(), [wire]), ([], reason))
            pieces = [wire[n : n + 1] for n in range(len(wire))]
            self.assertEqual(outcome(make(), pieces), ([], reason))
            self.assertEqual(quick_outcome(make(), [wire]), ([], reason))
            self.assertEqual(answer(make(), wire), said)

    def test_before_connect(self) -> None:
        for text, reason, code in AT_THE_START:
            self.check(text, reason, f"200300{code:02x}00" if code else "", False)

    def test_connected(self) -> None:
        for text, reason, code in ONCE_CONNECTED:
            self.check(text, reason, f"e001{code:02x}" if code else "", True)

    def test_at_the_client(self) -> None:
        for text, reason in AT_THE_CLIENT:
            with self.subTest(wire=text):
                self.assertEqual(outcome(fresh("client"), [bytes.fromhex(text)]), ([], reason))

    def test_nothing_is_answered_in_the_older_versions(self) -> None:
        for text, reason in BEFORE_CONNECT:
            said = "20020001" if reason == "protocol_level" else ""
            self.assertEqual(answer(unconnected(), bytes.fromhex(text)), said, text)
        for text, _ in CONNECTED:
            decoder = unconnected()
            list(decoder.feed(bytes.fromhex("10 0d 0004 4d515454 04 02 000a 0001 70")))
            self.assertEqual(answer(decoder, bytes.fromhex(text)), "", text)

    def test_a_fault_between_connect_and_connack(self) -> None:
        error = p.ProtocolError("packet_id", p.PUBLISH)
        self.assertEqual(last_words(error, 5, False).hex(), "2003008200")
        self.assertEqual(last_words(error, 5, True).hex(), "e00182")

    def test_every_reason_is_tested(self) -> None:
        old = {reason for table in (BEFORE_CONNECT, CONNECTED, AT_THE_OLD_CLIENT) for _, reason in table}
        new = {reason for table in (AT_THE_START, ONCE_CONNECTED) for _, reason, _ in table}
        self.assertEqual(old | new | {reason for _, reason in AT_THE_CLIENT}, set(p.REASONS))

    def test_codes_that_a_client_may_send(self) -> None:
        for code in bytes.fromhex("00 04 80 81 82 83 90 93 94 95 96 97 98 99"):
            packets, _ = outcome(connected(), [bytes((0xE0, 1, code))])
            self.assertEqual(packets, [p.Disconnect(code)])
        for first, codes in (("40", "00 10 80 83 87 90 91 97 99"), ("50", "00 10 80 99"), ("62", "00 92")):
            for code in bytes.fromhex(codes):
                self.assertIsNone(answer(connected(), bytes.fromhex(f"{first} 03 0001 {code:02x}")))
