"""The app WebSocket: log-in, subscriptions, messages both ways, heartbeats; and what a hostile client finds."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from wsproto.events import BytesMessage, TextMessage

from broker.applications.gizwits.products import ProductExtra
from broker.applications.gizwits.settings import UserLimits
from broker.devices.gizwits import codec
from broker.listening.settings import Limits
from broker.model.messages import DATA, FAILED, SUCCEEDED, Reply, Uplink
from broker.mqtt import packets as p
from tests.applications.gizwits.bed import APP
from tests.applications.gizwits.socket_client import SocketClient
from tests.applications.gizwits.test_control import PRODUCT, ControlCase
from tests.applications.gizwits.test_datapoints import LAMP
from tests.mqtt.fakes import publishes


class SocketCase(ControlCase):
    async def socket(self, p0_type: str = "custom", **more: Any) -> SocketClient:
        """An app of ann's, logged in; what it was told at first is taken."""
        client = SocketClient(self.bed)
        await client.login(self.ann, p0_type, **more)
        return client

    def status(self, online: bool, passcode: str = "", did: str = "plain-1", mac: str = "") -> tuple[str, Any]:
        return "s2c_online_status", {"did": did, "passcode": passcode, "mac": mac, "online": online}


class LoginTests(SocketCase):
    async def test_log_in_and_hear_of_the_devices(self) -> None:
        client = SocketClient(self.bed)
        told = await client.login(self.ann)
        passcode = (await self.bed.registry.get_device(self.did)).secret
        expected = [self.status(False, passcode, self.did, "AABBCCDDEEFF"), self.status(False)]
        self.assertCountEqual(told, expected)
        self.assertTrue(client.accepted)
        self.assertEqual(self.bed.apps_online.count(self.did), 1)
        client.lose()
        self.assertEqual(self.bed.apps_online.count(self.did), 0)
        self.assertEqual(self.bed.core.topics.subscriptions, 0)
        self.assertEqual(self.bed.side.consumer.watchers, {})

    async def test_what_is_refused(self) -> None:
        bob = await self.bed.user("bob")
        good = {"appid": APP, "uid": self.ann.uid, "token": self.ann.token}
        for change, number in (
            ({"token": bob.token}, 9004),
            ({"token": "0" * 32}, 9004),
            ({"uid": bob.uid}, 9004),
            ({"appid": "nobody"}, 9003),
            ({"token": ""}, 1000),
            ({"token": None}, 1000),
            ({"p0_type": "other"}, 1000),
            ({"heartbeat_interval": -1}, 1000),
        ):
            client = SocketClient(self.bed)
            client.say("login_req", {**good, **change})
            answers = await client.got()
            self.assertEqual((answers[-1][0], answers[-1][1]["error_code"]), ("s2c_invalid_msg", number), change)
            self.assertEqual(answers[:-1], [("login_res", {"success": False})] if number > 9000 else [])
            self.assertIsNone(client.closed)
            client.lose()
        self.assertEqual(self.bed.gservice.stats.logins_failed, 4)

    async def test_an_address_that_has_guessed_too_often(self) -> None:
        gservice = self.bed.gservice
        gservice.limits = Limits(exempt_loopback=False, max_failed_logins=1, lockout_failed_logins=2)
        client = SocketClient(self.bed)
        for _ in range(2):
            gservice.login_failed("")
        client.say("login_req", {"appid": APP, "uid": self.ann.uid, "token": self.ann.token})
        answers = await client.got()
        self.assertEqual([answers[0], answers[1][1]["error_code"]], [("login_res", {"success": False}), 9041])
        self.assertEqual(gservice.stats.logins_locked_out, 1)

    async def test_nothing_before_the_log_in(self) -> None:
        client = SocketClient(self.bed)
        for cmd in ("subscribe_req", "c2s_raw", "c2s_write", "c2s_read", "c2s_ack"):
            client.say(cmd, {"did": self.did, "raw": [0]})
            self.assertEqual([data["error_code"] for _, data in await client.got()], [1002], cmd)
        client.say("ping")
        self.assertEqual(await client.got(), [("pong", None)])

    async def test_an_app_that_does_not_wait_for_the_answer(self) -> None:
        client = SocketClient(self.bed)
        good = {"appid": APP, "uid": self.ann.uid, "token": self.ann.token, "auto_subscribe": False}
        client.say("login_req", good)
        client.say("ping")
        client.say("subscribe_req", [{"did": self.did}])
        told = await client.got()
        expected = ["pong", "login_res", "subscribe_res", "s2c_online_status"]
        self.assertEqual([cmd for cmd, _ in told], expected)
        for token, answers in ((self.ann.token, 17), ("0" * 32, 2)):
            client = SocketClient(self.bed)
            client.say("login_req", {**good, "token": token})
            for _ in range(17):
                client.say("subscribe_req", [])
            told = await client.got()
            self.assertEqual(len(told) - sum(cmd == "s2c_online_status" for cmd, _ in told), 1 + answers)

    async def test_who_does_not_log_in(self) -> None:
        client = SocketClient(self.bed)
        client.say("ping")
        self.bed.clock.advance(29)
        self.bed.gservice.tick()
        self.assertIsNone(client.closed)
        self.bed.clock.advance(1.5)
        self.bed.gservice.tick()
        self.assertEqual(client.closed, "auth_timeout")

    async def test_once_is_enough(self) -> None:
        client = await self.socket()
        client.say("login_req", {"appid": APP, "uid": self.ann.uid, "token": self.ann.token})
        self.assertEqual([data["error_code"] for _, data in await client.got()], [9015])
        self.assertEqual(self.bed.apps_online.count(self.did), 1)

    async def test_the_token_ends(self) -> None:
        client = await self.socket()
        await self.bed.users.remove(APP, self.ann.uid)
        ((cmd, data),) = await client.got()
        self.assertEqual(
            (cmd, data["error_code"], client.closed, client.code), ("s2c_invalid_msg", 1009, "removed", 1008)
        )


class HeartbeatTests(SocketCase):
    def wait(self, seconds: float) -> None:
        for _ in range(int(seconds)):
            self.bed.clock.advance(1)
            self.bed.gservice.tick()

    async def test_a_silent_app_is_closed(self) -> None:
        client = await self.socket(heartbeat_interval=60)
        self.wait(85)
        client.say("ping")
        self.assertEqual(await client.got(), [("pong", None)])
        self.wait(85)
        self.assertIsNone(client.closed)
        self.wait(10)
        ((cmd, data),) = await client.got()
        self.assertEqual(
            (cmd, data, client.closed), ("s2c_invalid_msg", {"error_code": 1011, "msg": "No heartbeat!"}, "idle")
        )

    async def test_a_longer_interval_than_allowed(self) -> None:
        client = await self.socket(heartbeat_interval=100_000)
        self.wait(275)
        self.assertEqual(client.closed, "idle")


class SubscriptionTests(SocketCase):
    async def test_subscribe_by_hand(self) -> None:
        client = SocketClient(self.bed)
        self.assertEqual(await client.login(self.ann, auto_subscribe=False), [])
        device = await self.device()
        report = codec.encode(codec.Report(b"\3\1"))
        device.send(p.Publish(f"dev2app/{self.did}", report))
        self.assertEqual(await client.got(), [])
        client.say("subscribe_req", [{"did": self.did}, {"did": "d2"}, {"did": "unknown"}])
        answer, status = await client.got()
        self.assertEqual(answer[0], "subscribe_res")
        self.assertEqual(answer[1]["success"], [{"did": self.did, "error_code": 0, "msg": ""}])
        self.assertEqual([one["did"] for one in answer[1]["failed"]], ["d2", "unknown"])
        self.assertEqual((status[0], status[1]["online"]), ("s2c_online_status", True))
        device.send(p.Publish(f"dev2app/{self.did}", report))
        self.assertEqual(await client.got(), [("s2c_raw", {"did": self.did, "raw": list(report)})])

    async def test_it_is_answered_when_other_processes_know(self) -> None:
        known: Deferred[None] = Deferred()
        self.patch(self.bed.server, "known", lambda: known)
        client = SocketClient(self.bed)
        self.assertEqual(await client.login(self.ann), [])
        client.say("subscribe_req", [{"did": self.did}])
        self.assertEqual(await client.got(), [])
        known.callback(None)
        self.assertEqual([cmd for cmd, _ in await client.got()].count("subscribe_res"), 1)

    async def test_who_has_gone_by_then(self) -> None:
        known: Deferred[None] = Deferred()
        self.patch(self.bed.server, "known", lambda: known)
        client = SocketClient(self.bed)
        await client.login(self.ann)
        client.lose()
        known.callback(None)
        self.assertEqual((client.now(), self.bed.core.topics.subscriptions), ([], 0))

    async def test_a_device_comes_and_goes(self) -> None:
        client = await self.socket()
        device = await self.device()
        self.assertEqual([(cmd, data["online"]) for cmd, data in await client.got()], [("s2c_online_status", True)])
        device.lose()
        self.assertEqual([(cmd, data["online"]) for cmd, data in await client.got()], [("s2c_online_status", False)])

    async def test_bindings_that_change(self) -> None:
        client = await self.socket()
        device = await self.device()
        await client.got()
        await self.bed.users.unbind(APP, self.ann.uid, self.did)
        device.send(p.Publish(f"dev2app/{self.did}", codec.encode(codec.Report(b"\1"))))
        client.say("c2s_raw", {"did": self.did, "raw": list(codec.encode(codec.Control(b"\1")))})
        self.assertEqual(
            [(cmd, data.get("bind"), data.get("error_code")) for cmd, data in await client.got()],
            [("s2c_binding_changed", False, None), ("s2c_invalid_msg", None, 9017)],
        )
        await self.bed.users.bind(APP, self.ann.uid, self.did)
        told = await client.got()
        self.assertEqual([cmd for cmd, _ in told], ["s2c_binding_changed", "s2c_online_status"])
        device.send(p.Publish(f"dev2app/{self.did}", codec.encode(codec.Report(b"\1"))))
        self.assertEqual([cmd for cmd, _ in await client.got()], ["s2c_raw"])

    async def test_nobody_hears_anothers_device(self) -> None:
        eve = await self.bed.user("eve")
        client = SocketClient(self.bed)
        await client.login(eve)
        device = await self.device()
        client.say("subscribe_req", [{"did": self.did}])
        device.send(p.Publish(f"dev2app/{self.did}", codec.encode(codec.Report(b"\1"))))
        self.assertEqual([cmd for cmd, _ in await client.got()], ["subscribe_res"])
        for cmd in ("c2s_raw", "c2s_write", "c2s_read", "c2s_ack"):
            data = {"did": self.did, "raw": list(codec.encode(codec.Control(b"\1"))), "req_sn": 1}
            client.say(cmd, data)
            self.assertEqual([one["error_code"] for _, one in await client.got()], [9017], cmd)
        self.assertEqual(await self.told(device), [])


class MessageTests(SocketCase):
    async def test_custom(self) -> None:
        client = await self.socket()
        device = await self.device()
        await self.told(device)
        await client.got()
        frame = codec.encode(codec.Request(7, b"\1"))
        client.say("c2s_raw", {"did": self.did, "raw": list(frame)})
        ((topic, payload),) = await self.told(device)
        self.assertEqual(payload, frame)
        # The device answers that app alone.
        ack = codec.encode(codec.Ack(7))
        device.send(p.Publish(topic.replace("app2dev", "dev2app"), ack))
        device.send(p.Publish(f"dev2app/{self.did}/another", ack))
        self.assertEqual(await client.got(), [("s2c_raw", {"did": self.did, "raw": list(ack)})])

    async def test_attrs(self) -> None:
        await self.with_data_points(*LAMP)
        client = await self.socket("attrs_v4")
        device = await self.device()
        await self.told(device)
        await client.got()
        client.say("c2s_write", {"did": self.did, "attrs": {"power": True}})
        client.say("c2s_write", {"did": self.did, "attrs": {"power": False}, "req_sn": 9})
        client.say("c2s_write", {"did": self.did, "raw": [1, 2]})
        client.say("c2s_read", {"did": self.did})
        client.say("c2s_ack", {"did": self.did, "req_sn": 5})
        packets = [codec.decode_business(payload) for _, payload in await self.told(device)]
        p0 = bytes.fromhex("01 01 01 00 0000 000000")
        off = bytes.fromhex("01 01 00 00 0000 000000")
        expected = [
            codec.Control(p0),
            codec.Request(9, off),
            codec.Control(b"\1\2"),
            codec.Control(b"\2"),
            codec.Ack(5),
        ]
        self.assertEqual(packets, expected)
        self.assertEqual(await client.got(), [])
        to_all = f"dev2app/{self.did}"
        device.send(
            p.Publish(to_all, codec.encode(codec.Report(b"\4\1"))),
            p.Publish(to_all, codec.encode(codec.Request(3, b"\4\0"))),
            p.Publish(to_all, codec.encode(codec.Ack(9))),
            p.Publish(to_all, codec.encode(codec.Report(b"\5own"))),
            p.Publish(to_all, codec.encode(codec.Log(1, b"t", b"s", b"text"))),
        )
        power = {"power": True, "mode": "white"}
        told = await client.got()
        self.assertEqual(told[0], ("s2c_noti", {"did": self.did, "attrs": power}))
        self.assertEqual(told[1], ("s2c_noti", {"did": self.did, "attrs": {**power, "power": False}, "req_sn": 3}))
        self.assertEqual(told[2], ("s2c_ack", {"did": self.did, "req_sn": 9}))
        self.assertEqual([cmd for cmd, _ in told[3:]], ["s2c_raw", "s2c_raw"])

    async def test_what_cannot_be_written(self) -> None:
        client = await self.socket("attrs_v4")
        for data, number in (
            ({"did": self.did, "attrs": {"power": True}}, 9042),
            ({"did": self.did}, 9015),
            ({"did": self.did, "attrs": {}, "raw": []}, 9015),
            ({"did": self.did, "attrs": 5}, 1000),
            ({"did": self.did, "raw": [300]}, 1000),
            ({"did": self.did, "raw": [1], "req_sn": -1}, 1000),
            ({"did": "d2", "attrs": {}}, 9017),
        ):
            client.say("c2s_write", data)
            self.assertEqual([one["error_code"] for _, one in await client.got()], [number], data)
        await self.device()
        await client.got()
        client.say("c2s_write", {"did": self.did, "attrs": {"power": True}})
        self.assertEqual([one["error_code"] for _, one in await client.got()], [9025])
        await self.bed.side.products.set_extra(PRODUCT, ProductExtra("", LAMP))
        await self.bed.settle()
        client.say("c2s_write", {"did": self.did, "attrs": {"power": 7}})
        self.assertEqual([one["error_code"] for _, one in await client.got()], [9025])

    async def test_a_device_of_another_protocol(self) -> None:
        client = await self.socket("attrs_v4")
        live, link = self.bed.device("plain-1")
        await client.got()
        self.bed.core.router.uplink(Uplink(live.ref, DATA, {"t": 25.5}, 1.0))
        self.bed.core.router.uplink(Uplink(live.ref, "raw", b"\1", 1.0))
        told = await client.got()
        self.assertEqual(told[0], ("s2c_noti", {"did": "plain-1", "attrs": {"t": 25.5}}))
        self.assertEqual(told[1][0], "s2c_raw")
        client.say("c2s_write", {"did": "plain-1", "attrs": {"led": "ON"}, "req_sn": 4})
        await self.bed.settle()
        (command,) = link.sent
        self.assertEqual(command.payload, {"led": "ON"})
        self.bed.core.commands.reply("plain-1", Reply(command.id, SUCCEEDED, {}, 1.0))
        self.assertEqual(await client.got(), [("s2c_ack", {"did": "plain-1", "req_sn": 4})])
        client.say("c2s_read", {"did": "plain-1"})
        self.assertEqual([one["error_code"] for _, one in await client.got()], [9015])

    async def test_what_is_not_done_is_told(self) -> None:
        client = await self.socket("attrs_v4")
        _, link = self.bed.device("plain-1")
        await client.got()
        for number, status, result, why in (
            (4, FAILED, {"error": "it does not move"}, "it does not move"),
            (5, FAILED, {"code": 7}, "failed"),
            (6, FAILED, None, "failed"),
        ):
            client.say("c2s_write", {"did": "plain-1", "attrs": {"led": "ON"}, "req_sn": number})
            await self.bed.settle()
            self.bed.core.commands.reply("plain-1", Reply(link.sent[-1].id, status, result, 1.0))
            told = {"error_code": 9021, "msg": "send command failed!", "did": "plain-1", "detail_message": why}
            self.assertEqual(await client.got(), [("s2c_invalid_msg", {**told, "req_sn": number})])
        client.lose()
        self.assertEqual(self.bed.side.refusals.told, {})

    async def test_a_device_that_is_away(self) -> None:
        client = await self.socket("attrs_v4")
        client.say("c2s_write", {"did": self.did, "raw": [1, 2], "req_sn": 7})
        await self.bed.settle()
        ((cmd, told),) = await client.got()
        self.assertEqual((cmd, told["error_code"], told["did"], told["req_sn"]), ("s2c_invalid_msg", 9042, self.did, 7))

    async def test_what_the_broker_refuses_is_told_and_ends_nothing(self) -> None:
        client = await self.socket("attrs_v4")
        self.bed.device("plain-1")
        await client.got()
        self.bed.core.commands.max_queued = 0
        for number in range(self.bed.side.limits.max_invalid_messages + 1):
            client.say("c2s_write", {"did": "plain-1", "attrs": {"led": "ON"}, "req_sn": number})
            await self.bed.settle()
            ((cmd, told),) = await client.got()
            self.assertEqual((cmd, told["error_code"], told["req_sn"]), ("s2c_invalid_msg", 9041, number))
            self.assertIn("wait for this device", told["detail_message"])

    async def test_it_is_translated_once_for_all(self) -> None:
        clients = [await self.socket() for _ in range(3)]
        device = await self.device()
        for client in clients:
            await client.got()
        made: list[str] = []
        translation = self.bed.side.translation
        plain = translation._made

        def counted(topic: str, payload: bytes, attrs: bool) -> bytes | None:
            made.append(topic)
            return plain(topic, payload, attrs)

        self.patch(translation, "_made", counted)
        device.send(p.Publish(f"dev2app/{self.did}", codec.encode(codec.Report(b"\1"))))
        self.assertEqual([len(await client.got()) for client in clients], [1, 1, 1])
        self.assertEqual(len(made), 1)

    async def test_together_with_apps_on_mqtt(self) -> None:
        client = await self.socket()
        app = await self.bed.app(self.ann, "usr1")
        app.subscribe(f"dev2app/{self.did}")
        device = await self.device()
        await client.got()
        report = codec.encode(codec.Report(b"\1"))
        device.send(p.Publish(f"dev2app/{self.did}", report))
        self.assertEqual(publishes(app.got()), [(f"dev2app/{self.did}", report, 0)])
        self.assertEqual([cmd for cmd, _ in await client.got()], ["s2c_raw"])
        self.assertEqual(self.bed.apps_online.count(self.did), 2)

    async def test_an_app_that_does_not_read(self) -> None:
        client = await self.socket()
        device = await self.device()
        await client.got()
        client.connection.pauseProducing()
        report = codec.encode(codec.Report(bytes(10_000)))
        for _ in range(200):
            device.send(p.Publish(f"dev2app/{self.did}", report))
        self.assertGreater(self.bed.gservice.stats.dropped["slow_subscriber"], 0)
        self.assertLess(client.connection.outbox.size, 2 * self.bed.gservice.limits.max_outbox)


class HostileTests(SocketCase):
    limits = UserLimits(max_invalid_messages=5, max_sockets=2)

    async def test_a_flood_of_bad_messages(self) -> None:
        for texts in (
            ["", "x", "{", "[]", "null"],
            ["[" * 50_000, '{"cmd":' * 5_000, '"' * 10, "1e999", "\u0000"],
            ['{"cmd":5}', '{"cmd":null}', '{"data":{}}', '{"cmd":"nothing"}', '{"cmd":["login_req"]}'],
            ['{"cmd":"login_req"}', '{"cmd":"login_req","data":[]}', '{"cmd":"login_req","data":{}}', "{}", "{}"],
        ):
            client = SocketClient(self.bed)
            for text in texts:
                self.assertIsNone(client.closed, text[:50])
                client.send(TextMessage(text))
            self.assertEqual(client.closed, "protocol_error")
            answers = client.now()
            self.assertEqual({cmd for cmd, _ in answers}, {"s2c_invalid_msg"})
            client.lose()

    async def test_random_messages(self) -> None:
        random = Random(5)
        words = [
            "cmd",
            "data",
            "did",
            "raw",
            "attrs",
            "req_sn",
            "c2s_write",
            "c2s_raw",
            "subscribe_req",
            self.did,
            "c2s_ack",
        ]

        def anything(depth: int) -> Any:
            kind = random.randrange(6 if depth else 4)
            if kind < 4:
                return random.choice([None, True, -1, 1e9, 300, "", random.choice(words), 2**70])
            if kind == 4:
                return [anything(depth - 1) for _ in range(random.randrange(4))]
            return {random.choice(words): anything(depth - 1) for _ in range(random.randrange(5))}

        device = await self.device()
        await self.told(device)
        client = await self.socket()
        for _ in range(500):
            if client.closed:
                client.lose()
                client = await self.socket()
            client.say(random.choice(words), anything(3))
            if random.random() < 0.3:
                client.say("ping")
                client.say("c2s_ack", {"did": self.did, "req_sn": 1})  # a good one: not too many wrong ones in a row
        await client.got()
        commands = [payload for topic, payload in await self.told(device) if topic.startswith("app2dev/")]
        self.assertTrue(commands)
        for payload in commands:
            codec.decode_business(payload)

    async def test_frames_that_are_none(self) -> None:
        device = await self.device()
        await self.told(device)
        client = await self.socket()
        for raw in ([], [0, 0, 0, 3], [0, 0, 0, 3, 9, 0, 0, 0x90], [1, 2, 3, 4, 5, 6, 7, 8]):
            client.say("c2s_raw", {"did": self.did, "raw": raw})
        self.assertIsNone(client.closed)
        client.send(BytesMessage(b"binary"))
        self.assertEqual(client.closed, "protocol_error")
        client.lose()
        told = [codec.decode_system(payload) for _, payload in await self.told(device)]
        self.assertEqual(told, [codec.Apps(1), codec.Apps(0)])

    async def test_too_many_sockets(self) -> None:
        clients = [await self.socket() for _ in range(2)]
        third = SocketClient(self.bed)
        third.say("login_req", {"appid": APP, "uid": self.ann.uid, "token": self.ann.token})
        self.assertEqual([cmd for cmd, _ in await third.got()], ["login_res", "s2c_invalid_msg"])
        clients[0].lose()
        third.say("login_req", {"appid": APP, "uid": self.ann.uid, "token": self.ann.token})
        self.assertEqual((await third.got())[0], ("login_res", {"success": True}))

    async def test_a_message_without_end(self) -> None:
        client = await self.socket()
        client.send(TextMessage("a" * 300_000, message_finished=False))
        self.assertIsNone(client.closed)
        client.send(TextMessage("a" * 300_000, message_finished=False))
        self.assertEqual(client.closed, "too_long")

    async def test_gone_while_logging_in(self) -> None:
        client = SocketClient(self.bed)
        client.say("login_req", {"appid": APP, "uid": self.ann.uid, "token": self.ann.token})
        client.lose()
        await self.bed.settle()
        self.assertEqual(self.bed.apps_online.count(self.did), 0)
        self.assertEqual(self.bed.core.topics.subscriptions, 0)
