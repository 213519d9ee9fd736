"""One listener: the factory of its connections, its limits, its figures and its slow tick.

Every protocol's Protocol/Factory pair derives its factory from `Listener` and its protocol from
`broker.listening.connection.Connection`. The limits on how many may connect are kept here, those on what one connection
may do are kept there.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, ClassVar

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from broker.listening.connection import Connection
from broker.listening.failed_logins import FailedLogins, counted_as
from broker.listening.settings import Limits
from broker.listening.stats import ListenerStats
from broker.routing.outbox import Turn


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own side."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


class Listener(Factory):
    """The factory of one listener.

    ``reactor`` gives ``callLater`` (rare timers only); ``clock`` UNIX seconds; ``monotonic`` seconds that never jump.
    Subclasses set ``protocol`` and use `connection_for`.
    """

    noisy = False
    log: ClassVar[Logger] = Logger(namespace="broker.listener")
    #: Whether a connection is one log-in, so that an address that is locked out need not connect. (Over HTTP each
    #: request has its own, and not all need one.)
    one_login: ClassVar[bool] = True

    def __init__(
        self,
        name: str,
        limits: Limits,
        turn: Turn,
        reactor: Any,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self.name = name
        self.limits = limits
        self.turn = turn
        self.reactor = reactor
        self.clock = clock
        self.monotonic = monotonic
        self.stats = ListenerStats()
        self.connections: set[Connection] = set()
        self.stopping = False
        self.failed_logins = FailedLogins(lambda: self.limits, monotonic)
        #: By what an address counts as.
        self._per_address: dict[str, int] = {}

    async def prepare(self) -> None:
        """Called once after every side is built, before anything is bound. Override to fetch what is on disk."""

    # -- connections -----------------------------------------------------------------------------------------------

    def buildProtocol(self, addr: IAddress | None) -> Connection | None:
        """A connection for ``addr``, or None (which closes the socket) when a limit says so."""
        host = str(getattr(addr, "host", ""))
        reason = self._refusal(host)
        if reason is not None:
            self.stats.refuse(reason)
            self.stats.note(self.clock(), reason, host)
            self.log.info("{listener} {host} refused: {reason}", listener=self.name, host=host, reason=reason)
            return None
        connection = self.connection_for(addr)
        connection.factory = self
        return connection

    def connection_for(self, addr: IAddress | None) -> Connection:
        """A new connection object. Raise nothing; refuse by limits only."""
        raise NotImplementedError

    def counts(self, host: str) -> bool:
        """Whether per-address limits apply to this host."""
        return not (self.limits.exempt_loopback and (not host or is_loopback(host)))

    def _refusal(self, host: str) -> str | None:
        if self.stopping:
            return "shutdown"
        if len(self.connections) >= self.limits.max_connections:
            return "too_many_connections"
        if self._per_address.get(counted_as(host), 0) >= self.limits.max_connections_per_address and self.counts(host):
            return "too_many_per_address"
        if self.one_login and self.locked_out(host):
            return "too_many_failed_logins"
        return None

    def opened(self, connection: Connection) -> None:
        """A connection is up."""
        self.stats.accepted += 1
        self.connections.add(connection)
        host = counted_as(connection.host)
        self._per_address[host] = self._per_address.get(host, 0) + 1

    def ended(self, connection: Connection) -> None:
        """A connection is gone."""
        self.connections.discard(connection)
        host = counted_as(connection.host)
        left = self._per_address.get(host, 1) - 1
        if left:
            self._per_address[host] = left
        else:
            self._per_address.pop(host, None)
        self.stats.close(connection.reason)
        self.stats.note(self.clock(), connection.reason, connection.host, connection.identity)

    # -- failed logins ---------------------------------------------------------------------------------------------

    def login_failed(self, host: str) -> float:
        """Count a failed login; seconds to wait before it is answered (0 below the limit, then doubling)."""
        self.stats.logins_failed += 1
        if not self.counts(host):
            return 0.0
        delay = self.failed_logins.failed(host)
        self.stats.logins_delayed += delay > 0
        return delay

    def locked_out(self, host: str) -> float:
        """Seconds for which nobody from there is heard, as too many have failed; counts it if there are any."""
        seconds = self.failed_logins.locked_out(host) if self.counts(host) else 0.0
        self.stats.logins_locked_out += seconds > 0
        return seconds

    # -- time and end ----------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Called about once a second: lets connections whose deadline has passed look at themselves."""
        now = self.monotonic()
        for connection in list(self.connections):
            if connection.deadline <= now:
                connection.overdue(now)

    def shut_down(self) -> None:
        """Take no more connections and close those that are open, each in its protocol's manner."""
        self.stopping = True
        for connection in list(self.connections):
            connection.shut_down()
