"""The listener: datagrams from the sockets to the network and back, and what the service asks of a listener.

One protocol object stands behind each ``udp:`` binding. Where a datagram came from is said together with the socket
that it came to: a PULL_RESP leaves through the socket of the gateway's last PULL_DATA, as behind a NAT no other would
do.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger

from broker.core import Core
from broker.devices.lorawan.across import LoraAcross
from broker.devices.lorawan.chirpstack.network import ChirpstackNetwork
from broker.devices.lorawan.gateway import Address
from broker.devices.lorawan.network import Network
from broker.devices.lorawan.networks import Networks
from broker.devices.lorawan.relay import Relay
from broker.devices.lorawan.settings import Settings
from broker.listening.stats import Gauge, ListenerStats
from broker.model.interfaces import ILoraNetwork
from broker.storage.deferred import deferred


class LorawanDatagrams(DatagramProtocol):
    """One socket."""

    noisy = False

    def __init__(self, home: LorawanListener, number: int = 0) -> None:
        self.home = home
        self.number = number
        #: Twisted's own way looks at every address anew: of a socket, half of what an acknowledgement costs.
        self.send: Callable[[bytes, tuple[str, int]], object] = self._through_transport

    def startProtocol(self) -> None:
        handle: Any = getattr(self.transport, "socket", None)
        if handle is not None:
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.home.settings.receive_buffer)
            self.send = handle.sendto

    def _through_transport(self, data: bytes, address: tuple[str, int]) -> None:
        if self.transport is not None:
            self.transport.write(data, address)

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.home.received(self, datagram, addr)


class LorawanListener:
    """All sockets of one network, and ChirpStack beside it if there is one."""

    log = Logger(namespace="broker.lorawan")

    def __init__(self, core: Core, settings: Settings) -> None:
        self.settings = settings
        self.limits = settings.limits
        self.stats = ListenerStats()
        self.network = Network(core, settings, self.write)
        self.chirpstack = ChirpstackNetwork(core, settings) if settings.chirpstack.url else None
        #: What application sides are given.
        self.lora: ILoraNetwork = self.network
        if self.chirpstack is not None:
            self.lora = Networks(self.network, self.chirpstack)
        self._begun = self._on_chirpstack = False
        self._sockets: list[LorawanDatagrams] = []
        #: Where there are other processes, of which one has the network.
        self.relay: Relay | None = None
        if not core.backplane.alone:
            network = self.network
            self.relay = Relay(
                core.backplane,
                self._take_network,
                network.store.load,
                self._heard,
                self._forget,
                self._sockets,
                # ChirpStack keeps what it has not been acknowledged for the one client that it knows.
                once=self.chirpstack is not None,
            )
            core.duties.add(self.relay)
            self.lora = LoraAcross(self.lora, self.relay, core.backplane)
        self._stopping = False

    @property
    def connections(self) -> tuple[Any, ...]:
        """Nobody is ever connected; something is open while counters are written, for which a stop waits.

        ChirpStack counts until we have left it.
        """
        writing = tuple(part for part in (self.network.store, self.network.air) if part.writing)
        leaving = self._stopping and self.chirpstack is not None and not self.chirpstack.stopped
        return (*writing, self.chirpstack) if leaving else writing

    @deferred
    async def prepare(self) -> None:
        """Read what is on disk."""
        if self.relay is None:
            await self.network.load()
        else:
            await self.relay.begin()
        if self.chirpstack is not None:
            await self.chirpstack.load()

    @deferred
    async def _take_network(self) -> None:
        """It is this process's: also what another had of ChirpStack until now."""
        await self.network.load()
        if self._begun and self.chirpstack is not None:
            await self.chirpstack.load()
            self._begin_chirpstack()

    def _forget(self) -> None:
        """The network is another process's, or may be."""
        self.network.clear()
        if self.chirpstack is not None and self._on_chirpstack:
            self._on_chirpstack = False
            self.chirpstack.stop().addErrback(self._not_stopped)

    def _begin_chirpstack(self) -> None:
        if self.chirpstack is not None:
            self._on_chirpstack = True
            self.chirpstack.begin()

    def begin(self) -> None:
        """Everything is there that hears of uplinks."""
        self._begun = True
        if self.relay is None or self.relay.leads:
            self._begin_chirpstack()

    def datagram_protocol(self) -> LorawanDatagrams:
        self._sockets.append(LorawanDatagrams(self, len(self._sockets)))
        return self._sockets[-1]

    def received(self, through: LorawanDatagrams, data: bytes, address: tuple[str, int]) -> None:
        """A datagram. Nothing that it holds may raise out of here: the socket would be lost."""
        self.stats.messages_in += 1
        self.stats.bytes_in += len(data)
        if self.relay is not None and not self.relay.leads:
            self.relay.pass_on(through.number, data, address)
        else:
            self._heard(data, (address[0], address[1], through))

    def _heard(self, data: bytes, address: Address) -> None:
        try:
            self.network.datagram(data, address)
        except Exception:
            self.log.failure("fault while a datagram of {host} was read", host=address[0])

    def write(self, data: bytes, address: Address) -> None:
        """Send a datagram to where one came from."""
        host, port, through = address
        try:
            through.send(data, (host, port))
        except OSError:
            # No route, a full buffer, the impossible port 0, a socket that is closed: lost, as datagrams may be.
            self.network.counted.unsent += 1
            return
        self.stats.messages_out += 1
        self.stats.bytes_out += len(data)

    def counters(self) -> dict[str, float]:
        """For the metrics."""
        network = self.network
        figures = network.counted.as_dict()
        figures["lorawan_motes"] = len(network.motes)
        if self.relay is not None:
            figures["lorawan_passed_on_total"] = self.relay.passed_on
            figures["lorawan_nobody_had_the_network_total"] = self.relay.lost
        figures["lorawan_groups"] = len(network.multicast.groups)
        figures["lorawan_gateways_online"] = network.gateways.online
        if self.chirpstack is not None:
            figures.update(self.chirpstack.counters())
        return figures

    def gauges(self) -> list[Gauge]:
        """Air time, by gateway and band."""
        labels = ("gateway", "band")
        used, limits = [], []
        for eui, duty in self.network.gateways.duties():
            key = (eui, duty.band)
            used.append((key, duty.used))
            limits.append((key, duty.limit))
        return [
            Gauge("lorawan_air_time_seconds", "Air time that a gateway used in the last hour.", labels, used),
            Gauge("lorawan_air_time_limit_seconds", "Air time that the law allows it in an hour.", labels, limits),
        ]

    def troubles(self) -> list[str]:
        """What does not work, and does not keep the broker from working."""
        troubles = [] if self.chirpstack is None else list(self.chirpstack.troubles())
        if self.relay is not None and self.relay.trouble():
            troubles.append(self.relay.trouble())
        return troubles

    def tick(self) -> None:
        """About once a second."""
        if self.relay is not None:
            self.relay.tick()
        if self.relay is None or self.relay.leads:
            self.network.tick()
        if self.chirpstack is not None:
            self.chirpstack.tick()

    def reload(self, settings: Settings) -> tuple[str, ...]:
        """Take new settings; the receive buffer is a socket's own."""
        self.settings = settings
        self.network.configure(settings)
        if self.chirpstack is not None:
            self.chirpstack.configure(settings)
        return ("receive_buffer", "net_id", "chirpstack")

    def shut_down(self) -> None:
        """Nothing more is sent."""
        self.network.stop()
        if self.chirpstack is not None:
            self._stopping = True
            self.chirpstack.stop().addErrback(self._not_stopped)

    def _not_stopped(self, failure: Any) -> None:
        self.log.failure("fault while leaving ChirpStack", failure)
