"""Devices that register, and take themselves off, over HTTP (4.1, 4.2).

A device that registers again with the same product key and MAC keeps its DID and gets its new passcode; nothing about
that is an error, as agents try for ever. One that is reset says DELETE with its passcode, registers again, and then may
say DELETE once more, late and with the old passcode: that changes nothing. So the last passcodes are remembered::

    DELETE with the passcode        disabled, until it registers again
    DELETE with an earlier one      nothing
    DELETE with any other           refused

A device that the administrator has disabled may register, and stays disabled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from weakref import WeakValueDictionary

import msgspec
from twisted.internet.defer import DeferredLock

from broker.devices.gizwits import errors as e
from broker.devices.gizwits.identity import (
    PROTOCOL,
    TYPES,
    canonical_mac,
    is_passcode,
    is_product_key,
    random_did,
)
from broker.devices.gizwits.side import GizwitsDevices
from broker.model.errors import Conflict
from broker.model.records import DeviceRecord, Product
from broker.model.secrets import same_text
from broker.storage.deferred import deferred
from broker.storage.records import Records
from broker.storage.registry import Change

TABLE: Final = "gizwits_devices"
#: Earlier passcodes of one device that are remembered.
MAX_EARLIER: Final = 8


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """What a device was. ``gone``: it took itself off, and its registration brings it back."""

    passcodes: tuple[str, ...] = ()
    gone: bool = False

    def __repr__(self) -> str:
        return f"<Past of {len(self.passcodes)} passcodes>"


class Registration:
    """``devices`` is the device side."""

    def __init__(self, devices: GizwitsDevices) -> None:
        self._devices = devices
        self._registry = devices.core.registry
        self._past = Records(devices.core.storage, TABLE, Past)
        #: One registration of a MAC at a time, as long as somebody waits for it; of others many, which share commits.
        self._locks: WeakValueDictionary[str, DeferredLock] = WeakValueDictionary()
        devices.core.registry.on_change.append(self._changed)

    @deferred
    async def register(
        self, product_key: str, mac: str, passcode: str, type: str, admit: Callable[[], None] = lambda: None
    ) -> str:
        """The device's DID. ``admit()`` is asked before a device that nobody knows is taken, and may raise Refused.

        Raises Refused, Unavailable.
        """
        product = await self._product(product_key)
        known = canonical_mac(mac)
        if known is None:
            raise e.Refused(e.FORM_INVALID, "mac has to be 12 hexadecimal digits")
        if not is_passcode(passcode):
            raise e.Refused(e.FORM_INVALID, "passcode has to be 1 to 32 printable characters")
        if type not in TYPES:
            raise e.Refused(e.FORM_INVALID, f"type has to be one of {', '.join(TYPES)}")
        async with self._lock(known):
            record = await self._devices.find(product.key, known)
            if record is not None:
                await self._renew(record, passcode)
                return record.id
            admit()
            fields = {"protocol": PROTOCOL, "product": product.key, "mac": known, "secret": passcode}
            if type != TYPES[0]:
                fields["type"] = type
            try:
                record, _ = await self._registry.add_device(fields)
            except Conflict:  # the DID of this product and MAC belongs to a device that was given others
                record, _ = await self._registry.add_device({**fields, "id": random_did()})
            return record.id

    @deferred
    async def take_off(self, did: str, passcode: str) -> None:
        """Disable a device for itself. Raises Refused, Unavailable."""
        mac = canonical_mac((await self._devices.get(did)).attributes.get("mac"))
        async with self._lock(mac or did):
            record = await self.proven(did, passcode, earlier=True)
            if record is None:
                return
            past = await self._past.get(did) or Past()
            if not record.disabled:
                await self._past.put(did, Past(passcodes=past.passcodes, gone=True))
                await self._registry.update_device(did, {"disabled": True})

    @deferred
    async def proven(self, did: str, passcode: str, earlier: bool = False) -> DeviceRecord | None:
        """The device, if this is its passcode; None if it was and ``earlier`` ones are good. Raises Refused."""
        record = await self._devices.get(did)
        if same_text(passcode, record.secret):
            return record
        past = (await self._past.get(did) or Past()) if earlier else Past()
        if True in [same_text(passcode, one) for one in past.passcodes]:  # all are compared, whichever it is
            return None
        raise e.Refused(e.PASSCODE_INVALID)

    def _lock(self, key: str) -> DeferredLock:
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = DeferredLock()
        return lock

    async def _product(self, key: str) -> Product:
        if is_product_key(key):
            for spelling in dict.fromkeys((key, key.lower(), key.upper())):
                product = await self._registry.get_product(spelling)
                if product is not None and product.protocol == PROTOCOL:
                    return product
        raise e.Refused(e.PRODUCT_KEY_INVALID)

    async def _renew(self, record: DeviceRecord, passcode: str) -> None:
        past = await self._past.get(record.id) or Past()
        changes: dict[str, object] = {}
        if not same_text(passcode, record.secret):
            changes["secret"] = passcode
        if past.gone:
            changes["disabled"] = False
        if not changes:
            return
        # First what the passcode was: a crash in between leaves one that is remembered and still good, and that is all.
        earlier = tuple(one for one in past.passcodes if one not in (record.secret, passcode))
        if "secret" in changes:
            earlier = (record.secret, *earlier)[:MAX_EARLIER]
        await self._past.put(record.id, Past(passcodes=earlier, gone=past.gone))
        await self._registry.update_device(record.id, changes)
        if past.gone:
            await self._past.put(record.id, Past(passcodes=earlier))

    def _changed(self, change: Change) -> None:
        if change.what == "device_removed":
            self._past.remove(change.id).addErrback(self._kept)

    def _kept(self, failure: object) -> None:
        """What a removed device was could not be forgotten; it is harmless, and replaced when the device is back."""
        self._devices.log.warn("the past of a removed device was kept: {why}", why=failure)
