"""The HTTP side: the API of DESIGN §8, the WebSocket stream, ``/metrics``, ``/healthz`` and ``/readyz``.

::

    side.py      the calls, the listener      calls/      the calls themselves, a file a subject
    surface.py   how callers are taken        auth.py     who calls
    streams.py   the WebSocket clients        shapes.py   what is answered
    openapi.py   the document of the table    api.py      what calls share

The HTTP machinery itself is `broker.web`.
"""

from broker.applications.http.side import Settings, build

__all__ = ["Settings", "build"]
