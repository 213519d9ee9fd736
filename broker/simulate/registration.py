"""Making sure that the registry knows what is simulated.

Every function may be called again: what exists is brought up to date and gets a new secret, so that no secret has to be
kept between two runs.
"""

from __future__ import annotations

from secrets import token_hex
from typing import Any

from broker.simulate.api import Api, ApiError, segment


async def ensure_product(api: Api, product: dict[str, Any]) -> None:
    """Add or change a product; ``product`` is the body of ``POST /products``."""
    changes = {name: value for name, value in product.items() if name not in ("key", "protocol")}
    await _ensure(api, "/products", product, product["key"], changes)


async def ensure_device(api: Api, device: dict[str, Any]) -> str:
    """Add or change a device, which has an ``id``; its new secret."""
    secret = token_hex(32)
    changes = {name: value for name, value in device.items() if name in ("name", "product")}
    await _ensure(api, "/devices", device | {"secret": secret}, device["id"], changes | {"secret": secret})
    return secret


async def ensure_application(api: Api, id: str, kind: str, devices: list[str], name: str = "") -> str:
    """Add or change an application, and bind it to these devices; its new secret."""
    secret = token_hex(32)
    changes = {"secret": secret, "name": name}
    await _ensure(api, "/applications", {"id": id, "kind": kind, **changes}, id, changes)
    for device in devices:
        await api.call("PUT", f"/applications/{segment(id)}/devices/{segment(device)}")
    return secret


async def ensure_customer(api: Api, id: str, cs_eui: str, app_key: str, devices: list[str], name: str = "") -> None:
    """Add or change a customer server (LoRaCenter), and bind it to these devices. An empty key: it needs no proof."""
    changes = {"cs_eui": cs_eui, "app_key": app_key, "name": name}
    await _ensure(api, "/applications", {"id": id, "kind": "loracenter", **changes}, id, changes)
    for device in devices:
        await api.call("PUT", f"/applications/{segment(id)}/devices/{segment(device)}")


async def _ensure(api: Api, path: str, body: dict[str, Any], id: str, changes: dict[str, Any]) -> None:
    try:
        await api.call("POST", path, body)
    except ApiError as error:
        if error.slug != "conflict":
            raise
        await api.call("PATCH", f"{path}/{segment(id)}", changes)
