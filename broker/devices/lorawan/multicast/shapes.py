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
    """A group to make. What is left out is made: id, address (McAddr, 8 hexadecimal digits) and keys (32).

    ``region``: left out, that of the listener. ``frequency`` (Hz) and ``data_rate``: left out, those of its RX2.
    ``gateways``: EUIs to send through, each of them; empty: as few near the members as reach them all. ``application``:
    whose group it is; BROADCAST of that customer server goes to it. ``counter``: the first frame counter, for a group
    that another network has sent to. ``devices``: DevEUIs of members to begin with.
    """

    id: Text | None = None
    name: Text = ""
    region: RegionName | None = None
    dev_addr: Hex8 | None = None
    mc_nwk_s_key: Hex32 | None = None
    mc_app_s_key: Hex32 | None = None
    frequency: Frequency | None = None
    data_rate: DataRate | None = None
    gateways: Gateways = []
    application: Text | None = None
    counter: FrameCounter | None = None
    devices: Annotated[list[Text], Meta(max_length=10_000)] = []


class GroupChanges(Discreet, msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What is to change; what is left out stays. Null: frequency and data_rate of RX2, nobody's group.

    Another address or other keys are another session, whose counters begin at 0 unless they were used before, or
    ``counter`` says so.
    """

    name: Text | UnsetType = UNSET
    region: RegionName | UnsetType = UNSET
    dev_addr: Hex8 | UnsetType = UNSET
    mc_nwk_s_key: Hex32 | UnsetType = UNSET
    mc_app_s_key: Hex32 | UnsetType = UNSET
    frequency: Frequency | UnsetType | None = UNSET
    data_rate: DataRate | UnsetType | None = UNSET
    gateways: Gateways | UnsetType = UNSET
    application: Text | UnsetType | None = UNSET
    counter: FrameCounter | UnsetType = UNSET


class GroupShape(msgspec.Struct, kw_only=True):
    """A group. ``counter`` is the next frame counter, ``members`` and ``waiting`` say how many."""

    id: str
    name: str
    region: str
    dev_addr: str
    frequency: int
    data_rate: int
    gateways: list[str]
    application: str | None
    counter: int
    members: int
    waiting: int
    created_at: float


class GroupKeys(Discreet, msgspec.Struct, kw_only=True):
    """What a mote needs to hear the group: McAddr and the two session keys, hexadecimal."""

    id: str
    dev_addr: str
    mc_nwk_s_key: str
    mc_app_s_key: str


class MadeGroup(Discreet, GroupShape, kw_only=True):
    """A new group, with its keys."""

    mc_nwk_s_key: str
    mc_app_s_key: str


class GroupFilter(msgspec.Struct, kw_only=True):
    """``cursor``: the ``next`` of the page before."""

    application: Text | None = None
    limit: Limit = 100
    cursor: Text | None = None


class Page(msgspec.Struct, kw_only=True):
    """``cursor``: the ``next`` of the page before."""

    limit: Limit = 100
    cursor: Text | None = None


class GroupPage(msgspec.Struct, kw_only=True):
    """Groups by id."""

    items: list[GroupShape]
    next: str | None


class Member(msgspec.Struct, kw_only=True):
    """A mote of a group. ``gateways``: those near it, the best first; ``reachable``: one of them is on-line."""

    dev_eui: str
    gateways: list[str]
    reachable: bool


class MemberPage(msgspec.Struct, kw_only=True):
    """Members by DevEUI."""

    items: list[Member]
    next: str | None


class NewMessage(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Bytes for all members. ``tries``: how often it is sent; ``expires``: seconds that this may take.

    ``priority``: larger goes first; left out: that of commands.
    """

    payload_base64: str
    port: Annotated[int, Meta(ge=1, le=255)]
    tries: Annotated[int, Meta(ge=1, le=100)] = 1
    priority: Annotated[int, Meta(ge=0, le=255)] | None = None
    expires: Annotated[float, Meta(gt=0, le=30 * 86_400)] | None = None
    ref: Text | None = None

    def content(self) -> bytes:
        """Raises Invalid."""
        try:
            return b64decode(self.payload_base64, validate=True)
        except ValueError:
            raise Invalid("payload_base64 is not base64") from None


class MessageTaken(msgspec.Struct, kw_only=True):
    """A message that is kept and will be sent."""

    id: str
    status: Status


class GatewayPart(msgspec.Struct, kw_only=True):
    """What one gateway did: emissions that it was asked for, took, refused; ``error``: why it refused last."""

    eui: str
    asked: int
    sent: int
    refused: int
    error: str


class GroupMessageShape(msgspec.Struct, kw_only=True):
    """A message to a group and where it stands.

    ``turn``: the repetition that has begun, of ``tries``. ``waiting``: what keeps it now (no_gateway, duty_cycle, busy,
    storage), or nothing. ``air_time``: seconds of all emissions. ``missed``: at the end, members near which no gateway
    sent it. partly_sent: to some only, or less often than asked for; ``error`` says why.
    """

    id: str
    group: str
    ref: str | None
    payload_base64: str
    port: int
    tries: int
    priority: int
    status: Status
    error: str
    waiting: Waiting
    fcnt: int | None
    turn: int
    gateways: list[GatewayPart]
    air_time: float
    missed: list[str]
    created_at: float
    updated_at: float
    expires_at: float


class GroupMessagePage(msgspec.Struct, kw_only=True):
    """Messages, the newest first."""

    items: list[GroupMessageShape]
    next: str | None


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
