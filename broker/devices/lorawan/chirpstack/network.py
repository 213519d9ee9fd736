"""ChirpStack v4 as a network: its events become what our own network says, and commands go to it.

::

    MQTT ──> intake ──┬─> up, join, status, log ──> router
                      ├─> txack, ack, log ────────> downlinks ──> commands' states
                      ├─> gateways ───────────────> watchers
                      └─> store: on disk, then PUBACK
    MQTT <── downlinks <── commands' queue

Here is its life: the connection, the registry, and what application sides may ask.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from broker.core import Core
from broker.devices.lorawan.chirpstack import events
from broker.devices.lorawan.chirpstack.counters import ChirpstackCounters
from broker.devices.lorawan.chirpstack.downlinks import ChirpDownlinks
from broker.devices.lorawan.chirpstack.gateways import ChirpGateways
from broker.devices.lorawan.chirpstack.intake import Intake
from broker.devices.lorawan.chirpstack.motes import ChirpMote, ChirpMotes
from broker.devices.lorawan.chirpstack.presence import Presences
from broker.devices.lorawan.chirpstack.store import EventStore
from broker.devices.lorawan.identity import CHIRPSTACK, Identity, canonical_eui
from broker.devices.lorawan.motes import PROTOCOL
from broker.devices.lorawan.settings import Settings
from broker.model.errors import Invalid
from broker.model.interfaces import IConsumer
from broker.model.messages import QUEUED, Command, DeviceRef, Presence, Uplink
from broker.model.records import DeviceQuery, DeviceRecord
from broker.mqtt.client import Message, MqttClient
from broker.mqtt.client_endpoint import endpoint_of
from broker.mqtt.packets import MQTT_3_1_1, MQTT_5
from broker.storage.deferred import deferred
from broker.storage.registry import Change

#: Rows that are read at a time.
SLICE: Final = 1_000
#: Changes of the registry after which a mote is looked at again.
CHANGES: Final = ("device_updated", "device_disabled")
#: Bytes of a packet besides those of the event.
HEAD: Final = 2_048
#: Seconds between two looks at whether all is done, when stopping, and how many.
STOP_POLL: Final = 0.02
STOP_LOOKS: Final = 250


@implementer(IConsumer)
class ChirpstackNetwork:
    """``endpoint``: where the MQTT broker is, if not at the URL of the settings. Raises Invalid for wrong files."""

    log = Logger(namespace="broker.lorawan")

    def __init__(self, core: Core, settings: Settings, endpoint: Any = None) -> None:
        self.core = core
        self.settings = settings
        own = settings.chirpstack
        self.counted = ChirpstackCounters()
        self.motes = ChirpMotes()
        self.gateways = ChirpGateways(core, self.counted, own.max_gateways, settings.gateway_offline_after)
        self.store = EventStore(core, self.motes, self.counted)
        self.presences = Presences(core, settings.mote_offline_after)
        self.downlinks = ChirpDownlinks(core, settings, self.counted, self.motes)
        self._intake = Intake(
            core, own, self.counted, self.motes, self.gateways, self.store, self.presences, self.downlinks
        )
        self.client = self.downlinks.client = self._new_client(endpoint)
        #: Why the MQTT broker is not there; empty while it is.
        self._trouble = "not connected yet"
        self._refused_filters: list[str] = []
        self._starting: Any = None
        self.stopped = False
        core.router.listen(self)
        core.registry.on_change.append(self._changed)
        core.registry.on_added.append(self._added)

    def _new_client(self, endpoint: Any) -> MqttClient:
        own = self.settings.chirpstack
        if endpoint is None:
            try:
                endpoint = endpoint_of(self.core.reactor, own.url, own.ca, own.certificate, own.private_key)
            except ValueError as error:
                raise Invalid(f"listeners.lorawan.chirpstack: {error}") from None
        return MqttClient(
            self.core.reactor,
            endpoint,
            client_id=own.client_id or f"broker-{self.core.name}",
            user=own.username or None,
            password=own.password or None,
            keep_alive=own.keep_alive,
            version=MQTT_5 if own.version == "5" else MQTT_3_1_1,
            window=own.max_inflight,
            clean=False,
            session_expiry=own.session_expiry,
            manual=True,
            receive_maximum=own.max_unacknowledged,
            max_packet=own.max_message_size + HEAD,
            on_message=self._received,
            on_change=self._client_changed,
        )

    # -- life ------------------------------------------------------------------------------------------------------

    @deferred
    async def load(self) -> None:
        """Read what is on disk. Raises Unavailable."""
        recent: list[tuple[float, ChirpMote]] = []
        cursor: str | None = None
        while True:
            query = DeviceQuery(protocol=PROTOCOL)
            records, cursor = await self.core.storage.list_devices(query, SLICE, cursor)
            for record in records:
                mote = self._place(record)
                if mote is not None and record.presence_reason == "restart" and record.last_seen is not None:
                    recent.append((record.last_seen, mote))
            if cursor is None:
                break
        await self.store.load()
        self.presences.resume(recent)
        self.downlinks.resume()
        own = self.settings.chirpstack
        self._subscribe(events.event_filter(own.prefix, own.application))
        for region in own.regions:
            for topic_filter in events.gateway_filters(region):
                self._subscribe(topic_filter)
        self.log.info("chirpstack: {motes} motes, at {url}", motes=len(self.motes), url=own.url)

    def begin(self) -> None:
        """Connect, when those who want to hear of events have had time to come back after a restart."""
        self._starting = self.core.reactor.callLater(self.settings.chirpstack.start_delay, self._start)

    def _start(self) -> None:
        self._starting = None
        self.client.start()

    def _subscribe(self, topic_filter: str) -> None:
        self.client.subscribe(topic_filter, 1).addErrback(self._not_subscribed, topic_filter)

    def _not_subscribed(self, failure: Any, topic_filter: str) -> None:
        if not self.downlinks.stopping:
            self._refused_filters.append(topic_filter)
            self.log.error("chirpstack: {why}", why=failure.getErrorMessage())

    def configure(self, settings: Settings) -> None:
        """Take new settings of the LoRaWAN side while running; ChirpStack's own table needs a restart."""
        self.settings = msgspec.structs.replace(settings, chirpstack=self.settings.chirpstack)
        self.downlinks.settings = self.settings
        self.presences.offline_after = settings.mote_offline_after
        self.gateways.offline_after = settings.gateway_offline_after

    def tick(self) -> None:
        """About once a second."""
        now = self.core.monotonic()
        self.gateways.tick(now)
        self.presences.tick(now)
        self.downlinks.tick(now)
        self.store.flush()

    @deferred
    async def stop(self) -> None:
        """No more comes in or goes out; what was taken is written and acknowledged, what was handed over has left."""
        self.downlinks.stopping = True
        if self._starting is not None:
            self._starting.cancel()
            self._starting = None
        self.store.settle()
        for _ in range(STOP_LOOKS):
            leaving = self.client.unacknowledged if self.client.connected else 0
            if not (self.store.writing or self.downlinks.taking or leaving):
                break
            await deferLater(self.core.reactor, STOP_POLL)
        await self.client.stop()
        self.stopped = True

    def abort(self, reason: str) -> None:
        """Wait no longer for that."""
        self.client.cut()

    def _client_changed(self, what: str) -> None:
        url = self.settings.chirpstack.url
        if what == "connected":
            self._trouble = ""
            self.counted.connections += 1
            self.gateways.reached()
            self.log.info("chirpstack: connected to {url}", url=url)
            refused, self._refused_filters = self._refused_filters, []
            for topic_filter in refused:
                self._subscribe(topic_filter)
            return
        if what != self._trouble and not self.downlinks.stopping:
            self.log.warn("chirpstack: no connection to {url}: {why}", url=url, why=what)
        self._trouble = what
        self.gateways.cut_off()
        self.store.cut_off()

    def _received(self, message: Message) -> None:
        if not self.downlinks.stopping:  # else it comes again, to our next life
            self._intake.received(message)

    def troubles(self) -> list[str]:
        """What does not work, a sentence each. Anybody may read them, so they do not say where the MQTT broker is."""
        found = []
        if self._trouble:
            found.append(f"ChirpStack's MQTT broker cannot be reached: {self._trouble}")
        found += [f"ChirpStack's MQTT broker refuses the subscription {one}" for one in self._refused_filters]
        if self.downlinks.untaken:
            found.append("ChirpStack does not listen for commands on its MQTT broker")
        return found

    def counters(self) -> dict[str, float]:
        """For the metrics."""
        figures = self.counted.as_dict()
        figures["lorawan_chirpstack_connected"] = float(self.client.connected)
        figures["lorawan_chirpstack_motes"] = len(self.motes)
        figures["lorawan_chirpstack_gateways_online"] = self.gateways.online
        return figures

    # -- IConsumer: commands that are waiting ----------------------------------------------------------------------

    def wants(self, device: DeviceRef, kind: str) -> bool:
        return False

    def uplink(self, message: Uplink) -> None:
        pass

    def presence(self, change: Presence) -> None:
        pass

    def command(self, change: Command) -> None:
        if change.protocol != PROTOCOL:
            return
        mote = self.motes.get(change.device)
        if mote is None:
            return
        if change.final and mote.item is not None and mote.item.command is change:
            mote.item = None  # it timed out, or its device is being removed
            self.downlinks.queued(mote)
        elif change.status == QUEUED:
            self.downlinks.queued(mote)

    # -- the registry ----------------------------------------------------------------------------------------------

    def _place(self, record: DeviceRecord) -> ChirpMote | None:
        """Put a mote into memory if it is ChirpStack's."""
        if not _is_ours(record):
            return None
        own = self.settings.chirpstack
        mote = ChirpMote(Identity(record), (own.answer_timeout, own.answer_timeout_class_c))
        self.motes.add(mote)
        return mote

    def _added(self, record: DeviceRecord) -> None:
        self._place(record)

    def _changed(self, change: Change) -> None:
        if change.what == "device_removed":
            if self._remove(change.id):
                self.store.forget(change.id).addErrback(self._not_looked)
        elif change.what in CHANGES:
            self._look_again(change.id).addErrback(self._not_looked)

    def _not_looked(self, failure: Any) -> None:
        self.log.failure("fault after a change in the registry", failure)

    def _remove(self, dev_eui: str) -> bool:
        mote = self.motes.remove(dev_eui)
        if mote is not None:
            self.presences.leave(mote, "removed")
        return mote is not None

    @deferred
    async def _look_again(self, device_id: str) -> None:
        record = await self.core.storage.get_device(device_id)
        if record is None or record.protocol != PROTOCOL:
            return
        if not _is_ours(record):
            self._remove(record.id)
            return
        mote = self.motes.get(record.id)
        if mote is None:
            mote = self._place(record)
            assert mote is not None
            await self.store.load_one(mote)
        else:
            mote.again(Identity(record))
        self.downlinks.queued(mote)

    # -- ILoraNetwork: for the application sides -------------------------------------------------------------------

    def gateway(self, eui: str) -> dict[str, Any] | None:
        known = canonical_eui(eui)
        found = None if known is None else self.gateways.get(known)
        return None if found is None else found.as_dict()

    def nearest_gateway(self, dev_eui: str) -> str | None:
        mote = self.motes.get(dev_eui)
        return mote.near[0] if mote is not None and mote.near else None

    def gateways_of(self, dev_eui: str) -> tuple[str, ...]:
        mote = self.motes.get(dev_eui)
        return () if mote is None else tuple(mote.near)

    def motes_behind(self, eui: str) -> list[str]:
        return [mote.dev_eui for mote in self.motes if tuple(mote.near) == (eui,)]

    def class_of(self, dev_eui: str) -> str | None:
        mote = self.motes.get(dev_eui)
        return None if mote is None or not mote.present else "C" if mote.class_c else "A"

    def watch_gateways(self, call: Callable[[str, bool], None]) -> None:
        self.gateways.watchers.append(call)


def _is_ours(record: DeviceRecord) -> bool:
    enabled = record.protocol == PROTOCOL and not record.disabled
    return enabled and record.attributes.get("network") == CHIRPSTACK
