"""How the API takes its callers: bearer tokens, or a browser's session; long bodies are the administrator's alone."""

from __future__ import annotations

from typing import Any

from broker.applications.http.auth import KINDS, bearer_token
from broker.core import Core
from broker.web.callers import ADMINISTRATOR, Caller
from broker.web.routes import Route
from broker.web.surface import Surface


class ApiSurface(Surface):
    """Refusals are problem documents, as the base has them."""

    async def authenticate(self, request: Any, route: Route) -> Caller:
        api = request.connection.home.api
        token = request_token(request)
        if token is None:
            session = api.sessions.of(request)
            if session is not None:
                api.sessions.check(session, request)
                return ADMINISTRATOR
        caller: Caller = await api.logins.identify(token, request.peer)
        return caller

    async def known(self, core: Core, application: str) -> Caller:
        return Caller(f"application:{application}", await core.registry.known_application(application, KINDS))

    def max_body(self, request: Any, route: Route) -> int:
        """More than the usual size is taken only where the route expects it and only from the administrator."""
        home = request.connection.home
        if (route.streamed or route.upload) and self._is_admin(request):
            return int(home.settings.max_upload if route.upload else home.settings.max_import_size)
        return int(home.limits.max_message_size)

    @staticmethod
    def _is_admin(request: Any) -> bool:
        api, token = request.connection.home.api, request_token(request)
        return bool(api.sessions.of(request) if token is None else api.logins.is_admin(token))


def request_token(request: Any) -> str | None:
    """The token that a request came with. Raises Unauthenticated for another kind of Authorization."""
    values = request.requestHeaders.getRawHeaders(b"authorization", [])
    return bearer_token([value.decode("utf-8", "replace") for value in values])
