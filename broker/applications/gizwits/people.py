"""Who is here: users with an app that is connected now, what they may see, and how many apps each device has.

A `Person` is a user with at least one app that is logged in, over MQTT or WebSocket. Its ``devices`` are kept true
while it is held: every app asks them, so a binding that goes counts at once, on every connection. An `OnlineApp` ends
with its token, its user or its application.

The apps of a device (what it is told with 0x0210) are the connections of those who have bound it: "all online Apps that
have bound this device" (4.8 of the device document), subscribed or not.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Final, Protocol
from weakref import WeakValueDictionary

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from broker.applications.gizwits.user_records import token_key, user_key
from broker.applications.gizwits.users import UserChange, Users
from broker.core import Core
from broker.devices.gizwits import errors as e
from broker.devices.gizwits.apps_online import AppsOnline
from broker.model.errors import BrokerError
from broker.storage.registry import Change

#: Kinds of applications that have users.
KIND: Final = "gizwits"
#: A timer may not be set for ever; a longer token is looked at again.
_LONGEST_TIMER: Final = 86_400.0


class OnlineApp(Protocol):
    """A connection of a person's app."""

    #: `user_records.token_key` of what it logged in with.
    token: str
    client_id: str
    person: Person

    def end(self, reason: str) -> None:
        """Close it; ``reason`` is of names.CLOSE_REASONS."""

    def binding_changed(self, did: str, bound: bool) -> None:
        """The person has bound a device, or has lost it."""


class Person:
    """A user of an application who is here."""

    __slots__ = ("__weakref__", "app", "apps", "devices", "ended", "gone", "uid")

    def __init__(self, app: str, uid: str, devices: Iterable[str]) -> None:
        self.app = app
        self.uid = uid
        #: Ids of the devices bound.
        self.devices = set(devices)
        self.apps: set[Any] = set()
        #: Tokens that ended while it was here, and whether all of them did.
        self.ended: set[str] = set()
        self.gone = False

    def may_see(self, did: str) -> bool:
        return did in self.devices

    def __repr__(self) -> str:
        return f"<Person {self.app}/{self.uid} with {len(self.devices)} devices>"


class People:
    """Everybody who is here."""

    log: ClassVar[Logger] = Logger(namespace="broker.gizwits")

    def __init__(self, core: Core, users: Users, apps_online: AppsOnline) -> None:
        self._core = core
        self.users = users
        self._apps_online = apps_online
        #: Those whom somebody holds: a connection, or a log-in that is nearly one.
        self._here: WeakValueDictionary[str, Person] = WeakValueDictionary()
        #: AppClientId -> whose it is: an answer to one app is for that one alone.
        self._client_ids: dict[str, Any] = {}
        self._timers: dict[Any, Any] = {}
        #: Changes of applications so far, for log-ins under way.
        self._application_changes = 0
        #: Keys of users that are being read, until another process tells of a change.
        self._reading: set[str] = set()
        core.backplane.watch(fenced=self._fenced)
        users.on_change.append(self._user_changed)
        core.registry.on_change.append(self._changed)

    # -- logging in ------------------------------------------------------------------------------------------------

    async def application(self, app: str) -> None:
        """Raises Refused (9003) unless it is an application that has users."""
        record = await self._core.storage.get_application(app)
        if record is None or record.kind != KIND or record.disabled:
            raise e.Refused(e.APPID_INVALID)

    async def prove(self, app: str, uid: str, token: str) -> tuple[Person, float]:
        """The person who has this token, and when that ends. Raises Refused."""
        while True:
            changes = self._application_changes
            await self.application(app)
            record = await self.users.token(app, token)
            if record.uid != uid:
                raise e.Refused(e.TOKEN_INVALID)
            key = user_key(app, uid)
            async with self.users.lock(key):
                self._reading.add(key)
                try:
                    user = await self.users.get(app, uid)
                    unchanged = key in self._reading
                finally:
                    self._reading.discard(key)
                if user is None or token_key(token) not in user.tokens:
                    raise e.Refused(e.TOKEN_INVALID)
                if unchanged and changes == self._application_changes:
                    # From here on it is told what changes: nothing may be waited for in between.
                    person = self._here.get(key)
                    if person is None or person.gone:
                        person = self._here[key] = Person(app, uid, user.bindings)
                    return person, record.expires_at

    def arrived(self, app: OnlineApp, expires_at: float) -> None:
        """An app is connected. It may be ended at once, for what happened since `prove`."""
        person = app.person
        person.apps.add(app)
        self._client_ids[app.client_id] = app
        self.count(person.devices, 1)
        if person.gone or app.token in person.ended:
            app.end("removed")
        else:
            self._watch(app, expires_at)

    def left(self, app: OnlineApp) -> None:
        """The app is gone. Harmless when it was told before."""
        person = app.person
        if app not in person.apps:
            return
        person.apps.discard(app)
        if self._client_ids.get(app.client_id) is app:
            del self._client_ids[app.client_id]
        timer = self._timers.pop(app, None)
        if timer is not None:
            timer.cancel()
        self.count(person.devices, -1)

    def owner_of(self, client_id: str) -> Person | None:
        """Whose app has this AppClientId now."""
        app = self._client_ids.get(client_id)
        return None if app is None else app.person

    def _watch(self, app: OnlineApp, expires_at: float) -> None:
        left = expires_at - self._core.clock()
        if left <= 0:
            self._timers.pop(app, None)
            app.end("removed")
            return
        wait = min(left, _LONGEST_TIMER)
        self._timers[app] = self._core.reactor.callLater(wait, self._watch, app, expires_at)

    # -- how many apps a device has --------------------------------------------------------------------------------

    def count(self, devices: Iterable[str], change: int) -> None:
        """An app that has bound these devices came (1) or went (-1)."""
        apps_online = self._apps_online
        for did in list(devices):
            apps_online.change(did, apps_online.count(did) + change)

    # -- changes ---------------------------------------------------------------------------------------------------

    def _user_changed(self, change: UserChange) -> None:
        person = self._here.get(user_key(change.app, change.uid))
        if person is None:
            return
        match change.what:
            case "bound":
                self._bound(person, change.which)
            case "unbound":
                self._unbound(person, change.which)
            case "token_gone":
                person.ended.add(change.which)
                for app in list(person.apps):
                    if app.token == change.which:
                        app.end("removed")
            case "user_removed":
                self._end(person)

    def changed_elsewhere(self, change: UserChange) -> None:
        """Another process has changed a user. What it binds may have been unbound here since, or the other way round:
        what is bound is read again. The rest is for good.
        """
        key = user_key(change.app, change.uid)
        self._reading.discard(key)
        if change.what != "bound":
            self._user_changed(change)
        if change.what in ("bound", "unbound") and key in self._here:
            self._begin(self._read_again(change.app, change.uid))

    async def _read_again(self, app: str, uid: str) -> None:
        key = user_key(app, uid)
        async with self.users.lock(key):
            user = await self.users.get(app, uid)
            person = self._here.get(key)
            if user is None or person is None or person.gone:
                return
            for did in person.devices - user.bindings.keys():
                self._unbound(person, did)
            for did in user.bindings.keys() - person.devices:
                self._bound(person, did)

    def _fenced(self) -> None:
        """For the others this process is dead, and what they have changed since was not heard here."""
        for person in list(self._here.values()):
            for app in list(person.apps):
                app.end("unavailable")

    def _bound(self, person: Person, did: str) -> None:
        if did in person.devices:
            return
        person.devices.add(did)
        self._core.topics.rights_changed(lost=False)
        for app in list(person.apps):
            self.count((did,), 1)
            app.binding_changed(did, True)

    def _unbound(self, person: Person, did: str) -> None:
        if did not in person.devices:
            return
        person.devices.discard(did)
        self._core.topics.rights_changed()
        for app in list(person.apps):
            self.count((did,), -1)
            app.binding_changed(did, False)

    def _changed(self, change: Change) -> None:
        """What the registry tells."""
        if change.what == "device_removed":
            for person in list(self._here.values()):
                self._unbound(person, change.id)
            self._begin(self.users.forget_device(change.id))
        elif change.what in ("application_removed", "application_disabled"):
            self._application_changes += 1
            for person in list(self._here.values()):
                if person.app == change.id:
                    self._end(person)
            if change.what == "application_removed":
                self._begin(self.users.remove_all(change.id))

    def _end(self, person: Person) -> None:
        person.gone = True
        for app in list(person.apps):
            app.end("removed")
        person.devices.clear()  # a session that is away has no connection that could end

    def tidy(self) -> None:
        """Look for what a crash may have left, while everything else goes on."""
        registry = self._core.registry
        self._begin(self.users.tidy(self._core.storage.get_application, registry.find_device))

    def _begin(self, job: Any) -> None:
        started: Deferred[None] = Deferred.fromCoroutine(job)
        started.addErrback(self._left_undone)

    def _left_undone(self, failure: Failure) -> None:
        """Storage is away: the next start finds what is left."""
        if isinstance(failure.value, BrokerError):
            self.log.warn("users were not looked after: {why}", why=failure.value.message)
        else:
            self.log.failure("fault while users were tidied up", failure)
