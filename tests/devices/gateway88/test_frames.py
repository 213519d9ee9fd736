"""The stream of frames: settled bytes, every way of cutting, damage of every kind."""

from __future__ import annotations

from functools import reduce
from operator import xor
from typing import Final

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from broker.devices.gateway88.frames import MAGIC, Damage, Frame, FrameDecoder, Item, encode_frame, xor_of
from tests.devices.gateway88.vectors import (
    ACK_A,
    ACK_B,
    ACK_FAILED,
    ACKS,
    HB_FRAME,
    INFO_PLAIN,
    MAC,
    MESSAGES,
    REMOTE_CONTROL,
)

LIMIT: Final = 4_096


def read(data: bytes, *more: bytes, limit: int = LIMIT) -> list[Item]:
    decoder = FrameDecoder(limit)
    found: list[Item] = []
    for chunk in (data, *more):
        found.extend(decoder.feed(chunk))
    return found


def frames(found: list[Item]) -> list[bytes]:
    return [item.raw for item in found if isinstance(item, Frame)]


def damage(found: list[Item]) -> list[str]:
    return [item.kind for item in found if isinstance(item, Damage)]


#: A DATA with whole frames in it.
NESTED: Final = encode_frame(MAC, 7, HB_FRAME + MAGIC + ACK_A + b"\x88" * 9)
BROKEN: Final = HB_FRAME[:30] + bytes([HB_FRAME[30] ^ 1]) + HB_FRAME[31:]
#: A damaged length that asks for more than the frame has, and one for less.
LONGER: Final = HB_FRAME[:7] + bytes([HB_FRAME[7] + 9]) + HB_FRAME[8:]
SHORTER: Final = HB_FRAME[:7] + bytes([HB_FRAME[7] - 9]) + HB_FRAME[8:]
ABSURD: Final = MAGIC + b"\x7f\xff\xff\xff"
TOO_SHORT: Final = MAGIC + b"\0\0\0\x09"

#: Streams, the frames in them and the kinds of damage.
STREAMS: Final[tuple[tuple[bytes, list[bytes], list[str]], ...]] = (
    (HB_FRAME + ACK_A + INFO_PLAIN, [HB_FRAME, ACK_A, INFO_PLAIN], []),
    (ACK_B + HB_FRAME + ACK_B + ACK_B, [ACK_B, HB_FRAME, ACK_B, ACK_B], []),
    (b"".join(ACKS) * 2, [*ACKS, *ACKS], []),
    (NESTED + HB_FRAME, [NESTED, HB_FRAME], []),
    (b"garbage" + HB_FRAME, [HB_FRAME], ["unframed"]),
    (b"GET / HTTP/1.1\r\n\r\n" + HB_FRAME + b"?" + ACK_A, [HB_FRAME, ACK_A], ["unframed", "unframed"]),
    *((b"\x88" * run + HB_FRAME, [HB_FRAME], ["unframed"]) for run in range(1, 12)),
    (HB_FRAME + b"\x88\x88" + ACK_B, [HB_FRAME, ACK_B], ["unframed"]),
    (BROKEN + HB_FRAME, [HB_FRAME], ["checksum"]),
    (BROKEN + BROKEN + ACK_A, [ACK_A], ["checksum", "checksum"]),
    (SHORTER + HB_FRAME, [HB_FRAME], ["checksum"]),
    (LONGER + HB_FRAME + HB_FRAME, [HB_FRAME, HB_FRAME], ["checksum"]),
    (ABSURD + HB_FRAME, [HB_FRAME], ["absurd"]),
    (TOO_SHORT + HB_FRAME, [HB_FRAME], ["absurd"]),
    (ACK_B[:-1] + b"\x01" + HB_FRAME, [HB_FRAME], ["absurd"]),
    (encode_frame(MAC, 1, b"x" * LIMIT) + HB_FRAME, [HB_FRAME], ["absurd"]),
    (encode_frame(MAC, 1, b"x" * (LIMIT - 18)), [encode_frame(MAC, 1, b"x" * (LIMIT - 18))], []),
    (HB_FRAME[:40] + HB_FRAME + HB_FRAME, [HB_FRAME, HB_FRAME], ["checksum"]),
)


class VectorTests(SynchronousTestCase):
    def test_frames_with_data(self) -> None:
        for raw, number, _, _ in MESSAGES:
            (frame,) = read(raw)
            assert isinstance(frame, Frame)
            self.assertEqual((frame.version, frame.mac, frame.id, frame.status), (2, MAC, number, 0))
            self.assertEqual(encode_frame(frame.mac, frame.id, frame.data), raw)

    def test_every_layout_of_the_acknowledgement(self) -> None:
        for raw in ACKS:
            (frame,) = read(raw)
            assert isinstance(frame, Frame)
            self.assertEqual((frame.mac, frame.id, frame.data, frame.status, frame.raw), (MAC, 2, b"", 0, raw))

    def test_we_send_layout_a(self) -> None:
        self.assertEqual(encode_frame(MAC, 2), ACK_A)
        self.assertEqual(encode_frame(MAC, 2, b"", 1), ACK_FAILED)

    def test_a_failure_in_layout_b(self) -> None:
        body = ACK_B[:14] + b"\x01"
        (frame,) = read(body + bytes([xor_of(body)]))
        assert isinstance(frame, Frame)
        self.assertEqual((frame.id, frame.status), (2, 1))

    def test_the_checksum_without_the_length(self) -> None:
        raw = encode_frame(MAC, 2, b"data", checksum_without_length=True)
        self.assertEqual(raw[-1], reduce(xor, raw[8:-1]))
        decoder = FrameDecoder(LIMIT, checksum_without_length=True)
        self.assertEqual(frames(list(decoder.feed(raw + HB_FRAME + raw))), [raw, raw])
        self.assertEqual(frames(read(raw + HB_FRAME)), [HB_FRAME])


class StreamTests(SynchronousTestCase):
    def test_whole(self) -> None:
        for stream, wanted, kinds in STREAMS:
            found = read(stream)
            self.assertEqual((frames(found), damage(found)), (wanted, kinds), stream.hex())

    def test_byte_by_byte(self) -> None:
        for stream, wanted, kinds in STREAMS:
            found = read(b"", *(stream[at : at + 1] for at in range(len(stream))))
            self.assertEqual((frames(found), damage(found)), (wanted, kinds), stream.hex())

    def test_cut_at_every_byte(self) -> None:
        for stream, wanted, kinds in STREAMS:
            if len(stream) > 1_000:
                continue
            for cut in range(1, len(stream)):
                found = read(stream[:cut], stream[cut:])
                self.assertEqual((frames(found), damage(found)), (wanted, kinds), (cut, stream.hex()))

    def test_truncated_at_every_byte(self) -> None:
        for cut in range(len(HB_FRAME)):
            self.assertEqual(read(HB_FRAME[:cut]), [])

    def test_every_byte_changed(self) -> None:
        """No changed frame is taken, and the next ones are."""
        for at in range(len(HB_FRAME)):
            changed = bytearray(HB_FRAME)
            changed[at] ^= 0x41
            found = read(bytes(changed) + REMOTE_CONTROL * 300)
            self.assertEqual(set(frames(found)), {REMOTE_CONTROL}, at)
            self.assertGreater(len(frames(found)), 250, at)

    def test_what_is_kept_is_bounded(self) -> None:
        decoder = FrameDecoder(LIMIT)
        for chunk in (b"\x88" * 100_000, MAGIC + b"\0\0\x0f\0", b"x" * 100_000, MAGIC * 50_000):
            for start in range(0, len(chunk), 999):
                list(decoder.feed(chunk[start : start + 999]))
                self.assertLessEqual(decoder.buffered, LIMIT + 4)

    def test_noise_is_counted_until_a_frame_comes(self) -> None:
        decoder = FrameDecoder(LIMIT)
        list(decoder.feed(b"x" * 1_000))
        list(decoder.feed(b"y" * 1_000))
        self.assertEqual(decoder.noise, 2_000)
        list(decoder.feed(ACK_A))
        self.assertEqual(decoder.noise, 0)

    def test_a_frame_that_is_given_up(self) -> None:
        decoder = FrameDecoder(1 << 20)
        self.assertEqual(list(decoder.give_up()), [])
        lost = HB_FRAME[:5] + b"\x07" + HB_FRAME[6:]
        self.assertEqual(list(decoder.feed(lost + ACK_A + ACK_B)), [])
        found = list(decoder.give_up())
        self.assertEqual((frames(found), damage(found)), ([ACK_A, ACK_B], ["incomplete"]))
        self.assertEqual(frames(list(decoder.feed(HB_FRAME))), [HB_FRAME])

    def test_words_for_people(self) -> None:
        (frame,) = read(ACK_A)
        self.assertEqual(repr(frame), "<Frame 2 of 02123456789a: 0 bytes, status 0>")
        self.assertEqual(repr(Damage("absurd")), "<Damage: absurd>")


pieces = st.one_of(
    st.sampled_from([HB_FRAME, ACK_A, ACK_B, NESTED, BROKEN, LONGER, SHORTER, ABSURD, MAGIC, b"\x88", b"\0"]),
    st.binary(max_size=20),
    st.binary(max_size=30).map(lambda data: encode_frame(MAC, 1, data)),
)


class AnyStreamTests(SynchronousTestCase):
    @given(st.lists(pieces, max_size=8).map(b"".join), st.lists(st.integers(1, 60), min_size=1, max_size=20))
    def test_cuts_change_nothing(self, stream: bytes, sizes: list[int]) -> None:
        chunks, at = [], 0
        for number in range(len(stream)):
            if at >= len(stream):
                break
            size = sizes[number % len(sizes)]
            chunks.append(stream[at : at + size])
            at += size
        self.assertEqual(read(b"", *chunks), read(stream))

    @given(st.binary(max_size=1_000), st.integers(0, 255), st.integers(0, 1))
    def test_what_is_written_is_read(self, data: bytes, number: int, status: int) -> None:
        raw = encode_frame(MAC, number, data, status)
        self.assertEqual(frames(read(raw)), [raw])

    @given(st.binary(min_size=1, max_size=300))
    def test_the_checksum(self, data: bytes) -> None:
        self.assertEqual(xor_of(data), reduce(xor, data))
