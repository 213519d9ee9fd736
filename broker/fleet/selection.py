"""Which devices a campaign is for, and why not the others: for the dry run and for the campaign itself alike.

What a device has, and whether it is fit, is looked at again when its turn has come.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from broker.core import Core
from broker.fleet.campaign import UNKNOWN_VERSION, Filter, Plan, in_sample, sample_salt
from broker.model.interfaces import IUpdater
from broker.model.records import DeviceQuery, DeviceRecord
from broker.model.updates import Release
from broker.storage.deferred import deferred

#: Devices that are looked at together.
SLICE: Final = 500

#: The other campaign that a device is in, if there is one.
Owner = Callable[[str], str | None]


class Candidate(msgspec.Struct, kw_only=True):
    """A device that was aimed at. ``refusal``: why it is left out; None: it is not."""

    device: str
    refusal: str | None
    version: str | None = None
    online: bool = False


def info_of(core: Core, record: DeviceRecord) -> dict[str, Any]:
    """What the device has told about itself."""
    live = core.devices.get(record.id)
    if live is None or (not live.online and core.whereabouts.online(record.id)):
        return record.info
    return live.info


def is_online(core: Core, device_id: str) -> bool:
    """To whichever process it is connected."""
    live = core.devices.get(device_id)
    return (live is not None and live.online) or core.whereabouts.online(device_id)


def refusal(record: DeviceRecord, info: dict[str, Any], plan: Plan, release: Release, updater: IUpdater) -> str | None:
    """Why a device is not to be updated; None if it is. `UNKNOWN_VERSION` may pass."""
    if record.protocol != release.protocol:
        return f"it is a device of {record.protocol}"
    if record.disabled:
        return "it is disabled"
    version = updater.version_of(info, release)
    if version == release.version:
        return f"it reports the version {version} already"
    why: str | None = updater.unfit(record, info, release)
    return why or plan.from_versions.refusal(version, updater.lower)


class Selection:
    """The targets of one plan, page by page, in the order of their ids."""

    def __init__(self, core: Core, updater: IUpdater, plan: Plan, release: Release, owner: Owner) -> None:
        self._core = core
        self._updater = updater
        self._plan = plan
        self._release = release
        self._owner = owner
        self._ids = None if plan.targets.devices is None else sorted(set(plan.targets.devices))

    @deferred
    async def page(self, cursor: str | None) -> tuple[list[Candidate], str | None]:
        """Some candidates, and where to go on, None at the end. A page may be empty. Fails with Unavailable."""
        found: list[tuple[str, DeviceRecord | None]]
        if self._ids is None:
            records, following = await self._core.registry.list_devices(self._query(), SLICE, cursor)
            found = [(record.id, record) for record in records]
        else:
            ids = [id for id in self._ids if cursor is None or id > cursor][: SLICE + 1]
            following = ids[SLICE - 1] if len(ids) > SLICE else None
            found = [(id, await self._core.registry.find_device(id)) for id in ids[:SLICE]]
        targets = self._plan.targets
        salt = sample_salt(self._release)
        chosen = [one for one in found if targets.percentage >= 100 or in_sample(one[0], salt, targets.percentage)]
        wanted = None if targets.filter is None else targets.filter.online
        candidates = [self._candidate(id, record) for id, record in chosen]
        return [one for one in candidates if wanted is None or one.online == wanted], following

    def _query(self) -> DeviceQuery:
        wish = self._plan.targets.filter or Filter()
        # Presence is what is known of connections; the registry's is some seconds behind.
        return DeviceQuery(
            protocol=self._release.protocol,
            product=wish.product or self._release.product,
            q=wish.q,
            application=wish.application,
            tag=wish.tag,
        )

    def _candidate(self, id: str, record: DeviceRecord | None) -> Candidate:
        if record is None:
            return Candidate(device=id, refusal="there is no such device")
        info = info_of(self._core, record)
        why = refusal(record, info, self._plan, self._release, self._updater)
        other = self._owner(id)
        if why == UNKNOWN_VERSION:
            why = None  # its turn may show
        if why is None and other is not None:
            why = f"it is in the campaign {other}, which is open"
        return Candidate(
            device=id,
            refusal=why,
            version=self._updater.version_of(info, self._release)
            if record.protocol == self._release.protocol
            else None,
            online=is_online(self._core, id),
        )
