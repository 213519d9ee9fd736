"""A product's data points: names and values for programs <-> the P0 bytes that a device of a standard product speaks.

::

    control    01 | flags | values       flags: a bit for each writable point, by id; values: of all writable points
    read       02
    status     03 | values               the answer to a read
    report     04 | values               of all points: writable, read-only, alerts, faults

The table is the list ``entities[0].attrs`` of the file that the Gizwits console exports for a product: each point's
``position`` is where it stands in ``values``. Integers are big-endian, and so are flags, and runs of bytes that hold
single bits (points of data type bool and enum of one ``type``): ``byte_offset`` counts such a run from its last byte.

A ``uint``'s value for programs is ``raw * ratio + addition``; an enum's is its text; a binary's is hexadecimal.

Nothing here knows of devices or frames. What programs give wrongly raises ValueError with a sentence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

#: Where the table of a device's product stands in `broker.routing.live.LiveDevice.bridges`, if it has one.
BRIDGE: Final = "gizwits_datapoints"

CONTROL: Final = 0x01
READ: Final = 0x02
STATUS: Final = 0x03
REPORT: Final = 0x04

MAX_POINTS: Final = 256
#: Bytes of values: a P0 message is small, and positions beyond this are a mistake.
MAX_VALUES: Final = 4096

_WIDTHS: Final = {"uint8": 1, "uint16": 2, "uint32": 4}
_ORDER: Final = ("status_writable", "status_readonly", "alert", "fault")

Name = Annotated[str, Meta(min_length=1, max_length=64)]
Offset = Annotated[int, Meta(ge=0, lt=MAX_VALUES)]


class BitPosition(msgspec.Struct, frozen=True):
    """Where a point stands."""

    #: Its byte among the values, from 0; of single bits counted from the end of the bytes that hold them.
    byte_offset: Offset
    #: What ``len`` counts: bit for bool and enum, byte for the others.
    unit: Literal["bit", "byte"]
    #: How long it is.
    len: Annotated[int, Meta(ge=1, le=MAX_VALUES)]
    #: Of bool and enum: its lowest bit in that byte, 0 to 7.
    bit_offset: Annotated[int, Meta(ge=0, le=7)] = 0


class UintSpec(msgspec.Struct, frozen=True):
    """How the number on the wire becomes the value: ``raw * ratio + addition``."""

    #: What the raw number is multiplied with; not 0.
    ratio: float = 1
    #: What is added to it then.
    addition: float = 0
    #: The least raw number that can be set.
    min: int = 0
    #: The greatest raw number that can be set.
    max: int = 0xFFFFFFFF


class DataPoint(msgspec.Struct, frozen=True, omit_defaults=True):
    """One point, as the Gizwits console exports it; what else stands there is for people."""

    #: Its name in commands, reports and last values; of no other point.
    name: Name
    #: What its bytes hold.
    data_type: Literal["bool", "enum", "uint8", "uint16", "uint32", "binary"]
    #: Where it stands among the values.
    position: BitPosition
    #: Whether it can be set, or is only reported, as a status, an alert or a fault.
    type: Literal["status_writable", "status_readonly", "alert", "fault"] = "status_readonly"
    #: Of one that can be set: its bit among the flags of a command; of no other such point.
    id: Annotated[int, Meta(ge=0, lt=MAX_POINTS)] = 0
    #: The texts of an enum, the first one for 0.
    enum: tuple[str, ...] = ()
    #: Of a number: how it becomes the value.
    uint_spec: UintSpec = UintSpec()

    @property
    def writable(self) -> bool:
        return self.type == "status_writable"

    @property
    def in_bits(self) -> bool:
        return self.data_type in ("bool", "enum")


class Table:
    """The points of one product. Raises ValueError for points that cannot be."""

    def __init__(self, points: Iterable[DataPoint]) -> None:
        self.points: Final = tuple(points)
        if len(self.points) > MAX_POINTS:
            raise ValueError(f"more than {MAX_POINTS} data points")
        for point in self.points:
            _check(point)
        self._by_name: Final = {point.name: point for point in self.points}
        if len(self._by_name) != len(self.points):
            raise ValueError("two data points have one name")
        self._writable: Final = [point for point in self.points if point.writable]
        if len({point.id for point in self._writable}) != len(self._writable):
            raise ValueError("two writable data points have one id")
        #: point -> (first byte, bytes) of the run of bits that it stands in
        self._runs: Final = _runs(self.points)
        self._flag_bytes: Final = (max((point.id for point in self._writable), default=-1) + 8) // 8
        self._value_bytes: Final = max((_end(point) for point in self._writable), default=0)

    def control(self, attrs: Mapping[str, Any]) -> bytes:
        """The P0 message that sets these. Raises ValueError."""
        if not attrs:
            raise ValueError("no data point is named")
        flags = 0
        values = bytearray(self._value_bytes)
        for name, value in attrs.items():
            point = self._by_name.get(name)
            if point is None:
                raise ValueError(f"there is no data point {name!r}"[:120])
            if not point.writable:
                raise ValueError(f"{name} cannot be set")
            flags |= 1 << point.id
            self._put(point, value, values)
        return bytes((CONTROL,)) + flags.to_bytes(self._flag_bytes, "big") + bytes(values)

    def attrs(self, data: bytes) -> dict[str, Any] | None:
        """What a status or report says; None for other messages. Points behind its end are left out."""
        if not data or data[0] not in (STATUS, REPORT):
            return None
        values = data[1:]
        found = {}
        for point in self.points:
            first, size = self._runs[point.name]
            if first + size <= len(values):
                found[point.name] = self._get(point, values)
        return found

    def _put(self, point: DataPoint, value: Any, values: bytearray) -> None:
        first, size = self._runs[point.name]
        if point.in_bits:
            raw = _bits(point, value)
            shift = _shift(point, first)
            run = int.from_bytes(values[first : first + size], "big") | raw << shift
            values[first : first + size] = run.to_bytes(size, "big")
        elif point.data_type == "binary":
            values[first : first + size] = _binary(point, value, size)
        else:
            values[first : first + size] = _uint(point, value).to_bytes(size, "big")

    def _get(self, point: DataPoint, values: bytes) -> Any:
        first, size = self._runs[point.name]
        here = values[first : first + size]
        if point.data_type == "binary":
            return here.hex()
        raw = int.from_bytes(here, "big")
        if not point.in_bits:
            spec = point.uint_spec
            value = raw * spec.ratio + spec.addition
            return int(value) if value == int(value) else round(value, 6)
        raw = raw >> _shift(point, first) & (1 << point.position.len) - 1
        if point.data_type == "bool":
            return bool(raw)
        return point.enum[raw] if raw < len(point.enum) else raw


def _check(point: DataPoint) -> None:
    position = point.position
    if point.in_bits:
        fits = position.unit == "bit" and position.len <= 8
    else:
        fits = position.unit == "byte" and position.len == _WIDTHS.get(point.data_type, position.len)
    if not fits or (point.data_type == "bool" and position.len != 1):
        raise ValueError(f"{point.name}: a {point.data_type} does not take {position.len} {position.unit}s")
    if _end(point) > MAX_VALUES:
        raise ValueError(f"{point.name}: its position is beyond {MAX_VALUES} bytes")
    if point.uint_spec.ratio == 0:
        raise ValueError(f"{point.name}: the ratio is 0")


def _end(point: DataPoint) -> int:
    """The byte behind the point."""
    position = point.position
    if position.unit == "byte":
        return position.byte_offset + position.len
    return position.byte_offset + (position.bit_offset + position.len + 7) // 8


def _runs(points: tuple[DataPoint, ...]) -> dict[str, tuple[int, int]]:
    """By name, the bytes that hold a point: its own, or the run of bits of its type."""
    found = {}
    for kind in _ORDER:
        run: list[DataPoint] = []
        bits = sorted(
            (one for one in points if one.type == kind and one.in_bits), key=lambda one: one.position.byte_offset
        )
        for point in [*bits, None]:
            if run and (point is None or point.position.byte_offset > max(_end(one) for one in run)):
                first = run[0].position.byte_offset
                size = max(_end(one) for one in run) - first
                found.update({one.name: (first, size) for one in run})
                run = []
            if point is not None:
                run.append(point)
    for point in points:
        if not point.in_bits:
            found[point.name] = (point.position.byte_offset, point.position.len)
    return found


def _shift(point: DataPoint, first: int) -> int:
    """Bits from the end of its run to the point."""
    return 8 * (point.position.byte_offset - first) + point.position.bit_offset


def _bits(point: DataPoint, value: Any) -> int:
    if point.data_type == "bool":
        if value in (0, 1) and isinstance(value, int):
            return int(value)
        raise ValueError(f"{point.name} is true or false")
    if isinstance(value, str) and value in point.enum:
        return point.enum.index(value)
    most = min(len(point.enum) or 256, 1 << point.position.len)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < most:
        return value
    raise ValueError(f"{point.name} is one of its {len(point.enum)} texts or a number below {most}")


def _uint(point: DataPoint, value: Any) -> int:
    spec = point.uint_spec
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{point.name} is a number")
    most = min(spec.max, (1 << 8 * point.position.len) - 1)
    # A number that no float holds exactly fits nowhere; infinities fail every comparison but this one.
    raw = round((value - spec.addition) / spec.ratio, 6) if abs(value) < 1e15 else -1.0
    if not spec.min <= raw <= most or raw != int(raw):
        raise ValueError(f"{point.name}: {value} is none of its numbers")
    return int(raw)


def _binary(point: DataPoint, value: Any, size: int) -> bytes:
    try:
        raw = bytes.fromhex(value)
    except (TypeError, ValueError):
        raise ValueError(f"{point.name} is hexadecimal text") from None
    if len(raw) > size:
        raise ValueError(f"{point.name} has at most {size} bytes")
    return raw.ljust(size, b"\0")
