"""The broker's life: everything is built here, started in this order, and stopped in the other one.

::

    startService   data folder, its lock, the token, the certificate, the addresses    at once; a failure ends twistd
                   storage, files, open commands, recorder, listeners, ticks           later; a failure ends it, too
    reload         limits, log levels, certificate, command limits                     SIGHUP
    stopService    accept nobody, close connections (10 s), recorder, storage          SIGTERM, SIGINT

While storage is being opened or migrated, the system already queues what connects; it is served when all is ready.
"""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import ILogObserver, Logger
from twisted.python.components import Componentized

from broker.cluster.presence import Whereabouts
from broker.clustering import Clustering, backplane_of, problem_of
from broker.config import Config, ConfigError
from broker.core import Core
from broker.data_dir import TOKEN_FILE, DataDir, DataDirError, exposed
from broker.events.across import EventsAcross
from broker.events.events import Events
from broker.events.side import EventSide
from broker.faults import Faults
from broker.fleet.calls import Calls as CampaignCalls
from broker.fleet.side import CampaignSide
from broker.listening.binding import BindError
from broker.listening.served import Served
from broker.logs import Lines, log_packet
from broker.metrics import Metrics, counters_of
from broker.model.errors import BrokerError, Unavailable
from broker.routing.commands import Commands
from broker.routing.live import LiveDevices
from broker.routing.outbox import Turn
from broker.routing.router import Router
from broker.routing.topic_index import TopicIndex
from broker.storage.files import FileStore
from broker.storage.own_tables import OwnTables
from broker.storage.product_watch import ProductWatch
from broker.storage.quarantine import TICK as QUARANTINE_TICK
from broker.storage.quarantine import Quarantine
from broker.storage.recorder import Recorder
from broker.storage.redis.address import is_redis
from broker.storage.registry import Registry
from broker.storing import storage_kind, storage_of
from broker.tls import PRIVATE_KEY, Certificate, TlsError

#: Seconds that connections have to end after they were told (DESIGN §10).
STOP_GRACE = 10.0
#: The folder of `FileStore` in the data folder.
FILES = "files"
#: Records of `broker.events` that are one process's; rules and sinks are everybody's.
OWN_EVENT_TABLES = (
    "events",
    "event_queue",
    "event_dead_letters",
    "event_folds",
    "event_presence",
    "event_alive",
    "event_lora_gateways",
)
#: How often the end of connections is looked for.
STOP_POLL = 0.05
LISTENER_TICK = 1.0
COMMAND_TICK = 0.25
EVENT_TICK = 1.0
CAMPAIGN_TICK = 1.0
#: Listener ticks between two looks at storage's health.
HEALTH_EVERY = 5
#: And between two looks at the certificate's end.
CERTIFICATE_EVERY = 86_400


# Not an attribute of the class: Twisted would name the logger after the class.
log = Logger(namespace="broker.service")


class StartFailed(SystemExit, Exception):
    """The broker cannot start; the text is one line.

    For twistd it has to be an Exception: then the pid file is removed and the waiting parent of a daemon hears of it.
    For Python it has to be a SystemExit: then the line is printed without a traceback and the exit status is 1.
    """


class BrokerService(Service):
    """The broker as a Twisted service.

    ``sides``: what the protocols' plugins load, by name. ``reread`` gives the configuration anew on SIGHUP (raises
    ConfigError). ``on_failure`` is called when the start fails after `startService` has returned.
    """

    name = "broker"

    def __init__(
        self,
        config: Config,
        sides: Mapping[str, Any],
        reactor: Any,
        *,
        reread: Callable[[], Config] | None = None,
        on_failure: Callable[[], None] = lambda: None,
        lines: Lines | None = None,
        worker: bool = False,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config = config
        self.core: Core | None = None
        self.served: list[Served] = []
        self._sides = sides
        self._reactor = reactor
        self._reread = reread
        self._on_failure = on_failure
        self._lines = lines
        #: Whether we are one of several processes in one data folder, on the same ports.
        self._worker = worker
        self._parent = os.getppid()
        self._clock = clock
        self._monotonic = monotonic
        self._data_dir: DataDir | None = None
        self._certificate: Certificate | None = None
        self._token = ""  # nosec B105 # no password
        self._storage: Any = None
        self._recorder: Any = None
        self._campaigns: CampaignSide | None = None
        self._events: Any = None
        self._events_across: EventsAcross | None = None
        self._metrics: Metrics | None = None
        self._clustering: Clustering | None = None
        self._starting: Deferred[None] | None = None
        self._stopping: Deferred[None] | None = None
        self._loops: list[LoopingCall] = []
        #: What ends the parts that have been started, in the order of their start.
        self._closers: list[Callable[[], Deferred[Any]]] = []
        self._problem = "starting"
        self._storage_problem = ""
        self._ticks = 0
        self._tick_due = 0.0
        self._hurried = False

    # -- from twistd -----------------------------------------------------------------------------------------------

    def setServiceParent(self, parent: Any) -> None:
        """twistd takes its log observer from the application, so ours is put there."""
        if self._lines is not None and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self._lines)
        Service.setServiceParent(self, parent)

    def startService(self) -> None:
        """Raises StartFailed for what can be known at once."""
        Service.startService(self)
        raise_open_files_limit()
        try:
            self._take_hold()
        except (DataDirError, TlsError, BindError) as error:
            self._let_go()
            raise StartFailed(f"broker: {error}") from None
        self._starting = Deferred.fromCoroutine(self._start())

    def begun(self) -> Deferred[None]:
        """Fires when the start has come to its end, well or not."""
        begun: Deferred[None] = Deferred()
        if self._starting is None:
            begun.callback(None)
        else:
            self._starting.addCallback(lambda _: begun.callback(None))
        return begun

    def stopService(self) -> Deferred[None]:
        """Fires when everything is closed."""
        Service.stopService(self)
        if self._stopping is None:
            self._stopping = Deferred.fromCoroutine(self._stop())
        return self._stopping

    def hurry(self) -> None:
        """Do not wait for connections any longer (a second SIGTERM)."""
        self._hurried = True

    # -- start -----------------------------------------------------------------------------------------------------

    def _take_hold(self) -> None:
        """Everything that another process could have, or that could be missing."""
        config = self.config
        self._data_dir = DataDir(config.data_dir, lock=not self._worker)
        self._token = config.broker.admin_token
        if self._token:
            log.info("admin token: broker.admin_token of {source}", source=config.source)
        else:
            self._token, file = self._data_dir.admin_token()
            log.info("admin token: in the file {file}", file=str(file))
        self._certificate = Certificate(config.tls, self._data_dir.path)
        folder = self._data_dir.path
        for path, mode in exposed(folder, folder / TOKEN_FILE, folder / "tls" / PRIVATE_KEY):
            log.warn("{path} is open to others (mode {mode:o}): chmod go= {path}", path=str(path), mode=mode)
        for name, settings in config.listeners.items():
            served = Served(name, settings, self._reactor, self._certificate, self._worker)
            self.served.append(served)
            served.reserve()

    async def _start(self) -> None:
        try:
            await self._open()
        except (BrokerError, BindError) as error:
            self._fail(str(error))
        except Exception:
            log.failure("fault while starting")
            self._fail("a fault of the broker's own; see above")

    async def _open(self) -> None:
        core = self.core = self._build_core()
        await self._storage.open()
        self._closers.append(self._storage.close)
        for part in (core.files, core.quarantine):
            await part.open()
            self._closers.append(part.close)
        clustering = self._clustering = Clustering(core, self._reactor, self._recorder.write_now)
        await clustering.start()
        self._closers.append(clustering.stop)
        self._recorder.start()
        self._closers.append(self._recorder.stop)
        events = self._events_across = EventsAcross(
            self._events, core.backplane, core.duties, core.router, core.devices, core.whereabouts, core.storage
        )
        core.states_of = events.states_of
        await events.open()
        self._closers.append(events.close)
        for served in self.served:
            core.listeners[served.name] = self._sides[served.name].build(core, served.settings)
        campaigns = self._campaigns = CampaignSide(core, self.config.campaigns)
        core.api_routes.extend(CampaignCalls(campaigns).routes())
        for listener in core.listeners.values():
            if hasattr(listener, "prepare"):
                await listener.prepare()
        await campaigns.open()
        if core.lora is not None:
            events.watch_lora(core.lora)
        for served in self.served:
            if served.settings.bind:
                await served.serve(core.listeners[served.name])
            else:
                served.listener = core.listeners[served.name]
        for served in self.served:
            served.begin()
        self._tick_due = self._monotonic() + LISTENER_TICK
        self._loop(self._tick, LISTENER_TICK)
        self._loop(self._tick_commands, COMMAND_TICK)
        self._loop(core.quarantine.tick, QUARANTINE_TICK)
        self._loop(self._tick_campaigns, CAMPAIGN_TICK)
        self._loop(self._tick_events, EVENT_TICK)
        self._problem = ""
        log.info(
            "started: version {version}, node {name}, data in {data_dir}",
            version=core.version,
            name=core.name,
            data_dir=core.summary["data_dir"],
        )

    def _build_core(self) -> Core:
        assert self._data_dir is not None
        config, reactor, clock = self.config, self._reactor, self._clock
        faults = Faults(self._monotonic)
        router = Router(faults.report)
        devices = LiveDevices(router, clock)
        storage: Any = storage_of(config, reactor, clock)
        self._storage = storage
        limits = config.commands
        commands = Commands(storage, devices, router, clock, max_queued=limits.max_queued, max_open=limits.max_open)
        self._recorder = Recorder(storage, router, devices, reactor, clock, config.history)
        started_at = clock()
        registry = Registry(storage, clock)
        ProductWatch(registry, devices, commands)
        quarantine = Quarantine(storage, clock, config.storage.max_quarantined)
        events = Events(clock)
        whereabouts = Whereabouts()
        side = self._events = self._build_events(events, router, devices, registry, quarantine, whereabouts)
        self._metrics = Metrics(
            self.served,
            router,
            devices,
            commands,
            self._figures,
            started_at,
            self._certificate_ends,
            side,
            self._parts,
        )
        core = Core(
            reactor=reactor,
            clock=clock,
            monotonic=self._monotonic,
            turn=Turn(at_turn_end(reactor)),
            router=router,
            devices=devices,
            commands=commands,
            storage=storage,
            registry=registry,
            topics=TopicIndex(),
            files=FileStore(storage, self._data_dir.path / FILES, reactor, clock, reserve=config.storage.reserve),
            quarantine=quarantine,
            events=events,
            event_side=side,
            whereabouts=whereabouts,
            backplane=backplane_of(config, storage, reactor, at_turn_end(reactor), clock, self._monotonic),
            default_expires=limits.default_expires,
            name=config.broker.name,
            started_at=started_at,
            admin_token=self._token,
            summary=summary(config, self._data_dir.path),
            exposition=self._metrics.exposition,
            ready=self.problems,
            troubles=self.troubles,
            ports=self.ports,
        )
        core.traces.watchers.append(log_packet)
        self._limit_traces(core)
        return core

    def _limit_traces(self, core: Core) -> None:
        core.traces.max_devices = self.config.log.max_traced
        core.traces.max_seconds = self.config.log.max_trace_time

    def _event_storage(self) -> Any:
        """Brokers that share a Redis and are not one broker each have events, queues and knowledge of their own."""
        if self.config.cluster.enabled or not is_redis(self.config.storage.url):
            return self._storage
        return OwnTables(self._storage, self.config.broker.name, OWN_EVENT_TABLES)

    def _build_events(
        self,
        events: Events,
        router: Router,
        devices: LiveDevices,
        registry: Registry,
        quarantine: Quarantine,
        whereabouts: Whereabouts,
    ) -> EventSide:
        """Raises Unavailable for files of authorities that cannot be used."""
        config = self.config
        try:
            return EventSide(
                events,
                self._event_storage(),
                router,
                devices,
                registry,
                quarantine,
                config.events,
                config.mail,
                self._reactor,
                self._clock,
                self._monotonic,
                whereabouts,
            )
        except (OSError, ValueError) as error:
            raise Unavailable(f"the authorities of [events] webhook_ca or [mail] ca cannot be read: {error}") from None

    def _fail(self, why: str) -> None:
        log.critical("cannot start: {why}", why=why)
        self._on_failure()

    # -- while it runs ---------------------------------------------------------------------------------------------

    def problems(self) -> list[str]:
        """Why no work is taken now; empty when it is."""
        problems = (self._problem, self._storage_problem, problem_of(self.core))
        return [problem for problem in problems if problem]

    def troubles(self) -> list[str]:
        """What listeners have to say of themselves."""
        return [f"{served.name}: {trouble}" for served in self.served for trouble in served.troubles()]

    def ports(self, name: str) -> list[tuple[str, int]]:
        """See `broker.core.Core`."""
        return [number for served in self.served if served.name == name for number in served.numbers]

    def _certificate_ends(self) -> float | None:
        return None if self._certificate is None else self._certificate.expires_at

    def _look_at_certificate(self) -> None:
        """Say that it ends soon."""
        warning = "" if self._certificate is None else self._certificate.warning(self._clock())
        if warning:
            ends = self._certificate_ends()
            leads = self._events_across is None or self._events_across.duty.leads
            if self._events is not None and ends is not None and (leads or not self._worker):  # workers have the same
                self._events.certificate_ends(ends, warning)
            log.warn("the TLS certificate has to be renewed: {sentence}", sentence=warning)

    def _figures(self) -> dict[str, float]:
        return counters_of(self._storage, self._recorder)

    def _parts(self) -> list[Any]:
        """What has figures of its own for the metrics."""
        return [part for part in (self._campaigns, self._clustering) if part is not None]

    def _loop(self, call: Callable[[], None], seconds: float) -> None:
        loop = LoopingCall(call)
        loop.clock = self._reactor
        loop.start(seconds, now=False)
        self._loops.append(loop)

    def _tick(self) -> None:
        if self._worker and os.getppid() != self._parent:
            log.critical("the process that starts the workers is gone: this one ends")
            os.kill(os.getpid(), signal.SIGTERM)
        now = self._monotonic()
        if self._metrics is not None:
            self._metrics.reactor_lag = max(0.0, now - self._tick_due)
        self._tick_due = now + LISTENER_TICK
        for served in self.served:
            served.tick()
        if self.core is not None:
            self.core.traces.tick()
            self.core.duties.tick()
        if self._ticks % CERTIFICATE_EVERY == 0:
            self._look_at_certificate()
        if self._ticks % HEALTH_EVERY == 0:
            self._storage.health().addCallbacks(self._heard_of_storage, self._heard_of_storage)
        self._ticks += 1

    def _heard_of_storage(self, answer: Any) -> None:
        before = self._storage_problem
        self._storage_problem = answer if isinstance(answer, str) else f"storage: {answer.getErrorMessage()}"
        across = self._events_across
        if across is None or across.duty.leads:  # else another process tells of the same storage
            self._events.storage_health(before, self._storage_problem)

    def _tick_events(self) -> None:
        assert self._events_across is not None
        try:
            self._events_across.tick()
        except Exception:
            log.failure("fault in the events' tick")

    def _tick_commands(self) -> None:
        assert self.core is not None
        try:
            self.core.commands.tick()
            if self._clustering is not None:
                self._clustering.tick()
        except Exception:
            log.failure("fault in the commands' tick")

    def _tick_campaigns(self) -> None:
        assert self._campaigns is not None
        try:
            self._campaigns.tick()
        except Exception:
            log.failure("fault in the campaigns' tick")

    # -- SIGHUP ----------------------------------------------------------------------------------------------------

    def reload(self) -> None:
        """Read the configuration and the certificate again; say what needs a restart. A wrong one changes nothing."""
        try:
            fresh = self.config if self._reread is None else self._reread()
            if self._certificate is not None:
                self._certificate.reload(fresh.tls)
        except (ConfigError, TlsError) as error:
            log.error("not reloaded, everything stays as it was: {why}", why=str(error))
            return
        old, self.config = self.config, fresh
        if self._lines is not None:
            self._lines.configure(fresh.log)
        if self.core is not None:
            self.core.commands.max_queued = fresh.commands.max_queued
            self.core.commands.max_open = fresh.commands.max_open
            self.core.default_expires = fresh.commands.default_expires
            self._limit_traces(self.core)
        if self._campaigns is not None:
            self._campaigns.configure(fresh.campaigns)
        later = restart_keys(old, fresh)
        for served in self.served:
            later += served.reload(fresh.listeners[served.name])
        self._look_at_certificate()
        log.info(
            "reloaded: limits, log levels, certificate; needs a restart: {keys}", keys=", ".join(later) or "nothing"
        )

    # -- stop ------------------------------------------------------------------------------------------------------

    async def _stop(self) -> None:
        self._problem = "stopping"
        if self._starting is not None:
            await self._starting
        if self._campaigns is not None:
            self._campaigns.halt()
        for served in self.served:
            await served.stop_listening()
        for served in self.served:
            served.shut_down()
        await self._connections_ended()
        for loop in self._loops:
            if loop.running:
                loop.stop()
        for close in reversed(self._closers):
            try:
                await close()
            except Exception:
                log.failure("fault while stopping")
        self._let_go()
        log.info("stopped")

    async def _connections_ended(self) -> None:
        until = self._monotonic() + STOP_GRACE
        while any(served.connection_count for served in self.served):
            if self._hurried or self._monotonic() >= until:
                for served in self.served:
                    served.abort()
                return
            await deferLater(self._reactor, STOP_POLL)

    def _let_go(self) -> None:
        for served in self.served:
            served.release()
        if self._data_dir is not None:
            self._data_dir.close()
            self._data_dir = None


def at_turn_end(reactor: Any) -> Callable[[Callable[[], None]], object]:
    """How to have something called at the end of the reactor's turn: without a timer on a reactor that can."""
    if hasattr(reactor, "callAtTurnEnd"):
        schedule: Callable[[Callable[[], None]], object] = reactor.callAtTurnEnd
        return schedule
    return partial(reactor.callLater, 0)


def restart_keys(old: Config, fresh: Config) -> list[str]:
    """The keys outside [listeners] that changed and only count at a start."""
    keys = []
    for table in ("broker", "storage", "redis", "cluster", "history", "events", "mail"):
        before, after = getattr(old, table), getattr(fresh, table)
        keys += [f"{table}.{key}" for key in after.__struct_fields__ if getattr(before, key) != getattr(after, key)]
    return keys


def summary(config: Config, data_dir: Path) -> dict[str, Any]:
    """`Core.summary`."""
    return {
        "storage": storage_kind(config),
        "data_dir": str(data_dir),
        "history": config.history.enabled,
        "listeners": {name: {"bind": list(settings.bind)} for name, settings in config.listeners.items()},
    }


def raise_open_files_limit() -> None:
    """Every connection takes a descriptor, and the usual soft limit of 1024 is soon used up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
