"""Users: made, logged in, changed; tokens of applications."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from broker.applications.gizwits.forms import Login, LoginForm, NewUser, UserChanges, email_of, phone_of, username_of
from broker.applications.gizwits.side import side_of
from broker.applications.gizwits.surface import APP, USER, AppCaller
from broker.applications.gizwits.user_records import AUTH, EMAIL, PHONE, PHONE_ID, USERNAME, Session, UserRecord
from broker.applications.gizwits.users import Users
from broker.applications.gizwits.vouching import vouched
from broker.devices.gizwits import errors as e
from broker.web.routes import Call, Route


def _login(session: Session) -> Login:
    return Login(session.uid, session.token, int(session.expires_at))


async def add_user(call: Call) -> Any:
    """Make a user and log in; a phone or a vouched user that is known is logged in."""
    side = side_of(call)
    body: NewUser = call.body
    app = _caller(call).app
    users = side.users
    profile = {} if body.lang is None else {"lang": body.lang}
    if body.auth is not None:
        auth = body.auth
        keys = (await side.products.application(app)).sources
        if not vouched(keys, auth.src, auth.uid, auth.token, side.core.clock()):
            await side.surface.delay(call.request)
            raise e.Refused(e.USER_INVALID, f"{auth.src} does not vouch for this user")
        return await _known(call, AUTH, f"{auth.src}/{auth.uid}", profile)
    if body.password is not None:
        if body.username is not None:
            kind, name = USERNAME, username_of(body.username)
        elif body.email is not None:
            kind, name = EMAIL, email_of(body.email)
        elif body.phone is not None and body.code:
            kind, name = PHONE, phone_of(body.phone)
        else:
            raise e.Refused(e.FORM_INVALID, "with a password goes a username, an email, or a phone with a code")
        _count(call)
        return _login(await users.register(app, kind, name, body.password, profile))
    if body.phone_id is None:
        raise e.Refused(e.FORM_INVALID, "one of phone_id, username, email, phone and authData is needed")
    return await _known(call, PHONE_ID, body.phone_id, profile)


async def _known(call: Call, kind: str, name: str, profile: dict[str, str]) -> Login:
    """The user of a name that needs no password, made if there is none."""
    users, app = side_of(call).users, _caller(call).app
    if await users.find(app, kind, name) is None:
        _count(call)
    return _login(await users.known(app, kind, name, profile))


def _count(call: Call) -> None:
    """One more user is made from this address. Raises Refused."""
    side, host = side_of(call), call.request.peer
    if call.home.counts(host):
        side.newcomers.count(host, side.limits.max_new_users_per_address)


async def log_in(call: Call) -> Any:
    """Log in with a user name, an e-mail address or a telephone number."""
    side = side_of(call)
    body: LoginForm = call.body
    try:
        session = await side.users.log_in_with(_caller(call).app, body.username, body.password)
    except e.Refused as refusal:
        if refusal.code is e.PASSWORD_WRONG:
            await side.surface.delay(call.request)
        raise
    return _login(session)


async def change_user(call: Call) -> Any:
    """Change the password, the names or what the user says of itself."""
    side = side_of(call)
    users = side.users
    body: UserChanges = call.body
    caller = _caller(call)
    app, uid = caller.app, caller.uid
    user = await _user(call)
    if body.old_pwd is not None or body.new_pwd is not None:
        if body.old_pwd is None or body.new_pwd is None:
            raise e.Refused(e.FORM_INVALID, "old_pwd and new_pwd go together")
        if not await users.passwords.verify(body.old_pwd, user.password or None):
            await side.surface.delay(call.request)
            raise e.Refused(e.PASSWORD_WRONG)
        user = await users.set_password(app, uid, body.new_pwd, caller.token)
    names = _names(body)
    if body.password is not None and (not names or user.password):
        raise e.Refused(e.FORM_INVALID, "a first password comes with a name; later ones with old_pwd and new_pwd")
    if names:
        user = await users.rename(app, uid, names, body.password)
    profile = body.profile()
    if profile:
        user = await users.set_profile(app, uid, profile)
    return {"updatedAt": _iso(user.updated_at)}


def _names(body: UserChanges) -> dict[str, str]:
    names = {}
    if body.username is not None:
        if body.password is None:
            raise e.Refused(e.FORM_INVALID, "a username comes with a password")
        names[USERNAME] = username_of(body.username)
    if body.phone is not None:
        if not body.code:
            raise e.Refused(e.FORM_INVALID, "a phone comes with a code")
        names[PHONE] = phone_of(body.phone)
    if body.email is not None:
        names[EMAIL] = email_of(body.email)
    return names


async def get_user(call: Call) -> Any:
    """The user who calls."""
    user = await _user(call)
    return {
        "uid": user.uid,
        "username": user.names.get(USERNAME),
        "email": user.names.get(EMAIL),
        "phone": user.names.get(PHONE),
        "is_anonymous": user.anonymous,
        **{name: user.profile.get(name) for name in ("name", "gender", "birthday", "address", "lang", "remark")},
    }


async def request_token(call: Call) -> Any:
    """Prove the application: its header X-Gizwits-Application-Auth is md5(appid + secret)."""
    side = side_of(call)
    app = _caller(call).app
    if not await side.products.proves_application(app, call.header("x-gizwits-application-auth") or ""):
        await side.surface.delay(call.request)
        raise e.Refused(e.APPID_INVALID, "X-Gizwits-Application-Auth is wrong")
    token, expires_at = side.proofs.new(app)
    return {"token": token, "expired_at": int(expires_at)}


async def take_note(call: Call) -> Any:
    """What SDKs tell of the phone that they run on; taken and forgotten."""
    return {}


async def not_built(call: Call) -> Any:
    """Not built."""
    raise e.Refused(e.NOT_BUILT)


def _caller(call: Call) -> AppCaller:
    caller = call.caller
    assert isinstance(caller, AppCaller)
    return caller


async def _user(call: Call) -> UserRecord:
    caller = _caller(call)
    users: Users = side_of(call).users
    user = await users.get(caller.app, caller.uid)
    if user is None:
        raise e.Refused(e.USER_NOT_EXIST)
    return user


def _iso(at: float) -> str:
    """As in 2011-11-07T21:25:10.623Z."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


ANY_TYPE = ("*/*",)

ROUTES = (
    Route("POST", "/app/users", add_user, APP, body=NewUser, status=201, accepts=ANY_TYPE, lenient=True),
    Route("PUT", "/app/users", change_user, USER, body=UserChanges, accepts=ANY_TYPE, lenient=True),
    Route("GET", "/app/users", get_user, USER, lenient=True),
    Route("POST", "/app/login", log_in, APP, body=LoginForm, accepts=ANY_TYPE, lenient=True),
    Route("POST", "/app/request_token", request_token, APP, accepts=ANY_TYPE, lenient=True),
    Route("POST", "/app/provision", take_note, APP, accepts=ANY_TYPE, lenient=True),
    Route("POST", "/app/codes", not_built, APP, accepts=ANY_TYPE, lenient=True),
    Route("POST", "/app/reset_password", not_built, APP, accepts=ANY_TYPE, lenient=True),
    Route("GET", "/app/datapoint", not_built, APP, lenient=True),
    Route("GET", "/app/scheduler", not_built, USER, lenient=True),
    Route("POST", "/app/scheduler", not_built, USER, accepts=ANY_TYPE, lenient=True),
    Route("DELETE", "/app/scheduler/{id}", not_built, USER, lenient=True),
)
