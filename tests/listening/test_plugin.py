"""The declarations of protocols."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from broker.listening.plugin import ProtocolPlugin
from broker.model.interfaces import IProtocol


class PluginTests(SynchronousTestCase):
    def test_is_a_protocol(self) -> None:
        plugin = ProtocolPlugin("mine", "what it is", "no.such.module")
        self.assertTrue(verifyObject(IProtocol, plugin))
        self.assertEqual((plugin.name, plugin.description), ("mine", "what it is"))

    def test_nothing_is_imported_before_load(self) -> None:
        plugin = ProtocolPlugin("mine", "what it is", "no.such.module")
        self.assertRaises(ImportError, plugin.load)

    def test_load(self) -> None:
        side = ProtocolPlugin("novacloud", "NovaCloud devices", "broker.devices.novacloud").load()
        self.assertEqual(side.Settings().bind, ("tcp:8100",))
        self.assertTrue(callable(side.build))

    def test_no_listener_side(self) -> None:
        plugin = ProtocolPlugin("mine", "what it is", "broker.model.names")
        error = self.assertRaises(AttributeError, plugin.load)
        self.assertIn("broker.model.names has no Settings", str(error))
