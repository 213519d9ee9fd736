"""What the plugin loads: the settings of ``[listeners.http]`` and the listener made from them."""

from __future__ import annotations

from email.utils import formatdate
from functools import cache
from typing import Any

from twisted.internet.interfaces import IAddress

from broker.applications.http.api import Api
from broker.applications.http.auth import Logins
from broker.applications.http.calls import about, applications, commands, devices, imports, products, stream
from broker.applications.http.connection import HttpConnection
from broker.applications.http.openapi import openapi_document
from broker.applications.http.routes import Route, RouteTable
from broker.applications.http.settings import HttpSettings
from broker.applications.http.streams import Streams
from broker.core import Core
from broker.listening.listener import Listener
from broker.model.jsontext import encode

Settings = HttpSettings

ROUTES: tuple[Route, ...] = (
    *products.ROUTES,
    *devices.ROUTES,
    *imports.ROUTES,
    *commands.ROUTES,
    *applications.ROUTES,
    *stream.ROUTES,
    *about.ROUTES,
)


class HttpListener(Listener):
    """The factory of HTTP connections. In its figures messages in are requests, messages out answers and frames."""

    def __init__(self, core: Core, settings: HttpSettings) -> None:
        super().__init__("http", settings.limits, core.turn, core.reactor, core.clock, core.monotonic)
        streams = Streams(core.router, self.stats, settings.max_streams, core.registry.on_change)
        self.table = RouteTable(ROUTES)
        self.api = Api(core, settings, Logins(core, self.login_failed), streams, openapi_text())
        #: status -> how many answers had it
        self.answers: dict[int, int] = {}
        self._date = (0, b"")

    def connection_for(self, addr: IAddress | None) -> HttpConnection:
        return HttpConnection(self, str(getattr(addr, "host", "")), int(getattr(addr, "port", 0)))

    def reload(self, settings: HttpSettings) -> tuple[str, ...]:
        """Take new settings (SIGHUP); none of them needs a restart."""
        self.api.settings = settings
        self.api.streams.max_streams = settings.max_streams
        return ()

    def count_answer(self, status: int) -> None:
        self.stats.messages_out += 1
        self.answers[status] = self.answers.get(status, 0) + 1

    def http_date(self) -> bytes:
        """The Date header, made once a second."""
        now = int(self.clock())
        if self._date[0] != now:
            self._date = (now, formatdate(now, usegmt=True).encode("ascii"))
        return self._date[1]


@cache
def openapi_text() -> bytes:
    """The document that ``GET /openapi.json`` answers."""
    return encode(openapi_document(ROUTES))


def build(core: Any, settings: Any) -> HttpListener:
    """The listener of the HTTP side (`broker.model.interfaces.IListenerSide`)."""
    return HttpListener(core, settings)
