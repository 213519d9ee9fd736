"""How an app on WebSocket listens to topics, as a subscriber beside the sessions of the MQTT server.

That server tells the other processes what is wanted here, and takes what they pass on; without one (it need not be
configured) an app hears of the devices of its own process.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from broker.core import Core
from broker.mqtt.message import options


class Audience:
    """``listener``: see `broker.mqtt.sessions.Sessions.listen`."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def join(self, listener: Any, topic: str) -> None:
        """Begin to listen, at QoS 0."""
        server = self._core.listeners.get("mqtt")
        if server is None:
            self._core.topics.subscribe(topic, listener, options(0))
        else:
            server.sessions.listen(listener, topic)

    def leave(self, listener: Any, topic: str) -> None:
        """Stop; harmless when it did not."""
        server = self._core.listeners.get("mqtt")
        if server is None:
            self._core.topics.unsubscribe(topic, listener)
        else:
            server.sessions.ignore(listener, topic)

    def known(self) -> Deferred[None] | None:
        """Fires when other processes know who listens here; None: they do, or there are none."""
        server = self._core.listeners.get("mqtt")
        waited: Deferred[None] | None = None if server is None else server.known()
        return waited
