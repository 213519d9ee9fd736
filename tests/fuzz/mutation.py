"""Inputs that are nearly right: mutations of what is in the corpus. Everything follows from the seed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random
from typing import Final

from tests.fuzz.listeners import CUT, WAIT

#: What has broken parsers before.
WORDS: Final = (
    *(b"\x00", b"\xff", b"\x7f", b"\x80", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\x80\x80\x80\x01"),
    *(b"\r\n", b"\n", b"\0", b"{", b"}", b"[" * 200, b'"', b"\\u0000", b"\\ud800", b"null", b"1e999", b"-1", b"9" * 40),
    *(b"NaN", b"\xc3\x28", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"%00", b"../", b"--", b": ", b"chunked", CUT, WAIT),
)
#: Bytes of an input at most.
LONGEST: Final = 16_384
_NUMBER: Final = re.compile(rb"-?\d+")
#: A value, or a name, in JSON; a value in a query or a form.
_VALUE: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|(?<==)[^&\s"]+|\b(?:true|false|null)\b')
VALUES: Final = (
    *(b"null", b"true", b"[]", b"{}", b'""', b'["a"]', b'{"a":{"b":[1]}}', b"-1", b"0.5", b"1e308", b"1e999", b"nan"),
    *(
        b'"%s"' % (b"x" * 300),
        b'"\\ud800"',
        b'"\\u0000"',
        b'"\xc3\xa9\xe2\x82\xac"',
        b'"a/b"',
        b"%ff",
        b"%ed%a0%80",
        b"9" * 400,
    ),
)


def mutated(random: Random, known: Sequence[bytes]) -> bytes:
    """An input made of one or two that are known."""
    data = bytearray(random.choice(known))
    for _ in range(1 + int(random.expovariate(0.5))):
        _STEPS[random.randrange(len(_STEPS))](random, data, known)
    return bytes(data[:LONGEST])


def _flip(random: Random, data: bytearray, known: Sequence[bytes]) -> None:
    if data:
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def _set(random: Random, data: bytearray, known: Sequence[bytes]) -> None:
    if data:
        data[random.randrange(len(data))] = random.choice((0, 1, 0x7F, 0x80, 0xFF, random.randrange(256)))


def _cut(random: Random, data: bytearray, known: Sequence[bytes]) -> None:
    if data:
        begin = random.randrange(len(data))
        del data[begin : begin + random.randrange(1, max(2, len(data) // 4))]


def _double(random: Random, data: bytearray, known: Sequence[bytes]) -> None:
    if data:
        begin = random.randrange(len(data))
        data[begin:begin] = data[begin : begin + random.randrange(1, 64)] * random.choice((1, 1, 2, 50))


def _insert(random: Random, data: bytearray, known: Sequence[bytes]) -> None:
    at = random.randrange(len(data) + 1)
    data[at:at] = random.choice(WORDS)


def _replace(random: Random, data: bytearray, known: Sequence[bytes]) -> None:
    if data:
        word = random.choice(WORDS)
        at = random.randrange(len(data))
        data[at : at + len(word)] = word


def _splice(random: Random, data: bytearray, known: Sequence[bytes]) -> None:
    other = random.choice(known)
    at, begin = random.randrange(len(data) + 1), random.randrange(len(other) + 1)
    data[at:] = other[begin:]


def _noise(random: Random, data: bytearray, known: Sequence[bytes]) -> None:
    at = random.randrange(len(data) + 1)
    data[at:at] = random.randbytes(random.randrange(1, 32))


def _number(random: Random, data: bytearray, known: Sequence[bytes]) -> None:
    """Another number in the place of one in a text."""
    found = list(_NUMBER.finditer(bytes(data[:LONGEST])))
    if found:
        one = random.choice(found)
        data[one.start() : one.end()] = b"%d" % random.choice((0, -1, 1 << 31, 1 << 63, 1 << 64, 10**30, 65_536))


def _value(random: Random, data: bytearray, known: Sequence[bytes]) -> None:
    """Another value, of another type, in the place of one."""
    found = list(_VALUE.finditer(bytes(data[:LONGEST])))
    if found:
        one = random.choice(found)
        data[one.start() : one.end()] = random.choice(VALUES)


_STEPS: Final = (_flip, _set, _cut, _double, _insert, _replace, _splice, _noise, _number, _value)
