"""Commands to Gizwits devices (DESIGN §5), and their log settings."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from twisted.trial.unittest import TestCase

from broker.applications.ordering import CommandBody, order
from broker.devices.gizwits import codec as g
from broker.devices.gizwits.switches import Switches
from broker.model.errors import NotFound
from broker.model.messages import Command
from broker.mqtt import packets as p
from tests.devices.gizwits.bed import DID, OTHER, PRODUCT, Bed
from tests.mqtt.fakes import Client, publishes


class Case(TestCase):
    async def setUp(self) -> None:  # type: ignore[override] # trial waits for it
        self.bed = await Bed(self.mktemp()).open(DID, OTHER)
        self.addCleanup(self.bed.storage.close)

    def tearDown(self) -> None:
        self.assertEqual(self.bed.faults, [])

    async def order(self, data: bytes | dict[str, Any], did: str = DID, **options: Any) -> Command:
        if isinstance(data, bytes):
            options["payload_base64"] = b64encode(data).decode()
        else:
            options["payload"] = data
        command: Command = await order(self.bed.core, did, CommandBody(**options), "admin")
        await self.bed.settle()
        return command

    def sent(self, client: Client) -> list[tuple[str, g.Business]]:
        found = []
        for _ in range(5):
            self.bed.pass_time(0.01)
            found += [(topic, g.decode_business(payload)) for topic, payload, _ in publishes(client.got())]
        return found


class Sending(Case):
    async def test_without_acknowledgement(self) -> None:
        client = await self.bed.device()
        command = await self.order(b"\1\2")
        self.assertEqual(command.status, "succeeded")
        self.assertEqual(self.sent(client), [(f"app2dev/{DID}/broker", g.Control(b"\1\2"))])
        self.assertEqual([status for status, _ in self.bed.heard.commands], ["queued", "sent", "succeeded"])

    async def test_an_object_is_its_text(self) -> None:
        client = await self.bed.device()
        await self.order({"on": True})
        self.assertEqual(self.sent(client), [(f"app2dev/{DID}/broker", g.Control(b'{"on":true}'))])

    async def test_it_waits_for_its_device(self) -> None:
        command = await self.order(b"\1")
        self.assertEqual(command.status, "queued")
        client = await self.bed.device(subscribed=False)
        self.assertEqual(command.status, "queued")
        client.ask(p.Subscribe(3, [(f"app2dev/{DID}/#", 0)]))
        self.assertEqual(self.sent(client), [(f"app2dev/{DID}/broker", g.Control(b"\1"))])
        self.assertEqual(command.status, "succeeded")

    async def test_it_waits_for_the_successor_of_a_connection(self) -> None:
        """Another process has taken the device's session: for some seconds it counts as there, and hears nothing."""
        first = await self.bed.device()
        first.connection.close("takeover")
        self.bed.flush()
        command = await self.order(b"\1")
        self.assertEqual(command.status, "queued")
        second = await self.bed.device()
        self.assertEqual(self.sent(second), [(f"app2dev/{DID}/broker", g.Control(b"\1"))])
        self.assertEqual(command.status, "succeeded")

    async def test_many_at_once(self) -> None:
        commands = [await self.order(bytes((number,))) for number in range(5)]
        client = await self.bed.device(subscribed=False)
        client.ask(p.Subscribe(3, [(f"app2dev/{DID}/#", 0)]))
        found = self.sent(client) + self.sent(client)
        self.assertEqual([packet for _, packet in found], [g.Control(bytes((number,))) for number in range(5)])
        self.assertEqual({command.status for command in commands}, {"succeeded"})

    async def test_too_long(self) -> None:
        client = await self.bed.device()
        command = await self.order(bytes(65_536))
        self.assertEqual((command.status, self.sent(client)), ("failed", []))
        command = await self.order(bytes(65_535))
        self.assertEqual(command.status, "succeeded")

    async def test_too_long_for_the_product(self) -> None:
        await self.bed.side.set_switches(PRODUCT, Switches(max_packet=1024))
        client = await self.bed.device()
        overhead = len(f"app2dev/{DID}/broker") + 9 + 9  # the packet's head at most, and the frame's
        self.assertEqual((await self.order(bytes(1024 - overhead))).status, "succeeded")
        command = await self.order(bytes(1024 - overhead + 1))
        self.assertEqual((command.status, command.result["error"][:10]), ("failed", "devices of"))
        self.assertEqual(len(self.sent(client)), 1)

    async def test_a_device_that_does_not_read(self) -> None:
        client = await self.bed.device()
        client.jam()
        statuses = [(await self.order(bytes(65_000))).status for _ in range(20)]
        self.assertEqual((statuses[0], statuses[-1]), ("succeeded", "failed"))


class Acknowledged(Case):
    async def setUp(self) -> None:  # type: ignore[override] # trial waits for it
        await super().setUp()
        self.client = await self.bed.device()

    async def request(self, data: bytes = b"\1", **options: Any) -> tuple[Command, g.Request]:
        command = await self.order(data, ack=True, **options)
        ((topic, packet),) = self.sent(self.client)
        assert isinstance(packet, g.Request) and topic == f"app2dev/{DID}/broker"
        self.assertEqual((command.status, packet.data), ("sent", data))
        return command, packet

    async def test_the_answer(self) -> None:
        for topic, data, result in (
            (f"dev2app/{DID}/broker", b"", None),
            (f"dev2app/{DID}", b"\3\x11", {"base64": "AxE="}),
            (f"dev2app/{DID}", b'{"a":1}', {"a": 1}),
        ):
            command, packet = await self.request()
            self.bed.say(self.client, topic, g.Ack(packet.sn, data))
            self.assertEqual((command.status, command.result), ("succeeded", result))
        self.assertEqual((self.bed.side.waiting, self.bed.heard.uplinks), ({}, []))

    async def test_numbers_differ(self) -> None:
        numbers = [(await self.request())[1].sn for _ in range(3)]
        self.assertEqual(len(set(numbers)), 3)

    async def test_answers_of_others(self) -> None:
        command, packet = await self.request()
        other = await self.bed.device(OTHER)
        self.bed.say(other, f"dev2app/{OTHER}", g.Ack(packet.sn))
        self.bed.say(self.client, f"dev2app/{DID}/usr1", g.Ack(packet.sn))
        self.bed.say(self.client, f"dev2app/{DID}", g.Ack(packet.sn + 1))
        self.assertEqual(command.status, "sent")

    async def test_no_answer(self) -> None:
        command, packet = await self.request()
        self.bed.pass_time(9)
        self.assertEqual(command.status, "sent")
        self.bed.pass_time(1.1)
        self.assertEqual(command.status, "timed_out")
        self.bed.say(self.client, f"dev2app/{DID}", g.Ack(packet.sn))
        await self.bed.settle()
        self.assertEqual(command.status, "timed_out")
        kept = await self.bed.storage.get_command(command.id)
        assert kept is not None
        self.assertEqual([late["status"] for late in kept.late], ["succeeded"])

    async def test_its_own_timeout(self) -> None:
        command, _ = await self.request(timeout=2.0)
        self.bed.pass_time(2.1)
        self.assertEqual(command.status, "timed_out")

    async def test_a_lost_connection(self) -> None:
        """It is not sent again; an answer on the next connection counts."""
        command, packet = await self.request()
        self.client.lose()
        client = await self.bed.device()
        self.assertEqual(self.sent(client), [])
        self.bed.say(client, f"dev2app/{DID}/broker", g.Ack(packet.sn))
        self.assertEqual(command.status, "succeeded")

    async def test_a_restart(self) -> None:
        """The command is in the journal, and its number follows from it."""
        command, packet = await self.request()
        self.bed.side.waiting.clear()
        self.bed.say(self.client, f"dev2app/{DID}", g.Ack(packet.sn ^ 1))
        self.assertEqual(command.status, "sent")
        self.bed.say(self.client, f"dev2app/{DID}", g.Ack(packet.sn, b"\3"))
        self.assertEqual((command.status, command.result), ("succeeded", {"base64": "Aw=="}))

    async def test_answers_that_nobody_waits_for_any_more(self) -> None:
        side = self.bed.side
        for sn in range(100_005):
            side.wait_for(DID, sn, "x")
        self.assertEqual(
            (len(side.waiting), (DID, 4) in side.waiting, (DID, 5) in side.waiting), (100_000, False, True)
        )


class LogSetting(Case):
    def shown(self) -> Any:
        live = self.bed.core.devices.get(DID)
        assert live is not None
        return live.info.get("log")

    async def test_sent_and_confirmed(self) -> None:
        client = await self.bed.device()
        self.assertTrue(await self.bed.side.set_log(DID, g.ERROR_LOGS | g.LEDS))
        self.assertEqual(self.sent(client), [(f"app2dev/{DID}/broker", g.SetLog(9))])
        told = {"error": True, "warning": False, "info": False, "leds": True, "bits": 9, "sent": True}
        self.assertEqual(self.shown(), {**told, "confirmed": False})
        self.bed.say(client, f"dev2app/{DID}/broker", g.LogSet())
        self.assertEqual(self.shown(), {**told, "confirmed": True})

    async def test_an_app_sets_it(self) -> None:
        client = await self.bed.device()
        self.bed.side.log_was_set(DID, g.INFO_LOGS)
        self.assertEqual(self.sent(client), [])
        self.bed.say(client, f"dev2app/{DID}/usr1", g.LogSet())
        self.assertEqual((self.shown()["info"], self.shown()["confirmed"]), (True, True))

    async def test_a_device_that_is_away(self) -> None:
        self.assertFalse(await self.bed.side.set_log(DID, g.WARNING_LOGS))
        record = await self.bed.registry.get_device(DID)
        self.assertEqual((record.info["log"]["warning"], record.info["log"]["sent"]), (True, False))
        client = await self.bed.device(subscribed=False)
        client.ask(p.Subscribe(3, [(f"app2dev/{DID}/#", 0)]))
        self.assertEqual(self.sent(client), [(f"app2dev/{DID}/broker", g.SetLog(2))])
        self.assertTrue(self.shown()["sent"])
        client.lose()
        client = await self.bed.device()
        self.assertEqual(self.sent(client), [])

    async def test_nobody(self) -> None:
        await self.assertFailure(self.bed.side.set_log("x" * 22, 1), NotFound)
