"""How groups and what is sent to them look in the API."""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from broker.devices.lorawan.multicast.groups import Group, Message
from broker.devices.lorawan.multicast.records import Waiting
from broker.devices.lorawan.settings import RegionName, Settings
from broker.devices.lorawan.windows import rx2
from broker.model.discreet import Discreet
from broker.model.errors import Invalid

Text = Annotated[str, Meta(max_length=128)]
Hex32 = Annotated[str, Meta(pattern="^[0-9A-Fa-f]{32}$")]
Hex8 = Annotated[str, Meta(pattern="^[0-9A-Fa-f]{8}$")]
Frequency = Annotated[int, Meta(ge=100_000_000, lt=3_000_000_000)]
DataRate = Annotated[int, Meta(ge=0, le=15)]
FrameCounter = Annotated[int, Meta(ge=0, lt=0xFFFF_FFFF)]
Gateways = Annotated[list[Text], Meta(max_length=1_000)]
Limit = Annotated[int, Meta(ge=1, le=1_000)]
Status = Literal["queued", "sending", "sent", "partly_sent", "failed", "expired", "cancelled"]


class NewGroup(Discreet, msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A group to make."""

    #: Its id, 1 to 64 of the characters A-Z a-z 0-9 . _ -; null: made.
    id: Text | None = None
    #: Its name for people.
    name: Text = ""
    #: Its channel plan; null: that of the listener.
    region: RegionName | None = None
    #: McAddr, 8 hexadecimal digits; null: made.
    dev_addr: Hex8 | None = None
    #: McNwkSKey, 32 hexadecimal digits; null: made.
    mc_nwk_s_key: Hex32 | None = None
    #: McAppSKey, 32 hexadecimal digits; null: made.
    mc_app_s_key: Hex32 | None = None
    #: Where its motes listen, Hz; null: at the frequency of RX2.
    frequency: Frequency | None = None
    #: How fast its motes are sent to, the number of a data rate of the region; null: that of RX2.
    data_rate: DataRate | None = None
    #: EUIs of gateways to send through, each of them; empty: as few near the members as reach them all.
    gateways: Gateways = []
    #: The id of the application whose group it is, and of no other: its BROADCAST goes to it; null: nobody's.
    application: Text | None = None
    #: The first frame counter, for a group that another network has sent to; null: 0, or where its keys were left.
    counter: FrameCounter | None = None
    #: DevEUIs of its members to begin with, class C motes.
    devices: Annotated[list[Text], Meta(max_length=10_000)] = []


class GroupChanges(Discreet, msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What is to change; what is left out stays. Another address or other keys are another session."""

    #: Its name for people.
    name: Text | UnsetType = UNSET
    #: Its channel plan.
    region: RegionName | UnsetType = UNSET
    #: McAddr, 8 hexadecimal digits.
    dev_addr: Hex8 | UnsetType = UNSET
    #: McNwkSKey, 32 hexadecimal digits.
    mc_nwk_s_key: Hex32 | UnsetType = UNSET
    #: McAppSKey, 32 hexadecimal digits.
    mc_app_s_key: Hex32 | UnsetType = UNSET
    #: Where its motes listen, Hz; null: at the frequency of RX2.
    frequency: Frequency | UnsetType | None = UNSET
    #: How fast its motes are sent to, the number of a data rate of the region; null: that of RX2.
    data_rate: DataRate | UnsetType | None = UNSET
    #: EUIs of gateways to send through, each of them; empty: as few near the members as reach them all.
    gateways: Gateways | UnsetType = UNSET
    #: The id of the application whose group it is, and of no other: its BROADCAST goes to it; null: nobody's.
    application: Text | UnsetType | None = UNSET
    #: The next frame counter; left out, another session begins at 0, or where its keys were left.
    counter: FrameCounter | UnsetType = UNSET


class GroupShape(msgspec.Struct, kw_only=True):
    """A group as it is."""

    #: Its id.
    id: str
    #: Its name for people; may be empty.
    name: str
    #: Its channel plan.
    region: str
    #: McAddr, 8 upper-case hexadecimal digits.
    dev_addr: str
    #: Where its motes listen, Hz.
    frequency: int
    #: How fast its motes are sent to, the number of a data rate of the region.
    data_rate: int
    #: EUIs of gateways to send through, each of them; empty: as few near the members as reach them all.
    gateways: list[str]
    #: The id of the application whose group it is; null: nobody's.
    application: str | None
    #: The next frame counter.
    counter: int
    #: How many motes are in it.
    members: int
    #: How many messages to it have not ended.
    waiting: int
    #: When it was made (UNIX seconds).
    created_at: float


class GroupKeys(Discreet, msgspec.Struct, kw_only=True):
    """What a mote needs to hear the group."""

    #: The id of the group.
    id: str
    #: McAddr, 8 upper-case hexadecimal digits.
    dev_addr: str
    #: McNwkSKey, 32 upper-case hexadecimal digits.
    mc_nwk_s_key: str
    #: McAppSKey, 32 upper-case hexadecimal digits.
    mc_app_s_key: str


class MadeGroup(Discreet, GroupShape, kw_only=True):
    """A new group, with its keys."""

    #: McNwkSKey, 32 upper-case hexadecimal digits.
    mc_nwk_s_key: str
    #: McAppSKey, 32 upper-case hexadecimal digits.
    mc_app_s_key: str


class GroupFilter(msgspec.Struct, kw_only=True):
    """Which groups, and which page."""

    #: Only groups of the application with this id.
    application: Text | None = None
    #: Entries of one page at most.
    limit: Limit = 100
    #: The ``next`` of the page before; left out, the first page.
    cursor: Text | None = None


class Page(msgspec.Struct, kw_only=True):
    """Which page."""

    #: Entries of one page at most.
    limit: Limit = 100
    #: The ``next`` of the page before; left out, the first page.
    cursor: Text | None = None


class GroupPage(msgspec.Struct, kw_only=True):
    """Groups by id."""

    #: The groups of this page.
    items: list[GroupShape]
    #: The ``cursor`` of the following page; null on the last one.
    next: str | None


class Member(msgspec.Struct, kw_only=True):
    """A mote of a group."""

    #: Its DevEUI, 16 upper-case hexadecimal digits.
    dev_eui: str
    #: EUIs of the gateways near it, the best first.
    gateways: list[str]
    #: Whether one of them is online.
    reachable: bool


class MemberPage(msgspec.Struct, kw_only=True):
    """Members by DevEUI."""

    #: The members of this page.
    items: list[Member]
    #: The ``cursor`` of the following page; null on the last one.
    next: str | None


class NewMessage(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Bytes for all members."""

    #: The bytes.
    payload_base64: str
    #: FPort.
    port: Annotated[int, Meta(ge=1, le=255)]
    #: How often it is sent.
    tries: Annotated[int, Meta(ge=1, le=100)] = 1
    #: The greater one goes first; null: ``default_priority``.
    priority: Annotated[int, Meta(ge=0, le=255)] | None = None
    #: Seconds that this may take; null: ``commands.default_expires``.
    expires: Annotated[float, Meta(gt=0, le=30 * 86_400)] | None = None
    #: The caller's own reference, which comes back with the message; need not be unique.
    ref: Text | None = None

    def content(self) -> bytes:
        """Raises Invalid."""
        try:
            return b64decode(self.payload_base64, validate=True)
        except ValueError:
            raise Invalid("payload_base64 is not base64") from None


class MessageTaken(msgspec.Struct, kw_only=True):
    """A message that is kept and will be sent."""

    #: The id that the broker gave it, a UUID.
    id: str
    #: Where it stands as this is answered.
    status: Status


class GatewayPart(msgspec.Struct, kw_only=True):
    """What one gateway did."""

    #: Its EUI.
    eui: str
    #: Emissions that it was asked for.
    asked: int
    #: Emissions that it took.
    sent: int
    #: Emissions that it refused.
    refused: int
    #: Why it refused last, if it did not take the last one; else empty.
    error: str


class GroupMessageShape(msgspec.Struct, kw_only=True):
    """A message to a group and where it stands."""

    #: The id that the broker gave it, a UUID.
    id: str
    #: The id of the group.
    group: str
    #: The caller's own reference; null: none was given.
    ref: str | None
    #: The bytes.
    payload_base64: str
    #: FPort.
    port: int
    #: How often it is to be sent.
    tries: int
    #: The greater one goes first.
    priority: int
    #: Where it stands; partly_sent: it has not reached all, or not as often as it should.
    status: Status
    #: Why it has failed, expired or was sent in part; else empty.
    error: str
    #: What keeps it now; empty: nothing.
    waiting: Waiting
    #: Its frame counter, the same for every repetition; null before the first.
    fcnt: int | None
    #: The repetition that has begun, from 1; 0 before that.
    turn: int
    #: What each gateway did.
    gateways: list[GatewayPart]
    #: Seconds on air of all emissions.
    air_time: float
    #: DevEUIs of members near which no gateway has sent it; known at its end.
    missed: list[str]
    #: When it was taken (UNIX seconds).
    created_at: float
    #: When something happened to it last (UNIX seconds).
    updated_at: float
    #: When it is over at the latest (UNIX seconds).
    expires_at: float


class GroupMessagePage(msgspec.Struct, kw_only=True):
    """Messages, the newest first."""

    #: The messages of this page.
    items: list[GroupMessageShape]
    #: The ``cursor`` of the following page; null on the last one.
    next: str | None


class GroupPath(msgspec.Struct):
    """Which group."""

    #: The id of the group.
    id: str


class MemberPath(GroupPath):
    """Which group, and which mote."""

    #: The DevEUI of the mote, 16 hexadecimal digits.
    dev_eui: str


class MessagePath(GroupPath):
    """Which group, and which message."""

    #: The id that the broker gave the message, a UUID.
    message: str


def group_shape(group: Group, settings: Settings) -> GroupShape:
    return GroupShape(**_group_fields(group, settings))


def made_group(group: Group, settings: Settings) -> MadeGroup:
    keys = group_keys(group)
    return MadeGroup(**_group_fields(group, settings), mc_nwk_s_key=keys.mc_nwk_s_key, mc_app_s_key=keys.mc_app_s_key)


def _group_fields(group: Group, settings: Settings) -> dict[str, Any]:
    record = group.record
    frequency, data_rate = rx2(group.region, group.rx(settings))
    return {
        "id": record.id,
        "name": record.name,
        "region": record.region,
        "dev_addr": f"{record.dev_addr:08X}",
        "frequency": frequency,
        "data_rate": data_rate,
        "gateways": list(record.gateways),
        "application": record.application,
        "counter": group.next,
        "members": len(group.members),
        "waiting": sum(not message.record.final for message in group.messages.values()),
        "created_at": round(record.created_at, 3),
    }


def group_keys(group: Group) -> GroupKeys:
    record = group.record
    return GroupKeys(
        id=record.id,
        dev_addr=f"{record.dev_addr:08X}",
        mc_nwk_s_key=record.mc_nwk_s_key.hex().upper(),
        mc_app_s_key=record.mc_app_s_key.hex().upper(),
    )


def message_shape(message: Message) -> GroupMessageShape:
    record = message.record
    return GroupMessageShape(
        id=record.id,
        group=record.group,
        ref=record.ref,
        payload_base64=b64encode(record.payload).decode("ascii"),
        port=record.port,
        tries=record.tries,
        priority=record.priority,
        status=record.status,  # type: ignore[arg-type]  # one of the states in `records`
        error=record.error,
        waiting=message.waiting,
        fcnt=record.fcnt,
        turn=record.turn,
        gateways=[
            GatewayPart(eui=eui, asked=share.begun, sent=share.sent, refused=share.refused, error=share.error)
            for eui, share in record.shares.items()
        ],
        air_time=round(record.air_time, 6),
        missed=list(record.missed),
        created_at=round(record.created_at, 3),
        updated_at=round(record.updated_at, 3),
        expires_at=round(record.expires_at, 3),
    )
