"""The rules of the registry over a storage: what may be registered, who may log in, and who is told of changes.

Identity and rights are those of DESIGN §6. The fields of devices and applications come as JSON objects from outside;
`forms` makes records of them by `rules`, and what is particular to a protocol comes from its `DeviceRules` in
``protocols``. After a change is on disk, the listeners in ``on_change`` are told, in the order of the changes.

Look-ups of devices go to storage each time: the registry keeps no devices in memory. What it keeps is one `Rights` per
application that somebody holds, and keeps it true. That works because storage answers in the order of the calls: a
binding that was asked for after the list of bindings is answered after it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar
from weakref import WeakValueDictionary

from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger

from broker.model.errors import BrokerError, Conflict, Disabled, Invalid, NotFound, Unauthenticated
from broker.model.records import ApplicationRecord, DeviceQuery, DeviceRecord, Product
from broker.model.secrets import hash_secret, make_secret, same_text, verify_secret
from broker.storage import rules
from broker.storage.deferred import deferred
from broker.storage.forms import changed_application, changed_device, check_product, new_application, new_device
from broker.storage.identity import Change, ImportResult, Login, Rights
from broker.storage.interface import IStorage
from broker.storage.rules import APPLICATION_KINDS, DeviceRules

__all__ = ["APPLICATION_KINDS", "Change", "DeviceRules", "ImportResult", "Login", "Registry", "Rights"]

#: Devices that `Registry.add_devices` puts into one operation: some milliseconds of work for reactor and disk.
IMPORT_SLICE = 500
#: One text for unknown ids and wrong secrets.
WRONG = "unknown id or wrong secret"


class Registry:
    """``clock`` gives UNIX seconds; ``protocols`` the registration rules by protocol (protocols add theirs later)."""

    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        storage: IStorage,
        clock: Callable[[], float],
        protocols: Mapping[str, DeviceRules] | None = None,
    ) -> None:
        self._storage = storage
        self._clock = clock
        self.protocols: dict[str, DeviceRules] = dict(protocols or {})
        self.on_change: list[Callable[[Change], None]] = []
        #: Told of each new device, which by then is on disk.
        self.on_added: list[Callable[[DeviceRecord], None]] = []
        self._rights: WeakValueDictionary[str, Rights] = WeakValueDictionary()
        #: Changes so far that a login under way has to take notice of.
        self._device_changes = 0
        self._application_changes = 0
        #: Held from reading a record to writing it, so that two updates do not undo each other.
        self._updating = DeferredLock()
        #: Told of each change, and of each new device, that was made here: for other processes.
        self.on_own: list[Callable[[Change], None]] = []
        #: What a secret is compared with when there is nothing to compare with.
        self._nobody_hashed = hash_secret(make_secret())
        self._nobody_readable = make_secret()

    # -- products --------------------------------------------------------------------------------------------------

    @deferred
    async def add_product(self, product: Product) -> None:
        """Raises Invalid, Conflict."""
        rules.product(product, self.protocols)
        await self._storage.add_product(product)

    @deferred
    async def save_product(self, product: Product) -> None:
        """Replace. Raises Invalid, NotFound."""
        rules.product(product, self.protocols)
        async with self._updating:
            old = await self._storage.get_product(product.key)
            if old is not None and old.protocol != product.protocol:
                raise Invalid("the protocol of a product cannot be changed")
            await self._storage.save_product(product)
        self._tell("product_updated", product.key)

    def delete_product(self, key: str) -> Deferred[None]:
        """NotFound; Conflict while devices use it."""
        return self._storage.delete_product(key)

    def get_product(self, key: str) -> Deferred[Product | None]:
        return self._storage.get_product(key)

    def list_products(self) -> Deferred[list[Product]]:
        return self._storage.list_products()

    # -- devices ---------------------------------------------------------------------------------------------------

    @deferred
    async def add_device(self, fields: dict[str, Any]) -> tuple[DeviceRecord, str]:
        """Register a device; the record and its readable secret. Raises Invalid, NotFound (product), Conflict."""
        record, secret, _made = new_device(fields, self.protocols, self._clock())
        if record.product is not None:
            check_product(record, await self._storage.get_product(record.product))
        (refusal,) = await self._storage.add_devices([record])
        if refusal is not None:
            raise Conflict(refusal)
        self._tell_added(record)
        return record, secret

    @deferred
    async def add_devices(self, lines: Sequence[dict[str, Any] | Exception]) -> ImportResult:
        """Register many; a line that is refused, or is an error already, does not stop the others."""
        result = ImportResult()
        for start in range(0, len(lines), IMPORT_SLICE):
            await self._add_slice(start, lines[start : start + IMPORT_SLICE], result)
        return result

    async def _add_slice(self, start: int, lines: Sequence[dict[str, Any] | Exception], result: ImportResult) -> None:
        named = {str(line["product"]) for line in lines if isinstance(line, dict) and line.get("product")}
        new: list[tuple[int, DeviceRecord, str]] = []
        try:
            products = {key: await self._storage.get_product(key) for key in named}
            for number, line in enumerate(lines, start):
                try:
                    if isinstance(line, Exception):
                        raise line
                    record, secret, made = new_device(line, self.protocols, self._clock())
                    if record.product is not None:
                        check_product(record, products[record.product])
                except Exception as error:
                    if not isinstance(error, BrokerError) and error is not line:
                        raise
                    result.failed.append((number, str(error)))
                else:
                    new.append((number, record, secret if made else ""))
            refusals = await self._storage.add_devices([record for _, record, _ in new])
        except BrokerError as error:
            # What earlier slices did stands, and its secrets are still to be told.
            refused = {number for number, _ in result.failed}
            result.failed += [(n, error.message) for n in range(start, start + len(lines)) if n not in refused]
            return
        for (number, record, secret), refusal in zip(new, refusals, strict=True):
            if refusal is not None:
                result.failed.append((number, refusal))
                continue
            result.created += 1
            self._tell_added(record)
            if secret:
                result.secrets.append((record.id, secret))

    @deferred
    async def get_device(self, device_id: str) -> DeviceRecord:
        """Raises NotFound."""
        record = await self._storage.get_device(device_id)
        if record is None:
            raise NotFound(f"there is no device {device_id!r}")
        return record

    def find_device(self, device_id: str) -> Deferred[DeviceRecord | None]:
        return self._storage.get_device(device_id)

    @deferred
    async def update_device(self, device_id: str, changes: dict[str, Any]) -> tuple[DeviceRecord, str | None]:
        """Change fields of a device; ``"secret": null`` makes a new one, which is then the second answer.

        Raises NotFound (device, product), Invalid, Conflict.
        """
        async with self._updating:
            old = await self.get_device(device_id)
            record, made = changed_device(old, changes, self.protocols)
            if record.product is not None and (record.product, record.protocol) != (old.product, old.protocol):
                check_product(record, await self._storage.get_product(record.product))
            await self._storage.save_device(record)
        if record.disabled and not old.disabled:
            self._tell("device_disabled", device_id)
        if "secret" in changes:
            self._tell("device_secret", device_id)
        if set(changes) - {"secret", "disabled"} or (old.disabled and not record.disabled):
            self._tell("device_updated", device_id)
        return record, made

    @deferred
    async def delete_device(self, device_id: str) -> None:
        """With everything that is kept of it. Raises NotFound."""
        await self._storage.delete_device(device_id)
        for rights in list(self._rights.values()):
            rights.devices.discard(device_id)
        self._tell("device_removed", device_id)

    def list_devices(
        self, query: DeviceQuery, limit: int, cursor: str | None
    ) -> Deferred[tuple[list[DeviceRecord], str | None]]:
        return self._storage.list_devices(query, limit, cursor)

    # -- applications and bindings ---------------------------------------------------------------------------------

    @deferred
    async def add_application(self, fields: dict[str, Any]) -> tuple[ApplicationRecord, str]:
        """Register an application; the record and its readable secret. Raises Invalid, Conflict."""
        record, secret = new_application(fields, self._clock())
        await self._storage.add_application(record)
        return record, secret

    @deferred
    async def get_application(self, application_id: str) -> ApplicationRecord:
        """Raises NotFound."""
        record = await self._storage.get_application(application_id)
        if record is None:
            raise NotFound(f"there is no application {application_id!r}")
        return record

    def list_applications(self) -> Deferred[list[ApplicationRecord]]:
        return self._storage.list_applications()

    @deferred
    async def update_application(
        self, application_id: str, changes: dict[str, Any]
    ) -> tuple[ApplicationRecord, str | None]:
        """As `update_device`. Raises NotFound, Invalid, Conflict."""
        async with self._updating:
            old = await self.get_application(application_id)
            record, made = changed_application(old, changes)
            await self._storage.save_application(record)
        if record.disabled and not old.disabled:
            self._tell("application_disabled", application_id)
        if "secret" in changes:
            self._tell("application_secret", application_id)
        if not set(changes).isdisjoint(("cs_eui", "app_key")):
            self._tell("application_key", application_id)
        return record, made

    @deferred
    async def delete_application(self, application_id: str) -> None:
        """Raises NotFound."""
        await self._storage.delete_application(application_id)
        rights = self._rights.pop(application_id, None)
        if rights is not None:
            rights.devices.clear()
        self._tell("application_removed", application_id)

    @deferred
    async def bind(self, application_id: str, device_id: str) -> None:
        """Raises NotFound; binding twice is fine."""
        await self._storage.bind(application_id, device_id)
        rights = self._rights.get(application_id)
        if rights is not None:
            rights.devices.add(device_id)
        self._tell("bound", application_id, device_id)

    @deferred
    async def unbind(self, application_id: str, device_id: str) -> None:
        """Raises NotFound."""
        await self._storage.unbind(application_id, device_id)
        rights = self._rights.get(application_id)
        if rights is not None:
            rights.devices.discard(device_id)
        self._tell("unbound", application_id, device_id)

    def devices_of(self, application_id: str) -> Deferred[list[str]]:
        return self._storage.devices_of(application_id)

    def applications_of(self, device_id: str) -> Deferred[list[str]]:
        return self._storage.applications_of(device_id)

    # -- other processes on the same storage -----------------------------------------------------------------------

    def heard(self, change: Change) -> None:
        """Another process has changed something: what is held here follows, and the listeners are told."""
        if change.what in ("bound", "unbound"):
            # A list of bindings that is under way may be from before this.
            self._application_changes += 1
            rights = self._rights.get(change.id)
            if rights is not None:
                (rights.devices.add if change.what == "bound" else rights.devices.discard)(change.other)
        elif change.what == "device_removed":
            for rights in list(self._rights.values()):
                rights.devices.discard(change.id)
        elif change.what == "application_removed":
            rights = self._rights.pop(change.id, None)
            if rights is not None:
                rights.devices.clear()
        self._tell(change.what, change.id, change.other)

    def heard_of_new(self, record: DeviceRecord) -> None:
        """Another process has registered a device."""
        self._tell_added(record)

    def rights_held(self) -> list[Rights]:
        """Those that have to be read again where changes of other processes may have been missed. Log-ins that are
        under way look again by themselves."""
        self._application_changes += 1
        self._device_changes += 1
        return list(self._rights.values())

    # -- logins ----------------------------------------------------------------------------------------------------

    @deferred
    async def login_device(self, protocol: str, device_id: str, secret: str) -> Login:
        """Raises Unauthenticated (one text, one cost for unknown ids and wrong secrets), Disabled, Unavailable."""
        own = self.protocols[protocol]

        def proven(record: DeviceRecord | None) -> bool:
            stored = record.secret if record is not None else ""
            if own.hashed:
                return verify_secret(secret, stored or self._nobody_hashed)
            return same_text(secret, stored or self._nobody_readable)

        return await self._admit_device(protocol, device_id, proven)

    @deferred
    async def identify_device(self, protocol: str, device_id: str) -> Login:
        """For protocols whose devices have no secret. Raises Unauthenticated (unknown), Disabled, Unavailable."""
        return await self._admit_device(protocol, device_id, lambda record: True)

    async def _admit_device(
        self, protocol: str, device_id: str, proven: Callable[[DeviceRecord | None], bool]
    ) -> Login:
        try:
            device_id = self.protocols[protocol].normal_id(device_id, {})
        except Invalid:
            device_id = ""
        while True:
            changes = self._device_changes
            # Both are asked for before the first is waited for: storage answers them together.
            finding, reading = self._storage.get_device(device_id), self._storage.get_values(device_id)
            try:
                record = await finding
            finally:
                values, unmapped = await reading
            if record is not None and record.protocol != protocol:
                record = None
            if not proven(record) or record is None:
                raise Unauthenticated(WRONG)
            if record.disabled:
                raise Disabled("the device is disabled")
            sensors = None
            if record.product is not None:
                product = await self._storage.get_product(record.product)
                sensors = None if product is None else product.value_keys | product.command_keys
            # Else what was looked up may be what has just been taken back, and whoever is told of that is not yet
            # connected: look again.
            if changes == self._device_changes:
                return Login(record, sensors, values, unmapped)

    @deferred
    async def login_application(self, application_id: str, secret: str, kinds: Collection[str]) -> Rights:
        """Raises Unauthenticated (also for another kind), Disabled, Unavailable."""
        return await self._rights_of(application_id, secret, kinds)

    @deferred
    async def known_application(self, application_id: str, kinds: Collection[str]) -> Rights:
        """The rights of one that has proven itself in another way than by its secret; raises as `login_application`."""
        return await self._rights_of(application_id, None, kinds)

    async def _rights_of(self, application_id: str, secret: str | None, kinds: Collection[str]) -> Rights:
        while True:
            changes = self._application_changes
            record = await self._storage.get_application(application_id)
            same = secret is None or verify_secret(secret, self._nobody_hashed if record is None else record.secret)
            if record is None or not same or record.kind not in kinds:
                raise Unauthenticated(WRONG)
            if record.disabled:
                raise Disabled("the application is disabled")
            rights = self._rights.get(application_id)
            if rights is None:
                devices = await self._storage.devices_of(application_id)
                # Nothing is awaited between this answer and the Rights: bindings that change later are told later.
                rights = self._rights.get(application_id) or Rights(record.id, record.kind, set(devices))
            if changes == self._application_changes:
                self._rights[application_id] = rights
                return rights

    @deferred
    async def told_elsewhere(self, change: Change) -> None:
        """Another process has made this change, and it is in storage. Raises Unavailable."""
        if change.what == "device_added":
            record = await self._storage.get_device(change.id)
            if record is not None:
                self._call_added(record)
            return
        rights = self._rights.get(change.id)
        if change.what == "bound" and rights is not None:
            rights.devices.add(change.other)
        elif change.what == "unbound" and rights is not None:
            rights.devices.discard(change.other)
        elif change.what == "device_removed":
            for each in list(self._rights.values()):
                each.devices.discard(change.id)
        elif change.what == "application_removed":
            self._rights.pop(change.id, None)
            if rights is not None:
                rights.devices.clear()
        self._call(change)

    def _tell_added(self, record: DeviceRecord) -> None:
        self._tell_own(Change("device_added", record.id, ""))
        self._call_added(record)

    def _tell_own(self, change: Change) -> None:
        for listener in self.on_own:
            listener(change)

    def _call_added(self, record: DeviceRecord) -> None:
        for listener in list(self.on_added):
            try:
                listener(record)
            except Exception:
                self.log.failure("fault of a listener told of the new device {id}", id=record.id)

    def _tell(self, what: str, id: str, other: str = "") -> None:
        change = Change(what, id, other)
        self._tell_own(change)
        self._call(change)

    def _call(self, change: Change) -> None:
        what, id = change.what, change.id
        if what.startswith("application"):
            self._application_changes += 1
        elif what not in ("bound", "unbound"):
            self._device_changes += 1
        for listener in list(self.on_change):
            try:
                listener(change)
            except Exception:
                self.log.failure("fault of a listener told of {what} {id}", what=what, id=id)
