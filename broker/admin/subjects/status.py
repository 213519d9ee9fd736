"""``status`` and ``metrics``: how the broker is. ``call``: any call of the API."""

from __future__ import annotations

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from broker.admin.cells import Column, Columns
from broker.admin.client import API
from broker.admin.failures import FAILED, Failure, Misuse, Refused
from broker.admin.options import count, json_file, read_field, verb
from broker.admin.session import Session

CONNECTIONS: Columns = (
    "listener",
    "identity",
    "host",
    Column("port", right=True),
    Column("seconds", "SINCE", right=True),
    Column("messages_in", "MESSAGES", right=True),
)
METRICS: Columns = ("name", "labels", Column("value", right=True))
LISTENERS: Columns = (
    Column("name", "LISTENER"),
    "bind",
    Column("connections", right=True),
    Column("messages_in", "IN", right=True),
    Column("messages_out", "OUT", right=True),
    Column("logins_failed", "BAD LOGINS", right=True),
    Column("malformed", right=True),
    Column("refused", right=True, show=lambda item: _total(item.get("refused"))),
    Column("dropped", right=True, show=lambda item: _total(item.get("dropped"))),
)
REFUSALS: Columns = ("at", "listener", "reason", "host", "identity")


def add(several: Any) -> None:
    verb(
        several,
        "status",
        _status,
        "whether the broker takes work, and what it has to do",
        more="The exit status is 1 when it takes none.",
    )
    parser = verb(several, "connections", _connections, "who is connected now", "--listener mqtt", "192.0.2.7")
    parser.add_argument("query", nargs="?", metavar="QUERY", help="looked for in identity and address")
    parser.add_argument("--listener", help="such as mqtt or gateway88")
    parser.add_argument("--limit", type=count, default=100, metavar="N", help="so many at most (default: %(default)s)")
    parser = verb(several, "metrics", _metrics, "the broker's figures", "", "broker_commands")
    parser.add_argument("prefix", nargs="?", default="", help="what the names begin with")
    parser = verb(
        several,
        "call",
        _call,
        "any call of the API, with its JSON as the answer",
        "GET /openapi.json",
        "PATCH /devices/02123456789A name=hall disabled:=false",
    )
    parser.add_argument("method", choices=("GET", "POST", "PUT", "PATCH", "DELETE"))
    parser.add_argument("path", help=f"below {API}")
    parser.add_argument("fields", nargs="*", metavar="FIELD=TEXT", help="of the body; FIELD:=JSON for what is no text")
    parser.add_argument("--body", metavar="FILE", help="the body as a JSON object; - for stdin")


def _connections(session: Session) -> None:
    arguments = session.arguments
    query = {"q": arguments.query, "listener": arguments.listener, "limit": arguments.limit}
    pages = session.client.pages(f"{API}/connections", query, paged=False)
    shown = session.output.table(pages, CONNECTIONS, "nobody")
    if (total := pages.head.get("total", shown)) > shown:
        session.output.note(f"{shown} of {total}: --limit N")


def _total(counts: Any) -> int:
    return sum(counts.values()) if isinstance(counts, dict) else 0


def _ready(session: Session) -> dict[str, Any]:
    try:
        answer = session.client.get("/readyz")
    except Refused as error:
        if error.code != 503 or not error.problem.get("problems"):
            raise
        answer = dict(error.problem)
    if not isinstance(answer, dict):
        raise Failure("what answers is no broker")
    return answer


def _status(session: Session) -> int:
    output = session.output
    ready = _ready(session)
    problems = ready.get("problems") or []
    overview = None
    try:
        overview = session.client.get(f"{API}/overview")
    except Refused as error:
        # Without storage there is none, and that is what is to be told.
        if error.code != 503 or not problems:
            raise
    if output.as_json:
        output.json(ready if overview is None else overview)
    elif overview is None:
        output.item(ready)
    else:
        _show(session, overview)
    if problems:
        output.note("the broker takes no work: " + "; ".join(str(one) for one in problems), style="red")
    return FAILED if problems else 0


def _show(session: Session, overview: dict[str, Any]) -> None:
    output = session.output
    output.item({name: value for name, value in overview.items() if name not in ("listeners", "refusals")})
    for name, columns in (("listeners", LISTENERS), ("refusals", REFUSALS)):
        if overview.get(name):
            output.heading(name)
            output.table(overview[name], columns)


def _samples(session: Session, prefix: str) -> list[dict[str, Any]]:
    try:
        families = list(text_string_to_metric_families(session.client.text("/metrics")))
    except ValueError as error:
        raise Failure(f"what answers at /metrics are no figures: {error}") from None
    return [
        {"name": sample.name, "labels": dict(sample.labels), "value": sample.value}
        for family in families
        for sample in family.samples
        if sample.name.startswith(prefix)
    ]


def _metrics(session: Session) -> None:
    session.output.table(_samples(session, session.arguments.prefix), METRICS, "no such figures")


def _call(session: Session) -> None:
    arguments = session.arguments
    if not arguments.path.startswith("/") or any(one.isspace() or not one.isprintable() for one in arguments.path):
        raise Misuse(f"{arguments.path!r} is no path, such as /devices")
    body: dict[str, Any] | None = None if arguments.body is None else json_file(arguments.body)
    for text in arguments.fields:
        name, value = read_field(text)
        body = {**(body or {}), name: value}
    path = arguments.path if arguments.path.startswith(API) else API + arguments.path
    answer = session.client.call(arguments.method, path, body)
    if answer is not None:
        session.output.json(answer)
