"""``twistd broker``: its options, and the service that they make.

This is the outermost edge: the only place that looks for plugins, reads the environment and touches signals and the
exit status. The reactor is imported when the service is made, not before, so that ``twistd --reactor=...`` has its way.
"""

from __future__ import annotations

import atexit
import os
import select
import signal
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import twisted
from twisted.application.service import IService
from twisted.plugin import getPlugins
from twisted.python import usage

from broker import __version__
from broker.config import Config, ConfigError, load
from broker.logs import Lines, sink
from broker.model.interfaces import IProtocol
from broker.service import BrokerService
from broker.workers import WorkersService, worker_number


def found_protocols() -> dict[str, Any]:
    """Every `IProtocol` plugin by name. Raises ConfigError when two have the same name."""
    found: dict[str, Any] = {}
    for protocol in getPlugins(IProtocol):
        if protocol.name in found:
            raise ConfigError(f"two plugins are called {protocol.name}: {found[protocol.name]!r} and {protocol!r}")
        found[protocol.name] = protocol
    return dict(sorted(found.items()))


class Options(usage.Options):
    """The command line of ``twistd broker``."""

    synopsis = "[--config FILE]"
    longdesc = (
        "Runs the broker: with -n in the foreground, else as a daemon with twistd.pid and twistd.log. "
        "Without a file it runs on this machine with nothing else installed: its data goes into ./var, and the token "
        "for the API and the console (http://127.0.0.1:8080/) is in ./var/admin.token."
    )
    optParameters = [
        ["config", "c", None, "The configuration file (TOML); without one, everything has its default."],
    ]
    compData = usage.Completions(optActions={"config": usage.CompleteFiles("*.toml")})

    def opt_version(self) -> None:
        """Display the versions of the broker and of Twisted, and exit."""
        print(f"broker {__version__}, Twisted {twisted.__version__}")
        raise SystemExit(0)

    def parseArgs(self, *arguments: str) -> None:
        """Raises UsageError."""
        if arguments:
            raise usage.UsageError(f"broker takes no arguments, and there is {arguments[0]!r}; did you mean --config?")

    def getUsage(self, width: int | None = None) -> str:
        """The usual text, and the protocols found, a line each."""
        lines = [f"  {protocol.name:<12} {protocol.description}" for protocol in getPlugins(IProtocol)]
        listing = "\n".join(["Protocols:", *sorted(lines)])
        notes = (
            "Variables BROKER__<TABLE>__<KEY> override keys of the file, such as BROKER__LOG__LEVEL=debug.\n"
            "Devices and applications to try it with: python -m broker.simulate --help"
        )
        return f"{super().getUsage(width)}\n{listing}\n\n{notes}\n"


def load_sides(protocols: Mapping[str, Any]) -> dict[str, Any]:
    """What each plugin loads. Raises ConfigError for one that cannot be loaded."""
    sides = {}
    for name, protocol in protocols.items():
        try:
            sides[name] = protocol.load()
        except Exception as error:
            line = " ".join(f"{type(error).__name__}: {error}".split())
            raise ConfigError(f"the protocol {name} cannot be loaded: {line}") from error
    return sides


def makeService(options: Options, reactor: Any = None) -> IService:
    """The broker with these options. Raises SystemExit with one line for a wrong configuration."""
    try:
        sides = load_sides(found_protocols())
        reread = partial(load, options["config"], dict(os.environ), sides)
        config = reread()
    except ConfigError as error:
        raise SystemExit(f"broker: {error}") from None
    if config.broker.workers > 1 and not worker_number(os.environ):
        return workers_on_the_real_reactor(config, options)
    out = sink(twistd_options(options))
    lines = None if out is None else Lines(out, config.log)
    if reactor is not None:
        return BrokerService(config, sides, reactor, reread=reread, lines=lines)
    return on_the_real_reactor(config, sides, reread, lines)


def on_the_real_reactor(config: Config, sides: Mapping[str, Any], reread: Any, lines: Lines | None) -> BrokerService:
    """The service of a process of its own: with signals, and an exit status when it fails later on."""
    running = the_reactor()
    service = BrokerService(
        config,
        sides,
        running,
        reread=reread,
        on_failure=failure_of(running),
        lines=lines,
        worker=bool(worker_number(os.environ)),
    )
    running.callWhenRunning(listen_to_signals, running, service)
    return service


def workers_on_the_real_reactor(config: Config, options: Options) -> WorkersService:
    """The parent of several processes."""
    running = the_reactor()
    given = [] if options["config"] is None else ["--config", os.path.abspath(options["config"])]
    file = (twistd_options(options) or {}).get("logfile")
    service = WorkersService(
        config,
        running,
        given,
        environment=os.environ,
        on_failure=failure_of(running),
        log_file=None if file in (None, "-") else os.path.abspath(file),
    )
    running.callWhenRunning(listen_to_signals, running, service)
    return service


def the_reactor() -> Any:
    """twistd has not chosen a reactor yet unless its user has; then ours is the better one for what we do."""
    if "twisted.internet.reactor" not in sys.modules and hasattr(select, "epoll"):
        from broker.reactor import install

        install()
    from twisted.internet import reactor

    return reactor


def failure_of(running: Any) -> Callable[[], None]:
    """What ends the process with status 1."""

    def failed() -> None:
        exit_with(1)
        running.callWhenRunning(running.stop)

    return failed


def listen_to_signals(reactor: Any, service: BrokerService | WorkersService) -> None:
    """SIGTERM and SIGINT stop the broker, a second one at once; SIGHUP reloads.

    The reactor's own way of stopping would end the process by the same signal; ours ends it with status 0.
    """
    stopping = False

    def stop() -> None:
        nonlocal stopping
        if stopping:
            service.hurry()
        else:
            stopping = True
            reactor.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: reactor.callFromThread(stop))
    signal.signal(signal.SIGHUP, lambda *_: reactor.callFromThread(service.reload))


def exit_with(status: int) -> None:
    """Let the process end with ``status``; twistd itself knows only 0 once the reactor has run."""

    def leave() -> None:
        if sys.__stdout__ is not None:
            sys.__stdout__.flush()
        os._exit(status)

    atexit.register(leave)


def twistd_options(options: Options) -> Mapping[str, Any] | None:
    """The options of twistd itself; None when they are not known.

    A .tac file has no access to them, so the command line is read a second time, without what would act.
    """
    parent: Mapping[str, Any] | None = getattr(options, "parent", None)
    if parent is not None:
        return parent
    if os.path.basename(sys.argv[0]) != "twistd":
        return None
    from twisted.scripts._twistd_unix import ServerOptions

    class Again(ServerOptions):
        def opt_reactor(self, name: str) -> None:
            """Installed already."""

        opt_r = opt_reactor

    again = Again()
    try:
        again.parseOptions(sys.argv[1:])
    except usage.UsageError:
        return None
    return again
