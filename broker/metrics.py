"""What Prometheus is told: the plain counters of the broker's parts, read when somebody asks.

Nothing here runs per message. Each broker has a registry of its own; no metric is registered globally. Names follow the
Prometheus conventions: ``broker_`` first, the unit last, ``_total`` for what only grows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from broker import __version__
from broker.listening.stats import Gauge, ListenerStats
from broker.routing.commands import Commands
from broker.routing.live import LiveDevices
from broker.routing.router import Router

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

#: Attribute of ListenerStats -> (name, text).
_LISTENER_COUNTERS = {
    "accepted": ("broker_connections_accepted", "Connections that were taken."),
    "authenticated": ("broker_logins", "Connections that proved who they are."),
    "logins_failed": ("broker_logins_failed", "Logins that were refused."),
    "logins_delayed": ("broker_logins_delayed", "Of these, those that were answered late: their address had many."),
    "logins_locked_out": ("broker_logins_locked_out", "Logins that were not looked at: their address had too many."),
    "messages_in": ("broker_messages_received", "Messages from clients."),
    "messages_out": ("broker_messages_sent", "Messages to clients."),
    "bytes_in": ("broker_received_bytes", "Bytes from clients."),
    "bytes_out": ("broker_sent_bytes", "Bytes to clients."),
    "malformed": ("broker_malformed", "Messages that broke their protocol's rules."),
    "throttled": ("broker_throttled", "How often a client was paused for sending too fast."),
}
#: Attribute of ListenerStats that counts by reason -> (name, text).
_LISTENER_REASONS = {
    "refused": ("broker_connections_refused", "Connections that were turned away."),
    "closed": ("broker_connections_closed", "Connections that ended."),
    "dropped": ("broker_messages_dropped", "Messages that were not taken or not delivered."),
}


class Listening(Protocol):
    """What is read of one listener."""

    name: str

    @property
    def stats(self) -> ListenerStats | None: ...

    @property
    def connection_count(self) -> int: ...


class EventFigures(Protocol):
    """What is read of events: `broker.events.side.EventSide`."""

    def counters(self) -> Mapping[str, float]: ...

    def sink_figures(self) -> Iterable[tuple[str, Mapping[str, float]]]: ...


class Metrics(Collector):
    """The figures of one broker. ``listeners`` may grow after this is made.

    ``node``: the name of this process where there are others.

    ``storage`` gives further figures as ``{name: value}``; a name that ends in ``_total`` is a counter. ``parts`` gives
    what has a ``counters()`` of such figures (`counters_of`).
    """

    def __init__(
        self,
        listeners: Iterable[Listening],
        router: Router,
        devices: LiveDevices,
        commands: Commands,
        storage: Callable[[], Mapping[str, float]],
        started_at: float,
        certificate_ends: Callable[[], float | None] = lambda: None,
        events: EventFigures | None = None,
        parts: Callable[[], Iterable[Any]] = tuple,
        node: str = "",
    ) -> None:
        self._listeners = listeners
        self._router = router
        self._devices = devices
        self._commands = commands
        self._storage = storage
        self._started_at = started_at
        self._certificate_ends = certificate_ends
        self._parts = parts
        self._events = events
        self._node = node
        #: Seconds that the last tick came late; whoever ticks sets it.
        self.reactor_lag = 0.0
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        self._process = ProcessCollector(registry=None)

    def exposition(self) -> bytes:
        """The text of ``GET /metrics``, of `CONTENT_TYPE`."""
        return generate_latest(self._registry)

    def describe(self) -> Iterable[Metric]:
        """Nothing: asked at registration, when there is nothing yet."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """One family after the other; of several processes each sample says whose it is."""
        for family in self._families():
            if self._node:
                family.samples = [
                    sample._replace(labels={**sample.labels, "node": self._node}) for sample in family.samples
                ]
            yield family

    def _families(self) -> Iterator[Metric]:
        yield from self._process.collect()
        yield from self._of_listeners()
        yield from self._of_protocols()
        yield from self._of_routing()
        yield from self._of_commands()
        yield from self._of_parts()
        yield from self._of_storage()
        if self._events is not None:
            yield from _of_events(self._events)
        build = GaugeMetricFamily("broker_build_info", "Always 1; the version is a label.", labels=["version"])
        build.add_metric([__version__], 1)
        yield build
        yield GaugeMetricFamily("broker_start_time_seconds", "When the broker started.", value=self._started_at)
        ends = self._certificate_ends()
        if ends is not None:
            yield GaugeMetricFamily(
                "broker_certificate_expiry_timestamp_seconds", "When the broker's TLS certificate ends.", value=ends
            )
        yield GaugeMetricFamily(
            "broker_reactor_lag_seconds", "How late the last tick of a second came.", value=self.reactor_lag
        )

    def _of_listeners(self) -> Iterator[Metric]:
        listeners = list(self._listeners)
        open_now = GaugeMetricFamily("broker_connections", "Connections that are open.", labels=["listener"])
        for listener in listeners:
            open_now.add_metric([listener.name], listener.connection_count)
        yield open_now
        counted = [(listener.name, listener.stats) for listener in listeners if listener.stats is not None]
        for attribute, (name, text) in _LISTENER_COUNTERS.items():
            family = CounterMetricFamily(name, text, labels=["listener"])
            for listener_name, stats in counted:
                family.add_metric([listener_name], getattr(stats, attribute))
            yield family
        for attribute, (name, text) in _LISTENER_REASONS.items():
            family = CounterMetricFamily(name, text, labels=["listener", "reason"])
            for listener_name, stats in counted:
                for reason, count in sorted(getattr(stats, attribute).items()):
                    family.add_metric([listener_name, reason], count)
            yield family

    def _of_protocols(self) -> Iterator[Metric]:
        for name, value in sorted(counters_of(*self._listeners).items()):
            kind: Any = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            yield kind(f"broker_{name.removesuffix('_total')}", f"Of the protocol: {_words(name)}.", value=value)
        for gauge in gauges_of(*self._listeners):
            labelled = GaugeMetricFamily(f"broker_{gauge.name}", gauge.text, labels=gauge.labels)
            for labels, value in gauge.values:
                labelled.add_metric(labels, value)
            yield labelled

    def _of_routing(self) -> Iterator[Metric]:
        yield CounterMetricFamily("broker_uplinks", "Messages of devices.", value=self._router.uplinks)
        yield CounterMetricFamily(
            "broker_consumer_faults", "Messages that a part of the broker failed to take.", value=self._router.faults
        )
        online = GaugeMetricFamily("broker_devices_online", "Devices that are connected.", labels=["protocol"])
        for protocol, count in sorted(self._devices.online_by_protocol.items()):
            online.add_metric([protocol], count)
        yield online

    def _of_commands(self) -> Iterator[Metric]:
        counters = self._commands.counters
        yield GaugeMetricFamily("broker_commands_open", "Commands without a final state.", value=self._commands.open)
        yield CounterMetricFamily("broker_commands_submitted", "Commands that were taken.", value=counters.submitted)
        ended = CounterMetricFamily("broker_commands_ended", "Commands by their final state.", labels=["status"])
        for status, count in sorted(counters.ended.items()):
            ended.add_metric([status], count)
        yield ended
        yield CounterMetricFamily(
            "broker_command_replies_late", "Answers after the final state.", value=counters.late_replies
        )
        yield CounterMetricFamily(
            "broker_command_replies_unmapped", "Answers to no known command.", value=counters.unmapped_replies
        )
        yield CounterMetricFamily(
            "broker_command_saves_failed", "States that could not be written at once.", value=counters.failed_saves
        )

    def _of_parts(self) -> Iterator[Metric]:
        for name, value in sorted(counters_of(*self._parts()).items()):
            kind: Any = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            whose = "Several processes" if name.startswith("cluster_") else "Of the fleet"
            yield kind(f"broker_{name.removesuffix('_total')}", f"{whose}: {_words(name)}.", value=value)

    def _of_storage(self) -> Iterator[Metric]:
        for name, value in sorted(self._storage().items()):
            kind: Any = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            yield kind(f"broker_storage_{name.removesuffix('_total')}", f"Storage: {_words(name)}.", value=value)


def _of_events(events: EventFigures) -> Iterator[Metric]:
    for name, value in sorted(events.counters().items()):
        kind: Any = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
        yield kind(f"broker_{name.removesuffix('_total')}", f"Of events: {_words(name)}.", value=value)
    families: dict[str, Any] = {}
    for sink, figures in events.sink_figures():
        for name, value in figures.items():
            family = families.get(name)
            if family is None:
                kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
                text = f"Of each sink of events: {_words(name)}."
                family = families[name] = kind(f"broker_event_{name.removesuffix('_total')}", text, labels=["sink"])
            family.add_metric([sink], value)
    yield from families.values()


def counters_of(*parts: Any) -> dict[str, float]:
    """The figures of the parts that have some: a ``counters()`` that gives ``{name: value}``."""
    figures: dict[str, float] = {}
    for part in parts:
        count: Callable[[], Mapping[str, float]] | None = getattr(part, "counters", None)
        if count is not None:
            figures.update(count())
    return figures


def gauges_of(*parts: Any) -> list[Gauge]:
    """The same for figures with labels: a ``gauges()``."""
    return [gauge for part in parts if hasattr(part, "gauges") for gauge in part.gauges()]


def _words(name: str) -> str:
    return name.removesuffix("_total").replace("_", " ")
