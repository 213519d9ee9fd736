"""A Gizwits device over MQTT: logging in, what it may do, what it says."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from broker.devices.gizwits import codec as g
from broker.devices.gizwits.identity import DeviceRules, MacIndex, derived_did, is_did
from broker.devices.gizwits.side import DeviceIdentities
from broker.devices.gizwits.switches import Switches
from broker.model.errors import Invalid
from broker.model.interfaces import IDeviceLink, IMqttIdentities, IMqttPrincipal
from broker.model.messages import DeviceRef, Uplink
from broker.mqtt import packets as p
from tests.devices.gizwits.bed import DID, MAC, OTHER, PASSCODE, PRODUCT, Bed, Listening
from tests.mqtt.fakes import Client, publishes

#: What a GAgent 04020006 sends, but for the DID.
CONNECT = bytes.fromhex("1048 0006 4d5149736470 03 c2 0078 0016") + DID.encode() + b"\0\x16" + DID.encode()
CONNECT += b"\0\x0a" + PASSCODE.encode()


class Case(TestCase):
    gizwits: dict[str, Any] = {}
    settings: dict[str, Any] = {}

    async def setUp(self) -> None:  # type: ignore[override] # trial waits for it
        self.bed = await Bed(self.mktemp(), self.gizwits, **self.settings).open(DID, OTHER)
        self.addCleanup(self.bed.storage.close)

    def tearDown(self) -> None:
        self.assertEqual(self.bed.faults, [])

    async def reader(self, *filters: str) -> Client:
        """An application that is subscribed to Gizwits topics."""
        client = await self.bed.login(client_id="reader")
        client.subscribe(*filters)
        return client


class LoggingIn(Case):
    async def test_the_bytes_of_an_agent(self) -> None:
        self.assertEqual(len(CONNECT), 74)
        connection = self.bed.server.buildProtocol(None)
        client = Client(self.bed, connection, p.MQTT_3_1)  # type: ignore[arg-type]
        client.send(CONNECT)
        await self.bed.settle()
        self.assertEqual(client.transport.value(), b"\x20\x02\0\0")
        for number, topic in enumerate((f"ser2cli_noti/{PRODUCT}", f"ser2cli_res/{DID}", f"app2dev/{DID}/#"), 1):
            client.transport.clear()
            self.bed.pass_time(0.01)
            body = b"\0" + bytes((number, 0, len(topic))) + topic.encode() + b"\0"
            client.send(b"\x82" + bytes((len(body),)) + body)
            self.assertEqual(client.transport.value(), b"\x90\x03\0" + bytes((number,)) + b"\0")
        self.assertEqual(self.bed.heard.presences, [(DID, True, "connected")])

    async def code(self, did: str = DID, **fields: Any) -> int:
        client = await self.bed.device(did, **{"subscribed": False, **fields})
        (answer,) = client.received
        assert isinstance(answer, p.ConnAck)
        if answer.code:
            self.assertIsNone(client.closed)
            self.bed.pass_time(4.9)
            self.assertIsNone(client.closed)
            self.bed.pass_time(0.2)
            self.assertEqual(client.closed, "auth_failed")
        return answer.code

    async def test_codes(self) -> None:
        self.assertEqual(await self.code(), p.ACCEPTED)
        self.assertEqual(await self.code(version=p.MQTT_3_1_1), p.ACCEPTED)
        self.assertEqual(await self.code(passcode="CILECMOIWX"), p.REFUSED_CREDENTIALS)
        self.assertEqual(await self.code(passcode=""), p.REFUSED_CREDENTIALS)
        self.assertEqual(await self.code(password=None), p.REFUSED_CREDENTIALS)
        self.assertEqual(await self.code(password=b"\xff"), p.REFUSED_CREDENTIALS)
        self.assertEqual(await self.code("x" * 22), p.REFUSED_CREDENTIALS)
        await self.bed.registry.update_device(OTHER, {"disabled": True})
        self.assertEqual(await self.code(OTHER), p.REFUSED_RIGHTS)

    async def test_a_device_of_another_protocol(self) -> None:
        await self.bed.registry.add_device({"protocol": "plain", "id": "y" * 22, "secret": PASSCODE})
        self.assertEqual(await self.code("y" * 22), p.REFUSED_CREDENTIALS)

    def test_claims(self) -> None:
        side = DeviceIdentities(self.bed.side)
        for client_id, user, claimed in (
            (DID, DID, True),
            ("x", DID, False),
            (DID, "app", False),
            (DID, None, False),
            ("2$app$uid", "2$app$uid", False),
            (DID[:21], DID[:21], False),
            (DID[:21] + "-", DID[:21] + "-", False),
        ):
            self.assertEqual(side.claims(client_id, user), claimed, (client_id, user))

    async def test_interfaces(self) -> None:
        await self.bed.device()
        verifyObject(IMqttIdentities, DeviceIdentities(self.bed.side))
        link = self.bed.side.link(DID)
        verifyObject(IMqttPrincipal, link)
        verifyObject(IDeviceLink, link)

    async def test_takeover(self) -> None:
        first = await self.bed.device()
        second = await self.bed.device()
        self.assertEqual((first.closed, second.closed), ("takeover", None))
        first.lose()
        self.bed.pass_time(10)
        self.assertEqual(self.bed.heard.presences, [(DID, True, "connected")])
        second.lose()
        self.assertEqual(self.bed.heard.presences[1:], [(DID, False, "connection_lost")])

    async def test_a_takeover_that_fails(self) -> None:
        first = await self.bed.device()
        link = self.bed.side.link(DID)
        assert link is not None
        link.gone("takeover")
        self.assertEqual(self.bed.heard.presences, [(DID, True, "connected")])
        self.bed.pass_time(5)
        self.assertEqual(self.bed.heard.presences[1:], [(DID, False, "takeover")])
        first.lose()
        self.assertEqual(len(self.bed.heard.presences), 2)

    async def test_the_registry_ends_it(self) -> None:
        clients = [await self.bed.device(did) for did in (DID, OTHER)]
        await self.bed.registry.update_device(DID, {"name": "nothing that matters"})
        self.assertEqual([client.closed for client in clients], [None, None])
        await self.bed.registry.update_device(DID, {"secret": "NEWPASSCOD"})
        await self.bed.registry.update_device(OTHER, {"disabled": True})
        self.assertEqual([client.closed for client in clients], ["removed", "removed"])
        self.assertEqual(self.bed.heard.presences[-1], (OTHER, False, "removed"))

    async def test_a_thousand_guesses(self) -> None:
        """From one address: answered ever later, counted, and the device that is there is not disturbed."""
        device = await self.bed.device()
        reader = await self.reader(f"dev2app/{DID}")
        stats = self.bed.server.stats
        guessers = []
        for number in range(1000):
            connection: Any = self.bed.server.buildProtocol(None)
            connection.host = "10.0.0.1"
            guesser = Client(self.bed, connection, p.MQTT_3_1)
            guesser.send(p.Connect(DID, p.MQTT_3_1, user=DID, password=b"%010d" % number))
            guessers.append(guesser)
            if number % 250 == 249:
                await self.bed.settle()
        answered = sum(bool(guesser.transport.value()) for guesser in guessers)
        self.assertEqual((answered, stats.logins_failed), (10, 1000))
        self.bed.say(device, f"dev2app/{DID}", g.Report(b"here"))
        self.assertEqual(len(publishes(reader.got())), 1)
        self.bed.pass_time(15)
        self.assertEqual({guesser.transport.value() for guesser in guessers}, {b"\x20\x02\0\4"})
        self.bed.pass_time(5)
        self.assertEqual({guesser.closed for guesser in guessers}, {"auth_failed"})
        for guesser in guessers:
            guesser.lose()
        self.assertEqual(stats.closed, {"auth_failed": 1000})
        self.assertIsNone(device.closed)


class WhatItMayDo(Case):
    async def test_subscribe(self) -> None:
        client = await self.bed.device()
        refused = [
            f"ser2cli_noti/{'0' * 32}",
            "ser2cli_noti/+",
            f"ser2cli_res/{OTHER}",
            "ser2cli_res/#",
            f"ser2cli_res/{DID}/#",
            f"app2dev/{DID}",
            f"app2dev/{DID}/usr",
            f"app2dev/{OTHER}/#",
            "app2dev/+/#",
            f"app2module/{DID}/#",
            f"dev2app/{DID}",
            "devices/#",
            "#",
            "$SYS/#",
        ]
        granted = f"ser2cli_noti/{PRODUCT.upper()}"
        (answer,) = client.ask(p.Subscribe(9, [(one, 0) for one in [*refused, granted]]))
        self.assertEqual(answer, p.SubAck(9, b"\x80" * len(refused) + b"\0"))

    async def test_publish(self) -> None:
        reader = await self.reader("#")
        client = await self.bed.device()
        frame = g.encode(g.Report(b"x"))
        for topic in (
            f"dev2app/{OTHER}",
            f"dev2app/{OTHER}/usr1",
            f"dev2app/{DID}/",
            f"dev2app/{DID}/usr1/x",
            f"app2dev/{DID}/usr1",
            f"app2dev/{OTHER}/usr1",
            f"ser2cli_res/{OTHER}",
            f"devices/{DID}/up/data",
            "ser2cli_req/x",
            "free",
        ):
            self.bed.say(client, topic, frame)
        self.assertEqual(self.bed.server.stats.dropped, {"not_allowed": 10})
        self.assertEqual((publishes(reader.got()), self.bed.heard.uplinks), ([], []))
        self.assertIsNone(client.closed)

    async def test_pings(self) -> None:
        client = await self.bed.device()
        for _ in range(60):
            self.bed.pass_time(2.9)
            self.assertEqual(client.ask(p.PingReq()), [p.PingResp()])
        self.bed.pass_time(2.9)
        self.assertEqual(client.ask(p.PingReq()), [])
        self.assertEqual(client.closed, "flood")

    async def test_pings_as_they_should_be(self) -> None:
        client = await self.bed.device()
        live = self.bed.core.devices.get(DID)
        assert live is not None
        self.assertEqual(live.last_heartbeat, 0.0)
        for _ in range(200):
            self.bed.pass_time(3.0)
            self.assertEqual(client.ask(p.PingReq()), [p.PingResp()])
        self.assertEqual(live.last_heartbeat, live.last_seen)
        self.assertGreater(live.last_heartbeat, live.since)

    async def test_the_keep_alive_is_capped(self) -> None:
        client = await self.bed.device(keep_alive=5000)
        self.bed.clock.advance(899)
        self.bed.server.tick()
        self.assertIsNone(client.closed)
        self.bed.clock.advance(2)
        self.bed.server.tick()
        self.assertEqual(client.closed, "idle")
        self.assertEqual(self.bed.heard.presences[-1], (DID, False, "idle"))

    async def test_downlinks_come_one_by_one(self) -> None:
        """In MQTT 3.1; others get them joined."""
        for version, count in ((p.MQTT_3_1, 1), (p.MQTT_3_1_1, 2)):
            client = await self.bed.device(version=version)
            self.bed.pass_time(1)
            for _ in range(2):
                self.bed.side.send(DID, "usr1", g.encode(g.Control(b"x")))
            self.bed.flush()
            self.assertEqual(len(client.got()), count)
            self.bed.pass_time(0.01)
            self.assertEqual(len(client.got()), 2 - count)

    async def test_the_products_word_counts_about_pace(self) -> None:
        for one_packet, version, together in ((True, p.MQTT_3_1_1, 1), (False, p.MQTT_3_1, 2)):
            await self.bed.side.set_switches(PRODUCT, Switches(one_packet=one_packet))
            client = await self.bed.device(version=version)
            self.bed.pass_time(1)
            for _ in range(2):
                self.bed.side.send(DID, "usr1", g.encode(g.Control(b"x")))
            self.bed.flush()
            self.assertEqual(len(client.got()), together)

    async def test_storage_is_gone(self) -> None:
        await self.bed.storage.close()
        client = self.bed.client(p.Connect(DID, p.MQTT_3_1, user=DID, password=PASSCODE.encode()))
        self.assertEqual(client.got(), [p.ConnAck(p.REFUSED_UNAVAILABLE)])
        self.bed.pass_time(4.9)
        self.assertIsNone(client.closed)
        self.bed.pass_time(0.2)
        self.assertEqual(client.closed, "unavailable")

    async def test_the_qos_is_the_devices(self) -> None:
        client = await self.bed.device()
        self.bed.side.send(DID, "usr1", g.encode(g.Control(b"x")))
        self.bed.flush()
        self.assertEqual(publishes(client.got())[0][2], 0)
        client.ask(p.Subscribe(9, [(f"app2dev/{DID}/#", 1)]))
        self.bed.pass_time(1)
        self.bed.pass_time(1)
        self.bed.side.send(DID, "usr1", g.encode(g.Control(b"x")))
        self.bed.flush()
        self.assertEqual(publishes(client.got())[0][2], 1)


class Deaf(Listening):
    """Wants nothing; to tell it of an uplink is a fault, and those are looked for after every test."""

    def wants(self, device: DeviceRef, kind: str) -> bool:
        return False

    def uplink(self, message: Uplink) -> None:
        raise AssertionError(message)


class WhatItSays(Case):
    async def asyncSetUp(self) -> None:
        self.client = await self.bed.device()
        self.apps = await self.reader(f"dev2app/{DID}", f"dev2app/{DID}/usr1", f"dev2app/{DID}/broker")

    async def setUp(self) -> None:  # type: ignore[override] # trial waits for it
        await super().setUp()
        await self.asyncSetUp()

    def say(self, packet: g.Business | g.System | bytes, app: str = "", qos: int = 0) -> list[tuple[str, bytes, int]]:
        self.bed.say(self.client, f"dev2app/{DID}" + (f"/{app}" if app else ""), packet, qos)
        self.bed.flush()
        return publishes(self.apps.got())

    async def test_a_report(self) -> None:
        frame = bytes.fromhex("00000003 06 00 0091 031122")
        for _ in range(2):
            self.assertEqual(self.say(frame), [(f"dev2app/{DID}", frame, 0)])
        self.assertEqual(self.bed.heard.uplinks, [(DID, "raw", b"\3\x11\x22", None)] * 2)

    async def test_nothing_is_made_for_nobody(self) -> None:
        """The apps get the bytes; the uplink is counted and not made."""
        router = self.bed.core.router
        self.bed.core.router.ignore(self.bed.heard)
        router.listen(Deaf())
        live = self.bed.core.devices.get(DID)
        assert live is not None
        before = router.uplinks
        self.bed.pass_time(7)
        self.assertEqual(len(self.say(g.Report(b"\1"))), 1)
        self.assertEqual((router.uplinks - before, live.last_seen), (1, self.bed.clock.seconds()))

    async def test_every_qos(self) -> None:
        frame = g.encode(g.Report(b"x"))
        for qos, answer in ((1, p.PubAck(1)), (2, p.PubRec(1))):
            self.assertEqual([payload for _, payload, _ in self.say(frame, qos=qos)], [frame])
            self.bed.pass_time(0.01)
            self.assertIn(answer, self.client.got())
        self.assertEqual(len(self.bed.heard.uplinks), 2)

    async def test_a_request(self) -> None:
        frame = bytes.fromhex("00000003 0a 00 0093 0000002a 010101")
        self.assertEqual(self.say(frame), [(f"dev2app/{DID}", frame, 0)])
        self.assertEqual(self.bed.heard.uplinks, [(DID, "raw", b"\1\1\1", {"sn": 42})])
        self.bed.pass_time(60)
        self.assertEqual(self.client.got(), [])  # never acknowledged by us

    async def test_what_is_for_one_app(self) -> None:
        for packet in (g.Report(b"x"), g.Request(1, b"x"), g.Ack(1), g.LogSet(), g.Other(0x77, b"x")):
            frame = g.encode(packet)
            self.assertEqual(self.say(frame, "usr1"), [(f"dev2app/{DID}/usr1", frame, 0)])
        self.assertEqual(self.bed.heard.uplinks, [])
        self.say(g.Report(b"to us"), "broker")
        self.assertEqual(self.bed.heard.uplinks, [(DID, "raw", b"to us", None)])

    async def test_a_log(self) -> None:
        frame = g.encode(g.Log(2, b"net", b"wifi", "gr\xfc\xdfe\xff".encode("latin-1")))
        self.assertEqual([payload for _, payload, _ in self.say(frame)], [frame])
        told = {"level": "warning", "tag": "net", "source": "wifi", "log": "gr\ufffd\ufffde\ufffd"}
        self.assertEqual(self.bed.heard.uplinks, [(DID, "log", told, None)])
        self.say(g.Log(9, b"", b"", b""))
        self.assertEqual(self.bed.heard.uplinks[1][2]["level"], "9")

    async def test_what_is_malformed(self) -> None:
        good = g.encode(g.Report(b"x"))
        bad = (
            bytes.fromhex("00000004 04 00 0091 02"),
            bytes.fromhex("00000003 05 00 0091 02"),
            bytes.fromhex("00000003 848004 00 0091") + bytes(65537),
            g.encode(g.Log(1, b"t", b"s", b"x"))[:-1],
            bytes.fromhex("00000003 06 00 0012 01 0001"),
        )
        for frame in bad:
            for app in ("", "usr1", "broker"):
                if frame[:4] != b"\0\0\0\3" or app or frame[7] != 0x12:
                    self.assertEqual(self.say(frame, app), [])
                    self.assertEqual(self.say(frame, app), [])
                    self.assertEqual(len(self.say(good)), 1)
        self.assertIsNone(self.client.closed)
        self.assertEqual(self.bed.server.stats.dropped["malformed"] % 2, 0)
        for _ in range(2):
            self.say(bad[0])
        self.assertIsNone(self.client.closed)
        self.bed.say(self.client, "ser2cli_req", b"\0")
        self.assertEqual(self.client.closed, "malformed")
        self.assertEqual(self.bed.heard.presences[-1], (DID, False, "malformed"))

    async def test_nobody_else_is_disturbed(self) -> None:
        other = await self.bed.device(OTHER)
        for _ in range(3):
            self.say(b"garbage")
        self.assertEqual((self.client.closed, other.closed, self.apps.closed), ("malformed", None, None))

    async def test_last_seen(self) -> None:
        live = self.bed.core.devices.get(DID)
        assert live is not None
        for action in (
            lambda: self.say(g.Report()),
            lambda: self.say(g.Report(), "usr1"),
            lambda: self.bed.say(self.client, "cli2ser_req", g.AskApps()),
            lambda: self.client.send(p.PingReq()),
        ):
            self.bed.pass_time(7)
            action()
            self.assertEqual(live.last_seen, self.bed.clock.seconds())


class AppsOnline(Case):
    async def counts(self, client: Client) -> list[bytes]:
        self.bed.flush()
        found = []
        for _ in range(3):
            self.bed.pass_time(0.1)
            found += [(topic, payload) for topic, payload, _ in publishes(client.got())]
        self.assertEqual({topic for topic, _ in found}, {f"ser2cli_res/{DID}"} if found else set())
        return [payload for _, payload in found]

    async def test_the_device_is_told(self) -> None:
        client = await self.bed.device()
        self.assertEqual(await self.counts(client), [])
        self.bed.side.apps_online(DID, 1)
        self.assertEqual(await self.counts(client), [bytes.fromhex("00000003 0210 0001")])
        self.bed.side.apps_online(DID, 1)
        self.bed.side.apps_online(OTHER, 5)
        self.assertEqual(await self.counts(client), [])
        for topic in ("ser2cli_req", "cli2ser_req", "ser2cli_req/"):
            self.bed.say(client, topic, bytes.fromhex("00000003 020f"))
            self.assertEqual(await self.counts(client), [bytes.fromhex("00000003 0210 0001")])
        self.bed.say(client, "cli2ser_req", bytes.fromhex("00000003 0213 0102"))
        self.assertEqual(await self.counts(client), [])
        self.bed.side.apps_online(DID, 70_000)
        self.bed.side.apps_online(DID, 0)
        self.assertEqual(
            await self.counts(client), [bytes.fromhex("00000003 0210 ffff"), bytes.fromhex("00000003 0210 0000")]
        )
        self.assertEqual(self.bed.server.stats.dropped, {})

    async def test_who_comes_later(self) -> None:
        self.bed.side.apps_online(DID, 2)
        client = await self.bed.device()
        self.assertEqual(
            [one.payload for one in client.received if isinstance(one, p.Publish)] + await self.counts(client),
            [bytes.fromhex("00000003 0210 0002")],
        )

    async def test_a_session_that_was_there_before(self) -> None:
        client = await self.bed.device(version=p.MQTT_3_1_1, clean=False)
        client.lose()
        self.bed.side.apps_online(DID, 2)
        client = await self.bed.device(version=p.MQTT_3_1_1, clean=False, subscribed=False)
        self.bed.pass_time(0)
        self.assertEqual(
            [one.payload for one in client.got() if isinstance(one, p.Publish)],
            [bytes.fromhex("00000003 0210 0002")],
        )
        live = self.bed.core.devices.get(DID)
        assert live is not None
        self.assertTrue(live.ready)


class RuleTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.index = MacIndex()
        self.rules = DeviceRules(self.index)

    def test_ids(self) -> None:
        fields = {"protocol": "gizwits", "product": PRODUCT, "mac": "6e:53:6b:71:61:79"}
        did = self.rules.normal_id(None, fields)
        self.assertEqual(did, derived_did(PRODUCT.upper(), MAC))
        self.assertTrue(is_did(did))
        self.assertEqual(self.rules.normal_id(DID, fields), DID)
        self.assertEqual(self.rules.normal_id(DID, {}), DID)
        self.assertEqual(self.index.candidates(PRODUCT, MAC), (DID, did))
        self.index.forget(DID, MAC)
        self.assertEqual(self.index.candidates(PRODUCT, MAC), (did,))
        self.assertNotEqual(did, derived_did(PRODUCT, MAC[:-1] + "0"))

    def test_refused(self) -> None:
        whole = {"protocol": "gizwits", "product": PRODUCT, "mac": MAC}
        for id, fields in (
            ("short", whole),
            (DID[:21] + "_", whole),
            (DID, {**whole, "product": None}),
            (DID, {**whole, "mac": "6E536B71617"}),
            (DID, {**whole, "mac": 1}),
            (None, {"protocol": "gizwits", "product": PRODUCT}),
            (None, {"protocol": "gizwits", "mac": MAC}),
            (None, {}),
        ):
            self.assertRaises(Invalid, self.rules.normal_id, id, fields)

    def test_passcodes(self) -> None:
        for good in (PASSCODE, "1", "!" * 32, self.rules.make_secret()):
            self.rules.check_secret(good)
        self.assertEqual(len(self.rules.make_secret()), 10)
        for bad in ("", "a b", "a&b", "a=b", "x" * 33, "\xfc", "\n"):
            self.assertRaises(Invalid, self.rules.check_secret, bad)
