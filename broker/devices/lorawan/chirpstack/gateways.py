"""ChirpStack's gateways: which are on-line, and what they say of themselves.

ChirpStack vouches for them, so none has to be registered here. A gateway is on-line by its ``conn`` state, which is
retained, so that we hear the present one with the subscription; one that has never had such a state is so while its
statistics come. While the MQTT broker cannot be reached nobody knows: after ``offline_after`` seconds of that all are
off-line for us, and come back with their retained states.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from twisted.logger import Logger

from broker.core import Core
from broker.devices.lorawan.chirpstack.counters import ChirpstackCounters
from broker.devices.lorawan.chirpstack.events import GatewayStats

#: Seconds without statistics after which a gateway without a state is off-line: they come every 30.
SILENCE: Final = 100.0

Watch = Callable[[str, bool], None]


class ChirpGateway:
    """``region``: the prefix of its topics, such as eu868. Times are UNIX seconds."""

    __slots__ = ("eui", "last_seen", "online", "region", "stat_at", "stated", "stats", "stats_heard")

    def __init__(self, eui: str) -> None:
        self.eui = eui
        self.region = ""
        self.online = False
        #: It has a ``conn`` state.
        self.stated = False
        self.stats: GatewayStats | None = None
        self.stat_at: float | None = None
        #: Monotonic.
        self.stats_heard = float("-inf")
        self.last_seen: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """As `ILoraNetwork.gateway` has it. A stat is in the words of packet forwarders."""
        return {
            "eui": self.eui,
            "name": "",
            "region": None,
            "radio": None,
            "position": None,
            "registered": False,
            "online": self.online,
            "last_seen": self.last_seen,
            "address": "",
            "version": 2,
            "stat": None if self.stats is None else _stat(self.stats),
            "stat_at": self.stat_at,
            # eu868, cn470_10, as923_2
            "family": self.region.partition("_")[0].partition("-")[0].lower(),
        }


def _stat(stats: GatewayStats) -> dict[str, float]:
    """Of how many packets a forwarder had its acknowledgement nobody tells us here."""
    place = stats.location
    found: dict[str, float] = {
        "rxnb": stats.rx_packets_received,
        "rxok": stats.rx_packets_received_ok,
        "rxfw": stats.rx_packets_received_ok,
        "dwnb": stats.tx_packets_received,
        "txnb": stats.tx_packets_emitted,
    }
    # A gateway that does not know where it is says 0, 0.
    if place is not None and (place.latitude or place.longitude):
        found.update(lati=place.latitude, long=place.longitude, alti=place.altitude)
    return found


class ChirpGateways:
    """By EUI. ``watchers`` are told of presence: ``(eui, on-line)``."""

    log = Logger(namespace="broker.lorawan")

    def __init__(self, core: Core, counted: ChirpstackCounters, most: int, offline_after: float) -> None:
        self._core = core
        self._counted = counted
        self._most = most
        self.offline_after = offline_after
        self.watchers: list[Watch] = []
        self._by_eui: dict[str, ChirpGateway] = {}
        #: Since when the MQTT broker cannot be reached.
        self._cut_at: float | None = None

    def __len__(self) -> int:
        return len(self._by_eui)

    def __iter__(self) -> Iterator[ChirpGateway]:
        return iter(list(self._by_eui.values()))

    @property
    def online(self) -> int:
        return sum(gateway.online for gateway in self._by_eui.values())

    def get(self, eui: str) -> ChirpGateway | None:
        return self._by_eui.get(eui)

    def _named(self, eui: str) -> ChirpGateway | None:
        gateway = self._by_eui.get(eui)
        if gateway is None:
            if len(self._by_eui) >= self._most:
                self._counted.too_many_gateways += 1
                return None
            gateway = self._by_eui[eui] = ChirpGateway(eui)
        return gateway

    def heard(self, eui: str, at: float) -> None:
        """A mote was heard by it."""
        gateway = self._named(eui)
        if gateway is not None:
            gateway.last_seen = at

    def stated(self, region: str, eui: str, online: bool) -> None:
        """Its ``conn`` state."""
        gateway = self._named(eui)
        if gateway is not None:
            gateway.region, gateway.stated = region, True
            if online:
                gateway.last_seen = self._core.clock()
            self._set_online(gateway, online)

    def counted(self, region: str, eui: str, stats: GatewayStats) -> None:
        """Its statistics."""
        gateway = self._named(eui)
        if gateway is not None:
            gateway.region, gateway.stats = region, stats
            gateway.last_seen = gateway.stat_at = self._core.clock()
            gateway.stats_heard = self._core.monotonic()
            if not gateway.stated:
                self._set_online(gateway, True)

    # -- presence --------------------------------------------------------------------------------------------------

    def cut_off(self) -> None:
        """The MQTT broker cannot be reached."""
        if self._cut_at is None:
            self._cut_at = self._core.monotonic()

    def reached(self) -> None:
        """It can; all states come again."""
        self._cut_at = None

    def tick(self, now: float) -> None:
        """Notice those that went silent."""
        all_gone = self._cut_at is not None and now - self._cut_at >= self.offline_after
        for gateway in self:
            silent = not gateway.stated and now - gateway.stats_heard >= SILENCE
            if gateway.online and (all_gone or silent):
                self._set_online(gateway, False)

    def _set_online(self, gateway: ChirpGateway, online: bool) -> None:
        if gateway.online == online:
            return
        gateway.online = online
        word = "on-line" if online else "off-line"
        self.log.info("chirpstack gateway {eui} {word}", eui=gateway.eui, word=word)
        for watch in list(self.watchers):
            try:
                watch(gateway.eui, online)
            except Exception as error:
                self._core.router.fault("gateway", error)
