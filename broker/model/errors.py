"""Errors that callers are told about. Each carries a slug for programs and a sentence for people.

The sentence never holds a secret. How a slug looks on a wire (an HTTP status, an MQTT return code, an error line) is
decided by the side that answers.
"""

from __future__ import annotations


class BrokerError(Exception):
    """The base of everything that is refused on purpose."""

    slug = "error"

    def __init__(self, message: str, **details: object) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class Invalid(BrokerError):
    """What was sent does not have the shape or the values that are allowed."""

    slug = "invalid"


class NotFound(BrokerError):
    slug = "not-found"


class Conflict(BrokerError):
    """It exists already, or is not in a state that allows this."""

    slug = "conflict"


class Forbidden(BrokerError):
    """Known, but without the right. Where existence itself is a secret, NotFound is raised instead."""

    slug = "forbidden"


class Unauthenticated(BrokerError):
    """Unknown id or wrong secret: one message for both, so that nobody can probe for ids."""

    slug = "unauthenticated"


class Disabled(BrokerError):
    """Known and proven, but switched off by the administrator."""

    slug = "disabled"


class LimitExceeded(BrokerError):
    """A named limit is reached; ``details["limit"]`` names it."""

    slug = "limit"


class DeviceOffline(BrokerError):
    """The device is not connected and the command may not wait."""

    slug = "device-offline"


class Unavailable(BrokerError):
    """Storage cannot take new work now (full disk, locked database, lost server). Nothing was changed."""

    slug = "unavailable"
