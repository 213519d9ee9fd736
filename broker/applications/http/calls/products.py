"""Products: kinds of devices, with what they measure and what they can be told. The administrator's."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from broker.applications.http.shapes import ProductPage, ProductShape, product_shape
from broker.model.errors import NotFound
from broker.model.records import Actuator, Product, Sensor
from broker.web.problems import Problem
from broker.web.routes import ADMIN, API, Call, Route

Key = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.\-]+$")]
Name = Annotated[str, Meta(max_length=128)]
#: A product's keys are held in memory by each of its connected devices.
Sensors = Annotated[list[Sensor], Meta(max_length=512)]
Actuators = Annotated[list[Actuator], Meta(max_length=512)]


class NewProduct(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A product to add."""

    #: Its key, which cannot be changed.
    key: Key
    #: The protocol of its devices, which cannot be changed: gateway88, gizwits, lorawan, novacloud, or a plugin's.
    protocol: Annotated[str, Meta(min_length=1, max_length=64)]
    #: Its name for people; empty: the key.
    name: Name = ""
    #: What its devices measure; values under other keys are kept as ``unmapped``.
    sensors: Sensors = []
    #: What its devices can be told; commands with other keys are refused unless forced (gizwits: they are not).
    actuators: Actuators = []


class ProductChanges(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What is to change; what is left out stays."""

    #: Its name for people.
    name: Name | UnsetType = UNSET
    #: What its devices measure, all of it anew.
    sensors: Sensors | UnsetType = UNSET
    #: What its devices can be told, all of it anew.
    actuators: Actuators | UnsetType = UNSET


class ProductPath(msgspec.Struct):
    """Which product."""

    #: The key of the product.
    key: str


async def list_products(call: Call) -> Any:
    """All products."""
    products = await call.core.registry.list_products()
    return ProductPage([product_shape(product) for product in products], None)


async def add_product(call: Call) -> Any:
    """Add a product."""
    body: NewProduct = call.body
    product = Product(
        key=body.key,
        name=body.name or body.key,
        protocol=body.protocol,
        sensors=tuple(body.sensors),
        actuators=tuple(body.actuators),
        created_at=call.core.clock(),
    )
    await call.core.registry.add_product(product)
    return product_shape(product)


async def get_product(call: Call) -> Any:
    """A product."""
    return product_shape(await _product(call))


async def change_product(call: Call) -> Any:
    """Change a product; the last values of its devices are sorted anew."""
    body: ProductChanges = call.body
    old = await _product(call)
    product = msgspec.structs.replace(
        old,
        name=old.name if body.name is UNSET else body.name,
        sensors=old.sensors if body.sensors is UNSET else tuple(body.sensors),
        actuators=old.actuators if body.actuators is UNSET else tuple(body.actuators),
    )
    await call.core.registry.save_product(product)
    return product_shape(product)


async def delete_product(call: Call) -> Any:
    """Delete a product that no device has."""
    await call.core.registry.delete_product(call.path["key"])


async def _product(call: Call) -> Product:
    key = call.path["key"]
    product: Product | None = await call.core.registry.get_product(key)
    if product is None:
        raise NotFound(f"no product {key!r}"[:200])
    return product


_HAS_DEVICES = {409: (Problem, "Devices have this product")}

ROUTES = (
    Route("GET", f"{API}/products", list_products, ADMIN, answers=ProductPage),
    Route("POST", f"{API}/products", add_product, ADMIN, body=NewProduct, answers=ProductShape, status=201),
    Route("GET", f"{API}/products/{{key}}", get_product, ADMIN, answers=ProductShape, path_shape=ProductPath),
    Route(
        "PATCH",
        f"{API}/products/{{key}}",
        change_product,
        ADMIN,
        body=ProductChanges,
        answers=ProductShape,
        path_shape=ProductPath,
    ),
    Route(
        "DELETE",
        f"{API}/products/{{key}}",
        delete_product,
        ADMIN,
        status=204,
        also=_HAS_DEVICES,
        path_shape=ProductPath,
    ),
)
