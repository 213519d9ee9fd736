"""The public names with their signatures, as lines: what ``docs/public-names.md`` has between its heads.

``python -m tests.extension.names`` writes the page anew. That is for names that are added; what is there already,
others rely on.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, get_origin

import msgspec
from zope.interface.interface import InterfaceClass, Method

import broker.extension
import broker.extension.testing
import broker.listening.plugin

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "public-names.md"

#: Members of the classes that have more than others need: what is not here may change.
MEMBERS: Final[Mapping[str, Sequence[str]]] = {
    "Core": [
        "reactor",
        "clock",
        "monotonic",
        "turn",
        "router",
        "devices",
        "commands",
        "registry",
        "events",
        "backplane",
        "default_expires",
        "api_routes",
        "name",
        "version",
        "ports",
        "is_admin",
    ],
    "Router": ["listen", "ignore", "listen_quietly", "ignore_quietly", "uplink", "wanted"],
    "LiveDevices": ["attach", "detach", "get"],
    "LiveDevice": [
        "ref",
        "values",
        "info",
        "info_changed",
        "link",
        "last_seen",
        "last_heartbeat",
        "late",
        "online",
        "ready",
    ],
    "Commands": ["ready", "reply", "fail", "get", "queued", "waiting", "take"],
    "Registry": [
        "protocols",
        "on_change",
        "on_added",
        "add_device",
        "update_device",
        "delete_device",
        "get_device",
        "find_device",
        "list_devices",
        "identify_device",
        "login_device",
        "get_product",
        "applications_of",
        "devices_of",
        "login_application",
    ],
    "LastValues": ["values", "unmapped", "sensors", "update"],
    "Listener": [
        "name",
        "limits",
        "stats",
        "connections",
        "connection_for",
        "prepare",
        "login_failed",
        "tick",
        "shut_down",
    ],
    "Connection": [
        "home",
        "host",
        "port",
        "identity",
        "closing",
        "opened",
        "received",
        "check",
        "ended",
        "goodbye",
        "authenticated",
        "account",
        "send",
        "close",
        "abort",
        "pause",
        "resume",
        "look_at",
        "age",
        "certificate_subject",
    ],
    "ListenerStats": [
        "accepted",
        "authenticated",
        "bytes_in",
        "bytes_out",
        "messages_in",
        "messages_out",
        "malformed",
        "refuse",
        "close",
        "drop",
    ],
    "IBackplane": ["node", "alone", "lead"],
}
#: Attributes that are made in a constructor, so that the class does not show them.
OF_INSTANCES: Final[Mapping[str, Mapping[str, str]]] = {
    "Registry": {
        "protocols": "dict[str, DeviceRules]",
        "on_change": "list[Callable[[Change], None]]",
        "on_added": "list[Callable[[DeviceRecord], None]]",
    },
    "LastValues": {"values": "dict[str, Reading]", "unmapped": "dict[str, Reading]"},
    "Listener": {
        "name": "str",
        "limits": "Limits",
        "stats": "ListenerStats",
        "connections": "set[Connection]",
    },
}

#: Classes that the broker makes: what their constructors take is its own affair.
GIVEN: Final = frozenset({"Core", "Router", "LiveDevices", "LiveDevice", "Commands", "Registry", "ListenerStats"})
_QUOTED: Final = re.compile(r"(: |-> )'([^']*)'")
_FORWARD: Final = re.compile(r"ForwardRef\('([^']*)'\)")

HEAD: Final = """\
# Public names

What a package of somebody else may import, with every signature. A test compares this page with the code, so a name
does not go and does not take other arguments by accident; another one sees to it that `examples/plugins/` imports
nothing else. What these names mean is said where they are defined, and [Extending the broker](extending.md) shows them
at work. Members that are not listed here may change. All calls of `Registry` give a Deferred of what they are said to
give; so does `order`.
"""


def modules() -> dict[str, dict[str, Any]]:
    """Module -> its public names."""
    plugin = broker.listening.plugin
    found: dict[str, dict[str, Any]] = {plugin.__name__: {"ProtocolPlugin": plugin.ProtocolPlugin}}
    for module in (broker.extension, broker.extension.testing):
        found[module.__name__] = {name: getattr(module, name) for name in sorted(module.__all__)}
    return found


def lines(name: str, thing: Any) -> Iterator[str]:
    """The lines of one name."""
    if isinstance(thing, InterfaceClass):
        yield f"interface {name}"
        for member in MEMBERS.get(name, sorted(thing.names(all=True))):
            found = thing[member]
            yield f"    {member}{_of_method(found) if isinstance(found, Method) else ''}"
    elif inspect.isclass(thing):
        yield from _class(name, thing)
    elif inspect.isfunction(thing):
        yield f"{name}{_signature(thing)}"
    elif isinstance(thing, str):
        yield f"{name} = {thing!r}"
    elif isinstance(thing, frozenset | dict):
        yield name
        yield from (f"    {one!r}" for one in sorted(thing))
    elif get_origin(thing) is None and callable(thing):
        yield f"{name}{_signature(thing)}"
    else:
        yield f"{name}: {str(thing).replace('typing.', '')}"


def _of_method(method: Any) -> str:
    signature: str = method.getSignatureString()
    return signature


def _class(name: str, thing: type) -> Iterator[str]:
    yield f"class {name}{'' if name in GIVEN else _signature(thing)}"
    if issubclass(thing, Exception):
        return
    fields = _fields(thing)
    for member in MEMBERS.get(name) or _own(thing, fields):
        if member in OF_INSTANCES.get(name, {}):
            yield f"    {member}: {OF_INSTANCES[name][member]}"
        elif member in fields and not callable(getattr(thing, member, None)):
            yield f"    {member}: {fields[member]}"
        else:
            found = inspect.getattr_static(thing, member)
            if isinstance(found, property):
                assert found.fget is not None
                yield f"    {member}: {inspect.signature(found.fget).return_annotation}"
            elif callable(getattr(thing, member)):
                yield f"    {member}{_signature(getattr(thing, member))}"
            else:
                yield f"    {member}"


def _own(thing: type, fields: Mapping[str, str]) -> list[str]:
    """The public members of a class, its parents' included as far as they are ours."""
    found: set[str] = set(fields)
    for base in thing.__mro__:
        if base.__module__.startswith("broker."):
            found |= {name for name in vars(base) if not name.startswith("_")}
    return sorted(found)


def _fields(thing: type) -> dict[str, str]:
    """Annotated attributes, and slots."""
    found: dict[str, str] = {}
    for base in reversed(thing.__mro__):
        if base.__module__.startswith("broker."):
            annotations = vars(base).get("__annotations__", {})
            found |= {name: _FORWARD.sub(r"\1", str(text)) for name, text in annotations.items()}
            slots = vars(base).get("__slots__", ())
            found |= {name: "" for name in slots if name not in found}
    return {name: text for name, text in found.items() if not name.startswith("_")}


def _signature(thing: Any) -> str:
    if isinstance(thing, type) and issubclass(thing, msgspec.Struct):
        return "(...)"  # its fields, by name
    try:
        found = str(inspect.signature(thing))
    except (TypeError, ValueError):  # one that is written in C
        return "(...)"
    return _QUOTED.sub(r"\1\2", _FORWARD.sub(r"\1", found))


def page() -> str:
    parts = [HEAD]
    for module, names in modules().items():
        parts += [f"## `{module}`", "", "```"]
        for name, thing in names.items():
            parts += [line.rstrip().rstrip(":") for line in lines(name, thing)]
        parts += ["```", ""]
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
