"""From nested dictionaries to typed tables, with one line for whatever is wrong.

::

    broker.toml: listeners.mqtt.anonymous = "yes": must be true or false
    └ source     └ key                     └ value  └ what is allowed

A value comes from the TOML file, or from an environment variable (`Override`), whose text is read as the key's type
wants it: a string may be bare or in TOML quotes, everything else is written as in TOML. Values of keys that hold
secrets are not shown.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import inspect, structs

from broker.model.discreet import SECRET, without_user_info

S = TypeVar("S", bound=msgspec.Struct)

_PREFIX = "BROKER__"
_SHOWN = 80


class ConfigError(Exception):
    """The configuration cannot be used; the text is one line."""


class Override:
    """The text of an environment variable that stands for a key."""

    __slots__ = ("text", "variable")

    def __init__(self, variable: str, text: str) -> None:
        self.variable = variable
        self.text = text


def overlay(tables: dict[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """``tables`` with every ``BROKER__<TABLE>__<KEY>`` variable in its place. What they name is checked later."""
    result = _copy(tables)
    for variable in sorted(environment):
        if not variable.startswith(_PREFIX):
            continue
        *path, key = variable.removeprefix(_PREFIX).lower().split("__")
        place = result
        for step in path:
            inner = place.setdefault(step, {})
            if not isinstance(inner, dict):
                raise ConfigError(f"{variable}: {step} is not a table")
            place = inner
        place[key] = Override(variable, environment[variable])
    return result


def _copy(table: dict[str, Any]) -> dict[str, Any]:
    return {key: _copy(value) if isinstance(value, dict) else value for key, value in table.items()}


def fill(default: S, given: Any, path: str, source: str) -> S:
    """``default`` with the keys that are given. ``path`` names the table in errors, ``source`` the file.

    Raises ConfigError.
    """
    if not isinstance(given, dict):
        raise complaint(path, given, "must be a table", source)
    fields = {field.encode_name: field for field in structs.fields(default)}
    values = {}
    for key, value in given.items():
        where = f"{path}.{key}"
        field = fields.get(key)
        if field is None:
            raise complaint(where, value, f"there is no such key; {listed('keys', fields)}", source)
        present = getattr(default, field.name)
        if isinstance(present, msgspec.Struct):
            values[field.name] = fill(present, value, where, source)
        else:
            values[field.name] = _typed(field.type, value, where, source)
    try:
        return structs.replace(default, **values)
    except ValueError as error:  # a table's own __post_init__
        raise ConfigError(f"{source}: [{path}]: {_one_line(str(error))}") from None


def listed(what: str, names: Iterable[str]) -> str:
    return f"allowed {what}: {', '.join(sorted(names))}"


def complaint(path: str, value: Any, allowed: str, source: str) -> ConfigError:
    """The line for a wrong ``value`` of the key ``path``."""
    secret = SECRET.search(path.rpartition(".")[2]) is not None
    if isinstance(value, Override):
        shown = "(not shown)" if secret else _short(value.text)
        return ConfigError(f"environment variable {value.variable} = {shown}: {allowed}")
    if isinstance(value, dict):
        return ConfigError(f"{source}: [{path}]: {allowed}")
    return ConfigError(f"{source}: {path} = {'(not shown)' if secret else _short(as_toml(value))}: {allowed}")


def _typed(type_: Any, value: Any, where: str, source: str) -> Any:
    info = _plain(inspect.type_info(type_))
    if isinstance(info, inspect.DictType) and isinstance(value, dict):
        inner = type_.__args__[1]
        return {key: _typed(inner, one, f"{where}.{key}", source) for key, one in value.items()}
    plain = value
    if isinstance(value, Override):
        plain = _from_text(value.text, _is_text(info))
    try:
        return msgspec.convert(plain, type_)
    except msgspec.ValidationError as error:
        raise complaint(where, value, _allowed(info, str(error)), source) from None


def allowed_values(type_: Any) -> str:
    """What a key of this type takes, in words; empty where the type says all (true or false, any text, any number)."""
    text = _allowed(_plain(inspect.type_info(type_)), "").removeprefix("must be ")
    return text if re.search(r" of |\bmatches\b", text) and "such as" not in text else ""


def _is_text(info: inspect.Type) -> bool:
    if isinstance(info, inspect.LiteralType):
        return all(isinstance(one, str) for one in info.values)
    return isinstance(info, inspect.StrType)


def _from_text(text: str, is_string: bool) -> Any:
    if is_string and not text.startswith(('"', "'")):
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return text


def _plain(info: Any) -> Any:
    return info.type if isinstance(info, inspect.Metadata) else info


def _allowed(info: Any, error: str) -> str:
    """What the type takes, in words."""
    match info:
        case inspect.BoolType():
            return "must be true or false"
        case inspect.LiteralType():
            return "must be one of " + ", ".join(as_toml(value) for value in info.values)
        case inspect.IntType():
            return "must be a whole number" + _range(info)
        case inspect.FloatType():
            return "must be a number" + _range(info)
        case inspect.StrType(pattern=str()):
            return f"must be a string that matches {info.pattern}"
        case inspect.StrType(min_length=int()):
            return "must be a string that is not empty"
        case inspect.StrType():
            return "must be a string"
        case inspect.VarTupleType() | inspect.ListType() | inspect.SetType() | inspect.FrozenSetType():
            return f'must be a list whose items each {_allowed(_plain(info.item_type), error)}, such as ["..."]'
        case inspect.DictType():
            return f"must be a table whose values each {_allowed(_plain(info.value_type), error)}"
    return _one_line(error)


def _range(info: inspect.IntType | inspect.FloatType) -> str:
    words = ((info.gt, "over"), (info.ge, "at least"), (info.lt, "under"), (info.le, "at most"))
    said = [f"{word} {bound:g}" for bound, word in words if bound is not None]
    return " of " + " and ".join(said) if said else ""


def as_toml(value: Any) -> str:
    """A value as it stands in TOML, near enough to find it again."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return msgspec.json.encode(value).decode()
        case list() | tuple():
            return "[" + ", ".join(as_toml(item) for item in value) + "]"
        case dict():
            return "{...}" if value else "{}"
    return str(value)


def _short(text: str) -> str:
    line = without_user_info(_one_line(text))
    return line if len(line) <= _SHOWN else line[:_SHOWN] + "..."


def _one_line(text: str) -> str:
    return " ".join(text.split())
