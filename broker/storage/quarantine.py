"""Devices and gateways that were seen and that nobody registered: kept for the administrator, who approves or forgets.

::

    core.quarantine.approvers["gateway88"] = approve      async def approve(entry, fields) -> what the caller is told
    core.quarantine.seen("gateway88", mac, peer, {...})   each time it comes; cheap, never fails, answers nothing

What was seen is on disk a tick later (`TICK`), many in one commit; a sighting that tells nothing new is written once a
minute. Lists, approvals and removals ask the storage, so whatever other process sees a device is no matter.

Ids and infos come from strangers: both are bounded, and where a protocol has had `max_entries`, whoever was not seen
for the longest time goes, so that a flood of made-up ids costs the flood's own entries and not the next real one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from broker.model.errors import BrokerError, Conflict, Invalid, NotFound
from broker.model.interfaces import IBackplane
from broker.model.jsontext import decode_object, encode
from broker.storage.deferred import deferred
from broker.storage.interface import Change, IStorage
from broker.storage.records import Records

log = Logger()

#: Seconds between two calls of `Quarantine.tick`.
TICK: Final = 1.0
#: Seconds between two writes for a device of which nothing but the time changes.
FRESH: Final = 60.0
NEVER: Final = float("-inf")
MAX_ENTRIES: Final = 1_000
MAX_ID_BYTES: Final = 128
#: What people write between the digits of a MAC or an EUI.
_BETWEEN: Final = str.maketrans("", "", ":-. ")
#: Bytes of an info as JSON; a longer one is left out.
MAX_INFO: Final = 2_048


class Entry(msgspec.Struct, kw_only=True):
    """A device or gateway that was seen: by which protocol, from where, since when, how often, and what it said."""

    protocol: str
    id: str
    peer: str
    first_seen: float
    last_seen: float
    count: int
    info: dict[str, Any]


class _Known:
    """An entry, when it was written as it is, and whether anything of it may be on disk."""

    __slots__ = ("entry", "stored", "written_at")

    def __init__(self, entry: Entry, written_at: float = NEVER) -> None:
        self.entry = entry
        self.written_at = written_at
        self.stored = written_at > NEVER


#: Registers what an entry stands for, with the fields of the administrator's call. What it answers with is an object
#: for that caller. Raises Invalid, Conflict: then the entry stays.
Approver = Callable[[Entry, dict[str, Any]], Awaitable[dict[str, Any]]]
Entries = list[Entry]


class Quarantine:
    """``clock`` gives UNIX seconds; ``max_entries`` of each protocol."""

    def __init__(self, storage: IStorage, clock: Callable[[], float], max_entries: int = MAX_ENTRIES) -> None:
        #: By protocol; filled by each protocol's ``build``.
        self.approvers: dict[str, Approver] = {}
        #: Told of each new entry; must not block.
        self.on_new: list[Callable[[Entry], None]] = []
        self._storage = storage
        self._clock = clock
        self._max_entries = max_entries
        self._records = Records(storage, "quarantine", Entry)
        #: protocol -> id -> what is known, the longest unseen first.
        self._known: dict[str, dict[str, _Known]] = {}
        #: Key -> what is to be written; None: removed.
        self._changed: dict[str, _Known | None] = {}
        self._writing: Deferred[None] | None = None
        self._on_removed: list[Callable[[str], None]] = []

    @deferred
    async def open(self) -> None:
        """Read what is on disk. Raises Unavailable."""
        entries = [entry for _, entry in await self._records.all()]
        for entry in sorted(entries, key=lambda one: one.last_seen):
            self._known.setdefault(entry.protocol, {})[entry.id] = _Known(entry, entry.last_seen)

    @deferred
    async def close(self) -> None:
        """Write what waits."""
        try:
            await self.flush()
        except BrokerError as error:
            log.warn("the last sightings of unknown devices were not kept: {why}", why=error.message)

    def seen(self, protocol: str, id: str, peer: str, info: dict[str, Any] | None = None) -> None:
        """It came again, or for the first time. ``peer`` is an address; ``info`` what it says of itself, for JSON."""
        known = self._known.setdefault(protocol, {})
        now = self._clock()
        # Taken out and put back at the end: the order is that of the last sightings.
        one = known.pop(id, None)
        if one is None:
            if not is_id(id):
                return
            one = _Known(
                Entry(protocol=protocol, id=id, peer=peer, first_seen=now, last_seen=now, count=0, info=bounded(info))
            )
        entry = one.entry
        if entry.peer != peer or (info is not None and info != entry.info and bounded(info) != entry.info):
            entry.peer, entry.info = peer, entry.info if info is None else bounded(info)
            one.written_at = NEVER
        if now - one.written_at >= FRESH:
            self._changed[key_of(protocol, id)] = one
        entry.last_seen = now
        entry.count += 1
        known[id] = one
        if entry.count == 1:
            for told in self.on_new:
                told(entry)
        if len(known) > self._max_entries:
            self._let_go(protocol, next(iter(known)))

    def tick(self) -> None:
        """Write what changed; called every `TICK` seconds. What fails is tried again at the next one."""
        if self._changed and self._writing is None:
            self.flush().addErrback(self._not_written)

    @deferred
    async def flush(self) -> None:
        """Answers when everything that was seen until now is on disk. Raises Unavailable."""
        while self._writing is not None:
            turn: Deferred[None] = Deferred()
            self._writing.addBoth(turn.callback)
            await turn
        if not self._changed:
            return
        changed, self._changed = self._changed, {}
        now = self._clock()
        changes = []
        for key, one in changed.items():
            if one is not None:
                one.stored = True
            changes.append(self._records.change(key, None if one is None else one.entry))
        self._writing = Deferred()
        try:
            await self._storage.write_records(changes)
        except BaseException:
            # What was removed in the meantime stays removed.
            again = {key: one for key, one in changed.items() if one is None or self._is_known(one)}
            self._changed = {**again, **self._changed}
            raise
        finally:
            writing, self._writing = self._writing, None
            writing.callback(None)
        for one in changed.values():
            if one is not None and self._changed.get(key_of(one.entry.protocol, one.entry.id)) is not one:
                one.written_at = now

    @deferred
    async def list(self, protocol: str | None = None, limit: int = 1000, after: str | None = None) -> Entries:
        """By protocol and id; ``after`` is a `key_of`. Raises Unavailable."""
        await self.flush()
        page = await self._records.page("" if protocol is None else f"{protocol}/", limit, after)
        return [self._latest(entry) for _, entry in page]

    @deferred
    async def approve(self, id: str, fields: dict[str, Any], protocol: str | None = None) -> dict[str, Any]:
        """Let the protocol register it, and forget the entry. The approver's answer.

        Raises NotFound, Conflict (several protocols have seen this id), Invalid (the protocol is not running), and
        what the approver raises.
        """
        entry = await self._find(id, protocol)
        approver = self.approvers.get(entry.protocol)
        if approver is None:
            raise Invalid(f"{entry.protocol} devices cannot be approved: the protocol is not running")
        answer = await approver(entry, fields)
        try:
            await self._remove(entry)
        except BrokerError as error:
            # It is registered, and that is what was asked for.
            log.warn("{id} was approved and is still in quarantine: {why}", id=id, why=error.message)
        return answer

    @deferred
    async def forget(self, id: str, protocol: str | None = None) -> None:
        """Remove the entry; it is there again when the device is seen again. Raises NotFound, Conflict, Unavailable."""
        await self._remove(await self._find(id, protocol))

    # -- inside ----------------------------------------------------------------------------------------------------

    async def _find(self, id: str, protocol: str | None) -> Entry:
        await self.flush()
        protocols = {*self.approvers, *self._known} if protocol is None else {protocol}
        found = await self._of(protocols, id)
        if not found and (digits := id.translate(_BETWEEN).upper()) != id:
            found = await self._of(protocols, digits)
        if not found:
            raise NotFound(f"nothing in quarantine has the id {id!r}"[:200])
        if len(found) > 1:
            names = ", ".join(entry.protocol for entry in found)
            raise Conflict(f"several protocols have seen {id!r}, name one: {names}"[:300])
        return self._latest(found[0])

    async def _of(self, protocols: Iterable[str], id: str) -> Entries:
        keys = (key_of(name, id) for name in sorted(protocols))
        return [entry for key in keys if (entry := await self._records.get(key)) is not None]

    async def _remove(self, entry: Entry) -> None:
        key = key_of(entry.protocol, entry.id)
        await self._storage.write_records([Change(self._records.table, key, None)])
        self._removed(entry.protocol, entry.id)
        for told in self._on_removed:
            told(key)

    def _removed(self, protocol: str, id: str) -> None:
        """Seen again, it is a new one."""
        self._known.get(protocol, {}).pop(id, None)
        self._changed.pop(key_of(protocol, id), None)

    def across(self, backplane: IBackplane) -> None:
        """Others see devices, too: what is approved or forgotten at one process is at all."""

        def heard(node: str, body: bytes) -> None:
            if node != backplane.node:
                protocol, _, id = body.decode().partition("/")
                self._removed(protocol, id)

        backplane.hear("quarantine.gone", heard)
        self._on_removed.append(lambda key: backplane.tell("quarantine.gone", key.encode()))

    def _let_go(self, protocol: str, id: str) -> None:
        gone = self._known[protocol].pop(id)
        key = key_of(protocol, id)
        if gone.stored:
            self._changed[key] = None
        else:
            self._changed.pop(key, None)

    def _is_known(self, one: _Known) -> bool:
        return self._known.get(one.entry.protocol, {}).get(one.entry.id) is one

    def _latest(self, entry: Entry) -> Entry:
        """What is on disk, or what was seen since."""
        one = self._known.get(entry.protocol, {}).get(entry.id)
        return one.entry if one is not None and one.entry.last_seen >= entry.last_seen else entry

    def _not_written(self, failure: Any) -> None:
        failure.trap(BrokerError)
        log.debug("sightings of unknown devices wait: {why}", why=failure.getErrorMessage())


def key_of(protocol: str, id: str) -> str:
    """The key of an entry's record, and the cursor behind it."""
    return f"{protocol}/{id}"


def is_id(id: str) -> bool:
    """Whether it is worth being shown to the administrator."""
    return id.isprintable() and 0 < len(id.encode("utf-8", "replace")) <= MAX_ID_BYTES


def bounded(info: dict[str, Any] | None) -> dict[str, Any]:
    """A copy of an info as JSON has it; an empty one where that is impossible or too long."""
    try:
        text = encode(info or {})
        if len(text) > MAX_INFO:
            return {}
        copy = decode_object(text)
        # JSON has greater numbers than a record can hold.
        msgspec.msgpack.encode(copy)
        return copy
    except (ValueError, OverflowError):
        return {}
