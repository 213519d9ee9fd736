"""What a Gizwits product has besides what every product has, and what an application of kind gizwits has.

A product's data points make its P0 bytes readable: commands and reports as ``attrs``, and last values by name, for
every side of the broker. Its secret signs `POST /app/bind_mac`. Both are the administrator's to set.
"""

from __future__ import annotations

from hashlib import md5
from typing import Any, ClassVar

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from broker.core import Core
from broker.devices.gizwits.datapoints import BRIDGE, DataPoint, Table
from broker.devices.gizwits.identity import PROTOCOL
from broker.model.errors import BrokerError
from broker.model.messages import RAW, DeviceRef, Uplink
from broker.model.secrets import hash_secret, verify_secret
from broker.storage.records import Records
from broker.storage.registry import Change


class ProductExtra(msgspec.Struct, frozen=True, omit_defaults=True):
    """Of a product; ``secret`` is readable, as requests are signed with it."""

    secret: str = ""
    datapoints: tuple[DataPoint, ...] = ()

    def __repr__(self) -> str:
        return f"<ProductExtra with {len(self.datapoints)} data points>"


class ApplicationExtra(msgspec.Struct, frozen=True, omit_defaults=True):
    """Of an application. ``auth``: hash of md5(appid + secret); ``sources``: who vouches for users -> the key."""

    auth: str = ""
    sources: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"<ApplicationExtra with {len(self.sources)} sources>"


class Products:
    """Tables of data points, kept for as long as they are used, and put where each live device has them at hand."""

    log: ClassVar[Logger] = Logger(namespace="broker.gizwits")

    def __init__(self, core: Core, storage: Any) -> None:
        self._core = core
        self._extras = Records(storage, "gizwits_products", ProductExtra)
        self._applications = Records(storage, "gizwits_applications", ApplicationExtra)
        #: Product key -> its table, None for none; bounded by the number of products.
        self._tables: dict[str, Table | None] = {}
        #: Whether any product that was asked for has data points: others pay nothing for those.
        self.in_use = False
        #: Devices that apps here listen to -> their products, where they may be connected to other processes.
        self._followed: dict[str, str | None] = {}
        core.registry.on_change.append(self._changed)
        core.backplane.hear("giz.product", self._heard)

    # -- products --------------------------------------------------------------------------------------------------

    async def extra(self, product: str) -> ProductExtra:
        return await self._extras.get(product) or ProductExtra()

    async def set_extra(self, product: str, extra: ProductExtra) -> None:
        """Raises ValueError for data points that cannot be."""
        table = Table(extra.datapoints) if extra.datapoints else None
        await self._extras.put(product, extra)
        self._keep(product, table)
        self._tell_devices()
        if not self._core.backplane.alone:
            self._core.backplane.tell("giz.product", product.encode())

    def _heard(self, node: str, body: bytes) -> None:
        """Another process has given a product other data points: they are read when they are asked for."""
        if node != self._core.backplane.node:
            product = body.decode()
            self._tables.pop(product, None)
            self._tell_devices()
            for did in [did for did, followed in self._followed.items() if followed == product]:
                self._look_up(did)

    def _tell_devices(self) -> None:
        for live in self._core.devices:
            if live.ref.protocol == PROTOCOL and live.online:
                self.arrived(live.ref)

    async def table(self, product: str | None) -> Table | None:
        """The data points of a product, None without any."""
        if product is None:
            return None
        if product not in self._tables:
            extra = await self.extra(product)  # nosec B610 # no Django
            self._keep(product, Table(extra.datapoints) if extra.datapoints else None)
        return self._tables[product]

    def _keep(self, product: str, table: Table | None) -> None:
        self._tables[product] = table
        self.in_use = any(self._tables.values())

    def table_of(self, did: str) -> Table | None:
        """That of a device which is connected, or which somebody here follows; at once."""
        live = self._core.devices.get(did)
        if live is not None:
            table: Table | None = live.bridges.get(BRIDGE)
            return table
        product = self._followed.get(did)
        return None if product is None else self._tables.get(product)

    def arrived(self, device: DeviceRef) -> None:
        """A Gizwits device is connected: have its table ready."""
        self._look_up(device.id)

    def follow(self, did: str, product: str | None) -> None:
        """Have the table of a device at hand, also while another process has it; `table` was asked for it."""
        if not self._core.backplane.alone:
            self._followed[did] = product

    def unfollow(self, did: str) -> None:
        """That is not needed any more."""
        self._followed.pop(did, None)

    def _look_up(self, did: str) -> None:
        looking = Deferred.fromCoroutine(self._prepare(did))
        looking.addErrback(lambda failure: failure.trap(BrokerError))
        looking.addErrback(lambda failure: self.log.failure("fault while data points were read", failure))

    async def _prepare(self, did: str) -> None:
        record = await self._core.registry.find_device(did)
        table = None if record is None else await self.table(record.product)
        if did in self._followed:
            self._followed[did] = None if record is None else record.product
        live = self._core.devices.get(did)
        if live is not None and live.ref.protocol == PROTOCOL:
            live.bridges[BRIDGE] = table

    def uplink(self, message: Uplink) -> None:
        """Keep what a report says as last values, by name."""
        if message.kind != RAW or not isinstance(message.payload, bytes):
            return
        live = self._core.devices.get(message.device.id)
        table: Table | None = None if live is None else live.bridges.get(BRIDGE)
        if live is not None and table is not None:
            attrs = table.attrs(message.payload)
            if attrs:
                live.values.update(attrs, message.received_at)

    def _changed(self, change: Change) -> None:
        if change.what == "device_updated":
            live = self._core.devices.get(change.id)
            if change.id in self._followed or (live is not None and live.ref.protocol == PROTOCOL):
                self._look_up(change.id)
        elif change.what == "application_removed":
            self._applications.remove(change.id).addErrback(lambda failure: failure.trap(BrokerError))

    # -- applications ----------------------------------------------------------------------------------------------

    async def application(self, app: str) -> ApplicationExtra:
        return await self._applications.get(app) or ApplicationExtra()

    async def set_application(self, app: str, secret: str | None, sources: dict[str, str] | None) -> ApplicationExtra:
        """What is None stays."""
        old = await self.application(app)
        fresh = ApplicationExtra(
            old.auth if secret is None else hash_secret(application_auth(app, secret)),
            old.sources if sources is None else sources,
        )
        await self._applications.put(app, fresh)
        return fresh

    async def proves_application(self, app: str, auth: str) -> bool:
        """Whether this is md5(appid + secret) of the application."""
        return verify_secret(auth.lower(), (await self.application(app)).auth)


def application_auth(app: str, secret: str) -> str:
    return md5(f"{app}{secret}".encode(), usedforsecurity=False).hexdigest()


def bind_signature(product_secret: str, timestamp: str) -> str:
    return md5(f"{product_secret}{timestamp}".encode(), usedforsecurity=False).hexdigest()
