"""docs/http-api.md: every call, from the OpenAPI document that a broker serves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from tools.reference.comments import cell, markdown

_HEAD: Final = """# HTTP API

<!-- Written by `python -m tools.reference` from the OpenAPI document: change the routes and their types. -->

`http://127.0.0.1:8080/api/v1`, JSON both ways. `GET /api/v1/openapi.json` is the same as an OpenAPI 3.1 document, for
generators of clients; this page is written from it.

- **Who calls**: `Authorization: Bearer <token>` with the administrator's token (the file `admin.token` of the data
  folder), or `<id>:<secret>` of an application, which sees the devices bound to it and no others.
- **Bodies** are `Content-Type: application/json`, if a call says nothing else. Fields that are left out keep their
  default, or in a PATCH their value; `null` takes a value away where that makes sense. Unknown fields are refused.
- **Times** are UNIX seconds.
- **Lists** are `{"items": [...], "next": cursor}`; the cursor goes into `cursor=` of the next call, until it is null.
- **Refusals** are problem documents (RFC 9457); `slug` is for programs, `detail` for people:
  `{"type": "urn:broker:not-found", "title": "Not found", "status": 404, "detail": "...", "slug": "not-found"}`. What
  each status means and what to do: [troubleshooting](troubleshooting.md#the-http-api-refuses).

`broker-admin` does all of this from the command line ([admin.md](admin.md)); `broker-admin call GET /devices` is any
call.

"""
_METHODS: Final = ("get", "post", "put", "patch", "delete")
_SCHEMAS: Final = "#/components/schemas/"


def calls_page(document: dict[str, Any]) -> str:
    """The page of an OpenAPI document."""
    by_subject: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method in _METHODS:
            if method in methods:
                operation = methods[method]
                by_subject.setdefault(operation["tags"][0], []).append(_operation(method, path, operation))
    schemas = document["components"]["schemas"]
    parts = [_HEAD]
    parts.extend(f"## {subject}\n\n{''.join(operations)}" for subject, operations in sorted(by_subject.items()))
    parts.append("## Shapes\n\nThe JSON objects that calls take and answer. A star marks what has to be there.\n")
    parts.extend(_shape(name, schema) for name, schema in sorted(schemas.items()))
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    lines = [f"### {method.upper()} {path.replace('/api/v1', '', 1) or path}\n"]
    lines.append(" ".join(filter(None, (_sentence(operation["summary"]), operation.get("description", "")))) + "\n")
    parameters = operation.get("parameters", ())
    rows = [f"| `{one['name']}` | {_text(one)} |\n" for one in parameters if one["in"] == "path"]
    if rows:
        lines.append("| in the path | |\n|---|---|\n" + "".join(rows))
    rows = [
        f"| `{one['name']}`{'*' if one.get('required') else ''} | {_kind(one['schema'])} | {_default(one['schema'])} |"
        f" {_text(one)} |\n"
        for one in parameters
        if one["in"] == "query"
    ]
    if rows:
        lines.append("| query | | default | |\n|---|---|---|---|\n" + "".join(rows))
    body = operation.get("requestBody")
    if body is not None:
        kinds = ", ".join(
            f"{_kind(content.get('schema', {}))} as `{media}`" for media, content in body["content"].items()
        )
        lines.append(f"Body{'' if body.get('required') else ' (may be left out)'}: {kinds}.\n")
    lines.append(f"Answers: {'; '.join(_answers(operation['responses']))}.\n")
    return "\n".join(lines) + "\n"


def _answers(responses: dict[str, Any]) -> Iterator[str]:
    """Those that are the call's own; refusals are the same everywhere."""
    for status, response in responses.items():
        kinds = [_kind(one["schema"]) for one in response.get("content", {}).values() if "schema" in one]
        if int(status) < 400:
            media = ", ".join(f"`{one}`" for one in response.get("content", ()) if one != "application/json")
            said = " ".join(kinds) or media
            yield f"{status} {said or response['description'].lower()}".rstrip()
    refusals = [status for status in responses if int(status) >= 400]
    if refusals:
        yield f"refused with {', '.join(refusals)}"


def _shape(name: str, schema: dict[str, Any]) -> str:
    lines = [f"### {name}\n"]
    about = markdown(schema.get("description", "").partition("\n\n")[0])
    if about:
        lines.append(f"{cell(about)}\n")
    if "properties" in schema:
        needed = set(schema.get("required", ()))
        rows = [
            f"| `{field}`{'*' if field in needed else ''} | {_kind(kind)} | {_default(kind)} | {_text(kind)} |\n"
            for field, kind in schema["properties"].items()
        ]
        lines.append("| field | | default | |\n|---|---|---|---|\n" + "".join(rows) if rows else "No fields.\n")
    else:
        lines.append(f"{_kind(schema)}\n")
    return "\n".join(lines)


def _text(described: dict[str, Any]) -> str:
    return cell(markdown(described.get("description", "")))


def _default(schema: dict[str, Any]) -> str:
    value = schema.get("default")
    if value is None or value in ("", [], {}):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _kind(schema: dict[str, Any]) -> str:
    """A schema in a few words."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(_SCHEMAS)
        return f"[{name}](#{name.lower()})"
    for word in ("anyOf", "oneOf"):
        if word in schema:
            return " or ".join(dict.fromkeys(_kind(one) for one in schema[word]))
    if "enum" in schema:
        return " \\| ".join(f"`{one}`" for one in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    match schema.get("type"):
        case "array":
            items = schema.get("items")
            return f"list of {_kind(items)}" if isinstance(items, dict) and items else "list"
        case "object":
            values = schema.get("additionalProperties")
            return f"object of {_kind(values)}" if isinstance(values, dict) and values else "object"
        case str() as kind:
            return " ".join(filter(None, (kind, _bounds(schema))))
    return "anything"


def _bounds(schema: dict[str, Any]) -> str:
    words = {
        "minimum": "at least",
        "exclusiveMinimum": "over",
        "maximum": "at most",
        "minLength": "min length",
        "maxLength": "max length",
    }
    said = [f"{text} {schema[key]}" for key, text in words.items() if key in schema]
    if "pattern" in schema:
        said.append("matching `" + schema["pattern"].replace("|", "\\|") + "`")
    return f"({', '.join(said)})" if said else ""


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."
