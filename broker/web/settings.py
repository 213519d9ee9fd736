"""What the table of every listener that speaks HTTP has."""

from __future__ import annotations

from broker.listening.settings import ListenerSettings, Seconds, Size


class WebSettings(ListenerSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Besides the shared limits, of which ``max_message_size`` is the longest body of a usual request."""

    #: Seconds that a request may take to arrive, plus what its body takes at ``min_body_rate``.
    request_timeout: Seconds = 30.0
    #: Bytes a second below which a body is not worth waiting for.
    min_body_rate: Size = 4_096
    #: Seconds that a connection without a request is kept.
    keep_alive_timeout: Seconds = 75.0
    #: Bytes of a body that is read while it comes (a file that is uploaded).
    max_upload: Size = 268_435_456
