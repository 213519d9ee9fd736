"""What is kept of groups and of what is sent to them.

======================  =====================  ====================================================================
table                   key                    value
======================  =====================  ====================================================================
lorawan_group           id                     `GroupRecord`
lorawan_group_member    id / DevEUI            nothing; that it is there says that the mote is a member
lorawan_group_counter   session (`session`)    the next frame counter (4 bytes)
lorawan_group_message   id / id of a message   `MessageRecord`
======================  =====================  ====================================================================

A counter belongs to the keys and not to the group: whoever makes a group anew with the keys of an earlier one goes on
where that ended, so no counter ever meets the same keys twice. So counters stay when a group goes.
"""

from __future__ import annotations

from hashlib import sha256
from struct import Struct
from typing import Final, Literal

import msgspec

GROUPS: Final = "lorawan_group"
MEMBERS: Final = "lorawan_group_member"
COUNTERS: Final = "lorawan_group_counter"
MESSAGES: Final = "lorawan_group_message"

#: The states of a message.
QUEUED: Final = "queued"
SENDING: Final = "sending"
SENT: Final = "sent"
PARTLY_SENT: Final = "partly_sent"
FAILED: Final = "failed"
EXPIRED: Final = "expired"
CANCELLED: Final = "cancelled"
FINAL: Final = frozenset({SENT, PARTLY_SENT, FAILED, EXPIRED, CANCELLED})

#: Why a message does not go on.
#:
#: no_gateway: none near a member that is left is on-line, or nobody knows where the members are; duty_cycle: they have
#: used up their air time; busy: the transmitter is booked; storage: the disk does not take it.
Waiting = Literal["", "no_gateway", "duty_cycle", "busy", "storage"]

_counter: Final = Struct(">I")


class GroupRecord(msgspec.Struct, kw_only=True, frozen=True):
    """A group. Frequency in Hz; ``frequency`` and ``data_rate`` None: those of the region's RX2."""

    id: str
    name: str = ""
    region: str
    #: McAddr.
    dev_addr: int
    mc_nwk_s_key: bytes
    mc_app_s_key: bytes
    frequency: int | None = None
    data_rate: int | None = None
    #: EUIs of the gateways to send through, each of them; empty: those near the members, as few as reach them.
    gateways: tuple[str, ...] = ()
    #: The application whose group it is: BROADCAST of that customer server goes to it, and no other one may use it.
    application: str | None = None
    created_at: float = 0.0

    def __repr__(self) -> str:
        return f"<GroupRecord {self.id} {self.dev_addr:08X}>"

    @property
    def session(self) -> str:
        """What the counter belongs to; tells nothing of the key."""
        return sha256(self.dev_addr.to_bytes(4, "big") + self.mc_app_s_key).hexdigest()[:32]


class Share(msgspec.Struct, frozen=True):
    """What one gateway did of a message. ``turn``: the repetition that it began last, ``refused_in``: refused last."""

    turn: int = 0
    refused_in: int = 0
    #: Emissions that it was asked for, that it took, that it did not take; the rest is not known (a restart).
    begun: int = 0
    sent: int = 0
    refused: int = 0
    #: Why it refused last, a word of `transmitter.CODES`.
    error: str = ""


class MessageRecord(msgspec.Struct, kw_only=True, frozen=True):
    """A message to a group. ``id`` is a UUID of version 7: sorted, they are in the order of their making."""

    id: str
    group: str
    payload: bytes
    port: int
    tries: int = 1
    priority: int
    #: ``admin`` or ``application:<id>``.
    origin: str
    ref: str | None = None
    created_at: float
    expires_at: float
    updated_at: float
    status: str = QUEUED
    #: Why it failed.
    error: str = ""
    #: The frame counter, the same for every repetition; None before the first.
    fcnt: int | None = None
    #: The repetition that has begun, from 1.
    turn: int = 0
    #: By EUI.
    shares: dict[str, Share] = {}
    #: Seconds in the air, of all emissions together.
    air_time: float = 0.0
    #: When it has ended: DevEUIs of members near which no gateway took it.
    missed: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return f"{self.group}/{self.id}"

    @property
    def final(self) -> bool:
        return self.status in FINAL


def pack_counter(following: int) -> bytes:
    """The value of a counter row: the next counter that may be used."""
    return _counter.pack(following)


def unpack_counter(raw: bytes) -> int:
    """Raises ValueError for what is no such row."""
    if len(raw) != _counter.size:
        raise ValueError("a counter has 4 bytes")
    following: int = _counter.unpack(raw)[0]
    return following
