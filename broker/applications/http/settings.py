"""The ``[listeners.http]`` table."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from broker.listening.settings import Limits, Seconds, Size
from broker.web.settings import WebSettings


class HttpSettings(WebSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Besides the shared limits, of which ``max_message_size`` is the longest body of a request."""

    bind: tuple[str, ...] = ("tcp:8080:interface=127.0.0.1",)
    limits: Limits = Limits(max_message_size=1_048_576, max_connections=5_000, max_connections_per_address=200)
    #: Bytes of ``POST /devices/import``: ten thousand devices take about two megabytes.
    max_import_size: Size = 67_108_864
    #: The longest ``?wait=`` in seconds; longer ones are cut to it, as proxies give up at about that time.
    max_wait: Seconds = 60.0
    #: Open streams; each one costs every message a look.
    max_streams: Size = 1_000
    #: Browsers that may be signed in at once; the oldest goes. Seconds that one is without being used, and at most.
    max_sessions: Annotated[int, Meta(ge=1)] = 100
    session_idle: Seconds = 3_600.0
    session_lifetime: Seconds = 43_200.0
    #: Whether the console is served at ``/``.
    console: bool = True
    #: Seconds between pings to a stream's client; one that answers none of two is gone.
    stream_ping: Seconds = 30.0
    #: Bytes that a stream's client may send between two whole messages; it has nothing to say.
    max_stream_message: Size = 16_384
