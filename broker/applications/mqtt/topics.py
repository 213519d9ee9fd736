"""The topics of plain MQTT clients (DESIGN §9), as pure functions.

``devices/<id>/up/<kind>``   uplinks
``devices/<id>/presence``    came or went, retained
``devices/<id>/command``     publish a command
``devices/<id>/reply``       every change of a command's state
"""

from __future__ import annotations

from typing import Final

from broker.mqtt.topics import matches

ROOT: Final = "devices"


def device_of(topic: str) -> str | None:
    """The device id of a topic below ``devices/``; "" when there is none in it; None for other topics."""
    levels = topic.split("/", 2)
    if levels[0] != ROOT:
        return None
    return levels[1] if len(levels) > 1 else ""


def uplink_topic(device_id: str, kind: str) -> str:
    return f"{ROOT}/{device_id}/up/{kind}"


def presence_topic(device_id: str) -> str:
    return f"{ROOT}/{device_id}/presence"


def command_topic(device_id: str) -> str:
    return f"{ROOT}/{device_id}/command"


def reply_topic(device_id: str) -> str:
    return f"{ROOT}/{device_id}/reply"


def presence_wanted(topic_filter: str) -> str | None:
    """Whose presence a filter asks for: one id, "" for everybody's, None if it matches no presence topic."""
    levels = topic_filter.split("/", 2)
    one = levels[1] if len(levels) > 1 and levels[1] not in ("+", "#") else ""
    # Any id will do to see whether the rest of the filter fits.
    return one if matches(topic_filter, presence_topic(one or "id")) else None
