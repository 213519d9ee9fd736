"""The demo from its start to its end.

::

    read the configuration, look whether the ports are free    wrong or taken: one line, status 1
    start `twistd -n broker` as a child, wait for /readyz        it ends: one line, its status
    say where the console is and how to sign in
    register the cast, start the applications, then the devices  the board fills within seconds
    all of it was seen: faults begin, and a campaign
    Ctrl-C or SIGTERM                                            everybody says goodbye, the broker stops, status 0

Settings come from the environment (BROKER__...), for the broker and the demo alike.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Final, Protocol

from rich.console import Console
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import deferLater

from broker.config import Config
from broker.data_dir import TOKEN_FILE
from broker.simulate.api import Api
from broker.simulate.child import BrokerChild
from broker.simulate.demo import cast
from broker.simulate.demo.applications import Application, applications
from broker.simulate.demo.board import Board
from broker.simulate.demo.campaign import campaign
from broker.simulate.demo.devices import CAST_PACE, CROWD_PACE, Devices
from broker.simulate.demo.enrolment import Keys, enrol, enrol_devices
from broker.simulate.demo.field import Field
from broker.simulate.demo.lines import Lines
from broker.simulate.demo.places import DemoError, check_ports, configuration, place_of, surroundings, url_of
from broker.simulate.demo.table import Table
from broker.simulate.demo.troubles import Troubles

#: Seconds that devices and applications have for their goodbyes.
GOODBYE: Final = 3.0
#: What has to listen.
NEEDED: Final = (
    ("http", "tcp"),
    ("mqtt", "tcp"),
    ("novacloud", "tcp"),
    ("gateway88", "tls"),
    ("files", "tls"),
    ("gservice", "tcp"),
    ("lorawan", "udp"),
    ("loracenter", "tcp"),
)
#: What devices tell that is worth a line.
_NEWS: Final = re.compile("reboots|has posted|has recovered|gives up|cannot connect|refused|error: |.* failed: ")
#: A line of the broker's log that is no trouble.
_CALM: Final = re.compile(r"\S+ (info|debug) |\{.*\"level\":\"(info|debug)\"")


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """The options. ``devices``: how many there are to be, at least the cast. ``table``: stdout is a terminal."""

    devices: int = 0
    seed: int = 1
    faults: bool = True
    table: bool = False


class Screen(Protocol):
    """What shows the board."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


class Demo:
    """``say`` prints a line."""

    def __init__(
        self,
        reactor: Any,
        environment: Mapping[str, str],
        config: Config,
        wishes: Wishes,
        say: Callable[[str], object],
    ) -> None:
        self._reactor = reactor
        self._environment = environment
        self._config = config
        self._wishes = wishes
        self._say = say
        self._chance = Random(wishes.seed)
        self._broker = BrokerChild(reactor, self._heard)
        self._board = Board(cast.CELLS, reactor.seconds)
        self._board.on_whole.append(self._whole)
        self._url = url_of(place_of(config, "http"))
        self._screen = self._screen_of()
        self._api: Api | None = None
        self._members: list[Application | Devices | Field] = []
        self._troubles: Troubles | None = None
        self._stopping = self._has_failed = False
        self._addressed_at = 0.0

    # -- from start to end -----------------------------------------------------------------------------------------

    async def run(self) -> int:
        """The exit status, when everything is over."""
        self._broker.start({}, self._environment)
        if await self._broker.ready(self._url) and not self._stopping:
            self._greet()
            self._screen.start()
            starting = Deferred.fromCoroutine(self._start())
            starting.addErrback(self._failed)
        status = await self._broker.ended()
        self._screen.stop()
        if not self._stopping:
            self._say(f"demo: the broker ended with status {status}")
            await self._goodbye()
        if self._has_failed:
            return 1
        # Asked to stop while it was still loading, it has no better way than to die of the signal.
        return 0 if self._stopping and status == 128 + signal.SIGTERM else status

    def stop(self) -> None:
        """End everything; the second time at once."""
        if self._stopping:
            self._broker.hurry()
            return
        self._stopping = True
        self._screen.stop()
        self._say("demo: stopping")
        Deferred.fromCoroutine(self._goodbye()).addBoth(lambda _: self._broker.stop())

    async def _start(self) -> None:
        api = self._api = Api(self._reactor, self._url, self._token())
        keys = await enrol(api)
        working = applications(self._reactor, self._config, api, keys, self._board, self._chance)
        await self._log_in(working)
        subjects, strangers = cast.SUBJECTS, (cast.STRANGER,)
        seed = self._wishes.seed
        devices = Devices(self._reactor, self._config, keys, seed, subjects, CAST_PACE, self._told, strangers)
        field = Field(self._reactor, self._config, keys, self._board.note)
        if self._stopping:  # while we were at it
            await self._goodbye()
            return
        self._members += [devices, field]
        devices.start()
        field.start()
        for application in working:
            application.go()
        self._troubles = Troubles(self._reactor, self._board, devices, field, self._chance)
        if self._wishes.faults:
            self._troubles.start()
        await self._add_crowd(api, keys, field)

    async def _add_crowd(self, api: Api, keys: Keys, field: Field) -> None:
        """Those who are there to be many."""
        extras = cast.crowd(max(0, self._wishes.devices - len(cast.SUBJECTS)))
        if not extras:
            return
        await enrol_devices(api, extras, keys)
        if not self._stopping:
            crowd = Devices(self._reactor, self._config, keys, self._wishes.seed, extras, CROWD_PACE)
            self._members.append(crowd)
            crowd.start()
            field.add_crowd(extras)
            self._board.note(f"{len(extras)} further devices are coming")

    async def _log_in(self, working: list[Application]) -> None:
        """All at once."""
        self._members += working
        for login in [maybeDeferred(application.start) for application in working]:
            await login

    def _whole(self) -> None:
        """Everything has been seen once."""
        seconds = self._reactor.seconds() - self._addressed_at
        self._board.note(f"the whole matrix was seen: {len(cast.CELLS)} cells, {seconds:.1f} s after the address")
        if self._troubles is not None and self._wishes.faults:
            self._troubles.begin()
        assert self._api is not None
        Deferred.fromCoroutine(campaign(self._api)).addCallbacks(self._note, self._no_campaign)

    async def _goodbye(self) -> None:
        """Let everybody close their connections; they need not succeed."""
        if self._troubles is not None:
            self._troubles.stop()
        members, self._members = self._members, []
        waiting = [member.stop() for member in members]
        if self._api is not None:
            waiting.append(self._api.close())
        for deferred in waiting:
            deferred.addTimeout(GOODBYE, self._reactor).addErrback(lambda _: None)
        for deferred in waiting:
            await deferred

    # -- what is said ----------------------------------------------------------------------------------------------

    def _screen_of(self) -> Screen:
        if not self._wishes.table:
            return Lines(self._reactor, self._board, self._say, self._failed)
        caption = f"Console: {self._url}/   token: {self._token_file() or 'broker.admin_token'}   Ctrl-C ends it"
        return Table(self._reactor, self._board, Console(), caption, self._failed)

    def _greet(self) -> None:
        self._addressed_at = self._reactor.seconds()
        say = self._say
        say("")
        say(f"Open {self._url}/ and sign in with the administrator's token:")
        file = self._token_file()
        if self._wishes.table:  # what goes to a file or another program may be kept
            say(f"  {self._token()}")
        say(f"  it is in {file}" if file else "  it is broker.admin_token of the configuration")
        say("")
        for name, settings in self._config.listeners.items():
            say(f"  {name:<10} {'  '.join(settings.bind)}")
        say("")
        say("Devices of every protocol and applications of every kind start now. Ctrl-C stops everything.")
        say("")

    def _token_file(self) -> str:
        return "" if self._config.broker.admin_token else str(self._config.data_dir / TOKEN_FILE)

    def _token(self) -> str:
        file = self._token_file()
        if not file:
            return self._config.broker.admin_token
        with open(file, encoding="utf-8") as opened:
            return opened.read().strip()

    def _heard(self, line: str) -> None:
        """The broker says something: all of it until it is ready, then what is wrong."""
        if not self._addressed_at:
            self._say(f"broker | {line}")
        elif _CALM.match(line) is None:
            show = self._say if self._stopping else self._board.note
            show(f"broker | {line}")

    def _told(self, subject: cast.Subject, what: str) -> None:
        if _NEWS.match(what):
            self._board.note(f"{cast.short(subject)} ({subject.protocol}) {what}")

    def _note(self, what: str) -> None:
        if what:
            self._board.note(what)

    def _no_campaign(self, failure: Any) -> None:
        if not self._stopping:
            self._board.note(f"no campaign: {failure.getErrorMessage()}")

    def _failed(self, failure: Any) -> None:
        if not self._stopping:
            self._has_failed = True
            self._say(f"demo: cannot go on: {failure.getErrorMessage()}")
            self.stop()


def main(reactor: Any, wishes: Wishes, say: Callable[[str], object]) -> int:
    """Run the demo until it ends; its exit status."""
    environment = surroundings()
    try:
        config = configuration(environment)
        check_ports(config)
        for listener, kind in NEEDED:
            place_of(config, listener, kind)
        demo = Demo(reactor, environment, config, wishes, say)
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
