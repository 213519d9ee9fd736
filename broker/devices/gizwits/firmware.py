"""Firmware images: kept as files, their particulars and rules as records, and all of those in memory.

::

    upload ──> file "gizwits-firmware/<fid>" ──> record, inactive ──> PATCH {active, rule} ──> offered, and devices told

There are few images, and every device asks for its own at each start, so what is known of them is not read from disk.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Final

import msgspec
from msgspec import structs
from twisted.logger import Logger
from twisted.python.failure import Failure

from broker.core import Core
from broker.devices.gizwits.errors import FIRMWARE_NOT_FOUND, Refused
from broker.devices.gizwits.identity import PROTOCOL
from broker.devices.gizwits.rollout import Image, Rule, choose
from broker.model.errors import BrokerError, Conflict, Invalid, NotFound, Unavailable
from broker.storage.deferred import deferred
from broker.storage.files import FileInfo
from broker.storage.records import Records

AREA: Final = "gizwits-firmware"
TABLE: Final = "gizwits_firmware"
COUNTERS: Final = "gizwits_counters"
#: Agents say that they have firmware 1 when they have none of ours.
FIRST_FID: Final = 1_001
#: Images that are kept: all of them are in memory.
MAX_IMAGES: Final = 10_000
TRIES: Final = 10


class Counter(msgspec.Struct):
    """The last number that was given."""

    last: int


def key_of(fid: int) -> str:
    """So that the order of keys is that of numbers."""
    return f"{fid:010d}"


class FirmwareStore:
    """Call `load` before devices come."""

    log: ClassVar[Logger] = Logger(namespace="broker.gizwits")

    def __init__(self, core: Core) -> None:
        self._core = core
        self._records = Records(core.storage, TABLE, Image)
        self._counters = Records(core.storage, COUNTERS, Counter)
        self._images: dict[int, Image] = {}
        #: (product, kind, hardware version) -> its images
        self._by_target: dict[tuple[str, int, str], dict[int, Image]] = {}
        core.backplane.hear("giz.firmware", self._told)

    @deferred
    async def load(self) -> None:
        """Raises Unavailable."""
        for _, image in await self._records.all():
            self._remember(image)

    # -- for devices -----------------------------------------------------------------------------------------------

    def offer(self, product: str, kind: int, hard_version: str, did: str | None, version: str) -> Image | None:
        """What a device with this software version should have instead."""
        return choose(self._by_target.get((product.lower(), kind, hard_version), {}).values(), did, version)

    def any_for(self, product: str, kind: int, hard_version: str) -> bool:
        """Whether there is any image for such devices."""
        return (product.lower(), kind, hard_version) in self._by_target

    @deferred
    async def content(self, fid: str, offered: bool = False) -> tuple[Image, FileInfo]:
        """An image that is active, or ``offered`` to one device, and its file. Raises Refused, Unavailable."""
        image = self._images.get(int(fid)) if fid.isascii() and fid.isdigit() and len(fid) <= 10 else None
        info = None
        if image is not None and (image.active or offered):
            info = await self._core.files.get(AREA, image.file)
        if image is None or info is None:
            raise Refused(FIRMWARE_NOT_FOUND)
        return image, info

    # -- for the administrator -------------------------------------------------------------------------------------

    def images(self, product: str | None = None) -> list[Image]:
        """By number."""
        found: Iterable[Image] = (self._images[fid] for fid in sorted(self._images))
        return [image for image in found if product is None or image.product.lower() == product.lower()]

    def get(self, fid: int) -> Image:
        """Raises NotFound."""
        image = self._images.get(fid)
        if image is None:
            raise NotFound(f"there is no firmware {fid}")
        return image

    @deferred
    async def check(self, product: str) -> str:
        """The product's key as it is registered. Raises NotFound, Invalid, Unavailable."""
        known = await self._core.registry.get_product(product)
        if known is None:
            raise NotFound(f"there is no product {product!r}")
        if known.protocol != PROTOCOL:
            raise Invalid(f"the product {product!r} is one of {known.protocol} devices")
        if len(self._images) >= MAX_IMAGES:
            raise Conflict(f"there are {MAX_IMAGES} images already")
        return known.key

    @deferred
    async def add(
        self, product: str, kind: int, hard_version: str, soft_version: str, filename: str, source: Any
    ) -> Image:
        """Keep a new image, not yet active. Raises Invalid, Unavailable, and what the source does."""
        product = await self.check(product)
        fid = await self._new_fid()
        info = await self._core.files.create(AREA, key_of(fid)).take(source)
        if not info.size:
            await self._core.files.remove(info)
            raise Invalid("the image is empty")
        image = Image(
            fid=fid,
            product=product,
            kind=kind,
            hard_version=hard_version,
            soft_version=soft_version,
            file=info.id,
            filename=filename,
            size=info.size,
            md5=info.md5,
            created_at=self._core.clock(),
        )
        await self._records.add(key_of(fid), image)
        self._remember(image)
        self._tell(fid)
        return image

    @deferred
    async def change(self, fid: int, active: bool | None, rule: Rule | None) -> Image:
        """Switch an image on or off, give it another rule. Raises NotFound, Unavailable."""
        image = self.get(fid)
        changed = structs.replace(
            image,
            active=image.active if active is None else active,
            rule=image.rule if rule is None else rule,
        )
        await self._records.put(key_of(fid), changed)
        self._remember(changed)
        self._tell(fid)
        return changed

    @deferred
    async def remove(self, fid: int) -> None:
        """Raises NotFound, Unavailable."""
        image = self.get(fid)
        await self._records.remove(key_of(fid))
        self._forget(image)
        self._tell(fid)
        info = await self._core.files.get(AREA, image.file)
        if info is not None:
            await self._core.files.remove(info)

    def _tell(self, fid: int) -> None:
        """Other processes have to know."""
        if not self._core.backplane.alone:
            self._core.backplane.tell("giz.firmware", str(fid).encode())

    def _told(self, node: str, body: bytes) -> None:
        if node != self._core.backplane.node:
            fid = int(body)
            self._records.get(key_of(fid)).addCallback(self._changed, fid).addErrback(self._not_read, fid)

    def _changed(self, image: Image | None, fid: int) -> None:
        known = self._images.get(fid)
        if image is not None:
            self._remember(image)
        elif known is not None:
            self._forget(known)

    def _not_read(self, failure: Failure, fid: int) -> None:
        failure.trap(BrokerError)
        why = failure.getErrorMessage()
        self.log.warn("firmware {fid} was changed by another process, and not read: {why}", fid=fid, why=why)

    def _forget(self, image: Image) -> None:
        self._images.pop(image.fid, None)
        target = (image.product.lower(), image.kind, image.hard_version)
        others = self._by_target.get(target, {})
        others.pop(image.fid, None)
        if not others:
            self._by_target.pop(target, None)

    def _remember(self, image: Image) -> None:
        self._images[image.fid] = image
        self._by_target.setdefault((image.product.lower(), image.kind, image.hard_version), {})[image.fid] = image

    async def _new_fid(self) -> int:
        for _ in range(TRIES):
            found = await self._counters.look("fid")
            fid = FIRST_FID if found is None else found[0].last + 1
            change = self._counters.change("fid", Counter(fid), None if found is None else found[1])
            try:
                await self._core.storage.write_records((change,))
            except Conflict:
                continue
            return fid
        raise Unavailable("too many images are being added at once")
