"""DATA in every container, bombs, and JSON that is none."""

from __future__ import annotations

import gzip
import json
import zlib
from base64 import b64encode, encodebytes, urlsafe_b64encode
from io import BytesIO
from time import process_time
from typing import Any, Final
from zipfile import ZIP_BZIP2, ZIP_DEFLATED, ZIP_STORED, ZipFile

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from broker.devices.gateway88.container import (
    AS_WRITTEN,
    FLAVOURS,
    Flavour,
    TooLarge,
    Undecodable,
    decode,
    encode,
)
from broker.devices.gateway88.forgiving import MAX_TEXT, repaired
from broker.devices.gateway88.frames import Frame, FrameDecoder
from tests.devices.gateway88.vectors import HB, INFO, MESSAGES

LIMIT: Final = 100_000
TEXT: Final = json.dumps({**INFO, "名": "网关"}, ensure_ascii=False).encode()
VALUE: Final = json.loads(TEXT)


def raw_deflate(data: bytes, level: int = 6) -> bytes:
    stream = zlib.compressobj(level, wbits=-15)
    return stream.compress(data) + stream.flush()


def zipped(data: bytes, method: int = ZIP_DEFLATED) -> bytes:
    file = BytesIO()
    with ZipFile(file, "w", method) as archive:
        archive.writestr("数据.json", data)
        archive.writestr("second", b"{}")
    return file.getvalue()


def streamed_zip(data: bytes) -> bytes:
    """Sizes behind the content, as by somebody who cannot seek."""

    class Pipe(BytesIO):
        def seekable(self) -> bool:
            return False

        def tell(self) -> int:
            raise OSError

    file = Pipe()
    with ZipFile(file, "w", ZIP_DEFLATED) as archive:
        archive.writestr("x", data)
    return file.getvalue()


COMPRESSIONS: Final[dict[str, Any]] = {
    "zlib": zlib.compress,
    "gzip": gzip.compress,
    "deflate": raw_deflate,
    "pkzip": zipped,
}


class FlavourTests(SynchronousTestCase):
    def check(self, data: bytes, flavour: Flavour | None = None, value: Any = VALUE) -> None:
        content = decode(data, LIMIT)
        self.assertEqual((content.value, content.repaired), (value, False))
        if flavour is not None:
            self.assertEqual(content.flavour, flavour)

    def test_vectors(self) -> None:
        for raw, _, value, inner in MESSAGES:
            (frame,) = FrameDecoder(4_096).feed(raw)
            assert isinstance(frame, Frame)
            self.check(frame.data, Flavour(False, "zlib", inner), value)

    def test_everything_around_everything(self) -> None:
        for name, compress in COMPRESSIONS.items():
            for outer in (False, True):
                for inner in (False, True):
                    data = compress(b64encode(TEXT) if inner else TEXT)
                    self.check(b64encode(data) if outer else data, Flavour(outer, name, inner))  # type: ignore[arg-type]

    def test_no_compression(self) -> None:
        self.check(TEXT, FLAVOURS["json"])
        self.check(b64encode(TEXT), FLAVOURS["base64"])

    def test_what_is_written_is_read(self) -> None:
        self.assertEqual(AS_WRITTEN, Flavour(False, "zlib", True))
        for flavour in FLAVOURS.values():
            data = encode(VALUE, flavour)
            self.check(data, flavour)
            self.assertEqual(encode(VALUE, flavour), data)

    def test_base64_as_others_write_it(self) -> None:
        for data in (TEXT, zlib.compress(TEXT), raw_deflate(TEXT), gzip.compress(TEXT)):
            standard = b64encode(data)
            for text in (
                encodebytes(data),
                encodebytes(data).replace(b"\n", b"\r\n"),
                urlsafe_b64encode(data),
                standard.rstrip(b"="),
                urlsafe_b64encode(data).rstrip(b"="),
                standard + b"\0",
                b" " + standard + b"\r\n\0\0",
            ):
                self.check(text)
                self.check(zlib.compress(text) if data is TEXT else text)

    def test_blanks_zeros_and_byte_order_marks(self) -> None:
        bom = b"\xef\xbb\xbf"
        for text in (bom + TEXT, TEXT + b"\0", b"\r\n " + TEXT + b"\n\0\0", bom + b" " + TEXT):
            self.check(text)
            self.check(b64encode(text))
            for compress in COMPRESSIONS.values():
                self.check(compress(text))
                self.check(compress(b64encode(text)))
        self.check(zlib.compress(TEXT) + b"\0\0")

    def test_raw_deflate_that_looks_like_zlib(self) -> None:
        """Its first two bytes check as a zlib header."""
        for number in range(2_000):
            text = json.dumps({"type": "x" * (number % 7), "n": number}).encode()
            data = raw_deflate(text, number % 9 + 1)
            self.check(data, value=json.loads(text))
        # A block that is not last, whose unused bits make its first byte what zlib has there.
        plain = b'{"type":"hb"}'
        for low in range(32):
            head = bytes([low << 3]) + len(plain).to_bytes(2, "little") + (len(plain) ^ 0xFFFF).to_bytes(2, "little")
            self.check(head + plain + b"\3\0", value={"type": "hb"})

    def test_archives(self) -> None:
        self.check(zipped(TEXT, ZIP_STORED))
        self.check(streamed_zip(TEXT))
        self.check(zipped(TEXT)[:-30])  # the directory is missing
        for bad in (zipped(TEXT, ZIP_BZIP2), zipped(TEXT)[:60], zipped(TEXT, ZIP_STORED)[:60], b"PK\x03\x04"):
            self.assertRaises(Undecodable, decode, bad, LIMIT)
        locked = bytearray(zipped(TEXT))
        locked[6] |= 1
        self.assertRaises(Undecodable, decode, bytes(locked), LIMIT)


class RefusedTests(SynchronousTestCase):
    def test_nothing_that_is_no_object(self) -> None:
        bad = [b"", b"\0\0", b"[1]", b'"x"', b"12", b"null", b"{", b'{"a":"\xff"}', b"PK", b"x" * 50]
        for text in bad:
            for data in (text, b64encode(text), zlib.compress(text), raw_deflate(text), gzip.compress(text)):
                self.assertRaises(Undecodable, decode, data, LIMIT)

    def test_cut_off(self) -> None:
        for compress in (zlib.compress, gzip.compress, raw_deflate):
            whole = compress(TEXT)
            for cut in range(len(whole)):
                self.assertRaises(Undecodable, decode, whole[:cut], LIMIT)

    def test_something_behind_the_end(self) -> None:
        self.assertRaises(Undecodable, decode, zlib.compress(TEXT) + b"more", LIMIT)
        self.assertRaises(Undecodable, decode, gzip.compress(TEXT) * 2, LIMIT)

    def test_nested_too_deeply(self) -> None:
        for opening, closing in (("[", "]"), ('{"a":', "}")):
            text = ('{"a":' + opening * 50_000 + "1" + closing * 50_000 + "}").encode()
            self.assertRaises(Undecodable, decode, zlib.compress(text), 1_000_000)
            self.assertRaises(Undecodable, decode, zlib.compress(text[:40_000]), 1_000_000)

    def test_exactly_the_limit(self) -> None:
        text = b'{"a":"' + b"x" * (LIMIT - 8) + b'"}'
        for compress in COMPRESSIONS.values():
            self.assertEqual(decode(compress(text), LIMIT).size, LIMIT)
            self.assertRaises(TooLarge, decode, compress(text + b" "), LIMIT)
        self.assertRaises(TooLarge, decode, text + b" ", LIMIT)

    def test_bombs(self) -> None:
        """A megabyte that inflates to a gigabyte, which is as much as deflate can do, costs its limit and no more."""
        zeros = bytes(1 << 20)
        for wbits in (15, 31, -15):
            stream = zlib.compressobj(9, wbits=wbits)
            bomb = b"".join(stream.compress(zeros) for _ in range(1_000)) + stream.flush()
            self.assertGreater(len(bomb), 1_000_000)
            began = process_time()
            for data in (bomb, b64encode(bomb)):
                self.assertRaises(TooLarge, decode, data, 4_194_304)
            self.assertLess(process_time() - began, 2.0)

    def test_a_bomb_in_a_bomb(self) -> None:
        inner = b64encode(zlib.compress(bytes(50_000_000)))
        self.assertRaises(Undecodable, decode, zlib.compress(inner), LIMIT)


class AnyDataTests(SynchronousTestCase):
    @given(st.binary(max_size=300))
    def test_any_bytes(self, data: bytes) -> None:
        for given_data in (data, zlib.compress(data), b64encode(data), raw_deflate(data), b"PK\x03\x04" + data):
            try:
                decode(given_data, 1_000)
            except Undecodable:
                continue

    @given(st.sampled_from(list(COMPRESSIONS)), st.integers(0, 400), st.integers(0, 255))
    def test_a_byte_changed(self, name: str, at: int, byte: int) -> None:
        data = bytearray(COMPRESSIONS[name](b64encode(TEXT)))
        data[at % len(data)] = byte
        try:
            content = decode(bytes(data), LIMIT)
        except Undecodable:
            return
        self.assertIsInstance(content.value, dict)

    @given(
        st.dictionaries(
            st.text(max_size=5),
            st.recursive(
                st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
                lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
            ),
        ),
        st.sampled_from(list(FLAVOURS.values())),
    )
    def test_there_and_back(self, value: dict[str, Any], flavour: Flavour) -> None:
        content = decode(encode(value, flavour), LIMIT)
        self.assertEqual((content.value, content.flavour, content.repaired), (value, flavour, False))


#: What the document prints, and what devices make of it.
MENDED: Final[tuple[tuple[str, Any], ...]] = (
    (
        '{"type":"hb"," hb ":{"totalram":"1","freedisk":"2",}}',
        {"type": "hb", " hb ": {"totalram": "1", "freedisk": "2"}},
    ),
    (
        '{"type":"firmware_update","firmware_update":{\n"version":"x.y.z"\n"firmware_url":"https://a"\n"firmware_md5":"b"\n}}',
        {
            "type": "firmware_update",
            "firmware_update": {"version": "x.y.z", "firmware_url": "https://a", "firmware_md5": "b"},
        },
    ),
    ('{"type":"datafile_recovery" "datafile_recovery":{}}', {"type": "datafile_recovery", "datafile_recovery": {}}),
    (
        "{type: 'hb', hb: {a: 1, b: [1, 2,], c: true d: null}}",
        {"type": "hb", "hb": {"a": 1, "b": [1, 2], "c": True, "d": None}},
    ),
    ("{'a': 'it\\'s \"x\"'}", {"a": 'it\'s "x"'}),
    ('{"a": "two\nlines\tand a tab"}', {"a": "two\nlines\tand a tab"}),
    ("{a: ok, 1: -2.5e3, true: x_y-z}", {"a": "ok", "1": -2500.0, "true": "x_y-z"}),
    ("{a: 007, b: NaN}", {"a": "007", "b": "NaN"}),
    ("{a:[[1 2][3,],{b:1},]}", {"a": [[1, 2], [3], {"b": 1}]}),
    ("{名: 网关}", {"名": "网关"}),
)
HOPELESS: Final = (
    "{", "}", "{]", "[}", "{a}", "{a:}", "{:1}", "{,}", "{a:1}{b:2}", "{a:1}x", '{"a":"', "{'a", "{{}:1}", "{a::1}",
    "{a b:1}", "{a:1]}", '{"a":"\\x"}', "", "a:1",
)  # fmt: skip


class ForgivingTests(SynchronousTestCase):
    def test_mended(self) -> None:
        for text, value in MENDED:
            content = decode(zlib.compress(text.encode()), LIMIT)
            self.assertEqual((content.value, content.repaired), (value, True), text)

    def test_good_json_is_left_alone(self) -> None:
        for value in (HB, INFO, {"a": [1, {"b": [[], {}]}, "\\\"'\u0000", -1.5e-7]}):
            text = json.dumps(value).encode()
            self.assertEqual(json.loads(repaired(text)), value)
            self.assertFalse(decode(text, LIMIT).repaired)

    def test_hopeless(self) -> None:
        for text in HOPELESS:
            self.assertRaises(Undecodable, decode, text.encode() or b" ", LIMIT)

    def test_long_texts_are_not_mended(self) -> None:
        filler = "x" * (MAX_TEXT - 9)
        self.assertTrue(decode(f'{{"a":"{filler}",}}'.encode(), LIMIT).repaired)
        self.assertRaises(Undecodable, decode, f'{{"a":"{filler}x",}}'.encode(), LIMIT)

    def test_it_takes_no_longer_than_it_has_to(self) -> None:
        for text in (
            "[" * MAX_TEXT,
            "{a:" * (MAX_TEXT // 3),
            '{"' + "\\" * (MAX_TEXT - 2),
            "{a:" + "'x' " * 16_000,
            " " * MAX_TEXT,
        ):
            began = process_time()
            self.assertRaises(Undecodable, decode, b"{" + text.encode()[1:], LIMIT)
            self.assertLess(process_time() - began, 2.0)

    @given(st.text(alphabet="{}[]:,\"'\\ab1 \n", max_size=40))
    def test_any_text(self, text: str) -> None:
        try:
            value = json.loads(repaired(text.encode()))
        except ValueError:
            return
        try:
            self.assertEqual(value, json.loads(text))
        except ValueError:
            return
