"""The OpenAPI 3.1 document, written from the table of routes and from the types that they name.

Nothing is said here about single calls: summaries are the handlers' docstrings, schemas come from the types
(`msgspec.json.schema_components`) and what their fields mean from the comments in the source (`broker.model.comments`),
errors are the catalogue of `broker.web.problems`.
"""

from __future__ import annotations

import linecache
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from broker import __version__
from broker.model.comments import field_comments
from broker.web.answers import JSON
from broker.web.problems import CONTENT_TYPE, Problem
from broker.web.routes import ADMIN, ANYONE, API, Route

_REF: Final = "#/components/schemas/{name}"
_PROBLEM_TYPE: Final = CONTENT_TYPE.decode()

_FORM_DATA: Final = "multipart/form-data"

_ACCESS: Final = {
    ADMIN: "Administrator only.",
    ANYONE: "",
}
#: What types are made of, as msgspec describes them.
_TYPES: Final = (msgspec.inspect.Type, msgspec.inspect.Field)
_APPLICATION: Final = "Administrator, or an application for the devices bound to it."


def openapi_document(routes: Iterable[Route]) -> dict[str, Any]:
    """The document for these routes, as a JSON object."""
    table = tuple(route for route in routes if not route.hidden)
    types = list(dict.fromkeys(kind for route in table for kind in _types(route)))
    types = list(dict.fromkeys((*types, *_structs(types))))
    schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
    schema_of = dict(zip(types, schemas, strict=True))
    _describe_fields(schema_of, components)
    paths: dict[str, dict[str, Any]] = {}
    for route in table:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schema_of, components)
    linecache.clearcache()  # of the source, which nobody needs any more
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "broker",
            "version": __version__,
            "description": "Devices of every protocol, read and commanded. Times are UNIX seconds. "
            "Errors are problem documents (RFC 9457); `slug` is for programs.",
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The administrator's token, or `<id>:<secret>` of an application.",
                }
            },
        },
        "security": [{"token": []}],
    }


def _types(route: Route) -> list[Any]:
    """The types whose schemas the operation needs; parameters are written out and need their query's type too."""
    kinds = [Problem, route.answers, route.describes or route.body, route.query]
    kinds.extend(kind for kind, _ in route.also.values() if kind is not None)
    return [kind for kind in kinds if kind is not None]


def _structs(types: Iterable[Any]) -> Iterator[type[msgspec.Struct]]:
    """Those among the types, and those that they are made of."""
    waiting: list[Any] = list(msgspec.inspect.multi_type_info(types))
    seen: set[type[msgspec.Struct]] = set()
    while waiting:
        one = waiting.pop()
        if isinstance(one, msgspec.inspect.StructType):
            if one.cls in seen:
                continue
            seen.add(one.cls)
            yield one.cls
        parts = (getattr(one, name) for name in one.__struct_fields__)
        for part in parts:
            waiting.extend(found for found in _several(part) if isinstance(found, _TYPES))


def _several(part: Any) -> tuple[Any, ...]:
    return part if isinstance(part, tuple) else (part,)


def _describe_fields(schema_of: dict[Any, Any], components: dict[str, Any]) -> None:
    """Give the properties of the components the texts of their fields."""
    for kind, schema in schema_of.items():
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            properties = components[_name_of(schema)].get("properties", {})
            comments = field_comments(kind)
            for field in msgspec.structs.fields(kind):
                if comments.get(field.name) and field.encode_name in properties:
                    properties[field.encode_name]["description"] = comments[field.name]


def _name_of(schema: dict[str, Any]) -> str:
    """Types of one name in two modules have longer names in the document."""
    return str(schema["$ref"].rpartition("/")[2])


def _operation(route: Route, schema_of: dict[Any, Any], components: dict[str, Any]) -> dict[str, Any]:
    secured = route.secured or route.access != ANYONE
    operation: dict[str, Any] = {
        "operationId": route.handler.__name__,
        "summary": route.summary,
        "tags": [_subject(route)],
        "responses": _responses(route, schema_of, secured),
    }
    access = _ACCESS.get(route.access, _APPLICATION)
    if route.secured:
        access = _APPLICATION
    if access:
        operation["description"] = access
    parameters = [*_path_parameters(route), *_query_parameters(route, schema_of, components)]
    if parameters:
        operation["parameters"] = parameters
    if route.upload:
        operation["requestBody"] = {"required": True, "content": _upload_content(route)}
    elif route.body is not None:
        schema = schema_of[route.describes or route.body]
        operation["requestBody"] = {
            "required": not route.bodiless,
            "content": {route.accepts[0]: {"schema": schema}},
        }
    if not secured:
        operation["security"] = []
    return operation


def _path_parameters(route: Route) -> Iterator[dict[str, Any]]:
    comments = {} if route.path_shape is None else field_comments(route.path_shape)
    for segment in route.path.split("/"):
        if segment.startswith("{"):
            name = segment[1:-1]
            yield _described(
                {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}, comments.get(name)
            )


def _query_parameters(route: Route, schema_of: dict[Any, Any], components: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if route.query is None:
        return
    shape = components[_name_of(schema_of[route.query])]
    needed = shape.get("required", ())
    for name, schema in shape["properties"].items():
        schema = dict(schema)
        text = schema.pop("description", None)
        parameter: dict[str, Any] = {"name": name, "in": "query", "schema": _bare(schema)}
        if name in needed:
            parameter["required"] = True
        yield _described(parameter, text)


def _described(parameter: dict[str, Any], text: str | None) -> dict[str, Any]:
    return {**parameter, "description": text} if text else parameter


def _upload_content(route: Route) -> dict[str, Any]:
    """A body that is a file: as it is, or in a form."""
    content: dict[str, Any] = {}
    for media in route.accepts if route.accepts != (JSON,) else ("application/octet-stream", _FORM_DATA):
        file = {"file": {"type": "string", "contentMediaType": "application/octet-stream"}}
        form = {"schema": {"type": "object", "properties": file, "required": ["file"]}}
        content[media] = form if media == _FORM_DATA else {}
    return content


def _bare(schema: dict[str, Any]) -> dict[str, Any]:
    """A query parameter is given or not; it is never null."""
    kinds: list[dict[str, Any]] = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    return kinds[0] if len(kinds) == 1 else schema


def _responses(route: Route, schema_of: dict[Any, Any], secured: bool) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    usual: dict[str, Any] = {"description": "Done" if route.status != 101 else "The stream begins"}
    if route.answers is not None:
        media = route.content_type.partition(";")[0]
        # Bytes as they are have no schema (OpenAPI 3.1, 4.8.14.3).
        usual["content"] = {media: {} if route.answers is bytes else {"schema": schema_of[route.answers]}}
    responses[str(route.status)] = usual
    for status, (kind, description) in route.also.items():
        media = _PROBLEM_TYPE if kind is Problem else JSON
        responses[str(status)] = {"description": description}
        if kind is not None:
            responses[str(status)]["content"] = {media: {"schema": schema_of[kind]}}
    common = {}
    if route.body is not None or route.query is not None or route.upload:
        common[400] = "The request is not valid; `detail` names the field"
    if secured:
        common |= {401: "No valid token", 403: "Not allowed for this caller", 503: "Storage cannot answer now"}
    if "{" in route.path:
        common[404] = "Not there, or not for this caller"
    for status, description in common.items():
        responses.setdefault(
            str(status), {"description": description, "content": {_PROBLEM_TYPE: {"schema": schema_of[Problem]}}}
        )
    return dict(sorted(responses.items()))


def _subject(route: Route) -> str:
    if not route.path.startswith(API):
        return "operation"
    return route.path.removeprefix(API).split("/")[1].partition(".")[0]
