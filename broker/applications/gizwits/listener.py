"""The listener ``gservice``: the HTTP that Gizwits devices and apps call, and what stands behind it over MQTT."""

from __future__ import annotations

from broker.applications.gizwits import sockets
from broker.applications.gizwits.calls import control, devices, users
from broker.applications.gizwits.calls.admin import admin_routes
from broker.applications.gizwits.passwords import Passwords
from broker.applications.gizwits.settings import Settings
from broker.applications.gizwits.side import Side, threads_of
from broker.core import Core
from broker.devices.gizwits import build_devices, gservice
from broker.web.listener import WebListener
from broker.web.routes import Route
from broker.web.settings import WebSettings

ROUTES: tuple[Route, ...] = (*users.ROUTES, *devices.ROUTES, *control.ROUTES, *sockets.ROUTES)


class GserviceListener(WebListener):
    """Devices' calls and apps' calls on one port."""

    def __init__(self, core: Core, settings: Settings, side: Side) -> None:
        super().__init__("gservice", core, settings, side.surface, lambda: (*gservice.routes(side.devices), *ROUTES))
        self.side = side

    async def prepare(self) -> None:
        await super().prepare()
        await self.side.devices.prepare()
        self.side.people.tidy()

    def reload(self, settings: WebSettings) -> tuple[str, ...]:
        assert isinstance(settings, Settings)
        self.side.limits = self.side.users.limits = settings.users
        self.side.devices.settings = settings
        return super().reload(settings)


def build(core: Core, settings: Settings) -> GserviceListener:
    """Both sides of Gizwits, and the listener."""
    gizwits = build_devices(core, settings)
    side = Side(core, settings.users, gizwits, Passwords(threads_of(core.reactor)))
    core.api_routes.extend(admin_routes(side))
    return GserviceListener(core, settings, side)
