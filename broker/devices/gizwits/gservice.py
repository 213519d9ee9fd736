"""GService: the HTTP calls of devices (4.1 to 4.5).

Answers are ``name=value&...``, refusals JSON (`errors`). Agents search the whole answer for what they want and receive
once: so each leaves in one write and is short. A DID has to be the only thing behind ``did=``; the last value of the
provision needs something behind it, or agents run off its end.
"""

from __future__ import annotations

from typing import Any, Final

from broker.devices.gizwits import errors as e
from broker.devices.gizwits.forms import field, form_of
from broker.devices.gizwits.guesses import hold_back
from broker.devices.gizwits.hosts import m2m_address
from broker.devices.gizwits.newcomers import Newcomers
from broker.devices.gizwits.ota import TEXT, Ota, text
from broker.devices.gizwits.registration import Registration
from broker.devices.gizwits.side import GizwitsDevices
from broker.web.answers import Answer
from broker.web.routes import ANYONE, Call, Route

#: Agents say that the body is a form, or say nothing, or something else.
ANY_TYPE: Final = ("*/*",)


class GService:
    """The calls about devices themselves."""

    def __init__(self, devices: GizwitsDevices, registration: Registration) -> None:
        self._devices = devices
        self._registration = registration
        self._newcomers = Newcomers(devices.core.monotonic)

    def routes(self) -> tuple[Route, ...]:
        return (
            Route("POST", "/dev/devices", self.register, ANYONE, accepts=ANY_TYPE, lenient=True),
            Route("DELETE", "/dev/devices", self.disable, ANYONE, accepts=ANY_TYPE, lenient=True),
            Route("GET", "/dev/devices/{did}", self.provision, ANYONE, lenient=True),
        )

    async def register(self, call: Call) -> Any:
        """Register a device, for the first time or again (4.1)"""
        form = form_of(call.content)
        given = [field(form, name) for name in ("product_key", "mac", "passcode")]
        did = await self._registration.register(
            given[0], given[1], given[2], form.get("type") or "normal", lambda: self._admit(call)
        )
        return Answer(201, f"did={did}".encode(), TEXT)

    def _admit(self, call: Call) -> None:
        """Raises Refused for an address that has registered too many new devices."""
        host = call.request.peer
        most = self._devices.settings.max_new_devices_per_address
        if most and call.home.counts(host):
            self._newcomers.count(host, most)

    async def disable(self, call: Call) -> Any:
        """Disable a device, for itself (4.2)"""
        form = form_of(call.content)
        try:
            await self._registration.take_off(field(form, "did"), field(form, "passcode"))
        except e.Refused as error:
            await hold_back(call, error)
            raise
        return Answer(200)

    async def provision(self, call: Call) -> Any:
        """Where a device logs in over MQTT, and what time it is (4.3)"""
        record = await self._devices.get(call.path["did"])
        if record.disabled:
            raise e.Refused(e.DEVICE_DISABLED)
        host, port = m2m_address(self._devices, call)
        return text(f"host={host}&port={port}&server_ts={int(call.core.clock())}\r\n")


def routes(devices: GizwitsDevices) -> list[Route]:
    """Every call that devices make."""
    registration = Registration(devices)
    gservice = GService(devices, registration)
    return [*gservice.routes(), *Ota(devices, registration, devices.firmware).routes()]
