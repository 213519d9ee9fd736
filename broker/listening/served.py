"""One listener as the service sees it: its bindings, and whatever its protocol built, from the start to the end.

::

    reserve ──> serve(listener) ──> tick ... ──> stop_listening ──> shut_down ──> (connections end) ──> abort

What a protocol builds is at least a factory (IProtocolFactory). Everything else that a
`broker.listening.listener.Listener` has is optional, so that a `twisted.web` Site or a datagram side can stand here as
well; `Listening` names what is used.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger

from broker.listening.binding import Reserved, address_of, parse_bind, reserve
from broker.listening.proxy import ProxyFactory, networks_of
from broker.listening.settings import Limits, ListenerSettings
from broker.listening.stats import Gauge, ListenerStats

# Not an attribute of the class: Twisted would name the logger after the class.
log = Logger(namespace="broker.listening")

#: Keys that are looked at when the listener begins to listen, whatever it says of its own.
AT_START: Final = frozenset({"bind", "client_certificates", "proxy_protocol", "proxy_from"})


class Listening(Protocol):
    """What the service uses of a listener, all of it optional. `Listener` has the first five."""

    stats: ListenerStats
    #: Read again for each use, so that SIGHUP can replace it.
    limits: Limits
    #: Open connections; each may have an ``abort(reason)``.
    connections: Collection[Any]

    def tick(self) -> None:
        """Called about once a second."""

    def shut_down(self) -> None:
        """Take no more connections and close the open ones, each in its protocol's manner."""

    def reload(self, settings: Any) -> Sequence[str]:
        """Take new settings; name the keys of them that need a restart. Without it, all but limits do."""

    def websocket_factory(self) -> Any:
        """The factory for ``ws:`` and ``wss:`` bindings."""

    def counters(self) -> Mapping[str, float]:
        """What the protocol counts of its own, for the metrics; a name that ends in ``_total`` only grows."""

    def gauges(self) -> Sequence[Gauge]:
        """The same with labels."""

    def datagram_protocol(self) -> Any:
        """The DatagramProtocol for ``udp:`` bindings."""

    def begin(self) -> None:
        """Called once, when all listeners listen: for what begins of its own accord, such as connections to others."""

    def troubles(self) -> Sequence[str]:
        """What does not work beside the listener itself, such as a server that it needs; a sentence each."""


class Served:
    """The bindings of one listener and what is behind them."""

    def __init__(self, name: str, settings: ListenerSettings, reactor: Any, contexts: Any, share: bool = False) -> None:
        self.name = name
        self.settings = settings
        self.listener: Any = None
        self.ports: list[IListeningPort] = []
        #: (kind of binding, port number) of those that have one, in the order of the settings.
        self.numbers: list[tuple[str, int]] = []
        self._reactor = reactor
        self._contexts = contexts
        #: Whether other processes listen at the same addresses.
        self._share = share
        self._reserved: list[Reserved] = []

    def reserve(self) -> None:
        """Take the addresses. Raises BindError; what was taken before is given back by `release`.

        Raises what ``contexts`` does when it has nothing to check client certificates against.
        """
        binds = [parse_bind(text) for text in self.settings.bind]
        secure = any(bind.secure for bind in binds)
        contexts = self._contexts.asking(self.settings.client_certificates) if secure else None
        before = self._gate if self.settings.proxy_protocol else None
        for bind in binds:
            self._reserved.append(reserve(self.name, bind, self._reactor, contexts, before, share=self._share))

    def release(self) -> None:
        """Give back addresses that are not served."""
        for reserved in self._reserved:
            reserved.release()
        self._reserved = []

    async def serve(self, listener: Any) -> None:
        """Put ``listener`` behind every binding and say where it listens. Raises BindError."""
        self.listener = listener
        reserved, self._reserved = self._reserved, []
        try:
            for one in reserved:
                port = await one.serve(listener)
                kind = one.bind.kind or "endpoint"
                if port is None:
                    log.warn("not served: {name} has nothing for {bind}", name=self.name, bind=one.bind.text)
                    continue
                self.ports.append(port)
                number = getattr(port.getHost(), "port", None)
                if number is not None:
                    self.numbers.append((one.bind.kind, number))
                log.info("listening: {name} {kind} {address}", name=self.name, kind=kind, address=address_of(port))
        finally:
            for one in reserved:
                one.release()

    @property
    def stats(self) -> ListenerStats | None:
        stats: ListenerStats | None = getattr(self.listener, "stats", None)
        return stats

    @property
    def connection_count(self) -> int:
        return len(getattr(self.listener, "connections", ()))

    def counters(self) -> Mapping[str, float]:
        count: Callable[[], Mapping[str, float]] | None = getattr(self.listener, "counters", None)
        return {} if count is None else count()

    def gauges(self) -> Sequence[Gauge]:
        count: Callable[[], Sequence[Gauge]] | None = getattr(self.listener, "gauges", None)
        return () if count is None else count()

    def begin(self) -> None:
        self._call("begin")

    def troubles(self) -> Sequence[str]:
        say: Callable[[], Sequence[str]] | None = getattr(self.listener, "troubles", None)
        return () if say is None else say()

    def tick(self) -> None:
        self._call("tick")

    def reload(self, settings: ListenerSettings) -> list[str]:
        """Take new settings as far as that goes while running; the keys that need a restart."""
        old, self.settings = self.settings, settings
        changed = [key for key in settings.__struct_fields__ if getattr(old, key, None) != getattr(settings, key)]
        if hasattr(self.listener, "limits"):
            self.listener.limits = settings.limits
            changed = [key for key in changed if key != "limits"]
        if hasattr(self.listener, "reload"):
            later = set(self.listener.reload(settings)) | AT_START
            changed = [key for key in changed if key in later]
        return [f"listeners.{self.name}.{key}" for key in changed]

    def stop_listening(self) -> Deferred[Any]:
        """Accept nobody any more."""
        self.release()
        ports, self.ports = self.ports, []
        return gatherResults([maybeDeferred(port.stopListening) for port in ports], consumeErrors=True)

    def shut_down(self) -> None:
        self._call("shut_down")

    def abort(self) -> None:
        """Cut what is still connected."""
        for connection in list(getattr(self.listener, "connections", ())):
            cut: Callable[[str], None] | None = getattr(connection, "abort", None)
            if cut is not None:
                cut("shutdown")

    def _gate(self, behind: Any, listener: Any) -> ProxyFactory:
        settings = self.settings
        proxies = networks_of(settings.proxy_from)
        return ProxyFactory(behind, listener, self.name, proxies, settings.limits, self._reactor)

    def _call(self, name: str) -> None:
        """One listener's fault must not keep the others from their turn."""
        method = getattr(self.listener, name, None)
        if method is None:
            return
        try:
            method()
        except Exception:
            log.failure("{listener}: fault in {method}", listener=self.name, method=name)
