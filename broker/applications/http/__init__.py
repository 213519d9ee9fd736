"""The HTTP side: the API of DESIGN §8, the WebSocket stream, ``/metrics``, ``/healthz`` and ``/readyz``.

::

    routes.py      the table of calls            calls/       the calls themselves, a file a subject
    request.py     one request on its way        auth.py      who calls
    connection.py  one connection                streams.py   the WebSocket clients
    openapi.py     the document of the table     shapes.py    what is answered
    problems.py    what is refused, and how      side.py      settings, listener
"""

from broker.applications.http.side import Settings, build

__all__ = ["Settings", "build"]
