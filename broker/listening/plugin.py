"""How a protocol makes itself known to `twistd broker`: an object in a file of ``twisted/plugins/``.

::

    from broker.listening.plugin import ProtocolPlugin

    mine = ProtocolPlugin("mine", "what it is", "my_package.module")

The module provides `broker.model.interfaces.IListenerSide`: ``Settings`` and ``build(core, settings)``. It is imported
when the listener is built and not before.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from twisted.plugin import IPlugin
from zope.interface import implementer

from broker.model.interfaces import IProtocol


@implementer(IPlugin, IProtocol)
class ProtocolPlugin:
    """A declaration; see `IProtocol`."""

    def __init__(self, name: str, description: str, module: str) -> None:
        self.name = name
        self.description = description
        self.module = module

    def load(self) -> Any:
        """Import the module. Raises ImportError, and AttributeError for a module that is no listener side."""
        side = import_module(self.module)
        for name in ("Settings", "build"):
            if not hasattr(side, name):
                raise AttributeError(f"{self.module} has no {name}")
        return side

    def __repr__(self) -> str:
        return f"<ProtocolPlugin {self.name}: {self.module}>"
