"""Signing in with a browser: the administrator's token once, then a cookie.

::

    POST /session {"token"}  ──> Set-Cookie: broker_session=...; HttpOnly; SameSite=Strict     {"csrf", "expires_at"}
    GET ... + cookie                        the administrator
    POST, PUT, PATCH, DELETE + cookie       the administrator, if X-CSRF-Token is the session's
    DELETE /session                         the end, also of the streams that were opened with it

A page's script cannot read the cookie; another site's page cannot have it sent (SameSite), cannot read the CSRF token,
and is refused by its Origin besides. Sessions are in memory, under the digest of their cookie: a restart ends them. One
that nobody used for ``session_idle`` is over, and each is after ``session_lifetime``.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from http.cookies import CookieError, SimpleCookie
from secrets import token_urlsafe
from typing import Any, Final
from urllib.parse import urlsplit

from broker.applications.http.settings import HttpSettings
from broker.model.errors import Forbidden
from broker.model.secrets import same_text

COOKIE: Final = "broker_session"
#: Methods that change nothing, so that a request of another site does no harm (RFC 9110, 9.2.1).
SAFE: Final = frozenset({b"GET", b"HEAD", b"OPTIONS"})
#: Of each cookie and CSRF token.
RANDOM_BYTES: Final = 32
#: Of a Cookie header that is looked at.
MAX_COOKIES: Final = 4_096


class Session:
    """One browser that has signed in. Times are monotonic seconds, but ``expires_at``, which is UNIX seconds."""

    __slots__ = ("csrf", "ended", "expires_at", "key", "until", "used")

    def __init__(self, key: bytes, now: float, until: float, expires_at: float, csrf: str = "") -> None:
        self.key = key
        self.csrf = csrf or token_urlsafe(RANDOM_BYTES)
        self.used = now
        self.until = until
        self.expires_at = expires_at
        self.ended = False


class Sessions:
    """All of them. ``clock`` gives UNIX seconds, ``monotonic`` seconds that never jump."""

    def __init__(self, settings: HttpSettings, clock: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self.settings = settings
        self._clock = clock
        self._monotonic = monotonic
        #: Digest of the cookie -> session, the oldest first.
        self._sessions: dict[bytes, Session] = {}
        #: Told of each that has ended.
        self.on_end: list[Callable[[Session], None]] = []
        #: Told of each that is used.
        self.on_use: list[Callable[[Session], None]] = []

    def __len__(self) -> int:
        return len(self._sessions)

    def begin(self) -> tuple[str, Session]:
        """A new session and the value of its cookie. The oldest ends where there are too many."""
        now, lifetime = self._monotonic(), self.settings.session_lifetime
        cookie = token_urlsafe(RANDOM_BYTES)
        session = Session(digest_of(cookie), now, now + lifetime, self._clock() + lifetime)
        self.take(session)
        return cookie, session

    def take(self, session: Session) -> None:
        """One more; the oldest end where there are too many."""
        while len(self._sessions) >= self.settings.max_sessions:
            self.end(next(iter(self._sessions.values())))
        self._sessions.setdefault(session.key, session)

    def find(self, key: bytes) -> Session | None:
        """By the digest of its cookie."""
        return self._sessions.get(key)

    def every(self) -> list[Session]:
        """The oldest first."""
        return list(self._sessions.values())

    def of(self, request: Any) -> Session | None:
        """The session that a request belongs to, if it has one that is not over."""
        cookie = cookie_of(request)
        session = None if cookie is None else self._sessions.get(digest_of(cookie))
        if session is None:
            return None
        now = self._monotonic()
        if now >= session.until or now - session.used >= self.settings.session_idle:
            self.end(session)
            return None
        session.used = now
        for told in self.on_use:
            told(session)
        return session

    def check(self, session: Session, request: Any) -> None:
        """Whether the request is the session's own page's. Raises Forbidden."""
        origin = header(request, b"origin")
        if origin is not None and not same_host(origin, header(request, b"host") or ""):
            raise Forbidden("the page that asks is another host's")
        if request.method in SAFE:
            return
        if not same_text(header(request, b"x-csrf-token") or "", session.csrf):
            raise Forbidden("X-CSRF-Token is missing, or is not this session's")

    def end(self, session: Session) -> None:
        """Harmless twice."""
        if self._sessions.pop(session.key, None) is not None:
            session.ended = True
            for told in self.on_end:
                told(session)

    def tick(self) -> None:
        """About once a second: end those whose time is over."""
        now, idle = self._monotonic(), self.settings.session_idle
        for session in list(self._sessions.values()):
            if now >= session.until or now - session.used >= idle:
                self.end(session)


def cookie_of(request: Any) -> str | None:
    """The value of our cookie in a request."""
    text = header(request, b"cookie")
    if text is None or len(text) > MAX_COOKIES:
        return None
    try:
        found = SimpleCookie(text).get(COOKIE)
    except CookieError:
        return None
    return None if found is None else found.value


def set_cookie(value: str, secure: bool, max_age: int) -> bytes:
    """The Set-Cookie header; an empty value and no age remove it."""
    parts = [f"{COOKIE}={value}", "Path=/", f"Max-Age={max_age}", "HttpOnly", "SameSite=Strict"]
    if secure:
        parts.append("Secure")
    return "; ".join(parts).encode("latin-1")


def digest_of(cookie: str) -> bytes:
    return sha256(cookie.encode("utf-8", "surrogatepass")).digest()


def header(request: Any, name: bytes) -> str | None:
    values = request.requestHeaders.getRawHeaders(name, [])
    return values[0].decode("latin-1") if values else None


def same_host(origin: str, host: str) -> bool:
    """Whether an Origin is of the host that was asked; ``null`` is nobody's."""
    try:
        return bool(host) and urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:
        return False
