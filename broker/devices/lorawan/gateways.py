"""All gateways: who may speak, from where, and who is on-line.

The protocol has no authentication, so three things stand in for it: only registered EUIs are listened to (unless the
settings say otherwise), an EUI is bound to the host that it is heard from until it has been silent for a while, and
what is sent to a gateway goes where its last PULL_DATA came from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from twisted.logger import Logger

from broker.core import Core
from broker.devices.lorawan.codec import PULL_DATA, Datagram
from broker.devices.lorawan.counters import LorawanCounters
from broker.devices.lorawan.gateway import Address, Duty, Gateway, GatewayRecord
from broker.devices.lorawan.regions import REGIONS, Region
from broker.devices.lorawan.settings import Settings

#: Told of each gateway that comes and goes: (gateway, on-line).
Watch = Callable[[Gateway, bool], None]
#: EUIs of strangers that have a log line; a flood of made-up ones must not fill the log.
MAX_STRANGERS: Final = 1_000
#: Seconds between two looks at gateways that are gone.
LOOK: Final = 60.0


class Gateways:
    """By EUI. ``watchers`` are told of presence."""

    log = Logger(namespace="broker.lorawan")

    def __init__(self, core: Core, settings: Settings, counted: LorawanCounters) -> None:
        self._core = core
        self._counted = counted
        self.settings = settings
        self.watchers: list[Watch] = []
        self._by_bytes: dict[bytes, Gateway] = {}
        #: Gateways that are none of ours (any more, or yet), whose air time still counts.
        self._absent: dict[bytes, Gateway] = {}
        self._strangers: set[bytes] = set()
        self._online: dict[str, Gateway] = {}
        self._look_at = 0.0

    def __len__(self) -> int:
        return len(self._by_bytes)

    def __iter__(self) -> Any:
        return iter(list(self._by_bytes.values()))

    @property
    def online(self) -> int:
        return len(self._online)

    def get(self, eui: str) -> Gateway | None:
        return self._by_bytes.get(bytes.fromhex(eui))

    def region_of(self, record: GatewayRecord | None) -> Region:
        named = None if record is None else record.region
        return REGIONS[named or self.settings.region]

    def clear(self) -> None:
        """None of them is known any more. Nobody is told: they have not gone."""
        for known in (self._by_bytes, self._absent, self._strangers, self._online):
            known.clear()

    # -- the registry's side ---------------------------------------------------------------------------------------

    def register(self, record: GatewayRecord) -> Gateway:
        """A gateway is registered, or its record changed."""
        eui = bytes.fromhex(record.eui)
        gateway = self._by_bytes.get(eui)
        if gateway is None:
            return self._make(eui, record)
        gateway.record = record
        gateway.region = self.region_of(record)
        gateway.max_power = None
        return gateway

    def remove(self, eui: str) -> None:
        """It is not registered any more."""
        gateway = self._by_bytes.pop(bytes.fromhex(eui), None)
        if gateway is not None:
            self._set_online(gateway, False)
            gateway.address = None
            gateway.host = None
            if gateway.air.forget(gateway.clock.reading(self._core.monotonic())):
                self._absent[bytes.fromhex(eui)] = gateway

    def _make(self, eui: bytes, record: GatewayRecord | None) -> Gateway:
        region = self.region_of(record)
        gateway = self._absent.pop(eui, None) or Gateway(eui.hex().upper(), region, record)
        gateway.record, gateway.region = record, region
        self._by_bytes[eui] = gateway
        self._strangers.discard(eui)
        return gateway

    def of(self, eui: str) -> Gateway:
        """One that sent something, whether or not it is one of ours now."""
        key = bytes.fromhex(eui)
        gateway = self._by_bytes.get(key) or self._absent.get(key)
        if gateway is None:
            gateway = self._absent[key] = Gateway(eui, self.region_of(None), None)
        return gateway

    def duties(self) -> Iterator[tuple[str, Duty]]:
        """Air time of all that have sent something lately, by EUI."""
        now = self._core.monotonic()
        for gateway in list(self._by_bytes.values()):
            for duty in gateway.duty(now, ()):
                yield gateway.eui, duty

    # -- datagrams -------------------------------------------------------------------------------------------------

    def admit(self, datagram: Datagram, address: Address, now: float) -> Gateway | None:
        """The gateway that a datagram came from, or None when it is not listened to (and counted)."""
        gateway = self._by_bytes.get(datagram.eui)
        if gateway is None:
            gateway = self._stranger(datagram, address)
            if gateway is None:
                return None
        if gateway.host != address[0]:
            if gateway.host is not None and now - gateway.heard_at < self.settings.gateway_offline_after:
                self._counted.wrong_address += 1
                return None
            gateway.host = address[0]
        gateway.heard_at = now
        gateway.last_seen = self._core.clock()
        if datagram.kind == PULL_DATA:
            gateway.pulled_at = now
            gateway.last_pull = gateway.last_seen
            gateway.address = address
            gateway.version = datagram.version
            if not gateway.online:
                self._set_online(gateway, True)
        return gateway

    def _stranger(self, datagram: Datagram, address: Address) -> Gateway | None:
        eui = datagram.eui.hex().upper()
        how = self.settings.unknown
        if how == "accept" and len(self._by_bytes) < self.settings.max_gateways:
            return self._make(datagram.eui, None)
        self._counted.unknown_gateways += 1
        if how == "quarantine":
            self._core.quarantine.seen("lorawan", eui, address[0], {"version": datagram.version})
        if datagram.eui not in self._strangers and len(self._strangers) < MAX_STRANGERS:
            self._strangers.add(datagram.eui)
            self.log.info("lorawan {host} gateway {eui} is not registered", host=address[0], eui=eui)
        return None

    # -- presence --------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Notice those that went silent."""
        before = now - self.settings.gateway_offline_after
        for gateway in [one for one in self._online.values() if one.pulled_at <= before]:
            self._set_online(gateway, False)
        if now >= self._look_at:
            self._look_at = now + LOOK
            for eui, gateway in list(self._absent.items()):
                if not gateway.air.forget(gateway.clock.reading(now)):
                    del self._absent[eui]

    def _set_online(self, gateway: Gateway, online: bool) -> None:
        if gateway.online == online:
            return
        gateway.online = online
        gateway.online_since = self._core.clock()
        if online:
            gateway.max_power = None  # it may have been given another gain table
            self._online[gateway.eui] = gateway
        else:
            self._online.pop(gateway.eui, None)
        word = "on-line" if online else "off-line"
        self.log.info("lorawan {host} gateway {eui} {word}", host=gateway.host, eui=gateway.eui, word=word)
        for watch in list(self.watchers):
            try:
                watch(gateway, online)
            except Exception as error:
                self._core.router.fault("gateway", error)
