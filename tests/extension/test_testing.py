"""What others test with: a broker in the process, with the plugins that are named and no others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase

from broker.config import ConfigError
from broker.core import Core
from broker.extension import DeviceRef, ListenerSettings, Presence, Uplink
from broker.extension.testing import LOOPBACK, Heard, InProcessBroker

reactor: Any = _reactor
DEVICE = DeviceRef("p", "d-1")


class Plugin:
    """A plugin whose side is as small as can be: ``build`` gives an object that has nothing."""

    name, description = "small", "nothing"
    Settings = ListenerSettings

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.core: Core | None = None

    def load(self) -> Any:
        return self

    def build(self, core: Core, settings: ListenerSettings) -> object:
        if self.error is not None:
            raise self.error
        self.core = core
        return object()


class InProcessBrokerTests(TestCase):
    timeout = 60

    def made(self, plugin: Plugin, **settings: str) -> InProcessBroker:
        made = InProcessBroker(reactor, Path(self.mktemp()), [plugin], settings)
        self.addCleanup(made.stop)
        return made

    async def test_a_listener_that_has_nothing_is_enough(self) -> None:
        plugin = Plugin()
        broker = self.made(plugin)
        await broker.start()
        self.assertIs(broker.core, plugin.core)
        self.assertEqual(list(broker.core.listeners), ["small"])
        broker.core.router.uplink(Uplink(DEVICE, "data", {}, 1.0))
        self.assertEqual(len(broker.heard.uplinks), 1)

    async def test_a_built_in_listener_that_is_named_takes_part(self) -> None:
        broker = InProcessBroker(
            reactor, Path(self.mktemp()), [Plugin()], {"listeners.novacloud.bind": LOOPBACK, "commands.max_queued": "7"}
        )
        self.addCleanup(broker.stop)
        await broker.start()
        self.assertEqual(sorted(broker.core.listeners), ["novacloud", "small"])
        self.assertGreater(broker.port("novacloud"), 0)
        self.assertEqual(broker.core.commands.max_queued, 7)

    async def test_a_start_that_fails(self) -> None:
        broker = self.made(Plugin(ZeroDivisionError()))
        error: Any = await self.assertFailure(Deferred.fromCoroutine(broker.start()), AssertionError)
        self.assertIn("could not start", str(error))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_settings_that_are_wrong(self) -> None:
        folder = Path(self.mktemp())
        self.assertRaises(ConfigError, InProcessBroker, reactor, folder, [Plugin()], {"listeners.small.colour": "1"})

    async def test_a_stop_without_a_start(self) -> None:
        await self.made(Plugin()).stop()


class HeardTests(SynchronousTestCase):
    def test_waiting(self) -> None:
        heard = Heard()
        at_once = heard.until(lambda: "there")
        self.assertEqual(self.successResultOf(at_once), "there")
        two = heard.until(lambda: len(heard.presences) == 2)
        heard.presence(Presence(DEVICE, True, "connected", 1.0))
        self.assertNoResult(two)
        heard.presence(Presence(DEVICE, False, "idle", 2.0))
        self.assertTrue(self.successResultOf(two))
