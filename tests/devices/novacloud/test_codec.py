"""Lines in and out: framing, tolerance and limits (decisions 3, 7, 8, 10 to 14)."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from broker.devices.novacloud import codec
from broker.devices.novacloud.codec import Item, LineDecoder, Malformed, Message

LIMIT = 131_072


def read(*chunks: bytes, limit: int = LIMIT) -> list[Item]:
    decoder = LineDecoder(limit)
    return [item for chunk in chunks for item in decoder.feed(chunk)]


def message(**fields: Any) -> Message:
    return Message(**{"type": "data", **fields})


HEARTBEAT = Message(type="heartbeat")

#: Bytes of one or more whole lines, and what they are.
EXAMPLES: list[tuple[bytes, list[Item]]] = [
    (b'{"type":"heartbeat"}\n', [HEARTBEAT]),
    (b'{"type":"heartbeat"}\r\n', [HEARTBEAT]),
    (b'  {"type" : "heartbeat"}\t\n', [HEARTBEAT]),
    (b'\xef\xbb\xbf{"type":"heartbeat"}\n', [HEARTBEAT]),
    (b"\n\r\n   \n\xef\xbb\xbf\r\n", []),
    (b'{"type":"heartbeat"}\n\n{"type":"heartbeat"}\n', [HEARTBEAT, HEARTBEAT]),
    (b'{"type":"data","payload":{"t":25.5}}\n', [message(payload={"t": 25.5})]),
    (b'{"type":"data","payload":{"a":1,"a":2}}\n', [message(payload={"a": 2})]),
    (b'{"type":"data","type":"heartbeat"}\n', [HEARTBEAT]),
    (b'{"type":"heartbeat","more":[1,{"x":null}],"type2":3}\n', [HEARTBEAT]),
    ('{"type":"data","payload":{"s":"正常"}}\n'.encode(), [message(payload={"s": "正常"})]),
    (
        b'{"type":"data","payload":{"n":123456789012345678901234567890}}\n',
        [message(payload={"n": 123456789012345678901234567890})],
    ),
    (b'{"type":"data","payload":7,"timestamp":"x"}\n', [message(payload=7, timestamp="x")]),
    (
        b'{"type":"auth","device_id":[1],"device_key":null,"status":5,"command_id":{}}\n',
        [Message(type="auth", device_id=[1], status=5, command_id={})],
    ),
]

#: Lines that are no message, and words of what the device is told.
MALFORMED: list[tuple[bytes, str]] = [
    (b"hello", "malformed"),
    (b"[]", "Expected `object`, got `array`"),
    (b'"auth"', "Expected `object`, got `str`"),
    (b"7", "Expected `object`, got `int`"),
    (b"null", "Expected `object`, got `null`"),
    (b"{}", "missing required field `type`"),
    (b'{"payload":{}}', "missing required field `type`"),
    (b'{"type":1}', "Expected `str`, got `int`"),
    (b'{"type":null}', "Expected `str`, got `null`"),
    (b'{"type":["data"]}', "Expected `str`, got `array`"),
    (b'{"type":"data"', "truncated"),
    (b'{"type":"data"}{"type":"data"}', "trailing"),
    (b'{"type":"data","payload":{"a":NaN}}', "malformed"),
    (b'{"type":"data","payload":{"a":Infinity}}', "malformed"),
    (b'{"type":"data","payload":{"a":1e400}}', "out of range"),
    (b'{"type":"data","payload":{"a":' + b"9" * 5000 + b"}}", "out of range"),
    (b'{"type":"data","payload":{"a":"\\ud800 and more"}}', "malformed"),
    (b'{"type":"\xff"}', "not UTF-8"),
    (b'{"type":"data","payload":{"a":"\xe6\xad"}}', "not UTF-8"),
    (b"\x00\x01\x02\xff\xfe", "malformed"),
    (b'{"type":"data","payload":' + b"[" * 50_000 + b"]" * 50_000 + b"}", "nested too deeply"),
    (b'{"type":"data","payload":' + b"[" * 50_000, "nested too deeply"),
    (b'{"type":"data","payload":' + b'{"a":' * 120 + b"1" + b"}" * 120 + b"}", "nested too deeply"),
    (b'\xef\xbb\xbf{"type":"data","payload":' + b"[" * 150 + b"]" * 150 + b"}", "nested too deeply"),
    (b"\xef\xbb\xbf\xff", "malformed"),
    (b'\xef\xbb\xbf{"type":"\xff"}', "not UTF-8"),
]


class ReadingTests(SynchronousTestCase):
    def test_examples(self) -> None:
        for data, expected in EXAMPLES:
            self.assertEqual(read(data), expected, data)

    def test_examples_byte_by_byte(self) -> None:
        for data, expected in EXAMPLES:
            self.assertEqual(read(*(data[at : at + 1] for at in range(len(data)))), expected, data)

    def test_nothing_before_the_newline(self) -> None:
        for data, _ in EXAMPLES[:1]:
            decoder = LineDecoder(LIMIT)
            self.assertEqual(list(decoder.feed(data[:-1])), [])
            self.assertEqual(decoder.buffered, len(data) - 1)

    def test_malformed(self) -> None:
        for line, words in MALFORMED:
            items = read(line + b"\n")
            self.assertEqual(len(items), 1, line[:80])
            (item,) = items
            assert isinstance(item, Malformed), (line[:80], item)
            self.assertEqual(item.reason, "malformed")
            self.assertIn(words, item.text)
            self.assertLessEqual(len(item.text), 200)

    def test_the_next_line_is_a_new_start(self) -> None:
        """Row 9: lines may be cut or mixed; the next newline is where reading goes on."""
        for line, _ in MALFORMED:
            items = read(line + b'\n{"type":"heartbeat"}\n')
            self.assertEqual([type(item) for item in items], [Malformed, Message], line[:80])

    def test_utf8_cut_between_segments(self) -> None:
        """Row 14."""
        line = '{"type":"data","payload":{"s":"正常运行"}}\n'.encode()
        for cut in range(len(line)):
            self.assertEqual(read(line[:cut], line[cut:]), [message(payload={"s": "正常运行"})])

    def test_just_deep_enough_can_be_written_again(self) -> None:
        line = b'{"type":"data","payload":' + b'{"a":' * 98 + b"1" + b"}" * 98 + b"}\n"
        (item,) = read(line)
        assert isinstance(item, Message)
        self.assertEqual(json.dumps(item.payload).count("{"), 98)

    def test_numbers_keep_their_kind(self) -> None:
        """Row 26: a bool is no number, and a whole number no float."""
        (item,) = read(b'{"type":"data","payload":{"b":true,"i":1,"f":1.0,"n":null}}\n')
        assert isinstance(item, Message)
        self.assertEqual([type(value) for value in item.payload.values()], [bool, int, float, type(None)])


class LimitTests(SynchronousTestCase):
    """Row 12."""

    def test_exactly_the_limit(self) -> None:
        line = b'{"type":"heartbeat"' + b" " * 80 + b"}"
        self.assertEqual(read(line + b"\n", limit=len(line)), [HEARTBEAT])

    def test_one_more(self) -> None:
        line = b'{"type":"heartbeat"' + b" " * 81 + b"}"
        (item,) = read(line + b"\n", limit=len(line) - 1)
        self.assertEqual(item, Malformed("a line has more than 100 bytes", "too_long"))

    def test_reported_once_and_early(self) -> None:
        decoder = LineDecoder(100)
        self.assertEqual(list(decoder.feed(b"x" * 100)), [])
        self.assertEqual(
            [item for _ in range(50) for item in decoder.feed(b"x" * 100)],
            [Malformed("a line has more than 100 bytes", "too_long")],
        )
        self.assertEqual(decoder.buffered, 0)
        self.assertEqual(list(decoder.feed(b'xx{"type":"heartbeat"}\n{"type":"heartbeat"}\n')), [HEARTBEAT])

    def test_the_next_may_be_too_long_again(self) -> None:
        too_long = Malformed("a line has more than 100 bytes", "too_long")
        self.assertEqual(read(b"x" * 200 + b"\n" + b"y" * 200 + b"\n", limit=100), [too_long, too_long])

    def test_a_gigabyte_without_a_newline(self) -> None:
        decoder = LineDecoder(LIMIT)
        chunk = b"x" * 65_536
        reports = most = 0
        for _ in range(16_384):
            reports += sum(1 for _ in decoder.feed(chunk))
            most = max(most, decoder.buffered)
        self.assertEqual(reports, 1)
        self.assertLessEqual(most, LIMIT)

    def test_the_limit_may_grow_between_lines(self) -> None:
        """Before the login little is taken; what stands behind the auth line is judged after it."""
        decoder = LineDecoder(30)
        items = decoder.feed(b'{"type":"auth"}\n{"type":"heartbeat","more":"more than 30"}\n' + b"x" * 50)
        self.assertEqual(next(items), Message(type="auth"))
        decoder.limit = 100
        self.assertEqual(list(items), [HEARTBEAT])
        self.assertEqual(decoder.buffered, 50)


class WritingTests(SynchronousTestCase):
    def test_auth_response(self) -> None:
        """Row 1: one answer to both dialects."""
        line = codec.auth_response(True, "认证成功")
        self.assertEqual(
            json.loads(line),
            {
                "type": "auth_response",
                "status": "ok",
                "message": "认证成功",
                "payload": {"status": "success", "message": "认证成功"},
            },
        )
        self.assertLess(len(line), 1024)

    def test_refusal(self) -> None:
        answer = json.loads(codec.auth_response(False, "设备已被禁用"))
        self.assertEqual(
            (answer["status"], answer["payload"]), ("error", {"status": "error", "message": "设备已被禁用"})
        )

    def test_lines_are_ascii_objects(self) -> None:
        """Rows 7 and 8."""
        for line in (
            codec.auth_response(False, "错误 \U0001f600"),
            codec.error_line("消息格式错误\n"),
            codec.acknowledgement("数据已接收"),
            codec.command_line("id", {"灯": "开\n\U0001f600", "n": [1, None, True]}),
        ):
            self.assertTrue(line.isascii())
            self.assertEqual(line.count(b"\n"), 1)
            self.assertTrue(line.endswith(b"}\n"))
            self.assertIsInstance(json.loads(line), dict)

    def test_command(self) -> None:
        line = codec.command_line("cmd_uuid_123", {"light_switch": "ON", "fan_speed": 3})
        self.assertEqual(
            json.loads(line),
            {"type": "command", "command_id": "cmd_uuid_123", "payload": {"light_switch": "ON", "fan_speed": 3}},
        )

    def test_a_large_command_is_one_line(self) -> None:
        payload = {f"键{number}": "值" * 50 for number in range(1000)}
        line = codec.command_line("id", payload)
        self.assertEqual(line.count(b"\n"), 1)
        self.assertEqual(json.loads(line)["payload"], payload)

    def test_what_json_cannot_hold(self) -> None:
        deep: dict[str, Any] = {}
        for _ in range(5000):
            deep = {"a": deep}
        for payload in ({"a": float("nan")}, {"a": float("inf")}, {"a": b""}, deep):
            self.assertRaises(ValueError, codec.command_line, "id", payload)
