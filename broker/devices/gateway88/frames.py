"""0x88 frames <-> bytes, sans-IO: the stream, its limits, and finding the next frame when the sender or we lost it.

::

     0        4           8    9        15   16          16+n   17+n
     | magic  | PacketLen | ver | MAC    | id | DATA (n)  | st  | xor |
     88888888   u32 BE      02   6 B BE    u8   container   u8    u8             (document, "包格式")

PacketLen = 10 + n, from Version to Checksum; the frame has 18 + n bytes; xor is that of all bytes before it.

The law of this file:

* Three outcomes: a `Frame`, need more, or `Damage` (bytes that are no frame). Any other exception is a bug here.
* The general acknowledgement comes in four layouts, as its line in the document fits none of the others::

      A  88888888 0000000a 02 MAC id    00 xor       the frame with empty DATA; this one we send
      B  88888888          02 MAC 00 id 00 00 xor    the line as it stands, without PacketLen: 16 bytes
      C  88888888 0000000c 02 MAC 00 id 00 00 xor    the line with PacketLen
      D  88888888 0000000b 02 MAC id 00 00 xor       the frame with one zero byte of DATA

  All four come out as a `Frame` with empty DATA. B is known by the version where PacketLen's top byte has to be 00.
* What comes out does not depend on how the bytes were cut into chunks.
* Out of step, the next magic is looked for; in a run of 88 bytes the frame begins four bytes before the first other
  one. A frame with a wrong checksum is passed over if a magic follows where it ends, else only its beginning is: its
  length may be what is wrong. That look needs the bytes behind it, so the damage is told when they come.
* No more than ``limit`` bytes of a frame are kept, and at most four of what is none.

What it does not do: look at version and MAC (`conversation`), decode DATA (`container`), answer, count, close.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from struct import Struct
from typing import Final, Literal, TypeAlias

MAGIC: Final = b"\x88\x88\x88\x88"
VERSION: Final = 2
OK: Final = 0
FAILED: Final = 1

#: Bytes of a frame besides DATA.
OVERHEAD: Final = 18
#: PacketLen of a frame without DATA.
_LEAST: Final = OVERHEAD - 8
#: Where DATA begins.
_DATA: Final = 16
#: Bytes of layout B, and where its zeros are.
_BARE: Final = 16

_HEAD: Final = Struct(">4xIB6sB")
_WRITE: Final = Struct(">4sIB6sB")

#: Numbers of more bits are cut in half while they are folded.
_CUT: Final = 4_096
_RUN: Final = re.compile(rb"\x88{4,}")

#: unframed: not the beginning of a frame; absurd: a length that no frame has; checksum: it does not fit;
#: incomplete: given up.
Kind: TypeAlias = Literal["unframed", "absurd", "checksum", "incomplete"]


class Frame:
    """One frame. ``data`` is empty for every layout of the general acknowledgement; ``raw`` is the whole of it."""

    __slots__ = ("data", "id", "mac", "raw", "status", "version")

    def __init__(self, version: int, mac: bytes, id: int, data: bytes, status: int, raw: bytes) -> None:
        self.version = version
        self.mac = mac
        self.id = id
        self.data = data
        self.status = status
        self.raw = raw

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Frame) and self.raw == other.raw

    def __hash__(self) -> int:
        return hash(self.raw)

    def __repr__(self) -> str:
        return f"<Frame {self.id} of {self.mac.hex()}: {len(self.data)} bytes, status {self.status}>"


class Damage:
    """Bytes that are no frame. ``size``: how many were looked through to know it, where that is worth counting."""

    __slots__ = ("kind", "size")

    def __init__(self, kind: Kind, size: int = 0) -> None:
        self.kind: Final = kind
        self.size: Final = size

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Damage) and (self.kind, self.size) == (other.kind, other.size)

    def __hash__(self) -> int:
        return hash((self.kind, self.size))

    def __repr__(self) -> str:
        return f"<Damage: {self.kind}>"


Item: TypeAlias = Frame | Damage


class FrameDecoder:
    """Bytes in, frames out. ``limit`` is in bytes of a whole frame; it may be changed at any time.

    ``checksum_without_length``: for senders that leave PacketLen out of the checksum.
    """

    __slots__ = ("_lost", "_need", "_tail", "checksum_without_length", "limit", "noise")

    def __init__(self, limit: int, checksum_without_length: bool = False) -> None:
        self.limit = limit
        self.checksum_without_length = checksum_without_length
        #: Bytes passed over since the last frame.
        self.noise = 0
        #: What has begun, and how much there has to be before it is worth looking at again.
        self._tail = bytearray()
        self._need = 0
        #: Out of step, which was told once.
        self._lost = False

    @property
    def buffered(self) -> int:
        """Bytes kept of what is not complete."""
        return len(self._tail)

    def feed(self, data: bytes) -> Iterator[Item]:
        """The frames that ``data`` completes. To be read to its end before the next `feed`, or never again."""
        tail = self._tail
        if tail:
            tail += data
            if len(tail) < self._need:
                return iter(())
            data = bytes(tail)
        elif len(data) <= self.limit and len(data) == 8 + int.from_bytes(data[4:8], "big") and data[:4] == MAGIC:
            # Exactly one frame, as it comes from a gateway that waits for its answers.
            frame = self._frame(data) if len(data) >= OVERHEAD else None
            if frame is not None:
                self._lost = False
                self.noise = 0
                return iter((frame,))
        return self._read(data, 0)

    def give_up(self) -> Iterator[Item]:
        """What has begun is not completed: look for the next frame behind its beginning.

        For whoever watches the time. The length of a damaged frame may ask for more than will ever come.
        """
        data = bytes(self._tail)
        if not data:
            return iter(())
        self.noise += 1
        self._lost = True
        return self._read(data, 1, Damage("incomplete"))

    def _read(self, data: bytes, offset: int, first: Damage | None = None) -> Iterator[Item]:
        if first is not None:
            yield first
        size = len(data)
        need = 0
        while offset < size:
            found, end = self._look(data, offset, size)
            if found is None:
                need = end - offset
                break
            if isinstance(found, Frame):
                self._lost = False
                self.noise = 0
                offset = end
                yield found
                continue
            told = not self._lost or found.kind == "checksum"
            if found.kind == "checksum" and data.startswith(MAGIC, end):
                self._lost = False
            else:
                self._lost = True
                end = _next_start(data, offset + 1)
            self.noise += end - offset
            offset = end
            if told:
                yield found
        self._need = need
        self._tail = bytearray(data[offset:])

    def _look(self, data: bytes, offset: int, size: int) -> tuple[Item | None, int]:
        """What begins at ``offset`` and where it ends; None if that needs bytes up to there at least."""
        if size - offset < 5:
            if MAGIC.startswith(data[offset : offset + 4]):
                return None, offset + 5
            return Damage("unframed"), offset
        if not data.startswith(MAGIC, offset):
            return Damage("unframed"), offset
        top = data[offset + 4]
        if top == VERSION:
            end = offset + _BARE
            if end > size:
                return None, end
            return _bare_ack(data[offset:end]) or Damage("absurd"), end
        if top:
            return Damage("unframed" if top == MAGIC[0] else "absurd"), offset
        if size - offset < 8:
            return None, offset + 8
        length = int.from_bytes(data[offset + 4 : offset + 8], "big")
        end = offset + 8 + length
        if length < _LEAST or 8 + length > self.limit:
            return Damage("absurd"), offset
        if end > size:
            return None, end
        frame = self._frame(data[offset:end])
        if frame is None and len(data) - end < 4 and MAGIC.startswith(data[end:]):
            return None, size + 1
        return frame or Damage("checksum", end - offset), end

    def _frame(self, raw: bytes) -> Frame | None:
        """A whole frame if its checksum fits."""
        checked = xor_of(raw)
        if self.checksum_without_length:
            checked ^= raw[4] ^ raw[5] ^ raw[6] ^ raw[7]
        if checked:
            return None
        _, version, mac, number = _HEAD.unpack_from(raw)
        data = raw[_DATA:-2]
        if len(data) <= 2:
            if data == b"\0":  # D
                data = b""
            elif not number and data[1:] == b"\0":  # C
                number, data = data[0], b""
        return Frame(version, mac, number, data, raw[-2], raw)


def _bare_ack(raw: bytes) -> Frame | None:
    """Layout B, or None."""
    if raw[11] or raw[13] or raw[14] > FAILED or xor_of(raw):
        return None
    return Frame(raw[4], raw[5:11], raw[12], b"", raw[14], raw)


def _next_start(data: bytes, offset: int) -> int:
    """Where from ``offset`` on the next frame may begin; the magic may not be complete."""
    run = _RUN.search(data, offset)
    if run is not None:
        return run.end() - 4
    end = len(data)
    for start in range(max(offset, end - 3), end):
        if MAGIC.startswith(data[start:]):
            return start
    return end


def xor_of(data: bytes) -> int:
    """All bytes of ``data``, exclusive-ored; 0 over a frame with a checksum that fits."""
    value = int.from_bytes(data, "little")
    bits = 4 << len(data).bit_length()
    while bits > _CUT:
        value = (value >> bits) ^ (value & ((1 << bits) - 1))
        bits >>= 1
    # What stays above is never looked at again; to cut it off would cost more than to carry it along.
    while bits >= 8:
        value ^= value >> bits
        bits >>= 1
    return value & 0xFF


class Acknowledger:
    """Writes general acknowledgements, layout A, for one gateway."""

    __slots__ = ("_checksum", "_head")

    def __init__(self, mac: bytes, checksum_without_length: bool = False) -> None:
        frame = encode_frame(mac, 0, checksum_without_length=checksum_without_length)
        self._head = frame[:-3]
        self._checksum = frame[-1]

    def __call__(self, id: int, status: int) -> bytes:
        return self._head + bytes((id, status, self._checksum ^ id ^ status))


def encode_frame(
    mac: bytes, id: int, data: bytes = b"", status: int = OK, checksum_without_length: bool = False
) -> bytes:
    """A frame. Without ``data`` it is the general acknowledgement in layout A."""
    length = _LEAST + len(data)
    frame = _WRITE.pack(MAGIC, length, VERSION, mac, id) + data + bytes((status,))
    checksum = xor_of(frame[8:] if checksum_without_length else frame)
    return frame + bytes((checksum,))
