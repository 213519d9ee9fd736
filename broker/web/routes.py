"""The table of calls: the one place that says which paths exist, who may call them and what goes in and out.

Requests are looked up in it, and what describes the calls (the API's OpenAPI document) is written from it, so neither
can know a call that the other does not.

::

    Route("GET", "/api/v1/devices/{id}", get_device, APPLICATION, answers=Device)
           │             │                   │            │                 └ what the 2xx answer holds
           │             └ {name}: one segment            └ the least that the caller has to be
           └ method                          └ async def get_device(call: Call) -> Any
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, get_origin
from urllib.parse import unquote_to_bytes

import msgspec
from twisted.internet.defer import Deferred

from broker.core import Core
from broker.model.errors import NotFound
from broker.web.answers import JSON
from broker.web.callers import Caller
from broker.web.forms import FORM, form_fields
from broker.web.problems import MethodNotAllowed, UnsupportedMedia

#: Where the API's own calls are, those that protocols add to `broker.core.Core.api_routes` too.
API: Final = "/api/v1"

#: Who may call. An application sees only its own devices; which these are is each call's own look-up.
ANYONE: Final = "anyone"
APPLICATION: Final = "application"
ADMIN: Final = "admin"

NDJSON: Final = "application/x-ndjson"


@dataclass(slots=True)
class Call:
    """One request on its way through a route. ``body`` and ``query`` are what the route's types say, checked."""

    core: Core
    caller: Caller
    path: dict[str, str]
    query: Any
    body: Any
    #: The `broker.web.request.WebRequest`, for the calls that wait or look at what else was sent.
    request: Any
    #: The body of an ``upload`` route, read while it comes.
    upload: Any = None
    #: Another process of the broker asks, and wants to know of this one alone.
    alone: bool = False

    def everywhere(self) -> Deferred[list[Any]]:
        """What the other processes answer to the same call, decoded from JSON; see `broker.web.afar.FarCalls`."""
        others: Deferred[list[Any]] = self.home.afar.everywhere(self)
        return others

    @property
    def home(self) -> Any:
        """The `broker.web.listener.WebListener` that the request came to."""
        return self.request.connection.home

    @property
    def content(self) -> bytes:
        """The body as it came."""
        return self.request.raw_body()  # type: ignore[no-any-return]  # the request is typed above this module

    @property
    def host(self) -> str:
        """The Host header, empty without one."""
        return self.header("host") or ""

    def header(self, name: str) -> str | None:
        """The first header of that name, in any case, as text."""
        values = self.request.requestHeaders.getRawHeaders(name.encode("latin-1"), [])
        return values[0].decode("utf-8", "replace") if values else None

    def arguments(self) -> dict[str, list[str]]:
        """All query parameters as they came. Raises Invalid: not UTF-8."""
        return self.request.arguments()  # type: ignore[no-any-return]  # as above

    def form_fields(self) -> list[tuple[str, str]]:
        """The fields of a form in their order, whatever the method. Raises Invalid, UnsupportedMedia.

        A body without a Content-Type counts as a form.
        """
        given = self.header("content-type")
        if given is not None and given.partition(";")[0].strip().lower() != FORM:
            raise UnsupportedMedia(f"the body has to be {FORM}", accepts=[FORM])
        return form_fields(self.content)

    def form(self) -> dict[str, str]:
        """The same by name; of a repeated one the last counts."""
        return dict(self.form_fields())


#: What answers a call: a value of the type that its route says, an `Answer`, a `FileAnswer` or a `WebSocketPeer`.
Handler = Callable[[Call], Awaitable[Any]]


@dataclass(frozen=True)
class Route:
    """One call. ``answers`` is the type of the usual answer (None: no content), ``status`` its status code."""

    method: str
    path: str
    handler: Handler
    access: str
    answers: Any = None
    status: int = 200
    body: Any = None
    #: What the document says of the body, where that is more than ``body`` (the protocols' own fields).
    describes: Any = None
    #: The body may be left out, which says as much as an empty object.
    bodiless: bool = False
    query: Any = None
    #: A Struct whose fields are the parameters of the path, for the document: the handler has them as texts.
    path_shape: Any = None
    #: Content types that the body may have; ``*/*`` for any.
    accepts: tuple[str, ...] = (JSON,)
    #: The body is given to the handler unread, as a file (``request.content``); how long it may be the surface says.
    streamed: bool = False
    #: The handler begins with the head and reads the body while it comes: ``call.upload``. With a ``body`` its
    #: Content-Type has to be one of ``accepts``, else it may be any.
    upload: bool = False
    #: The handler returns a `broker.web.websocket.WebSocketPeer`; see `WebSocketRoute` there.
    websocket: bool = False
    any_origin: bool = False
    #: The path holds a secret and is in no line of the log.
    private: bool = False
    #: No call but a page or a file: the document does not have it.
    hidden: bool = False
    #: Query parameters that ``query`` does not know are ignored instead of refused.
    lenient: bool = False
    #: Further answers for the document: status -> (type, description).
    also: dict[int, tuple[Any, str]] = field(default_factory=dict)
    content_type: str = JSON
    #: What it is about is done by one process of the broker (`broker.cluster.duty`), which is asked. Not for calls that
    #: stream or look at more of a request than path, query and body.
    duty: str = ""
    #: A token is needed although the route's access does not say so: the call looks at it itself.
    secured: bool = False

    @cached_property
    def lists(self) -> frozenset[str]:
        """The query parameters that may be repeated."""
        if self.query is None:
            return frozenset()
        fields = msgspec.structs.fields(self.query)
        return frozenset(one.encode_name for one in fields if get_origin(one.type) is list)

    @property
    def summary(self) -> str:
        return (self.handler.__doc__ or "").strip().split("\n")[0].rstrip(".")


class _Node:
    __slots__ = ("any", "methods", "named", "names")

    def __init__(self) -> None:
        self.named: dict[str, _Node] = {}
        self.any: _Node | None = None
        #: method -> (route, names of its path parameters)
        self.methods: dict[str, Route] = {}
        self.names: tuple[str, ...] = ()


class RouteTable:
    """All routes, found by path in one step a segment."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)
        self._root = _Node()
        for route in self.routes:
            self._add(route)

    def find(self, method: str, path: bytes) -> tuple[Route, dict[str, str]]:
        """The route of a request and its path parameters. HEAD finds GET.

        Raises NotFound (no such path), MethodNotAllowed (with the ``Allow`` header).
        """
        node, values = self._walk(path)
        route = node.methods.get("GET" if method == "HEAD" else method)
        if route is None:
            allow = ", ".join(self._allowed(node))
            raise MethodNotAllowed(
                f"{method[:32]} is not possible here, but {allow}", headers=((b"Allow", allow.encode()),)
            )
        return route, dict(zip(node.names, values, strict=True))

    def allowed(self, path: bytes) -> tuple[str, ...]:
        """The methods of a path, for OPTIONS. Raises NotFound."""
        return self._allowed(self._walk(path)[0])

    @staticmethod
    def _allowed(node: _Node) -> tuple[str, ...]:
        methods = {*node.methods, "OPTIONS"}
        if "GET" in methods:
            methods.add("HEAD")
        return tuple(sorted(methods))

    def _walk(self, path: bytes) -> tuple[_Node, list[str]]:
        if not path.startswith(b"/"):
            raise NotFound("no such path")
        try:
            segments = [unquote_to_bytes(part).decode() for part in path[1:].split(b"/")]
        except ValueError:
            raise NotFound("no such path: it is not UTF-8") from None
        node: _Node | None = self._root
        values: list[str] = []
        for segment in segments:
            assert node is not None
            below = node.named.get(segment)
            if below is None and node.any is not None and segment:
                below = node.any
                values.append(segment)
            node = below
            if node is None:
                break
        if node is None or not node.methods:
            raise NotFound("no such path")
        return node, values

    def _add(self, route: Route) -> None:
        node = self._root
        names: list[str] = []
        for segment in route.path[1:].split("/"):
            if segment.startswith("{"):
                names.append(segment[1:-1])
                if node.any is None:
                    node.any = _Node()
                node = node.any
            else:
                node = node.named.setdefault(segment, _Node())
        if route.method in node.methods or (node.methods and node.names != tuple(names)):
            raise ValueError(f"two routes for {route.method} {route.path}")
        node.methods[route.method] = route
        node.names = tuple(names)
