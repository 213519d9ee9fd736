"""ChirpStack's messages, from the MQTT broker to what they say.

==========  ========================================================================================================
event       becomes
==========  ========================================================================================================
up          Uplink "raw" with the meta of our own network; of those on port 0 nothing; a window for a command
join        Uplink "event" {"event": "join", "dev_addr"}
status      Uplink "status" {"battery", "margin"}; the same in ``info["status"]``
log         Uplink "log" {"level", "code", "description", "context"}; errors of downlinks end commands
txack, ack  states of commands (`downlinks`)
==========  ========================================================================================================

An event counts once, by its deduplicationId or by all its bytes. Those of motes that are not registered here, or that
come as another application's than the mote's, are counted and acknowledged: they are ChirpStack's to know.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.logger import Logger

from broker.core import Core
from broker.devices.lorawan.chirpstack import events
from broker.devices.lorawan.chirpstack.counters import ChirpstackCounters
from broker.devices.lorawan.chirpstack.downlinks import ChirpDownlinks
from broker.devices.lorawan.chirpstack.events import EventError, EventTopic, GatewayTopic, RxInfo
from broker.devices.lorawan.chirpstack.gateways import ChirpGateways
from broker.devices.lorawan.chirpstack.motes import ChirpMote, ChirpMotes
from broker.devices.lorawan.chirpstack.presence import Presences
from broker.devices.lorawan.chirpstack.settings import ChirpstackSettings
from broker.devices.lorawan.chirpstack.store import EventStore
from broker.devices.lorawan.identity import canonical_eui
from broker.devices.lorawan.motes import PROTOCOL
from broker.devices.lorawan.uplinks import MAX_NEAR
from broker.model.jsontext import decode
from broker.model.messages import EVENT, LOG, RAW, STATUS, DeviceRef, Uplink
from broker.mqtt.client import Message

#: Events of ChirpStack that we have no use for.
UNUSED: Final = ("location", "integration")
#: Reasons why an event is not taken that have a log line: a shared MQTT broker must not fill the log.
MAX_COMPLAINTS: Final = 1_000


class Intake:
    """``received`` is given every message."""

    log = Logger(namespace="broker.lorawan")

    def __init__(
        self,
        core: Core,
        settings: ChirpstackSettings,
        counted: ChirpstackCounters,
        motes: ChirpMotes,
        gateways: ChirpGateways,
        store: EventStore,
        presences: Presences,
        downlinks: ChirpDownlinks,
    ) -> None:
        self._core = core
        self._settings = settings
        self._counted = counted
        self._motes = motes
        self._gateways = gateways
        self._store = store
        self._presences = presences
        self._downlinks = downlinks
        self._complaints: set[tuple[str, str]] = set()
        self._takers: dict[str, Callable[[ChirpMote, Any], None]] = {
            "up": self._up,
            "join": self._join,
            "status": self._status,
            "log": self._log,
            "txack": self._txack,
            "ack": downlinks.acknowledged,
        }

    def received(self, message: Message) -> None:
        """From the MQTT broker. Nothing that it holds may raise out of here."""
        topic = events.parse_topic(message.topic, self._settings.prefix)
        try:
            if isinstance(topic, EventTopic):
                self._event(topic, message.payload)
            elif isinstance(topic, GatewayTopic):
                self._of_gateway(topic, message.payload)
            else:
                self._counted.other_topics += 1
        except EventError:
            self._counted.bad_events += 1
        except Exception as error:
            self._core.router.fault("chirpstack", error)
        self._store.owed(message)

    def _event(self, topic: EventTopic, payload: bytes) -> None:
        take = self._takers.get(topic.what)
        if take is None:
            if topic.what not in UNUSED:
                self._counted.other_topics += 1
            return
        mote = self._motes.get(topic.dev_eui)
        if mote is None:
            self._counted.unknown_motes += 1
            self._complain(topic.dev_eui, "is not registered here as one of ChirpStack's")
            return
        ours = mote.application or self._settings.application
        if ours and ours != topic.application:
            self._counted.other_applications += 1
            self._complain(topic.dev_eui, f"is of application {ours}; events of {topic.application} are not taken")
            return
        event = events.parse_event(topic.what, topic.application, topic.dev_eui, payload)
        if mote.tell is not None:
            mote.tell("in", payload, {"event": topic.what, **_shown(payload)})
        if not mote.new(topic.what.encode() + (event.deduplication_id.encode() or payload)):
            self._counted.repeated_events += 1
            return
        self._counted.events += 1
        mote.application = topic.application
        said = event.device_info.class_c
        if said is not None and not mote.class_given:
            mote.class_c = said
        self._store.changed(mote)
        take(mote, event)

    def _complain(self, dev_eui: str, what: str) -> None:
        if (dev_eui, what) not in self._complaints and len(self._complaints) < MAX_COMPLAINTS:
            self._complaints.add((dev_eui, what))
            self.log.info("chirpstack: mote {mote} {what}", mote=dev_eui, what=what)

    def _of_gateway(self, topic: GatewayTopic, payload: bytes) -> None:
        if topic.what == "stats":
            self._gateways.counted(topic.region, topic.eui, events.parse_stats(payload))
        elif payload:  # else a retained state that is taken away
            self._gateways.stated(topic.region, topic.eui, events.parse_conn(payload))

    # -- events ----------------------------------------------------------------------------------------------------

    def _here(self, mote: ChirpMote) -> DeviceRef:
        """The mote was heard."""
        mote.present = True
        self._presences.heard(mote)
        ref: DeviceRef = mote.live.ref
        return ref

    def _up(self, mote: ChirpMote, event: events.Up) -> None:
        now = self._core.clock()
        receptions = _receptions(event.rx_info)
        ref = self._here(mote)
        if receptions:
            mote.near = tuple(one["eui"] for one in receptions[:MAX_NEAR])
        for one in receptions:
            self._gateways.heard(one["eui"], now)
        if event.f_port:
            mote.port = event.f_port
            uplink = Uplink(ref, RAW, event.data, now, event.at, _meta(event, receptions))
            self._core.router.uplink(uplink)
        self._downlinks.heard(mote)

    def _join(self, mote: ChirpMote, event: events.Join) -> None:
        self._counted.joins += 1
        self._downlinks.session_over(mote)
        said = {"event": "join", "dev_addr": event.dev_addr.upper()}
        ref = self._here(mote)
        self._core.router.uplink(Uplink(ref, EVENT, said, self._core.clock(), event.at, {"gateways": []}))

    def _status(self, mote: ChirpMote, event: events.Status) -> None:
        now = self._core.clock()
        ref = self._here(mote)
        status = {"battery": event.battery, "margin": event.margin}
        mote.live.info["status"] = {**status, "at": now}
        mote.live.info_changed = True
        self._core.router.uplink(Uplink(ref, STATUS, status, now, event.at))

    def _log(self, mote: ChirpMote, event: events.Log) -> None:
        said = {
            "level": event.level_name,
            "code": event.code_name,
            "description": event.description,
            "context": event.context,
        }
        ref = DeviceRef(PROTOCOL, mote.dev_eui) if mote.live is None else mote.live.ref
        self._core.router.uplink(Uplink(ref, LOG, said, self._core.clock(), event.at))
        self._downlinks.logged(mote, event)

    def _txack(self, mote: ChirpMote, event: events.TxAck) -> None:
        self._downlinks.transmitted(mote, event, canonical_eui(event.gateway_id) or "")


def _shown(payload: bytes) -> dict[str, Any]:
    """All of an event that was read; of what we do not look at it may hold anything."""
    try:
        shown: dict[str, Any] = decode(payload)
    except ValueError:
        return {}
    return shown


def _receptions(infos: list[RxInfo]) -> list[dict[str, Any]]:
    """As they stand in an uplink's ``meta``, the best first: by SNR, then by RSSI."""
    found = []
    for info in infos:
        eui = canonical_eui(info.gateway_id)
        if eui is not None:
            found.append({"eui": eui, "rssi": info.rssi or 0.0, "snr": info.snr or 0.0})
    found.sort(key=lambda one: (one["snr"], one["rssi"]), reverse=True)
    return found


def _meta(event: events.Up, receptions: list[dict[str, Any]]) -> dict[str, Any]:
    """What our own network has (`broker.devices.lorawan.uplinks.meta_of`)."""
    best: dict[str, Any] = receptions[0] if receptions else {"rssi": None, "snr": None}
    sent = event.tx_info
    return {
        "port": event.f_port,
        "fcnt": event.f_cnt,
        "rssi": best["rssi"],
        "snr": best["snr"],
        "gateways": receptions,
        "data_rate": None if sent is None else sent.data_rate,
        "frequency": None if sent is None else sent.frequency,
        "confirmed": event.confirmed,
    }
