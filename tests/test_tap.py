"""`twistd broker`: its options, the protocols that it finds, and the service that it makes."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.plugin import IPlugin
from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from broker import tap
from broker.config import ConfigError
from broker.listening.settings import ListenerSettings
from broker.model.interfaces import IProtocol
from broker.service import BrokerService


class Side:
    Settings = ListenerSettings


@implementer(IPlugin, IProtocol)
class Plugin:
    def __init__(self, name: str, error: Exception | None = None) -> None:
        self.name = name
        self.description = f"speaks {name}"
        self.loads = 0
        self._error = error

    def load(self) -> Any:
        self.loads += 1
        if self._error is not None:
            raise self._error
        return Side


class TapCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.plugins = [Plugin("two"), Plugin("one")]
        self.patch(tap, "getPlugins", lambda interface: iter(self.plugins))

    def options(self, *arguments: str) -> tap.Options:
        options = tap.Options()
        options.parseOptions(arguments)
        return options

    def file(self, text: str) -> str:
        path = Path(self.mktemp())
        path.write_text(text)
        return str(path)


class OptionsTests(TapCase):
    def test_config(self) -> None:
        self.assertIsNone(self.options()["config"])
        self.assertEqual(self.options("--config", "a")["config"], "a")
        self.assertEqual(self.options("-c", "b")["config"], "b")

    def test_nothing_else(self) -> None:
        self.assertRaises(usage.UsageError, self.options, "--colour")
        error = self.assertRaises(usage.UsageError, self.options, "broker.toml")
        self.assertEqual(str(error), "broker takes no arguments, and there is 'broker.toml'; did you mean --config?")

    def test_help_lists_the_protocols_and_loads_none(self) -> None:
        text = str(tap.Options())
        self.assertIn("--config", text)
        self.assertIn("Protocols:\n  one          speaks one\n  two          speaks two\n", text)
        self.assertEqual([plugin.loads for plugin in self.plugins], [0, 0])


class ProtocolsTests(TapCase):
    def test_by_name(self) -> None:
        self.assertEqual(list(tap.found_protocols()), ["one", "two"])

    def test_the_same_name_twice(self) -> None:
        self.plugins.append(Plugin("one"))
        error = self.assertRaises(ConfigError, tap.found_protocols)
        self.assertTrue(str(error).startswith("two plugins are called one: "), error)

    def test_one_that_cannot_be_loaded(self) -> None:
        broken = {"x": Plugin("x", ImportError("no module\nnamed y"))}
        error = self.assertRaises(ConfigError, tap.load_sides, broken)
        self.assertEqual(str(error), "the protocol x cannot be loaded: ImportError: no module named y")


class BuiltInTests(SynchronousTestCase):
    """The protocols of this project, found like those of anybody else."""

    def test_each_is_found_and_keeps_its_word(self) -> None:
        protocols = tap.found_protocols()
        self.assertLessEqual({"http", "mqtt", "novacloud"}, set(protocols))
        for name, protocol in protocols.items():
            self.assertTrue(verifyObject(IProtocol, protocol))
            self.assertEqual(protocol.name, name)
            self.assertTrue(protocol.description)
        for side in tap.load_sides(protocols).values():
            self.assertTrue(issubclass(side.Settings, ListenerSettings))
            self.assertTrue(callable(side.build))


class MakeServiceTests(TapCase):
    def test_a_service_that_holds_nothing_yet(self) -> None:
        data_dir = Path(self.mktemp())
        path = self.file(f'[broker]\ndata_dir = "{data_dir}"\n[listeners.one]\nbind = ["tcp:0"]')
        made = tap.makeService(self.options("--config", path), MemoryReactorClock())
        assert isinstance(made, BrokerService)
        self.assertEqual(made.config.listeners["one"].bind, ("tcp:0",))
        self.assertFalse(data_dir.exists())

    def test_the_environment(self) -> None:
        self.patch(os, "environ", {"BROKER__BROKER__NAME": "n5"})
        made = tap.makeService(self.options(), MemoryReactorClock())
        assert isinstance(made, BrokerService)
        self.assertEqual(made.config.broker.name, "n5")

    def test_a_wrong_configuration_is_one_line(self) -> None:
        path = self.file("[broker]\nname = 3")
        error = self.assertRaises(SystemExit, tap.makeService, self.options("-c", path), MemoryReactorClock())
        self.assertEqual(
            error.code, f"broker: {path}: broker.name = 3: must be a string that matches ^[A-Za-z0-9._-]{{1,64}}$"
        )


class SignalTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.calls: list[str] = []
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            self.addCleanup(signal.signal, number, signal.getsignal(number))
        tap.listen_to_signals(self, self)  # type: ignore[arg-type]  # this test stands for both

    def stop(self) -> None:
        self.calls.append("stop")

    def callFromThread(self, call: Any) -> None:
        call()

    def hurry(self) -> None:
        self.calls.append("hurry")

    def reload(self) -> None:
        self.calls.append("reload")

    def test_first_and_second(self) -> None:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        self.assertEqual(self.calls, ["stop", "hurry"])

    def test_reload(self) -> None:
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGHUP)
        self.assertEqual(self.calls, ["reload", "reload"])


class TwistdOptionsTests(SynchronousTestCase):
    def test_of_the_sub_command(self) -> None:
        options = tap.Options()
        options.parent = tap.Options()
        self.assertIs(tap.twistd_options(options), options.parent)

    def test_of_a_tac_file(self) -> None:
        self.patch(sys, "argv", ["/usr/bin/twistd", "--reactor=epoll", "-l", "x.log", "-ny", "broker.tac"])
        found = tap.twistd_options(tap.Options())
        assert found is not None
        self.assertEqual((found["nodaemon"], found["logfile"]), (True, "x.log"))

    def test_unknown(self) -> None:
        for argv in (["trial", "tests"], ["twistd", "--colour"]):
            self.patch(sys, "argv", argv)
            self.assertIsNone(tap.twistd_options(tap.Options()))
