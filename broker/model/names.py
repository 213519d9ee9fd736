"""The catalogue of names that are seen from outside: why connections close, why work is refused or dropped.

They are label values of metrics and words of log lines, so they are few, fixed and never made from a client's input.
A test reads the source and keeps emitters and this catalogue equal.
"""

from __future__ import annotations

from typing import Final

#: Why a connection ended. ``{name: what an operator should read}``.
CLOSE_REASONS: Final[dict[str, str]] = {
    "client_closed": "the client closed the connection, cleanly as far as its protocol says",
    "connection_lost": "the connection broke without a goodbye",
    "shutdown": "the broker is stopping",
    "takeover": "a newer connection of the same identity took over",
    "removed": "the identity was removed, disabled or its secret changed",
    "replaced": "another gateway stands in for this one now, or does so no longer",
    "resting": "its gateway stands in for another one now; the device has none, and is not missed",
    "handshake_timeout": "the TLS handshake did not come to its end in time",
    "tls_failed": "the TLS handshake failed, or the client gave it up",
    "auth_timeout": "nothing that proves an identity came in time",
    "auth_failed": "the identity could not be proven",
    "idle": "nothing came for longer than the keep-alive allows",
    "malformed": "the bytes are not this protocol",
    "protocol_error": "a well-formed message that is not allowed here",
    "too_long": "a frame or line over its size limit",
    "flood": "more than the rate limit allows, for too long",
    "slow_reader": "the client does not read what is sent to it",
    "too_many_connections": "the listener's connection limit is reached",
    "too_many_per_address": "the connection limit of one address is reached",
    "too_many_failed_logins": "so many logins from this address failed that it is not heard for a while",
    "untrusted_proxy": "only proxies connect here, and this address is not one of them",
    "unavailable": "storage could not answer",
    "internal_error": "a fault of ours; the log has a traceback",
}

#: Why a message was not delivered or taken.
DROP_REASONS: Final[dict[str, str]] = {
    "slow_subscriber": "a best-effort message to a client that does not keep up",
    "queue_full": "the session's queue is at its limit",
    "unmapped_reply": "an answer to a command that is unknown, repeated or another device's",
    "stream_full": "a stream client does not keep up",
    "expired": "the message's time was over before it could be sent",
    "too_large": "larger than the client said that it takes",
    "retained_full": "no room for another retained message",
    "malformed": "a payload that is not what its topic is for",
    "not_allowed": "published, or owed, on a topic without the right",
}

#: Why a device's presence changed, besides the close reasons.
PRESENCE_REASONS: Final[dict[str, str]] = {
    "connected": "the device logged in",
    "restart": "the broker was started again and the device has not come back yet",
}
