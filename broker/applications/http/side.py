"""What the plugin loads: the settings of ``[listeners.http]`` and the listener made from them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any

from broker.applications.http.api import Api
from broker.applications.http.assets import Console
from broker.applications.http.auth import Logins
from broker.applications.http.calls import (
    about,
    applications,
    commands,
    connections,
    devices,
    events,
    files,
    imports,
    overview,
    products,
    quarantine,
    session,
    sinks,
    stream,
    traces,
)
from broker.applications.http.openapi import openapi_document
from broker.applications.http.sessions_across import SessionsAcross
from broker.applications.http.settings import HttpSettings
from broker.applications.http.sign_in import Sessions
from broker.applications.http.streams import Streams
from broker.applications.http.surface import ApiSurface
from broker.core import Core
from broker.model.jsontext import encode
from broker.web.listener import WebListener
from broker.web.routes import Route
from broker.web.settings import WebSettings

Settings = HttpSettings

ROUTES: tuple[Route, ...] = (
    *products.ROUTES,
    *devices.ROUTES,
    *imports.ROUTES,
    *commands.ROUTES,
    *applications.ROUTES,
    *files.ROUTES,
    *connections.ROUTES,
    *quarantine.ROUTES,
    *session.ROUTES,
    *events.ROUTES,
    *sinks.ROUTES,
    *stream.ROUTES,
    *traces.ROUTES,
    *overview.ROUTES,
    *about.ROUTES,
)


class HttpListener(WebListener):
    """The listener of the API: its own calls, and those that protocols put into `broker.core.Core.api_routes`."""

    def __init__(self, core: Core, settings: HttpSettings) -> None:
        #: What a browser is given at ``/``; None where the settings have no console.
        self.console = Console() if settings.console else None
        super().__init__("http", core, settings, ApiSurface(), self._all_routes)
        streams = Streams(core.router, self.stats, settings.max_streams, core.registry.on_change)
        core.announcements.append(streams.announce)
        core.events.watchers.append(streams.event)
        core.traces.watchers.append(streams.packet)
        sessions = Sessions(settings, core.clock, core.monotonic)
        sessions.on_end.append(streams.signed_out)
        across = SessionsAcross(sessions, core)
        self.api = Api(settings, Logins(core, self.login_failed, self.locked_out), streams, sessions, across)

    async def prepare(self) -> None:
        await super().prepare()
        await self.api.across.begin()

    def _all_routes(self) -> Iterable[Route]:
        pages = () if self.console is None else self.console.routes()
        return (*ROUTES, *self.core.api_routes, *pages)

    @cached_property
    def document(self) -> bytes:
        """What ``GET /openapi.json`` answers."""
        return encode(openapi_document(self.table.routes))

    def tick(self) -> None:
        super().tick()
        self.api.sessions.tick()

    def reload(self, settings: WebSettings) -> tuple[str, ...]:
        assert isinstance(settings, HttpSettings)
        self.api.settings = self.api.sessions.settings = settings
        self.api.streams.max_streams = settings.max_streams
        changed = settings.console != (self.console is not None)
        return (*super().reload(settings), *(("console",) if changed else ()))


def build(core: Any, settings: Any) -> HttpListener:
    """The listener of the HTTP side (`broker.model.interfaces.IListenerSide`)."""
    return HttpListener(core, settings)
