"""Many devices at once: NDJSON, a device a line, in the fields of ``POST /devices``.

The lines are read and registered in slices, each of which is one commit, so that the broker goes on with its other
work in between. A line that is refused does not stop the others. What was registered stays registered if the client
goes away.
"""

from __future__ import annotations

from typing import Any, Final

from broker.applications.http.calls.devices import NewDevice, check_fields
from broker.applications.http.shapes import ImportAnswer, ImportedSecret, ImportFailure
from broker.model.errors import BrokerError, Invalid
from broker.model.jsontext import decode_object
from broker.web.problems import Problem
from broker.web.routes import ADMIN, API, NDJSON, Call, Route

#: Lines of one slice: some milliseconds of work for the reactor.
SLICE: Final = 250


async def import_devices(call: Call) -> Any:
    """Register many devices. Secrets that were made are in the answer, this once."""
    answer = ImportAnswer(0, [])
    made: list[ImportedSecret] = []
    first = 1
    body = call.request.content
    while True:
        numbers, lines, last = _read_slice(body, first)
        if lines:
            result = await call.core.registry.add_devices(lines)
            answer.created += result.created
            for index, error in sorted(result.failed):
                answer.failed.append(ImportFailure(numbers[index], str(error)))
            made.extend(ImportedSecret(*pair) for pair in result.secrets)
        if last is None:
            break
        first = last
    if made:
        answer.secrets = made
    return answer


def _read_slice(body: Any, first: int) -> tuple[list[int], list[dict[str, Any] | Exception], int | None]:
    """Line numbers, their fields or what is wrong with them, and the number of the next line (None at the end)."""
    numbers: list[int] = []
    lines: list[dict[str, Any] | Exception] = []
    number = first
    while len(lines) < SLICE:
        text = body.readline()
        if not text:
            return numbers, lines, None
        if text.strip():
            numbers.append(number)
            lines.append(_read_line(text))
        number += 1
    return numbers, lines, number


def _read_line(text: bytes) -> dict[str, Any] | Exception:
    try:
        fields = decode_object(text)
        check_fields(fields, NewDevice)
    except BrokerError as error:
        return error
    except ValueError as error:
        return Invalid(str(error))
    return fields


ROUTES = (
    Route(
        "POST",
        f"{API}/devices/import",
        import_devices,
        ADMIN,
        body=str,
        answers=ImportAnswer,
        accepts=(NDJSON, "application/ndjson", "application/jsonl", "text/plain", "application/json"),
        streamed=True,
        also={413: (Problem, "Longer than max_import_size")},
    ),
)
