"""``python -m broker.simulate demo``: the real broker with its defaults, and a small fleet that talks through it.

::

    read the configuration, look whether the ports are free    wrong or taken: one line, status 1
    start `twistd -n broker` as a child, wait for /readyz        it ends: one line, its status
    register and start the devices and applications of `fleet`   a line for each message that crosses
    Ctrl-C or SIGTERM                                            everybody says goodbye, the broker stops, status 0

Settings come from the environment (BROKER__...), for the broker and the demo alike. Everything is registered anew with
fresh secrets at each start, so any data folder will do.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.task import deferLater

from broker.config import Config, ConfigError, load
from broker.data_dir import TOKEN_FILE
from broker.listening.binding import Bind, BindError, parse_bind, reserve
from broker.simulate.api import Api
from broker.simulate.cast import Applications, ShownDevice, start_devices, text
from broker.simulate.child import BrokerChild
from broker.simulate.fleet import Fleet
from broker.tap import found_protocols, load_sides

#: Columns of a payload that are shown.
SHOWN: Final = 110
#: Seconds that devices and applications have for their goodbyes.
GOODBYE: Final = 3.0


class DemoError(Exception):
    """The demo cannot run; the text is one line."""


def configuration() -> Config:
    """What the broker will be configured with. Raises DemoError."""
    try:
        return load(None, dict(os.environ), load_sides(found_protocols()))
    except ConfigError as error:
        raise DemoError(str(error)) from None


def check_ports(config: Config) -> None:
    """Raises DemoError when somebody else listens where the broker wants to."""
    for name, settings in config.listeners.items():
        for bind in settings.bind:
            try:
                reserve(name, parse_bind(bind), None, None).release()
            except BindError as error:
                raise DemoError(str(error)) from None


def plain_port(config: Config, listener: str) -> tuple[str, int]:
    """Host and port of a listener's first plain TCP binding, to connect to from here. Raises DemoError."""
    for bind in map(parse_bind, config.listeners[listener].bind):
        if bind.kind == "tcp" and bind.port:
            return reachable(bind), bind.port
    raise DemoError(f"the demo needs listeners.{listener}.bind to have a tcp:PORT")


def reachable(bind: Bind) -> str:
    """An address of this machine that such a binding listens on."""
    return "127.0.0.1" if bind.interface in ("", "0.0.0.0", "::") else bind.interface


class Demo:
    """The broker, the devices and the applications, from start to end. ``say`` prints a line."""

    def __init__(self, reactor: Any, config: Config, say: Callable[[str], object]) -> None:
        self._reactor = reactor
        self._config = config
        self._say = say
        self._broker = BrokerChild(reactor, lambda line: say(f"broker | {line}"))
        self._members: list[Fleet[ShownDevice] | Applications] = []
        self._stopping = False
        host, port = plain_port(config, "http")
        self._url = f"http://{f'[{host}]' if ':' in host else host}:{port}"

    async def run(self) -> int:
        """The exit status, when everything is over."""
        self._broker.start({})
        if await self._broker.ready(self._url) and not self._stopping:
            self._greet()
            starting = Deferred.fromCoroutine(self._start())
            starting.addErrback(self._failed)
        status = await self._broker.ended()
        if not self._stopping:
            self._say(f"demo: the broker ended with status {status}")
            await self._goodbye()
        # Asked to stop while it was still loading, it has no better way than to die of the signal.
        return 0 if self._stopping and status == 128 + signal.SIGTERM else status

    def stop(self) -> None:
        """End everything; the second time at once."""
        if self._stopping:
            self._broker.hurry()
            return
        self._stopping = True
        self._say("demo: stopping")
        Deferred.fromCoroutine(self._goodbye()).addBoth(lambda _: self._broker.stop())

    def _greet(self) -> None:
        say = self._say
        say("")
        say("The broker listens on:")
        for name, settings in self._config.listeners.items():
            for bind in settings.bind:
                say(f"  {name:<10} {bind}")
        say(f"API and stream: {self._url}/api/v1   figures: {self._url}/metrics")
        say(f"The administrator's token is in {self._token_file() or 'the configuration (broker.admin_token)'}")
        say("Devices and applications start; a line is a message that crosses. Ctrl-C stops everything.")
        say("")

    async def _start(self) -> None:
        api = Api(self._reactor, self._url, self._token())
        novacloud = TCP4ClientEndpoint(self._reactor, *plain_port(self._config, "novacloud"))
        mqtt = TCP4ClientEndpoint(self._reactor, *plain_port(self._config, "mqtt"))
        fleet = await start_devices(self._reactor, api, novacloud, self._show)
        self._members.append(fleet)
        self._members.append(await Applications.start(self._reactor, api, mqtt, self._show, random.Random()))
        await api.close()
        if self._stopping:  # while we were at it
            await self._goodbye()

    def _token_file(self) -> str:
        return "" if self._config.broker.admin_token else str(self._config.data_dir / TOKEN_FILE)

    def _token(self) -> str:
        file = self._token_file()
        if not file:
            return self._config.broker.admin_token
        with open(file, encoding="utf-8") as opened:
            return opened.read().strip()

    def _failed(self, failure: Any) -> None:
        if not self._stopping:
            self._say(f"demo: cannot go on: {failure.getErrorMessage()}")
            self.stop()

    async def _goodbye(self) -> None:
        """Let everybody close their connections; they need not succeed."""
        members, self._members = self._members, []
        waiting = [member.stop() for member in members]
        for deferred in waiting:
            deferred.addTimeout(GOODBYE, self._reactor).addErrback(lambda _: None)
        for deferred in waiting:
            await deferred

    def _show(self, sender: str, receiver: str, kind: str, what: object) -> None:
        """One line for one message."""
        if self._stopping:
            return
        at = datetime.now().astimezone().strftime("%H:%M:%S.%f")[:-3]
        way = f"{sender} -> {receiver}" if receiver else sender
        shown = text(what)
        self._say(f"{at}  {way:<46} {kind:<9} {shown if len(shown) <= SHOWN else shown[:SHOWN] + '...'}".rstrip())


def main(reactor: Any, say: Callable[[str], object]) -> int:
    """Run the demo until it ends; its exit status."""
    try:
        config = configuration()
        check_ports(config)
        demo = Demo(reactor, config, say)
    except DemoError as error:
        say(f"demo: {error}")
        return 1
    status = [1]

    def ended(outcome: Any) -> None:
        if isinstance(outcome, int):
            status[0] = outcome
        else:
            say(f"demo: {outcome.getTraceback()}")
        # What the goodbyes have scheduled still runs.
        deferLater(reactor, 0, reactor.stop)

    def begin() -> None:
        # The reactor's own way of stopping would not wait for the others.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: reactor.callFromThread(demo.stop))
        Deferred.fromCoroutine(demo.run()).addBoth(ended)

    reactor.callWhenRunning(begin)
    reactor.run()
    return status[0]
