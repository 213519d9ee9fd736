"""Simulated Gizwits devices: what they understand, and their life against the real listeners, in memory."""

from __future__ import annotations

from hashlib import md5
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase, TestCase

from broker.devices.gizwits import codec as g
from broker.devices.gizwits.datapoints import DataPoint, Table
from broker.model.jsontext import encode
from broker.simulate import gizwits_http as http
from broker.simulate.gizwits_http import Crashed, NotUnderstood
from broker.simulate.gizwits_lamp import DATAPOINTS, Lamp, control
from broker.simulate.gizwits_link import AgentLink, Login
from broker.simulate.gizwits_traits import gizwits_identity
from tests.devices.gizwits.bed import DID, MAC, PASSCODE, PRODUCT
from tests.simulate.gizwits_bed import Bed

HOUR = 3600
DAY = 24 * HOUR


def answer(body: bytes, status: str = "200 OK", *headers: bytes) -> bytes:
    return b"\r\n".join([b"HTTP/1.1 " + status.encode(), *headers, b"", body])


class RequestTests(SynchronousTestCase):
    def test_the_bytes_of_a_real_agent(self) -> None:
        """As they were seen on the wire, GAgent 04020006."""
        form = b"Content-Type: application/x-www-form-urlencoded\r\n\r\n"
        host = "api.gizwits.com"
        self.assertEqual(
            http.register_request(host, PRODUCT, MAC, PASSCODE),
            b"POST /dev/devices HTTP/1.1\r\nHost: api.gizwits.com\r\nContent-Length: 81\r\n"
            + form
            + b"passcode=CILECMOIWH&mac=6E536B716179&product_key=6f3074fe43894547a4f1314bd7e3ae0b",
        )
        self.assertEqual(
            http.provision_request(host, DID),
            b"GET /dev/devices/DrfomHVPFi7ALnZrA6NE6R HTTP/1.1\r\nHost: api.gizwits.com\r\n"
            b"Cache-Control: no-cache\r\n" + form,
        )
        self.assertEqual(
            http.check_request(host, DID, PASSCODE, 1, "000LINUX", "04020006"),
            b"POST /dev/ota/v4.1/update_and_check/DrfomHVPFi7ALnZrA6NE6R HTTP/1.1\r\nHost:api.gizwits.com\r\n"
            b"Content-Length:70\r\n" + form + b"passcode=CILECMOIWH&type=1&hard_version=000LINUX&soft_version=04020006",
        )
        self.assertEqual(
            http.disable_request(host, DID, PASSCODE),
            b"DELETE /dev/devices HTTP/1.1\r\nHost: api.gizwits.com\r\nContent-Length: 46\r\n"
            + form
            + b"did=DrfomHVPFi7ALnZrA6NE6R&passcode=CILECMOIWH",
        )
        self.assertEqual(
            http.download_request("http://127.0.0.1:8081/dev/ota/v4.1/download/7072"),
            b"GET /dev/ota/v4.1/download/7072 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/text\r\n\r\n",
        )
        self.assertEqual(
            http.target_request("127.0.0.1", DID, PRODUCT, 1, "00x86-os", "04000001", 1),
            f"GET /dev/ota/target_fid?did={DID}&product_key={PRODUCT}&type=1&hard_version=00x86-os"
            "&soft_version=04000001&current_fid=1 HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            "Content-Type: application/text\r\n\r\n".encode(),
        )


class AnswerTests(SynchronousTestCase):
    """What a GAgent makes of answers that HTTP allows."""

    def test_register(self) -> None:
        self.assertEqual(http.did_of(answer(b"did=" + DID.encode(), "201 Created")), DID)
        self.assertEqual(http.did_of(answer(b"did=" + DID.encode() + b"\r\nmore", "201 Created")), DID)
        for wrong in (
            answer(b"did=" + DID.encode()),
            answer(b'{"did": "' + DID.encode() + b'"}', "201 Created"),
            answer(b"did=short", "201 Created"),
            answer(b"", "201 Created"),
            b"",
        ):
            self.assertRaises(NotUnderstood, http.did_of, wrong)

    def test_provision(self) -> None:
        for good in (
            b"host=m2m.gizwits.com&port=1883&server_ts=1283200300\r\n",
            b"host=m2m.gizwits.com&port=1883&server_ts=1283200300&log_host=127.0.0.1&log_port=8888",
        ):
            self.assertEqual(http.provision_of(answer(good)), http.Provision("m2m.gizwits.com", 1883, 1283200300))
        for deadly in (
            b"host=m2m.gizwits.com&port=1883",
            b"host=m2m.gizwits.com&port=1883&server_ts=1283200300",
        ):
            self.assertRaises((Crashed, NotUnderstood), http.provision_of, answer(deadly))
        self.assertRaises(Crashed, http.provision_of, answer(b"host=m2m.gizwits.com&port=1883&server_ts=1283200300"))
        self.assertRaises(NotUnderstood, http.provision_of, answer(b"host=x&port=1&server_ts=2\r\n", "404 Not Found"))

    def test_firmware(self) -> None:
        update = http.update_of(answer(b"soft_ver=04020007&download_url=http://h/dev/ota/v4.1/download/7\r\n"))
        self.assertEqual((update.version, update.url), ("04020007", "http://h/dev/ota/v4.1/download/7"))
        target = http.target_of(answer(b"target_fid=6&download_url=http://h/dev/ota/download/6&firmware_version=x\r\n"))
        self.assertEqual((target.fid, target.url), (6, "http://h/dev/ota/download/6"))
        for wrong in (
            b"soft_ver=04020007&download_url=http://h/dev/ota/v4.1/download/7",
            b"soft_ver=04020007",
            b'{"error_code": 9500}',
        ):
            self.assertRaises(NotUnderstood, http.update_of, answer(wrong))
        self.assertRaises(
            NotUnderstood, http.target_of, answer(b"target_fid=6&download_url=http://h/dev/ota/download/6\r\n")
        )
        for url in ("https://h/x", "http://h/" + "x" * 255):
            self.assertRaises(NotUnderstood, http.download_request, url)

    def test_download(self) -> None:
        image = b"\x01\x02" * 500
        names = (
            b"Content-Length: 1000",
            b"Firmware-MD5: " + md5(image).hexdigest().encode(),
            b"Soft-Version: 04020007",
            b'Content-Disposition: attachment; filename="agent.bin"',
        )
        found = http.image_of(answer(image, "200 OK", *names))
        self.assertEqual((found.size, found.version, found.name, found.begin), (1000, "04020007", "agent.bin", image))
        self.assertTrue(found.is_whole(image))
        self.assertFalse(found.is_whole(image[:-1] + b"x"))
        for number, name in enumerate(names):
            head, _, rest = name.partition(b": ")
            spelled = head.title().replace(b"Content-Disposition", b"content-disposition") + b": " + rest
            if head == b"Firmware-MD5":
                wrong = (*names[:number], spelled, *names[number + 1 :])
                self.assertRaises(NotUnderstood, http.image_of, answer(image, "200 OK", *wrong))
            self.assertRaises(
                NotUnderstood, http.image_of, answer(image, "200 OK", *names[:number], *names[number + 1 :])
            )
        self.assertRaises(NotUnderstood, http.image_of, answer(b"", "200 OK", *names))


class Owner:
    def __init__(self) -> None:
        self.said: list[Any] = []

    def link_up(self) -> None:
        self.said.append("up")

    def link_refused(self, code: int) -> None:
        self.said.append(("refused", code))

    def message(self, topic: str, payload: bytes) -> None:
        self.said.append((topic, payload))

    def lost_packet(self) -> None:
        self.said.append("lost")


PUBLISH = bytes.fromhex("3008") + b"\0\x04a/bcxx"
OTHER = bytes.fromhex("3008") + b"\0\x04a/bcyy"


class LinkTests(SynchronousTestCase):
    """A GAgent's reading of MQTT."""

    def link(self, strict: bool) -> tuple[AgentLink, Owner, StringTransport]:
        from twisted.internet.task import Clock

        owner, transport = Owner(), StringTransport()
        self.clock = Clock()
        link = AgentLink(self.clock, Login(DID, PRODUCT, PASSCODE, strict=strict), owner)
        link.makeConnection(transport)
        return link, owner, transport

    def test_connect_is_byte_for_byte_that_of_a_real_agent(self) -> None:
        _, _, transport = self.link(True)
        did = DID.encode()
        self.assertEqual(
            transport.value(),
            bytes.fromhex("1048 0006 4d514973 6470 03 c2 0078 0016")
            + did
            + b"\0\x16"
            + did
            + b"\0\x0a"
            + PASSCODE.encode(),
        )

    def test_subscriptions_one_by_one(self) -> None:
        link, owner, transport = self.link(True)
        for data, expected in (
            (b"\x20\x02\0\0", f"ser2cli_noti/{PRODUCT}"),
            (b"\x90\x03\0\x01\0", f"ser2cli_res/{DID}"),
            (b"\x90\x03\0\x02\0", f"app2dev/{DID}/#"),
        ):
            transport.clear()
            link.dataReceived(data)
            self.assertEqual(transport.value()[0], 0x82)
            self.assertIn(expected.encode() + b"\0", transport.value())
        self.assertEqual(owner.said, [])
        transport.clear()
        link.dataReceived(b"\x90\x03\0\x03\0")
        self.assertEqual(owner.said, ["up"])
        self.clock.advance(2)
        self.assertEqual(transport.value(), b"\xc0\0")
        link.dataReceived(b"\xd0\0")
        for _ in range(3):
            self.clock.advance(60)
        self.assertFalse(transport.disconnecting)
        self.clock.advance(60)
        self.assertTrue(transport.disconnecting)

    def test_a_refusal_that_leaves_the_connection_open(self) -> None:
        link, owner, transport = self.link(True)
        connect = transport.value()
        transport.clear()
        link.dataReceived(b"\x20\x02\0\x04")
        self.assertEqual((owner.said, transport.value()), ([("refused", 4)], b""))
        self.clock.advance(6)
        self.assertEqual(transport.value(), connect)

    def test_the_second_of_two_packets_is_lost(self) -> None:
        for strict, expected in ((True, ["lost", ("a/bc", b"xx")]), (False, [("a/bc", b"xx"), ("a/bc", b"yy")])):
            link, owner, _ = self.link(strict)
            link.dataReceived(PUBLISH + OTHER)
            self.assertEqual(owner.said, expected)

    def test_a_packet_of_more_than_1024_bytes_is_lost(self) -> None:
        body = b"\0\x04a/bc" + bytes(1100)
        packet = b"\x30" + bytes((len(body) & 127 | 128, len(body) >> 7)) + body
        for strict, expected in ((True, []), (False, [("a/bc", bytes(1100))])):
            link, owner, _ = self.link(strict)
            link.dataReceived(packet)
            self.assertEqual([one for one in owner.said if one != "lost"], expected)

    def test_what_comes_in_parts(self) -> None:
        link, owner, _ = self.link(False)
        for at in range(len(PUBLISH)):
            link.dataReceived(PUBLISH[at : at + 1])
        self.assertEqual(owner.said, [("a/bc", b"xx")])
        link.dataReceived(b"\x30\xff\xff\xff\xff")
        self.assertTrue(link.transport.disconnecting)  # type: ignore[union-attr]  # a StringTransport


class LampTests(SynchronousTestCase):
    def test_its_data_points_are_what_it_says(self) -> None:
        from random import Random

        table = Table(msgspec_points())
        lamp = Lamp(Random(1))
        self.assertEqual(table.control({"power": True, "brightness": 40}), control(power=True, brightness=40))
        attrs = table.attrs(lamp.hear(control(power=True, brightness=40)))
        assert attrs is not None
        self.assertEqual((attrs["power"], attrs["brightness"]), (True, 40))
        self.assertTrue(20 < attrs["temperature"] < 26)
        self.assertEqual(lamp.hear(b"\x02")[0], 3)
        self.assertEqual(lamp.hear(control(brightness=1))[:3], b"\x04\x01\x01")
        for nothing in (b"", b"\x01", b"\x05abc"):
            self.assertEqual(lamp.hear(nothing), b"")


def msgspec_points() -> list[DataPoint]:
    import msgspec

    return msgspec.json.decode(encode(DATAPOINTS), type=list[DataPoint])


class LifeCase(TestCase):
    timeout = 60

    def setUp(self) -> Any:
        self.bed = Bed(self.mktemp())
        self.addCleanup(self.bed.storage.close)
        return Deferred.fromCoroutine(self.bed.open())

    def tearDown(self) -> None:
        self.assertEqual(self.bed.faults, [])

    def say(self, did: str, payload: bytes, app: str = "usrABCDEFGHIJKLMNOPQRST") -> None:
        """As an app."""
        self.bed.gservice.side.devices.send(did, app, payload)


class LifeTests(LifeCase):
    async def test_it_registers_provisions_asks_for_firmware_and_logs_in(self) -> None:
        device = self.bed.agent()
        await self.bed.pass_time(5)
        self.assertTrue(device.online, self.bed.told)
        counts = device.counts
        self.assertEqual((counts.registrations, counts.provisions, counts.checks, counts.logins), (1, 1, 2, 1))
        self.assertEqual(device.server_ts, 1_763_700_000)
        self.assertEqual(self.bed.heard.presences, [(device.did, True, "connected")])
        record = await self.bed.registry.get_device(device.did)
        self.assertEqual((record.product, record.secret), (PRODUCT, device.flash.passcode))
        await self.bed.stop(device)

    async def test_reports_commands_and_acknowledgements(self) -> None:
        device = self.bed.agent(report_every=10)
        await self.bed.pass_time(65)
        raw = [payload for _, kind, payload, _ in self.bed.heard.uplinks if kind == "raw"]
        self.assertEqual(len(raw), device.counts.reports)
        self.assertIn(len(raw), (5, 6))
        self.assertEqual({payload[:3] for payload in raw}, {b"\x04\0\0"})
        self.say(device.did, g.encode(g.Control(control(power=True))))
        self.say(device.did, g.encode(g.Request(42, control(brightness=7))))
        await self.bed.pass_time(1)
        self.assertEqual(device.counts.commands, 2)
        self.assertEqual((device.lamp.power, device.lamp.brightness, device.counts.lost_packets), (True, 7, 0))
        self.assertEqual(self.bed.heard.uplinks[-1][2][:3], b"\x04\x01\x00")
        await self.bed.stop(device)

    async def test_a_factory_reset(self) -> None:
        """The late DELETE, with the passcode from before, takes nothing away."""
        device = self.bed.agent()
        await self.bed.pass_time(5)
        did, passcode = device.did, device.flash.passcode
        for number in (1, 2, 3):
            device.reset()
            await self.bed.pass_time(10)
            self.assertTrue(device.online, self.bed.told)
            self.assertEqual(device.counts.registrations, 1 + number)
            self.assertEqual(device.did, did)
            self.assertNotEqual(device.flash.passcode, passcode)
            self.assertIsNone(device.flash.old)
        self.assertFalse((await self.bed.registry.get_device(did)).disabled)
        self.assertEqual(device.counts.failures, 0)
        await self.bed.stop(device)

    async def test_back_off(self) -> None:
        """0, 10, 20 ... s, then it asks anew where to connect."""
        device = self.bed.agent()
        await self.bed.pass_time(5)
        self.bed.mqtt.open = False
        self.bed.mqtt.tries.clear()
        started = self.bed.clock.seconds()
        device.disconnect()
        await self.bed.pass_time(560)
        waits = [round(at - started) for at in self.bed.mqtt.tries]
        self.assertEqual(waits[:10], [0, 10, 30, 60, 100, 150, 210, 280, 360, 450])
        self.assertEqual(device.counts.provisions, 2)
        self.bed.mqtt.open = True
        await self.bed.pass_time(120)
        self.assertTrue(device.online)
        await self.bed.stop(device)

    async def test_a_wrong_passcode_is_no_storm(self) -> None:
        device = self.bed.agent()
        await self.bed.pass_time(5)
        await self.bed.registry.update_device(device.did, {"secret": "ANOTHERONE"})
        await self.bed.pass_time(1)
        tries = len(self.bed.mqtt.tries)
        await self.bed.pass_time(60)
        self.assertGreater(device.counts.refused, 2)
        self.assertLess(len(self.bed.mqtt.tries) - tries, 15)
        await self.bed.stop(device)

    async def test_it_registers_for_as_long_as_it_takes(self) -> None:
        self.bed.http.open = False
        device = self.bed.agent()
        await self.bed.pass_time(60)
        self.assertEqual([round(at - 1_763_700_000) for at in self.bed.http.tries], [0, 6, 22, 48])
        self.bed.http.open = True
        await self.bed.pass_time(60)
        self.assertTrue(device.online)
        await self.bed.stop(device)

    async def test_log_switches(self) -> None:
        device = self.bed.agent()
        await self.bed.pass_time(5)
        self.say(device.did, g.encode(g.SetLog(g.INFO_LOGS | g.LEDS)))
        await self.bed.pass_time(1)
        self.assertEqual(device.logs, 12)
        self.assertEqual([kind for _, kind, _, _ in self.bed.heard.uplinks], ["log"])
        await self.bed.stop(device)

    async def test_apps_online(self) -> None:
        device = self.bed.agent()
        await self.bed.pass_time(5)
        self.assertIsNone(device.apps)
        self.bed.gservice.side.devices.apps_online(device.did, 2)
        await self.bed.pass_time(1)
        self.assertEqual(device.apps, 2)
        device.apps = None
        for topic in ("cli2ser_req", "ser2cli_req"):
            device.ask_apps(topic)
            await self.bed.pass_time(1)
            self.assertEqual(device.apps, 2)
        await self.bed.stop(device)

    async def test_switched_off(self) -> None:
        device = self.bed.agent(report_every=5)
        await self.bed.pass_time(30)
        await self.bed.stop(device)
        tries = len(self.bed.mqtt.tries), len(self.bed.http.tries)
        await self.bed.pass_time(2 * HOUR)
        self.assertEqual((len(self.bed.mqtt.tries), len(self.bed.http.tries)), tries)

    def test_the_same_seed_gives_the_same_devices(self) -> None:
        one, same, other = (gizwits_identity(PRODUCT, seed, 3) for seed in (1, 1, 2))
        self.assertEqual(one, same)
        self.assertNotEqual(one, other)
        self.assertRegex(one.mac, "^[0-9A-F]{12}$")


class DaysTests(LifeCase):
    async def test_days_of_losses_outages_and_resets(self) -> None:
        """Three days of one agent that reads strictly: a loss every hour or so, outages, a reset a day."""
        device = self.bed.agent(report_every=300)
        await self.bed.pass_time(5)
        did = device.did
        for day in range(3):
            for hour in range(24):
                await self.bed.pass_time(HOUR - 60)
                if hour % 6 == 1:
                    self.bed.mqtt.ends[-1].cut()  # the network
                elif hour % 6 == 3:
                    device.disconnect()
                elif hour == 10:
                    self.bed.mqtt.open = False
                    device.disconnect()
                elif hour == 11:
                    self.bed.mqtt.open = True
                elif hour == 17:
                    self.bed.http.open = False
                elif hour == 18:
                    self.bed.http.open = True
                elif hour == 22:
                    device.reset()
                await self.bed.pass_time(60)
            self.assertTrue(device.online, (day, self.bed.told[-20:]))
        counts = device.counts
        self.assertEqual(device.did, did)
        self.assertEqual((counts.registrations, counts.resets), (4, 3))
        self.assertGreaterEqual(counts.provisions, 3 * 22)
        self.assertGreaterEqual(counts.logins, 3 * 10)
        self.assertEqual((counts.crashes, counts.lost_packets, counts.malformed, counts.refused), (0, 0, 0, 0))
        raw = [payload for _, kind, payload, _ in self.bed.heard.uplinks if kind == "raw"]
        self.assertEqual(len(raw), counts.reports)
        self.assertGreater(len(raw), 3 * 24 * 10)
        self.assertEqual(len(self.bed.server.connections), 1)
        await self.bed.stop(device)
