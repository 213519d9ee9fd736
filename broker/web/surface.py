"""What differs between two HTTP interfaces that one machinery serves: who calls, how a refusal looks, what is long."""

from __future__ import annotations

from typing import Any

from broker.core import Core
from broker.model.errors import BrokerError
from broker.web.answers import Answer, Fields
from broker.web.callers import Caller
from broker.web.problems import CONTENT_TYPE, problem_body, problem_headers, problem_of
from broker.web.routes import Route


class Surface:
    """The base: refusals are problem documents. ``request`` is a `broker.web.request.WebRequest`."""

    #: Headers of every answer, besides Server, Date, Content-Type and Content-Length.
    headers: Fields = ((b"Cache-Control", b"no-store"), (b"X-Content-Type-Options", b"nosniff"))

    def admit(self, request: Any, route: Route) -> None:
        """Asked before anything of a request is looked at. Raises LimitExceeded for an address that is not heard."""

    async def authenticate(self, request: Any, route: Route) -> Caller:
        """Who calls. Not asked for routes that are ANYONE's. Raises Unauthenticated, Disabled, Unavailable ...

        Whether an ADMIN route is open to the caller is decided after this.
        """
        raise NotImplementedError

    async def known(self, core: Core, application: str) -> Caller:
        """An application that has proven itself to another process. Raises Unauthenticated, Disabled, Unavailable."""
        raise NotImplementedError

    def refusal(self, request: Any, error: BrokerError) -> Answer:
        """How this error is answered. ``request`` is None for what never became a request."""
        problem = problem_of(error)
        return Answer(
            problem.status, problem_body(problem), CONTENT_TYPE.decode(), headers=problem_headers(error, problem)
        )

    def max_body(self, request: Any, route: Route) -> int:
        """The longest body in bytes, where it is longer than ``max_message_size``; asked when the head has come."""
        home = request.connection.home
        return int(home.settings.max_upload if route.upload else home.limits.max_message_size)
