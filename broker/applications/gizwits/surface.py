"""How GService takes its callers, and how it words a refusal: for apps and devices alike.

``X-Gizwits-Application-Id`` says which application calls, ``X-Gizwits-User-token`` which of its users. Ids of
applications are no secret, so what is open to `APP` is open to anybody who has seen one.
"""

from __future__ import annotations

from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from broker.applications.gizwits.people import People
from broker.devices.gizwits import errors as e
from broker.model.errors import BrokerError, LimitExceeded
from broker.web.answers import Answer
from broker.web.callers import Caller
from broker.web.routes import Route
from broker.web.surface import Surface

#: Who may call, besides those of `broker.web.routes`: an application; one of its users.
APP: Final = "gizwits application"
USER: Final = "gizwits user"

#: Refusals that only HTTP knows, and of a path that is none.
_OF_HTTP: Final = {
    "not-found": e.NOT_FOUND,
    "method-not-allowed": e.NOT_ALLOWED,
    "too-slow": e.TOO_SLOW,
    "too-large": e.TOO_LARGE,
    "unsupported-media-type": e.MEDIA_TYPE,
    "range-not-satisfiable": e.NOT_IN_FILE,
    "upgrade-required": e.WEBSOCKET_ONLY,
    "head-too-large": e.HEAD_TOO_LARGE,
}


class AppCaller(Caller):
    """An application, or one of its users: then ``uid`` and ``token`` are not empty."""

    __slots__ = ("app", "token", "uid")

    def __init__(self, app: str, uid: str = "", token: str = "") -> None:  # nosec B107 # no password
        super().__init__(f"user:{app}/{uid}" if uid else f"application:{app}", None)
        self.app = app
        self.uid = uid
        self.token = token


class GserviceSurface(Surface):
    """Refusals are ``{"error_message", "error_code", "detail_message"}``."""

    def __init__(self, people: People) -> None:
        self._people = people

    def admit(self, request: Any, route: Route) -> None:
        """Tokens, passwords, passcodes and MACs can be guessed in most calls, so all of them wait."""
        if request.connection.home.locked_out(request.peer):
            raise LimitExceeded("too many wrong tries from this address", limit="lockout_failed_logins")

    async def authenticate(self, request: Any, route: Route) -> Caller:
        try:
            app = _header(request, "X-Gizwits-Application-Id", e.APPID_INVALID)
            await self._people.application(app)
            if route.access == APP:
                return AppCaller(app)
            token = _header(request, "X-Gizwits-User-token", e.TOKEN_INVALID)
            record = await self._people.users.token(app, token)
        except e.Refused:
            await self.delay(request)
            raise
        return AppCaller(app, record.uid, token)

    async def delay(self, request: Any, failures: int = 1) -> None:
        """Somebody has guessed: count it, and wait as long as that address has to by now."""
        home = request.connection.home
        seconds = 0.0
        for _ in range(failures):
            seconds = home.login_failed(request.peer)
        if seconds:
            waited: Deferred[None] = deferLater(home.reactor, seconds)
            await waited

    def refusal(self, request: Any, error: BrokerError) -> Answer:
        if isinstance(error, e.Refused):
            refused = error
        elif error.slug in _OF_HTTP and (error.slug != "not-found" or request is None or request.route is None):
            refused = e.Refused(_OF_HTTP[error.slug], error.message)
        else:
            refused = e.refused(error)
        return Answer(refused.code.status, e.body_of(refused))


def _header(request: Any, name: str, missing: e.Code) -> str:
    """A header that has to be there, as short text. Raises Refused."""
    values = request.requestHeaders.getRawHeaders(name.encode(), [])
    text = values[0].decode("utf-8", "replace").strip() if len(values) == 1 else ""
    if not 0 < len(text) <= 128:
        raise e.Refused(missing)
    return text
