"""The parts of a broker, built and tied together, once (`build`): nothing is open yet, and nobody is told of anything.

`broker.service` opens them in their order, and closes them in the other one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from broker.cluster.presence import Whereabouts
from broker.clustering import backplane_of
from broker.config import Config
from broker.core import Core
from broker.events.events import Events
from broker.events.side import EventSide
from broker.faults import Faults
from broker.listening.served import Served
from broker.logs import log_packet
from broker.metrics import Metrics, counters_of
from broker.model.errors import Unavailable
from broker.routing.commands import Commands
from broker.routing.live import LiveDevices
from broker.routing.outbox import Turn
from broker.routing.router import Router
from broker.routing.topic_index import TopicIndex
from broker.routing.turns import at_turn_end
from broker.storage.files import FileStore
from broker.storage.own_tables import OwnTables
from broker.storage.product_watch import ProductWatch
from broker.storage.quarantine import Quarantine
from broker.storage.recorder import Recorder
from broker.storage.redis.address import is_redis
from broker.storage.registry import Registry
from broker.storing import storage_kind, storage_of

#: The folder of `FileStore` in the data folder.
FILES = "files"
#: Records of `broker.events` that are one process's where several share a Redis without being one broker.
OWN_EVENT_TABLES = (
    "events",
    "event_queue",
    "event_dead_letters",
    "event_folds",
    "event_presence",
    "event_alive",
    "event_lora_gateways",
)


class Life(Protocol):
    """What the parts ask of the broker that they are of: `broker.service.BrokerService`."""

    served: list[Served]

    def problems(self) -> list[str]: ...

    def troubles(self) -> list[str]: ...

    def ports(self, name: str) -> list[tuple[str, int]]: ...

    def certificate_ends(self) -> float | None: ...

    def parts(self) -> list[Any]: ...


@dataclass(slots=True)
class Built:
    """What `build` has made; ``storage`` is that of the core, with the calls that only its owner makes."""

    core: Core
    storage: Any
    recorder: Recorder
    events: EventSide
    metrics: Metrics


def build(
    config: Config,
    reactor: Any,
    clock: Callable[[], float],
    monotonic: Callable[[], float],
    data_dir: Path,
    token: str,
    life: Life,
) -> Built:
    """Raises Unavailable for files of authorities that cannot be used. ``token``: the administrator's."""
    router = Router(Faults(monotonic).report)
    devices = LiveDevices(router, clock)
    storage: Any = storage_of(config, reactor, clock)
    limits = config.commands
    commands = Commands(storage, devices, router, clock, max_queued=limits.max_queued, max_open=limits.max_open)
    recorder = Recorder(storage, router, devices, reactor, clock, config.history)
    started_at = clock()
    registry = Registry(storage, clock)
    ProductWatch(registry, devices, commands)
    quarantine = Quarantine(storage, clock, config.storage.max_quarantined)
    events = Events(clock)
    whereabouts = Whereabouts()
    try:
        side = EventSide(
            events,
            _event_storage(config, storage),
            router,
            devices,
            registry,
            quarantine,
            config.events,
            config.mail,
            reactor,
            clock,
            monotonic,
            whereabouts,
        )
    except (OSError, ValueError) as error:
        raise Unavailable(f"the authorities of [events] webhook_ca or [mail] ca cannot be read: {error}") from None
    metrics = Metrics(
        life.served,
        router,
        devices,
        commands,
        lambda: counters_of(storage, recorder),
        started_at,
        life.certificate_ends,
        side,
        life.parts,
        config.broker.name if config.cluster.enabled else "",
    )
    core = Core(
        reactor=reactor,
        clock=clock,
        monotonic=monotonic,
        turn=Turn(at_turn_end(reactor)),
        router=router,
        devices=devices,
        commands=commands,
        storage=storage,
        registry=registry,
        topics=TopicIndex(),
        files=_files(config, storage, data_dir, reactor, clock),
        quarantine=quarantine,
        events=events,
        event_side=side,
        whereabouts=whereabouts,
        backplane=backplane_of(config, storage, reactor, at_turn_end(reactor), clock, monotonic),
        default_expires=limits.default_expires,
        name=config.broker.name,
        started_at=started_at,
        admin_token=token,
        summary=summary(config, data_dir),
        exposition=metrics.exposition,
        ready=life.problems,
        troubles=life.troubles,
        ports=life.ports,
    )
    core.traces.watchers.append(log_packet)
    limit_traces(core, config)
    return Built(core, storage, recorder, side, metrics)


def limit_traces(core: Core, config: Config) -> None:
    """As the configuration says now."""
    core.traces.max_devices = config.log.max_traced
    core.traces.max_seconds = config.log.max_trace_time


def _files(config: Config, storage: Any, data_dir: Path, reactor: Any, clock: Callable[[], float]) -> FileStore:
    owner = config.broker.name if config.cluster.enabled else ""
    return FileStore(storage, data_dir / FILES, reactor, clock, reserve=config.storage.reserve, owner=owner)


def _event_storage(config: Config, storage: Any) -> Any:
    """Brokers that share a Redis and are not one broker each have events, queues and knowledge of their own."""
    if config.cluster.enabled or not is_redis(config.storage.url):
        return storage
    return OwnTables(storage, config.broker.name, OWN_EVENT_TABLES)


def summary(config: Config, data_dir: Path) -> dict[str, Any]:
    """`Core.summary`."""
    return {
        "storage": storage_kind(config),
        "data_dir": str(data_dir),
        "history": config.history.enabled,
        "listeners": {name: {"bind": list(settings.bind)} for name, settings in config.listeners.items()},
    }
