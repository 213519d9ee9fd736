"""What outlives the process: sessions, frame counters, DevNonces, gateways.

==================  ===================  =====================================================================
table               key                  value
==================  ===================  =====================================================================
lorawan_session     DevEUI               `SessionRecord` of its last join; ABP motes have theirs in the registry
lorawan_counter     DevEUI               next counter up, end of the reserved counters down, EUI of the nearest
                                         gateway, last port (17 bytes)
lorawan_mac         DevEUI               `MacRecord`: what the mote was asked and has said yes and no to
lorawan_nonce       DevEUI + DevNonce    nothing; that it is there says that it was used
lorawan_gateway     EUI                  `GatewayRecord`
==================  ===================  =====================================================================

Counters of the frames that were taken in one go are written in one commit, together with what these frames changed in
the motes' MAC layers, and downlinks that follow a frame wait for it. Counters down are reserved in blocks: after a
crash the rest of a block is left out, and none is used twice. A join writes the DevNonce, the session and the first
block together, before the join-accept leaves; that the DevNonce was not there before is the storage's to say.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from broker.core import Core
from broker.devices.lorawan.counter import MAX_COUNTER
from broker.devices.lorawan.counters import LorawanCounters
from broker.devices.lorawan.gateway import GatewayRecord
from broker.devices.lorawan.gateways import Gateways
from broker.devices.lorawan.identity import Identity
from broker.devices.lorawan.mac.parameters import Parameters, Shared, begins
from broker.devices.lorawan.mac.state import MacState
from broker.devices.lorawan.motes import PROTOCOL, Mote, Motes
from broker.devices.lorawan.regions import REGIONS
from broker.devices.lorawan.settings import Settings
from broker.model.records import DeviceQuery
from broker.storage.deferred import deferred
from broker.storage.records import Change, Records

COUNTERS: Final = "lorawan_counter"
NONCES: Final = "lorawan_nonce"
MAC: Final = "lorawan_mac"
#: Rows that are read at a time.
SLICE: Final = 1_000

_counter: Final = Struct(">IIQB")


class SessionRecord(msgspec.Struct, kw_only=True):
    """What a join agreed on."""

    dev_addr: int
    nwk_s_key: bytes
    app_s_key: bytes
    #: The JoinNonce of the last join-accept: 1.0.4 motes want it to grow.
    app_nonce: int
    joined_at: float
    #: The region that it was in, and what the join-accept said of windows and channels.
    region: str = ""
    parameters: Parameters | None = None
    #: The same of sessions that were made before that was kept: seconds to RX1, RX1DROffset.
    rx1_delay: int = 1
    rx1_offset: int = 0

    def __repr__(self) -> str:
        return f"<SessionRecord {self.dev_addr:08X}>"


class Store:
    """Reads once, at the start; writes as things change."""

    log = Logger(namespace="broker.lorawan")

    def __init__(
        self, core: Core, settings: Settings, motes: Motes, gateways: Gateways, counted: LorawanCounters
    ) -> None:
        self._core = core
        self._storage = core.storage
        self._motes = motes
        self._gateways = gateways
        self._counted = counted
        self.settings = settings
        self.shared = Shared()
        self.sessions = Records(core.storage, "lorawan_session", SessionRecord)
        self.gateways = Records(core.storage, "lorawan_gateway", GatewayRecord)
        #: Motes whose counters are to be written.
        self._changed: dict[Mote, None] = {}
        self._writing = False
        #: Motes whose counters begin anew at this moment: those of the session before are not written any more.
        self._renewed: set[str] = set()

    # -- start -----------------------------------------------------------------------------------------------------

    @deferred
    async def load(self) -> list[tuple[float, Mote]]:
        """Gateways, and every mote that has a session. Raises Unavailable.

        Answers with the motes that were on-line when the broker ended, and when each was seen last (UNIX seconds).
        """
        recent: list[tuple[float, Mote]] = []
        for _, gateway in await self.gateways.all():
            self._gateways.register(gateway)
        sessions = dict(await self.sessions.all())
        cursor: str | None = None
        while True:
            records, cursor = await self._storage.list_devices(DeviceQuery(protocol=PROTOCOL), SLICE, cursor)
            for record in records:
                try:
                    identity = Identity(record)
                except (KeyError, ValueError):
                    self.log.error("the registration of mote {mote} cannot be read", mote=record.id)
                    continue
                mote = self.place(identity, sessions.pop(record.id, None))
                if mote is not None and record.presence_reason == "restart" and record.last_seen is not None:
                    recent.append((record.last_seen, mote))
            if cursor is None:
                break
        for table, take in ((COUNTERS, self._take_counters), (MAC, self._take_mac)):
            after: str | None = None
            while True:
                rows = await self._storage.list_records(table, "", SLICE, after)
                for dev_eui, raw in rows:
                    known = self._motes.get(dev_eui)
                    if known is not None:
                        take(known, raw)
                if len(rows) < SLICE:
                    break
                after = rows[-1][0]
        self.log.info(
            "lorawan: {motes} motes with a session, {gateways} gateways",
            motes=len(self._motes),
            gateways=len(self._gateways),
        )
        return recent

    def place(self, identity: Identity, session: SessionRecord | None) -> Mote | None:
        """Put a mote into memory as its record and its last join have it; None when it has no session."""
        if identity.disabled or identity.on_chirpstack:
            return None
        given = identity.abp or session
        if given is None:
            return None
        mote = Mote(
            identity.dev_eui, given.dev_addr, given.nwk_s_key, given.app_s_key, identity.region, identity.class_c
        )
        mote.own = identity.own
        if isinstance(given, SessionRecord):
            mote.otaa = True
            mote.home = REGIONS.get(given.region) or identity.region or REGIONS[self.settings.region]
            told = given.parameters
            if told is None:
                told = begins(mote.home)._replace(delay=given.rx1_delay, offset=given.rx1_offset)
            mote.begins, mote.rx = self.shared.of(told)
        mote.status_at = self._core.monotonic()
        self._motes.add(mote)
        return mote

    @deferred
    async def place_again(self, identity: Identity) -> Mote | None:
        """The same for one mote, with what is on disk of it."""
        raw = await self._storage.get_record(COUNTERS, identity.dev_eui)
        mac = await self._storage.get_record(MAC, identity.dev_eui)
        session = None if identity.abp else await self.sessions.get(identity.dev_eui)
        mote = self.place(identity, session)
        if mote is not None and raw is not None:
            self._take_counters(mote, raw)
        if mote is not None and mac is not None:
            self._take_mac(mote, mac)
        return mote

    def _take_counters(self, mote: Mote, raw: bytes) -> None:
        if len(raw) != _counter.size:
            self.log.error("the counters of mote {mote} cannot be read", mote=mote.dev_eui)
            return
        mote.up, mote.reserved, near, mote.port = _counter.unpack(raw)
        mote.saved, mote.down = mote.up, mote.reserved
        gateway = self._gateways.get(f"{near:016X}")
        if gateway is not None:
            mote.near = (gateway,)

    def _take_mac(self, mote: Mote, raw: bytes) -> None:
        try:
            mote.mac = MacState.of(raw)
        except ValueError as error:
            self.log.error("the MAC state of mote {mote} cannot be read: {why}", mote=mote.dev_eui, why=str(error))
            return
        mote.mac.has, mote.rx = self.shared.of(mote.mac.has)

    def clear(self) -> None:
        """Nothing of what has not been written will be."""
        self._changed.clear()
        self._renewed.clear()

    # -- counters --------------------------------------------------------------------------------------------------

    def changed(self, mote: Mote) -> None:
        """Its counters are to be written with the next `flush`."""
        if mote.dev_eui not in self._renewed:
            self._changed[mote] = None

    @property
    def waiting(self) -> bool:
        """Whether there is something for `flush`."""
        return bool(self._changed) and not self._writing

    @property
    def writing(self) -> bool:
        """Whether counters are on their way to the disk."""
        return self._writing

    def _renew(self, dev_eui: str, changes: Iterable[Change]) -> Deferred[None]:
        """Carry out changes after which what is known of the mote's counters is of no account."""
        self._renewed.add(dev_eui)
        self._changed = {mote: None for mote in self._changed if mote.dev_eui != dev_eui}

        def done(answer: Any) -> Any:
            self._renewed.discard(dev_eui)
            return answer

        return self._storage.write_records(list(changes)).addBoth(done)

    def flush(self) -> None:
        """Write the counters of all that changed, in one commit, unless a commit is under way: then after it."""
        if self._writing or not self._changed:
            return
        motes, self._changed = list(self._changed), {}
        written = [(mote, mote.up, self._reserve(mote)) for mote in motes]
        self._writing = True
        changes = [Change(COUNTERS, mote.dev_eui, self._packed(mote, up, reserved)) for mote, up, reserved in written]
        for mote in motes:
            if mote.mac is not None and mote.mac.dirty:
                mote.mac.dirty = False
                changes.append(Change(MAC, mote.dev_eui, mote.mac.record()))
        writing: Deferred[None] = self._storage.write_records(changes)
        writing.addCallbacks(self._written, self._not_written, callbackArgs=(written,), errbackArgs=(motes,))

    def _reserve(self, mote: Mote) -> int:
        """The end of its reserved counters as it will be on disk."""
        if mote.reserved - mote.down < self.settings.counter_block // 2:
            return min(mote.down + self.settings.counter_block, MAX_COUNTER)
        return mote.reserved

    @staticmethod
    def _packed(mote: Mote, up: int, reserved: int) -> bytes:
        near = int(mote.near[0].eui, 16) if mote.near else 0
        return _counter.pack(min(up, MAX_COUNTER), reserved, near, mote.port)

    def _written(self, _: None, written: Iterable[tuple[Mote, int, int]]) -> None:
        self._writing = False
        for mote, up, reserved in written:
            mote.saved = up
            mote.reserved = reserved
        self.flush()

    def _not_written(self, failure: Any, motes: Iterable[Mote]) -> None:
        """Tried again with whatever comes next, or by the tick."""
        self._writing = False
        self._counted.counters_unsaved += 1
        for mote in motes:
            # One that was removed meanwhile must not come back.
            if self._motes.get(mote.dev_eui) is mote:
                self.changed(mote)
                if mote.mac is not None:
                    mote.mac.dirty = True
        self.log.warn("lorawan: frame counters not written: {why}", why=failure.getErrorMessage())

    # -- joins and removal -----------------------------------------------------------------------------------------

    def join(self, dev_eui: str, dev_nonce: int, session: SessionRecord) -> Deferred[None]:
        """Conflict: this DevNonce was used before. Unavailable."""
        return self._renew(
            dev_eui,
            (
                Change(NONCES, f"{dev_eui}{dev_nonce:04X}", b"", None),
                self.sessions.change(dev_eui, session),
                Change(COUNTERS, dev_eui, _counter.pack(0, self.settings.counter_block, 0, 0)),
                Change(MAC, dev_eui, None),
            ),
        )

    def joined(self, identity: Identity, session: SessionRecord) -> Mote:
        """The join is on disk: the mote begins anew."""
        mote = self.place(identity, session)
        assert mote is not None
        mote.reserved = self.settings.counter_block
        return mote

    def forget_session(self, dev_eui: str) -> Deferred[None]:
        """The mote was given other keys: it begins anew. No counter may ever meet the old keys again."""
        changes = (Change(COUNTERS, dev_eui, None), Change(MAC, dev_eui, None), self.sessions.change(dev_eui, None))
        return self._renew(dev_eui, changes)

    @deferred
    async def forget(self, dev_eui: str) -> None:
        """The mote is removed, with all that is kept of it."""
        await self.forget_session(dev_eui)
        while True:
            rows = await self._storage.list_records(NONCES, dev_eui, SLICE, None)
            await self._storage.write_records([Change(NONCES, key, None) for key, _ in rows])
            if len(rows) < SLICE:
                return
