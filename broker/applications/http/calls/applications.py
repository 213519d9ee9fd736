"""Applications and the devices that are bound to them. The administrator's."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from broker.applications.http.calls.devices import Text, check_fields
from broker.applications.http.shapes import ApplicationPage, ApplicationShape, application_shape
from broker.model.discreet import Discreet
from broker.web.problems import Problem
from broker.web.routes import ADMIN, API, Call, Route

Secret = Annotated[str, Meta(min_length=1, max_length=256)]


class NewApplication(Discreet, msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """An application to register."""

    #: The side on which it connects, which cannot be changed.
    kind: Annotated[str, Meta(pattern="^(gizwits|loracenter|mqtt|http)$")]
    #: Its id, which cannot be changed; over MQTT its user name, in Gizwits apps the appid; null: made.
    id: Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.\-]+$")] | None = None
    #: Its name for people.
    name: Text = ""
    #: What it logs in with; null: made.
    secret: Secret | None = None
    #: loracenter: the EUI of the customer server, 1 to 16 hexadecimal digits, that no other application has; null:
    #: none.
    cs_eui: Text | None = None
    #: loracenter: the AppKey of the customer server, 32 hexadecimal digits; empty: none.
    app_key: Text = ""
    #: Whether it is kept out.
    disabled: bool = False


class ApplicationChanges(Discreet, msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What is to change; what is left out stays."""

    #: Its name for people.
    name: Text | UnsetType = UNSET
    #: Its new secret; null: one is made, and is in the answer.
    secret: Secret | UnsetType | None = UNSET
    #: loracenter: the EUI of the customer server, 1 to 16 hexadecimal digits, that no other application has; null:
    #: none.
    cs_eui: Text | UnsetType | None = UNSET
    #: loracenter: the AppKey of the customer server, 32 hexadecimal digits; empty: none.
    app_key: Text | UnsetType = UNSET
    #: Whether it is kept out; what it has open is closed.
    disabled: bool | UnsetType = UNSET


class ApplicationPath(msgspec.Struct):
    """Which application."""

    #: The id of the application.
    id: str


class BindingPath(ApplicationPath):
    """Which application, and which device."""

    #: The id of the device.
    device: str


async def list_applications(call: Call) -> Any:
    """All applications."""
    records = await call.core.registry.list_applications()
    return ApplicationPage([application_shape(record) for record in records], None)


async def add_application(call: Call) -> Any:
    """Register an application. The answer holds the secret, this once."""
    check_fields(call.body, NewApplication)
    record, secret = await call.core.registry.add_application(call.body)
    shape = application_shape(record)
    shape.devices = []
    shape.secret = secret
    return shape


async def get_application(call: Call) -> Any:
    """An application and its devices."""
    record = await call.core.registry.get_application(call.path["id"])
    return await _with_devices(call, application_shape(record))


async def change_application(call: Call) -> Any:
    """Change an application. A secret that was made is in the answer, this once."""
    check_fields(call.body, ApplicationChanges)
    record, secret = await call.core.registry.update_application(call.path["id"], call.body)
    shape = await _with_devices(call, application_shape(record))
    if secret is not None:
        shape.secret = secret
    return shape


async def delete_application(call: Call) -> Any:
    """Delete an application; whatever it has open is closed."""
    await call.core.registry.delete_application(call.path["id"])


async def bind_device(call: Call) -> Any:
    """Give an application the right to a device."""
    await call.core.registry.bind(call.path["id"], call.path["device"])


async def unbind_device(call: Call) -> Any:
    """Take that right back."""
    await call.core.registry.unbind(call.path["id"], call.path["device"])


async def _with_devices(call: Call, shape: ApplicationShape) -> ApplicationShape:
    shape.devices = list(await call.core.registry.devices_of(shape.id))
    return shape


_TAKEN = {409: (Problem, "The id or the cs_eui is taken")}
_ONE = f"{API}/applications/{{id}}"
_BINDING = f"{API}/applications/{{id}}/devices/{{device}}"

ROUTES = (
    Route("GET", f"{API}/applications", list_applications, ADMIN, answers=ApplicationPage),
    Route(
        "POST",
        f"{API}/applications",
        add_application,
        ADMIN,
        body=dict[str, Any],
        describes=NewApplication,
        answers=ApplicationShape,
        status=201,
        also=_TAKEN,
    ),
    Route("GET", _ONE, get_application, ADMIN, answers=ApplicationShape, path_shape=ApplicationPath),
    Route(
        "PATCH",
        _ONE,
        change_application,
        ADMIN,
        body=dict[str, Any],
        describes=ApplicationChanges,
        answers=ApplicationShape,
        also=_TAKEN,
        path_shape=ApplicationPath,
    ),
    Route("DELETE", _ONE, delete_application, ADMIN, status=204, path_shape=ApplicationPath),
    Route("PUT", _BINDING, bind_device, ADMIN, status=204, path_shape=BindingPath),
    Route("DELETE", _BINDING, unbind_device, ADMIN, status=204, path_shape=BindingPath),
)
