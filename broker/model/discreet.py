"""Structs that hold secrets and do not tell them: neither a log line nor a traceback has them from a ``repr``."""

from __future__ import annotations

import re
from typing import Any, Final

#: Names of fields whose values nobody should see.
SECRET: Final = re.compile(r"(^|_)(token|secret|password|passcode|csrf|app_key|nwk_key|s_key|authorization)s?$")
#: Before the host of a URL; a password may hold what ought to be encoded, so this reaches to the last "@".
USER_INFO: Final = re.compile(r"//[^\s]*@")
HIDDEN: Final = "(not shown)"


def without_user_info(text: str) -> str:
    """A URL, or a text with one, without the name and password in it."""
    return USER_INFO.sub("//...@", text)


class Discreet:
    """Stands before ``msgspec.Struct`` among the bases: its ``repr`` has the fields, but not the secret ones."""

    __slots__ = ()
    __struct_fields__: tuple[str, ...]

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={_shown(name, getattr(self, name))}" for name in self.__struct_fields__)
        return f"{type(self).__name__}({shown})"


def _shown(name: str, value: Any) -> str:
    if SECRET.search(name) and value:
        return HIDDEN
    return without_user_info(repr(value))
