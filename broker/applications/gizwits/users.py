"""The users of applications: made, logged in, changed, bound to devices, removed. Kept in storage's ordered records.

A user is read, changed and written under a lock of its own, with the record that was read as the precondition: two
changes at once follow one another, in this process and against another one. Whoever has to know at once (connections,
see `broker.applications.gizwits.people`) is told of each `UserChange` when it is on disk.

What is allowed in a name or a password is the caller's business (`forms`); who may ask is, too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from secrets import token_hex
from typing import Any, Final, NamedTuple

import msgspec
from twisted.internet.defer import DeferredLock
from twisted.logger import Logger

from broker.applications.gizwits.passwords import Passwords
from broker.applications.gizwits.settings import UserLimits
from broker.applications.gizwits.user_records import (
    BOUND,
    EMAIL,
    NAMES,
    PHONE,
    TOKENS,
    USERNAME,
    USERS,
    Binding,
    Session,
    TokenRecord,
    UserRecord,
    bound_key,
    name_key,
    read,
    token_key,
    user_key,
    written,
)
from broker.devices.gizwits import errors as e
from broker.model.errors import Conflict, Unavailable
from broker.storage.records import Change

#: How often a change is tried again when another process was quicker.
_TRIES: Final = 5
_PAGE: Final = 500
#: The kinds of names that a person logs in with, in the order in which they are looked for.
LOGIN_NAMES: Final = (USERNAME, EMAIL, PHONE)
#: What is said of a name that another user has.
TAKEN: Final = {USERNAME: e.USERNAME_UNAVAILABLE, EMAIL: e.EMAIL_UNAVAILABLE, PHONE: e.PHONE_UNAVAILABLE}


class UserChange(NamedTuple):
    """``what``: bound or unbound (``which`` is the did), token_gone (its key), user_removed ("")."""

    what: str
    app: str
    uid: str
    which: str = ""


Edit = Callable[[UserRecord], tuple[UserRecord, list[Change], list[UserChange]]]


class Users:
    """``storage`` has the three calls for records of `broker.storage.interface.IStorage`."""

    log = Logger(namespace="broker.gizwits")

    def __init__(
        self,
        storage: Any,
        clock: Callable[[], float],
        limits: UserLimits,
        passwords: Passwords,
        random: Callable[[int], str] = token_hex,
    ) -> None:
        self._storage = storage
        self._clock = clock
        self.limits = limits
        self.passwords = passwords
        self._random = random
        self.on_change: list[Callable[[UserChange], None]] = []
        self._locks: dict[str, DeferredLock] = {}
        #: application -> how many users it has; counted when it is first needed.
        self._counts: dict[str, int] = {}

    # -- users -----------------------------------------------------------------------------------------------------

    async def known(self, app: str, kind: str, name: str, profile: dict[str, str] | None = None) -> Session:
        """The user of this name, which nobody has to prove any more, made when there is none; logged in."""
        for _ in range(_TRIES):
            uid = await self.find(app, kind, name)
            if uid is not None:
                return await self.log_in(app, uid)
            try:
                return await self._add(app, {kind: name}, "", profile or {})
            except Conflict:
                continue
        raise Unavailable("the user changed while it was read")

    async def register(self, app: str, kind: str, name: str, password: str, profile: dict[str, str]) -> Session:
        """A new user with a password, logged in. Raises Refused when the name is taken."""
        if await self.find(app, kind, name) is not None:
            raise e.Refused(TAKEN[kind])
        hashed = await self.passwords.hash(password)
        try:
            return await self._add(app, {kind: name}, hashed, profile)
        except Conflict:
            raise e.Refused(TAKEN[kind]) from None

    async def log_in_with(self, app: str, name: str, password: str) -> Session:
        """By user name, e-mail address or telephone number. Raises Refused (9020), as slowly for a name of nobody."""
        users = []
        for kind in LOGIN_NAMES:
            uid = await self.find(app, kind, name.lower() if kind == EMAIL else name)
            user = None if uid is None else await self.get(app, uid)
            if user is not None:
                users.append(user)
        # One's user name may look like another's address: neither is to keep the other out.
        for user in users:
            if await self.passwords.verify(password, user.password or None):
                return await self.log_in(app, user.uid)
        if not users:
            await self.passwords.verify(password, None)
        raise e.Refused(e.PASSWORD_WRONG)

    async def get(self, app: str, uid: str) -> UserRecord | None:
        value = await self._storage.get_record(USERS, user_key(app, uid))
        return None if value is None else read(value, UserRecord)

    async def find(self, app: str, kind: str, name: str) -> str | None:
        """The uid of who has this name."""
        value = await self._storage.get_record(NAMES, name_key(app, kind, name))
        return None if value is None else str(value, "utf-8")

    async def page(self, app: str, limit: int, after: str | None) -> list[UserRecord]:
        """Users of an application by uid; ``after``: the last uid of the page before."""
        prefix = user_key(app, "")
        rows = await self._storage.list_records(USERS, prefix, limit, None if after is None else prefix + after)
        return [read(value, UserRecord) for _, value in rows]

    async def rename(self, app: str, uid: str, names: dict[str, str], password: str | None = None) -> UserRecord:
        """Give a user names, and a password. Raises Refused when a name is taken."""
        hashed = None if password is None else await self.passwords.hash(password)

        def edit(user: UserRecord) -> tuple[UserRecord, list[Change], list[UserChange]]:
            changes = []
            for kind, name in names.items():
                old = user.names.get(kind)
                if old == name:
                    continue
                if old is not None:
                    changes.append(Change(NAMES, name_key(app, kind, old), None))
                changes.append(Change(NAMES, name_key(app, kind, name), uid.encode(), None))
            fresh = msgspec.structs.replace(
                user, names={**user.names, **names}, password=user.password if hashed is None else hashed
            )
            return fresh, changes, []

        for kind, name in names.items():
            owner = await self.find(app, kind, name)
            if owner not in (None, uid):
                raise e.Refused(TAKEN[kind])
        return await self._edit(app, uid, edit)

    async def set_profile(self, app: str, uid: str, profile: dict[str, str]) -> UserRecord:
        def edit(user: UserRecord) -> tuple[UserRecord, list[Change], list[UserChange]]:
            return msgspec.structs.replace(user, profile={**user.profile, **profile}), [], []

        return await self._edit(app, uid, edit)

    async def set_password(self, app: str, uid: str, password: str, kept: str) -> UserRecord:
        """A new password; every log-in but the one with the token ``kept`` ends."""
        hashed = await self.passwords.hash(password)
        keep = token_key(kept)

        def edit(user: UserRecord) -> tuple[UserRecord, list[Change], list[UserChange]]:
            gone = [key for key in user.tokens if key != keep]
            tokens = {key: expiry for key, expiry in user.tokens.items() if key == keep}
            fresh = msgspec.structs.replace(user, password=hashed, tokens=tokens)
            return fresh, *_dropped(user, gone)

        return await self._edit(app, uid, edit)

    async def remove(self, app: str, uid: str) -> bool:
        """Remove a user with everything that is kept of it. False if there was none."""
        async with self.lock(user_key(app, uid)):
            user = await self.get(app, uid)
            if user is None:
                return False
            await self._storage.write_records(_all_of(user))
        if app in self._counts:
            self._counts[app] -= 1
        self._tell([UserChange("user_removed", app, uid)])
        return True

    async def remove_all(self, app: str) -> None:
        """The application is gone: so are its users."""
        while True:
            users = await self.page(app, _PAGE, None)
            if not users:
                break
            await self._storage.write_records([change for user in users for change in _all_of(user)])
        self._counts.pop(app, None)

    # -- tokens ----------------------------------------------------------------------------------------------------

    async def log_in(self, app: str, uid: str) -> Session:
        """A new token; the oldest go when there are too many, and those that have expired."""
        session = self._new_session(uid)
        key = token_key(session.token)

        def edit(user: UserRecord) -> tuple[UserRecord, list[Change], list[UserChange]]:
            now = self._clock()
            good = [one for one, expiry in sorted(user.tokens.items(), key=lambda item: item[1]) if expiry > now]
            kept = good[-(self.limits.max_tokens - 1) :] if self.limits.max_tokens > 1 else []
            tokens = {one: user.tokens[one] for one in kept}
            changes, told = _dropped(user, [one for one in user.tokens if one not in tokens])
            changes.append(Change(TOKENS, key, written(TokenRecord(app, uid, session.expires_at)), None))
            return msgspec.structs.replace(user, tokens={**tokens, key: session.expires_at}), changes, told

        await self._edit(app, uid, edit)
        return session

    async def token(self, app: str, token: str) -> TokenRecord:
        """Whose token it is. Raises Refused (9004, 9006)."""
        value = await self._storage.get_record(TOKENS, token_key(token))
        record = None if value is None else read(value, TokenRecord)
        if record is None or record.app != app:
            raise e.Refused(e.TOKEN_INVALID)
        if record.expires_at <= self._clock():
            raise e.Refused(e.TOKEN_EXPIRED)
        return record

    def _new_session(self, uid: str) -> Session:
        return Session(uid, self._random(16), self._clock() + self.limits.token_lifetime)

    # -- bindings --------------------------------------------------------------------------------------------------

    async def bind(self, app: str, uid: str, did: str, remark: str = "", dev_alias: str = "") -> UserRecord:
        """Bind a device, or change what is noted of it. Raises Refused (9011) past the limit."""

        def edit(user: UserRecord) -> tuple[UserRecord, list[Change], list[UserChange]]:
            old = user.bindings.get(did)
            if old is None and len(user.bindings) >= self.limits.max_bindings:
                raise e.Refused(e.QUOTA_REACHED, f"a user may bind {self.limits.max_bindings} devices")
            binding = Binding(self._clock() if old is None else old.at, remark, dev_alias)
            fresh = msgspec.structs.replace(user, bindings={**user.bindings, did: binding})
            if old is not None:
                return fresh, [], []
            return fresh, [Change(BOUND, bound_key(did, app, uid), b"")], [UserChange("bound", app, uid, did)]

        return await self._edit(app, uid, edit)

    async def unbind(self, app: str, uid: str, did: str) -> bool:
        """False if it was not bound."""
        was_bound = False

        def edit(user: UserRecord) -> tuple[UserRecord, list[Change], list[UserChange]]:
            nonlocal was_bound
            was_bound = did in user.bindings
            if not was_bound:
                return user, [], []
            bindings = {one: binding for one, binding in user.bindings.items() if one != did}
            fresh = msgspec.structs.replace(user, bindings=bindings)
            return fresh, [Change(BOUND, bound_key(did, app, uid), None)], [UserChange("unbound", app, uid, did)]

        await self._edit(app, uid, edit)
        return was_bound

    async def bound_to(self, did: str) -> list[tuple[str, str]]:
        """(application, uid) of those who have bound a device."""
        found: list[tuple[str, str]] = []
        prefix, after = f"{did}/", None
        while True:
            rows = await self._storage.list_records(BOUND, prefix, _PAGE, after)
            for key, _ in rows:
                app, _, uid = key.removeprefix(prefix).partition("/")
                found.append((app, uid))
            if len(rows) < _PAGE:
                return found
            after = rows[-1][0]

    async def has_device(self, app: str, did: str) -> bool:
        """Whether any user of the application has bound a device."""
        return bool(await self._storage.list_records(BOUND, bound_key(did, app, ""), 1, None))

    async def forget_device(self, did: str) -> None:
        """The device is gone: nobody has it bound any more, should one of the same id come."""
        for app, uid in await self.bound_to(did):
            try:
                await self.unbind(app, uid, did)
            except e.Refused:  # the user has gone as well
                await self._storage.write_records([Change(BOUND, bound_key(did, app, uid), None)])

    async def tidy(
        self, application: Callable[[str], Awaitable[object]], device: Callable[[str], Awaitable[object]]
    ) -> None:
        """Finish what a crash may have left undone: users and bindings of what is gone. Both answer None for that."""
        after: str | None = None
        while rows := await self._storage.list_records(USERS, "", 1, after):
            app = rows[0][0].partition("/")[0]
            if await application(app) is None:
                await self.remove_all(app)
            after = user_key(app, chr(0x10FFFF))
        after = None
        while rows := await self._storage.list_records(BOUND, "", _PAGE, after):
            after = rows[-1][0]
            for did in {key.partition("/")[0] for key, _ in rows}:
                if await device(did) is None:
                    await self.forget_device(did)

    # -- inside ----------------------------------------------------------------------------------------------------

    async def _add(self, app: str, names: dict[str, str], password: str, profile: dict[str, str]) -> Session:
        """Raises Conflict when somebody has one of the names."""
        if app not in self._counts:
            await self._count(app)
        if self._counts[app] >= self.limits.max_users:
            raise e.Refused(e.QUOTA_REACHED, f"an application may have {self.limits.max_users} users")
        self._counts[app] += 1
        uid = self._random(16)
        session = self._new_session(uid)
        key = token_key(session.token)
        now = self._clock()
        user = UserRecord(
            app=app,
            uid=uid,
            created_at=now,
            updated_at=now,
            names=names,
            password=password,
            profile=profile,
            tokens={key: session.expires_at},
        )
        changes = [Change(NAMES, name_key(app, kind, name), uid.encode(), None) for kind, name in names.items()]
        changes.append(Change(USERS, user_key(app, uid), written(user), None))
        changes.append(Change(TOKENS, key, written(TokenRecord(app, uid, session.expires_at)), None))
        try:
            await self._storage.write_records(changes)
        except BaseException:
            self._counts[app] -= 1
            raise
        return session

    async def _count(self, app: str) -> None:
        async with self.lock(f"{app}/"):
            if app in self._counts:
                return
            count, after = 0, None
            while True:
                rows = await self._storage.list_records(USERS, user_key(app, ""), _PAGE, after)
                count += len(rows)
                if len(rows) < _PAGE:
                    self._counts[app] = count
                    return
                after = rows[-1][0]

    async def _edit(self, app: str, uid: str, edit: Edit) -> UserRecord:
        """Read, change, write, tell. Raises Refused (9005) when there is no such user, and what ``edit`` raises."""
        key = user_key(app, uid)
        async with self.lock(key):
            for _ in range(_TRIES):
                value = await self._storage.get_record(USERS, key)
                if value is None:
                    raise e.Refused(e.USER_NOT_EXIST)
                old = read(value, UserRecord)
                user, changes, told = edit(old)
                if user is old:
                    return old
                user = msgspec.structs.replace(user, updated_at=self._clock())
                try:
                    await self._storage.write_records([Change(USERS, key, written(user), value), *changes])
                except Conflict:
                    taken = _taken_name(changes)
                    if taken is not None and await self._storage.get_record(NAMES, taken) is not None:
                        raise e.Refused(TAKEN[taken.split("/", 2)[1]]) from None
                    continue
                self._tell(told)
                return user
        raise Unavailable("the user changed while it was read")

    @asynccontextmanager
    async def lock(self, key: str) -> Any:
        """Held while the record of that key is read and written."""
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = DeferredLock()
        await lock.acquire()
        try:
            yield
        finally:
            lock.release()
            if not lock.locked and self._locks.get(key) is lock:
                del self._locks[key]

    def _tell(self, changes: Iterable[UserChange]) -> None:
        for change in changes:
            for listener in list(self.on_change):
                try:
                    listener(change)
                except Exception:
                    self.log.failure("fault of a listener told of {change}", change=change)


def _dropped(user: UserRecord, keys: list[str]) -> tuple[list[Change], list[UserChange]]:
    """What goes with tokens that are good no longer."""
    return (
        [Change(TOKENS, key, None) for key in keys],
        [UserChange("token_gone", user.app, user.uid, key) for key in keys],
    )


def _all_of(user: UserRecord) -> list[Change]:
    """What takes a user away."""
    app, uid = user.app, user.uid
    return [
        Change(USERS, user_key(app, uid), None),
        *(Change(NAMES, name_key(app, kind, name), None) for kind, name in user.names.items()),
        *(Change(TOKENS, key, None) for key in user.tokens),
        *(Change(BOUND, bound_key(did, app, uid), None) for did in user.bindings),
    ]


def _taken_name(changes: list[Change]) -> str | None:
    """The key of the first name that ``changes`` want to be free."""
    return next((change.key for change in changes if change.table == NAMES and change.value is not None), None)
