"""The broker's life: everything is built (`broker.building`), started in this order, and stopped in the other one.

::

    startService   data folder, its lock, the token, the certificate, the addresses    at once; a failure ends twistd
                   storage, files, open commands, recorder, listeners, ticks           later; a failure ends it, too
    reload         limits, log levels, certificate, command limits                     SIGHUP
    stopService    accept nobody, close connections (10 s), recorder, storage          SIGTERM, SIGINT

While storage is being opened or migrated, the system already queues what connects; it is served when all is ready.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import ILogObserver, Logger
from twisted.python.components import Componentized

from broker.building import build, limit_traces
from broker.clustering import Clustering, problem_of
from broker.config import Config, ConfigError
from broker.core import Core
from broker.data_dir import TOKEN_FILE, DataDir, DataDirError, exposed
from broker.events.across import EventsAcross
from broker.fleet.calls import Calls as CampaignCalls
from broker.fleet.side import CampaignSide
from broker.listening.binding import BindError
from broker.listening.served import Served
from broker.logs import Lines
from broker.model.errors import BrokerError
from broker.process import raise_open_files_limit
from broker.pulse import Pulse
from broker.tls import PRIVATE_KEY, Certificate, TlsError

#: Seconds that connections have to end after they were told (DESIGN §10).
STOP_GRACE = 10.0
#: How often the end of connections is looked for.
STOP_POLL = 0.05


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
        self._clock = clock
        self._monotonic = monotonic
        self._data_dir: DataDir | None = None
        self._certificate: Certificate | None = None
        self._token = ""  # nosec B105 # no password
        self._campaigns: CampaignSide | None = None
        self._clustering: Clustering | None = None
        self._pulse: Pulse | None = None
        self._starting: Deferred[None] | None = None
        self._stopping: Deferred[None] | None = None
        #: What ends the parts that have been started, in the order of their start.
        self._closers: list[Callable[[], Deferred[Any]]] = []
        self._problem = "starting"
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
        assert self._data_dir is not None
        data_dir, clocks = self._data_dir.path, (self._clock, self._monotonic)
        built = build(self.config, self._reactor, *clocks, data_dir, self._token, self)
        core = self.core = built.core
        await built.storage.open()
        self._closers.append(built.storage.close)
        for part in (core.files, core.quarantine):
            await part.open()
            self._closers.append(part.close)
        clustering = self._clustering = Clustering(core, self._reactor, built.recorder.write_now)
        await clustering.start()
        self._closers.append(clustering.stop)
        if not core.backplane.alone:
            await core.files.meet(core.backplane.others())
            if core.files.trouble:
                log.error("{sentence}", sentence=core.files.trouble)
        built.recorder.start()
        self._closers.append(built.recorder.stop)
        events = EventsAcross(
            built.events, core.backplane, core.duties, core.router, core.devices, core.whereabouts, core.storage
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
            events.watch_lora(getattr(core.lora, "local", core.lora))
        for served in self.served:
            if served.settings.bind:
                await served.serve(core.listeners[served.name])
            else:
                served.listener = core.listeners[served.name]
        for served in self.served:
            served.begin()
        self._pulse = Pulse(
            core,
            built.storage,
            self.served,
            built.events,
            events,
            campaigns,
            clustering,
            built.metrics,
            self._certificate,
            self._worker,
        )
        self._pulse.begin()
        self._problem = ""
        log.info(
            "started: version {version}, node {name}, data in {data_dir}",
            version=core.version,
            name=core.name,
            data_dir=core.summary["data_dir"],
        )

    def _fail(self, why: str) -> None:
        log.critical("cannot start: {why}", why=why)
        self._on_failure()

    # -- while it runs ---------------------------------------------------------------------------------------------

    def problems(self) -> list[str]:
        """Why no work is taken now; empty when it is."""
        storage = "" if self._pulse is None else self._pulse.storage_problem
        problems = (self._problem, storage, problem_of(self.core))
        return [problem for problem in problems if problem]

    def troubles(self) -> list[str]:
        """What listeners have to say of themselves."""
        told = [f"{served.name}: {trouble}" for served in self.served for trouble in served.troubles()]
        if self.core is not None and self.core.files.trouble:
            told.insert(0, f"files: {self.core.files.trouble}")
        return told

    def ports(self, name: str) -> list[tuple[str, int]]:
        """See `broker.core.Core`."""
        return [number for served in self.served if served.name == name for number in served.numbers]

    def certificate_ends(self) -> float | None:
        """UNIX seconds; None while there is none."""
        return None if self._certificate is None else self._certificate.expires_at

    def parts(self) -> list[Any]:
        """What has figures of its own for the metrics."""
        return [part for part in (self._campaigns, self._clustering) if part is not None]

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
            limit_traces(self.core, fresh)
        if self._campaigns is not None:
            self._campaigns.configure(fresh.campaigns)
        later = restart_keys(old, fresh)
        for served in self.served:
            later += served.reload(fresh.listeners[served.name])
        if self._pulse is not None:
            self._pulse.look_at_certificate()
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
        if self._pulse is not None:
            self._pulse.end()
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


def restart_keys(old: Config, fresh: Config) -> list[str]:
    """The keys outside [listeners] that changed and only count at a start."""
    keys = []
    for table in ("broker", "storage", "redis", "cluster", "history", "events", "mail"):
        before, after = getattr(old, table), getattr(fresh, table)
        keys += [f"{table}.{key}" for key in after.__struct_fields__ if getattr(before, key) != getattr(after, key)]
    return keys
