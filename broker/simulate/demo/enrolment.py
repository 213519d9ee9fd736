"""Everybody is registered through the public API, at each start and with fresh secrets: any data folder will do."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from random import SystemRandom
from secrets import token_hex
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred, DeferredSemaphore, FirstError, gatherResults

from broker.simulate.api import Api, ApiError, segment
from broker.simulate.demo import cast
from broker.simulate.demo.cast import Subject
from broker.simulate.gizwits_lamp import DATAPOINTS
from broker.simulate.gizwits_traits import gizwits_identity
from broker.simulate.registration import ensure_application, ensure_customer, ensure_product

#: Calls that are under way at once.
AT_ONCE: Final = 6
#: A rule under which coming and going is soon told; it goes to nobody, but the console shows what it makes of it.
RULE: Final = {
    "name": "demo · 演示",
    "kinds": ["device_offline", "device_online", "gateway_offline", "gateway_online", "command_failed"],
    "offline_after": 10,
    "debounce": 5,
}
#: What of a registration is no change.
_FIXED: Final = ("protocol", "id", "join_eui", "mac")


class Keys(msgspec.Struct):
    """The secrets of this run."""

    #: Device -> its secret: a key, a passcode, an AppKey.
    devices: dict[str, str] = {}
    #: Mote that needs no join -> DevAddr, NwkSKey, AppSKey.
    sessions: dict[str, tuple[int, bytes, bytes]] = {}
    #: Application -> its secret.
    applications: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"<Keys of {len(self.devices)} devices, {len(self.applications)} applications>"


async def enrol(api: Api) -> Keys:
    """Register the cast. Raises ApiError."""
    keys = Keys()
    await _all(_product(api, product) for product in cast.PRODUCTS)
    await _all(
        [
            enrol_devices(api, cast.SUBJECTS, keys),
            _forwarders(api),
            _rule(api),
            *(_application(api, id, kind, name, keys) for id, (kind, name) in cast.APPLICATIONS.items()),
        ]
    )
    keys.applications[cast.CUSTOMER] = token_hex(16).upper()
    await ensure_customer(api, cast.CUSTOMER, cast.CS_EUI, keys.applications[cast.CUSTOMER], [], cast.CUSTOMER_NAME)
    await _all(_bind(api, id) for id in (*cast.APPLICATIONS, cast.CUSTOMER))
    return keys


async def enrol_devices(api: Api, subjects: Iterable[Subject], keys: Keys) -> None:
    """Register these; those that are there already, from an earlier run, are given what they have now."""
    devices = [registration(subject, keys) for subject in subjects]
    answer = await api.import_devices(devices)
    await _all(_change(api, devices[failed["line"] - 1]) for failed in answer["failed"])


def registration(subject: Subject, keys: Keys) -> dict[str, Any]:
    """The body of ``POST /devices``; its secrets are noted in ``keys``."""
    body: dict[str, Any] = {"protocol": subject.protocol, "id": subject.id, "product": subject.product}
    body["name"] = subject.name
    if subject.protocol != cast.LORAWAN and subject.eui:
        body["dev_eui"] = subject.eui
    if subject.protocol == cast.NOVACLOUD:
        body["secret"] = keys.devices[subject.id] = token_hex(32)
    elif subject.protocol == cast.GIZWITS:
        # As modules make their own; it registers itself with this one.
        passcode = "".join(SystemRandom().choice("ABCDEFGHIJKLMNOPQRSTUVWXY") for _ in range(10))
        body["secret"] = keys.devices[subject.id] = passcode
        body["mac"] = gizwits_identity(subject.product, cast.SEED, subject.number).mac
    elif subject.protocol == cast.LORAWAN:
        body |= _mote(subject, keys)
    return body


def _mote(subject: Subject, keys: Keys) -> dict[str, Any]:
    key = keys.devices[subject.id] = token_hex(16).upper()
    fields = {"app_key": key, "class": "C" if subject.class_c else "A"}
    if not subject.prompt:
        return fields | {"join_eui": cast.CS_EUI}
    address, nwk_s_key, app_s_key = 0x01DE_0000 + subject.number, token_hex(16), token_hex(16)
    keys.sessions[subject.id] = (address, bytes.fromhex(nwk_s_key), bytes.fromhex(app_s_key))
    return fields | {"dev_addr": f"{address:08X}", "nwk_s_key": nwk_s_key, "app_s_key": app_s_key}


async def _product(api: Api, product: dict[str, Any]) -> None:
    await ensure_product(api, product)
    if product["protocol"] == cast.GIZWITS:
        await api.call("PUT", f"/gizwits/products/{product['key']}/datapoints", {"datapoints": DATAPOINTS})


async def _change(api: Api, device: dict[str, Any]) -> None:
    changes = {name: value for name, value in device.items() if name not in _FIXED}
    path = f"/devices/{segment(device['id'])}"
    try:
        await api.call("PATCH", path, changes)
    except ApiError as error:
        if error.slug != "invalid":
            raise
        # An earlier cast had somebody else in this place, such as a mote that joins.
        await api.call("DELETE", path)
        await api.call("POST", "/devices", device)


async def _forwarders(api: Api) -> None:
    for eui, name in cast.FORWARDERS:
        try:
            await api.call("POST", "/lorawan/gateways", {"eui": eui, "name": name})
        except ApiError as error:
            if error.slug != "conflict":
                raise


async def _rule(api: Api) -> None:
    rules = await api.call("GET", "/event-rules")
    if not any(rule["name"] == RULE["name"] for rule in rules["items"]):
        await api.call("POST", "/event-rules", RULE)


async def _application(api: Api, id: str, kind: str, name: str, keys: Keys) -> None:
    keys.applications[id] = await ensure_application(api, id, kind, [], name)


async def _bind(api: Api, id: str) -> None:
    """Every application may use the whole cast."""
    path = f"/applications/{segment(id)}"
    bound = set((await api.call("GET", path))["devices"])
    missing = [subject.id for subject in cast.SUBJECTS if subject.id not in bound]
    await _all(api.call("PUT", f"{path}/devices/{segment(device)}") for device in missing)


async def _all(works: Iterable[Coroutine[Any, Any, Any]]) -> None:
    """Do them, some at once. Raises what the first failure was; the others go on."""
    turns = DeferredSemaphore(AT_ONCE)

    def begin(work: Coroutine[Any, Any, Any]) -> Callable[[], Deferred[Any]]:
        return lambda: Deferred.fromCoroutine(work)

    try:
        await gatherResults([turns.run(begin(work)) for work in works], consumeErrors=True)
    except FirstError as error:
        error.subFailure.raiseException()
