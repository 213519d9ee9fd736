"""kill -9: what was registered, bound and handed in is there afterwards, and agents find back by themselves."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.gizwits.stage import PRODUCT, Agent, Device, Stage, business, fresh_mac, fresh_passcode
from tests.simulate.processes import free_ports


class KillTests(SynchronousTestCase):
    def setUp(self) -> None:
        # The same ports afterwards: agents know no others.
        ports = dict(zip(("http", "mqtt", "gservice"), free_ports(3), strict=True))
        binds = {f"listeners.{name}.bind": f'["tcp:{port}:interface=127.0.0.1"]' for name, port in ports.items()}
        self.stage = Stage(binds)
        self.addCleanup(self.stage.broker.stop)

    def test_bindings_users_devices_and_firmware(self) -> None:
        stage = self.stage
        agent = Agent(stage.gservice, fresh_mac(), 40)
        self.addCleanup(agent.end)
        first = agent.until("registered")
        agent.until("online")
        image = bytes(range(250)) * 400
        query = f"product={PRODUCT}&type=wifi&hard_version=000LINUX&soft_version=04020009"
        made = stage.upload(f"/gizwits/firmware?{query}", image)
        user = stage.user()
        user.bind(first["did"], first["passcode"])
        registered = []
        for _ in range(5):
            mac, passcode = fresh_mac(), fresh_passcode()
            did = stage.register(mac, passcode)
            user.bind(did, passcode)
            registered.append((mac, passcode, did))
        mac, _, did = registered[0]
        renewed = fresh_passcode()
        self.assertEqual(stage.register(mac, renewed), did)

        stage.broker.kill()  # the last of it was acknowledged a moment ago
        stage.broker.start()

        agent.until("offline")
        agent.until("online")
        bound = {one["did"] for one in user.call("GET", "/app/bindings?limit=20&skip=0")["devices"]}
        self.assertEqual(bound, {first["did"], *(one[2] for one in registered)})
        for mac, passcode, did in registered[1:]:
            device = Device(stage, did, passcode)
            self.assertEqual(device.code, 0)
            device.close()
            self.assertEqual(stage.register(mac, passcode), did)
        old = Device(stage, registered[0][2], registered[0][1])
        self.assertIn(old.code, (4, 5))
        old.close()
        fresh = Device(stage, registered[0][2], renewed)
        self.assertEqual(fresh.code, 0)
        fresh.close()
        app = user.app(first["did"])
        self.addCleanup(app.close)
        agent.do("report", data="04ff")
        self.assertEqual(app.next(), (f"dev2app/{first['did']}", business(0x0091, b"\x04\xff")))
        stage.api("PATCH", f"/gizwits/firmware/{made['id']}", {"active": True})
        self.assertEqual(agent.until("upgraded")["version"], "04020009")
        agent.until("online")
        for event in ("lost", "segfault", "error"):
            self.assertEqual(agent.count(event), 0, agent.seen)
