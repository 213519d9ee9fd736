"""``/api/v1/session``: a browser signs in, asks who it is, signs out."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from twisted.internet.interfaces import ISSLTransport

from broker.applications.http.api import api_of
from broker.applications.http.sign_in import header, same_host, set_cookie
from broker.model.discreet import Discreet
from broker.model.errors import Forbidden
from broker.web.answers import Answer
from broker.web.problems import Problem
from broker.web.routes import ANYONE, API, Call, Route


class SignInBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Who signs in."""

    #: The administrator's token.
    token: Annotated[str, Meta(min_length=1, max_length=1024)]

    def __repr__(self) -> str:
        return "<SignInBody>"


class SessionShape(Discreet, msgspec.Struct):
    """Who is signed in."""

    #: Only the administrator can sign in.
    who: Literal["admin"]
    #: Has to come with every call of this session that changes something, as ``X-CSRF-Token``.
    csrf: str
    #: When the session is over at the latest (UNIX seconds).
    expires_at: float


async def sign_in(call: Call) -> Any:
    """Begin a session; the cookie is in the answer's head."""
    request = call.request
    origin = header(request, b"origin")
    if origin is not None and not same_host(origin, call.host):
        raise Forbidden("the page that asks is another host's")
    api = api_of(call)
    caller = await api.logins.identify(call.body.token, request.peer)
    if not caller.is_admin:
        raise Forbidden("only the administrator signs in here")
    before = api.sessions.of(request)
    if before is not None:
        api.sessions.end(before)
    cookie, session = api.sessions.begin()
    await api.across.announce(session)
    shape = SessionShape("admin", session.csrf, round(session.expires_at, 3))
    max_age = int(api.settings.session_lifetime)
    return Answer(200, shape, headers=((b"Set-Cookie", set_cookie(cookie, is_secure(call), max_age)),))


async def show_session(call: Call) -> Any:
    """The session of this browser; 204 where nobody is signed in."""
    session = api_of(call).sessions.of(call.request)
    if session is None:
        return Answer(204)
    return SessionShape("admin", session.csrf, round(session.expires_at, 3))


async def sign_out(call: Call) -> Any:
    """End it."""
    api = api_of(call)
    session = api.sessions.of(call.request)
    if session is not None:
        api.sessions.check(session, call.request)
        api.sessions.end(session)
    return Answer(204, headers=((b"Set-Cookie", set_cookie("", is_secure(call), 0)),))


def is_secure(call: Call) -> bool:
    """Whether the request came over TLS that ends here."""
    return bool(ISSLTransport.providedBy(call.request.connection.transport))


_WRONG = {401: (Problem, "Not the administrator's token")}

ROUTES = (
    Route("POST", f"{API}/session", sign_in, ANYONE, body=SignInBody, answers=SessionShape, also=_WRONG),
    Route("GET", f"{API}/session", show_session, ANYONE, answers=SessionShape, also={204: (None, "Nobody")}),
    Route("DELETE", f"{API}/session", sign_out, ANYONE, status=204),
)
