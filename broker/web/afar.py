"""Calls that another process of the broker has to answer: they travel over the backplane, and so do their answers.

::

    client ──request──> process B: caller, types ──ask web.call──> process A: the same route ──answer──> B ──> client

A route says which duty it is about (``Route.duty``); where this process does not have that, the one that does is asked.
Who calls was proven here, and the other side believes it: it is the same broker. What it answers, a refusal as well, is
passed on as it is. Nothing is asked twice: a process that does not have the duty either refuses (503).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred, DeferredList
from twisted.web.http import parse_qs
from twisted.web.http_headers import Headers

from broker.core import Core
from broker.model.errors import BrokerError, Invalid, Unavailable
from broker.storage.deferred import deferred
from broker.web.answers import Answer, Fields
from broker.web.callers import ADMINISTRATOR, Caller
from broker.web.routes import Call, Route
from broker.web.typed import typed_body, typed_query

KIND: Final = "web.call"


class Asked(msgspec.Struct, array_like=True):
    """A request as it travels. ``application``: who calls, None for the administrator."""

    method: str
    uri: bytes
    body: bytes
    application: str | None
    #: Whether this process alone is meant, and not all (`Call.alone`).
    alone: bool


class Answered(msgspec.Struct, array_like=True):
    """An answer as it travels."""

    status: int
    body: bytes | None
    media: str
    headers: Fields


class FarRequest:
    """What a handler may ask of a request that came to another process."""

    def __init__(self, home: Any, asked: Asked) -> None:
        self.connection = self
        self.home = home
        self.method = asked.method.encode()
        self.uri = asked.uri
        self.path, _, query = asked.uri.partition(b"?")
        self.args = parse_qs(query, True)
        self.requestHeaders = Headers()
        self.peer = ""
        self._body = asked.body

    def raw_body(self) -> bytes:
        return self._body

    def arguments(self) -> dict[str, list[str]]:
        """Raises Invalid: not UTF-8."""
        try:
            return {name.decode(): [value.decode() for value in values] for name, values in self.args.items()}
        except ValueError:
            raise Invalid("the query is not UTF-8") from None

    def waits(self, stop: Callable[[], None]) -> Callable[[], None]:
        """Nobody tells us that the client went away."""
        return lambda: None


class FarCalls:
    """Those of one listener (`broker.web.listener.WebListener`)."""

    def __init__(self, home: Any) -> None:
        self._home = home
        self._core: Core = home.core
        self._kind = f"{KIND}.{home.name}"

    def begin(self) -> None:
        """Answer from now on."""
        self._core.backplane.answer(self._kind, self._answer)

    # -- asking ----------------------------------------------------------------------------------------------------

    @deferred
    async def by_duty(self, route: Route, call: Call) -> Answer | None:
        """What the process that has the route's duty answers; None: it is ours. Fails with Unavailable."""
        duty = self._core.duties.far(route.duty) if route.duty else None
        if duty is None:
            return None
        return _opened(await duty.ask(self._kind, self._asked(call, False)))

    @deferred
    async def everywhere(self, call: Call) -> list[Any]:
        """What the other processes answer to the same call, decoded; of those that answer in time, and well."""
        if call.alone or self._core.backplane.alone:
            return []
        body = self._asked(call, True)
        asked: list[Deferred[bytes]] = [
            self._core.backplane.ask(node, self._kind, body) for node in self._core.backplane.others()
        ]
        results: Any = await DeferredList(asked, consumeErrors=True)
        answers = [_opened(data) for success, data in results if success]
        return [msgspec.json.decode(one.value) for one in answers if one.status == 200 and one.value is not None]

    def _asked(self, call: Call, alone: bool) -> bytes:
        request = call.request
        method, application = request.method.decode("latin-1"), call.caller.application
        body = request.raw_body()
        return msgspec.msgpack.encode(Asked(method, bytes(request.uri), body, application, alone))

    # -- answering -------------------------------------------------------------------------------------------------

    def _answer(self, node: str, body: bytes) -> Deferred[bytes]:
        return Deferred.fromCoroutine(self._serve(msgspec.msgpack.decode(body, type=Asked)))

    async def _serve(self, asked: Asked) -> bytes:
        request = FarRequest(self._home, asked)
        try:
            route, path = self._home.table.find(asked.method, request.path)
            if route.duty and not asked.alone and self._core.duties.far(route.duty) is not None:
                raise Unavailable("the process that was asked does not do this any more")
            caller = await self._caller(asked.application)
            query, content = typed_query(request.arguments(), route), typed_body(asked.body, route)
            call = Call(self._core, caller, path, query, content, request, alone=asked.alone)
            value = await route.handler(call)
            answer = value if isinstance(value, Answer) else Answer(route.status, value, route.content_type)
        except BrokerError as error:
            answer = self._home.surface.refusal(request, error)
        return msgspec.msgpack.encode(
            Answered(answer.status, None if answer.value is None else answer.body, answer.content_type, answer.headers)
        )

    async def _caller(self, application: str | None) -> Caller:
        if application is None:
            return ADMINISTRATOR
        caller: Caller = await self._home.surface.known(self._core, application)
        return caller


def _opened(data: bytes) -> Answer:
    answered = msgspec.msgpack.decode(data, type=Answered)
    return Answer(answered.status, answered.body, answered.media, answered.headers)
