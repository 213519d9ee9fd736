"""What is answered when something is refused: problem documents (RFC 9457), never HTML and never a traceback.

``{"type": "urn:broker:<slug>", "title", "status", "detail", "slug", "details"?}`` as ``application/problem+json``. The
slug is for programs, the detail for people.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from broker.model.errors import BrokerError

#: Seconds after which a caller may try again when a queue was full or storage was away.
RETRY_AFTER: Final = 5

CONTENT_TYPE: Final = b"application/problem+json"


class Problem(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What is answered when something is refused (RFC 9457)."""

    #: ``urn:broker:`` and the slug.
    type: str
    #: The slug in words, the same for every refusal of its kind.
    title: str
    #: The status code of the answer.
    status: int
    #: What was wrong with this call, for people.
    detail: str
    #: The kind of refusal, for programs.
    slug: str
    #: Further facts about the refusal, by name; left out where there are none.
    details: dict[str, Any] | None = None


class HttpError(BrokerError):
    """A refusal that only HTTP knows. ``headers`` go out with the answer."""

    def __init__(self, message: str, headers: tuple[tuple[bytes, bytes], ...] = (), **details: object) -> None:
        super().__init__(message, **details)
        self.headers = headers


class MethodNotAllowed(HttpError):
    slug = "method-not-allowed"


class TooLarge(HttpError):
    slug = "too-large"


class UnsupportedMedia(HttpError):
    slug = "unsupported-media-type"


class TooSlow(HttpError):
    slug = "too-slow"


class UpgradeRequired(HttpError):
    slug = "upgrade-required"


class RangeNotSatisfiable(HttpError):
    slug = "range-not-satisfiable"


class HeadTooLarge(HttpError):
    slug = "head-too-large"


class InternalError(HttpError):
    slug = "internal"


#: slug -> (status, title)
KINDS: Final[dict[str, tuple[int, str]]] = {
    "invalid": (400, "The request is not valid"),
    "unauthenticated": (401, "Not authenticated"),
    "forbidden": (403, "Not allowed"),
    "disabled": (403, "Disabled"),
    "not-found": (404, "Not found"),
    "method-not-allowed": (405, "Method not allowed"),
    "too-slow": (408, "The request took too long to arrive"),
    "conflict": (409, "Conflict"),
    "device-offline": (409, "The device is offline"),
    "too-large": (413, "The body is too large"),
    "unsupported-media-type": (415, "Unsupported media type"),
    "range-not-satisfiable": (416, "The range is not in the file"),
    "upgrade-required": (426, "WebSocket only"),
    "limit": (429, "A limit is reached"),
    "head-too-large": (431, "The request head is too large"),
    "internal": (500, "A fault of the broker"),
    "unavailable": (503, "Not available now"),
}

_encode = msgspec.json.Encoder(enc_hook=str).encode


def problem_of(error: BrokerError) -> Problem:
    """The document for a refusal."""
    slug = error.slug if error.slug in KINDS else "internal"
    status, title = KINDS[slug]
    return Problem(
        type=f"urn:broker:{slug}",
        title=title,
        status=status,
        detail=error.message,
        slug=slug,
        details=dict(error.details) or None,
    )


def problem_body(problem: Problem) -> bytes:
    return _encode(problem)


def problem_headers(error: BrokerError, problem: Problem) -> tuple[tuple[bytes, bytes], ...]:
    """Headers that belong to the document's status, besides its content type."""
    if problem.status == 401:
        return ((b"WWW-Authenticate", b'Bearer realm="broker"'),)
    if problem.status in (429, 503):
        return ((b"Retry-After", b"%d" % RETRY_AFTER),)
    return error.headers if isinstance(error, HttpError) else ()
