"""Gizwits apps at one process, their devices at another; both in this one."""

from __future__ import annotations

from typing import Any

from msgspec.msgpack import encode
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from broker.applications.gizwits.users import UserChange
from broker.devices.gizwits import codec
from broker.devices.gizwits.log_switches import setting
from broker.model.messages import DATA, FAILED, SUCCEEDED, Command, Uplink
from broker.mqtt import packets as p
from tests.applications.gizwits.bed import APP, NOW, AppBed
from tests.applications.gizwits.socket_client import SocketClient
from tests.applications.gizwits.test_control import PRODUCT
from tests.applications.gizwits.test_datapoints import LAMP
from tests.cluster.gizwits_bed import ProcessesCase
from tests.mqtt.fakes import Client


def apps(count: int) -> bytes:
    return codec.encode(codec.Apps(count))


class MessagesTests(ProcessesCase):
    """The app is at a, the device at b."""

    async def both(self) -> tuple[SocketClient, Client]:
        await self.with_data_points(self.a, *LAMP)
        app = await self.socket(self.a)
        device = await self.device(self.b)
        self.assertEqual([data["online"] for _, data in await app.got()], [True])
        await self.told(self.b, device)
        return app, device

    async def report(self, device: Client, frame: bytes, app: str = "") -> None:
        device.send(p.Publish(f"dev2app/{self.did}{app}", frame))
        await self.settle()

    async def test_what_it_says(self) -> None:
        app, device = await self.both()
        await self.report(device, codec.encode(codec.Report(b"\4\0\7")))
        attrs = {"power": False, "mode": "white", "level": 7}
        self.assertEqual(await app.got(), [("s2c_noti", {"did": self.did, "attrs": attrs})])
        await self.report(device, codec.encode(codec.Ack(9)), f"/{self.only_app(self.a).client_id}")
        self.assertEqual(await app.got(), [("s2c_ack", {"did": self.did, "req_sn": 9})])
        await self.report(device, codec.encode(codec.Ack(9)), "/another")
        self.assertEqual(await app.got(), [])
        device.lose()
        self.assertEqual([data["online"] for _, data in await app.got()], [False])

    async def test_data_points_that_change(self) -> None:
        app, device = await self.both()
        for points, expected in ((LAMP[2:3], {"level": 7}), ((), None), (LAMP[:1], {"power": True})):
            await self.with_data_points(self.b, *points)
            await self.report(device, frame := codec.encode(codec.Report(b"\4\1\7")))
            told = {"did": self.did, "raw": list(frame)} if expected is None else {"did": self.did, "attrs": expected}
            self.assertEqual([data for _, data in await app.got()], [told])

    async def test_what_it_is_told(self) -> None:
        app, device = await self.both()
        topic = f"app2dev/{self.did}/{self.only_app(self.a).client_id}"
        raw = codec.encode(codec.Control(b"\1\2"))
        on = bytes.fromhex("010101000000000000")
        for cmd, data, expected in (
            ("c2s_write", {"attrs": {"power": True}, "req_sn": 4}, codec.Request(4, on)),
            ("c2s_read", {}, codec.Control(b"\2")),
            ("c2s_raw", {"raw": list(raw)}, codec.Control(b"\1\2")),
            ("c2s_ack", {"req_sn": 7}, codec.Ack(7)),
        ):
            app.say(cmd, {"did": self.did, **data})
            ((heard, payload),) = await self.told(self.b, device)
            self.assertEqual((heard, codec.decode_business(payload)), (topic, expected))
        self.assertEqual(await app.got(), [])
        app.say("c2s_write", {"did": self.did, "attrs": {"power": "blue"}})
        self.assertEqual([data["error_code"] for _, data in await app.got()], [9025])
        device.lose()
        await app.got()
        app.say("c2s_write", {"did": self.did, "attrs": {"power": True}})
        app.say("c2s_read", {"did": self.did})
        self.assertEqual([data["error_code"] for _, data in await app.got()], [9042, 9042])

    async def test_a_log_setting(self) -> None:
        app, device = await self.both()
        app.say("c2s_raw", {"did": self.did, "raw": list(codec.encode(codec.SetLog(5)))})
        self.assertEqual(len(await self.told(self.b, device)), 1)
        live = self.b.core.devices.get(self.did)
        assert live is not None
        self.assertEqual(live.info["log"], setting(5, sent=True))

    async def test_a_device_of_another_protocol(self) -> None:
        app = await self.socket(self.a)
        live, _ = self.b.device("plain-1")
        self.assertEqual([data["online"] for _, data in await app.got()], [True])
        self.b.core.router.uplink(Uplink(live.ref, DATA, {"temperature": 21.5}, NOW))
        self.assertEqual(await app.got(), [("s2c_noti", {"did": "plain-1", "attrs": {"temperature": 21.5}})])
        # A command that was submitted here and is driven there; what others submitted is not this app's.
        client_id = self.only_app(self.a).client_id
        for number, (name, status) in enumerate(((client_id, FAILED), (client_id, SUCCEEDED), ("another", FAILED))):
            options = {"gizwits_app": name, "gizwits_sn": number}
            command = Command(str(number), "plain-1", "plain", {}, "user:x", NOW, NOW + 9, None, None, options)
            command.status, command.result = status, {"error": "broken"}
            self.a.core.router.told_elsewhere("command", command)
        ((cmd, data),) = await app.got()
        self.assertEqual((cmd, data["req_sn"], data["detail_message"]), ("s2c_invalid_msg", 0, "broken"))

    async def test_only_what_somebody_wants_is_passed_on(self) -> None:
        casts: list[str] = []
        cast = self.b.plane.cast

        def noted(kind: str, body: bytes, node: str | None = None) -> None:
            casts.append(kind)
            cast(kind, body, node)

        self.patch(self.b.plane, "cast", noted)
        device = await self.device(self.b)
        await self.report(device, frame := codec.encode(codec.Report(b"\4\7")))
        self.assertEqual(casts, [])
        app = await self.socket(self.a, p0_type="custom")
        self.assertEqual(self.a.core.router.interests(), set())  # what it hears comes over topics
        await self.report(device, frame)
        self.assertEqual(await app.got(), [("s2c_raw", {"did": self.did, "raw": list(frame)})])
        app.lose()
        await self.settle()
        casts.clear()
        await self.report(device, frame)
        self.assertEqual(casts, [])
        self.assertEqual(self.a.side.products._followed, {})


class CountTests(ProcessesCase):
    async def counts(self, client: Client, *expected: int) -> None:
        """What the device at b hears of its apps."""
        told = await self.told(self.b, client)
        self.assertEqual([payload for _, payload in told], [apps(count) for count in expected])

    async def test_apps_at_both(self) -> None:
        there = await self.socket(self.a)
        device = await self.device(self.b)
        await self.counts(device, 1)
        here = await self.socket(self.b)
        await self.counts(device, 2)
        second = await self.socket(self.a)
        await self.counts(device, 3)
        device.send(p.Publish("ser2cli_req", codec.encode(codec.AskApps())))
        await self.counts(device, 3)
        here.lose()
        second.lose()
        await self.counts(device, 2, 1)
        there.lose()
        await self.counts(device, 0)

    async def test_it_is_told_when_it_listens(self) -> None:
        await self.socket(self.a)
        device = await self.device(self.b, subscribed=False)
        for topic_filter in (f"ser2cli_noti/{PRODUCT}", f"ser2cli_res/{self.did}"):
            device.subscribe(topic_filter)
            await self.socket(self.a)
            await self.counts(device)  # an agent that waits for a SUBACK
        await self.subscribe(self.b, device)
        await self.counts(device, 3)

    async def test_a_suback_that_waits_for_the_others(self) -> None:
        await self.socket(self.a)
        device = await self.device(self.b, subscribed=False)
        waiting: list[Deferred[None]] = []

        def known() -> Deferred[None]:
            waiting.append(Deferred())
            return waiting[-1]

        self.patch(self.b.server, "known", known)
        for topic_filter in (f"ser2cli_res/{self.did}", f"app2dev/{self.did}/#"):
            self.assertEqual(device.subscribe(topic_filter), [])
            self.b.clock.advance(0)
            await self.counts(device)
            for one in list(waiting):
                one.callback(None)
                waiting.remove(one)
            device.bench.flush()
            self.assertIsInstance(device.got()[0], p.SubAck)
        await self.counts(device, 1)

    async def test_it_moves(self) -> None:
        await self.socket(self.a)
        device = await self.device(self.b)
        await self.counts(device, 1)
        live = self.b.core.devices.get(self.did)
        assert live is not None
        moved = await self.device(self.a)
        self.b.core.devices.surrender(live)
        device.lose()
        await self.socket(self.b)
        told = [payload for topic, payload in await self.told(self.a, moved) if topic.startswith("ser2cli_res")]
        self.assertEqual(told, [apps(1), apps(2)])
        self.assertEqual(list(self.b.apps_online.far()), [])
        moved.lose()
        await self.settle()
        self.assertEqual(list(self.a.apps_online.far()), [])

    async def test_a_process_that_is_gone(self) -> None:
        await self.socket(self.a)
        await self.socket(self.b)
        device = await self.device(self.b)
        await self.counts(device, 2)
        self.hub.kill("a")
        await self.counts(device, 1)

    async def test_one_that_counts_as_dead_and_is_not(self) -> None:
        app = await self.socket(self.a)
        device = await self.device(self.b)
        await self.counts(device, 1)
        self.a.plane.fence()
        self.assertEqual(app.closed, "unavailable")
        await self.counts(device, 0)
        self.b.plane.fence()
        self.assertEqual(list(self.b.apps_online.far()), [])


class UserTests(ProcessesCase):
    """Ann's app is at a; what is changed is changed at b."""

    async def stage(self) -> None:
        await super().stage()
        self.app = await self.socket(self.a)

    async def test_bindings(self) -> None:
        await self.b.users.unbind(APP, self.ann.uid, self.did)
        self.assertEqual(await self.app.got(), [("s2c_binding_changed", {"did": self.did, "bind": False})])
        self.app.say("c2s_read", {"did": self.did})
        self.assertEqual([data["error_code"] for _, data in await self.app.got()], [9017])
        await self.b.users.bind(APP, self.ann.uid, self.did)
        told = await self.app.got()
        self.assertEqual(told[0], ("s2c_binding_changed", {"did": self.did, "bind": True}))
        self.assertEqual([cmd for cmd, _ in told[1:]], ["s2c_online_status"])

    async def test_what_is_heard_late_gives_no_right(self) -> None:
        notes: list[tuple[str, bytes]] = []
        self.patch(self.b.plane, "tell", lambda kind, body: notes.append((kind, body)))
        await self.b.users.unbind(APP, self.ann.uid, self.did)
        await self.b.users.bind(APP, self.ann.uid, self.did)
        await self.a.users.unbind(APP, self.ann.uid, self.did)
        self.assertEqual(await self.app.got(), [("s2c_binding_changed", {"did": self.did, "bind": False})])
        for kind, body in notes:
            for hear in self.a.plane.hearers[kind]:
                hear("b", body)
        self.assertEqual(await self.app.got(), [])
        self.assertFalse(self.only_app(self.a).person.may_see(self.did))

    async def test_tokens_and_users(self) -> None:
        bob = await self.b.user("bob")
        other = await self.socket(self.a, bob)
        await self.b.users.set_password(APP, self.ann.uid, "a password", "")
        self.assertEqual((self.app.closed, other.closed), ("removed", None))
        await self.b.users.remove(APP, bob.uid)
        self.assertEqual(other.closed, "removed")

    async def test_a_change_while_somebody_logs_in(self) -> None:
        bob = await self.b.user("bob", self.did)
        get = self.a.users.get
        changes = 1

        async def slow(app: str, uid: str) -> Any:
            nonlocal changes
            found = await get(app, uid)
            if changes:
                changes -= 1
                await self.b.users.unbind(app, uid, self.did)
            return found

        self.patch(self.a.users, "get", slow)
        self.app.lose()
        await self.socket(self.a, bob)
        self.assertEqual(self.only_app(self.a).person.devices, set())

    async def test_storage_that_is_away(self) -> None:
        """What was unbound counts all the same."""
        self.records.broken = True
        self.b.plane.tell("giz.user", encode(UserChange("unbound", APP, self.ann.uid, self.did)))
        self.records.broken = False
        self.assertEqual(await self.app.got(), [("s2c_binding_changed", {"did": self.did, "bind": False})])


class AloneTests(TestCase):
    async def test_a_single_process_pays_nothing(self) -> None:
        bed = AppBed(self.mktemp())
        await bed.open("plain-1")
        self.addCleanup(bed.storage.close)
        self.assertIsNone(bed.apps_online.pass_on)
        self.assertEqual((bed.core.whereabouts.arrivals, len(bed.users.on_change)), ([], 1))
        bed.side.products.follow("d", "product")
        self.assertEqual(bed.side.products._followed, {})
