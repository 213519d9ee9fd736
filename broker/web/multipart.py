"""``multipart/form-data`` (RFC 7578) while it comes: small fields, and the bytes of the first file.

The parser is python-multipart's; it bounds the headers of a part. Fields, and how many parts there may be, are bounded
here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from broker.model.errors import Invalid

#: Bytes of all fields together, and parts of one body.
MAX_FIELDS_SIZE: Final = 65_536
MAX_PARTS: Final = 100

# Every malformed body would be a warning on stderr, and malformed bodies are the client's to send.
logging.getLogger("python_multipart").addHandler(logging.NullHandler())
logging.getLogger("python_multipart").propagate = False


def boundary_of(content_type: str) -> bytes | None:
    """The boundary of a multipart body; None for any other type. Raises Invalid without one."""
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        return None
    boundary = options.get(b"boundary", b"")
    if not boundary:
        raise Invalid("multipart/form-data without a boundary")
    return boundary


class FormReader:
    """``file_begins(name, filename, content_type)`` is called before the first ``file_data(bytes)``.

    Only the first file is told of. `fields` are those that stood before it.
    """

    def __init__(
        self, boundary: bytes, file_begins: Callable[[str, str, str], None], file_data: Callable[[bytes], None]
    ) -> None:
        self.fields: dict[str, str] = {}
        self.has_file = False
        self._file_begins = file_begins
        self._file_data = file_data
        self._parts = 0
        self._room = MAX_FIELDS_SIZE
        self._name = b""
        self._value = b""
        self._headers: dict[bytes, bytes] = {}
        #: What the bytes of the part are: the file's, a field's (its name and value so far), nobody's.
        self._in_file = False
        self._field = ""
        self._field_value: list[bytes] = []
        self._complete = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._part_begins,
                    "on_header_field": self._header_name,
                    "on_header_value": self._header_value,
                    "on_header_end": self._header_ends,
                    "on_headers_finished": self._headers_end,
                    "on_part_data": self._data,
                    "on_part_end": self._part_ends,
                    "on_end": self._all_ends,
                },
            )
        except FormParserError:
            raise Invalid("the boundary is too long") from None

    def feed(self, data: bytes) -> None:
        """Raises Invalid for what is not multipart or over a bound."""
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise Invalid(f"not multipart/form-data: {error}"[:200]) from None

    def end(self) -> None:
        """The body is complete. Raises Invalid when the form is not, or had no file."""
        if not self._complete:
            raise Invalid("the multipart body ends too early")
        if not self.has_file:
            raise Invalid("no part of the form has a file name")

    # -- from the parser -------------------------------------------------------------------------------------------

    def _part_begins(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise Invalid(f"more than {MAX_PARTS} parts")
        self._headers = {}

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_ends(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _headers_end(self) -> None:
        kind, options = parse_options_header(self._headers.get(b"content-disposition"))
        if kind != b"form-data" or b"name" not in options:
            raise Invalid("a part without Content-Disposition: form-data and a name")
        name = _text(options[b"name"])
        if b"filename" not in options:
            self._field = "" if self.has_file else name
        elif not self.has_file:
            self.has_file = self._in_file = True
            content_type = _text(self._headers.get(b"content-type", b"application/octet-stream"))
            self._file_begins(name, _text(options[b"filename"]), content_type)

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self._file_data(data[start:end])
        elif self._field:
            self._room -= end - start
            if self._room < 0:
                raise Invalid(f"the fields of the form have more than {MAX_FIELDS_SIZE} bytes")
            self._field_value.append(data[start:end])

    def _part_ends(self) -> None:
        if self._field:
            self.fields[self._field] = _text(b"".join(self._field_value))
        self._in_file = False
        self._field = ""
        self._field_value = []

    def _all_ends(self) -> None:
        self._complete = True


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except ValueError:
        raise Invalid("a name in the form is not UTF-8") from None
