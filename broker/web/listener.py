"""A listener that speaks HTTP: a surface and a table of routes, with the limits and figures of every listener."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from email.utils import formatdate
from functools import cached_property
from typing import ClassVar

from twisted.internet.interfaces import IAddress

from broker.core import Core
from broker.listening.listener import Listener
from broker.web.afar import FarCalls
from broker.web.answers import Fields, has_body, head
from broker.web.connection import WebConnection
from broker.web.routes import Route, RouteTable
from broker.web.settings import WebSettings
from broker.web.surface import Surface


class WebListener(Listener):
    """The factory of HTTP connections. In its figures messages in are requests, messages out answers and frames.

    ``routes()`` is asked once, when the table is first needed: other sides may be built, and add theirs, until then.
    """

    one_login: ClassVar[bool] = False

    def __init__(
        self, name: str, core: Core, settings: WebSettings, surface: Surface, routes: Callable[[], Iterable[Route]]
    ) -> None:
        super().__init__(name, settings.limits, core.turn, core.reactor, core.clock, core.monotonic)
        self.core = core
        self.settings = settings
        self.surface = surface
        self._routes = routes
        #: Calls that other processes have to answer, or ask us for.
        self.afar = FarCalls(self)
        #: status -> how many answers had it
        self.answers: dict[int, int] = {}
        self._date = (0, b"")

    @cached_property
    def table(self) -> RouteTable:
        return RouteTable(self._routes())

    async def prepare(self) -> None:
        """Every side is built: two routes for one call are found now and not by the first request."""
        assert self.table is not None
        self.afar.begin()

    def connection_for(self, addr: IAddress | None) -> WebConnection:
        return WebConnection(self, str(getattr(addr, "host", "")), int(getattr(addr, "port", 0)))

    def reload(self, settings: WebSettings) -> tuple[str, ...]:
        """Take new settings (SIGHUP); none of them needs a restart."""
        self.settings = settings
        return ()

    def head(
        self, version: bytes, status: int, media: bytes | None, length: int, own: Fields = (), more: Fields = ()
    ) -> bytes:
        """The head of an answer with a body of ``length`` bytes; counts it. ``own`` fields replace the usual ones."""
        self.count_answer(status)
        usual = [(b"Server", b"broker"), (b"Date", self.http_date()), *self.surface.headers]
        if media is not None:
            usual.append((b"Content-Type", media))
        if has_body(status):
            usual.append((b"Content-Length", b"%d" % length))
        return head(version, status, (*usual, *more), own)

    def count_answer(self, status: int) -> None:
        self.stats.messages_out += 1
        self.answers[status] = self.answers.get(status, 0) + 1

    def http_date(self) -> bytes:
        """The Date header, made once a second."""
        now = int(self.clock())
        if self._date[0] != now:
            self._date = (now, formatdate(now, usegmt=True).encode("ascii"))
        return self._date[1]
