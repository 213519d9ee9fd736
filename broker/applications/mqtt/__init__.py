"""Plain MQTT clients: registered applications on the topics ``devices/<id>/...`` (DESIGN §9)."""

from __future__ import annotations

from twisted.logger import Logger

from broker.applications.mqtt.bridge import DeviceTopics
from broker.applications.mqtt.commands import CommandIntake
from broker.applications.mqtt.presence import PresenceRetained
from broker.applications.mqtt.principals import AnonymousIdentities, AnonymousPrincipal, ApplicationIdentities
from broker.core import Core
from broker.model.interfaces import IMqttIdentities
from broker.mqtt.server import MqttListener
from broker.mqtt.settings import Settings

__all__ = ["Settings", "build"]


def build(core: Core, settings: Settings) -> MqttListener:
    """The MQTT listener with everything that plain MQTT clients need.

    Other sides (Gizwits) append their identities to ``core.mqtt_identities`` while they are built; the applications'
    come last, as they claim every user name.
    """
    intake = CommandIntake(core)
    presence = PresenceRetained(core)
    anybody = (
        AnonymousPrincipal(settings.anonymous_deny, intake, presence, core.mqtt_spaces) if settings.anonymous else None
    )
    last: list[IMqttIdentities] = [ApplicationIdentities(core, intake, presence, anybody)]
    if anybody is not None:
        Logger(namespace="broker.mqtt").warn("ANYBODY may connect over MQTT without a name: anonymous = true")
        last.append(AnonymousIdentities(anybody))
    core.router.listen(DeviceTopics(core.topics))
    return MqttListener(
        settings,
        core.topics,
        core.mqtt_identities,
        last,
        core.turn,
        core.reactor,
        core.clock,
        core.monotonic,
        core.storage.sessions,
        core.backplane,
    )
