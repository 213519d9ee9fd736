"""How values of the API look in tables: by the name of their field, so that fields that are new are shown as well."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from rich.text import Text

from broker.admin import plain

_TIMES: Final = frozenset({"at", "since", "until", "last_seen", "last_frame", "last_heartbeat", "not_before"})
_DURATIONS: Final = frozenset(
    {"age", "every", "after", "offline_after", "debounce", "flap_window", "spread", "air_time", "seconds"}
)
_STATES: Final = frozenset({"status", "state", "severity", "warning"})
_STYLES: Final[dict[str, str]] = {
    "green": "succeeded confirmed online finished sent ok steady",
    "red": "failed timed_out no_answer stopped critical offline failing unavailable",
    "yellow": "queued pending running accepted rebooted warning flapping late away too_old none partly_sent",
    "dim": "expired cancelled skipped waiting draft paused info",
}
_COLOURS: Final = {state: style for style, states in _STYLES.items() for state in states.split()}
#: Characters of a value in a table; it is whole in the view of one thing, and with --json.
MAX_CELL: Final = 200

Show = Callable[[Any], Text]


def cell(name: str, value: Any) -> Text:
    """A value of the field ``name``."""
    if value is None or value in ("", {}):
        return Text("-", style="dim")
    if isinstance(value, bool):
        return Text("yes", style="green") if value else Text("no", style="dim")
    if isinstance(value, int | float):
        return Text(_number(name, value))
    if isinstance(value, str):
        return Text(plain.safe(value), style=_COLOURS.get(value, "") if name in _STATES else "")
    if isinstance(value, list | tuple):
        if not value:
            return Text("-", style="dim")
        if all(isinstance(one, str | int | float) for one in value):
            return Text(", ".join(plain.safe(str(one)) for one in value))
    return Text(plain.json_line(value))


def _number(name: str, value: float) -> str:
    if name in _TIMES or name.endswith("_at"):
        return plain.moment(value)
    if name in _DURATIONS:
        return plain.seconds(value)
    if name == "size" and isinstance(value, int):
        return plain.size(value)
    return f"{value:g}" if isinstance(value, float) and abs(value) < 1e6 else str(value)


@dataclass(frozen=True)
class Column:
    """A column: ``path`` of its field, with dots into objects; ``show``: the whole item as text, where that is more."""

    path: str
    title: str = ""
    show: Callable[[Any], Any] | None = None
    right: bool = False

    @property
    def heading(self) -> str:
        return self.title or self.path.rpartition(".")[2].replace("_", " ").upper()

    def of(self, item: Any) -> Text:
        value = reach(item, self.path) if self.show is None else self.show(item)
        if isinstance(value, Text):
            return value
        text = cell(self.path.rpartition(".")[2], value)
        if len(text) > MAX_CELL:
            text.truncate(MAX_CELL, overflow="ellipsis")
        return text


Columns = tuple[Column | str, ...]


def columns(wanted: Columns) -> list[Column]:
    return [Column(one) if isinstance(one, str) else one for one in wanted]


def reach(item: Any, path: str) -> Any:
    """What lies at ``path``, None where there is nothing."""
    for name in path.split("."):
        if not isinstance(item, Mapping):
            return None
        item = item.get(name)
    return item


def rows_of(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Text]]:
    """An object as rows of name and value, what it has inside with dotted names. Lists of objects: a row each."""
    rows: list[tuple[str, Text]] = []
    for name, one in value.items():
        label = prefix + plain.safe(name)
        if isinstance(one, Mapping) and one:
            rows += rows_of(one, f"{label}.")
        elif isinstance(one, list) and one and all(isinstance(entry, Mapping) for entry in one):
            rows += [(f"{label}[{number}]", Text(plain.json_line(entry))) for number, entry in enumerate(one)]
        else:
            rows.append((label, cell(name, one)))
    return rows
