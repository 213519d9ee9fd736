"""What apps send, as types. Unknown members are ignored: SDKs send more than the documents name."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from broker.devices.gizwits import errors as e
from broker.model.discreet import Discreet

#: A control message in numbers.
Byte = Annotated[int, Meta(ge=0, le=255)]
Name = Annotated[str, Meta(min_length=1, max_length=128)]
Password = Annotated[str, Meta(min_length=1, max_length=128)]
Remark = Annotated[str, Meta(max_length=256)]
Did = Annotated[str, Meta(min_length=1, max_length=64)]
#: What one call may bind or unbind.
MAX_AT_ONCE: Final = 100

_EMAIL: Final = re.compile(r"[^@\s]{1,64}@[^@\s]{1,190}")
_PHONE: Final = re.compile(r"\+?[0-9][0-9 -]{2,30}")
#: What people may say of themselves.
PROFILE: Final = ("name", "gender", "birthday", "address", "lang", "remark")


class AuthData(Discreet, msgspec.Struct, kw_only=True):
    """Another party vouches for the user: see `vouching`."""

    src: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,32}$")]
    uid: Name
    token: Annotated[str, Meta(max_length=512)]


class NewUser(Discreet, msgspec.Struct, kw_only=True):
    """POST /app/users."""

    phone_id: Name | None = None
    username: Name | None = None
    email: Name | None = None
    phone: Name | None = None
    password: Password | None = None
    code: Annotated[str, Meta(max_length=16)] | None = None
    auth: AuthData | None = msgspec.field(default=None, name="authData")
    lang: Annotated[str, Meta(max_length=16)] | None = None


class UserChanges(Discreet, msgspec.Struct, kw_only=True):
    """PUT /app/users."""

    old_pwd: Password | None = None
    new_pwd: Password | None = None
    username: Name | None = None
    password: Password | None = None
    phone: Name | None = None
    code: Annotated[str, Meta(max_length=16)] | None = None
    email: Name | None = None
    name: Remark | None = None
    gender: Annotated[str, Meta(max_length=16)] | None = None
    birthday: Annotated[str, Meta(max_length=32)] | None = None
    address: Remark | None = None
    lang: Annotated[str, Meta(max_length=16)] | None = None
    remark: Remark | None = None

    def profile(self) -> dict[str, str]:
        """What is said of the person."""
        return {name: value for name in PROFILE if (value := getattr(self, name)) is not None}


class LoginForm(Discreet, msgspec.Struct, kw_only=True):
    """POST /app/login."""

    username: Name
    password: Password
    lang: Annotated[str, Meta(max_length=16)] | None = None


class NewBinding(Discreet, msgspec.Struct, kw_only=True):
    """A device to bind."""

    did: Did
    passcode: Annotated[str, Meta(max_length=256)]
    remark: Remark = ""
    dev_alias: Remark = ""


class NewBindings(msgspec.Struct, kw_only=True):
    """POST /app/bindings."""

    devices: Annotated[list[NewBinding], Meta(max_length=MAX_AT_ONCE)]


class NamedDevice(msgspec.Struct, kw_only=True):
    """A device by its id."""

    did: Did


class NamedDevices(msgspec.Struct, kw_only=True):
    """DELETE /app/bindings."""

    devices: Annotated[list[NamedDevice], Meta(max_length=MAX_AT_ONCE)]


class BindingChanges(msgspec.Struct, kw_only=True):
    """PUT /app/bindings/{did}."""

    remark: Remark | None = None
    dev_alias: Remark | None = None


class BindMac(msgspec.Struct, kw_only=True):
    """POST /app/bind_mac."""

    product_key: Annotated[str, Meta(max_length=64)]
    mac: Annotated[str, Meta(max_length=64)]
    remark: Remark = ""
    dev_alias: Remark = ""


class Control(msgspec.Struct, kw_only=True):
    """POST /app/control/{did}: one of the two."""

    raw: Annotated[list[Byte], Meta(max_length=65_535)] | None = None
    attrs: dict[str, Any] | None = None


class Login(Discreet, msgspec.Struct):
    """What a log-in is answered with. ``expire_at``: UNIX seconds."""

    uid: str
    token: str
    expire_at: int


class Bound(msgspec.Struct):
    """Which devices it worked for."""

    success: list[str]
    failed: list[str]


def email_of(text: str) -> str:
    """The address as it is compared. Raises Refused."""
    if _EMAIL.fullmatch(text) is None:
        raise e.Refused(e.FORM_INVALID, "email is no address")
    return text.lower()


def phone_of(text: str) -> str:
    """The number as it is compared. Raises Refused."""
    if _PHONE.fullmatch(text) is None:
        raise e.Refused(e.FORM_INVALID, "phone is no telephone number")
    return text.replace(" ", "").replace("-", "")


def username_of(text: str) -> str:
    """Raises Refused for what cannot be printed."""
    if not text.isprintable() or text.strip() != text:
        raise e.Refused(e.FORM_INVALID, "username holds characters that it may not")
    return text
