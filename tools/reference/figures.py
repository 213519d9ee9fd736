"""docs/metrics.md: what `/metrics` tells, and every name that it and log lines use."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from broker.events.catalogue import KINDS
from broker.model.names import CLOSE_REASONS, DROP_REASONS, PRESENCE_REASONS
from broker.web.problems import KINDS as PROBLEMS
from tools.reference.comments import cell, counter_comments

_BROKER: Final = Path(__file__).resolve().parent.parent.parent / "broker"
_HEAD: Final = """# Metrics and names

<!-- Written by `python -m tools.reference` from the code: change the catalogues and the comments of the counters. -->

`GET /metrics` (no token; bind it to an address that only your monitoring reaches) is Prometheus's text form. Counters
begin at 0 with each start. What to watch and when to be woken is in [monitoring](monitoring.md).

The names on this page are fixed: log lines, metrics, the console and the API use the same.

"""
_CLOSED: Final = (
    "Why a connection ended: `broker_connections_closed_total{reason=...}`, the end of each connection's log line, and "
    "`reason` of the presence of its device."
)
_DROPPED: Final = "Why a message was not taken or not delivered: `broker_messages_dropped_total{reason=...}`."
#: Labels of families that have no sample while nothing has happened, beside those that their samples show.
_LABELS: Final = {
    "broker_connections_refused_total": "listener, reason",
    "broker_connections_closed_total": "listener, reason",
    "broker_messages_dropped_total": "listener, reason",
    "broker_commands_ended_total": "status",
    "broker_devices_online": "protocol",
    "broker_lorawan_air_time_seconds": "gateway, band",
    "broker_lorawan_air_time_limit_seconds": "gateway, band",
}
_SINK_FIGURES: Final = {
    "broker_event_sink_queued": "Events that wait for a sink.",
    "broker_event_sink_dead_letters": "Events that were given up and are kept.",
    "broker_event_sink_failing": "1 while the last attempt failed.",
    "broker_event_sink_delivered_total": "Events that a sink has taken.",
    "broker_event_sink_retries_total": "Attempts after the first.",
    "broker_event_sink_given_up_total": "Events that became dead letters.",
}


def figures_page(exposition: str) -> str:
    """The page, for what a broker's `/metrics` has answered."""
    said = _counter_texts()
    general: list[str] = []
    protocols: list[str] = []
    process: list[str] = []
    for name, kind, text in _families(exposition):
        row = (
            f"| `{name}` | {kind} | {_LABELS.get(name) or _labels(exposition, name)} | {cell(said.get(name, text))} |\n"
        )
        group = process if name.startswith(("process_", "python_")) else protocols if name in said else general
        group.append(row)
    missing = [name for name in said if f" {name} " not in exposition]
    protocols += [f"| `{name}` | counter |  | {cell(said[name])} |\n" for name in missing]
    general += [f"| `{name}` | {_kind(name)} | sink | {text} |\n" for name, text in _SINK_FIGURES.items()]
    head = "| name | kind | labels | |\n|---|---|---|---|\n"
    parts = [
        _HEAD,
        f"## Metrics of the broker\n\n{head}{''.join(sorted(general))}",
        f"## Metrics of the protocols\n\nWhere a protocol is switched on.\n\n{head}{''.join(sorted(protocols))}",
        f"## Metrics of the process\n\n{head}{''.join(sorted(process))}",
        _names("Close reasons", _CLOSED, CLOSE_REASONS),
        _names("Presence reasons", "Besides those, in `reason` of presence.", PRESENCE_REASONS),
        _names("Drop reasons", _DROPPED, DROP_REASONS),
        _events(),
        _problems(),
    ]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def _families(exposition: str) -> list[tuple[str, str, str]]:
    """Name, kind and text of each."""
    texts = dict(re.findall(r"^# HELP (\S+) (.*)$", exposition, re.MULTILINE))
    return [(name, kind, texts[name]) for name, kind in re.findall(r"^# TYPE (\S+) (\w+)$", exposition, re.MULTILINE)]


def _labels(exposition: str, name: str) -> str:
    found = re.search(rf"^{name}{{(.*?)}} ", exposition, re.MULTILINE)
    return ", ".join(re.findall(r'(\w+)="', found[1])) if found else ""


def _kind(name: str) -> str:
    return "counter" if name.endswith("_total") else "gauge"


def _counter_texts() -> dict[str, str]:
    """Metric -> what its attribute's comment says, of every protocol."""
    texts: dict[str, str] = {}
    for path in sorted(_BROKER.rglob("counters.py")):
        source = path.read_text("utf-8")
        form = re.search(r'return {f"(\w*){name}(\w*)"', source)
        assert form is not None, f"{path} has no as_dict of the usual form"
        for name, text in counter_comments(source).items():
            texts[f"broker_{form[1]}{name}{form[2]}"] = text
    return texts


def _names(title: str, about: str, names: dict[str, str]) -> str:
    rows = "".join(f"| `{name}` | {cell(text)} |\n" for name, text in names.items())
    return f"## {title}\n\n{about}\n\n| name | |\n|---|---|\n{rows}"


def _events() -> str:
    rows = "".join(
        f"| `{name}` | {kind.severity} | {cell(kind.text)} | {f'`{kind.clears}`' if kind.clears else ''} |\n"
        for name, kind in KINDS.items()
    )
    head = "| kind | severity | | ends |\n|---|---|---|---|\n"
    return f"## Event kinds\n\n[Events](events.md) and their rules.\n\n{head}{rows}"


def _problems() -> str:
    rows = "".join(f"| {status} | `{slug}` | {title} |\n" for slug, (status, title) in PROBLEMS.items())
    return f"## Problems of the HTTP API\n\n| status | slug | |\n|---|---|---|\n{rows}"
