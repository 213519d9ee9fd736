"""Devices of users: bound, found, shown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta
from twisted.internet.defer import FirstError, ensureDeferred, gatherResults

from broker.applications.gizwits.calls.users import ANY_TYPE
from broker.applications.gizwits.forms import BindingChanges, BindMac, Bound, NamedDevices, NewBindings
from broker.applications.gizwits.products import bind_signature
from broker.applications.gizwits.side import Side, side_of
from broker.applications.gizwits.surface import APP, USER, AppCaller
from broker.applications.gizwits.user_records import Binding, UserRecord
from broker.devices.gizwits import errors as e
from broker.devices.gizwits.identity import PROTOCOL
from broker.model.errors import Disabled, Unauthenticated
from broker.model.records import DeviceRecord
from broker.model.secrets import same_text
from broker.web.routes import Call, Route

#: Devices of one page, at most.
MAX_PAGE: Final = 100


class Page(msgspec.Struct, kw_only=True):
    """Which bindings."""

    limit: Annotated[int, Meta(ge=0)] = 20
    skip: Annotated[int, Meta(ge=0)] = 0
    show_disabled: int = 0


class ByMac(msgspec.Struct, kw_only=True):
    """A device by what stands on it."""

    product_key: Annotated[str, Meta(max_length=64)]
    mac: Annotated[str, Meta(max_length=64)]


async def list_bindings(call: Call) -> Any:
    """The devices that the user has bound, the first one bound first."""
    side, user = side_of(call), await _user(call)
    page: Page = call.query
    bindings = sorted(user.bindings.items(), key=lambda one: one[1].at)
    records = await _all([side.core.registry.find_device(did) for did, _ in bindings])
    shown = [
        (record, binding)
        for record, (_, binding) in zip(records, bindings, strict=True)
        if record is not None and (page.show_disabled or not record.disabled)
    ]
    shown = shown[page.skip : page.skip + min(page.limit, MAX_PAGE)]
    return {"devices": await _all([_shape(call, side, record, binding) for record, binding in shown])}


async def _all(questions: Iterable[Any]) -> list[Any]:
    """Ask storage everything before the first answer is waited for. Fails as the first that does."""
    asked = [ensureDeferred(one) for one in questions]
    try:
        answers: list[Any] = await gatherResults(asked, consumeErrors=True)
    except FirstError as error:
        error.subFailure.raiseException()
    return answers


async def add_bindings(call: Call) -> Any:
    """Bind devices by id and passcode."""
    side, caller = side_of(call), _caller(call)
    body: NewBindings = call.body
    success: list[str] = []
    failed: list[str] = []
    guesses = 0
    for one in body.devices:
        try:
            await _prove_device(side, one.did, one.passcode)
            await side.users.bind(caller.app, caller.uid, one.did, one.remark, one.dev_alias)
        except (e.Refused, Unauthenticated, Disabled) as error:
            guesses += isinstance(error, Unauthenticated)
            failed.append(one.did)
        else:
            success.append(one.did)
    if guesses:
        await side.surface.delay(call.request, guesses)
    return Bound(success, failed)


async def _prove_device(side: Side, did: str, passcode: str) -> None:
    """Raises Unauthenticated for an unknown device as for a wrong passcode; Disabled."""
    registry = side.core.registry
    record = await registry.find_device(did)
    protocol = record.protocol if record is not None and record.protocol in registry.protocols else PROTOCOL
    await registry.login_device(protocol, did, passcode)


async def remove_bindings(call: Call) -> Any:
    """Unbind devices."""
    side, caller = side_of(call), _caller(call)
    body: NamedDevices = call.body
    answer = Bound([], [])
    for one in body.devices:
        gone = await side.users.unbind(caller.app, caller.uid, one.did)
        (answer.success if gone else answer.failed).append(one.did)
    return answer


async def change_binding(call: Call) -> Any:
    """Change what is noted of a device."""
    side, user = side_of(call), await _user(call)
    did = call.path["did"]
    body: BindingChanges = call.body
    old = _binding(user, did)
    remark = old.remark if body.remark is None else body.remark
    alias = old.dev_alias if body.dev_alias is None else body.dev_alias
    await side.users.bind(user.app, user.uid, did, remark, alias)
    return {"remark": remark, "dev_alias": alias}


async def bind_mac(call: Call) -> Any:
    """Bind a device by its MAC; the product's secret signs the request."""
    side, caller = side_of(call), _caller(call)
    body: BindMac = call.body
    await _check_signature(call, side, body.product_key)
    record = await side.devices.find(body.product_key, body.mac)
    if record is None:
        raise e.Refused(e.DEVICE_NOT_FOUND)
    if record.disabled:
        raise e.Refused(e.DEVICE_DISABLED)
    user = await side.users.bind(caller.app, caller.uid, record.id, body.remark, body.dev_alias)
    return await _shape(call, side, record, user.bindings[record.id])


def check_proof(call: Call, side: Side) -> None:
    """What an application's id alone opens, unless that is switched off. Raises Refused (9004)."""
    proof = call.header("x-gizwits-application-token") or ""
    if not side.limits.open_to_ids and not side.proofs.good(_caller(call).app, proof):
        raise e.Refused(e.TOKEN_INVALID, "X-Gizwits-Application-Token is needed here, see /app/request_token")


async def _check_signature(call: Call, side: Side, product: str) -> None:
    """X-Gizwits-Timestamp of now, X-Gizwits-Signature = md5(product secret + timestamp). Raises Refused."""
    timestamp = call.header("x-gizwits-timestamp") or ""
    signature = call.header("x-gizwits-signature") or ""
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 12):
        raise e.Refused(e.FORM_INVALID, "X-Gizwits-Timestamp is needed: UNIX seconds")
    if abs(int(timestamp) - side.core.clock()) > side.limits.max_clock_skew:
        raise e.Refused(e.FORM_INVALID, "X-Gizwits-Timestamp is not of now")
    if await side.core.registry.get_product(product) is None:
        raise e.Refused(e.PRODUCT_KEY_INVALID)
    secret = (await side.products.extra(product)).secret  # nosec B610 # no Django
    if not same_text(bind_signature(secret, timestamp), signature) or not secret:
        await side.surface.delay(call.request)
        raise e.Refused(e.FORM_INVALID, "X-Gizwits-Signature is wrong")


async def get_device(call: Call) -> Any:
    """A device that the user has bound."""
    side, user = side_of(call), await _user(call)
    did = call.path["did"]
    return await _shape(call, side, await device_of(side, user, did), user.bindings[did])


async def find_device(call: Call) -> Any:
    """Id and passcode of a device, by product key and MAC."""
    side = side_of(call)
    query: ByMac = call.query
    check_proof(call, side)
    record = await side.devices.find(query.product_key, query.mac)
    if record is None:
        await side.surface.delay(call.request)  # MACs can be guessed
        raise e.Refused(e.DEVICE_NOT_FOUND)
    if record.disabled:
        raise e.Refused(e.DEVICE_DISABLED)
    return {"did": record.id, "passcode": record.secret}


async def _shape(call: Call, side: Side, record: DeviceRecord, binding: Binding) -> dict[str, Any]:
    """A device as apps know it. Of a device of another protocol no passcode is known that could be told."""
    product = None if record.product is None else await side.core.registry.get_product(record.product)
    live = side.core.devices.get(record.id)
    online = record.online if live is None else live.online
    info = record.info if live is None else live.info
    return {
        "product_key": record.product or "",
        "product_name": "" if product is None else product.name,
        "did": record.id,
        "mac": str(record.attributes.get("mac", "")),
        "is_online": online or side.core.whereabouts.online(record.id),
        "passcode": record.secret if record.protocol == PROTOCOL else "",
        **side.addresses(call),
        "remark": binding.remark,
        "dev_alias": binding.dev_alias,
        "dev_label": [],
        "is_disabled": record.disabled,
        "type": str(record.attributes.get("type", "normal")),
        "protoc": 3,
        "proto_ver": "04",
        "wifi_soft_version": _version(info, "wifi", "soft_version"),
        "mcu_soft_version": _version(info, "mcu", "soft_version"),
        "mcu_hard_version": _version(info, "mcu", "hard_version"),
        "is_sandbox": False,
        "role": "normal",
    }


def _version(info: dict[str, Any], part: str, name: str) -> str:
    """What the device has told of its firmware, empty for nothing."""
    told = info.get(part)
    version = told.get(name) if isinstance(told, dict) else None
    return version if isinstance(version, str) else ""


async def device_of(side: Side, user: UserRecord, did: str) -> DeviceRecord:
    """A device that the user has bound. Raises Refused (9014, 9017)."""
    _binding(user, did)
    record = await side.core.registry.find_device(did)
    if record is None:
        raise e.Refused(e.DEVICE_NOT_FOUND)
    return record


def _binding(user: UserRecord, did: str) -> Binding:
    binding = user.bindings.get(did)
    if binding is None:
        raise e.Refused(e.NOT_BOUND)
    return binding


def _caller(call: Call) -> AppCaller:
    caller = call.caller
    assert isinstance(caller, AppCaller)
    return caller


async def _user(call: Call) -> UserRecord:
    return await side_of(call).user(_caller(call))


ROUTES = (
    Route("GET", "/app/bindings", list_bindings, USER, query=Page, lenient=True),
    Route("POST", "/app/bindings", add_bindings, USER, body=NewBindings, accepts=ANY_TYPE, lenient=True),
    Route("DELETE", "/app/bindings", remove_bindings, USER, body=NamedDevices, accepts=ANY_TYPE, lenient=True),
    Route("PUT", "/app/bindings/{did}", change_binding, USER, body=BindingChanges, accepts=ANY_TYPE, lenient=True),
    Route("POST", "/app/bind_mac", bind_mac, USER, body=BindMac, status=201, accepts=ANY_TYPE, lenient=True),
    Route("GET", "/app/devices", find_device, APP, query=ByMac, lenient=True),
    Route("GET", "/app/devices/{did}", get_device, USER, lenient=True),
)
