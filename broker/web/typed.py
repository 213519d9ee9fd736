"""Query and body of a request as its route's types say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from broker.model.errors import Invalid
from broker.model.jsontext import decode
from broker.web.routes import Route


def typed_query(arguments: Mapping[str, list[str]], route: Route) -> Any:
    """``arguments``: the parameters as they came. Raises Invalid."""
    known = {} if route.query is None else route.query.__annotations__
    given: dict[str, Any] = {}
    for name, texts in arguments.items():
        if name not in known:
            if route.lenient:
                continue
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


def typed_body(text: bytes, route: Route) -> Any:
    """Of a route that has one in JSON. Raises Invalid."""
    if route.body is None or route.streamed or route.upload:
        return None
    try:
        return msgspec.convert({} if route.bodiless and not text else decode(text), route.body)
    except ValueError as error:
        raise Invalid(str(error)) from None
