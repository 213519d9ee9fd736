"""An independent, strict agent in Node.js against the real broker: its whole life, and that of its apps."""

from __future__ import annotations

from hashlib import md5

from twisted.trial.unittest import SynchronousTestCase

from broker.devices.gizwits.settings import DeviceSettings
from tests.gizwits.stage import PRODUCT, Agent, App, business, fresh_mac, stage
from tests.real import eventually

#: How often a measurement may be repeated on a busy machine.
ATTEMPTS = 8


#: Milliseconds between two packets to an agent.
GAP = DeviceSettings().packet_gap * 1000


class AgentCase(SynchronousTestCase):
    def agent(self, mac: str | None = None) -> Agent:
        agent = stage().agent(mac)
        self.addCleanup(agent.end)
        return agent

    def assertUnderstood(self, agent: Agent) -> None:
        """Nothing came that a real agent does not understand.

        Two packets that it finds in one read count unless it had no processor for as long as packets are kept apart.
        """
        for event in ("lost", "segfault", "error", "failed", "refused"):
            found = [one for one in agent.seen if one["event"] == event and one.get("late", 0) < GAP]
            self.assertEqual(found, [], agent.seen)


class LifeTests(AgentCase):
    def test_from_the_first_power_on_to_the_life_after_a_reset(self) -> None:
        broker = stage().broker
        agent = self.agent()
        registered = agent.until("registered")
        did, passcode = registered["did"], registered["passcode"]
        self.assertEqual(agent.until("provisioned")["port"], broker.ports["mqtt"])
        agent.until("online")
        user = stage().user()
        user.bind(did, passcode)
        app = user.app(did)
        self.addCleanup(app.close)
        agent.until("apps", count=1)

        agent.do("report", data="04aabbcc")
        self.assertEqual(app.next(), (f"dev2app/{did}", business(0x0091, bytes.fromhex("04aabbcc"))))
        app.command(did, business(0x0090, b"\x01\x0b"))
        heard = agent.until("heard", topic=f"app2dev/{did}/{app.client_id}")
        self.assertEqual(heard["payload"], "000000030500009001" + "0b")
        self.assertEqual(app.next(), (f"dev2app/{did}", business(0x0091, b"\x03\x0b")))
        app.command(did, business(0x0093, b"\0\0\0\x2a\x01\x0c"))
        answer = (f"dev2app/{did}/{app.client_id}", business(0x0094, b"\0\0\0\x2a\x03\x0c"))
        self.assertEqual(app.next(), answer)
        app.command(did, business(0x0010, b"\0\x0f"))
        self.assertEqual(app.next(), (f"dev2app/{did}", business(0x0091)))
        for topic in ("cli2ser_req", "ser2cli_req"):
            agent.do("ask", topic=topic)
            agent.until("apps", count=1)

        for kind, name, version, size in ((1, "wifi", "04020007", 70_000), (2, "mcu", "00000002", 10)):
            image = bytes(range(256)) * (size // 256 + 1)
            self.release(name, "000LINUX" if kind == 1 else "00000001", version, image[:size], did)
            self.assertEqual(agent.until("downloaded")["md5"], md5(image[:size]).hexdigest())
            self.assertEqual(agent.until("upgraded")["version"], version)
            agent.until("power on")
            agent.until("online")
        agent.until("apps", count=1)

        agent.do("reset")
        self.assertEqual(agent.until("disabled", did=did)["status"], "200")
        again = agent.until("registered")
        self.assertEqual(again["did"], did)
        self.assertNotEqual(again["passcode"], passcode)
        agent.until("online")
        if agent.count("disabled") == 1:
            agent.until("disabled")  # the late one, with the passcode from before
        self.assertEqual([one["status"] for one in agent.seen if one["event"] == "disabled"], ["200", "200"])
        agent.do("report", data="04")
        eventually(lambda: broker.call("GET", f"/devices/{did}")[1]["online"], "it is online after the reset")
        self.assertFalse(broker.call("GET", f"/devices/{did}")[1].get("disabled", False))
        self.assertEqual(agent.count("offline"), 0)
        self.assertUnderstood(agent)

    def release(self, kind: str, hard: str, version: str, image: bytes, did: str) -> None:
        query = f"product={PRODUCT}&type={kind}&hard_version={hard}&soft_version={version}"
        made = stage().upload(f"/gizwits/firmware?{query}", image)
        change = {"active": True, "rule": {"devices": [did]}}
        self.assertEqual(stage().api("PATCH", f"/gizwits/firmware/{made['id']}", change)["told"], 1)

    def test_losses(self) -> None:
        agent = self.agent()
        agent.until("online")
        for _ in range(20):
            agent.do("drop")
            agent.until("offline")
            agent.until("online")
        self.assertUnderstood(agent)

    def test_many_packets_at_once_reach_a_reader_of_one_packet_a_recv(self) -> None:
        """Two users' apps and the broker itself talk to it in one moment."""
        agent = self.agent()
        registered = agent.until("registered")
        did = registered["did"]
        agent.until("online")
        users = [stage().user() for _ in range(3)]
        apps = []
        for user in users:
            user.bind(did, registered["passcode"])
            app = user.app(did)
            self.addCleanup(app.close)
            apps.append(app)
        agent.until("apps", count=len(apps))
        for _ in range(ATTEMPTS):
            lost = self.burst(agent, did, apps)
            if not lost:
                break
        self.assertEqual(lost, 0)

    def burst(self, agent: Agent, did: str, apps: list[App]) -> int:
        """Ten commands of each app; how many got lost. Those that the agent reads late it finds together."""
        agent.seen.clear()
        for number in range(10):
            for app in apps:
                app.command(did, business(0x0090, bytes((1, number))))
        heard = lost = 0
        while heard + lost < 10 * len(apps):
            event = agent.next()
            heard += event["event"] == "heard"
            if event["event"] == "lost":
                lost += (event["received"] - event["packet"]) // event["packet"]
        return lost

    def test_a_fleet(self) -> None:
        agents = [self.agent(fresh_mac()) for _ in range(5)]
        dids = {agent.until("registered")["did"] for agent in agents}
        self.assertEqual(len(dids), 5)
        for agent in agents:
            agent.until("online")
            agent.do("report", data="0401")
        for did in dids:
            self.assertTrue(stage().api("GET", f"/devices/{did}")["online"])
        for agent in agents:
            self.assertUnderstood(agent)
