"""A whole broker in the process of a test: real storage in a folder, real sockets, the plugins that the test names.

::

    class MineTests(TestCase):                                     # twisted.trial.unittest
        async def test_an_uplink(self):
            broker = InProcessBroker(reactor, Path(self.mktemp()), [mine], {"listeners.mine.bind": LOOPBACK})
            self.addCleanup(broker.stop)
            await broker.start()
            await broker.core.registry.add_device({"protocol": "mine", "id": "d-1", "secret": "s"})
            connect(broker.port("mine"))

Nothing of it is faked, so what passes here passes in ``twistd broker``. It starts in a fifth of a second.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from broker.config import load
from broker.core import Core
from broker.model.interfaces import IConsumer
from broker.model.messages import Command, Presence, Uplink
from broker.service import BrokerService
from broker.tap import found_protocols, load_sides

__all__ = ["LOOPBACK", "Heard", "InProcessBroker"]

#: A ``bind`` for tests: any free port of this machine's own side.
LOOPBACK: Final = '["tcp:0:interface=127.0.0.1"]'


@implementer(IConsumer)
class Heard:
    """A consumer that keeps all that crosses the broker, and lets a test wait for some of it."""

    def __init__(self) -> None:
        self.uplinks: list[Uplink] = []
        self.presences: list[Presence] = []
        #: (id, status) of each change of a command.
        self.commands: list[tuple[str, str]] = []
        self._waiting: list[tuple[Callable[[], Any], Deferred[Any]]] = []

    def uplink(self, message: Uplink) -> None:
        self.uplinks.append(message)
        self._look()

    def presence(self, change: Presence) -> None:
        self.presences.append(change)
        self._look()

    def command(self, change: Command) -> None:
        self.commands.append((change.id, change.status))
        self._look()

    def until(self, condition: Callable[[], Any]) -> Deferred[Any]:
        """What the condition gives once it is true; it is asked now, and whenever something was heard."""
        found = condition()
        if found:
            return succeed(found)
        waiting: Deferred[Any] = Deferred()
        self._waiting.append((condition, waiting))
        return waiting

    def _look(self) -> None:
        waiting, self._waiting = self._waiting, []
        for condition, told in waiting:
            found = condition()
            if found:
                told.callback(found)
            else:
                self._waiting.append((condition, told))


class InProcessBroker:
    """A broker on ``reactor``, with its data in ``folder``.

    ``plugins``: `ProtocolPlugin` objects of the package that is tested. ``settings``: dotted keys of the configuration
    with their values as TOML text (``{"listeners.mine.bind": LOOPBACK}``); a built-in listener that has a key there
    (``listeners.http.bind``) takes part as well, all others do not.
    """

    def __init__(
        self, reactor: Any, folder: Path, plugins: Iterable[Any], settings: Mapping[str, str] | None = None
    ) -> None:
        self._reactor = reactor
        self.heard = Heard()
        given = {"broker.data_dir": json.dumps(str(folder.absolute())), **(settings or {})}
        built_in = {key.split(".")[1] for key in given if key.startswith("listeners.")}
        named = {plugin.name: plugin for plugin in plugins}
        found = {name: one for name, one in found_protocols().items() if name in built_in}
        self._sides = load_sides({**found, **named})
        environment = {"BROKER__" + key.upper().replace(".", "__"): text for key, text in given.items()}
        self._service = BrokerService(
            load(None, environment, self._sides), self._sides, reactor, on_failure=self._note_failure
        )
        self._failed = False

    @property
    def core(self) -> Core:
        """What plugins are given."""
        assert self._service.core is not None, "the broker has not been started"
        return self._service.core

    async def start(self) -> None:
        """Start, and return when everything listens. Raises AssertionError when it does not come to that."""
        self._service.startService()
        await self._service.begun()
        assert not self._failed, "the broker could not start; its log says why"
        self.core.router.listen(self.heard)

    def stop(self) -> Deferred[None]:
        """Fires when all connections are closed and the data is on disk. Harmless when it was not started."""
        return self._service.stopService() if self._service.running else succeed(None)

    def port(self, listener: str) -> int:
        """The port of a listener's first binding."""
        return self.core.ports(listener)[0][1]

    def _note_failure(self) -> None:
        self._failed = True
