"""The registers of a device: where they are, and what their words mean.

A map is a list of them. Reading it is planned once: neighbours in one table are read together, as far as a request may
ask (MODBUS Application Protocol V1.1b3: 2,000 bits, 6.1 and 6.2; 125 registers, 6.3 and 6.4). A gap ends a block, as a
device may refuse to read what it does not have.

::

    table      read with   written with   type
    coil       01          05             bool
    discrete   02          -              bool
    holding    03          06, 16         int16 uint16 int32 uint32 float32 float64
    input      04          -              the same

A value is ``word * scale + offset``. Numbers of several words have the most significant word first, unless the register
says ``word_order = "little"``; bytes within a word are always the most significant first (4.2).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import isfinite
from struct import calcsize, error, pack, unpack
from typing import Annotated, Any, Final, Literal, NamedTuple

from msgspec import Meta, Struct

from broker.extension import Invalid

Table = Literal["coil", "discrete", "holding", "input"]
Type = Literal["bool", "int16", "uint16", "int32", "uint32", "float32", "float64"]

BITS: Final = ("coil", "discrete")
WRITABLE: Final = ("coil", "holding")
MAX_BITS: Final = 2000
MAX_WORDS: Final = 125
#: Of what scaling makes of a word, digits behind the point beyond these are noise.
DIGITS: Final = 9
_FORMATS: Final = {"int16": "h", "uint16": "H", "int32": "i", "uint32": "I", "float32": "f", "float64": "d"}


class Register(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One value. ``address`` counts from 0, as on the wire; manuals often count from 1, or from 40001."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    table: Table = "holding"
    address: Annotated[int, Meta(ge=0, le=65_535)]
    type: Type = "uint16"
    scale: float = 1.0
    offset: float = 0.0
    word_order: Literal["big", "little"] = "big"
    writable: bool = False

    def __post_init__(self) -> None:
        if (self.table in BITS) != (self.type == "bool"):
            raise ValueError(f"{self.name}: coil and discrete registers are of type bool, the others are not")
        if self.writable and self.table not in WRITABLE:
            raise ValueError(f"{self.name}: {self.table} registers cannot be written")
        if not (isfinite(self.scale) and isfinite(self.offset) and self.scale):
            raise ValueError(f"{self.name}: scale and offset must be numbers, and scale not 0")
        if self.address + self.count > 65_536:
            raise ValueError(f"{self.name}: its words end behind the last address")

    @property
    def count(self) -> int:
        """Words, or bits."""
        return 1 if self.type == "bool" else calcsize(_FORMATS[self.type]) // 2

    def value(self, words: Sequence[int]) -> int | float | None:
        """What these words are. None: a floating point number that is none, which JSON cannot hold."""
        raw: int | float = unpack(">" + _FORMATS[self.type], self._in_order(words))[0]
        if self.scale == 1.0 and self.offset == 0.0 and isinstance(raw, int):
            return raw
        scaled = raw * self.scale + self.offset
        return round(scaled, DIGITS) if isfinite(scaled) else None

    def words(self, value: Any) -> list[int]:
        """The words that write this value. Raises Invalid."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
            raise Invalid(f"{self.name} is a number")
        raw = (value - self.offset) / self.scale
        try:
            data = pack(">" + _FORMATS[self.type], raw if self.type.startswith("float") else round(raw))
        except (error, OverflowError):
            raise Invalid(f"{self.name} = {value} does not fit into {self.type}") from None
        words = list(unpack(f">{self.count}H", data))
        return words if self.word_order == "big" else words[::-1]

    def bit(self, value: Any) -> bool:
        """The same for a coil. Raises Invalid."""
        if value not in (False, True):
            raise Invalid(f"{self.name} is true or false")
        return bool(value)

    def _in_order(self, words: Sequence[int]) -> bytes:
        return pack(f">{self.count}H", *(words if self.word_order == "big" else reversed(words)))


class Block(NamedTuple):
    """Neighbours that one request reads."""

    table: Table
    address: int
    length: int
    registers: tuple[Register, ...]

    def values(self, read: Sequence[Any]) -> dict[str, Any]:
        """Name -> value. Raises ValueError for an answer that is too short."""
        if len(read) < self.length:
            raise ValueError(f"{len(read)} in place of {self.length}")
        found: dict[str, Any] = {}
        for register in self.registers:
            at = register.address - self.address
            if self.table in BITS:
                found[register.name] = bool(read[at])
            else:
                found[register.name] = register.value(read[at : at + register.count])
        return found


def plan(registers: Iterable[Register]) -> tuple[Block, ...]:
    """The requests that read all of them."""
    blocks: list[Block] = []
    for register in sorted(registers, key=lambda one: (one.table, one.address)):
        most = MAX_BITS if register.table in BITS else MAX_WORDS
        end = register.address + register.count
        last = blocks[-1] if blocks else None
        if last is not None and last.table == register.table and register.address <= last.address + last.length:
            length = max(last.length, end - last.address)
            if length <= most:
                blocks[-1] = Block(last.table, last.address, length, (*last.registers, register))
                continue
        blocks.append(Block(register.table, register.address, register.count, (register,)))
    return tuple(blocks)


def check_map(registers: Sequence[Register]) -> None:
    """Raises ValueError for a name that stands there twice."""
    seen: set[str] = set()
    for register in registers:
        if register.name in seen:
            raise ValueError(f"two registers are called {register.name}")
        seen.add(register.name)
