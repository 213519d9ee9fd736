"""What apps are told when something is refused: the numbers and texts that their SDKs know, with the HTTP status.

The body is ``{"error_message": "token invalid!", "error_code": 9004, "detail_message": null}``. A refusal of the
broker's own (`broker.model.errors`) becomes the nearest of them; its sentence is then the detail.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from broker.model.errors import (
    BrokerError,
    Conflict,
    DeviceOffline,
    Disabled,
    Forbidden,
    Invalid,
    LimitExceeded,
    NotFound,
    Unauthenticated,
    Unavailable,
)
from broker.model.jsontext import encode


class Code(NamedTuple):
    """A row of the table of errors."""

    number: int
    status: int
    text: str


MAC_REGISTERED: Final = Code(9001, 400, "mac already registered!")
PRODUCT_KEY_INVALID: Final = Code(9002, 400, "product_key invalid!")
APPID_INVALID: Final = Code(9003, 400, "appid invalid!")
TOKEN_INVALID: Final = Code(9004, 400, "token invalid!")
USER_NOT_EXIST: Final = Code(9005, 400, "user not exist!")
TOKEN_EXPIRED: Final = Code(9006, 400, "token expired!")
SERVER_ERROR: Final = Code(9008, 500, "server error!")
QUOTA_REACHED: Final = Code(9011, 400, "quota reached!")
DEVICE_NOT_FOUND: Final = Code(9014, 404, "device not found!")
FORM_INVALID: Final = Code(9015, 400, "form invalid!")
PASSCODE_INVALID: Final = Code(9016, 400, "did or passcode invalid!")
NOT_BOUND: Final = Code(9017, 401, "device not bound!")
PHONE_UNAVAILABLE: Final = Code(9018, 400, "phone unavailable!")
USERNAME_UNAVAILABLE: Final = Code(9019, 400, "username unavailable!")
PASSWORD_WRONG: Final = Code(9020, 400, "username or password error!")
COMMAND_FAILED: Final = Code(9021, 400, "send command failed!")
EMAIL_UNAVAILABLE: Final = Code(9022, 400, "email unavailable!")
DEVICE_DISABLED: Final = Code(9023, 400, "device is disabled!")
ATTR_INVALID: Final = Code(9025, 400, "attr invalid!")
USER_INVALID: Final = Code(9026, 400, "user invalid!")
FIRMWARE_NOT_FOUND: Final = Code(9027, 404, "firmware not found!")
DATA_NOT_FOUND: Final = Code(9029, 400, "datapoint data not found!")
THROTTLED: Final = Code(9041, 429, "request was throttled!")
DEVICE_OFFLINE: Final = Code(9042, 400, "device offline!")
#: Statuses that HTTP has and the table has not.
NOT_FOUND: Final = Code(9999, 404, "there is no such call!")
NOT_ALLOWED: Final = Code(9999, 405, "this call has another method!")
TOO_SLOW: Final = Code(9999, 408, "the request took too long!")
TOO_LARGE: Final = Code(9999, 413, "the body is too large!")
MEDIA_TYPE: Final = Code(9999, 415, "the body is of another type!")
NOT_IN_FILE: Final = Code(9999, 416, "the range is not in the file!")
WEBSOCKET_ONLY: Final = Code(9999, 426, "this is a WebSocket!")
HEAD_TOO_LARGE: Final = Code(9999, 431, "the head is too large!")
NOT_BUILT: Final = Code(9999, 501, "not implemented!")
UNAVAILABLE: Final = Code(9008, 503, "server error!")

#: The first that fits counts.
_NEAREST: Final[tuple[tuple[type[BrokerError], Code], ...]] = (
    (Unauthenticated, TOKEN_INVALID),
    (Disabled, DEVICE_DISABLED),
    (Forbidden, NOT_BOUND),
    (Invalid, FORM_INVALID),
    (NotFound, DEVICE_NOT_FOUND),
    (DeviceOffline, DEVICE_OFFLINE),
    (LimitExceeded, THROTTLED),
    (Conflict, COMMAND_FAILED),
    (Unavailable, UNAVAILABLE),
)


class Refused(BrokerError):
    """Refused with one of the numbers; ``message`` is the detail, empty for none."""

    slug = "gizwits"

    def __init__(self, code: Code, detail: str = "") -> None:
        super().__init__(detail)
        self.code = code

    def __str__(self) -> str:
        return f"{self.code.number} {self.code.text} {self.message}".rstrip()


def refused(error: BrokerError) -> Refused:
    """Any refusal as one of the numbers."""
    if isinstance(error, Refused):
        return error
    for kind, code in _NEAREST:
        if isinstance(error, kind):
            return Refused(code, error.message)
    return Refused(SERVER_ERROR, error.message)


def body_of(error: Refused) -> bytes:
    """The error's JSON."""
    return encode(
        {
            "error_message": error.code.text,
            "error_code": error.code.number,
            "detail_message": error.message or None,
        }
    )
