"""What apps may do on Gizwits topics; the same for people's apps and for applications with their own id and secret.

========================================  ==========================================================================
subscribe ``ser2cli_res/<client id>/#``   its own client id; nothing is sent there so far
subscribe ``dev2app/<did>``               a device that it has bound
subscribe ``dev2app/<did>/<client id>``   likewise, its own client id
publish ``app2dev/<did>/<client id>``     likewise
========================================  ==========================================================================

An application may use wildcards on ``dev2app``, and gets what it may see; people's apps name their devices. Nobody else
is let near these topics, whoever is logged in.

A publish that is no business message is dropped and counted; the third in a row closes the connection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol
from weakref import WeakKeyDictionary

from zope.interface import implementer

from broker.applications.gizwits.business import Business, Done
from broker.applications.gizwits.people import KIND, People, Person
from broker.core import Core
from broker.devices.gizwits.codec import Malformed
from broker.devices.gizwits.identity import PROTOCOL
from broker.devices.gizwits.topics import BROKER, split
from broker.model.errors import Unavailable
from broker.model.interfaces import IMqttSpace
from broker.mqtt.terms import Watched
from broker.storage.registry import Change

#: Wrong messages in a row after which a connection is closed.
MAX_WRONG: Final = 3
#: Bytes of an AppClientId: those of real apps have 23.
MAX_CLIENT_ID: Final = 64

Take = Callable[[bytes, int, Any, Done], None]


class AppClient(Protocol):
    """An app on one MQTT connection."""

    #: What commands say that they came from.
    name: str
    client_id: str

    def may_see(self, did: str) -> bool: ...

    def end(self, reason: str) -> None: ...


def usable_client_id(client_id: str) -> bool:
    """Whether it can stand in a topic, and is not the broker's own."""
    return 0 < len(client_id) <= MAX_CLIENT_ID and not set(client_id) & set("/+#\0") and client_id != BROKER


@implementer(IMqttSpace)
class AppTopics:
    """The rights; see `broker.model.interfaces.IMqttSpace` for the calls that applications' connections make."""

    def __init__(self, core: Core, people: People, business: Business) -> None:
        self._core = core
        self._people = people
        self._business = business
        #: Client -> how many of its messages were none, in a row.
        self._wrong: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
        #: Applications that are here with their secret -> the devices for which they were counted.
        self._counted: dict[Any, set[str]] = {}
        core.registry.on_change.append(self._changed)

    # -- rights ----------------------------------------------------------------------------------------------------

    def may_hear(self, client: AppClient, topic: str) -> bool:
        """Whether a message on this topic may reach this app; exact filters are asked about in the same way."""
        parts = split(topic)
        if parts is None:
            return topic.startswith("ser2cli_res/") and topic.split("/", 2)[1] == client.client_id != ""
        root, did, app = parts
        return root == "dev2app" and client.may_see(did) and (not app or app == client.client_id)

    def may_subscribe(self, client: AppClient, topic_filter: str) -> bool:
        if "+" in topic_filter or "#" in topic_filter:
            if topic_filter == f"ser2cli_res/{client.client_id}/#":
                return bool(client.client_id)
            # An application's; it is cut to what it may see.
            return topic_filter.startswith("dev2app/") and not isinstance(getattr(client, "person", None), Person)
        if not self.may_hear(client, topic_filter):
            return False
        parts = split(topic_filter)
        return parts is None or not parts[2] or self._is_own(client)

    def may_receive(self, client: AppClient, topic: str) -> bool:
        return self.may_hear(client, topic)

    def publisher(self, client: AppClient, topic: str) -> Watched | Take | bool:
        parts = split(topic)
        if parts is None:
            return False
        root, did, app = parts
        if root != "app2dev" or not app or app != client.client_id or not client.may_see(did):
            return False
        if not usable_client_id(app) or not self._is_own(client):
            return False
        live = self._core.devices.get(did)
        if live is not None and live.ref.protocol == PROTOCOL:
            return Watched(lambda payload: self._look(client, did, payload))

        def take(payload: bytes, qos: int, properties: Any, done: Done) -> None:
            def settled(error: Exception | None) -> None:
                # What is wrong with the message is settled; what storage could not keep has to come again.
                done(error if isinstance(error, Unavailable) else None)

            if self._look(client, did, payload):
                self._business.order(did, app, client.name, payload, settled)
            else:
                listener = self._core.listeners.get("mqtt")
                if listener is not None:
                    listener.stats.drop("malformed")
                done(None)

        return take

    def _look(self, client: AppClient, did: str, payload: bytes) -> bool:
        """Whether this is a business message; who sends too many that are not is closed."""
        try:
            self._business.look(did, payload)
        except Malformed:
            wrong = self._wrong[client] = self._wrong.get(client, 0) + 1
            if wrong >= MAX_WRONG:
                client.end("protocol_error")
            return False
        if self._wrong:
            self._wrong.pop(client, None)
        return True

    def _is_own(self, client: AppClient) -> bool:
        """Whether no other user's app has this client id: the answers to one app are for that one alone."""
        owner = self._people.owner_of(client.client_id)
        return owner is None or owner is getattr(client, "person", None)

    # -- applications with their secret ----------------------------------------------------------------------------

    def connected(self, client: Any) -> None:
        """An application is logged in; one of kind gizwits is an app like those of people."""
        if client.rights.kind == KIND:
            devices = self._counted[client] = set(client.rights.devices)
            self._people.count(devices, 1)

    def disconnected(self, client: Any) -> None:
        self._people.count(self._counted.pop(client, ()), -1)

    def _changed(self, change: Change) -> None:
        match change.what:
            case "bound" | "unbound":
                for client, devices in self._counted.items():
                    if client.rights.id == change.id:
                        self._recount(devices, change.other, change.what == "bound")
            case "device_removed":
                for devices in self._counted.values():
                    self._recount(devices, change.id, False)

    def _recount(self, devices: set[str], did: str, bound: bool) -> None:
        if (did in devices) == bound:
            return
        if bound:
            devices.add(did)
        else:
            devices.discard(did)
        self._people.count((did,), 1 if bound else -1)
