"""What the broker says of itself: the OpenAPI document, metrics, health.

``/healthz`` and ``/readyz`` answer anybody: whatever watches the process has no token. ``/metrics`` answers without one
only on the machine itself (a scraper beside the broker), otherwise it is the administrator's: its labels name protocols
and its figures show how a business runs. A request that came through a proxy is not "on the machine itself".
"""

from __future__ import annotations

from typing import Any

from broker.applications.http.api import api_of
from broker.applications.http.shapes import Health
from broker.applications.http.surface import request_token
from broker.listening.listener import is_loopback
from broker.model.errors import Forbidden
from broker.web.answers import Answer
from broker.web.problems import Problem
from broker.web.routes import ANYONE, API, Call, Route

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_PROXY_HEADERS = (b"forwarded", b"x-forwarded-for", b"via")


async def get_openapi(call: Call) -> Any:
    """This document."""
    return Answer(200, call.home.document)


async def get_metrics(call: Call) -> Any:
    """Figures for Prometheus. Without a token only from the machine itself."""
    headers = call.request.requestHeaders
    proxied = any(headers.hasHeader(name) for name in _PROXY_HEADERS)
    if proxied or not is_loopback(call.request.peer) or headers.hasHeader(b"authorization"):
        caller = await api_of(call).logins.identify(request_token(call.request), call.request.peer)
        if not caller.is_admin:
            raise Forbidden("only the administrator may do this")
    return Answer(200, call.core.exposition(), METRICS_TYPE)


async def get_health(call: Call) -> Any:
    """Whether the process answers at all, and what of its surroundings does not work."""
    return _health(call)


async def get_ready(call: Call) -> Any:
    """Whether the broker takes work, and if not, what keeps it."""
    problems = call.core.ready()
    if problems:
        return Answer(503, Health("unavailable", problems))
    return _health(call)


def _health(call: Call) -> Health:
    """A broker that misses something is still there and takes work: that is no error."""
    troubles = call.core.troubles()
    return Health("degraded", troubles) if troubles else Health("ok")


ROUTES = (
    Route("GET", f"{API}/openapi.json", get_openapi, ANYONE, answers=dict[str, Any]),
    Route(
        "GET",
        "/metrics",
        get_metrics,
        ANYONE,
        answers=str,
        content_type=METRICS_TYPE,
        also={401: (Problem, "Not on the machine itself, and no token")},
    ),
    Route("GET", "/healthz", get_health, ANYONE, answers=Health),
    Route("GET", "/readyz", get_ready, ANYONE, answers=Health, also={503: (Health, "Not ready")}),
)
