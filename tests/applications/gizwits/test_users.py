"""Users: made, logged in, renamed, bound, removed; nothing without a bound, and nothing half-written."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from broker.applications.gizwits.passwords import MAX_WAITING, Passwords
from broker.applications.gizwits.settings import UserLimits
from broker.applications.gizwits.user_records import (
    AUTH,
    EMAIL,
    NAMES,
    PHONE,
    PHONE_ID,
    TOKENS,
    USERNAME,
    USERS,
    token_key,
)
from broker.applications.gizwits.users import UserChange, Users
from broker.devices.gizwits import errors as e
from broker.model.errors import Unavailable
from tests.applications.gizwits.memory_records import MemoryRecords

T = TypeVar("T")
NOW = 1_763_700_000.0
DAY = 86_400.0


class UsersCase(SynchronousTestCase):
    limits = UserLimits(max_users=5, max_bindings=3, max_tokens=3)

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.records = MemoryRecords()
        self.passwords = Passwords(maybeDeferred, cost=4)
        self.users = Users(self.records, self.clock.seconds, self.limits, self.passwords)
        self.told: list[UserChange] = []
        self.users.on_change.append(self.told.append)

    def get(self, job: Coroutine[Any, Any, T]) -> T:
        return self.successResultOf(Deferred.fromCoroutine(job))

    def refusal(self, job: Coroutine[Any, Any, Any]) -> int:
        error = self.failureResultOf(Deferred.fromCoroutine(job), e.Refused).value
        assert isinstance(error, e.Refused)
        return error.code.number

    def user(self, uid: str, app: str = "app") -> Any:
        return self.get(self.users.get(app, uid))


class LoginTests(UsersCase):
    def test_a_phone_is_always_the_same_user(self) -> None:
        first = self.get(self.users.known("app", PHONE_ID, "phone-1"))
        again = self.get(self.users.known("app", PHONE_ID, "phone-1"))
        self.assertEqual(first.uid, again.uid)
        self.assertNotEqual(first.token, again.token)
        self.assertEqual((len(first.uid), len(first.token)), (32, 32))
        self.assertEqual(first.expires_at, NOW + 7 * DAY)
        for session in (first, again):
            self.assertEqual(self.get(self.users.token("app", session.token)).uid, first.uid)

    def test_two_applications_have_users_of_their_own(self) -> None:
        one, other = (self.get(self.users.known(app, PHONE_ID, "p")) for app in ("app", "other"))
        self.assertNotEqual(one.uid, other.uid)
        self.assertEqual(self.refusal(self.users.token("other", one.token)), 9004)

    def test_log_in_by_every_name(self) -> None:
        made = self.get(self.users.register("app", USERNAME, "ann", "secret", {}))
        self.get(self.users.rename("app", made.uid, {EMAIL: "ann@example.org", PHONE: "13800000000"}))
        for name in ("ann", "Ann@Example.org", "13800000000"):
            self.assertEqual(self.get(self.users.log_in_with("app", name, "secret")).uid, made.uid)

    def test_wrong_password_unknown_name_and_no_password(self) -> None:
        self.get(self.users.register("app", USERNAME, "ann", "secret", {}))
        self.get(self.users.known("app", AUTH, "qq/1"))
        for name, password in (("ann", "Secret"), ("bob", "secret"), ("ann", ""), ("qq/1", "")):
            self.assertEqual(self.refusal(self.users.log_in_with("app", name, password)), 9020)

    def test_a_name_belongs_to_one_user(self) -> None:
        self.get(self.users.register("app", USERNAME, "ann", "secret", {}))
        bob = self.get(self.users.register("app", EMAIL, "bob@example.org", "secret", {}))
        self.assertEqual(self.refusal(self.users.register("app", USERNAME, "ann", "x", {})), 9019)
        self.assertEqual(self.refusal(self.users.register("app", EMAIL, "bob@example.org", "x", {})), 9022)
        self.assertEqual(self.refusal(self.users.rename("app", bob.uid, {USERNAME: "ann"})), 9019)
        self.assertEqual(self.user(bob.uid).names, {EMAIL: "bob@example.org"})

    def test_a_name_that_was_given_up_is_free(self) -> None:
        ann = self.get(self.users.register("app", USERNAME, "ann", "secret", {}))
        self.get(self.users.rename("app", ann.uid, {USERNAME: "anna"}))
        self.get(self.users.register("app", USERNAME, "ann", "secret", {}))
        self.assertEqual(self.get(self.users.log_in_with("app", "anna", "secret")).uid, ann.uid)

    def test_the_password_is_nowhere(self) -> None:
        session = self.get(self.users.register("app", USERNAME, "ann", "a password of mine", {}))
        kept = repr(self.records.tables)
        self.assertNotIn("a password of mine", kept)
        self.assertNotIn(session.token, kept)
        self.assertNotIn(session.token, repr(session))
        self.assertNotIn("scrypt", repr(self.user(session.uid)))

    def test_users_are_limited(self) -> None:
        for number in range(5):
            self.get(self.users.known("app", PHONE_ID, f"phone-{number}"))
        self.assertEqual(self.refusal(self.users.known("app", PHONE_ID, "one too many")), 9011)
        self.get(self.users.known("app", PHONE_ID, "phone-1"))  # who is there may come
        fresh = Users(self.records, self.clock.seconds, self.limits, self.passwords)  # as after a restart
        self.assertEqual(self.refusal(fresh.known("app", PHONE_ID, "one too many")), 9011)
        self.get(self.users.remove("app", self.get(self.users.known("app", PHONE_ID, "phone-1")).uid))
        self.get(self.users.known("app", PHONE_ID, "one too many"))

    def test_storage_that_fails_makes_nobody(self) -> None:
        self.records.broken = True
        self.failureResultOf(Deferred.fromCoroutine(self.users.known("app", PHONE_ID, "p")), Unavailable)
        self.records.broken = False
        self.get(self.users.known("app", PHONE_ID, "p"))


class TokenTests(UsersCase):
    def test_a_token_ends(self) -> None:
        session = self.get(self.users.known("app", PHONE_ID, "p"))
        self.clock.advance(7 * DAY - 1)
        self.get(self.users.token("app", session.token))
        self.clock.advance(1)
        self.assertEqual(self.refusal(self.users.token("app", session.token)), 9006)
        self.get(self.users.known("app", PHONE_ID, "p"))
        self.assertEqual(self.refusal(self.users.token("app", session.token)), 9004)
        self.assertEqual(len(self.records.tables[TOKENS]), 1)

    def test_the_oldest_go_first(self) -> None:
        sessions = []
        for _ in range(5):
            self.clock.advance(1)
            sessions.append(self.get(self.users.known("app", PHONE_ID, "p")))
        self.assertEqual([self.refusal(self.users.token("app", one.token)) for one in sessions[:2]], [9004] * 2)
        for one in sessions[2:]:
            self.get(self.users.token("app", one.token))
        self.assertEqual(len(self.records.tables[TOKENS]), 3)
        gone = [one.which for one in self.told if one.what == "token_gone"]
        self.assertEqual(gone, [token_key(one.token) for one in sessions[:2]])

    def test_made_up_tokens(self) -> None:
        for token in ("", "0" * 32, "\ud800", "../users/x"):
            self.assertEqual(self.refusal(self.users.token("app", token)), 9004)

    def test_a_new_password_ends_the_other_log_ins(self) -> None:
        first = self.get(self.users.register("app", USERNAME, "ann", "old", {}))
        second = self.get(self.users.log_in_with("app", "ann", "old"))
        self.get(self.users.set_password("app", first.uid, "new", second.token))
        self.assertEqual(self.refusal(self.users.token("app", first.token)), 9004)
        self.get(self.users.token("app", second.token))
        self.assertEqual(self.refusal(self.users.log_in_with("app", "ann", "old")), 9020)
        self.get(self.users.log_in_with("app", "ann", "new"))


class BindingTests(UsersCase):
    def setUp(self) -> None:
        super().setUp()
        self.uid = self.get(self.users.known("app", PHONE_ID, "p")).uid

    def test_bind_again_and_unbind(self) -> None:
        self.get(self.users.bind("app", self.uid, "d1", "lamp"))
        self.clock.advance(5)
        self.get(self.users.bind("app", self.uid, "d1", "", "alias"))
        binding = self.user(self.uid).bindings["d1"]
        self.assertEqual((binding.at, binding.remark, binding.dev_alias), (NOW, "", "alias"))
        self.assertTrue(self.get(self.users.unbind("app", self.uid, "d1")))
        self.assertFalse(self.get(self.users.unbind("app", self.uid, "d1")))
        self.assertEqual(
            self.told, [UserChange("bound", "app", self.uid, "d1"), UserChange("unbound", "app", self.uid, "d1")]
        )

    def test_bindings_are_limited(self) -> None:
        for number in range(3):
            self.get(self.users.bind("app", self.uid, f"d{number}"))
        self.assertEqual(self.refusal(self.users.bind("app", self.uid, "d3")), 9011)
        self.get(self.users.bind("app", self.uid, "d2", "still mine"))

    def test_a_device_that_goes(self) -> None:
        other = self.get(self.users.known("other", PHONE_ID, "p")).uid
        self.get(self.users.bind("app", self.uid, "d1"))
        self.get(self.users.bind("app", self.uid, "d12"))
        self.get(self.users.bind("other", other, "d1"))
        self.assertEqual(self.get(self.users.bound_to("d1")), [("app", self.uid), ("other", other)])
        self.get(self.users.forget_device("d1"))
        self.assertEqual(self.get(self.users.bound_to("d1")), [])
        self.assertEqual(set(self.user(self.uid).bindings), {"d12"})
        self.assertEqual(self.user(other, "other").bindings, {})

    def test_a_user_goes_with_everything(self) -> None:
        self.get(self.users.bind("app", self.uid, "d1"))
        self.assertTrue(self.get(self.users.remove("app", self.uid)))
        self.assertFalse(self.get(self.users.remove("app", self.uid)))
        self.assertEqual([table for table, rows in self.records.tables.items() if rows], [])
        self.assertEqual(self.refusal(self.users.bind("app", self.uid, "d1")), 9005)

    def test_an_application_goes_with_its_users(self) -> None:
        for number in range(3):
            self.get(self.users.register("app", USERNAME, f"u{number}", "x", {}))
        self.get(self.users.known("app2", PHONE_ID, "p"))
        self.get(self.users.remove_all("app"))
        self.assertEqual([len(self.records.tables[table]) for table in (USERS, NAMES, TOKENS)], [1, 1, 1])
        self.get(self.users.known("app", PHONE_ID, "p"))


class TidyTests(UsersCase):
    def test_what_a_crash_left(self) -> None:
        """The application or the device was removed, and the broker was killed before its users heard of it."""
        uids = {app: self.get(self.users.known(app, PHONE_ID, "p")).uid for app in ("app", "gone", "other")}
        for app, uid in uids.items():
            for did in ("d1", "d2", "lost"):
                self.get(self.users.bind(app, uid, did))

        async def application(app: str) -> object:
            return None if app == "gone" else app

        async def device(did: str) -> object:
            return None if did == "lost" else did

        self.get(self.users.tidy(application, device))
        self.assertIsNone(self.user(uids["gone"], "gone"))
        for app in ("app", "other"):
            self.assertEqual(set(self.user(uids[app], app).bindings), {"d1", "d2"})
        before = repr(self.records.tables)
        self.get(self.users.tidy(application, device))
        self.assertEqual(repr(self.records.tables), before)
        self.assertEqual([len(self.records.tables[table]) for table in (USERS, NAMES, TOKENS)], [2, 2, 2])


class AtOnceTests(UsersCase):
    """Two calls for one user at the same time: storage answers when it is told to."""

    def setUp(self) -> None:
        super().setUp()
        self.waiting: list[tuple[Deferred[Any], Any]] = []
        plain = self.records.write_records

        def write(changes: Any) -> Deferred[None]:
            later: Deferred[Any] = Deferred()
            self.waiting.append((later, lambda: plain(changes)))
            return later

        self.records.write_records = write  # type: ignore[method-assign]  # the same call, answered later

    def go_on(self) -> None:
        while self.waiting:
            later, write = self.waiting.pop(0)
            write().chainDeferred(later)

    def test_the_first_log_ins_of_one_phone(self) -> None:
        jobs = [Deferred.fromCoroutine(self.users.known("app", PHONE_ID, "p")) for _ in range(3)]
        self.go_on()
        sessions = [self.successResultOf(job) for job in jobs]
        self.assertEqual(len({one.uid for one in sessions}), 1)
        self.assertEqual(len({one.token for one in sessions}), 3)

    def test_many_changes_of_one_user(self) -> None:
        making = Deferred.fromCoroutine(self.users.known("app", PHONE_ID, "p"))
        self.go_on()
        uid = self.successResultOf(making).uid
        jobs = [Deferred.fromCoroutine(self.users.bind("app", uid, f"d{number}")) for number in range(3)]
        jobs.append(Deferred.fromCoroutine(self.users.set_profile("app", uid, {"name": "Ann"})))
        self.go_on()
        for job in jobs:
            self.successResultOf(job)
        user = self.user(uid)
        self.assertEqual((set(user.bindings), user.profile), ({"d0", "d1", "d2"}, {"name": "Ann"}))

    def test_one_name_twice(self) -> None:
        jobs = [Deferred.fromCoroutine(self.users.register("app", USERNAME, "ann", "x", {})) for _ in range(2)]
        self.go_on()
        self.successResultOf(jobs[0])
        error = self.failureResultOf(jobs[1], e.Refused).value
        self.assertEqual(str(error), "9019 username unavailable!")
        self.assertEqual(len(self.records.tables[USERS]), 1)


class PasswordTests(SynchronousTestCase):
    def test_no_more_than_a_few_at_once(self) -> None:
        running: list[Deferred[Any]] = []

        def in_thread(function: Any, *arguments: Any) -> Deferred[Any]:
            running.append(Deferred())
            return running[-1]

        passwords = Passwords(in_thread, cost=4)
        waiting = [passwords.hash("x") for _ in range(2 + MAX_WAITING)]
        self.assertEqual(len(running), 2)
        self.assertRaises(e.Refused, passwords.hash, "x")
        running[0].callback("hashed")
        self.assertEqual(self.successResultOf(waiting[0]), "hashed")
        self.assertEqual(len(running), 3)
        for one in waiting[1:]:
            one.addErrback(lambda failure: None)

    def test_a_hash_of_another_scheme(self) -> None:
        passwords = Passwords(maybeDeferred, cost=4)
        stored = self.successResultOf(passwords.hash("x"))
        self.assertTrue(self.successResultOf(passwords.verify("x", stored)))
        self.assertFalse(self.successResultOf(passwords.verify("x", stored.replace("scrypt", "plain"))))
        self.assertFalse(self.successResultOf(passwords.verify("x", None)))
