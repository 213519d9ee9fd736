"""What is known of a mote's MAC layer: what it has said yes to, what it was asked, what it has said no to.

Only motes that are asked something, or that leave their data rate to the network, have one. It is on disk, as a
`MacRecord`, in the same commit as the counter of the frame that changed it, and so before the downlink that follows.
What was asked is on disk before it is asked: an answer to it is understood after a restart, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from broker.devices.lorawan.mac import codec
from broker.devices.lorawan.mac.adr import History, Limits, Sending
from broker.devices.lorawan.mac.codec import Command, LinkADRReq
from broker.devices.lorawan.mac.parameters import Parameters
from broker.devices.lorawan.regions import REGIONS, Region

#: TXPower and data rate numbers have four bits.
MOST: Final = 15
#: The refusals that are remembered of one mote; there are not that many different things to ask.
MAX_REFUSED: Final = 64
#: What most motes have of requests, so that all of them may share it.
NOTHING: Final[Mapping[int, Any]] = MappingProxyType({})
NO_CIDS: Final[frozenset[int]] = frozenset()
EVERY: Final = (0, MOST)
NEVER: Final = float("inf")
#: No data rate is known.
UNKNOWN: Final = -1
#: A parameter that the mote may have or not.
UNSURE: Final = -1


class Request:
    """Commands of one kind that wait for their answers."""

    __slots__ = ("commands", "reached", "sent", "tries")

    def __init__(self, commands: tuple[Command, ...], sent: int = 0, tries: int = 0, reached: int = 0) -> None:
        self.commands = commands
        #: How many of them were in the last frame, how many ever, and how many frames there were.
        self.sent = sent
        self.reached = max(sent, reached)
        self.tries = tries


class MacRecord(msgspec.Struct, array_like=True):
    """As it is on disk."""

    region: str
    has: Parameters
    #: TXPower and NbTrans; the data rate is seen with the next frame.
    power: int
    repetitions: int
    #: What was asked, one command after the other.
    asked: bytes = b""
    refused: tuple[bytes, ...] = ()
    any_channels: bool = False
    relapses: int = 0
    #: Data rates and TXPowers that the mote takes, as far as is known.
    rates: tuple[int, int] = (0, MOST)
    powers: tuple[int, int] = (0, MOST)
    #: Battery, margin (dB), UNIX seconds.
    status: tuple[int, int, float] | None = None


class MacState:
    """One mote's."""

    __slots__ = (
        "any_channels",
        "dirty",
        "forgiven_at",
        "has",
        "history",
        "limits",
        "paused",
        "pending",
        "powers",
        "rates",
        "refused",
        "region",
        "relapses",
        "resolved",
        "said",
        "sending",
        "settled",
        "status",
        "target",
    )

    def __init__(self, region: Region, has: Parameters) -> None:
        self.region = region
        #: What it has said yes to, or begun with; what it is to have, once that is ``resolved``.
        self.has = has
        self.target = has
        self.resolved = False
        self.sending = Sending(UNKNOWN, 0, 1)
        #: How it was heard; only of motes that leave their data rate to the network.
        self.history: History | None = None
        self.limits: Limits | None = None
        #: By CID.
        self.pending: Mapping[int, Request] = NOTHING
        #: Requests, as bytes, that it has said no to; a CID alone: the kind as a whole.
        self.refused: tuple[bytes, ...] = ()
        #: Monotonic seconds from which it may be asked for all of that again; None: from when on is to be seen.
        self.forgiven_at: float | None = NEVER
        #: CIDs of what it will say until it hears a downlink: no new answer can be told from that.
        self.said: frozenset[int] = NO_CIDS
        #: By CID: monotonic seconds until which nothing is asked, as nothing was answered.
        self.paused: Mapping[int, float] = NOTHING
        #: It may have channels that nobody knows, so masks say "all that there are".
        self.any_channels = False
        #: How often it was back on channels that it had given up.
        self.relapses = 0
        self.rates = self.powers = EVERY
        self.status: tuple[int, int, float] | None = None
        #: There is nothing left to ask for.
        self.settled = False
        #: It is not on disk as it is.
        self.dirty = False

    def ask(self, commands: tuple[Command, ...], reached: int = 0) -> None:
        """To be sent. Commands of one kind, of which none are pending."""
        self.pending = {**self.pending, commands[0].cid: Request(commands, reached=reached)}

    def drop(self, cid: int) -> Request:
        """No longer pending."""
        request = self.pending[cid]
        self.pending = {other: of for other, of in self.pending.items() if other != cid} or NOTHING
        return request

    def refuse(self, what: bytes) -> None:
        """Not to be asked for again."""
        if what not in self.refused:
            self.refused = (*self.refused, what)[-MAX_REFUSED:]

    def forgive(self) -> None:
        """Something else is wanted: it may be asked for all of it."""
        self.refused, self.relapses = (), 0
        self.forgiven_at = NEVER
        self.rates = self.powers = EVERY
        self.paused = NOTHING
        self.dirty = True

    def refuse_kind(self, cid: int, when: bool) -> None:
        """Nothing of this kind is to be asked for again: the mote says no even to what it has."""
        if when:
            self.refuse(bytes((cid,)))

    def record(self) -> bytes:
        """For the disk."""
        made = MacRecord(
            region=self.region.name,
            has=self.has,
            power=self.sending.power,
            repetitions=self.sending.repetitions,
            asked=b"".join(codec.encode(*request.commands) for request in self.pending.values()),
            refused=self.refused,
            any_channels=self.any_channels,
            relapses=self.relapses,
            rates=self.rates,
            powers=self.powers,
            status=self.status,
        )
        return msgspec.msgpack.encode(made)

    @classmethod
    def of(cls, raw: bytes) -> MacState:
        """From the disk. Raises ValueError."""
        record = msgspec.msgpack.decode(raw, type=MacRecord)
        region = REGIONS.get(record.region)
        if region is None:
            raise ValueError(f"no region {record.region}")
        state = cls(region, record.has)
        state.sending = Sending(UNKNOWN, record.power, record.repetitions)
        asked: dict[int, list[Command]] = {}
        for command in codec.parse_down(record.asked)[0]:
            asked.setdefault(command.cid, []).append(command)
        # It may have been sent before the end, all of it.
        state.pending = {cid: Request(tuple(of), len(of), 1) for cid, of in asked.items()} or NOTHING
        state.refused = record.refused
        state.forgiven_at = None
        state.any_channels, state.relapses = record.any_channels, record.relapses
        state.rates, state.powers, state.status = record.rates, record.powers, record.status
        return state

    def brief(self) -> dict[str, Any]:
        """What changes most, for ``info["mac"]``: it is kept of every mote that is on-line, so it is small."""
        sending = self.sending
        return {
            "data_rate": sending.rate if sending.rate != UNKNOWN else None,
            "power": sending.power,
            "nb_trans": sending.repetitions,
            "pending": [NAMES[cid] for cid in self.pending] if self.pending else NONE,
        }

    def as_dict(self) -> dict[str, Any]:
        """All of it, for people."""
        has = self.has
        shown: dict[str, Any] = {
            **self.brief(),
            "rx1_delay": has.delay,
            "rx1_offset": has.offset,
            "rx2_frequency": has.rx2_frequency,
            "rx2_rate": has.rx2_rate,
            "max_duty_cycle": has.duty if has.duty != UNSURE else None,
            "channels": [channel.frequency for channel in has.extra if channel.frequency != UNSURE],
            "refused": [describe(what) for what in self.refused],
        }
        if self.region.fixed:
            shown["enabled"] = sorted(has.enabled)
        if self.region.tx_param_setup:
            shown["dwell_time"] = {"up": has.up_dwell, "down": has.down_dwell}
        return shown


#: No names; shared.
NONE: Final[tuple[str, ...]] = ()
NAMES: Final = {kind.cid: kind.__name__ for kind in codec.DOWN}


def describe(refused: bytes) -> str:
    """A refusal for people: the command and its fields, or the name alone where nothing of the kind is taken."""
    commands, _ = codec.parse_down(refused)
    if not commands:
        return NAMES.get(refused[0], "?")
    texts = (" ".join((NAMES[one.cid], *map(str, msgspec.structs.astuple(one)))) for one in commands)
    return ", ".join(texts)


def mask_key(commands: tuple[Command, ...]) -> bytes:
    """What stands for the channels of a block of LinkADRReq among the refusals: whatever the data rate."""
    blocks = [command for command in commands if isinstance(command, LinkADRReq)]
    return codec.encode(*(LinkADRReq(0, 0, command.mask, command.mask_control, 0) for command in blocks))
