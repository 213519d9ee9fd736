"""Any bytes in any chunks: messages, malformed lines or need more, and never anything else."""

from __future__ import annotations

import json
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from broker.devices.novacloud import codec
from broker.devices.novacloud.codec import Item, LineDecoder, Malformed, Message
from broker.model import jsontext

LIMIT = 60

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from(["type", "payload", "timestamp", "status", "command_id", "device_id", "device_key", "x"])
objects = st.dictionaries(names, values, max_size=6).map(lambda value: json.dumps(value, ensure_ascii=False))
json_lines = (objects | values.map(json.dumps)).map(lambda text: text.encode("utf-8", "surrogatepass"))
pieces = st.sampled_from(
    [
        b'{"type":"heartbeat"}',
        b"\n",
        b"\r\n",
        b"\xef\xbb\xbf",
        b"{",
        b"}",
        b"[",
        b'"',
        b" ",
        b"\xe6\x88",
        b"\x00",
        b"NaN",
        b"x" * 70,
    ]
)
lines = json_lines | st.binary(max_size=80) | pieces
streams = st.lists(lines | st.just(b"\n"), max_size=30).map(b"".join) | st.lists(lines, max_size=20).map(b"\n".join)


def read(decoder: LineDecoder, chunks: list[bytes]) -> list[Item]:
    found: list[Item] = []
    for chunk in chunks:
        found.extend(decoder.feed(chunk))
        assert decoder.buffered <= decoder.limit
    return found


def cut(data: bytes, places: list[int]) -> list[bytes]:
    marks = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[start:end] for start, end in pairwise(marks) if end > start]


class FuzzTests(SynchronousTestCase):
    @settings(max_examples=500, deadline=None)
    @given(streams)
    def test_any_bytes(self, data: bytes) -> None:
        for item in read(LineDecoder(LIMIT), [data] if data else []):
            if isinstance(item, Message):
                self.assertIsInstance(item.type, str)
                jsontext.encode(item.payload)
            else:
                self.assertIsInstance(item, Malformed)
                self.assertTrue(item.text)
                codec.error_line(item.text)

    @settings(max_examples=500, deadline=None)
    @given(streams, st.lists(st.integers(0, 1000), max_size=12))
    def test_any_chunking(self, data: bytes, places: list[int]) -> None:
        whole = read(LineDecoder(LIMIT), [data] if data else [])
        self.assertEqual(read(LineDecoder(LIMIT), cut(data, places)), whole)

    @settings(max_examples=100, deadline=None)
    @given(streams)
    def test_byte_by_byte(self, data: bytes) -> None:
        whole = read(LineDecoder(LIMIT), [data] if data else [])
        self.assertEqual(read(LineDecoder(LIMIT), [data[at : at + 1] for at in range(len(data))]), whole)

    @settings(max_examples=300, deadline=None)
    @given(st.dictionaries(st.text(max_size=10), values, max_size=5))
    def test_commands_round_trip(self, payload: dict[str, object]) -> None:
        try:
            line = codec.command_line("id", payload)
        except ValueError:
            self.fail(f"cannot write {payload}")
        self.assertTrue(line.isascii())
        self.assertEqual(json.loads(line)["payload"], payload)
