"""One request: its body collected within limits, its call found and made, its answer written.

::

    head ──> limits on the body ──> body ──> caller ──> route's types ──> call ──> answer
              413 at once                    401, 403    400, 415                  or a problem document

A body that is too long is refused as soon as that is known, from the head where the head says it. A call that has begun
is carried through even if its client goes away; only waiting ends with the client.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any, ClassVar

import msgspec
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http
from twisted.web.iweb import INonQueuedRequestFactory
from zope.interface import provider

from broker.applications.http.api import Api
from broker.applications.http.auth import NOBODY, Caller, bearer_token
from broker.applications.http.problems import (
    CONTENT_TYPE,
    InternalError,
    TooLarge,
    UnsupportedMedia,
    problem_body,
    problem_headers,
    problem_of,
)
from broker.applications.http.routes import ADMIN, ANYONE, TAKEN, Answer, Call, Route
from broker.model.errors import BrokerError, Forbidden, Invalid
from broker.model.jsontext import decode, encode


@provider(INonQueuedRequestFactory)
class ApiRequest(http.Request):
    """``self.channel`` is a `broker.applications.http.connection.HttpChannel`."""

    log: ClassVar[Logger] = Logger(namespace="broker.http")

    def __init__(self, channel: Any) -> None:
        super().__init__(channel, parsePOSTFormSubmission=False)
        self.channel: Any = channel
        self.connection = channel.connection
        self.peer = self.connection.host
        #: The client went away: there is nobody to answer.
        self.gone = False
        self._waits: list[Callable[[], None]] = []
        self._limit = 0
        self._began = self.connection.home.monotonic()
        self.connection.request_begun()

    def __repr__(self) -> str:
        """Without the query, which may hold a token."""
        return f"<{self.method!r} {bytes(self.uri).partition(b'?')[0]!r}>"

    # -- the body --------------------------------------------------------------------------------------------------

    def gotLength(self, length: int | None) -> None:
        """The head is complete. ``length`` is None for a body in chunks."""
        self.content = BytesIO()
        limits = self.connection.home.limits
        self._limit = limits.max_message_size
        if length is None or length > self._limit:
            self._limit = self._long_limit()
        if length is not None and length > self._limit:
            self._refuse_body()

    def handleContentChunk(self, data: bytes) -> None:
        if self.content is None or self.finished:
            return
        if self.content.tell() + len(data) > self._limit:
            self._refuse_body()
        else:
            self.content.write(data)

    def _long_limit(self) -> int:
        """More than the usual size is taken only where the route expects it and only from the administrator."""
        home = self.connection.home
        method, uri = self.channel.request_line()
        try:
            route, _ = home.table.find(method, uri.partition(b"?")[0])
            if route.streamed and home.api.logins.is_admin(self.token()):
                return int(home.api.settings.max_import_size)
        except BrokerError:
            pass  # answered in its turn, if the body is short enough to be read at all
        return int(home.limits.max_message_size)

    def _refuse_body(self) -> None:
        method, self.uri = self.channel.request_line()
        self.method = method.encode("latin-1")
        self.path = self.uri.partition(b"?")[0]
        self.clientproto = b"HTTP/1.1"
        self.channel.linger("too_long")
        self.refuse(TooLarge(f"at most {self._limit} bytes are taken here", limit=self._limit))

    # -- the call --------------------------------------------------------------------------------------------------

    def process(self) -> None:
        """The request is complete."""
        self.connection.account(1)
        self.connection.request_complete()
        if self.method == b"OPTIONS":
            self._describe()
            return
        answered: Deferred[None] = ensureDeferred(self._serve())
        answered.addErrback(self._fault)

    async def _serve(self) -> None:
        home = self.connection.home
        try:
            route, path = home.table.find(self.method.decode("latin-1"), self.path)
            caller = await self._caller(route, home.api)
            call = Call(home.api, caller, path, self._query(route), self._body(route), self)
            value = await route.handler(call)
        except BrokerError as error:
            self.refuse(error)
            return
        if value is TAKEN:
            return
        if isinstance(value, Answer):
            self.answer(value)
        else:
            self.answer(Answer(route.status, value, route.content_type))

    async def _caller(self, route: Route, api: Api) -> Caller:
        if route.access == ANYONE:
            return NOBODY
        caller = await api.logins.identify(self.token(), self.peer)
        self.connection.identity = caller.name
        if route.access == ADMIN and not caller.is_admin:
            raise Forbidden("only the administrator may do this")
        return caller

    def token(self) -> str | None:
        values = self.requestHeaders.getRawHeaders(b"authorization", [])
        return bearer_token([value.decode("utf-8", "replace") for value in values])

    def _query(self, route: Route) -> Any:
        known = {} if route.query is None else route.query.__annotations__
        given: dict[str, Any] = {}
        for raw, values in (self.args or {}).items():
            try:
                name = raw.decode()
                texts = [value.decode() for value in values]
            except ValueError:
                raise Invalid("the query is not UTF-8") from None
            if name not in known:
                raise Invalid(f"unknown query parameter {name[:64]!r}", known=sorted(known))
            if name in route.lists:
                given[name] = texts
            elif len(texts) > 1:
                raise Invalid(f"query parameter {name} is given more than once")
            else:
                given[name] = texts[0]
        if route.query is None:
            return None
        try:
            return msgspec.convert(given, route.query, strict=False)
        except msgspec.ValidationError as error:
            raise Invalid(f"query: {error}") from None

    def _body(self, route: Route) -> Any:
        if route.body is None:
            return None
        self._check_type(route)
        if route.streamed:
            return None
        assert self.content is not None
        try:
            return msgspec.convert(decode(self.content.read()), route.body)
        except ValueError as error:
            raise Invalid(str(error)) from None

    def _check_type(self, route: Route) -> None:
        given = self.requestHeaders.getRawHeaders(b"content-type", [])
        if not given:
            return
        name = given[0].partition(b";")[0].strip().lower().decode("latin-1")
        if name not in route.accepts:
            raise UnsupportedMedia(f"the body has to be {route.accepts[0]}", accepts=list(route.accepts))

    def _describe(self) -> None:
        """OPTIONS: which methods this path has."""
        try:
            methods = ("OPTIONS",) if self.path == b"*" else self.connection.home.table.allowed(self.path)
        except BrokerError as error:
            self.refuse(error)
            return
        self.setHeader(b"Allow", ", ".join(methods).encode())
        self.answer(Answer(204))

    # -- the answer ------------------------------------------------------------------------------------------------

    def answer(self, answer: Answer) -> None:
        """Write an answer, unless there is nobody left."""
        value = answer.value
        if value is None:
            self._write(answer.status, b"", None)
        elif isinstance(value, bytes):
            self._write(answer.status, value, answer.content_type.encode())
        else:
            self._write(answer.status, encode(value), answer.content_type.encode())

    def refuse(self, error: BrokerError) -> None:
        """Answer with a problem document."""
        problem = problem_of(error)
        for name, value in problem_headers(error, problem):
            self.setHeader(name, value)
        self._write(problem.status, problem_body(problem), CONTENT_TYPE)

    def waits(self, stop: Callable[[], None]) -> Callable[[], None]:
        """``stop()`` is called if the client goes away or the broker stops. Returns what forgets it again."""
        self._waits.append(stop)

        def forget() -> None:
            if stop in self._waits:
                self._waits.remove(stop)

        return forget

    def stop_waiting(self) -> None:
        """Whatever this request waits for, it waits no longer."""
        calls, self._waits = self._waits, []
        for call in calls:
            call()

    def connectionLost(self, reason: Failure) -> None:
        self.gone = True
        http.Request.connectionLost(self, reason)
        self.stop_waiting()

    def _write(self, status: int, body: bytes, content_type: bytes | None) -> None:
        if self.gone:
            return
        home = self.connection.home
        home.count_answer(status)
        self.setResponseCode(status)
        headers = self.responseHeaders
        headers.setRawHeaders(b"Server", [b"broker"])
        headers.setRawHeaders(b"Date", [home.http_date()])
        headers.setRawHeaders(b"Cache-Control", [b"no-store"])
        headers.setRawHeaders(b"X-Content-Type-Options", [b"nosniff"])
        if content_type is not None:
            headers.setRawHeaders(b"Content-Type", [content_type])
        if status != http.NO_CONTENT:
            headers.setRawHeaders(b"Content-Length", [b"%d" % len(body)])
        self.log.debug(
            "{peer} {caller} {request} {status} {milliseconds:.1f} ms",
            peer=self.peer,
            caller=self.connection.identity or "-",
            request=self,
            status=status,
            milliseconds=(home.monotonic() - self._began) * 1000,
        )
        self.write(body)
        self.finish()

    def _fault(self, failure: Failure) -> None:
        """A fault of ours: the log has the traceback, the client does not."""
        self.log.failure("fault in {request}", failure, request=repr(self))
        if not self.startedWriting:
            self.refuse(InternalError("the broker's log says more"))
