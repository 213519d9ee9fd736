"""Devices of other protocols as apps see them: reports on ``dev2app/<id>``, commands on ``app2dev/<id>/<app>``."""

from __future__ import annotations

from typing import Any

from broker.applications.gizwits.business import content_of
from broker.devices.gizwits import codec
from broker.model.errors import Unavailable
from broker.model.messages import DATA, FAILED, PENDING, RAW, SUCCEEDED, Reply, Uplink
from broker.mqtt import packets as p
from tests.applications.gizwits.bed import APP, AppBed, Device
from tests.applications.gizwits.test_mqtt import AppCase
from tests.applications.mqtt.bed import Link
from tests.mqtt.fakes import Client, publishes

TOPIC = "app2dev/plain-1/usr1"


class OtherCase(AppCase):
    async def stage(self, *filters: str) -> tuple[Client, Link, Any]:
        """An app that has bound the device, and the device."""
        client = await self.bed.app(await self.bed.user("ann", "plain-1"), "usr1")
        if filters:
            client.subscribe(*filters)
        live, link = self.bed.device("plain-1")
        return client, link, live

    async def say(self, client: Client, *frames: bytes) -> None:
        client.send(*[p.Publish(TOPIC, frame) for frame in frames])
        await self.bed.settle()


class ReportTests(OtherCase):
    async def test_an_uplink_becomes_a_report(self) -> None:
        client, _, live = await self.stage("dev2app/plain-1")
        self.bed.core.router.uplink(Uplink(live.ref, DATA, {"t": 25.5}, 1.0))
        self.bed.core.router.uplink(Uplink(live.ref, RAW, b"\1\2", 1.0))
        self.bed.flush()
        frames = [payload for _, payload, _ in publishes(client.got())]
        self.assertEqual(
            [codec.decode_business(frame) for frame in frames], [codec.Report(b'{"t":25.5}'), codec.Report(b"\1\2")]
        )

    async def test_nothing_is_made_when_nobody_listens(self) -> None:
        _, _, live = await self.stage()
        message = Uplink(live.ref, DATA, {"t": 25.5}, 1.0)
        self.bed.core.router.uplink(message)
        self.assertIsNone(message._bytes)

    async def test_it_is_made_once_for_all(self) -> None:
        first, _, live = await self.stage("dev2app/plain-1")
        second = await self.bed.app(await self.bed.user("bob", "plain-1"), "usr2")
        second.subscribe("dev2app/plain-1")
        made: list[bytes] = []
        frame = codec.frame

        def counted(command: int, rest: bytes) -> bytes:
            made.append(rest)
            return frame(command, rest)

        self.patch(codec, "frame", counted)
        self.bed.core.router.uplink(Uplink(live.ref, DATA, {"t": 25.5}, 1.0))
        self.bed.flush()
        self.assertEqual((len(made), len(first.got()), len(second.got())), (1, 1, 1))

    async def test_a_device_that_is_not_bound(self) -> None:
        client = await self.bed.app(await self.bed.user("eve"), "usr1")
        client.subscribe("dev2app/plain-1")
        live, link = self.bed.device("plain-1")
        self.bed.core.router.uplink(Uplink(live.ref, DATA, {"t": 25.5}, 1.0))
        await self.say(client, codec.encode(codec.Control(b"{}")))
        self.assertEqual((client.got(), link.sent), ([], []))

    async def test_more_than_a_message_can_hold(self) -> None:
        client, _, live = await self.stage("dev2app/plain-1")
        self.bed.core.router.uplink(Uplink(live.ref, RAW, bytes(codec.MAX_DATA + 1), 1.0))
        self.bed.core.router.uplink(Uplink(live.ref, RAW, bytes(codec.MAX_DATA), 1.0))
        self.bed.flush()
        self.assertEqual(len(client.got()), 1)

    async def test_a_gizwits_device_speaks_for_itself(self) -> None:
        client = await self.bed.app(await self.bed.user("ann", "d1"), "usr1")
        client.subscribe("dev2app/d1")
        device = Device(self.bed, "d1")
        self.bed.core.router.uplink(Uplink(device.live.ref, RAW, b"\1", 1.0))
        self.bed.flush()
        self.assertEqual(client.got(), [])


class CommandTests(OtherCase):
    async def test_json_and_bytes(self) -> None:
        client, link, _ = await self.stage()
        await self.say(
            client,
            codec.encode(codec.Control(b'{"led":"ON"}')),
            codec.encode(codec.Control(b"\1\2")),
            codec.frame(0x90, b"[1]"),
        )
        self.assertEqual([one.payload for one in link.sent], [{"led": "ON"}, b"\1\2", b"[1]"])
        self.assertEqual({one.origin for one in link.sent}, {link.sent[0].origin})
        self.assertIn(APP, link.sent[0].origin)

    def test_what_is_an_object(self) -> None:
        for data, content in (
            (b'{"a":1}', {"a": 1}),
            (b"{}", {}),
            (b"{", b"{"),
            (b"[1]", b"[1]"),
            (b"1", b"1"),
            (b"", b""),
            (b"\xff\xfe", b"\xff\xfe"),
            (b"{" * 5000, b"{" * 5000),
            (b'{"a":' * 200 + b"1" + b"}" * 200, b'{"a":' * 200 + b"1" + b"}" * 200),
        ):
            self.assertEqual(content_of(data), content)

    async def test_a_request_is_acknowledged_when_it_is_done(self) -> None:
        client, link, _ = await self.stage("dev2app/plain-1", "dev2app/plain-1/usr1")
        await self.say(client, codec.encode(codec.Request(42, b'{"led":"ON"}')))
        (command,) = link.sent
        commands = self.bed.core.commands
        commands.reply("plain-1", Reply(command.id, PENDING, None, 1.0))
        self.bed.flush()
        self.assertEqual(client.got(), [])
        commands.reply("plain-1", Reply(command.id, SUCCEEDED, {"led": "ON"}, 2.0))
        self.bed.flush()
        ((topic, frame, _),) = publishes(client.got())
        self.assertEqual(
            (topic, codec.decode_business(frame)), ("dev2app/plain-1/usr1", codec.Ack(42, b'{"led":"ON"}'))
        )

    async def test_only_what_succeeded_is_acknowledged_and_only_a_request(self) -> None:
        client, link, _ = await self.stage("dev2app/plain-1", "dev2app/plain-1/usr1")
        await self.say(client, codec.encode(codec.Request(1, b"{}")), codec.encode(codec.Control(b"{}")))
        failing, plain = link.sent
        self.bed.core.commands.reply("plain-1", Reply(failing.id, FAILED, None, 1.0))
        self.bed.core.commands.reply("plain-1", Reply(plain.id, SUCCEEDED, {"ok": True}, 1.0))
        self.bed.flush()
        self.assertEqual(client.got(), [])

    async def test_the_acknowledgement_is_for_that_app_alone(self) -> None:
        client, link, _ = await self.stage("dev2app/plain-1", "dev2app/plain-1/usr1")
        other = await self.bed.app(await self.bed.user("bob", "plain-1"), "usr2")
        other.subscribe("dev2app/plain-1", "dev2app/plain-1/usr2")
        await self.say(client, codec.encode(codec.Request(0xFFFFFFFF, b"{}")))
        self.bed.core.commands.reply("plain-1", Reply(link.sent[0].id, SUCCEEDED, {}, 1.0))
        self.bed.flush()
        ((_, frame, _),) = publishes(client.got())
        self.assertEqual((codec.decode_business(frame), other.got()), (codec.Ack(0xFFFFFFFF), []))

    async def test_what_such_a_device_cannot_be_told(self) -> None:
        client, link, _ = await self.stage()
        await self.say(
            client,
            codec.encode(codec.Ack(1)),
            codec.encode(codec.SetLog(15)),
            codec.encode(codec.Other(0x4242)),
            codec.encode(codec.Report(b"{}")),
        )
        self.assertEqual((link.sent, client.closed), ([], None))

    async def test_a_device_that_is_away_gets_it_when_it_is_back(self) -> None:
        client = await self.bed.app(await self.bed.user("ann", "plain-1"), "usr1")
        await self.say(client, codec.encode(codec.Control(b'{"led":"ON"}')))
        _, link = self.bed.device("plain-1")
        self.assertEqual([one.payload for one in link.sent], [{"led": "ON"}])

    async def test_a_gizwits_device_that_is_away_does_not(self) -> None:
        client = await self.bed.app(await self.bed.user("ann", "d1"), "usr1")
        client.send(p.Publish("app2dev/d1/usr1", codec.encode(codec.Control(b"\1"))))
        await self.bed.settle()
        self.assertEqual((self.bed.core.commands.open, client.closed), (0, None))

    async def test_what_storage_does_not_keep_is_not_acknowledged(self) -> None:
        bed = AppBed(self.mktemp(), journal=FullJournal())
        self.addCleanup(bed.storage.close)
        await bed.open("plain-1")
        client = await bed.app(await bed.user("ann", "plain-1"), "usr1")
        client.send(p.Publish(TOPIC, codec.encode(codec.Control(b"{}")), 1, packet_id=1))
        await bed.settle()
        self.assertEqual((client.got(), client.closed), ([], "unavailable"))


class FullJournal:
    """Takes no command."""

    def add_command(self, command: Any, done: Any) -> None:
        done(Unavailable("the disk is full"))

    def save_command(self, command: Any, done: Any) -> None:
        raise AssertionError("there is none")

    def find_command(self, command_id: str, done: Any) -> None:
        done(None)
