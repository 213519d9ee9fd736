"""Looking at every packet of a device: in the log (namespace ``broker.trace``), and in ``GET /stream?kind=trace``."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from broker.applications.http.calls.devices import DevicePath
from broker.web.problems import Problem
from broker.web.routes import ADMIN, API, Call, Route


class TraceBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """For how long."""

    #: Seconds from now; if the device is traced already, they count anew.
    seconds: Annotated[float, Meta(gt=0)] = 600.0


class TraceShape(msgspec.Struct):
    """A device that is traced."""

    #: Its id.
    device: str
    #: When that ends (UNIX seconds).
    until: float


class TracePage(msgspec.Struct):
    """All of them, by id."""

    #: The devices that are traced.
    items: list[TraceShape]
    #: Always null: this is the whole list.
    next: None = None


async def begin_trace(call: Call) -> Any:
    """Trace a device for a while; one that is away is traced when it comes."""
    record = await call.core.registry.get_device(call.path["id"])
    return TraceShape(record.id, round(call.core.traces.begin(record.id, call.body.seconds), 3))


async def end_trace(call: Call) -> Any:
    """Stop."""
    call.core.traces.end(call.path["id"])


async def list_traces(call: Call) -> Any:
    """Which devices are traced."""
    return TracePage([TraceShape(device, round(until, 3)) for device, until in call.core.traces.every()])


ROUTES = (
    Route(
        "PUT",
        f"{API}/devices/{{id}}/trace",
        begin_trace,
        ADMIN,
        body=TraceBody,
        bodiless=True,
        answers=TraceShape,
        also={429: (Problem, "Too many devices are traced")},
        path_shape=DevicePath,
    ),
    Route("DELETE", f"{API}/devices/{{id}}/trace", end_trace, ADMIN, status=204, path_shape=DevicePath),
    Route("GET", f"{API}/traces", list_traces, ADMIN, answers=TracePage),
)
