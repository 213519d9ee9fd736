"""From the router to the topics below ``devices/``: uplinks, presence and command states for MQTT subscribers.

The JSON of a message is made only when somebody is subscribed, and once for all of them. The route of each device and
kind is kept, so that an uplink costs two look-ups and a comparison when nobody listens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from zope.interface import implementer

from broker.applications.mqtt.topics import presence_topic, reply_topic, uplink_topic
from broker.model.interfaces import IConsumer
from broker.model.messages import KINDS, Command, DeviceRef, Presence, Uplink
from broker.mqtt import properties as props
from broker.mqtt.delivery import SessionIndex, SessionRoute, deliver

#: Routes kept per kind; past this the table is started anew.
MAX_ROUTES: Final = 200_000

#: The broker publishes at this QoS; a subscriber gets the lower of this and what it was granted.
QOS: Final = 1


#: What a command's options hold of the publish that it came with: a topic name, and bytes in hexadecimal.
RESPONSE_TOPIC: Final = "response_topic"
CORRELATION_DATA: Final = "correlation_data"


def respond(topics: SessionIndex, notes: Mapping[str, Any], text: bytes) -> None:
    """Send ``text`` to the response topic that ``notes`` (a command's options) name, if they do."""
    topic = notes.get(RESPONSE_TOPIC)
    if topic is None:
        return
    data = notes.get(CORRELATION_DATA)
    shared = b"" if data is None else props.property_bytes(props.CORRELATION_DATA, bytes.fromhex(data))
    deliver(topics.route(topic), text, QOS, shared)


@implementer(IConsumer)
class DeviceTopics:
    """The consumer that publishes what devices say."""

    def __init__(self, topics: SessionIndex) -> None:
        self._topics = topics
        self._routes: dict[str, dict[str, SessionRoute]] = {kind: {} for kind in KINDS}

    def wants(self, device: DeviceRef, kind: str) -> bool:
        """See `IConsumer`."""
        route = self._routes[kind].get(device.id)
        if route is None or route.generation != self._topics.generation:
            route = self._route(device.id, kind)
        return bool(route.targets)

    def _route(self, device_id: str, kind: str) -> SessionRoute:
        routes = self._routes[kind]
        if len(routes) >= MAX_ROUTES:
            routes.clear()
        route = routes[device_id] = self._topics.route(uplink_topic(device_id, kind))
        return route

    def uplink(self, message: Uplink) -> None:
        device_id = message.device.id
        route = self._routes[message.kind].get(device_id)
        if route is None or route.generation != self._topics.generation:
            route = self._route(device_id, message.kind)
        if route.targets:
            deliver(route, message.as_json(), QOS)

    def presence(self, change: Presence) -> None:
        route: Any = self._topics.route(presence_topic(change.device.id))
        if route.targets:
            deliver(route, change.as_json(), QOS)

    def command(self, change: Command) -> None:
        route: Any = self._topics.route(reply_topic(change.device))
        if route.targets:
            deliver(route, change.reply_json(), QOS)
        if change.options:
            respond(self._topics, change.options, change.reply_json())
