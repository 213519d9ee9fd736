"""docs/configuration.md: every table of the configuration, from its Struct."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec
from msgspec import structs

from broker.listening.settings import Limits, ListenerSettings
from broker.model.comments import field_comments
from broker.settings.reading import allowed_values, as_toml
from broker.settings.tables import GENERAL
from broker.tap import found_protocols, load_sides
from tools.reference.comments import cell, markdown

_HEAD: Final = """# Configuration

<!-- Written by `python -m tools.reference` from the code: change the comments there. -->

One TOML file, every key optional: `twistd -n broker --config broker.toml`. Without a file the defaults run everything
on one machine. `examples/broker.toml` is a file with every key at its default, to copy from.

A key can also come from an environment variable, which goes before the file: `BROKER__<TABLE>__<KEY>`, with two
underscores between the levels, and a value as in TOML (a string may be bare):

```text
BROKER__LISTENERS__MQTT__BIND='["tcp:1883"]'     BROKER__LOG__FORMAT=json     BROKER__REDIS__PASSWORD=...
```

A wrong key or value is one line that names it and says what is allowed, and exit status 1. SIGHUP reads the file again:
limits, rights, certificates, log levels and `[commands]` change at once, and the log says what needs a restart.

Times are seconds and sizes bytes unless a line says otherwise.

"""
_LISTENERS: Final = """## Listeners

Each protocol has a table `[listeners.<name>]`. These keys are in all of them; a protocol's own are below.

`bind` is a list of `tcp:PORT`, `tls:PORT`, `ws:PORT`, `wss:PORT` or `udp:PORT`, each with `:interface=ADDRESS` if it
should not be reached from everywhere, or any other Twisted server endpoint string. An empty list switches the listener
off.

"""
_LIMITS: Final = """## Limits

A limit's value is the first of: `[listeners.<name>.limits]`, `[limits]` for all listeners, the protocol's own default.

"""
#: Bounds that go without saying.
_PLAIN: Final = ("over 0", "at least 0", "at least 1")
_PATTERN: Final = re.compile("matches (.+)$")
_ROW: Final = "| key | default | |\n|---|---|---|\n"


def settings_page() -> str:
    """The page."""
    sections = [_HEAD]
    for name, table in GENERAL.items():
        if name != "limits":
            sections.append(_section(name, table(), ()))
    sides = _listeners()
    common = ListenerSettings()
    sections.append(_LISTENERS + _table(common, leave=("limits",)))
    sections.extend(_listener(name, settings) for name, settings in sides.items())
    sections.append(_limits(sides))
    return "\n".join(section.rstrip("\n") + "\n" for section in sections)


def _listeners() -> dict[str, Any]:
    """The defaults of the broker's own protocols: what else is installed here is not ours to describe."""
    found = {name: side.Settings() for name, side in load_sides(found_protocols()).items()}
    return {name: settings for name, settings in found.items() if type(settings).__module__.startswith("broker.")}


def _listener(name: str, settings: Any) -> str:
    """What is not in every listener's table, or has another default."""
    common = {field.name for field in structs.fields(ListenerSettings)}
    return _section(f"listeners.{name}", settings, common - {"bind"})


def _section(path: str, settings: Any, leave: Iterable[str]) -> str:
    """A heading, what the Struct says of itself, its keys; then the tables inside it."""
    parts = [f"## [{path}]\n\n{_about(settings)}{_table(settings, leave, path)}"]
    for field in structs.fields(settings):
        value = getattr(settings, field.name)
        if isinstance(value, msgspec.Struct) and not isinstance(value, Limits):
            parts.append(_section(f"{path}.{field.encode_name}", value, ()).replace("## [", "### [", 1))
    return "\n".join(parts)


def _about(settings: Any) -> str:
    text = markdown((type(settings).__doc__ or "").partition("\n\n")[0])
    return f"{cell(text)}\n\n" if text else ""


def _table(settings: Any, leave: Iterable[str] = (), path: str = "") -> str:
    known = {field.name: field for field in structs.fields(settings)}
    rows = []
    for comment, names in _comments(type(settings)):
        kept = [known[name] for name in names if name in known and name not in leave]
        kept = [field for field in kept if not isinstance(getattr(settings, field.name), msgspec.Struct)]
        if kept:
            keys = "<br>".join(f"`{field.encode_name}`" for field in kept)
            values = "<br>".join(_code(getattr(settings, field.name)) for field in kept)
            # Where to listen is said once, for all.
            said = cell("" if names == ("bind",) and path else comment)
            rows.append(f"| {keys} | {values} | {' '.join(filter(None, (said, *_bounds(kept))))} |\n")
    return _ROW + "".join(rows) if rows else "No keys of its own.\n"


def _bounds(fields: Iterable[Any]) -> list[str]:
    """What their types take, if it is more than anybody would guess."""
    allowed = dict.fromkeys(allowed_values(field.type) for field in fields)
    return [
        f"({_PATTERN.sub(_in_code, text)})" for text in allowed if text and text.rpartition(" of ")[2] not in _PLAIN
    ]


def _in_code(found: re.Match[str]) -> str:
    return "matches `" + found[1].replace("|", "\\|") + "`"


def _comments(kind: type[Any]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Comments and the fields that each is about, those of base classes first."""
    grouped: dict[str, list[str]] = {}
    for name, comment in field_comments(kind).items():
        if comment:
            grouped.setdefault(comment, []).append(name)
        else:
            grouped[f"\0{name}"] = [name]
    for key, names in grouped.items():
        yield "" if key.startswith("\0") else markdown(key), tuple(names)


def _limits(sides: dict[str, Any]) -> str:
    """One table: the limit, its default, and the listeners that have another."""
    default = Limits()
    rows = []
    for comment, names in _comments(Limits):
        for name in names:
            usual = getattr(default, name)
            others = [
                f"{listener} {_code(value)}"
                for listener, settings in sides.items()
                if (value := getattr(settings.limits, name)) != usual
            ]
            text = cell(" ".join(filter(None, (comment, f"Otherwise: {', '.join(others)}." if others else ""))))
            rows.append(f"| `{name}` | {_code(usual)} | {text} |\n")
    return _LIMITS + _ROW + "".join(rows)


def _code(value: Any) -> str:
    text = as_toml(value)
    return f"`{text}`".replace("|", "\\|")
