"""LoRaCenter messages as bytes: what clients in the field send, what the document prints, what nobody should send."""

from __future__ import annotations

import json
from base64 import b64encode

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from broker.applications.loracenter import challenge, codec
from broker.applications.loracenter.codec import FrameDecoder, Malformed, parse


class FrameTests(SynchronousTestCase):
    def test_one_or_several_nuls(self) -> None:
        decoder = FrameDecoder(100)
        self.assertEqual(list(decoder.feed(b"\0{}\0\0\0[]\0{")), [b"{}", b"[]"])
        self.assertEqual((decoder.keep_alives, decoder.buffered), (3, 1))
        self.assertEqual(list(decoder.feed(b"}\0")), [b"{}"])

    @given(st.lists(st.binary(min_size=1, max_size=20).filter(lambda frame: b"\0" not in frame)), st.data())
    def test_cut_anywhere(self, frames: list[bytes], data: st.DataObject) -> None:
        stream = b"".join(frame + b"\0" for frame in frames)
        decoder = FrameDecoder(20)
        found: list[bytes] = []
        while stream:
            size = data.draw(st.integers(1, len(stream)))
            found += decoder.feed(stream[:size])
            stream = stream[size:]
        self.assertEqual(found, frames)

    def test_too_long(self) -> None:
        for stream in (b"x" * 11, b"x" * 11 + b"\0"):
            with self.assertRaises(Malformed) as caught:
                list(FrameDecoder(10).feed(stream))
            self.assertEqual(caught.exception.reason, "too_long")
        self.assertEqual(list(FrameDecoder(10).feed(b"x" * 10 + b"\0")), [b"x" * 10])

    def test_a_frame_that_grows_too_long(self) -> None:
        decoder = FrameDecoder(10)
        self.assertEqual(list(decoder.feed(b"x" * 6)), [])
        self.assertRaises(Malformed, list, decoder.feed(b"x" * 6))


class ParseTests(SynchronousTestCase):
    def test_the_documents_spelling(self) -> None:
        request = parse(b'{ "CMD": " CLEARQ ", "CsEUI": "AA555A0000000000", "Token ": 2, " DevEUI": "AA", }')
        assert request is not None
        self.assertEqual((request.cmd, request.token), ("CLEARQ", 2))
        self.assertEqual((request.get("cseui"), request.get("deveui")), ("AA555A0000000000", "AA"))

    def test_a_spare_comma_in_a_text_stays(self) -> None:
        request = parse(b'{"CMD":"SENDTO","x":"a,}\\",]",}')
        assert request is not None
        self.assertEqual(request.get("x"), 'a,}",]')

    def test_keep_alives_of_old_clients(self) -> None:
        for frame in (b"1", b" ", b"\r\n", b"42"):
            self.assertIsNone(parse(frame))

    def test_no_object(self) -> None:
        for frame in (
            b"[]",
            b"x",
            b'"a"',
            b"{",
            b"null",
            b"1.5",
            b"\xff",
            b"[" * 100_000,
            b'{"a":NaN}',
            b",}",
            b"1" * 11,
        ):
            self.assertRaises(Malformed, parse, frame)

    def test_tokens(self) -> None:
        for sent, echoed in (
            ("5", 5),
            ("4294967295", 4294967295),
            ("4294967296", 0),
            ("-1", 0),
            ("1.5", 0),
            ("true", 0),
            ("null", 0),
            ('"7"', "7"),
            ('"}"', 0),
            ("[1]", 0),
        ):
            request = parse(b'{"Token":%b}' % sent.encode())
            assert request is not None
            self.assertEqual((request.cmd, request.token), ("", echoed), sent)

    @given(st.binary(max_size=200))
    def test_anything(self, frame: bytes) -> None:
        try:
            parse(frame)
        except Malformed:
            pass


class FieldTests(SynchronousTestCase):
    def test_euis(self) -> None:
        for sent, read in (
            ("AA555A0000000000", "AA555A0000000000"),
            (" 424701000000abce ", "424701000000ABCE"),
            ("0x52100000000001", "0052100000000001"),
            ("1234068", "0000000001234068"),
            ("", None),
            ("0x", None),
            ("AA555A00000000001", None),
            ("G", None),
            (1234068, None),
            (None, None),
        ):
            self.assertEqual(codec.eui(sent), read, repr(sent))

    def test_payloads(self) -> None:
        example = bytes.fromhex("A8130 30C0002CC16".replace(" ", ""))
        for sent in ("qBMDDAACzBY=", "qBMDDAACzBY", "qBMD\r\nDAACzBY="):
            self.assertEqual(codec.payload(sent), example)
        # The document's other example has 27 characters: without padding, and with D2 where its text prints 3A.
        data = codec.payload("qJMPDAAC7u7u7u7u0gAHHwQSYhY")
        assert data is not None
        self.assertEqual(data.hex(), "a8930f0c0002eeeeeeeeeeeed200071f04126216")
        self.assertEqual(codec.payload(""), b"")
        wrong: tuple[object, ...] = ("qBMD.AAC", "qBMD-_AC", "a", "abcde", "=", "ab=c", "é", 5, None, ["qBM="])
        for value in wrong:
            self.assertIsNone(codec.payload(value) or None, repr(value))

    @given(st.binary())
    def test_any_payload(self, data: bytes) -> None:
        text = b64encode(data).decode()
        self.assertEqual((codec.payload(text), codec.payload(text.rstrip("="))), (data, data))

    def test_integers(self) -> None:
        cases: tuple[tuple[object, int | None], ...] = (
            (231, 231),
            ("231", 231),
            (0, None),
            (256, None),
            (1.0, None),
            (True, None),
            ("x", None),
        )
        for sent, read in cases:
            self.assertEqual(codec.integer(sent, 1, 255), read, repr(sent))

    def test_flags(self) -> None:
        self.assertEqual([codec.flag(sent) for sent in (True, 1, "true", " TRUE ")], [True] * 4)
        others: tuple[object, ...] = (False, 0, "false", None, [], 2)
        self.assertEqual([codec.flag(sent) for sent in others], [False] * 6)


class WriteTests(SynchronousTestCase):
    def test_answers_have_the_documents_order(self) -> None:
        self.assertEqual(
            codec.answer(
                2, "SENDTO", 5, "SENDED TO GW", "AA555A0000000000", "AA00000000000001", TXGW="0052100000000001"
            ),
            b'{"CODE":2,"CsEUI":"AA555A0000000000","DevEUI":"AA00000000000001","CMD":"SENDTO","Token":5,'
            b'"TXGW":"0052100000000001","MSG":"SENDED TO GW"}\0',
        )
        self.assertEqual(
            codec.answer(1, "CSREG", 1, "CSREG ACCEPT", "AA555A0000000000"),
            b'{"CODE":1,"CsEUI":"AA555A0000000000","CMD":"CSREG","Token":1,"MSG":"CSREG ACCEPT"}\0',
        )
        self.assertEqual(
            list(json.loads(codec.answer(1, "GWCOMSEND", 2, "GWCOMUPLOAD", "A", "B", "C", payload="eA==")[:-1])),
            ["CODE", "CsEUI", "AppEUI", "DevEUI", "CMD", "Token", "MSG", "payload"],
        )

    def test_uploads(self) -> None:
        frame = codec.upload("AA555A0000000000", 111, "AA00000000000001", b"\xa8\x93", 231)
        self.assertEqual(
            frame,
            b'{"CODE":1,"CsEUI":"AA555A0000000000","Token":111,"CMD":"UPLOAD","MSG":"UPLOAD",'
            b'"DevEUI":"AA00000000000001","payload":"qJM=","Port":231}\0',
        )
        self.assertEqual(json.loads(codec.upload("A", 1, "B", b"", 1)[:-1])["payload"], "")

    def test_indications_are_flat_and_ascii(self) -> None:
        for frame in (
            codec.mote_join("A", 1, "B"),
            codec.signal_quality("A", 1, "B", "UP", "C", -108, 9.3, -100),
            codec.gateway_state(1, "A", "OFFLIN"),
        ):
            self.assertEqual((frame.count(b"{"), frame.count(b"}"), frame[-1:]), (1, 1, b"\0"))
            self.assertTrue(frame.isascii())
        self.assertNotIn(b"Bgnoise", codec.signal_quality("A", 1, "B", "UP", "C", -108, 9.3, -100))
        self.assertIn(b'"Bgnoise":-100', codec.signal_quality("A", 1, "B", "DOWN", "C", None, 9.3, -100))


KEY = bytes.fromhex("00112233445566778899AABBCCDDEEFF")
VECTORS = (
    ("AA555A0000000000", 1234, "C3E8BB4BD4F3EFC00F18D9786663A63C"),
    ("F1F2F3F4F5F6F7F8", 1234, "9B2AD1AEE74F2C56CDEC7F32971FDB84"),
    ("AA555A0000000000", 4294967295, "F3F9765F30C3BD97A14290406B6CC050"),
    ("0042475858FFFFFF", 1234, "74BB12DAF9E44674F6590CF58661FFD0"),
    ("2C26C50065650041", 2112283883, "EEF0621D59E598BCADCB63270D6FC033"),
    ("AA555A0000000000", 6, "682E97DB75CCB89E20D979EC7354460E"),
    ("AA555A0000000000", 371, "2CE03F4AFDFB5351DE6BBC32053B5A00"),
    ("AA555A0000000000", 497, "00FBA16F2825FC2FF92C033FBC260784"),
)
#: Nonce little-endian, EUI reversed, without zeros behind, EUI as text.
WRONG = (
    "6B97AA5602674BD6E6C5F76DB2C3F51F",
    "6F1E545B6E89E386006EA1DEBFBFF3D4",
    "91C88290C7595B06265C060C2E3138F6",
    "28B34EAC0B43FC280E20F65698A3DC6C",
)


class ChallengeTests(SynchronousTestCase):
    def test_both_orders_with_and_without_leading_zeros(self) -> None:
        for cs_eui, nonce, text in VECTORS:
            self.assertEqual(challenge.tag(KEY, cs_eui, nonce).hex().upper(), text)
            backwards = bytes.fromhex(text)[::-1].hex().upper()
            for form in (text, text.lower(), f" 0x{text} ", text.lstrip("0"), backwards, backwards.lstrip("0")):
                sent = codec.challenge(form)
                assert sent is not None
                self.assertTrue(challenge.proves(sent, KEY, cs_eui, nonce), form)

    def test_wrong_readings(self) -> None:
        for text in (*WRONG, "0", "F" * 32):
            sent = codec.challenge(text)
            assert sent is not None
            self.assertFalse(challenge.proves(sent, KEY, "AA555A0000000000", 1234), text)

    def test_no_number(self) -> None:
        for sent in ("", "x", "F" * 33, 5, None, "ABCDEFGH"):
            self.assertIsNone(codec.challenge(sent), repr(sent))
