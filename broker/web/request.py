"""One request: its body collected within limits, its call found and made, its answer written.

::

    head ──> limits on the body ──> body ──> caller ──> route's types ──> call ──> answer
              413 at once                    401, 403    400, 415                  or a refusal, as the surface words it

A body that is too long is refused as soon as that is known, from the head where the head says it. A route that reads
its body while it comes is called when the head is there (`broker.web.uploads`). A request that has come is carried
through even if its client goes away, be it while its caller is proven; only waiting ends with the client.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any, ClassVar

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http
from twisted.web.iweb import INonQueuedRequestFactory
from zope.interface import provider

from broker.model.errors import BrokerError, Forbidden, Invalid
from broker.web.answers import Answer, Fields, has_body
from broker.web.callers import NOBODY, Caller
from broker.web.files import FileAnswer, send_file
from broker.web.problems import HttpError, InternalError, TooLarge, UnsupportedMedia
from broker.web.routes import ADMIN, ANYONE, Call, Route
from broker.web.typed import typed_body, typed_query
from broker.web.uploads import Upload, UploadAborted
from broker.web.websocket import WebSocketPeer, check_handshake, upgrade


@provider(INonQueuedRequestFactory)
class WebRequest(http.Request):
    """``self.channel`` is a `broker.web.connection.WebChannel`."""

    log: ClassVar[Logger] = Logger(namespace="broker.http")

    def __init__(self, channel: Any) -> None:
        super().__init__(channel, parsePOSTFormSubmission=False)
        self.channel: Any = channel
        self.connection = channel.connection
        self.peer = self.connection.host
        #: The client went away: there is nobody to answer.
        self.gone = False
        #: All of the body has come. An answer before that is the connection's last, for the reason beside.
        self.complete = False
        self.early_reason = "protocol_error"
        self._route: Route | None = None
        self._path: dict[str, str] = {}
        #: Why there is no route.
        self._lost: BrokerError | None = None
        #: The body, where the route reads it while it comes.
        self._upload: Upload | None = None
        self._continue_due = False
        #: The handler has been called.
        self._called = False
        self._waits: list[Callable[[], None]] = []
        self._limit = 0
        self._began = self.connection.home.monotonic()
        self.connection.request_begun()

    def __repr__(self) -> str:
        """Without the query, which may hold a token."""
        if self._route is not None and self._route.private:
            return f"<{self.method!r} {self._route.path}>"
        return f"<{self.method!r} {bytes(self.uri).partition(b'?')[0]!r}>"

    @property
    def route(self) -> Route | None:
        """The call that this request is for; None when there is no such call."""
        return self._route

    # -- the body --------------------------------------------------------------------------------------------------

    def gotLength(self, length: int | None) -> None:
        """The head is complete. ``length`` is None for a body in chunks."""
        self.content = BytesIO()
        home = self.connection.home
        method, uri = self.channel.request_line()
        try:
            self._route, self._path = home.table.find(method, uri.partition(b"?")[0])
        except BrokerError as error:
            self._lost = error  # answered in its turn, if the body is short enough to be read at all
        self._limit = home.limits.max_message_size
        if self._route is not None and (length is None or length > self._limit):
            self._limit = self._long_limit(self._route)
        if length is not None and length > self._limit:
            self._refuse_body()
        elif self._route is not None and self._route.upload and length != 0:
            self._begin_upload(length)

    def handleContentChunk(self, data: bytes) -> None:
        if self.content is None or self.finished:
            return
        if self._upload is not None:
            self._upload.feed(data)
        elif self.content.tell() + len(data) > self._limit:
            self._refuse_body()
        else:
            self.content.write(data)

    def _long_limit(self, route: Route) -> int:
        """How much more than the usual size is taken."""
        home = self.connection.home
        try:
            return int(home.surface.max_body(self, route))
        except BrokerError:
            return int(home.limits.max_message_size)

    def _refuse_body(self) -> None:
        self._take_line()
        self.refuse(TooLarge(f"at most {self._limit} bytes are taken here", limit=self._limit))

    def _begin_upload(self, length: int | None) -> None:
        """Call the route's handler now; `process` comes when all of the body has."""
        self._take_line()
        self._make_upload(length)
        if not self.finished:
            self._start()

    def _make_upload(self, length: int | None) -> None:
        connection = self.connection
        content_type = self.requestHeaders.getRawHeaders(b"content-type", [b""])[0].decode("latin-1")
        try:
            self._upload = Upload(content_type, length, self._limit, connection.hold_body, connection.release_body)
        except BrokerError as error:
            self.refuse(error)

    def holds_continue(self) -> bool:
        """Whether the client is told to go on (100) later, when its caller is proven."""
        self._continue_due = self._upload is not None and not self._called
        return self._continue_due

    def _take_line(self) -> None:
        """What Twisted sets when the body is complete."""
        method, self.uri = self.channel.request_line()
        self.method = method.encode("latin-1")
        self.path, _, query = self.uri.partition(b"?")
        self.args = http.parse_qs(query, True)
        self.clientproto = b"HTTP/1.1"

    def raw_body(self) -> bytes:
        """The whole body as it came."""
        return b"" if self.content is None else self.content.getvalue()

    # -- the call --------------------------------------------------------------------------------------------------

    def process(self) -> None:
        """The request is complete."""
        self.complete = True
        self.connection.account(1)
        self.connection.request_complete()
        if self._upload is not None:
            self._upload.end()
            return
        if self.method == b"OPTIONS":
            self._describe()
            return
        if self._route is not None and self._route.upload:  # without a body
            self._make_upload(0)
            if self._upload is None:
                return
            self._upload.end()
        self._start()

    def _start(self) -> None:
        answered: Deferred[None] = ensureDeferred(self._serve())
        answered.addErrback(self._fault)

    async def _serve(self) -> None:
        route = self._route
        try:
            if route is None:
                assert self._lost is not None
                raise self._lost
            if route.websocket:
                check_handshake(self, route.any_origin)
            caller = await self._caller(route)
            home = self.connection.home
            call = Call(
                home.core,
                caller,
                self._path,
                typed_query(self.arguments(), route),
                self._body(route),
                self,
                self._upload,
            )
            if self._continue_due and not self.gone:
                self.channel.go_on_sending()
            self._called = True
            value = await home.afar.by_duty(route, call) or await route.handler(call)
            if isinstance(value, FileAnswer):
                await send_file(self, value)
            elif isinstance(value, WebSocketPeer):
                if not self.gone:
                    upgrade(self, value)
            elif isinstance(value, Answer):
                self.answer(value)
            else:
                self.answer(Answer(route.status, value, route.content_type))
        except BrokerError as error:
            self.refuse(error)

    async def _caller(self, route: Route) -> Caller:
        surface = self.connection.home.surface
        surface.admit(self, route)
        if route.access == ANYONE:
            return NOBODY
        caller: Caller = await surface.authenticate(self, route)
        self.connection.identity = caller.name
        if route.access == ADMIN and not caller.is_admin:
            raise Forbidden("only the administrator may do this")
        return caller

    def arguments(self) -> dict[str, list[str]]:
        """The query's parameters. Raises Invalid: not UTF-8."""
        try:
            return {name.decode(): [value.decode() for value in values] for name, values in (self.args or {}).items()}
        except ValueError:
            raise Invalid("the query is not UTF-8") from None

    def _body(self, route: Route) -> Any:
        if route.body is not None:
            self._check_type(route)
        assert self.content is not None
        return typed_body(b"" if route.streamed or route.upload else self.content.read(), route)

    def _check_type(self, route: Route) -> None:
        given = self.requestHeaders.getRawHeaders(b"content-type", [])
        if not given:
            return
        name = given[0].partition(b";")[0].strip().lower().decode("latin-1")
        if name not in route.accepts and "*/*" not in route.accepts:
            raise UnsupportedMedia(f"the body has to be {route.accepts[0]}", accepts=list(route.accepts))

    def _describe(self) -> None:
        """OPTIONS: which methods this path has."""
        try:
            methods = ("OPTIONS",) if self.path == b"*" else self.connection.home.table.allowed(self.path)
        except BrokerError as error:
            self.refuse(error)
            return
        self.answer(Answer(204, headers=((b"Allow", ", ".join(methods).encode()),)))

    # -- the answer ------------------------------------------------------------------------------------------------

    def answer(self, answer: Answer) -> None:
        """Write an answer in one piece, unless there is nobody left."""
        body = answer.body
        self.begin(answer.status, answer.media, len(body), answer.headers, body)
        self.end()

    def refuse(self, error: BrokerError) -> None:
        """Answer as the surface words this refusal."""
        if isinstance(error, TooLarge):
            self.early_reason = "too_long"
        answer = self.connection.home.surface.refusal(self, error)
        if isinstance(error, HttpError) and not answer.headers:  # Allow, Content-Range: whatever the words are
            answer.headers = error.headers
        self.answer(answer)

    def begin(self, status: int, media: bytes | None, length: int, own: Fields, body: bytes = b"") -> None:
        """Write the head of an answer whose body has ``length`` bytes, with as much of it as there is already."""
        if self.gone:
            return
        home = self.connection.home
        if not self.complete:
            self.channel.linger(self.early_reason)
        self.setResponseCode(status)
        self.startedWriting = 1
        more = tuple((name, value) for name, values in self.responseHeaders.getAllRawHeaders() for value in values)
        head = home.head(self.clientproto, status, media, length, own, more)
        self.channel.write(head + body if self.method != b"HEAD" and has_body(status) else head)
        self.log.debug(
            "{peer} {caller} {request} {status} {milliseconds:.1f} ms",
            peer=self.peer,
            caller=self.connection.identity or "-",
            request=self,
            status=status,
            milliseconds=(home.monotonic() - self._began) * 1000,
        )

    def end(self) -> None:
        """The answer is written."""
        if not self.gone:
            self.finish()

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
        content, self.content = self.content, None  # Twisted would close it, and the call may not have read it yet
        http.Request.connectionLost(self, reason)
        self.content = content
        if self._upload is not None and not self.complete:
            self._upload.fail(UploadAborted("the client went away"))
        self.stop_waiting()

    def _fault(self, failure: Failure) -> None:
        """A fault of ours: the log has the traceback, the client does not."""
        self.log.failure("fault in {request}", failure, request=repr(self))
        if not self.startedWriting:
            self.refuse(InternalError("the broker's log says more"))
