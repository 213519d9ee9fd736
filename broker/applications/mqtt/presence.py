"""The retained messages on ``devices/<id>/presence``.

They are not kept a second time: whoever subscribes gets each matching device's present state, from the live devices or
else from storage. A device that was never here has none. This may take a moment; changes that come meanwhile reach the
subscriber by themselves, and as the live state is asked when storage has answered, never in the wrong order.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any, Final

from twisted.internet.defer import Deferred, inlineCallbacks, succeed

from broker.applications.mqtt.topics import presence_topic, presence_wanted
from broker.core import Core
from broker.model.messages import Presence
from broker.model.records import DeviceQuery, DeviceRecord
from broker.mqtt.retained import Page
from broker.routing.live import LiveDevice

#: Devices read from storage at once.
PAGE: Final = 500


class PresenceRetained:
    """Tells new subscriptions what they have to know."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def page(self, topic_filter: str, application: str | None, cursor: str | None) -> Deferred[Page] | None:
        """See `IMqttPrincipal.retained`. ``application``: whose devices are looked at; None for all."""
        wanted = presence_wanted(topic_filter)
        if wanted is None:
            return None
        if not wanted:
            return self._many(DeviceQuery(application=application), cursor)
        live = self._live(wanted)
        return self._one(wanted) if live is None else succeed((_messages([_live(live)]), None))

    def _live(self, device_id: str) -> LiveDevice | None:
        """The device, unless another process knows better."""
        live = self._core.devices.get(device_id)
        return live if live is None or live.online or not self._core.whereabouts.online(device_id) else None

    @inlineCallbacks
    def _one(self, device_id: str) -> Generator[Deferred[Any], Any, Page]:
        record = yield self._core.registry.find_device(device_id)
        return _messages([] if record is None else [self._of(record)]), None

    @inlineCallbacks
    def _many(self, query: DeviceQuery, cursor: str | None) -> Generator[Deferred[Any], Any, Page]:
        records, further = yield self._core.registry.list_devices(query, PAGE, cursor)
        return _messages(self._of(record) for record in records), further

    def _of(self, record: DeviceRecord) -> Presence | None:
        """What is known of a registered device."""
        live = self._live(record.id)
        if live is not None:
            return _live(live)
        if not record.online and self._core.whereabouts.online(record.id):  # storage is a second behind
            return Presence(record.ref(), True, "connected", self._core.clock())
        if record.presence_at is None:
            return None
        return Presence(record.ref(), record.online, record.presence_reason, record.presence_at)


def _live(live: LiveDevice) -> Presence:
    return Presence(live.ref, live.online, live.presence_reason, live.since)


def _messages(states: Iterable[Presence | None]) -> list[tuple[str, bytes]]:
    return [(presence_topic(state.device.id), state.as_json()) for state in states if state is not None]
