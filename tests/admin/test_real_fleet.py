"""The command line against a real broker with a fleet: campaigns, events, rules and sinks."""

from __future__ import annotations

import json
from pathlib import Path
from queue import Empty
from typing import Any

from twisted.internet.threads import deferToThread

from tests.admin.bed import BrokerCase, Device, Done, call
from tests.admin.test_real_process import Process
from tests.events.receiver import SECRET, Answer, Receiver
from tests.fleet.real import NEW_GATEWAY, FleetCase
from tests.real import eventually


class CampaignTests(FleetCase):
    @property
    def variables(self) -> dict[str, str]:
        return {
            "BROKER_ADMIN_API": f"http://127.0.0.1:{self.broker.ports['http']}",
            "BROKER_ADMIN_TOKEN": self.broker.admin_token,
        }

    async def admin(self, *arguments: str, status: int = 0) -> Done:
        done: Done = await deferToThread(call, self.variables, *arguments)
        self.assertEqual(done.status, status, done)
        self.assertNotIn("Traceback", done.err)
        return done

    async def json(self, *arguments: str, status: int = 0) -> Any:
        return (await self.admin(*arguments, "--json", status=status)).value

    async def test_from_the_dry_run_to_the_last_line(self) -> None:
        image = Path(self.mktemp()).absolute()
        image.write_bytes(bytes(100_000))
        await self.admin("files", "put", str(image), "--name", "relay.bin")
        fleet = await self.gateways_of(["does", "does", "keeps"])
        macs = sorted(one.id for one in fleet)
        aim = ("campaigns", "create", "gateway88", "relay.bin", "--version", NEW_GATEWAY)

        dry = await self.admin(*aim, "--all-devices", "--dry-run")
        self.assertIn("3 devices would be touched, 0 would not", dry.err)
        for mac in macs:
            self.assertIn(mac, dry.out)
        some = await self.admin(*aim, "--device", macs[0], "--device", "nobody", "--dry-run", "--json")
        self.assertEqual([one["touched"] for one in some.values], [True, False])
        self.assertEqual((await self.admin("campaigns", "list", "--json")).out, "")

        pace = ("--concurrency", "1", "--stop-at", "90", "--until", "1d", "--window", "00:00-00:00 Europe/Berlin")
        made = await self.json(*aim, "--all-devices", "--name", "spring", *pace)
        id = made["id"]
        self.assertEqual((made["state"], made["pace"]["concurrency"]), ("draft", 1))
        listed = await self.admin("campaigns", "list")
        self.assertIn("spring", listed.out)
        again = await self.admin("campaigns", "dry-run", id, "--limit", "2")
        self.assertIn("there are more", again.err)
        changed = await self.json("campaigns", "change", id, "--concurrency", "3")
        self.assertEqual((changed["pace"]["concurrency"], changed["pace"]["stop"]["percent"]), (3, 90.0))
        self.assertIn("--yes", (await self.admin("campaigns", "start", id, status=2)).err)
        self.assertIn(f"{id} is running", (await self.admin("campaigns", "start", id, "--yes")).out)
        self.assertEqual((await self.json("campaigns", "pause", id))["state"], "paused")
        self.assertEqual((await self.json("campaigns", "resume", id, "--yes"))["state"], "running")

        self.start(fleet)
        watched = await self.admin("campaigns", "watch", id, "--every", "0.2", "--json", status=1)
        self.assertEqual(watched.values[0]["id"], id)
        counts = watched.values[-1]["counts"]
        self.assertEqual((counts["confirmed"], counts["failed"] + counts["no_answer"]), (2, 1))
        self.assertIn("2 confirmed", (await self.admin("campaigns", "watch", id, status=1)).out)
        lines = (await self.admin("campaigns", "lines", id, "--json")).values
        self.assertEqual([one["device"] for one in lines], macs)
        self.assertEqual(len((await self.admin("campaigns", "lines", id, "--state", "confirmed", "--json")).values), 2)
        story = await self.admin("campaigns", "line", id, macs[0])
        self.assertIn("history", story.out)
        self.assertIn("confirmed", story.out)
        self.assertEqual((await self.json("campaigns", "retry", id))["retried"], 1)
        self.assertEqual((await self.json("campaigns", "cancel", id, "--yes"))["state"], "cancelled")
        await self.admin("campaigns", "show", "nothing", status=1)


class EventTests(BrokerCase):
    settings = {"listeners.lorawan.unknown": '"quarantine"'}

    def test_rules_sinks_and_what_they_deliver(self) -> None:
        receiver = Receiver()
        self.addCleanup(receiver.stop)
        sink = self.admin("sinks", "add", "webhook", "--url", receiver.url, "--name", "ops", "--json")
        id, secret = sink.value["id"], sink.value["secret"]
        self.assertTrue(secret)
        self.assertIn("shown this once", sink.err)
        self.assertNotIn(secret, self.admin("sinks", "show", id).out)
        self.admin("sinks", "change", id, "--secret", SECRET)
        self.assertIn("ops", self.admin("sinks", "list").out)

        rule = self.json(
            *("event-rules", "add", "--kind", "device_offline", "--offline-after", "0.2s", "--debounce", "0"),
            *("--sink", id, "--protocol", "novacloud"),
        )
        self.assertEqual((rule["offline_after"], rule["sinks"]), (0.2, [id]))
        self.assertIn(rule["id"], self.admin("event-rules", "list").out)
        self.assertEqual(self.json("event-rules", "show", rule["id"])["kinds"], ["device_offline"])
        self.assertIn("409", self.admin("sinks", "remove", id, "--yes", status=1).err)

        following = Process(self.variables, "events", "follow", "--json", "--count", "1")
        device_id, device_secret = self.device("comes and goes")
        heard = ""
        while not heard:
            # Nobody says that the stream is open: the device goes until it is heard of.
            Device(self.broker, device_id, device_secret).close()
            eventually(
                lambda: self.items("events", "list", "--kind", "device_offline", "--device", device_id), "it is told"
            )
            try:
                heard = following.line(0.5)
            except Empty:
                continue
        self.assertEqual(json.loads(heard)["device"], device_id)
        self.assertEqual(following.ended(), (0, ""))
        listed = self.admin("events", "list", "--since", "1h")
        self.assertIn("device_offline", listed.out)
        eventually(lambda: self.json("sinks", "show", id)["delivered"] >= 1, "it is delivered")

        changed = self.json("event-rules", "change", rule["id"], "--set", "enabled:=false", "--rate-limit", "10/1h")
        self.assertEqual((changed["enabled"], changed["rate_limit"]), (False, {"events": 10, "seconds": 3_600.0}))
        self.admin("event-rules", "remove", rule["id"], "--yes")
        self.admin("events", "list", "--kind", "nope", status=1)
        self.assertIn("gateway_offline", [one["kind"] for one in self.items("events", "kinds")])
        self.admin("sinks", "remove", id, "--yes")
        self.assertNotIn(id, [one["id"] for one in self.items("sinks", "list")])

    def test_a_sink_that_refuses_and_its_dead_letters(self) -> None:
        receiver = Receiver(lambda request: Answer(410))
        self.addCleanup(receiver.stop)
        to = ("--url", receiver.url, "--secret", SECRET, "--set", 'headers:={"X-Team": "ops"}')
        id = self.json("sinks", "add", "webhook", *to)["id"]
        tried = self.admin("sinks", "test", id, status=1)
        self.assertIn("410", tried.out)
        rule = self.json(
            *("event-rules", "add", "--kind", "device_offline", "--offline-after", "0.2s", "--debounce", "0"),
            *("--sink", id, "--query", "refused"),
        )["id"]
        device_id, secret = self.device("refused")
        Device(self.broker, device_id, secret).close()
        (letter,) = eventually(lambda: self.items("sinks", "dead-letters", id), "it is given up")
        self.assertEqual((letter["event"]["device"], letter["status"]), (device_id, 410))
        self.assertIn("device_offline", self.admin("sinks", "dead-letters", id).out)
        receiver.answer = lambda request: Answer()
        self.assertIn("1 events", self.admin("sinks", "retry", id).out)
        eventually(lambda: self.json("sinks", "show", id)["delivered"] == 1, "it is delivered")
        self.assertEqual(self.items("sinks", "dead-letters", id), [])
        self.assertIn("delivered  yes", self.admin("sinks", "test", id).out)
        self.assertEqual(self.json("sinks", "drop", id, "--yes"), {"count": 0})
        self.assertNotEqual(self.json("sinks", "change", id, "--new-secret", "--yes")["secret"], "")
        self.admin("event-rules", "remove", rule, "--yes")
        self.admin("sinks", "remove", id, "--yes")
        self.admin("sinks", "add", "email", "--to", "ops@example.net", status=1)
