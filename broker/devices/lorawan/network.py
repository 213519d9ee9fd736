"""The LoRaWAN network server: everything between the datagrams of gateways and the messages of the broker.

::

    datagram ──> codec ──> gateways ──> packets, deduplicated ──> uplinks ──> router
                              │                              └──> joins
                              │            store <── counters, sessions ──┘
    PULL_RESP <── transmitter <── downlinks <── commands' queue
                              │
              TX_ACK ─────────┘

There is no socket and no timer in here but the `Agenda`; datagrams go out through ``write``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from broker.core import Core
from broker.devices.lorawan import codec
from broker.devices.lorawan.agenda import Agenda
from broker.devices.lorawan.airlog import AirLog
from broker.devices.lorawan.codec import DatagramError, Rxpk
from broker.devices.lorawan.counters import LorawanCounters
from broker.devices.lorawan.downlinks import Downlinks
from broker.devices.lorawan.frames import DataUp, FrameError, JoinRequest, parse_uplink
from broker.devices.lorawan.gateway import Address, Gateway
from broker.devices.lorawan.gateways import Gateways
from broker.devices.lorawan.identity import Identity, canonical_eui
from broker.devices.lorawan.joins import Joins
from broker.devices.lorawan.mac.dialogue import Dialogue
from broker.devices.lorawan.motes import PROTOCOL, Mote, Motes
from broker.devices.lorawan.multicast.side import Multicast
from broker.devices.lorawan.reception import Heard, received
from broker.devices.lorawan.settings import Settings
from broker.devices.lorawan.store import Store
from broker.devices.lorawan.transmitter import Transmitter, Write
from broker.devices.lorawan.uplinks import Uplinks
from broker.model.interfaces import IConsumer, ILoraNetwork
from broker.model.messages import QUEUED, Command, DeviceRef, Presence, Uplink
from broker.model.records import DeviceRecord
from broker.storage.deferred import deferred
from broker.storage.registry import Change

#: Hz that a packet can have been received on.
FREQUENCIES: Final = range(100_000_000, 3_000_000_000)
#: Seconds in which counters are gathered for one commit. Downlinks are decided later than that, and would wait.
GATHER: Final = 0.025
#: Changes of the registry after which a mote is looked at again.
CHANGES: Final = ("device_updated", "device_secret", "device_disabled")


@implementer(IConsumer, ILoraNetwork)
class Network:
    """One network. ``write(data, address)`` sends a datagram; ``random_bytes`` makes tokens and addresses."""

    log = Logger(namespace="broker.lorawan")

    def __init__(
        self, core: Core, settings: Settings, write: Write, random_bytes: Callable[[int], bytes] = os.urandom
    ) -> None:
        self.core = core
        self.settings = settings
        self.counted = LorawanCounters()
        self.motes = Motes()
        self.gateways = Gateways(core, settings, self.counted)
        self._write = write
        self._clock = core.clock
        self._monotonic = core.monotonic
        #: Frames whose window is open, by their bytes.
        self._frames: dict[bytes, Heard] = {}
        self._flush_due = False
        self.agenda = Agenda(core.reactor, core.monotonic, self._done_for_now, self._fault)
        self.store = Store(core, settings, self.motes, self.gateways, self.counted)
        self.air = AirLog(core, self.gateways, self.counted)
        self.transmitter = Transmitter(
            settings, self.counted, self.agenda, core.monotonic, write, random_bytes, self.air
        )
        self.dialogue = Dialogue(settings, self.counted, self.store.shared, core.monotonic)
        self.downlinks = Downlinks(
            core, settings, self.counted, self.agenda, self.motes, self.store, self.transmitter, self.dialogue
        )
        self.uplinks = Uplinks(core, settings, self.counted, self.motes, self.store, self.downlinks, self.dialogue)
        self.joins = Joins(
            core,
            settings,
            self.counted,
            self.motes,
            self.store,
            self.transmitter,
            self.uplinks,
            random_bytes,
        )
        self.multicast = Multicast(
            core,
            settings,
            self.counted,
            self.agenda,
            self.motes,
            self.gateways,
            self.transmitter,
            self.joins.new_address,
            random_bytes,
        )
        core.router.listen(self)
        core.registry.on_change.append(self._changed)
        core.registry.on_added.append(self._added)

    @deferred
    async def load(self) -> None:
        """Read what is on disk. Raises Unavailable."""
        recent = await self.store.load()
        await self.air.load()
        self.uplinks.resume(recent)
        await self.multicast.load()
        self.downlinks.resume()

    def configure(self, settings: Settings) -> None:
        """Take new settings while running."""
        for part in (
            self,
            self.gateways,
            self.store,
            self.transmitter,
            self.dialogue,
            self.downlinks,
            self.uplinks,
            self.joins,
            self.multicast,
        ):
            part.settings = settings

    def tick(self) -> None:
        """About once a second."""
        now = self._monotonic()
        self.gateways.tick(now)
        self.uplinks.tick(now)
        self.downlinks.tick()
        self.multicast.tick()
        self.store.flush()
        self.air.tick(now)

    def stop(self) -> None:
        """No more comes in or goes out: what was heard is passed on, and counters are written."""
        frames, self._frames = self._frames, {}
        for heard in frames.values():
            if isinstance(heard.frame, DataUp):
                heard.sort()
                self.uplinks.take(heard, heard.frame)
        self.agenda.stop()
        self.store.flush()
        self.air.stop()

    def clear(self) -> None:
        """Others may have all of it by now: nothing is passed on, sent or written, and `load` reads it anew."""
        self._frames.clear()
        self._flush_due = False
        for part in (
            self.agenda,
            self.motes,
            self.gateways,
            self.store,
            self.air,
            self.transmitter,
            self.downlinks,
            self.uplinks,
            self.multicast,
        ):
            part.clear()

    # -- datagrams -------------------------------------------------------------------------------------------------

    def datagram(self, data: bytes, address: Address) -> None:
        """From a gateway, or from anybody."""
        try:
            datagram = codec.parse(data)
        except DatagramError:
            self.counted.bad_datagrams += 1
            return
        now = self._monotonic()
        gateway = self.gateways.admit(datagram, address, now)
        if gateway is None:
            return
        if datagram.kind == codec.PUSH_DATA:
            # At once: forwarders wait 100 ms for it.
            self._write(codec.push_ack(datagram), address)
            self._push(gateway, datagram.body, now)
        elif datagram.kind == codec.PULL_DATA:
            self._write(codec.pull_ack(datagram), address)
        else:
            try:
                error = codec.tx_error(datagram.body)
            except DatagramError:
                self.counted.bad_datagrams += 1
                error = "UNKNOWN"
            self.transmitter.answered(gateway, datagram.token, error)

    def _push(self, gateway: Gateway, text: bytes, now: float) -> None:
        try:
            body = codec.push_body(text)
        except DatagramError:
            self.counted.bad_datagrams += 1
            return
        self.counted.bad_packets += body.faulty
        if body.stat is not None:
            gateway.stat, gateway.stat_at = body.stat, self._clock()
        for packet in body.rxpk:
            self._packet(gateway, packet, now)

    def _packet(self, gateway: Gateway, packet: Rxpk, now: float) -> None:
        counted = self.counted
        if packet.stat < 0:
            counted.bad_crc += 1
            return
        try:
            phy = codec.packet_bytes(packet)
        except DatagramError:
            counted.bad_packets += 1
            return
        frequency = round(packet.freq * 1e6)
        if frequency not in FREQUENCIES:
            counted.bad_packets += 1
            return
        gateway.forwarded += 1
        heard = self._frames.get(phy)
        if heard is not None:
            counted.duplicates += 1
            heard.also(received(gateway, packet, frequency, now))
            return
        try:
            frame = parse_uplink(phy)
        except FrameError:
            counted.bad_frames += 1
            return
        if type(frame) is DataUp and not self.motes.taken(frame.dev_addr):
            counted.unknown_addresses += 1
            return
        if len(self._frames) >= self.settings.max_frames:
            counted.too_many_frames += 1
            return
        heard = self._frames[phy] = Heard(phy, frame, received(gateway, packet, frequency, now), self._clock())
        self.agenda.at(now + self.settings.deduplication, self._ripe, heard)

    def _ripe(self, heard: Heard) -> None:
        """The window of a frame is over."""
        del self._frames[heard.phy]
        heard.sort()
        frame = heard.frame
        if isinstance(frame, JoinRequest):
            self.joins.request(heard, frame)
        else:
            self.uplinks.take(heard, frame)

    def _done_for_now(self) -> None:
        if self.store.waiting and not self._flush_due:
            self._flush_due = True
            self.agenda.at(self._monotonic() + GATHER, self._flush, None)

    def _flush(self, _: None) -> None:
        self._flush_due = False
        self.store.flush()

    def _fault(self, error: BaseException) -> None:
        self.core.router.fault("lorawan", error)

    # -- IConsumer: commands that are waiting ----------------------------------------------------------------------

    def wants(self, device: DeviceRef, kind: str) -> bool:
        return False

    def uplink(self, message: Uplink) -> None:
        pass

    def presence(self, change: Presence) -> None:
        pass

    def command(self, change: Command) -> None:
        if change.protocol == PROTOCOL and change.status == QUEUED:
            mote = self.motes.get(change.device)
            if mote is not None and mote.class_c:
                self.downlinks.wake(mote)

    # -- the registry ----------------------------------------------------------------------------------------------

    def _added(self, record: DeviceRecord) -> None:
        if record.protocol == PROTOCOL:
            self.store.place(Identity(record), None)

    def _changed(self, change: Change) -> None:
        if change.what == "device_removed":
            if canonical_eui(change.id) == change.id:
                self._remove(change.id)
        elif change.what in CHANGES:
            self._look_again(change.id).addErrback(self._not_looked)

    def _not_looked(self, failure: Any) -> None:
        self.log.failure("fault after a change in the registry", failure)

    def _remove(self, dev_eui: str) -> None:
        self.multicast.unfit(dev_eui)
        mote = self.motes.remove(dev_eui)
        if mote is not None:
            self.uplinks.leave(mote, "removed")
        forgetting: Deferred[None] = self.store.forget(dev_eui)
        forgetting.addErrback(self._not_looked)

    @deferred
    async def _look_again(self, device_id: str) -> None:
        record = await self.core.storage.get_device(device_id)
        if record is None or record.protocol != PROTOCOL:
            return
        identity = Identity(record)
        if not identity.class_c:
            self.multicast.unfit(record.id)
        mote = self.motes.get(record.id)
        if record.disabled or identity.on_chirpstack:
            if mote is not None:
                self.motes.remove(record.id)
                self.uplinks.leave(mote, "removed")
            return
        if mote is not None and _same_session(mote, identity):
            mote.class_c = identity.class_c
            mote.region = identity.region
            mote.own, mote.checked = identity.own, -1
            if mote.class_c:
                self.downlinks.wake(mote)
            return
        if mote is not None:
            self.motes.remove(record.id)
            self.uplinks.leave(mote, "removed")
            self.downlinks.session_over(mote)
            await self.store.forget_session(record.id)
        await self.store.place_again(identity)

    # -- ILoraNetwork: for the application sides -------------------------------------------------------------------

    def gateway(self, eui: str) -> dict[str, Any] | None:
        known = canonical_eui(eui)
        found = None if known is None else self.gateways.get(known)
        return None if found is None else {**found.as_dict(self._monotonic()), "family": found.region.family}

    def nearest_gateway(self, dev_eui: str) -> str | None:
        mote = self.motes.get(dev_eui)
        return mote.near[0].eui if mote is not None and mote.near else None

    def gateways_of(self, dev_eui: str) -> tuple[str, ...]:
        mote = self.motes.get(dev_eui)
        return () if mote is None else tuple(gateway.eui for gateway in mote.near)

    def motes_behind(self, eui: str) -> list[str]:
        return [mote.dev_eui for mote in self.motes if len(mote.near) == 1 and mote.near[0].eui == eui]

    def class_of(self, dev_eui: str) -> str | None:
        mote = self.motes.get(dev_eui)
        return None if mote is None else "C" if mote.class_c else "A"

    def groups_of(self, application: str) -> dict[str, frozenset[str]]:
        return self.multicast.groups_of(application)

    def send_to_group(
        self, group: str, payload: bytes, *, port: int, tries: int, priority: int, expires: float, origin: str
    ) -> Deferred[str]:
        return self.multicast.send(group, payload, port, tries, priority, expires, origin)

    def withdraw(self, origin: str) -> Deferred[None]:
        return self.multicast.messages.withdraw(origin)

    def watch_gateways(self, call: Callable[[str, bool], None]) -> None:
        self.gateways.watchers.append(lambda gateway, online: call(gateway.eui, online))


def _same_session(mote: Mote, identity: Identity) -> bool:
    """Whether what changed leaves the session as it is."""
    abp = identity.abp
    if abp is None:
        return mote.otaa
    return not mote.otaa and (mote.dev_addr, mote.nwk_s_key, mote.app_s_key) == tuple(abp)
