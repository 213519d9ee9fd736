"""What a mote is like: how often it speaks, how it is set, and how one behaves that does not keep to the rules."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Misbehaviour(StrEnum):
    """What a mote does with MAC commands instead of what it should. The network has to live with each of them."""

    #: Says no to every command, and changes nothing.
    REFUSES = "refuses"
    #: Says that it takes all but the channel mask, whatever that is, and changes nothing.
    REFUSES_MASKS = "refuses-masks"
    #: Says no to the data rate and the power of every LinkADRReq.
    REFUSES_RATES = "refuses-rates"
    #: Says yes to everything, with bits that mean nothing besides, and changes nothing.
    LIES = "lies"
    #: Uses channels of its own once it was told which ones it has.
    WRONG_CHANNELS = "wrong-channels"
    #: DevStatusAns with RFU bits and a margin that cannot be.
    BAD_STATUS = "bad-status"
    #: Never says anything.
    SILENT = "silent"
    #: Answers a block of LinkADRReq once, and in other blocks more often than it was asked.
    MISCOUNTS = "miscounts"
    #: Answers what it was never asked.
    UNASKED = "unasked"
    #: Sends arbitrary bytes as FOpts.
    GARBAGE = "garbage"
    #: Sends its answers again and again, long after.
    REPEATS = "repeats"


class Traits(msgspec.Struct, frozen=True, kw_only=True):
    """One mote's settings. Times in seconds."""

    every: float = 600.0
    #: Bytes of its messages, at least 6: a number, a value, and filling.
    payload: int = 12
    port: int = 10
    #: The share of its messages that ask for an acknowledgement.
    confirmed: float = 0.0
    class_c: bool = False
    #: Lets the network control its data rate.
    adr: bool = True
    #: The data rate of its first message; None: the slowest, as reference stacks have it (CHANNELS_DEFAULT_DATARATE).
    rate: int | None = None
    #: Channels of a fixed plan that it uses from the beginning; empty: all of them.
    channels: frozenset[int] = frozenset()
    misbehaviour: Misbehaviour | None = None
    #: 1..254 of a full battery, 0: mains, 255: unknown.
    battery: int = 200
