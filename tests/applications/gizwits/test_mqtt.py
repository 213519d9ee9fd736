"""Apps over MQTT: who may log in, what they may hear and say, and when it ends."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from broker.applications.gizwits.settings import UserLimits
from broker.cluster.local import LocalBackplane
from broker.devices.gizwits import codec
from broker.mqtt import packets as p
from tests.applications.gizwits.bed import APP, NOW, SECRET, AppBed, Device
from tests.mqtt.fakes import Client, publishes

REPORT = codec.encode(codec.Report(b"\3\1"))
CONTROL = codec.encode(codec.Control(b"\2"))


def granted(packets: list[Any]) -> list[int]:
    (suback,) = packets
    return list(suback.codes)


class AppCase(TestCase):
    limits = UserLimits()

    def setUp(self) -> Deferred[Any]:  # type: ignore[override] # trial waits for it
        self.bed = AppBed(self.mktemp(), self.limits)
        self.addCleanup(self.bed.storage.close)
        self.addCleanup(lambda: self.assertEqual(self.bed.faults, []))
        return Deferred.fromCoroutine(self.bed.open("plain-1", gizwits=("d1", "d2", "d3")))

    def code(self, client: Client) -> int:
        return int(client.received[0].code)  # type: ignore[union-attr]  # a CONNACK, or the test is wrong


class LoginTests(AppCase):
    async def test_a_token_logs_in(self) -> None:
        session = await self.bed.user("phone")
        self.assertEqual(self.code(await self.bed.app(session)), 0)

    async def test_what_is_refused(self) -> None:
        session, other = await self.bed.user("phone"), await self.bed.user("another phone")
        await self.bed.registry.add_application({"kind": "mqtt", "id": "plainapp", "secret": SECRET})
        good = f"2${APP}${session.uid}"
        for user, password in (
            (good, "0" * 32),
            (good, ""),
            (good, None),
            (good, other.token),
            (good, SECRET),
            (f"2${APP}${other.uid}", session.token),
            (f"2$plainapp${session.uid}", session.token),
            (f"2$nobody${session.uid}", session.token),
            (f"2${APP}${session.uid}$", session.token),
            (f"2${APP}$", session.token),
            ("2$", session.token),
            ("2$$", session.token),
            (f"2${'a' * 65}${session.uid}", session.token),
            (f"2${APP}$../{session.uid}", session.token),
        ):
            client = await self.bed.login(user, password, "usr1", version=3)
            self.assertEqual((self.code(client), client.closed), (4, "auth_failed"), (user, password))

    async def test_client_ids_that_cannot_stand_in_a_topic(self) -> None:
        session = await self.bed.user("phone")
        for client_id in ("a/b", "+", "#", "broker", "x" * 65):
            client = await self.bed.app(session, client_id)
            self.assertNotEqual(self.code(client), 0, client_id)

    async def test_a_client_id_is_one_users(self) -> None:
        ann, bob = await self.bed.user("ann"), await self.bed.user("bob")
        first = await self.bed.app(ann, "usr1")
        self.assertEqual(self.code(await self.bed.app(bob, "usr1")), 5)
        self.assertIsNone(first.closed)
        self.assertEqual(self.code(await self.bed.app(ann, "usr1")), 0)  # its own: a takeover
        self.assertEqual(first.closed, "takeover")

    async def test_a_disabled_application(self) -> None:
        session = await self.bed.user("phone")
        client = await self.bed.app(session)
        await self.bed.registry.update_application(APP, {"disabled": True})
        self.assertEqual(client.closed, "removed")
        self.assertEqual(self.code(await self.bed.app(session)), 4)


class EndTests(AppCase):
    limits = UserLimits(max_tokens=2)

    async def test_the_token_expires(self) -> None:
        session = await self.bed.user("phone")
        client = await self.bed.app(session)
        self.bed.clock.advance(self.limits.token_lifetime - 1)
        self.assertIsNone(client.closed)
        self.bed.clock.advance(1)
        self.assertEqual(client.closed, "removed")
        self.assertEqual(self.code(await self.bed.app(session)), 4)

    async def test_the_token_is_pushed_out(self) -> None:
        session = await self.bed.user("phone")
        first, second = await self.bed.app(session, "a"), await self.bed.app(session, "b")
        later = await self.bed.user("phone")
        third = await self.bed.app(later, "c")
        self.assertEqual([one.closed for one in (first, second, third)], [None, None, None])
        await self.bed.user("phone")
        self.assertEqual([one.closed for one in (first, second, third)], ["removed", "removed", None])

    async def test_the_user_is_removed(self) -> None:
        session = await self.bed.user("phone", "d1")
        client = await self.bed.app(session)
        await self.bed.users.remove(APP, session.uid)
        self.assertEqual((client.closed, self.bed.apps_online.count("d1")), ("removed", 0))

    async def test_no_timer_is_left(self) -> None:
        session = await self.bed.user("phone")
        before = len(self.bed.clock.getDelayedCalls())
        client = await self.bed.app(session)
        self.assertEqual(len(self.bed.clock.getDelayedCalls()), before + 1)
        client.lose()
        self.assertEqual(len(self.bed.clock.getDelayedCalls()), before)

    async def test_the_application_goes_with_its_users(self) -> None:
        session = await self.bed.user("phone", "d1")
        client = await self.bed.app(session)
        await self.bed.registry.delete_application(APP)
        self.assertEqual(client.closed, "removed")
        self.assertEqual({table: rows for table, rows in self.bed.records.tables.items() if rows}, {})


class HearingTests(AppCase):
    async def test_what_may_be_subscribed(self) -> None:
        client = await self.bed.app(await self.bed.user("phone", "d1"), "usr1")
        for topic_filter, code in (
            ("ser2cli_res/usr1/#", 0),
            ("dev2app/d1", 0),
            ("dev2app/d1/usr1", 0),
            ("dev2app/d1/usr2", 128),
            ("dev2app/d2", 128),
            ("dev2app/d2/usr1", 128),
            ("dev2app/d1/#", 128),
            ("dev2app/+", 128),
            ("dev2app/#", 128),
            ("ser2cli_res/usr2/#", 128),
            ("ser2cli_res/#", 128),
            ("ser2cli_res/d1", 128),
            ("app2dev/d1/#", 128),
            ("app2dev/d1/usr1", 128),
            ("devices/d1/up/raw", 128),
            ("ser2cli_noti/product", 128),
            ("#", 128),
            ("+/d1", 128),
            ("$SYS/#", 128),
            ("anything", 128),
        ):
            self.assertEqual(granted(client.subscribe(topic_filter)), [code], topic_filter)

    async def test_reports_reach_the_apps_that_have_bound(self) -> None:
        device = Device(self.bed, "d1")
        ann = await self.bed.app(await self.bed.user("ann", "d1"), "a")
        bob = await self.bed.app(await self.bed.user("bob", "d1"), "b")
        eve = await self.bed.app(await self.bed.user("eve", "d2"), "e")
        for name, client in (("a", ann), ("b", bob), ("e", eve)):
            client.subscribe("dev2app/d1", f"dev2app/d1/{name}")
        device.report(REPORT)
        for client, expected in ((ann, 1), (bob, 1), (eve, 0)):
            self.assertEqual(publishes(client.got()), [("dev2app/d1", REPORT, 0)] * expected)
        device.report(REPORT, "b")
        self.assertEqual([len(client.got()) for client in (ann, bob, eve)], [0, 1, 0])

    async def test_a_binding_that_goes_ends_it_at_once(self) -> None:
        device = Device(self.bed, "d1")
        session = await self.bed.user("ann", "d1")
        client = await self.bed.app(session)
        client.subscribe("dev2app/d1", "dev2app/d1/usr1")
        device.report(REPORT)
        self.assertEqual(len(client.got()), 1)
        await self.bed.users.unbind(APP, session.uid, "d1")
        device.report(REPORT)
        device.report(REPORT, "usr1")
        self.assertEqual(client.ask(p.Publish("app2dev/d1/usr1", CONTROL)), [])
        self.assertEqual((device.got, client.closed), ([], None))
        self.assertEqual(granted(client.subscribe("dev2app/d1")), [128])

    async def test_a_device_that_is_removed_takes_its_bindings_with_it(self) -> None:
        session = await self.bed.user("ann", "d1")
        client = await self.bed.app(session)
        client.subscribe("dev2app/d1")
        await self.bed.registry.delete_device("d1")
        await self.bed.registry.add_device({"protocol": "gizwits", "id": "d1"})
        Device(self.bed, "d1").report(REPORT)
        self.assertEqual(client.got(), [])
        user = await self.bed.users.get(APP, session.uid)
        assert user is not None
        self.assertEqual(user.bindings, {})


class SayingTests(AppCase):
    async def test_a_control_message_reaches_the_device_untouched(self) -> None:
        device = Device(self.bed, "d1")
        client = await self.bed.app(await self.bed.user("ann", "d1"), "usr1")
        frames = [
            CONTROL,
            codec.encode(codec.Request(42, b"\1")),
            codec.encode(codec.Ack(7)),
            codec.encode(codec.SetLog(15)),
            codec.encode(codec.Other(0x4242, b"what is this")),
        ]
        client.send(*[p.Publish("app2dev/d1/usr1", frame) for frame in frames])
        self.assertEqual(device.got, [("app2dev/d1/usr1", frame) for frame in frames])

    async def test_at_every_qos(self) -> None:
        device = Device(self.bed, "d1")
        client = await self.bed.app(await self.bed.user("ann", "d1"), "usr1")
        answers = client.ask(p.Publish("app2dev/d1/usr1", CONTROL, 1, packet_id=1))
        answers += client.ask(p.Publish("app2dev/d1/usr1", CONTROL, 2, packet_id=2))
        self.assertEqual([type(one) for one in answers], [p.PubAck, p.PubRec])
        self.assertEqual(len(device.got), 2)

    async def test_what_may_not_be_published(self) -> None:
        devices = [Device(self.bed, did) for did in ("d1", "d2")]
        client = await self.bed.app(await self.bed.user("ann", "d1"), "usr1")
        listener = await self.bed.login("app")
        listener.subscribe("#")
        topics = (
            "app2dev/d1/usr2",
            "app2dev/d1",
            "app2dev/d1/",
            "app2dev/d1/usr1/x",
            "app2dev/d2/usr1",
            "app2dev/d1/broker",
            "dev2app/d1",
            "dev2app/d1/usr1",
            "dev2app/d1/usr2",
            "ser2cli_res/d1",
            "ser2cli_req",
            "cli2ser_req",
            "devices/d1/command",
            "anything",
        )
        before = self.bed.server.stats.dropped.get("not_allowed", 0)
        for topic in topics:
            client.send(p.Publish(topic, CONTROL))
        self.assertEqual(self.bed.server.stats.dropped["not_allowed"] - before, len(topics))
        self.assertEqual([device.got for device in devices], [[], []])
        self.assertEqual((listener.got(), client.closed), ([], None))

    async def test_three_wrong_messages_in_a_row(self) -> None:
        device = Device(self.bed, "d1")
        user = await self.bed.user("ann", "d1", "plain-1")
        wrong = (b"", CONTROL + b"x", b"\0\0\0\2" + CONTROL[4:])
        for topic in ("app2dev/d1/usr1", "app2dev/plain-1/usr1"):
            client = await self.bed.app(user)
            before = self.bed.server.stats.dropped.get("malformed", 0)
            client.send(*[p.Publish(topic, frame) for frame in (*wrong[:2], CONTROL, *wrong[:2])])
            self.assertIsNone(client.closed)
            client.send(p.Publish(topic, wrong[2]))
            self.assertEqual(client.closed, "protocol_error")
            self.assertEqual(self.bed.server.stats.dropped["malformed"] - before, 5)
        self.assertEqual(device.got, [("app2dev/d1/usr1", CONTROL)])


class CountTests(AppCase):
    """How many apps a device has."""

    def setUp(self) -> Deferred[Any]:  # type: ignore[override] # trial waits for it
        opening = super().setUp()
        #: What the device hears.
        self.told: list[tuple[str, bytes]] = []
        self.patch(self.bed.apps_online, "_push", lambda did, payload: self.told.append((did, payload)))
        return opening

    async def test_apps_come_and_go(self) -> None:
        ann, bob = await self.bed.user("ann", "d1", "d2"), await self.bed.user("bob", "d1")
        first = await self.bed.app(ann, "a1")
        second = await self.bed.app(ann, "a2")
        third = await self.bed.app(bob, "b")
        self.assertEqual([self.bed.apps_online.count(did) for did in ("d1", "d2", "d3")], [3, 2, 0])
        first.lose()
        third.send(p.Disconnect())
        third.lose(clean=True)
        self.assertEqual([self.bed.apps_online.count(did) for did in ("d1", "d2")], [1, 1])
        second.lose()
        self.assertEqual([self.bed.apps_online.count(did) for did in ("d1", "d2")], [0, 0])
        told = [payload for did, payload in self.told if did == "d1"]
        self.assertEqual(told, [codec.encode(codec.Apps(count)) for count in (1, 2, 3, 2, 1, 0)])

    async def test_a_takeover_is_one_app(self) -> None:
        ann = await self.bed.user("ann", "d1")
        await self.bed.app(ann, "a")
        await self.bed.app(ann, "a")
        self.assertEqual(self.bed.apps_online.count("d1"), 1)

    async def test_bindings_that_change(self) -> None:
        ann = await self.bed.user("ann")
        clients = [await self.bed.app(ann, name) for name in ("a", "b")]
        await self.bed.users.bind(APP, ann.uid, "d1")
        self.assertEqual(self.bed.apps_online.count("d1"), 2)
        await self.bed.users.bind(APP, ann.uid, "d1", "again")
        self.assertEqual(self.bed.apps_online.count("d1"), 2)
        await self.bed.users.unbind(APP, ann.uid, "d1")
        self.assertEqual(self.bed.apps_online.count("d1"), 0)
        for client in clients:
            client.lose()
        self.assertEqual([self.bed.apps_online.count(did) for did in ("d1", "d2")], [0, 0])

    async def test_a_binding_that_changes_during_the_log_in(self) -> None:
        ann = await self.bed.user("ann", "d1")
        person, _ = await self.bed.side.people.prove(APP, ann.uid, ann.token)
        await self.bed.users.unbind(APP, ann.uid, "d1")
        await self.bed.users.bind(APP, ann.uid, "d2")
        self.assertEqual(person.devices, {"d2"})

    async def test_an_application_with_its_secret_is_an_app_too(self) -> None:
        await self.bed.registry.bind(APP, "d1")
        client = await self.bed.login(APP)
        other = await self.bed.login("app")  # of another kind: no Gizwits app
        self.assertEqual([self.bed.apps_online.count(did) for did in ("d1", "plain-1")], [1, 0])
        await self.bed.registry.bind(APP, "d2")
        await self.bed.registry.unbind(APP, "d1")
        self.assertEqual([self.bed.apps_online.count(did) for did in ("d1", "d2")], [0, 1])
        await self.bed.registry.delete_application(APP)
        self.assertEqual((client.closed, self.bed.apps_online.count("d2"), other.closed), ("removed", 0, None))


class ApplicationTests(AppCase):
    """Applications with their id and secret on Gizwits topics."""

    async def test_bound_devices_and_its_own_client_id(self) -> None:
        device = Device(self.bed, "d1")
        Device(self.bed, "d2")
        await self.bed.registry.bind("app", "d1")
        client = await self.bed.login("app", client_id="c")
        for topic_filter, code in (
            ("dev2app/d1", 0),
            ("dev2app/d1/c", 0),
            ("ser2cli_res/c/#", 0),
            ("dev2app/d2", 128),
            ("dev2app/d1/other", 128),
            ("ser2cli_res/d1", 128),
            ("app2dev/d1/#", 128),
            ("ser2cli_noti/#", 128),
        ):
            self.assertEqual(granted(client.subscribe(topic_filter)), [code], topic_filter)
        client.send(p.Publish("app2dev/d1/c", CONTROL), p.Publish("app2dev/d1/other", CONTROL))
        client.send(p.Publish("app2dev/d2/c", CONTROL), p.Publish("dev2app/d1", REPORT))
        self.assertEqual((device.got, client.got()), ([("app2dev/d1/c", CONTROL)], []))
        device.report(REPORT)
        self.assertEqual(publishes(client.got()), [("dev2app/d1", REPORT, 0)])

    async def test_wildcards_are_cut(self) -> None:
        devices = [Device(self.bed, did) for did in ("d1", "d2")]
        await self.bed.registry.bind("app", "d1")
        for topic_filter in ("dev2app/#", "#", "+/+", "dev2app/+"):
            client = await self.bed.login("app", client_id="c")
            self.assertEqual(granted(client.subscribe(topic_filter)), [0])
            for device in devices:
                device.report(REPORT)
                device.report(REPORT, "another app")
            self.assertEqual(publishes(client.got()), [("dev2app/d1", REPORT, 0)], topic_filter)

    async def test_the_client_id_of_a_persons_app_is_taken(self) -> None:
        device = Device(self.bed, "d1")
        await self.bed.registry.bind("app", "d1")
        await self.bed.app(await self.bed.user("ann", "d1"), "usr1")
        client = await self.bed.login("app", client_id="usr1")
        self.assertEqual(granted(client.subscribe("dev2app/d1/usr1")), [128])
        client.send(p.Publish("app2dev/d1/usr1", CONTROL))
        self.assertEqual((device.got, client.got()), ([], []))


class AnybodyTests(TestCase):
    async def test_nobody_without_a_name_speaks_for_a_device_or_an_app(self) -> None:
        bed = AppBed(self.mktemp(), anonymous=True)
        self.addCleanup(bed.storage.close)
        await bed.open(gizwits=("d1",))
        device = Device(bed, "d1")
        client = await bed.login(None, None)
        client.send(p.Publish("app2dev/d1/c", CONTROL), p.Publish("dev2app/d1", REPORT), p.Publish("cli2ser_req", b""))
        self.assertEqual((device.got, bed.server.stats.dropped["not_allowed"]), ([], 3))
        self.assertEqual(bed.clock.seconds(), NOW)


class Several(LocalBackplane):
    """There are other processes, of which nothing is heard."""

    alone = False


class ElsewhereTests(AppCase):
    """A device that is connected to another process: its subscription is known here, and nothing else."""

    async def elsewhere(self) -> Device:
        device = Device(self.bed, "d1")
        self.bed.core.devices.surrender(device.live)
        return device

    async def test_what_an_app_says_reaches_it(self) -> None:
        self.bed.core.backplane = Several()
        session = await self.bed.user("phone", "d1")
        app, device = await self.bed.app(session), await self.elsewhere()
        request, ack = codec.encode(codec.Request(7, b"\2")), codec.encode(codec.Ack(3))
        for frame in (CONTROL, request, ack):
            app.send(p.Publish("app2dev/d1/usr1", frame))
        await self.bed.settle()
        self.assertEqual(device.got, [("app2dev/d1/usr1", frame) for frame in (CONTROL, request, ack)])

    async def test_one_that_is_away_hears_nothing(self) -> None:
        session = await self.bed.user("phone", "d1")
        app, device = await self.bed.app(session), await self.elsewhere()
        app.send(p.Publish("app2dev/d1/usr1", CONTROL))
        await self.bed.settle()
        self.assertEqual(device.got, [])
