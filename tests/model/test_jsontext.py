"""JSON text: whatever comes in, the answer is a value or a ValueError, and what was read can be written."""

import json
from collections.abc import Callable
from typing import TypeVar

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from broker.model.jsontext import MAX_DEPTH, decode, decode_object, encode

T = TypeVar("T")

REFUSED = (
    b"",
    b" ",
    b"{",
    b'{"a":}',
    b"01",
    b"1.",
    b"+1",
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b'{"a":NaN}',
    b"1e999",
    b"nul",
    b"'a'",
    b'"a\nb"',
    b'"\\ud800"',
    b'"\\udc00\\ud800"',
    b'"\xff"',
    b"\xff",
    b"\xef\xbb\xbf{}",
    b"{} {}",
    b"[1,]",
    b'{"a":1,}',
    b"[" * 100_000,
    b"[" * 100_000 + b"]" * 100_000,
    b'{"a":' * 100_000,
    b"1" * 5000,
)


def deep(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


def further_down(frames: int, call: Callable[[], T]) -> T:
    return further_down(frames - 1, call) if frames else call()


class DecodeTests(SynchronousTestCase):
    def test_refused_with_a_value_error(self) -> None:
        for text in REFUSED:
            with self.assertRaises(ValueError, msg=repr(text[:40])):
                decode(text)

    def test_text_with_a_lone_surrogate(self) -> None:
        with self.assertRaises(ValueError):
            decode('"\ud800"')

    def test_the_last_of_two_keys_wins(self) -> None:
        self.assertEqual(decode(b'{"a":1,"b":2,"a":3}'), {"a": 3, "b": 2})

    def test_integers_keep_every_digit(self) -> None:
        for number in (2**53 + 1, 2**63, 2**64, -(2**63) - 1, 10**40):
            self.assertEqual(decode(encode(number)), number)

    def test_depth(self) -> None:
        for text in (deep(MAX_DEPTH), b'{"a":' * MAX_DEPTH + b"1" + b"}" * MAX_DEPTH, deep(MAX_DEPTH).decode()):
            decode(text)
        for text in (deep(MAX_DEPTH + 1), b'{"a":' + deep(MAX_DEPTH) + b"}", deep(MAX_DEPTH + 1).decode()):
            with self.assertRaisesRegex(ValueError, "too deeply"):
                decode(text)

    def test_brackets_that_are_not_depth(self) -> None:
        self.assertEqual(decode(b'["' + b"[{" * 500 + b'"]'), ["[{" * 500])
        self.assertEqual(len(decode(b"[" + b",".join([b"[]"] * 500) + b"]")), 500)

    def test_what_was_read_can_be_written_further_down(self) -> None:
        value = decode(deep(MAX_DEPTH))
        self.assertEqual(further_down(500, lambda: encode(value)), deep(MAX_DEPTH))

    def test_object(self) -> None:
        self.assertEqual(decode_object(b'{"a":1}'), {"a": 1})
        for text in (b"[]", b"1", b'"a"', b"null", b"{", b"[" * 100_000):
            with self.assertRaises(ValueError):
                decode_object(text)

    @given(st.binary(max_size=100))
    def test_any_bytes(self, text: bytes) -> None:
        try:
            value = decode(text)
        except ValueError:
            return
        self.assertEqual(decode(encode(value)), value)

    @given(st.text(alphabet='[]{}",:1e-. nulltruefalse\\ud8', max_size=60))
    def test_almost_json(self, text: str) -> None:
        try:
            value = decode(text)
        except ValueError:
            return
        self.assertEqual(json.loads(text), value)


class EncodeTests(SynchronousTestCase):
    def test_compact_utf8(self) -> None:
        self.assertEqual(encode({"a": [1, "é", None, True, 1.5]}), '{"a":[1,"é",null,true,1.5]}'.encode())

    def test_refused_with_a_value_error(self) -> None:
        endless: list[object] = []
        endless.append(endless)
        for value in (object(), {(1,): 2}, "\ud800", {"a": "\udfff"}, endless, {"a": endless}):
            with self.assertRaises(ValueError):
                encode(value)

    def test_what_is_no_number_is_null(self) -> None:
        self.assertEqual(encode([float("nan"), float("inf"), -float("inf")]), b"[null,null,null]")
