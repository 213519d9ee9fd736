"""Over-the-air activation: a join-request becomes a session, on disk before the join-accept leaves.

::

    join-request ──> record of the DevEUI, JoinEUI, MIC ──> slot booked ──> DevNonce, session, counters on disk
                 ──> PULL_RESP with the join-accept ──> TX_ACK: event "join"

Nothing of a request is believed before its MIC is right; those of strangers cost one look-up each, and only
``max_joins`` of them at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from broker.core import Core
from broker.devices.lorawan import frames, keys
from broker.devices.lorawan.counters import LorawanCounters
from broker.devices.lorawan.frames import JoinRequest
from broker.devices.lorawan.identity import Identity
from broker.devices.lorawan.mac import parameters
from broker.devices.lorawan.mac.parameters import Parameters
from broker.devices.lorawan.motes import PROTOCOL, Mote, Motes
from broker.devices.lorawan.priority import JOIN
from broker.devices.lorawan.reception import Heard
from broker.devices.lorawan.settings import Settings
from broker.devices.lorawan.store import SessionRecord, Store
from broker.devices.lorawan.transmitter import Transmission, Transmitter
from broker.devices.lorawan.uplinks import MAX_NEAR, Uplinks
from broker.devices.lorawan.windows import Rx
from broker.model.errors import Conflict, Unavailable

#: The windows after a join-request: JOIN_ACCEPT_DELAY1 is the same in every region.
JOIN_RX: Final = Rx(delay=5.0, offset=0, join=True)
#: UNIX time of 2020-01-01. Minutes since then fit into a JoinNonce until 2051.
NONCE_EPOCH: Final = 1_577_836_800
#: How often another address is tried when one is taken.
ADDRESS_TRIES: Final = 100


class Joins:
    """``random_bytes`` makes addresses."""

    log = Logger(namespace="broker.lorawan")

    def __init__(
        self,
        core: Core,
        settings: Settings,
        counted: LorawanCounters,
        motes: Motes,
        store: Store,
        transmitter: Transmitter,
        uplinks: Uplinks,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._core = core
        self._counted = counted
        self._motes = motes
        self._store = store
        self._transmitter = transmitter
        self._uplinks = uplinks
        self._random_bytes = random_bytes
        self.settings = settings
        self.net_id = int(settings.net_id, 16)
        #: DevEUIs of requests that are being answered.
        self._answering: set[str] = set()

    def request(self, heard: Heard, request: JoinRequest) -> None:
        """A join-request, the best reception first."""
        dev_eui = f"{request.dev_eui:016X}"
        if dev_eui in self._answering or len(self._answering) >= self.settings.max_joins:
            self._counted.joins_refused += 1
            return
        self._answering.add(dev_eui)

        def over(_: None) -> None:
            self._answering.discard(dev_eui)

        Deferred.fromCoroutine(self._answer(heard, request, dev_eui)).addErrback(self._failed).addBoth(over)

    def _failed(self, failure: Failure) -> None:
        self._counted.joins_refused += 1
        if failure.check(Unavailable) is None:
            self.log.failure("fault while answering a join-request", failure)

    async def _answer(self, heard: Heard, request: JoinRequest, dev_eui: str) -> None:
        record = await self._core.storage.get_device(dev_eui)
        if record is None or record.protocol != PROTOCOL or record.disabled:
            self._counted.unknown_motes += 1
            return
        identity = Identity(record)
        if identity.join_eui != request.join_eui or identity.on_chirpstack:
            self._counted.unknown_motes += 1
            return
        if not request.verify(identity.app_key):
            self._counted.bad_mics += 1
            return
        before = await self._store.sessions.get(dev_eui)
        app_nonce = self._next_nonce(before)
        region = identity.region or heard.receptions[0].gateway.region
        address = self.new_address()
        nwk_s_key, app_s_key = keys.session_keys(identity.app_key, app_nonce, self.net_id, request.dev_nonce)
        told, cf_list = parameters.joined(region, identity.own, self.settings, heard.receptions[0].frequency)
        accept = self._accept(identity, app_nonce, address, told, cf_list)
        plan = self._transmitter.windows(heard.receptions, identity.region, len(accept), JOIN_RX)
        transmission = Transmission(accept, plan.slots, self._sent, (dev_eui, address, heard), JOIN)
        if self._transmitter.book(transmission) is not None:
            self._counted.joins_refused += 1
            return
        session = SessionRecord(
            dev_addr=address,
            nwk_s_key=nwk_s_key,
            app_s_key=app_s_key,
            app_nonce=app_nonce,
            joined_at=self._core.clock(),
            region=region.name,
            parameters=told,
        )
        try:
            await self._store.join(dev_eui, request.dev_nonce, session)
        except Conflict:
            self._counted.nonce_reuse += 1
            self._transmitter.release(transmission)
            return
        except Unavailable:
            self._transmitter.release(transmission)
            raise
        self._begin(identity, session, heard)
        self._transmitter.launch(transmission)

    def _begin(self, identity: Identity, session: SessionRecord, heard: Heard) -> None:
        old = self._motes.get(identity.dev_eui)
        mote = self._store.joined(identity, session)
        mote.near = tuple(reception.gateway for reception in heard.receptions[:MAX_NEAR])
        if old is not None:
            self._uplinks.hand_over(old, mote, heard)
        self._counted.joins += 1

    def _accept(self, identity: Identity, app_nonce: int, address: int, told: Parameters, cf_list: bytes) -> bytes:
        return frames.join_accept(
            identity.app_key,
            app_nonce,
            self.net_id,
            address,
            rx1_offset=told.offset,
            rx2_data_rate=told.rx2_rate,
            rx_delay=told.delay,
            cf_list=cf_list,
        )

    def _next_nonce(self, before: SessionRecord | None) -> int:
        """The JoinNonce: larger than any before, as 1.0.4 has it, even if the mote was removed and registered anew.

        Never the same one with the same DevNonce, as that would make the same session keys.
        """
        minutes = int((self._core.clock() - NONCE_EPOCH) / 60)
        return max(minutes, 0 if before is None else before.app_nonce + 1) & 0xFF_FFFF

    def new_address(self) -> int:
        """The NwkID of our NetID and 25 random bits, of no other mote if that can be had."""
        prefix = (self.net_id & 0x7F) << 25
        address = prefix
        for _ in range(ADDRESS_TRIES):
            address = prefix | int.from_bytes(self._random_bytes(4), "big") & 0x1FF_FFFF
            if not self._motes.taken(address) and address not in self._motes.reserved:
                break
        return address

    def _sent(self, transmission: Transmission, error: str | None) -> None:
        dev_eui, address, heard = transmission.what
        mote: Mote | None = self._motes.get(dev_eui)
        # A gateway that stays silent has been given it all the same.
        if error in (None, "SILENT") and mote is not None and mote.dev_addr == address:
            self._uplinks.joined(mote, heard)
