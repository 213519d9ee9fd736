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
from broker.listening.settings import Limits
from broker.listening.stats import ListenerStats
from broker.routing.outbox import Turn

#: Failed logins are remembered per address for this long.
LOGIN_WINDOW = 60.0
#: Addresses whose failed logins are remembered; the oldest go first.
MAX_LOGIN_ADDRESSES = 10_000
#: The longest delay before a failed login is answered.
MAX_LOGIN_DELAY = 15.0


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
        self._per_address: dict[str, int] = {}
        #: address -> (failures in the window, start of the window)
        self._failures: dict[str, tuple[int, float]] = {}

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
        if self._per_address.get(host, 0) >= self.limits.max_connections_per_address and self.counts(host):
            return "too_many_per_address"
        return None

    def opened(self, connection: Connection) -> None:
        """A connection is up."""
        self.stats.accepted += 1
        self.connections.add(connection)
        host = connection.host
        self._per_address[host] = self._per_address.get(host, 0) + 1

    def ended(self, connection: Connection) -> None:
        """A connection is gone."""
        self.connections.discard(connection)
        host = connection.host
        left = self._per_address.get(host, 1) - 1
        if left:
            self._per_address[host] = left
        else:
            self._per_address.pop(host, None)
        self.stats.close(connection.reason)
        self.stats.note(self.clock(), connection.reason, host, connection.identity)

    # -- failed logins ---------------------------------------------------------------------------------------------

    def login_failed(self, host: str) -> float:
        """Count a failed login; seconds to wait before it is answered (0 below the limit, then doubling)."""
        self.stats.logins_failed += 1
        now = self.monotonic()
        failures, since = self._failures.pop(host, (0, now))
        if now - since > LOGIN_WINDOW:
            failures, since = 0, now
        failures += 1
        if len(self._failures) >= MAX_LOGIN_ADDRESSES:
            del self._failures[next(iter(self._failures))]
        self._failures[host] = (failures, since)
        over = failures - self.limits.max_failed_logins
        if over <= 0 or not self.counts(host):
            return 0.0
        return min(2.0 ** min(over - 1, 10), MAX_LOGIN_DELAY)

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
