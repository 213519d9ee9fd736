"""Form bodies as devices write them: ``name=value&name=value``, nothing escaped.

Agents escape nothing, and a plus sign is a plus sign; whoever does escape (``%2B``) is understood too.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote

from broker.devices.gizwits.errors import FORM_INVALID, Refused

#: Fields of one form, and bytes of it: the longest that there is has some hundred bytes.
MAX_FIELDS: Final = 32
MAX_FORM: Final = 4_096


def form_of(body: bytes) -> dict[str, str]:
    """The fields. Raises Refused."""
    if len(body) > MAX_FORM:
        raise Refused(FORM_INVALID, f"a form has at most {MAX_FORM} bytes")
    try:
        parts = body.decode("utf-8").strip("\r\n").split("&")
        fields = {name: unquote(value, errors="strict") for name, _, value in (part.partition("=") for part in parts)}
    except UnicodeDecodeError:
        raise Refused(FORM_INVALID, "the form is not UTF-8") from None
    if len(parts) > MAX_FIELDS:
        raise Refused(FORM_INVALID, f"a form has at most {MAX_FIELDS} fields")
    return fields


def field(fields: dict[str, str], name: str) -> str:
    """One that has to be there. Raises Refused."""
    value = fields.get(name, "")
    if not value:
        raise Refused(FORM_INVALID, f"{name} is missing")
    return value


FORMS: Final[tuple[tuple[bytes, dict[str, str]], ...]] = (
    (b"", {"": ""}),
    (b"did=a&passcode=b", {"did": "a", "passcode": "b"}),
    (b"a=1+2&b=%2B&c=x=y&d\r\n", {"a": "1+2", "b": "+", "c": "x=y", "d": ""}),
)
