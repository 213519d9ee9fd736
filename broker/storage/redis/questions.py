"""What is asked of the scripts, as arguments, and small answers. `rows` has the records themselves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from broker.model.errors import Invalid
from broker.model.records import DeviceQuery
from broker.storage.interface import ANY, Change
from broker.storage.records_sql import end_of
from broker.storage.redis.replies import Argument
from broker.storage.redis.rows import time_text

#: Devices that one step of a list looks at.
LOOKED_AT: Final = 2_000


def change_arguments(changes: Sequence[Change]) -> list[Argument]:
    """For ``write_records``."""
    arguments: list[Argument] = [len(changes)]
    for change in changes:
        arguments += (change.table, change.key)
        expected = change.expected
        if expected is ANY:
            arguments.append("any")
        elif expected is None:
            arguments.append("none")
        else:
            arguments += ("same", expected)
        arguments += ("remove",) if change.value is None else ("put", change.value)
    return arguments


def key_range(prefix: str, after: str | None) -> tuple[str, str]:
    """The keys of records that begin with ``prefix`` and come after ``after``, as ZRANGEBYLEX has it."""
    end = end_of(prefix)
    low = f"({after}" if after is not None and after >= prefix else f"[{prefix}"
    return low, "+" if end is None else f"({end}"


def read_refusals(answers: list[bytes]) -> list[str | None]:
    return [one.decode() or None for one in answers]


def read_counts(flat: Sequence[Any]) -> dict[str, int]:
    return {name.decode(): count for name, count in zip(flat[::2], flat[1::2], strict=True) if count}


def read_records(flat: Sequence[bytes]) -> list[tuple[str, bytes]]:
    return [(key.decode(), value) for key, value in zip(flat[::2], flat[1::2], strict=True)]


def query_arguments(query: DeviceQuery, limit: int, cursor: str | None) -> tuple[Argument, ...]:
    online = {None: "", True: "online", False: "offline"}[query.online]
    return (
        "-" if cursor is None else f"({cursor}",
        limit,
        LOOKED_AT,
        query.application or "",
        query.tag or "",
        query.product or "",
        query.parent or "",
        query.protocol or "",
        online,
        time_text(query.changed_since),
        query.q or "",
    )


def position_of(cursor: str) -> tuple[str, int]:
    """(at, number) behind which a list of messages goes on."""
    at, _, number = cursor.partition("_")
    try:
        moment, count = float(at), max(0, min(int(number), 1 << 62))
    except ValueError:
        moment = math.nan
    if math.isnan(moment):
        raise Invalid("this cursor was not given by a list of messages")
    return time_text(moment), count
