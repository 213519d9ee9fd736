"""Bodies of the type ``application/x-www-form-urlencoded``, of any method (WHATWG URL, 5.1)."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qsl

from broker.model.errors import Invalid

FORM: Final = "application/x-www-form-urlencoded"
#: Fields of one form.
MAX_FIELDS: Final = 1_000


def form_fields(body: bytes) -> list[tuple[str, str]]:
    """Names and values in their order. Raises Invalid: not UTF-8, or too many fields."""
    try:
        text = body.strip(b"\r\n").decode()
        return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
    except UnicodeDecodeError:
        raise Invalid("the form is not UTF-8") from None
    except ValueError:
        raise Invalid(f"the form has more than {MAX_FIELDS} fields") from None
