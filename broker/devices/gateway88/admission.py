"""Whether a gateway may come in: what the registry says of its MAC, and what becomes of one that it does not know.

================  =====================================================================================================
``unknown``       a gateway that is not registered
================  =====================================================================================================
``quarantine``    is kept connected and answered, is shown to the administrator, is admitted as soon as it is approved
``accept``        is registered and admitted
``refuse``        is closed without an answer
================  =====================================================================================================

A gateway that is bound to a certificate is let in with that one only, whatever the setting says. One that stands in for
another is let in as that device, and the one that was replaced waits as if it were not registered (`succession`).
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from twisted.logger import Logger

from broker.core import Core
from broker.devices.gateway88.identity import CERTIFICATE, PROTOCOL, Shown
from broker.devices.gateway88.settings import Settings
from broker.devices.gateway88.succession import Succession
from broker.model.errors import Conflict, Disabled, Invalid, Unauthenticated, Unavailable
from broker.storage.deferred import deferred
from broker.storage.quarantine import Entry
from broker.storage.registry import Login

log = Logger(namespace="broker.gateway88")

#: Seconds between two looks whether a gateway in quarantine has been registered in some other way.
LOOK_AGAIN: Final = 10.0


class Refused(Exception):
    """It may not come in; ``reason`` is of the catalogue of close reasons."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Waiting(Protocol):
    """A connection whose gateway is in quarantine."""

    host: str

    def close(self, reason: str) -> None: ...

    def look_again(self) -> None:
        """See whether the gateway is known now."""


class Admission:
    """Asks for all connections of the listener."""

    def __init__(self, core: Core, settings: Settings, succession: Succession) -> None:
        self._core = core
        self._succession = succession
        self.settings = settings
        #: Connections in quarantine, by MAC.
        self._waiting: dict[str, Waiting] = {}
        core.quarantine.approvers[PROTOCOL] = self._approve

    @deferred
    async def look_up(self, mac: str, shown: Shown) -> Login | None:
        """None for a gateway that has to wait. Raises Refused."""
        device = self._succession.device_of(mac)
        try:
            login = await self._identify(mac, device)
            if self._succession.device_of(mac) != device:  # replaced while the registry was asked
                return await self.look_up(mac, shown)
            if login is None:
                return None
            bound_to = login.record.attributes.get(CERTIFICATE) or ""
            if not shown.fits(bound_to):
                log.warn("{mac} refused: not the certificate that it is bound to", mac=mac)
                raise Refused("auth_failed")
            if not bound_to and self.settings.pin_certificates and shown.fingerprint:
                log.info("{mac} is bound to the certificate {fingerprint}", mac=mac, fingerprint=shown.fingerprint)
                await self._core.registry.update_device(login.record.id, {CERTIFICATE: shown.fingerprint})
            return login
        except Disabled:
            log.info("{mac} refused: it is disabled", mac=mac)
            raise Refused("auth_failed") from None
        except Unavailable:
            raise Refused("unavailable") from None

    async def _identify(self, mac: str, device: str | None) -> Login | None:
        registry = self._core.registry
        try:
            if device is None:
                raise Unauthenticated("it was replaced")
            return await registry.identify_device(PROTOCOL, device)
        except Unauthenticated:
            if self.settings.unknown == "quarantine" or (device is None and self.settings.unknown == "accept"):
                return None
            if self.settings.unknown == "refuse":
                log.info("{mac} refused: it is not registered", mac=mac)
                raise Refused("auth_failed") from None
        try:
            await registry.add_device({"protocol": PROTOCOL, "id": mac})
            log.info("{mac} registered: it came and nobody knew it", mac=mac)
            return await registry.identify_device(PROTOCOL, mac)
        except (Conflict, Unauthenticated):  # the id is another protocol's, or was taken back this moment
            raise Refused("auth_failed") from None

    # -- quarantine ------------------------------------------------------------------------------------------------

    def wait(self, mac: str, connection: Waiting) -> bool:
        """A gateway has to wait for its approval; False if there is no room for more of them."""
        old = self._waiting.get(mac)
        if old is not None and old is not connection:
            old.close("takeover")
        elif old is None and len(self._waiting) >= self.settings.max_quarantined:
            log.warn("{mac} refused: {count} gateways wait for approval already", mac=mac, count=len(self._waiting))
            return False
        self._waiting[mac] = connection
        self.sighted(mac, connection)
        return True

    def sighted(self, mac: str, connection: Waiting, info: dict[str, Any] | None = None) -> None:
        """It said something; ``info`` is what it tells about itself, without secrets."""
        self._core.quarantine.seen(PROTOCOL, mac, connection.host, info)

    def leave(self, mac: str, connection: Waiting) -> None:
        """It waits no longer; harmless twice."""
        if self._waiting.get(mac) is connection:
            del self._waiting[mac]

    @deferred
    async def _approve(self, entry: Entry, fields: dict[str, Any]) -> dict[str, Any]:
        """The administrator has approved a MAC; ``fields`` are those of POST /devices. Raises Invalid, Conflict."""
        if {"protocol", "id"} & fields.keys():
            raise Invalid("protocol and id are known already")
        if self._succession.device_of(entry.id) is None:
            raise Conflict(f"{entry.id} was replaced; DELETE /gateways/{entry.id}/replacement is the way back")
        record, _ = await self._core.registry.add_device({**fields, "protocol": PROTOCOL, "id": entry.id})
        self.look_again(entry.id)
        return {"id": record.id, "protocol": PROTOCOL}

    def look_again(self, mac: str) -> None:
        """Whether a gateway that waits may come in now."""
        connection = self._waiting.get(mac)
        if connection is not None:
            connection.look_again()
