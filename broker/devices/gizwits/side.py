"""The device side of Gizwits: who may log in over MQTT, and what the application side and GService ask of it."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from twisted.internet.defer import DeferredLock
from twisted.logger import Logger
from zope.interface import implementer

from broker.core import Core
from broker.devices.gizwits.apps_across import AppsAcross
from broker.devices.gizwits.apps_online import AppsOnline
from broker.devices.gizwits.errors import DEVICE_NOT_FOUND, Refused
from broker.devices.gizwits.firmware import FirmwareStore
from broker.devices.gizwits.identity import PROTOCOL, DeviceRules, MacIndex, canonical_mac, is_did
from broker.devices.gizwits.log_switches import setting
from broker.devices.gizwits.notices import Notices
from broker.devices.gizwits.principal import QOS, DevicePrincipal, serial_number
from broker.devices.gizwits.settings import DeviceSettings
from broker.devices.gizwits.switches import USUAL, Switches
from broker.devices.gizwits.topics import command_topic, response_topic
from broker.devices.gizwits.updates import GizwitsUpdater
from broker.model.errors import BrokerError
from broker.model.interfaces import IMqttIdentities
from broker.model.records import DeviceQuery, DeviceRecord
from broker.mqtt.delivery import deliver
from broker.storage.deferred import deferred
from broker.storage.records import Records
from broker.storage.registry import Change

#: The table of what is particular to products.
SWITCHES: Final = "gizwits_switches"
#: Acknowledgements that may be waited for, of all devices; the oldest goes first, and is then too late.
MAX_WAITING: Final = 100_000
#: Seconds for which a log-in may be under way.
NEWS_LAST: Final = 60.0
#: Devices that are read at once at the start.
PAGE: Final = 1_000
#: Changes in the registry that end a device's connection.
ENDING: Final = frozenset({"device_removed", "device_disabled", "device_secret"})


@implementer(IMqttIdentities)
class DeviceIdentities:
    """Log-in of devices: user name and client id are the DID, the password is the passcode (4.6)."""

    def __init__(self, side: GizwitsDevices) -> None:
        self._side = side

    def claims(self, client_id: str, username: str | None) -> bool:
        return username is not None and username == client_id and is_did(username)

    @deferred
    async def login(self, client_id: str, username: str | None, password: bytes | None, peer: str) -> DevicePrincipal:
        """See `IMqttIdentities.login`."""
        side = self._side
        passcode = (password or b"").decode("utf-8", "replace")
        try:
            login = await side.core.registry.login_device(PROTOCOL, client_id, passcode)
        except BrokerError as error:
            error.details["close_after"] = side.settings.refusal_delay
            raise
        return DevicePrincipal(side, login, side.switches(login.record.product), peer)


class GizwitsDevices:
    """All that is shared by the devices of one broker."""

    log = Logger(namespace="broker.gizwits")

    def __init__(self, core: Core, settings: DeviceSettings) -> None:
        self.core = core
        self.settings = settings
        self.index = MacIndex()
        self.online = AppsOnline(self.tell)
        #: (did, serial number) -> id of the command that waits for its acknowledgement, oldest first.
        self.waiting: dict[tuple[str, int], str] = {}
        #: What is particular to the agents of products, by their keys; all of it, from `prepare` on.
        self._switches: dict[str, Switches] = {}
        self._kept_switches = Records(core.storage, SWITCHES, Switches)
        self.firmware = FirmwareStore(core)
        self.notices = Notices(core, self.tell, lambda: self.settings.public_host)
        self.updates = GizwitsUpdater(core, self.firmware, self.tell, lambda: self.settings.public_host)
        self._info_lock = DeferredLock()
        #: DID -> (when, what has changed in its info), of devices that were not connected then.
        self._news: dict[str, tuple[float, dict[str, Any]]] = {}
        if not core.backplane.alone:
            AppsAcross(core, self.online, self._is_greeted).begin()
            core.backplane.hear("giz.log", self._heard_of_log)
        core.backplane.hear("giz.switches", self._switched)
        core.updaters[PROTOCOL] = self.updates
        core.registry.protocols[PROTOCOL] = DeviceRules(self.index)
        core.registry.on_change.append(self._changed)
        core.mqtt_identities.append(DeviceIdentities(self))

    async def prepare(self) -> None:
        """Find out about the devices whose DIDs cannot be derived, about firmware and switches. Raises Unavailable."""
        await self.firmware.load()
        self.updates.join()
        self._switches = dict(await self._kept_switches.all())
        cursor: str | None = None
        while True:
            query = DeviceQuery(protocol=PROTOCOL)
            records, cursor = await self.core.registry.list_devices(query, PAGE, cursor)
            for record in records:
                self.index.note_record(record)
            if cursor is None:
                return

    # -- for the application side ----------------------------------------------------------------------------------

    def apps_online(self, did: str, count: int) -> None:
        """So many bound apps are online here; the device is told when it changes."""
        self.online.change(did, count)

    def _is_greeted(self, did: str) -> bool:
        link = self.link(did)
        return link is not None and link.greeted

    def send(self, did: str, app: str, payload: bytes) -> bool:
        """Give the device a business message as coming from the app with this client id; whether it is there.

        ``payload`` is a whole frame (`codec`).
        """
        route = self.core.topics.route(command_topic(did, app))
        deliver(route, payload, QOS)
        return bool(route.targets)

    @deferred
    async def get(self, did: str) -> DeviceRecord:
        """A device by its DID. Raises Refused, Unavailable."""
        record = await self.core.registry.find_device(did) if is_did(did) else None
        if record is None or record.protocol != PROTOCOL:
            raise Refused(DEVICE_NOT_FOUND)
        return record

    @deferred
    async def find(self, product: str, mac: str) -> DeviceRecord | None:
        """The device of this product with this MAC, in whatever spelling. Fails with Unavailable."""
        known = canonical_mac(mac)
        if known is None:
            return None
        for did in self.index.candidates(product, known):
            record = await self.core.registry.find_device(did)
            if record is None or record.protocol != PROTOCOL:
                continue
            if record.product == product and canonical_mac(record.attributes.get("mac")) == known:
                return record
        return None

    def log_was_set(self, did: str, bits: int) -> None:
        """An app has sent the device a log setting."""
        live = self.core.devices.get(did)
        if live is not None:
            live.info["log"] = setting(bits, sent=True)
            live.info_changed = True
            return
        node = self.core.whereabouts.node_of(did)
        if node:
            self.core.backplane.cast("giz.log", msgspec.msgpack.encode((did, bits)), node)

    def _heard_of_log(self, node: str, body: bytes) -> None:
        """An app at another process has."""
        did, bits = msgspec.msgpack.decode(body, type=tuple[str, int])
        if self.core.devices.get(did) is not None:
            self.log_was_set(did, bits)

    # -- for the rest of the device side ---------------------------------------------------------------------------

    def switches(self, product: str | None) -> Switches:
        """Those of a product."""
        return self._switches.get(product or "", USUAL)

    @deferred
    async def set_switches(self, product: str, switches: Switches) -> None:
        """Keep them; they count from the next log-in on. Fails with Unavailable."""
        await self._kept_switches.put(product, switches)
        self._switches[product] = switches
        if not self.core.backplane.alone:
            self.core.backplane.tell("giz.switches", msgspec.msgpack.encode((product, switches)))

    def _switched(self, node: str, body: bytes) -> None:
        """Another process has."""
        if node != self.core.backplane.node:
            product, switches = msgspec.msgpack.decode(body, type=tuple[str, Switches])
            self._switches[product] = switches

    def tell(self, did: str, payload: bytes) -> None:
        """Give the device a system message, if it is there."""
        deliver(self.core.topics.route(response_topic(did)), payload, QOS)

    def link(self, did: str) -> DevicePrincipal | None:
        """The device's connection, if it has one."""
        live = self.core.devices.get(did)
        link = live.link if live is not None else None
        return link if isinstance(link, DevicePrincipal) else None

    @deferred
    async def set_log(self, did: str, bits: int) -> bool:
        """Have a device log so: at once, or when it is back. Whether it was sent. Fails with NotFound, Unavailable."""
        link = self.link(did)
        if link is not None:
            return link.set_log(bits)
        await self.update_info(did, {"log": setting(bits, sent=False)})
        return False

    @deferred
    async def update_info(self, did: str, changes: dict[str, Any]) -> None:
        """Change what is known of a device, connected or not. Fails with NotFound, Unavailable."""
        async with self._info_lock:
            record = None if self.core.devices.get(did) is not None else await self.core.registry.get_device(did)
            live = self.core.devices.get(did)  # it may have come meanwhile
            if live is not None:
                live.info.update(changes)
                self._news.pop(did, None)
                live.info_changed = True
            elif record is not None:
                self._note_news(did, changes)
                await self.core.storage.save_info(did, {**record.info, **changes})

    def take_news(self, did: str) -> dict[str, Any]:
        """What was told of a device lately, while it was not connected: the log-in that now ends may not know it."""
        found = self._news.pop(did, None)
        return {} if found is None else found[1]

    def _note_news(self, did: str, changes: dict[str, Any]) -> None:
        now, news = self.core.monotonic(), self._news
        news[did] = (now, {**self.take_news(did), **changes})
        while news and next(iter(news.values()))[0] < now - NEWS_LAST:
            del news[next(iter(news))]

    def subscribed(self, did: str) -> None:
        """A device has begun to listen to what it is told."""
        self.online.greet(did)
        self.updates.subscribed(did)

    def wait_for(self, did: str, sn: int, command_id: str) -> None:
        """An acknowledgement with this number is the command's."""
        if len(self.waiting) >= MAX_WAITING:
            del self.waiting[next(iter(self.waiting))]
        self.waiting[did, sn] = command_id

    def acknowledged(self, did: str, sn: int) -> str | None:
        """The command that waited for this number; also one that an earlier process has sent."""
        command_id = self.waiting.pop((did, sn), None)
        if command_id is None:
            for command in self.core.commands.unanswered(did):
                if command.options.get("ack") and serial_number(command.id) == sn:
                    return command.id
        return command_id

    def _changed(self, change: Change) -> None:
        """The registry changed: a device that is no longer welcome has to leave."""
        if change.what in ENDING:
            link = self.link(change.id)
            if link is not None:
                link.close_link("removed")
