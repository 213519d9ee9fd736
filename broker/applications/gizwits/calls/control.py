"""Devices of users: told what to do, and what they have said."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta
from twisted.internet.defer import Deferred

from broker.applications.gizwits.business import body_of, content_of
from broker.applications.gizwits.calls.devices import check_proof, device_of
from broker.applications.gizwits.calls.users import ANY_TYPE
from broker.applications.gizwits.forms import Control
from broker.applications.gizwits.side import Side, side_of
from broker.applications.gizwits.surface import APP, USER, AppCaller
from broker.applications.ordering import order
from broker.core import Core
from broker.devices.gizwits import codec
from broker.devices.gizwits import errors as e
from broker.devices.gizwits.identity import PROTOCOL
from broker.model.messages import EXPIRED, RAW, SUCCEEDED, Command, Payload, payload_bytes
from broker.model.records import DeviceRecord
from broker.web.routes import Call, Route

#: Messages of one page, and how many may be skipped before it: each has to be read.
MAX_PAGE: Final = 100
MAX_SKIP: Final = 10_000


class RawData(msgspec.Struct, kw_only=True):
    """Which messages. Times are UNIX seconds."""

    type: Literal["cmd", "online"] = "cmd"
    start_time: float | None = None
    end_time: float | None = None
    skip: Annotated[int, Meta(ge=0, le=MAX_SKIP)] = 0
    limit: Annotated[int, Meta(ge=1)] = 20
    sort: Literal["asc", "desc"] = "desc"


async def control(call: Call) -> Any:
    """Send a device a control message: ``raw`` bytes, or ``attrs`` of a product with data points."""
    side = side_of(call)
    caller = call.caller
    assert isinstance(caller, AppCaller)
    user = await side.user(caller)
    record = await device_of(side, user, call.path["did"])
    if record.disabled:
        raise e.Refused(e.DEVICE_DISABLED)
    command = await order(
        side.core, record.id, body_of(await _content(side, record, call.body), expires=0.0), caller.name
    )
    if record.protocol == PROTOCOL:  # of now or never, so it is decided in a moment
        await _ended(side.core, command)
        if command.status == EXPIRED:
            raise e.Refused(e.DEVICE_OFFLINE)
        if command.status != SUCCEEDED:
            why = command.result.get("error", "") if isinstance(command.result, dict) else ""
            raise e.Refused(e.COMMAND_FAILED, str(why))
    return {}


async def _content(side: Side, record: DeviceRecord, body: Control) -> Payload:
    """What the device is to be told. Raises Refused."""
    if (body.raw is None) == (body.attrs is None):
        raise e.Refused(e.FORM_INVALID, "one of raw and attrs is needed")
    if body.raw is not None:
        raw = bytes(body.raw)
        return raw if record.protocol == PROTOCOL else content_of(raw)
    assert body.attrs is not None
    if record.protocol != PROTOCOL:
        return body.attrs
    table = await side.products.table(record.product)
    if table is None:
        raise e.Refused(e.ATTR_INVALID, "the product has no data points here")
    try:
        return table.control(body.attrs)
    except ValueError as error:
        raise e.Refused(e.ATTR_INVALID, str(error)) from None


async def _ended(core: Core, command: Command) -> None:
    """Wait for the final state."""
    if command.final:
        return
    ended: Deferred[Command] = Deferred()
    core.commands.wait(command.id, ended.callback)
    await ended


async def latest(call: Call) -> Any:
    """The last value of each data point of a device that some user of the application, or it itself, has bound."""
    side = side_of(call)
    check_proof(call, side)
    did = call.path["did"]
    caller = call.caller
    assert isinstance(caller, AppCaller)
    if not await side.users.has_device(caller.app, did):
        bound = await side.core.storage.applications_of(did)
        if caller.app not in bound:
            raise e.Refused(e.DEVICE_NOT_FOUND)
    live = side.core.devices.get(did)
    if live is not None:
        values, unmapped = live.values.values, live.values.unmapped
    else:
        values, unmapped = await side.core.storage.get_values(did)
    known = {**unmapped, **values}
    if not known:
        raise e.Refused(e.DATA_NOT_FOUND)
    updated_at = max(at for _, at in known.values())
    return {"did": did, "updated_at": int(updated_at), "attr": {name: value for name, (value, _) in known.items()}}


async def raw_data(call: Call) -> Any:
    """What a device said and was told, from its history and its commands, or when it came and went."""
    side = side_of(call)
    caller = call.caller
    assert isinstance(caller, AppCaller)
    query: RawData = call.query
    did = (await device_of(side, await side.user(caller), call.path["did"])).id
    limit = min(query.limit, MAX_PAGE)
    wanted = query.skip + limit
    if query.type == "online":
        found = side.presence_log.of(did)
    else:
        found = await _said(side, did, query, wanted) + await _told(side, did, wanted)
    since, until = query.start_time or 0.0, query.end_time or float("inf")
    found = [one for one in found if since <= one["timestamp"] <= until]
    found.sort(key=lambda one: one["timestamp"], reverse=query.sort == "desc")
    meta = {
        "did": did,
        "type": query.type,
        "sort": query.sort,
        "skip": query.skip,
        "limit": limit,
        "start_time": query.start_time,
        "end_time": query.end_time,
        "total": len(found),
    }
    return {"meta": meta, "objects": found[query.skip : wanted]}


async def _said(side: Side, did: str, query: RawData, wanted: int) -> list[dict[str, Any]]:
    """The newest messages from the device."""
    until = None if query.end_time is None else query.end_time + 0.001
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while len(found) < wanted:
        page, cursor = await side.core.storage.list_messages(did, None, query.start_time, until, 500, cursor)
        for one in page:
            if one.protocol != PROTOCOL or one.kind == RAW:
                found.append(_object("dev2app", one.at, codec.REPORT, one.payload))
        if cursor is None:
            break
    return found


async def _told(side: Side, did: str, wanted: int) -> list[dict[str, Any]]:
    """The newest commands to it; what apps sent over MQTT went its own way and is not kept."""
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while len(found) < wanted:
        page, cursor = await side.core.storage.list_commands(did, 500, cursor)
        found += [_object("app2dev", one.created_at, codec.CONTROL, one.payload) for one in page]
        if cursor is None:
            break
    return found


def _object(kind: str, at: float, command: int, payload: Payload) -> dict[str, Any]:
    frame = codec.frame(command, payload_bytes(payload))
    return {"type": kind, "ip": "", "timestamp": round(at, 3), "payload_bin": frame.hex()}


ROUTES = (
    Route("POST", "/app/control/{did}", control, USER, body=Control, accepts=ANY_TYPE, lenient=True),
    Route("GET", "/app/devdata/{did}/latest", latest, APP, lenient=True),
    Route("GET", "/app/devices/{did}/raw_data", raw_data, USER, query=RawData, lenient=True),
)
