"""The groups and who is in them, in memory and on disk.

Members are class C motes that are registered; whether one has joined yet makes no difference, as a group's keys are not
those of its session. A mote that is removed, or is no class C mote any more, leaves its groups. Changes come one after
another, so none of them meets a group half changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec
from twisted.internet.defer import DeferredLock
from twisted.logger import Logger

from broker.core import Core
from broker.devices.lorawan.identity import Identity
from broker.devices.lorawan.mac import parameters
from broker.devices.lorawan.motes import PROTOCOL, Motes
from broker.devices.lorawan.multicast.records import (
    COUNTERS,
    GROUPS,
    MEMBERS,
    MESSAGES,
    GroupRecord,
    MessageRecord,
    Waiting,
    pack_counter,
    unpack_counter,
)
from broker.devices.lorawan.regions import REGIONS, Region
from broker.devices.lorawan.settings import Settings
from broker.devices.lorawan.windows import Rx
from broker.model.errors import BrokerError, Conflict, Invalid, LimitExceeded, NotFound
from broker.model.records import DeviceRecord
from broker.storage.deferred import deferred
from broker.storage.records import Change, Records

#: Rows that are read at a time.
SLICE: Final = 1_000


class Message:
    """A message that is not over, or not yet written as such. Times are monotonic seconds."""

    __slots__ = ("cancelled", "looked_at", "record", "turn", "waiting", "watchers")

    def __init__(self, record: MessageRecord) -> None:
        self.record = record
        #: The repetition that is being worked on; the record's is the last of which an emission has begun.
        self.turn = max(record.turn, 1)
        #: Why it does not go on: a word of `sending.WAITS`, empty while nothing keeps it.
        self.waiting: Waiting = ""
        #: Since when this life of the broker has been trying.
        self.looked_at: float | None = None
        #: It is to end as soon as what is under way has an answer.
        self.cancelled = False
        #: Called once with whether its end could be written.
        self.watchers: list[Callable[[bool], None]] = []


class Group:
    """A group, and what waits for it."""

    __slots__ = (
        "adding",
        "ended",
        "flying",
        "free_at",
        "held",
        "members",
        "messages",
        "next",
        "record",
        "removed",
        "waking",
    )

    def __init__(self, record: GroupRecord) -> None:
        self.record = record
        #: DevEUIs.
        self.members: dict[str, None] = {}
        #: The next frame counter.
        self.next = 0
        #: Messages that are not over, oldest first, and how many are on their way to the disk.
        self.messages: dict[str, Message] = {}
        self.adding = 0
        #: Ids of those that are over and are kept, oldest first.
        self.ended: list[str] = []
        #: The message of which an emission is being written, or is at a gateway that has not answered.
        self.flying: Message | None = None
        #: Nothing may begin: its session is being changed.
        self.held = False
        #: When the air is free of its last emission (monotonic).
        self.free_at = 0.0
        self.waking = False
        #: It has gone, or is going.
        self.removed = False

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def region(self) -> Region:
        return REGIONS[self.record.region]

    def rx(self, settings: Settings) -> Rx:
        """Where and how its motes listen: as RX2 of the region is meant to be, if it names nothing else."""
        record, region = self.record, self.region
        usual = parameters.wanted(parameters.begins(region), region, None, settings).rx()
        frequency = usual.rx2_frequency if record.frequency is None else record.frequency
        rate = usual.rx2_rate if record.data_rate is None else record.data_rate
        return usual._replace(rx2_frequency=frequency, rx2_rate=rate)

    def __repr__(self) -> str:
        return f"<Group {self.id}>"


class Groups:
    """By id. ``new_address`` gives a DevAddr that no mote has."""

    log = Logger(namespace="broker.lorawan")

    def __init__(self, core: Core, settings: Settings, motes: Motes, new_address: Callable[[], int]) -> None:
        self._core = core
        self._storage = core.storage
        self._motes = motes
        self.new_address = new_address
        self.settings = settings
        self.records = Records(core.storage, GROUPS, GroupRecord)
        self.messages = Records(core.storage, MESSAGES, MessageRecord)
        self._groups: dict[str, Group] = {}
        self._of_mote: dict[str, dict[Group, None]] = {}
        #: Held from looking at what is there to having changed it.
        self._changing = DeferredLock()

    def __len__(self) -> int:
        return len(self._groups)

    def __iter__(self) -> Iterator[Group]:
        return iter(list(self._groups.values()))

    def find(self, id: str) -> Group | None:
        return self._groups.get(id)

    def get(self, id: str) -> Group:
        """Raises NotFound."""
        group = self._groups.get(id)
        if group is None:
            raise NotFound(f"there is no group {id!r}"[:200])
        return group

    def clear(self) -> None:
        """None of them is known any more."""
        for group in self._groups.values():
            group.removed = True
        self._groups.clear()
        self._of_mote.clear()

    # -- start -----------------------------------------------------------------------------------------------------

    @deferred
    async def load(self) -> None:
        """After the motes. Raises Unavailable."""
        for id, record in await self.records.all():
            if record.region not in REGIONS:
                self.log.error("the group {group} is of an unknown region {region}", group=id, region=record.region)
                continue
            self._place(record).next = await self._counter_of(record)
        gone: list[Change] = []
        for key in await self._member_keys():
            id, _, dev_eui = key.partition("/")
            group = self._groups.get(id)
            if group is not None and await self._may_be_member(dev_eui):
                self._enter(group, dev_eui)
            else:
                # The broker died between the end of the mote's registration and that of its membership.
                gone.append(Change(MEMBERS, key, None))
        for key, message in await self.messages.all():
            group = self._groups.get(message.group)
            if group is None:
                gone.append(Change(MESSAGES, key, None))
            elif message.final:
                group.ended.append(message.id)
            else:
                group.messages[message.id] = Message(message)
        if gone:
            await self._storage.write_records(gone)

    async def _member_keys(self) -> list[str]:
        found: list[str] = []
        while True:
            rows = await self._storage.list_records(MEMBERS, "", SLICE, found[-1] if found else None)
            found += [key for key, _ in rows]
            if len(rows) < SLICE:
                return found

    async def _may_be_member(self, dev_eui: str) -> bool:
        mote = self._motes.get(dev_eui)
        if mote is not None:
            return mote.class_c
        record = await self._storage.get_device(dev_eui)
        return record is not None and record.protocol == PROTOCOL and Identity(record).class_c

    async def _counter_of(self, record: GroupRecord) -> int:
        raw = await self._storage.get_record(COUNTERS, record.session)
        return 0 if raw is None else unpack_counter(raw)

    def _place(self, record: GroupRecord) -> Group:
        group = self._groups[record.id] = Group(record)
        self._motes.reserved.add(record.dev_addr)
        return group

    # -- groups ----------------------------------------------------------------------------------------------------

    @deferred
    async def add(self, record: GroupRecord, counter: int | None) -> Group:
        """``counter``: the first that may be used. Raises Conflict, Invalid, LimitExceeded, NotFound, Unavailable."""
        async with self._changing:
            if record.id in self._groups:
                raise Conflict(f"there is a group {record.id!r} already")
            if len(self._groups) >= self.settings.max_groups:
                raise LimitExceeded("too many groups", limit="listeners.lorawan.max_groups")
            await self._check(record, None)
            following = await self._following(record, counter)
            await self._storage.write_records(
                [self.records.change(record.id, record), Change(COUNTERS, record.session, pack_counter(following))]
            )
            group = self._place(record)
            group.next = following
            return group

    @deferred
    async def change(self, id: str, changes: dict[str, Any], counter: int | None) -> Group:
        """Raises as `add` does; Conflict also for another session while a message is being sent."""
        async with self._changing:
            group = self.get(id)
            record = msgspec.structs.replace(group.record, **changes)
            other = (record.dev_addr, record.mc_nwk_s_key, record.mc_app_s_key) != (
                group.record.dev_addr,
                group.record.mc_nwk_s_key,
                group.record.mc_app_s_key,
            )
            await self._check(record, group)
            if (other or counter is not None) and self._under_way(group):
                raise Conflict("a message is being sent with the present session: cancel it, or wait for its end")
            written = [self.records.change(id, record)]
            following = group.next
            if other or counter is not None:
                following = await self._following(record, counter)
                written.append(Change(COUNTERS, record.session, pack_counter(following)))
                # What is begun now would be sent with the old keys and counted with the new ones.
                group.held = True
            try:
                await self._storage.write_records(written)
            finally:
                group.held = False
            self._motes.reserved.discard(group.record.dev_addr)
            self._motes.reserved.add(record.dev_addr)
            group.record, group.next = record, following
            return group

    @staticmethod
    def _under_way(group: Group) -> bool:
        begun = (message.record for message in group.messages.values() if message.record.fcnt is not None)
        return group.flying is not None or any(not record.final for record in begun)

    async def _check(self, record: GroupRecord, present: Group | None) -> None:
        region = REGIONS.get(record.region)
        if region is None:
            raise Invalid(f"region must be one of: {', '.join(sorted(REGIONS))}")
        if record.data_rate is not None and record.data_rate not in region.rx2_rates:
            raise Invalid(
                f"data_rate of a downlink in {region.name} is one of: {', '.join(map(str, region.rx2_rates))}"
            )
        same = [group for group in self if group.record.dev_addr == record.dev_addr and group is not present]
        if same:
            raise Conflict(f"the group {same[0].id!r} has the address {record.dev_addr:08X}")
        if (present is None or present.record.dev_addr != record.dev_addr) and self._motes.taken(record.dev_addr):
            raise Conflict(f"a mote has the address {record.dev_addr:08X}")
        if record.application is not None and (present is None or present.record.application != record.application):
            await self._core.registry.get_application(record.application)

    async def _following(self, record: GroupRecord, counter: int | None) -> int:
        """The next counter of a session: as on disk, or a later one that was asked for."""
        kept = await self._counter_of(record)
        if counter is not None and counter < kept:
            raise Invalid(f"the counters of this session below {kept} are used up: motes would not listen")
        return kept if counter is None else counter

    @deferred
    async def remove(self, id: str) -> None:
        """With all its messages. Raises NotFound, Unavailable."""
        async with self._changing:
            group = self.get(id)
            keys = [f"{id}/{dev_eui}" for dev_eui in group.members]
            messages = [f"{id}/{message}" for message in (*group.messages, *group.ended)]
            # From now on nothing of it is written any more: what comes in meanwhile sees that.
            group.removed = True
            try:
                await self._storage.write_records(
                    [
                        self.records.change(id, None),
                        *(Change(MEMBERS, key, None) for key in keys),
                        *(Change(MESSAGES, key, None) for key in messages),
                    ]
                )
            except BrokerError:
                group.removed = False
                raise
            del self._groups[id]
            self._motes.reserved.discard(group.record.dev_addr)
            for dev_eui in list(group.members):
                self._leave(group, dev_eui)

    # -- members ---------------------------------------------------------------------------------------------------

    @deferred
    async def enter(self, id: str, dev_euis: Sequence[str]) -> None:
        """Motes become members, all or none; who is one stays it.

        Raises NotFound, Invalid (not of class C), LimitExceeded, Unavailable.
        """
        async with self._changing:
            group = self.get(id)
            new = [dev_eui for dev_eui in dict.fromkeys(dev_euis) if dev_eui not in group.members]
            if len(group.members) + len(new) > self.settings.max_group_members:
                raise LimitExceeded("the group has too many members", limit="listeners.lorawan.max_group_members")
            for dev_eui in new:
                record: DeviceRecord | None = await self._storage.get_device(dev_eui)
                if record is None or record.protocol != PROTOCOL:
                    raise NotFound(f"there is no mote {dev_eui!r}")
                if not Identity(record).class_c:
                    raise Invalid(f"the mote {dev_eui} is of class A: only motes of class C hear a group")
            await self._storage.write_records([Change(MEMBERS, f"{id}/{dev_eui}", b"") for dev_eui in new])
            for dev_eui in new:
                self._enter(group, dev_eui)

    @deferred
    async def leave(self, id: str, dev_eui: str) -> None:
        """A mote is no member any more. Raises NotFound, Unavailable."""
        async with self._changing:
            group = self.get(id)
            if dev_eui not in group.members:
                raise NotFound(f"the mote {dev_eui!r} is not in the group {id!r}")
            await self._storage.write_records([Change(MEMBERS, f"{id}/{dev_eui}", None)])
            self._leave(group, dev_eui)

    @deferred
    async def leave_all(self, dev_eui: str) -> None:
        """The mote is removed, or is no class C mote any more. Raises Unavailable."""
        async with self._changing:
            groups = list(self._of_mote.get(dev_eui, ()))
            for group in groups:
                self._leave(group, dev_eui)
            if groups:
                await self._storage.write_records([Change(MEMBERS, f"{group.id}/{dev_eui}", None) for group in groups])

    def of_mote(self, dev_eui: str) -> list[str]:
        """Ids of the groups that it is in."""
        return [group.id for group in self._of_mote.get(dev_eui, ())]

    def _enter(self, group: Group, dev_eui: str) -> None:
        group.members[dev_eui] = None
        self._of_mote.setdefault(dev_eui, {})[group] = None

    def _leave(self, group: Group, dev_eui: str) -> None:
        group.members.pop(dev_eui, None)
        others = self._of_mote.get(dev_eui, {})
        others.pop(group, None)
        if not others:
            self._of_mote.pop(dev_eui, None)
