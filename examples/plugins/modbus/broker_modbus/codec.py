"""Modbus/TCP: bytes to frames and back (MODBUS Messaging on TCP/IP Implementation Guide V1.0b, 3.1).

::

    transaction (2) | protocol = 0 (2) | length (2) | unit (1) | function (1) | data (length - 2)
                                                     └──────────── length bytes ─────────────┘

Three outcomes: a frame, need more, or Malformed, which ends the connection: nothing says where the next frame begins.
What is inside of a frame is pymodbus's: its requests, and its decoder of answers. It brings an asyncio client as well,
which is left alone, as the broker's reactor is another one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from struct import Struct
from typing import Final, NamedTuple

from pymodbus.exceptions import ModbusException
from pymodbus.pdu import DecodePDU, ModbusPDU
from pymodbus.pdu.bit_message import ReadCoilsRequest, ReadDiscreteInputsRequest, WriteSingleCoilRequest
from pymodbus.pdu.register_message import (
    ReadHoldingRegistersRequest,
    ReadInputRegistersRequest,
    WriteMultipleRegistersRequest,
    WriteSingleRegisterRequest,
)

from broker_modbus.registers import Block, Register

#: Bytes of unit, function and data together (3.1.3: an ADU has 260 at most).
MAX_LENGTH: Final = 254
#: A unit and a function are always there.
MIN_LENGTH: Final = 2
#: pymodbus says each bad answer on stderr if nobody takes its log; we count them.
logging.getLogger("pymodbus").addHandler(logging.NullHandler())
_HEAD: Final = Struct(">HHHB")
_DECODER: Final = DecodePDU(is_server=False)
_READS: Final[dict[str, type[ModbusPDU]]] = {
    "coil": ReadCoilsRequest,
    "discrete": ReadDiscreteInputsRequest,
    "holding": ReadHoldingRegistersRequest,
    "input": ReadInputRegistersRequest,
}

#: What devices refuse with (MODBUS Application Protocol V1.1b3, 7).
EXCEPTIONS: Final = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "failure of the device",
    5: "accepted, and not done yet",
    6: "the device is busy",
    8: "memory parity error",
    10: "no path behind the gateway",
    11: "the device behind the gateway does not answer",
}
#: A gateway says so of a device that is not there.
NOT_THERE: Final = frozenset({10, 11})


class Malformed(ValueError):
    """These bytes are not Modbus/TCP."""


class Frame(NamedTuple):
    """``pdu``: function and data."""

    transaction: int
    unit: int
    pdu: bytes


class FrameDecoder:
    """Keeps what has not come to its end."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are complete with these bytes. Raises Malformed, and is of no use after that."""
        data = self._held + data
        at = 0
        while len(data) - at >= _HEAD.size:
            transaction, protocol, length, unit = _HEAD.unpack_from(data, at)
            if protocol != 0:
                raise Malformed(f"protocol {protocol}")
            if not MIN_LENGTH <= length <= MAX_LENGTH:
                raise Malformed(f"length {length}")
            end = at + _HEAD.size - 1 + length
            if end > len(data):
                break
            yield Frame(transaction, unit, data[at + _HEAD.size : end])
            at = end
        self._held = data[at:]


def frame(transaction: int, unit: int, request: ModbusPDU) -> bytes:
    """A request on the wire."""
    pdu = bytes((request.function_code,)) + request.encode()
    return _HEAD.pack(transaction, 0, len(pdu) + 1, unit) + pdu


def answer(pdu: bytes) -> ModbusPDU:
    """What a frame says. Raises Malformed."""
    try:
        found = _DECODER.decode(pdu)
    except (ModbusException, IndexError) as error:
        raise Malformed(str(error)) from None
    if found is None:
        raise Malformed("an answer of an unknown form")
    return found


def read(block: Block) -> ModbusPDU:
    """The request for a block of registers."""
    return _READS[block.table](address=block.address, count=block.length)


def write(register: Register, value: object) -> ModbusPDU:
    """The request that writes one register. Raises Invalid for a value that it cannot have."""
    if register.type == "bool":
        return WriteSingleCoilRequest(address=register.address, bits=[register.bit(value)])
    words = register.words(value)
    if len(words) == 1:
        return WriteSingleRegisterRequest(address=register.address, registers=words)
    return WriteMultipleRegistersRequest(address=register.address, registers=words)
