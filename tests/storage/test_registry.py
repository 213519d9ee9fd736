"""The registry's rules, over a real SQLite storage."""

from __future__ import annotations

import gc
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from broker.model.errors import BrokerError, Conflict, Disabled, Invalid, NotFound, Unauthenticated, Unavailable
from broker.model.records import Actuator, DeviceQuery, DeviceRecord, Product, Sensor
from broker.model.secrets import verify_secret
from broker.storage import registry as registry_module
from broker.storage.registry import Change, Registry
from broker.storage.sqlite import SqliteStorage
from tests.storage.contract import live

E = TypeVar("E", bound=BrokerError)
APP = {"kind": "mqtt"}


class Rules:
    """Ids are words, kept in lower case; secrets are hashed or not."""

    known_fields = frozenset({"mac"})

    def __init__(self, hashed: bool) -> None:
        self.hashed = hashed
        self.made = 0

    def normal_id(self, id: str | None, fields: dict[str, Any]) -> str:
        if fields.get("mac") == "bad":
            raise Invalid("mac is bad")
        if id is None:
            self.made += 1
            return f"made-{self.made}"
        if not id.isascii() or not id:
            raise Invalid("the id of a toy is a word")
        return id.lower()

    def make_secret(self) -> str:
        self.made += 1
        return f"secret-{self.made}"

    def check_secret(self, secret: str) -> None:
        if len(secret) < 3:
            raise Invalid("a toy's secret has 3 characters")


def product(key: str = "p1", protocol: str = "toy", **fields: Any) -> Product:
    return Product(**{"key": key, "name": "", "protocol": protocol, **fields})


class RegistryCase(TestCase):
    timeout = 60

    def setUp(self) -> Any:
        self.storage = SqliteStorage(Path(self.mktemp()), reactor, lambda: 500.0)
        self.addCleanup(self.storage.close)
        self.registry = Registry(self.storage, lambda: 1234.5, {"toy": Rules(True), "open": Rules(False)})
        self.changes: list[tuple[str, ...]] = []
        self.added: list[DeviceRecord] = []
        self.registry.on_change.append(self.changed)
        self.registry.on_added.append(self.added.append)
        return self.storage.open()

    def changed(self, change: Change) -> None:
        self.changes.append((change.what, change.id, *([change.other] if change.other else [])))

    async def refused(self, error: type[E], answer: Awaitable[Any], *words: str) -> E:
        with self.assertRaises(error) as caught:
            await answer
        self.assertIs(type(caught.exception), error)
        for word in words:
            self.assertIn(word, caught.exception.message)
        refusal: E = caught.exception
        return refusal

    async def add(self, id: str | None = None, **fields: Any) -> str:
        _, secret = await self.registry.add_device({"protocol": "toy", **({"id": id} if id else {}), **fields})
        return secret


class ProductTests(RegistryCase):
    async def test_life(self) -> None:
        one = product(sensors=(Sensor("t"), Sensor("h")), actuators=(Actuator("t"),))
        await self.registry.add_product(one)
        self.assertEqual(await self.registry.get_product("p1"), one)
        await self.refused(Conflict, self.registry.add_product(one))
        await self.registry.save_product(product(name="new"))
        self.assertEqual([known.name for known in await self.registry.list_products()], ["new"])
        self.assertEqual(self.changes, [("product_updated", "p1")])
        await self.refused(NotFound, self.registry.save_product(product("p2")))
        await self.refused(Invalid, self.registry.save_product(product(protocol="open")), "protocol")
        await self.registry.delete_product("p1")
        self.assertIsNone(await self.registry.get_product("p1"))
        await self.refused(NotFound, self.registry.delete_product("p1"))

    async def test_what_is_refused(self) -> None:
        for wrong, *words in (
            (product(""), "key"),
            (product("a/b"), "key"),
            (product("x" * 65), "key"),
            (product(name="x" * 129), "name"),
            (product(name="a\nb"), "name"),
            (product(protocol="nova"), "protocol", "open, toy"),
            (product(sensors=(Sensor("t"), Sensor("t"))), "sensors", "'t' twice"),
            (product(sensors=(Sensor(""),)), "value_key"),
            (product(sensors=(Sensor("t", unit="\x7f"),)), "unit"),
            (product(actuators=(Actuator("f"), Actuator("f"))), "actuators", "'f' twice"),
            (product(actuators=(Actuator("x" * 129),)), "command_key"),
            (product(sensors=tuple(Sensor(str(n)) for n in range(513))), "512"),
        ):
            await self.refused(Invalid, self.registry.add_product(wrong), *words)
        await self.registry.add_product(product("A-Za_z.0"))

    async def test_used(self) -> None:
        await self.registry.add_product(product())
        await self.add("d1", product="p1")
        await self.refused(Conflict, self.registry.delete_product("p1"))


class DeviceTests(RegistryCase):
    async def test_add(self) -> None:
        await self.registry.add_product(product())
        fields = {"id": "D1", "secret": "no hex", "product": "p1", "name": "Halle", "dev_eui": "00ab" * 4, "mac": "M"}
        record, secret = await self.registry.add_device({"protocol": "toy", **fields})
        self.assertEqual((record.id, secret, record.dev_eui), ("d1", "no hex", "00AB00AB00AB00AB"))
        self.assertEqual((record.name, record.attributes, record.created_at), ("Halle", {"mac": "M"}, 1234.5))
        self.assertTrue(verify_secret("no hex", record.secret))
        self.assertNotIn("no hex", record.secret)
        self.assertEqual(await self.registry.get_device("d1"), record)
        self.assertEqual(await self.registry.find_device("d1"), record)
        self.assertIsNone(await self.registry.find_device("D1"))
        self.assertEqual((self.added, self.changes), ([record], []))
        await self.refused(NotFound, self.registry.get_device("d2"))

    async def test_made(self) -> None:
        record, secret = await self.registry.add_device({"protocol": "open"})
        self.assertEqual((record.secret, record.id[:5]), (secret, "made-"))

    async def test_what_is_refused(self) -> None:
        await self.registry.add_product(product())
        await self.registry.add_product(product("p2", "open"))
        toy = {"protocol": "toy"}
        for fields, *words in (
            ({}, "protocol", "open, toy"),
            ({"protocol": ["toy"]}, "protocol"),
            ({"protocol": "nova"}, "protocol"),
            ({**toy, "id": 5}, "id"),
            ({**toy, "id": "ü"}, "word"),
            ({**toy, "id": "a/b"}, "id"),
            ({**toy, "id": "x" * 65}, "id"),
            ({**toy, "name": "x" * 129}, "name"),
            ({**toy, "name": "a\x00"}, "name"),
            ({**toy, "name": None, "secret": ""}, "secret"),
            ({**toy, "secret": "ab"}, "3 characters"),
            ({**toy, "secret": "a\nbc"}, "secret"),
            ({**toy, "secret": "x" * 257}, "secret"),
            ({**toy, "dev_eui": "12"}, "dev_eui"),
            ({**toy, "disabled": 1}, "disabled"),
            ({**toy, "color": 1}, "'color'", "mac"),
            ({**toy, "mac": "bad"}, "mac"),
            ({**toy, "product": "p2"}, "p2"),
            ({**toy, "product": {}}, "product"),
        ):
            await self.refused(Invalid, self.registry.add_device(fields), *words)
        await self.refused(NotFound, self.registry.add_device({**toy, "product": "p9"}), "p9")
        await self.add("d1", dev_eui="00AB00AB00AB00AB")
        await self.refused(Conflict, self.registry.add_device({**toy, "id": "D1"}), "d1")
        await self.refused(Conflict, self.registry.add_device({"protocol": "open", "id": "d1"}), "d1")
        await self.refused(Conflict, self.registry.add_device({**toy, "dev_eui": "00ab00ab00ab00ab"}))
        page, _ = await self.registry.list_devices(DeviceQuery(), 10, None)
        self.assertEqual(len(page), 1)

    async def test_update(self) -> None:
        await self.registry.add_product(product())
        await self.add("d1", name="old", mac="1")
        record, made = await self.registry.update_device("d1", {"name": "new", "product": "p1", "dev_eui": "1" * 16})
        self.assertEqual((record.name, record.product, record.dev_eui, made), ("new", "p1", "1" * 16, None))
        record, _ = await self.registry.update_device("d1", {"product": None, "dev_eui": None, "name": None})
        self.assertEqual((record.name, record.product, record.dev_eui), ("", None, None))
        record, _ = await self.registry.update_device("d1", {"mac": "2"})
        self.assertEqual(record.attributes, {"mac": "2"})
        self.assertEqual(await self.registry.get_device("d1"), record)
        self.assertEqual(self.changes, [("device_updated", "d1")] * 3)

    async def test_update_secret(self) -> None:
        await self.add("d1", secret="first")
        _, made = await self.registry.update_device("d1", {"secret": None})
        assert made is not None
        await self.registry.login_device("toy", "d1", made)
        record, made = await self.registry.update_device("d1", {"secret": "third"})
        self.assertIsNone(made)
        self.assertTrue(verify_secret("third", record.secret))
        self.assertEqual(self.changes, [("device_secret", "d1")] * 2)

    async def test_update_disabled(self) -> None:
        await self.add("d1")
        for disabled in (True, True, False):
            await self.registry.update_device("d1", {"disabled": disabled})
        self.assertEqual(self.changes, [("device_disabled", "d1"), ("device_updated", "d1")])

    async def test_update_refused(self) -> None:
        await self.registry.add_product(product("p2", "open"))
        await self.add("d1")
        await self.add("d2", dev_eui="2" * 16)
        before = await self.registry.get_device("d1")
        for changes, error in (
            ({"id": "d3"}, Invalid),
            ({"protocol": "open"}, Invalid),
            ({"color": 1}, Invalid),
            ({"mac": "bad"}, Invalid),
            ({"name": 5}, Invalid),
            ({"disabled": None}, Invalid),
            ({"secret": "x"}, Invalid),
            ({"product": "p2"}, Invalid),
            ({"product": "p9"}, NotFound),
            ({"dev_eui": "2" * 16}, Conflict),
        ):
            await self.refused(error, self.registry.update_device("d1", changes))
        await self.refused(NotFound, self.registry.update_device("d9", {"name": "x"}))
        self.assertEqual(await self.registry.get_device("d1"), before)
        self.assertEqual(self.changes, [])

    async def test_updates_do_not_undo_each_other(self) -> None:
        await self.registry.add_product(product())
        await self.add("d1")
        changes: list[dict[str, Any]] = [{"name": "n"}, {"product": "p1"}, {"dev_eui": "1" * 16}, {"mac": "m"}]
        await gatherResults([self.registry.update_device("d1", change) for change in changes])
        record = await self.registry.get_device("d1")
        self.assertEqual((record.name, record.product, record.dev_eui), ("n", "p1", "1" * 16))
        self.assertEqual(record.attributes, {"mac": "m"})

    async def test_delete(self) -> None:
        await self.add("d1")
        await self.registry.delete_device("d1")
        await self.refused(NotFound, self.registry.delete_device("d1"))
        self.assertEqual(self.changes, [("device_removed", "d1")])

    async def test_a_listener_that_raises_harms_nobody(self) -> None:
        def raising(_: Change) -> None:
            raise ZeroDivisionError

        def raising_too(_: DeviceRecord) -> None:
            raise ZeroDivisionError

        self.registry.on_change.insert(0, raising)
        self.registry.on_added.insert(0, raising_too)
        await self.add("d1")
        self.assertEqual([record.id for record in self.added], ["d1"])
        await self.registry.delete_device("d1")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)
        self.assertEqual(self.changes, [("device_removed", "d1")])


class ImportTests(RegistryCase):
    async def test_import(self) -> None:
        self.patch(registry_module, "IMPORT_SLICE", 3)
        await self.registry.add_product(product())
        await self.add("d0")
        lines: list[dict[str, Any] | Exception] = [
            {"protocol": "toy", "id": "d1", "secret": "abc"},
            {"protocol": "toy", "id": "d1"},
            {"protocol": "toy", "id": "d0"},
            ValueError("not JSON"),
            {"protocol": "toy", "id": "d2", "product": "p1"},
            {"protocol": "toy", "id": "d3", "product": "p9"},
            {"protocol": "toy", "id": "d4", "product": ["p1"]},
            {"protocol": "nova"},
            Invalid("bad line"),
            {"protocol": "open"},
        ]
        result = await self.registry.add_devices(lines)
        self.assertEqual(result.created, 3)
        self.assertEqual([number for number, _ in result.failed], [1, 2, 3, 5, 6, 7, 8])
        reasons = dict(result.failed)
        self.assertEqual((reasons[3], reasons[8]), ("not JSON", "bad line"))
        self.assertIn("p9", reasons[5])
        self.assertEqual([id for id, _ in result.secrets], ["d2", result.secrets[1][0]])
        for id, secret in result.secrets:
            await self.registry.login_device("toy" if id == "d2" else "open", id, secret)
        await self.registry.login_device("toy", "d1", "abc")

    async def test_nothing(self) -> None:
        result = await self.registry.add_devices([])
        self.assertEqual((result.created, result.failed, result.secrets), (0, [], []))

    async def test_storage_that_fails_half_way(self) -> None:
        self.patch(registry_module, "IMPORT_SLICE", 2)
        first = self.storage.add_devices

        def only_once(records: Any) -> Any:
            self.patch(self.storage, "add_devices", lambda _: Deferred.fromCoroutine(self.failing()))
            return first(records)

        self.patch(self.storage, "add_devices", only_once)
        result = await self.registry.add_devices([{"protocol": "toy"}] * 2 + [{"protocol": "x"}, {"protocol": "toy"}])
        self.assertEqual((result.created, len(result.secrets)), (2, 2))
        self.assertEqual(sorted(number for number, _ in result.failed), [2, 3])
        self.assertEqual(dict(result.failed)[3], "full")

    async def failing(self) -> Any:
        raise Unavailable("full")


class ApplicationTests(RegistryCase):
    async def test_add(self) -> None:
        record, secret = await self.registry.add_application({"kind": "http", "name": "Dash"})
        self.assertRegex(record.id, r"^app-[0-9a-f]{12}$")
        self.assertEqual(len(secret), 64)
        self.assertTrue(verify_secret(secret, record.secret))
        self.assertEqual(await self.registry.get_application(record.id), record)
        fields = {"id": "cs.1", "kind": "loracenter", "cs_eui": "42475858ffffff", "app_key": "0a" * 16, "secret": "s"}
        record, secret = await self.registry.add_application(fields)
        self.assertEqual((record.cs_eui, record.app_key, secret), ("0042475858FFFFFF", "0A" * 16, "s"))
        self.assertEqual(len(await self.registry.list_applications()), 2)
        await self.refused(Conflict, self.registry.add_application({"id": "cs.1", "kind": "mqtt"}))
        await self.refused(Conflict, self.registry.add_application({"kind": "loracenter", "cs_eui": "42475858FFFFFF"}))
        await self.refused(NotFound, self.registry.get_application("none"))

    async def test_what_is_refused(self) -> None:
        for fields, word in (
            ({}, "kind"),
            ({"kind": "tcp"}, "gizwits, loracenter, mqtt, http"),
            ({"kind": []}, "kind"),
            ({**APP, "id": ""}, "id"),
            ({**APP, "id": "a b"}, "id"),
            ({**APP, "id": 5}, "id"),
            ({**APP, "cs_eui": "x"}, "cs_eui"),
            ({**APP, "app_key": "12"}, "app_key"),
            ({**APP, "secret": ""}, "secret"),
            ({**APP, "name": "\t"}, "name"),
            ({**APP, "rights": 1}, "'rights'"),
        ):
            await self.refused(Invalid, self.registry.add_application(fields), word)

    async def test_update(self) -> None:
        await self.registry.add_application({**APP, "id": "a1", "secret": "one"})
        record, made = await self.registry.update_application("a1", {"name": "n", "cs_eui": "1", "app_key": "1" * 32})
        self.assertEqual((record.name, record.cs_eui, record.app_key, made), ("n", "0" * 15 + "1", "1" * 32, None))
        _, made = await self.registry.update_application("a1", {"secret": None, "disabled": True})
        assert made is not None
        whats = ("application_key", "application_disabled", "application_secret")
        self.assertEqual(self.changes, [(what, "a1") for what in whats])
        await self.refused(Disabled, self.registry.login_application("a1", made, ["mqtt"]))
        await self.registry.update_application("a1", {"disabled": False})
        await self.registry.login_application("a1", made, ["mqtt"])
        for wrong in ({"id": "a2"}, {"kind": "http"}, {"secret": ""}, {"disabled": "no"}):
            await self.refused(Invalid, self.registry.update_application("a1", wrong))
        await self.refused(NotFound, self.registry.update_application("a9", {}))

    async def test_delete(self) -> None:
        await self.registry.add_application({**APP, "id": "a1"})
        await self.registry.delete_application("a1")
        await self.refused(NotFound, self.registry.delete_application("a1"))
        self.assertEqual(self.changes, [("application_removed", "a1")])

    async def test_bindings(self) -> None:
        await self.add("d1")
        await self.registry.add_application({**APP, "id": "a1"})
        await self.registry.bind("a1", "d1")
        self.assertEqual(await self.registry.devices_of("a1"), ["d1"])
        self.assertEqual(await self.registry.applications_of("d1"), ["a1"])
        await self.registry.unbind("a1", "d1")
        await self.refused(NotFound, self.registry.unbind("a1", "d1"))
        await self.refused(NotFound, self.registry.bind("a1", "d9"))
        self.assertEqual(self.changes, [("bound", "a1", "d1"), ("unbound", "a1", "d1")])


class DeviceLoginTests(RegistryCase):
    async def test_login(self) -> None:
        await self.registry.add_product(product(sensors=(Sensor("t"),), actuators=(Actuator("fan"), Actuator("t"))))
        await self.add("d1", secret="abc", product="p1")
        await self.storage.save_live([live("d1", values={"t": (1, 2.0)}, unmapped={"u": (3, 4.0)})])
        login = await self.registry.login_device("toy", "D1", "abc")
        self.assertEqual(login.record, await self.registry.get_device("d1"))
        self.assertEqual(login.sensors, {"t", "fan"})
        self.assertEqual((login.values, login.unmapped), ({"t": (1, 2.0)}, {"u": (3, 4.0)}))

    async def test_without_a_product(self) -> None:
        secret = await self.add("d1")
        self.assertIsNone((await self.registry.login_device("toy", "d1", secret)).sensors)

    async def test_refused_alike(self) -> None:
        await self.add("d1", secret="abc")
        await self.registry.add_device({"protocol": "open", "id": "o1", "secret": "abc"})
        texts = set()
        for protocol, id, secret in (
            ("toy", "d1", "abd"),
            ("toy", "d1", ""),
            ("toy", "d2", "abc"),
            ("toy", "", "abc"),
            ("toy", "ü", "abc"),
            ("toy", "o1", "abc"),
            ("open", "o1", "abd"),
            ("open", "o1", ""),
            ("open", "d1", "abc"),
            ("open", "o2", "\ud800"),
        ):
            texts.add(str(await self.refused(Unauthenticated, self.registry.login_device(protocol, id, secret))))
        self.assertEqual(len(texts), 1)
        await self.registry.login_device("open", "o1", "abc")

    async def test_identified_without_a_secret(self) -> None:
        """For protocols whose devices have none."""
        await self.add("d1", secret="abc")
        login = await self.registry.identify_device("toy", "D1")
        self.assertEqual((login.record.id, login.values), ("d1", {}))
        for protocol, id in (("toy", "d2"), ("toy", ""), ("open", "d1")):
            await self.refused(Unauthenticated, self.registry.identify_device(protocol, id))
        await self.registry.update_device("d1", {"disabled": True})
        await self.refused(Disabled, self.registry.identify_device("toy", "d1"))

    async def test_unknown_ids_cost_the_same(self) -> None:
        """As many look-ups, and one comparison, whatever is wrong."""
        await self.add("d1", secret="abc")
        asked: list[str] = []

        def counted(name: str, real: Any) -> Any:
            def ask(*args: Any) -> Any:
                asked.append(name)
                return real(*args)

            return ask

        for name in ("get_device", "get_values", "get_product"):
            self.patch(self.storage, name, counted(name, getattr(self.storage, name)))

        def compared(secret: str, stored: str) -> bool:
            asked.append(f"compared with {stored.partition('$')[0]}")
            return verify_secret(secret, stored)

        self.patch(registry_module, "verify_secret", compared)
        costs = []
        for id in ("d1", "d2", "ü"):
            await self.refused(Unauthenticated, self.registry.login_device("toy", id, "wrong"))
            costs.append(asked[:])
            asked.clear()
        self.assertEqual(costs[0], ["get_device", "get_values", "compared with sha256"])
        self.assertEqual(costs, [costs[0]] * 3)

    async def test_no_secret_is_no_way_in(self) -> None:
        record, _ = await self.registry.add_device({"protocol": "open", "id": "o1"})
        record.secret = ""
        await self.storage.save_device(record)
        await self.refused(Unauthenticated, self.registry.login_device("open", "o1", ""))

    async def test_disabled_is_told_only_to_who_proved_it(self) -> None:
        secret = await self.add("d1", disabled=True)
        await self.refused(Unauthenticated, self.registry.login_device("toy", "d1", "wrong"))
        await self.refused(Disabled, self.registry.login_device("toy", "d1", secret))

    async def test_a_change_while_logging_in_counts(self) -> None:
        await self.registry.add_product(product())
        secret = await self.add("d1", product="p1")
        # The device is found, and gone when its product was looked up: whoever is told of that is not yet connected.
        login = self.registry.login_device("toy", "d1", secret)
        removal = self.registry.delete_device("d1")
        await self.refused(Unauthenticated, login)
        await removal

    async def test_storage_that_fails(self) -> None:
        secret = await self.add("d1")
        await self.storage.close()
        await self.refused(Unavailable, self.registry.login_device("toy", "d1", secret))


class RightsTests(RegistryCase):
    async def login(self) -> Any:
        return await self.registry.login_application("a1", "s", ("mqtt", "http"))

    async def prepare(self) -> None:
        await self.registry.add_application({**APP, "id": "a1", "secret": "s"})
        for id in ("d1", "d2"):
            await self.add(id)
        await self.registry.bind("a1", "d1")

    async def test_rights_are_shared_and_kept_true(self) -> None:
        await self.prepare()
        rights = await self.login()
        self.assertEqual((rights.id, rights.kind, rights.devices), ("a1", "mqtt", {"d1"}))
        self.assertIs(await self.login(), rights)
        self.assertTrue(rights.may_see("d1"))
        self.assertFalse(rights.may_see("d2"))
        await self.registry.bind("a1", "d2")
        self.assertTrue(rights.may_see("d2"))
        await self.registry.unbind("a1", "d1")
        self.assertFalse(rights.may_see("d1"))
        await self.registry.delete_device("d2")
        self.assertEqual(rights.devices, set())

    async def test_listeners_find_the_rights_changed(self) -> None:
        await self.prepare()
        rights = await self.login()
        seen: list[set[str]] = []
        self.registry.on_change.append(lambda _: seen.append(set(rights.devices)))
        await self.registry.bind("a1", "d2")
        await self.registry.delete_device("d1")
        await self.registry.delete_application("a1")
        self.assertEqual(seen, [{"d1", "d2"}, {"d2"}, set()])

    async def test_nobody_holds_them(self) -> None:
        await self.prepare()
        await self.login()
        gc.collect()
        await self.registry.bind("a1", "d2")
        self.assertEqual((await self.login()).devices, {"d1", "d2"})

    async def test_bindings_while_logging_in(self) -> None:
        await self.prepare()
        for _ in range(20):
            unbinding = self.registry.unbind("a1", "d1")
            login = Deferred.fromCoroutine(self.login())
            binding = [self.registry.bind("a1", id) for id in ("d2", "d1")]
            rights = await login
            await gatherResults([unbinding, *binding])
            self.assertEqual(rights.devices, {"d1", "d2"})
            await self.registry.unbind("a1", "d2")
            del rights, login
            gc.collect()

    async def test_refused_alike(self) -> None:
        await self.prepare()
        texts = set()
        for id, secret, kinds in (
            ("a1", "wrong", ["mqtt"]),
            ("a1", "", ["mqtt"]),
            ("a2", "s", ["mqtt"]),
            ("", "", ["mqtt"]),
            ("a1", "s", ["gizwits"]),
        ):
            texts.add(str(await self.refused(Unauthenticated, self.registry.login_application(id, secret, kinds))))
        self.assertEqual(len(texts), 1)

    async def test_a_change_while_logging_in_counts(self) -> None:
        await self.prepare()
        login = Deferred.fromCoroutine(self.login())
        removal = self.registry.delete_application("a1")
        await self.refused(Unauthenticated, login)
        await removal
