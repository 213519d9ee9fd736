"""What the plugin loads: the settings of ``[listeners.http]`` and the listener made from them."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from broker.applications.http.api import Api
from broker.applications.http.auth import Logins
from broker.applications.http.calls import (
    about,
    applications,
    commands,
    devices,
    events,
    files,
    imports,
    products,
    quarantine,
    sinks,
    stream,
    traces,
)
from broker.applications.http.openapi import openapi_document
from broker.applications.http.settings import HttpSettings
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
    *quarantine.ROUTES,
    *events.ROUTES,
    *sinks.ROUTES,
    *stream.ROUTES,
    *traces.ROUTES,
    *about.ROUTES,
)


class HttpListener(WebListener):
    """The listener of the API: its own calls, and those that protocols put into `broker.core.Core.api_routes`."""

    def __init__(self, core: Core, settings: HttpSettings) -> None:
        super().__init__("http", core, settings, ApiSurface(), lambda: (*ROUTES, *core.api_routes))
        streams = Streams(core.router, self.stats, settings.max_streams, core.registry.on_change)
        core.announcements.append(streams.announce)
        core.events.watchers.append(streams.event)
        core.traces.watchers.append(streams.packet)
        self.api = Api(settings, Logins(core, self.login_failed), streams)

    @cached_property
    def document(self) -> bytes:
        """What ``GET /openapi.json`` answers."""
        return encode(openapi_document(self.table.routes))

    def reload(self, settings: WebSettings) -> tuple[str, ...]:
        assert isinstance(settings, HttpSettings)
        self.api.settings = settings
        self.api.streams.max_streams = settings.max_streams
        return super().reload(settings)


def build(core: Any, settings: Any) -> HttpListener:
    """The listener of the HTTP side (`broker.model.interfaces.IListenerSide`)."""
    return HttpListener(core, settings)
