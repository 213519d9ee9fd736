"""Devices: the registry, together with presence, last values and history.

An application sees the devices bound to it; any other is "not found" for it, and of the applications bound to its own
devices it sees only itself. Adding, changing and deleting is the administrator's.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType
from twisted.internet.defer import Deferred, FirstError, ensureDeferred, gatherResults, succeed

from broker.applications.http.device_shapes import DevicePage, DeviceShape, device_shape
from broker.applications.http.shapes import MessagePage, message_shape
from broker.cluster.lives import FarDevice
from broker.core import Core
from broker.model.discreet import Discreet
from broker.model.errors import Invalid
from broker.model.messages import KINDS
from broker.model.records import DeviceQuery, DeviceRecord
from broker.web.problems import Problem
from broker.web.routes import ADMIN, API, APPLICATION, Call, Route

Text = Annotated[str, Meta(max_length=128)]
Limit = Annotated[int, Meta(ge=1, le=1000)]
Tags = list[Annotated[str, Meta(min_length=1, max_length=64)]]
Cursor = Annotated[str, Meta(max_length=512)]
#: UNIX seconds; the bound keeps infinity out.
Time = Annotated[float, Meta(ge=0, le=1e11)]


class NewDevice(Discreet, msgspec.Struct, kw_only=True):
    """A device to register. Its protocol may ask for further fields."""

    #: The protocol that it speaks: gateway88, gizwits, lorawan, novacloud, or that of a plugin.
    protocol: Annotated[str, Meta(min_length=1, max_length=64)]
    #: Its id: a MAC (gateway88), a DevEUI (lorawan), a DID (gizwits) or a UUID (novacloud); null: made, if it is one of
    #: the last two.
    id: Annotated[str, Meta(min_length=1, max_length=128)] | None = None
    #: What it logs in with (lorawan: its AppKey, also as ``app_key``); null: made. A gateway88 device has none.
    secret: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    #: The key of its product, which has to be one of its protocol; gizwits devices need one.
    product: Text | None = None
    #: Its name for people.
    name: Text = ""
    #: Its alias for LoRaCenter customer servers, 16 hexadecimal digits, that no other device has; null: none.
    dev_eui: Text | None = None
    #: Whether it is kept out.
    disabled: bool = False
    #: Words that operators group devices by, at most 32.
    tags: Tags = []
    #: The id of the gateway through which it is reached: while that is away, this one's absence is no event.
    parent: Text | None = None


class DeviceChanges(Discreet, msgspec.Struct, kw_only=True):
    """What is to change; what is left out stays. The fields of its protocol can be changed, too."""

    #: Its new secret; null: one is made, and is in the answer.
    secret: Annotated[str, Meta(min_length=1, max_length=512)] | UnsetType | None = UNSET
    #: The key of its product, of the same protocol; null: none.
    product: Text | UnsetType | None = UNSET
    #: Its name for people.
    name: Text | UnsetType = UNSET
    #: Its alias for LoRaCenter customer servers, 16 hexadecimal digits, that no other device has; null: none.
    dev_eui: Text | UnsetType | None = UNSET
    #: Whether it is kept out; one that is connected is disconnected.
    disabled: bool | UnsetType = UNSET
    #: All of its tags, at most 32; null: none.
    tags: Tags | UnsetType | None = UNSET
    #: The id of the gateway through which it is reached; null: it is reached directly.
    parent: Text | UnsetType | None = UNSET


class DeviceFilter(msgspec.Struct, kw_only=True):
    """Which devices, and which page."""

    #: Only devices of this protocol.
    protocol: Text | None = None
    #: Only devices that are online, or only those that are not.
    online: bool | None = None
    #: Only devices of the product with this key.
    product: Text | None = None
    #: Only devices that have this in id or name, in any case.
    q: Text | None = None
    #: Only devices that have this tag.
    tag: Text | None = None
    #: Only devices that are reached through the one with this id.
    parent: Text | None = None
    #: Entries of one page at most.
    limit: Limit = 100
    #: The ``next`` of the page before; left out, the first page.
    cursor: Cursor | None = None


class MessageFilter(msgspec.Struct, kw_only=True):
    """Which messages, and which page."""

    #: Only messages of this kind: data, status, event, log or raw.
    kind: Text | None = None
    #: Only messages that arrived at this time or later (UNIX seconds).
    since: Time | None = None
    #: Only messages that arrived before this time (UNIX seconds).
    until: Time | None = None
    #: Entries of one page at most.
    limit: Limit = 100
    #: The ``next`` of the page before; left out, the first page.
    cursor: Cursor | None = None


class DevicePath(msgspec.Struct):
    """Which device."""

    #: The id of the device.
    id: str


def check_fields(fields: dict[str, Any], shape: type[msgspec.Struct]) -> None:
    """Raises Invalid when a known field has a wrong type; the protocol's own fields are its rules' business."""
    try:
        msgspec.convert(fields, shape)
    except msgspec.ValidationError as error:
        raise Invalid(str(error)) from None


async def list_devices(call: Call) -> Any:
    """Devices by id, filtered."""
    wish: DeviceFilter = call.query
    query = DeviceQuery(
        protocol=wish.protocol,
        product=wish.product,
        online=wish.online,
        q=wish.q,
        tag=wish.tag,
        parent=wish.parent,
        application=call.caller.application,
    )
    records, cursor = await call.core.registry.list_devices(query, wish.limit, wish.cursor)
    return DevicePage(await shown_devices(call, records), cursor)


async def add_device(call: Call) -> Any:
    """Register a device. The answer holds the secret, this once."""
    check_fields(call.body, NewDevice)
    record, secret = await call.core.registry.add_device(call.body)
    shape = await shown_device(call, record)
    shape.secret = secret
    return shape


async def get_device(call: Call) -> Any:
    """A device with its presence and last values."""
    return await shown_device(call, await visible_device(call))


async def change_device(call: Call) -> Any:
    """Change a device. A secret that was made is in the answer, this once."""
    check_fields(call.body, DeviceChanges)
    record, secret = await call.core.registry.update_device(call.path["id"], call.body)
    shape = await shown_device(call, record)
    if secret is not None:
        shape.secret = secret
    return shape


async def delete_device(call: Call) -> Any:
    """Delete a device with its history and commands; its connection is closed."""
    await call.core.registry.delete_device(call.path["id"])


async def list_messages(call: Call) -> Any:
    """History of a device, newest first."""
    wish: MessageFilter = call.query
    if wish.kind is not None and wish.kind not in KINDS:
        raise Invalid(f"query: kind is one of {', '.join(KINDS)}")
    record = await visible_device(call)
    messages, cursor = await call.core.storage.list_messages(
        record.id, wish.kind, wish.since, wish.until, wish.limit, wish.cursor
    )
    return MessagePage([message_shape(message) for message in messages], cursor)


async def visible_device(call: Call) -> DeviceRecord:
    """The record of the device in the path. Raises NotFound, also when the caller may not know of it."""
    device_id = call.path["id"]
    call.caller.check_device(device_id)
    record: DeviceRecord = await call.core.registry.get_device(device_id)
    return record


async def shown_device(call: Call, record: DeviceRecord) -> DeviceShape:
    """A record as it is shown to this caller."""
    return (await shown_devices(call, [record]))[0]


async def shown_devices(call: Call, records: list[DeviceRecord]) -> list[DeviceShape]:
    """Several, to whichever process they are connected."""
    core = call.core
    far = await core.lives.of(record.id for record in records)
    states: list[tuple[str, int]] | None = None
    if core.states_of is not None and records:
        states = await core.states_of([(record.id, is_online(core, record.id in far, record)) for record in records])
    return await together(
        [
            ensureDeferred(_shown(call, record, far.get(record.id), None if states is None else states[number]))
            for number, record in enumerate(records)
        ]
    )


def is_online(core: Core, far: bool, record: DeviceRecord) -> bool:
    """As far as is known here."""
    live = core.devices.get(record.id)
    return far or (record.online if live is None else live.online)


async def _shown(call: Call, record: DeviceRecord, far: FarDevice | None, state: tuple[str, int] | None) -> DeviceShape:
    core = call.core
    own = call.caller.application
    known = far is not None or core.devices.get(record.id) is not None
    applications, stored = await together(
        [
            core.registry.applications_of(record.id) if own is None else succeed([own]),
            succeed(({}, {})) if known else core.storage.get_values(record.id),
        ]
    )
    # Asked again: it may have come while storage was read, and what is live is newer.
    live = core.devices.get(record.id)
    if live is not None and live.online:
        far = None
    return device_shape(record, live, stored, applications, state, far)


async def together(asked: list[Deferred[Any]]) -> list[Any]:
    """The answers to questions that were all asked before the first answer came. Raises what the first failure was."""
    try:
        return await gatherResults(asked, consumeErrors=True)
    except FirstError as error:
        error.subFailure.raiseException()


_TAKEN = {409: (Problem, "The id or the dev_eui is taken")}

ROUTES = (
    Route("GET", f"{API}/devices", list_devices, APPLICATION, answers=DevicePage, query=DeviceFilter),
    Route(
        "POST",
        f"{API}/devices",
        add_device,
        ADMIN,
        body=dict[str, Any],
        describes=NewDevice,
        answers=DeviceShape,
        status=201,
        also=_TAKEN,
    ),
    Route("GET", f"{API}/devices/{{id}}", get_device, APPLICATION, answers=DeviceShape, path_shape=DevicePath),
    Route(
        "PATCH",
        f"{API}/devices/{{id}}",
        change_device,
        ADMIN,
        body=dict[str, Any],
        describes=DeviceChanges,
        answers=DeviceShape,
        also=_TAKEN,
        path_shape=DevicePath,
    ),
    Route("DELETE", f"{API}/devices/{{id}}", delete_device, ADMIN, status=204, path_shape=DevicePath),
    Route(
        "GET",
        f"{API}/devices/{{id}}/messages",
        list_messages,
        APPLICATION,
        answers=MessagePage,
        query=MessageFilter,
        path_shape=DevicePath,
    ),
)
