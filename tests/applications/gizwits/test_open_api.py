"""The Open API: users, bindings, devices; and how each of it is refused."""

from __future__ import annotations

from hashlib import md5
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from broker.applications.gizwits.settings import Settings, UserLimits
from broker.applications.gizwits.vouching import signed
from broker.model.jsontext import decode
from broker.model.messages import DATA, Uplink
from broker.web.problems import KINDS, HttpError
from tests.applications.gizwits.api_bed import ApiBed
from tests.applications.gizwits.bed import APP, NOW, SECRET

DAY = 86_400


class ApiCase(TestCase):
    limits = UserLimits()

    def setUp(self) -> Deferred[Any]:  # type: ignore[override]  # trial waits for it
        self.bed = ApiBed(self.mktemp(), self.limits)
        self.addCleanup(self.bed.storage.close)
        self.addCleanup(lambda: self.assertEqual(self.bed.faults, []))
        self.addCleanup(lambda: self.assertEqual(self.flushLoggedErrors(), []))
        return Deferred.fromCoroutine(self.stage())

    async def stage(self) -> None:
        await self.bed.open("plain-1", gizwits=("d1", "d2"))


class WhoCallsTests(ApiCase):
    async def test_the_application_and_the_token(self) -> None:
        ann = await self.bed.user("ann")
        for line, who, expected in (
            ("GET /app/users", {"app": None, "user": ann}, (400, 9003)),
            ("GET /app/users", {"app": "nobody", "user": ann}, (400, 9003)),
            ("GET /app/users", {"app": "app", "user": ann}, (400, 9003)),  # of another kind
            ("GET /app/users", {"app": "x" * 200, "user": ann}, (400, 9003)),
            ("GET /app/users", {}, (400, 9004)),
            ("GET /app/users", {"token": "0" * 32}, (400, 9004)),
            ("GET /app/users", {"token": ""}, (400, 9004)),
            ("POST /app/users", {"app": None}, (400, 9003)),
            ("GET /app/bindings", {"token": "nonsense"}, (400, 9004)),
        ):
            self.assertEqual(await self.bed.refused(line, **who), expected, (line, who))
        self.bed.clock.advance(7 * DAY)
        self.assertEqual(await self.bed.refused("GET /app/users", user=ann), (400, 9006))

    async def test_a_foreign_token(self) -> None:
        await self.bed.registry.add_application({"kind": "gizwits", "id": "other", "secret": SECRET})
        ann = await self.bed.user("ann")
        self.assertEqual(await self.bed.refused("GET /app/users", app="other", user=ann), (400, 9004))

    async def test_a_client_that_goes_while_it_is_proven(self) -> None:
        """Its request has come whole, so it is carried through; the answer goes to nobody."""
        ann = await self.bed.user("ann")
        for line, body in (("PUT /app/users", {"name": "Ann"}), ("GET /app/users", None)):
            connection = self.bed.called(line, body, user=ann)
            connection.connectionLost()
            await self.bed.settle()
            self.assertEqual((connection.transport.value(), self.flushLoggedErrors()), (b"", []))
        self.assertEqual((await self.bed.http("GET /app/users", user=ann))[1]["name"], "Ann")

    async def test_paths_methods_and_bodies_that_are_none(self) -> None:
        ann = await self.bed.user("ann")
        for line, body, expected in (
            ("GET /app", None, (404, 9999)),
            ("GET /", None, (404, 9999)),
            ("PATCH /app/users", None, (405, 9999)),
            ("POST /app/users", b"{", (400, 9015)),
            ("POST /app/users", b"", (400, 9015)),
            ("POST /app/users", b"[]", (400, 9015)),
            ("POST /app/users", b"\xff", (400, 9015)),
            ("POST /app/users", b"[" * 5000, (400, 9015)),
            ("POST /app/users", {}, (400, 9015)),
            ("POST /app/users", {"phone_id": 5}, (400, 9015)),
            ("POST /app/users", {"phone_id": ""}, (400, 9015)),
            ("POST /app/users", {"phone_id": "x" * 129}, (400, 9015)),
            ("POST /app/users", {"password": "x"}, (400, 9015)),
            ("POST /app/users", {"phone": "13800000000", "password": "x"}, (400, 9015)),
            ("POST /app/users", {"phone": "call me", "password": "x", "code": "1"}, (400, 9015)),
            ("POST /app/users", {"email": "nobody", "password": "x"}, (400, 9015)),
            ("POST /app/users", {"username": " a", "password": "x"}, (400, 9015)),
            ("POST /app/bindings", {"devices": [{"did": "d1"}]}, (400, 9015)),
            ("POST /app/bindings", {"devices": [{"did": "d", "passcode": ""}] * 101}, (400, 9015)),
            ("GET /app/bindings?limit=-1", None, (400, 9015)),
            ("GET /app/bindings?limit=many", None, (400, 9015)),
            ("GET /app/devices", None, (400, 9015)),
        ):
            self.assertEqual(await self.bed.refused(line, body, user=ann), expected, (line, body))

    async def test_a_body_that_is_too_long(self) -> None:
        self.assertEqual(await self.bed.refused("POST /app/users", b" " * 600_000), (413, 9999))

    async def test_what_only_http_refuses(self) -> None:
        """A client's fault is no server error, whatever it is: each has the status that the API has for it."""
        kinds = HttpError.__subclasses__()
        self.assertGreater(len(kinds), 5)
        for kind in kinds:
            status, _ = KINDS[kind.slug]
            answer = self.bed.side.surface.refusal(None, kind("why"))
            number = decode(answer.body)["error_code"]
            self.assertEqual((answer.status, number), (status, 9008 if status == 500 else 9999), kind)
        self.assertEqual(await self.bed.refused("GET /ws/app/v1"), (426, 9999))
        self.assertEqual(await self.bed.refused("GET /" + "x" * 20_000), (431, 9999))

    async def test_what_is_not_built(self) -> None:
        ann = await self.bed.user("ann")
        for line in (
            "POST /app/codes",
            "POST /app/reset_password",
            "GET /app/datapoint?product_key=x",
            "GET /app/scheduler",
            "POST /app/scheduler",
        ):
            self.assertEqual(await self.bed.refused(line, user=ann), (501, 9999), line)

    async def test_storage_is_gone(self) -> None:
        self.bed.records.broken = True
        self.assertEqual(await self.bed.refused("POST /app/users", {"phone_id": "p"}), (503, 9008))


class UserTests(ApiCase):
    async def test_a_phone(self) -> None:
        status, first = await self.bed.http("POST /app/users", {"phone_id": "p", "lang": "en", "unknown": [1]})
        self.assertEqual((status, set(first), first["expire_at"]), (201, {"uid", "token", "expire_at"}, NOW + 7 * DAY))
        _, again = await self.bed.http("POST /app/users", {"phone_id": "p"})
        self.assertEqual(first["uid"], again["uid"])
        status, user = await self.bed.http("GET /app/users", token=first["token"])
        self.assertEqual((status, user["is_anonymous"], user["username"], user["lang"]), (200, True, None, "en"))

    async def test_names_and_passwords(self) -> None:
        for form in (
            {"username": "ann", "password": "secret"},
            {"email": "Ann@example.org", "password": "secret"},
            {"phone": "+86 138-0000-0000", "password": "secret", "code": "1234"},
        ):
            status, made = await self.bed.http("POST /app/users", form)
            self.assertEqual(status, 201)
            name = form.get("username") or form.get("email") or form["phone"].replace(" ", "").replace("-", "")
            status, again = await self.bed.http("POST /app/login", {"username": name, "password": "secret"})
            self.assertEqual((status, again["uid"]), (200, made["uid"]))
        self.assertEqual(await self.bed.refused("POST /app/login", {"username": "ann", "password": "x"}), (400, 9020))
        self.assertEqual(await self.bed.refused("POST /app/login", {"username": "bob", "password": "x"}), (400, 9020))
        self.assertEqual(await self.bed.refused("POST /app/users", {"username": "ann", "password": "x"}), (400, 9019))
        taken = {"email": "ann@Example.org", "password": "x"}
        self.assertEqual(await self.bed.refused("POST /app/users", taken), (400, 9022))

    async def test_a_user_name_like_anothers_address_keeps_nobody_out(self) -> None:
        _, ann = await self.bed.http("POST /app/users", {"email": "ann@example.org", "password": "of ann"})
        _, eve = await self.bed.http("POST /app/users", {"username": "ann@example.org", "password": "of eve"})
        for password, uid in (("of ann", ann["uid"]), ("of eve", eve["uid"])):
            _, session = await self.bed.http("POST /app/login", {"username": "ann@example.org", "password": password})
            self.assertEqual(session["uid"], uid)

    async def test_from_a_phone_to_a_person(self) -> None:
        ann = await self.bed.user("phone")
        status, answer = await self.bed.http("PUT /app/users", {"username": "ann", "password": "one"}, user=ann)
        self.assertEqual((status, answer), (200, {"updatedAt": "2025-11-21T04:40:00.000Z"}))
        await self.bed.http("PUT /app/users", {"email": "ann@example.org"}, user=ann)
        await self.bed.http("PUT /app/users", {"phone": "13800000000", "code": "1"}, user=ann)
        await self.bed.http("PUT /app/users", {"name": "Ann", "remark": "x"}, user=ann)
        _, user = await self.bed.http("GET /app/users", user=ann)
        expected = {"username": "ann", "email": "ann@example.org", "phone": "13800000000", "name": "Ann"}
        self.assertEqual({name: user[name] for name in expected}, expected)
        self.assertFalse(user["is_anonymous"])
        for form in (
            {"username": "eve", "password": "two"},  # that would be a new password without the old one
            {"password": "two"},
            {"username": "eve"},
            {"old_pwd": "one"},
            {"phone": "13800000000"},
            {"email": "nobody"},
        ):
            self.assertEqual(await self.bed.refused("PUT /app/users", form, user=ann), (400, 9015), form)

    async def test_a_new_password(self) -> None:
        _, session = await self.bed.http("POST /app/users", {"username": "ann", "password": "one"})
        _, other = await self.bed.http("POST /app/login", {"username": "ann", "password": "one"})
        token = session["token"]
        wrong = {"old_pwd": "x", "new_pwd": "two"}
        self.assertEqual(await self.bed.refused("PUT /app/users", wrong, token=token), (400, 9020))
        status, _ = await self.bed.http("PUT /app/users", {"old_pwd": "one", "new_pwd": "two"}, token=token)
        self.assertEqual(status, 200)
        self.assertEqual((await self.bed.http("GET /app/users", token=token))[0], 200)
        self.assertEqual(await self.bed.refused("GET /app/users", token=other["token"]), (400, 9004))
        self.assertEqual((await self.bed.http("POST /app/login", {"username": "ann", "password": "two"}))[0], 200)

    async def test_somebody_vouches_for_a_user(self) -> None:
        key = "k" * 32
        await self.bed.side.products.set_application(APP, None, {"shop": key})
        expiry = str(int(NOW) + 60)
        good = {"src": "shop", "uid": "u1", "token": f"{expiry}.{signed(key, 'shop', 'u1', expiry)}"}
        status, first = await self.bed.http("POST /app/users", {"authData": good})
        _, again = await self.bed.http("POST /app/users", {"authData": good})
        self.assertEqual((status, first["uid"]), (201, again["uid"]))
        late = str(int(NOW) - 1)
        for change in (
            {"uid": "u2"},
            {"src": "other"},
            {"token": ""},
            {"token": good["token"] + "0"},
            {"token": f"{late}.{signed(key, 'shop', 'u1', late)}"},
            {"token": f"-1.{signed(key, 'shop', 'u1', '-1')}"},
            {"src": "other", "token": f"{expiry}.{signed('', 'other', 'u1', expiry)}"},
        ):
            refused = await self.bed.refused("POST /app/users", {"authData": {**good, **change}})
            self.assertEqual(refused, (400, 9026), change)

    async def test_an_application_proves_itself(self) -> None:
        await self.bed.side.products.set_application(APP, SECRET, None)
        auth = md5(f"{APP}{SECRET}".encode()).hexdigest()
        status, answer = await self.bed.http(
            "POST /app/request_token", b"", headers={"X-Gizwits-Application-Auth": auth.upper()}
        )
        self.assertEqual((status, set(answer)), (200, {"token", "expired_at"}))
        self.assertTrue(self.bed.side.proofs.good(APP, answer["token"]))
        self.assertFalse(self.bed.side.proofs.good("other", answer["token"]))
        for headers in ({}, {"X-Gizwits-Application-Auth": "0" * 32}, {"X-Gizwits-Application-Auth": ""}):
            refused = await self.bed.refused("POST /app/request_token", b"", headers=headers)
            self.assertEqual(refused, (400, 9003))

    async def test_who_guesses_has_to_wait(self) -> None:
        """Loopback is spared by default, so this address is another."""
        self.patch(self.bed.gservice, "counts", lambda host: True)
        await self.bed.http("POST /app/users", {"username": "ann", "password": "one"})
        waited = []
        for _ in range(13):
            before = self.bed.clock.seconds()
            guess = {"username": "ann", "password": "guess"}
            self.assertEqual(await self.bed.refused("POST /app/login", guess, step=0.25), (400, 9020))
            waited.append(self.bed.clock.seconds() - before)
        self.assertGreater(waited[-1], waited[0])
        self.assertGreaterEqual(waited[-1], 4.0)
        self.assertEqual(self.bed.gservice.stats.logins_failed, 13)


class NewcomersTests(ApiCase):
    limits = UserLimits(max_new_users_per_address=3)

    async def test_one_address_does_not_make_all_the_users(self) -> None:
        self.patch(self.bed.gservice, "counts", lambda host: True)
        forms: list[dict[str, str]] = [{"phone_id": "p1"}, {"phone_id": "p2"}, {"username": "a", "password": "x"}]
        for form in forms:
            self.assertEqual((await self.bed.http("POST /app/users", form))[0], 201)
        for form in ({"phone_id": "p3"}, {"username": "b", "password": "x"}):
            self.assertEqual(await self.bed.refused("POST /app/users", form), (429, 9041))
        self.assertEqual((await self.bed.http("POST /app/users", forms[0]))[0], 201)  # who is there logs in
        self.bed.clock.advance(3_601)
        self.assertEqual((await self.bed.http("POST /app/users", {"phone_id": "p3"}))[0], 201)

    async def test_loopback_is_spared(self) -> None:
        for number in range(5):
            self.assertEqual((await self.bed.http("POST /app/users", {"phone_id": f"p{number}"}))[0], 201)


class BindingTests(ApiCase):
    async def test_bind_show_change_unbind(self) -> None:
        ann = await self.bed.user("ann")
        devices = [
            {"did": "d1", "passcode": "passcode of d1", "remark": "lamp", "dev_alias": "hall"},
            {"did": "d2", "passcode": "passcode of d1"},
            {"did": "unknown", "passcode": "x"},
        ]
        status, answer = await self.bed.http("POST /app/bindings", {"devices": devices}, user=ann)
        self.assertEqual((status, answer), (200, {"success": ["d1"], "failed": ["d2", "unknown"]}))
        status, answer = await self.bed.http("GET /app/bindings?limit=20&skip=0&show_disabled=1", user=ann)
        (device,) = answer["devices"]
        expected = {
            "did": "d1",
            "passcode": "passcode of d1",
            "remark": "lamp",
            "dev_alias": "hall",
            "is_online": False,
            "is_disabled": False,
            "host": "iot.example.org",
            "port": 1883,
            "type": "normal",
            "proto_ver": "04",
            "protoc": 3,
            "product_name": "",
            "wifi_soft_version": "",
            "mcu_soft_version": "",
            "mcu_hard_version": "",
        }
        self.assertEqual({name: device[name] for name in expected}, expected)
        status, answer = await self.bed.http("PUT /app/bindings/d1", {"remark": "new"}, user=ann)
        self.assertEqual((status, answer), (200, {"remark": "new", "dev_alias": "hall"}))
        self.assertEqual((await self.bed.http("GET /app/devices/d1", user=ann))[1]["remark"], "new")
        gone = {"devices": [{"did": "d1"}, {"did": "d2"}]}
        status, answer = await self.bed.http("DELETE /app/bindings", gone, user=ann)
        self.assertEqual((status, answer), (200, {"success": ["d1"], "failed": ["d2"]}))
        for line, body in (("GET /app/devices/d1", None), ("PUT /app/bindings/d1", {"remark": "x"})):
            self.assertEqual(await self.bed.refused(line, body, user=ann), (401, 9017))

    async def test_a_device_of_another_protocol(self) -> None:
        ann = await self.bed.user("ann")
        wrong, right = ({"did": "plain-1", "passcode": code} for code in ("x", "0" * 16))
        for one, success in ((wrong, []), (right, ["plain-1"])):
            _, answer = await self.bed.http("POST /app/bindings", {"devices": [one]}, user=ann)
            self.assertEqual(answer["success"], success)
        _, device = await self.bed.http("GET /app/devices/plain-1", user=ann)
        self.assertEqual((device["did"], device["passcode"], device["mac"]), ("plain-1", "", ""))

    async def test_pages_and_disabled_devices(self) -> None:
        ann = await self.bed.user("ann", "d1", "d2", "plain-1")
        await self.bed.registry.update_device("d2", {"disabled": True})

        async def shown(query: str) -> list[str]:
            _, answer = await self.bed.http(f"GET /app/bindings{query}", user=ann)
            return [device["did"] for device in answer["devices"]]

        self.assertEqual(await shown(""), ["d1", "plain-1"])
        self.assertEqual(await shown("?show_disabled=1"), ["d1", "d2", "plain-1"])
        self.assertEqual(await shown("?show_disabled=1&skip=1&limit=1"), ["d2"])
        self.assertEqual(await shown("?limit=0"), [])
        self.assertEqual(await shown("?skip=5"), [])
        body = {"devices": [{"did": "d2", "passcode": "passcode of d2"}]}
        bob = await self.bed.user("bob")
        _, answer = await self.bed.http("POST /app/bindings", body, user=bob)
        self.assertEqual(answer, {"success": [], "failed": ["d2"]})

    async def test_by_mac(self) -> None:
        product = "p" * 32
        await self.bed.registry.add_product(self.bed.product(product))
        did = await self.bed.device_with_mac(product, "AABBCCDDEEFF")
        ann = await self.bed.user("ann")
        status, found = await self.bed.http(f"GET /app/devices?product_key={product}&mac=aabbccddeeff")
        self.assertEqual((status, found["did"], len(found["passcode"])), (200, did, 10))
        unknown = f"GET /app/devices?product_key={product}&mac=000000000000"
        self.assertEqual(await self.bed.refused(unknown), (404, 9014))

        body = {"product_key": product, "mac": "AABBCCDDEEFF", "remark": "lamp"}
        now = str(int(self.bed.clock.seconds()))

        def signature(secret: str, at: str = now) -> dict[str, str]:
            return {
                "X-Gizwits-Timestamp": at,
                "X-Gizwits-Signature": md5(f"{secret}{at}".encode()).hexdigest(),
            }

        # A product without a secret signs nothing, not even with an empty one.
        self.assertEqual(
            await self.bed.refused("POST /app/bind_mac", body, user=ann, headers=signature("")), (400, 9015)
        )
        await self.bed.set_product_secret(product, "product secret")
        good = signature("product secret")
        status, device = await self.bed.http("POST /app/bind_mac", body, user=ann, headers=good)
        self.assertEqual((status, device["did"], device["remark"], device["product_key"]), (201, did, "lamp", product))
        for changes, headers, expected in (
            ({}, {}, 9015),
            ({}, signature("wrong"), 9015),
            ({}, signature("product secret", str(int(now) - 301)), 9015),
            ({}, signature("product secret", str(int(now) + 302)), 9015),
            ({}, {**good, "X-Gizwits-Timestamp": "soon"}, 9015),
            ({"product_key": "q" * 32}, good, 9002),
            ({"mac": "000000000000"}, good, 9014),
        ):
            refused = await self.bed.refused("POST /app/bind_mac", {**body, **changes}, user=ann, headers=headers)
            self.assertEqual(refused[1], expected, (changes, headers))


class FewBindingsTests(ApiCase):
    limits = UserLimits(max_bindings=1, open_to_ids=False)

    async def test_the_limit_and_what_is_switched_off(self) -> None:
        ann = await self.bed.user("ann")
        devices = [{"did": did, "passcode": f"passcode of {did}"} for did in ("d1", "d2")]
        _, answer = await self.bed.http("POST /app/bindings", {"devices": devices}, user=ann)
        self.assertEqual(answer, {"success": ["d1"], "failed": ["d2"]})
        product = "p" * 32
        await self.bed.registry.add_product(self.bed.product(product))
        await self.bed.device_with_mac(product, "AABBCCDDEEFF")
        auth = md5(f"{APP}{SECRET}".encode()).hexdigest()
        await self.bed.side.products.set_application(APP, SECRET, None)
        _, proof = await self.bed.http("POST /app/request_token", b"", headers={"X-Gizwits-Application-Auth": auth})
        proven = {"X-Gizwits-Application-Token": proof["token"]}
        for line, answer in (
            (f"GET /app/devices?product_key={product}&mac=aabbccddeeff", 200),
            ("GET /app/devdata/d1/latest", 400),
        ):
            for headers in ({}, {"X-Gizwits-Application-Token": "0" * 32}):
                self.assertEqual(await self.bed.refused(line, headers=headers), (400, 9004))
            self.assertEqual((await self.bed.http(line, headers=proven))[0], answer)
        self.assertEqual(await self.bed.refused("GET /app/devdata/d1/latest", headers=proven), (400, 9029))
        self.bed.clock.advance(DAY)
        self.assertEqual(await self.bed.refused("GET /app/devdata/d1/latest", headers=proven), (400, 9004))


class ReloadTests(ApiCase):
    async def test_limits_change_at_once(self) -> None:
        ann = await self.bed.user("ann", "d1")
        fresh = Settings(users=UserLimits(max_bindings=1), m2m_host="m2m.example.org", m2m_port=3128)
        self.assertEqual(self.bed.gservice.reload(fresh), ())
        devices = {"devices": [{"did": "d2", "passcode": "passcode of d2"}]}
        self.assertEqual((await self.bed.http("POST /app/bindings", devices, user=ann))[1]["failed"], ["d2"])
        _, device = await self.bed.http("GET /app/devices/d1", user=ann)
        self.assertEqual((device["host"], device["port"]), ("m2m.example.org", 3128))


class LatestTests(ApiCase):
    async def test_last_values(self) -> None:
        self.assertEqual(await self.bed.refused("GET /app/devdata/plain-1/latest"), (404, 9014))
        await self.bed.user("ann", "plain-1")
        await self.bed.registry.bind(APP, "d2")
        self.assertEqual(await self.bed.refused("GET /app/devdata/d2/latest"), (400, 9029))
        self.assertEqual(await self.bed.refused("GET /app/devdata/d1/latest"), (404, 9014))
        self.assertEqual(await self.bed.refused("GET /app/devdata/plain-1/latest"), (400, 9029))
        self.assertEqual(await self.bed.refused("GET /app/devdata/unknown/latest"), (404, 9014))
        live, _ = self.bed.device("plain-1")
        live.values.update({"t": 25.5}, NOW)
        self.bed.core.router.uplink(Uplink(live.ref, DATA, {"t": 25.5}, NOW))
        status, answer = await self.bed.http("GET /app/devdata/plain-1/latest")
        self.assertEqual((status, answer), (200, {"did": "plain-1", "updated_at": int(NOW), "attr": {"t": 25.5}}))
