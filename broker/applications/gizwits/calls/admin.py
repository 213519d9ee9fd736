"""Calls of the broker's own API about apps: users, data points, secrets. The administrator's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from broker.applications.gizwits.forms import Name, Password, username_of
from broker.applications.gizwits.people import KIND
from broker.applications.gizwits.products import ProductExtra
from broker.applications.gizwits.side import Side
from broker.applications.gizwits.user_records import USERNAME, UserRecord
from broker.devices.gizwits.datapoints import MAX_POINTS, DataPoint
from broker.devices.gizwits.errors import Refused
from broker.devices.gizwits.identity import PROTOCOL
from broker.model.discreet import Discreet
from broker.model.errors import Conflict, Invalid, NotFound
from broker.web.problems import Problem
from broker.web.routes import ADMIN, API, Call, Route

Secret = Annotated[str, Meta(max_length=256)]
SourceKey = Annotated[str, Meta(min_length=16, max_length=256)]


class UserShape(Discreet, msgspec.Struct):
    """A user of an application."""

    #: The id that the broker gave it.
    uid: str
    #: What it is known by: the name by its kind, which is phone_id, username, email, phone or auth.
    names: dict[str, str]
    #: What its app has set of it, by name.
    profile: dict[str, str]
    #: The DIDs of the devices that it has bound, sorted.
    devices: list[str]
    #: How many tokens it has.
    tokens: int
    #: When it was made (UNIX seconds).
    created_at: float
    #: When it was changed last (UNIX seconds).
    updated_at: float


class NewUserBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A user to add."""

    #: The name that it logs in with, of no other user of the application.
    username: Name
    #: The password that it logs in with.
    password: Password

    def __repr__(self) -> str:
        return "<NewUserBody>"


class UserPage(msgspec.Struct):
    """Users by uid."""

    #: The users of this page.
    items: list[UserShape]
    #: The ``cursor`` of the following page; null on the last one.
    next: str | None


class UserQuery(msgspec.Struct, kw_only=True):
    """Which page."""

    #: Entries of one page at most.
    limit: Annotated[int, Meta(ge=1, le=500)] = 100
    #: The ``next`` of the page before; left out, the first page.
    cursor: Annotated[str, Meta(max_length=64)] | None = None


class DataPoints(Discreet, msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What is to change of a Gizwits product; what is left out stays."""

    #: All of its data points; empty: none, commands and reports are bytes.
    datapoints: Annotated[list[DataPoint], Meta(max_length=MAX_POINTS)] | UnsetType = UNSET
    #: Signs `POST /app/bind_mac`; empty: none.
    secret: Secret | UnsetType = UNSET


class DataPointsShape(Discreet, msgspec.Struct):
    """What a product has besides what every product has."""

    #: Its data points.
    datapoints: list[DataPoint]
    #: Whether it has a secret.
    secret: bool


class ApplicationAuth(Discreet, msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How an application and its users are vouched for; what is left out, or null, stays."""

    #: The secret of the application, for `POST /app/request_token`.
    secret: Secret | None = None
    #: Who vouches for users: the key of each, by its name; all of them anew.
    sources: dict[Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,32}$")], SourceKey] | None = None


class ApplicationAuthShape(Discreet, msgspec.Struct):
    """How an application and its users are vouched for."""

    #: Whether the application has a secret, and so can prove itself.
    secret: bool
    #: The names of those who vouch for its users, sorted.
    sources: list[str]


class ApplicationPath(msgspec.Struct):
    """Which application."""

    #: The id of the application, of kind gizwits: the appid.
    id: str


class UserPath(ApplicationPath):
    """Which user of it."""

    #: The id that the broker gave the user.
    uid: str


class UserDevicePath(UserPath):
    """Which user, and which device."""

    #: The DID of the device.
    device: str


class ProductPath(msgspec.Struct):
    """Which product."""

    #: The key of the product.
    key: str


class AdminCalls:
    """The calls, for one side."""

    def __init__(self, side: Side) -> None:
        self._side = side

    async def list_users(self, call: Call) -> Any:
        """Users of an application of kind gizwits."""
        app = await self._application(call)
        query: UserQuery = call.query
        users = await self._side.users.page(app, query.limit + 1, query.cursor)
        page = users[: query.limit]
        return UserPage([_shape(user) for user in page], page[-1].uid if len(users) > query.limit else None)

    async def add_user(self, call: Call) -> Any:
        """Add a user who logs in with a name and a password."""
        app = await self._application(call)
        with _problems():
            name = username_of(call.body.username)
            session = await self._side.users.register(app, USERNAME, name, call.body.password, {})
        return await self._user(app, session.uid)

    async def bind(self, call: Call) -> Any:
        """Bind a device for a user; nobody has to prove that it is theirs."""
        app, uid = await self._application(call), call.path["uid"]
        device = await call.core.registry.get_device(call.path["device"])
        await self._user(app, uid)
        with _problems():
            return _shape(await self._side.users.bind(app, uid, device.id))

    async def unbind(self, call: Call) -> Any:
        """Take a user's binding of a device away."""
        app, uid, device = await self._application(call), call.path["uid"], call.path["device"]
        await self._user(app, uid)
        with _problems():
            if not await self._side.users.unbind(app, uid, device):
                raise NotFound(f"the user has not bound {device!r}"[:200])

    async def get_user(self, call: Call) -> Any:
        """A user of an application."""
        return await self._user(await self._application(call), call.path["uid"])

    async def remove_user(self, call: Call) -> Any:
        """Remove a user with its bindings; its apps are disconnected."""
        app, uid = await self._application(call), call.path["uid"]
        if not await self._side.users.remove(app, uid):
            raise NotFound(f"there is no user {uid!r}"[:120])

    async def get_datapoints(self, call: Call) -> Any:
        """The data points of a Gizwits product."""
        extra = await self._side.products.extra(await self._product(call))  # nosec B610 # no Django
        return DataPointsShape(list(extra.datapoints), bool(extra.secret))

    async def set_datapoints(self, call: Call) -> Any:
        """Set the data points and the secret of a Gizwits product."""
        key = await self._product(call)
        body: DataPoints = call.body
        old = await self._side.products.extra(key)  # nosec B610 # no Django
        fresh = ProductExtra(
            old.secret if body.secret is UNSET else body.secret,
            old.datapoints if body.datapoints is UNSET else tuple(body.datapoints),
        )
        try:
            await self._side.products.set_extra(key, fresh)
        except ValueError as error:
            raise Invalid(str(error)) from None
        return DataPointsShape(list(fresh.datapoints), bool(fresh.secret))

    async def get_auth(self, call: Call) -> Any:
        """How an application and its users are vouched for."""
        extra = await self._side.products.application(await self._application(call))
        return ApplicationAuthShape(bool(extra.auth), sorted(extra.sources))

    async def set_auth(self, call: Call) -> Any:
        """Set how an application and its users are vouched for."""
        app = await self._application(call)
        body: ApplicationAuth = call.body
        extra = await self._side.products.set_application(app, body.secret, body.sources)
        return ApplicationAuthShape(bool(extra.auth), sorted(extra.sources))

    async def _user(self, app: str, uid: str) -> UserShape:
        user = await self._side.users.get(app, uid)
        if user is None:
            raise NotFound(f"there is no user {uid!r}"[:120])
        return _shape(user)

    async def _application(self, call: Call) -> str:
        record = await call.core.registry.get_application(call.path["id"])
        if record.kind != KIND:
            raise NotFound(f"{record.id!r} is no application of kind {KIND}")
        return str(record.id)

    async def _product(self, call: Call) -> str:
        key = call.path["key"]
        product = await call.core.registry.get_product(key)
        if product is None or product.protocol != PROTOCOL:
            raise NotFound(f"there is no product {key!r} of {PROTOCOL} devices"[:200])
        return key


@contextmanager
def _problems() -> Iterator[None]:
    """What is refused with a number of Gizwits' is a conflict in our API."""
    try:
        yield
    except Refused as error:
        raise Conflict(str(error)) from None


def _shape(user: UserRecord) -> UserShape:
    return UserShape(
        user.uid,
        user.names,
        user.profile,
        sorted(user.bindings),
        len(user.tokens),
        user.created_at,
        user.updated_at,
    )


_REFUSED = {409: (Problem, "The name is taken, or a limit is reached")}


def admin_routes(side: Side) -> tuple[Route, ...]:
    calls = AdminCalls(side)
    users = f"{API}/gizwits/applications/{{id}}/users"
    binding = f"{users}/{{uid}}/devices/{{device}}"
    datapoints = f"{API}/gizwits/products/{{key}}/datapoints"
    auth = f"{API}/gizwits/applications/{{id}}/auth"
    return (
        Route(
            "POST",
            users,
            calls.add_user,
            ADMIN,
            body=NewUserBody,
            answers=UserShape,
            status=201,
            also=_REFUSED,
            path_shape=ApplicationPath,
        ),
        Route("GET", users, calls.list_users, ADMIN, answers=UserPage, query=UserQuery, path_shape=ApplicationPath),
        Route("GET", f"{users}/{{uid}}", calls.get_user, ADMIN, answers=UserShape, path_shape=UserPath),
        Route("DELETE", f"{users}/{{uid}}", calls.remove_user, ADMIN, status=204, path_shape=UserPath),
        Route("PUT", binding, calls.bind, ADMIN, answers=UserShape, also=_REFUSED, path_shape=UserDevicePath),
        Route("DELETE", binding, calls.unbind, ADMIN, status=204, path_shape=UserDevicePath),
        Route("GET", datapoints, calls.get_datapoints, ADMIN, answers=DataPointsShape, path_shape=ProductPath),
        Route(
            "PUT",
            datapoints,
            calls.set_datapoints,
            ADMIN,
            body=DataPoints,
            answers=DataPointsShape,
            path_shape=ProductPath,
        ),
        Route("GET", auth, calls.get_auth, ADMIN, answers=ApplicationAuthShape, path_shape=ApplicationPath),
        Route(
            "PUT",
            auth,
            calls.set_auth,
            ADMIN,
            body=ApplicationAuth,
            answers=ApplicationAuthShape,
            path_shape=ApplicationPath,
        ),
    )
