"""Apps at one process, their devices at another: real processes, the WebSocket of apps, the bytes of real devices."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import msgspec
from twisted.internet.threads import deferToThread

from broker.devices.gizwits import codec
from tests.applications.gizwits.test_datapoints import LAMP
from tests.applications.gizwits.test_real import Socket
from tests.cluster.test_processes import Nova, ProcessCase
from tests.gizwits.stage import APPLICATION, PRODUCT, Device, Stage, User, fresh_mac, fresh_passcode
from tests.real import RealBroker


class Place(Stage):
    """One process of several."""

    def __init__(self, broker: RealBroker) -> None:
        self.broker = broker


class AppsAcrossProcesses(ProcessCase):
    def test_apps_and_their_devices(self) -> Any:
        return deferToThread(self._everything)

    def _everything(self) -> None:
        a, b = self.start("a"), self.start("b")
        self.here, self.there = Place(a), Place(b)
        self.call(a, "POST", "/products", {"key": PRODUCT, "name": "lamp", "protocol": "gizwits"})
        points = {"datapoints": msgspec.to_builtins(LAMP)}
        self.assertEqual(self.call(a, "PUT", f"/gizwits/products/{PRODUCT}/datapoints", points)[0], 200)
        self.call(a, "POST", "/applications", {"kind": "gizwits", "id": APPLICATION})
        passcode = fresh_passcode()
        did = self.there.register(fresh_mac(), passcode)
        status, session = self.there.open_api("POST", "/app/users", {"phone_id": str(uuid4())})
        self.assertEqual(status, 201, session)
        self.user = User(self.there, session["uid"], session["token"])
        self.app = self.socket(self.here)
        self.bound(did, passcode)
        device = Device(self.there, did, passcode)
        self.assertIs(self.app.heard("s2c_online_status")["online"], True)
        self.assertEqual(device.heard(), (f"ser2cli_res/{did}", codec.encode(codec.Apps(1))))
        self.said(device)
        self.told(device)
        self.counted(device)
        self.another_protocol()
        self.unbound(device)
        for broker in self.brokers:
            self.assertNotIn("Traceback", "\n".join(broker.output))

    def socket(self, place: Place) -> Socket:
        app = Socket(place.gservice, "/ws/app/v1", "none")
        self.addCleanup(app.close)
        who = {"appid": APPLICATION, "uid": self.user.uid, "token": self.user.token}
        app.say("login_req", {**who, "p0_type": "attrs_v4"})
        self.assertEqual(app.heard("login_res"), {"success": True})
        return app

    def bound(self, did: str, passcode: str) -> None:
        """At the other process."""
        self.user.bind(did, passcode)
        self.assertEqual(self.app.heard("s2c_binding_changed"), {"did": did, "bind": True})
        self.assertIs(self.app.heard("s2c_online_status")["online"], False)

    def said(self, device: Device) -> None:
        device.publish(f"dev2app/{device.did}", codec.encode(codec.Report(b"\4\0\7")))
        attrs = {"power": False, "mode": "white", "level": 7}
        self.assertEqual(self.app.heard("s2c_noti"), {"did": device.did, "attrs": attrs})
        frame = codec.encode(codec.Control(b"\x7e"))
        device.publish(f"dev2app/{device.did}", frame)
        self.assertEqual(self.app.heard("s2c_raw"), {"did": device.did, "raw": list(frame)})

    def told(self, device: Device) -> None:
        """A write that it acknowledges, a read that it answers, bytes as they are."""
        did = device.did
        self.app.say("c2s_write", {"did": did, "attrs": {"power": True}, "req_sn": 42})
        topic, payload = device.heard()
        self.assertEqual(codec.decode_business(payload), codec.Request(42, bytes.fromhex("0101010000 00000000")))
        device.publish(topic.replace("app2dev", "dev2app"), codec.encode(codec.Ack(42)))
        self.assertEqual(self.app.heard("s2c_ack"), {"did": did, "req_sn": 42})
        self.app.say("c2s_read", {"did": did})
        topic, payload = device.heard()
        self.assertEqual(codec.decode_business(payload), codec.Control(b"\2"))
        device.publish(topic.replace("app2dev", "dev2app"), codec.encode(codec.Report(b"\3\1\7")))
        self.assertIs(self.app.heard("s2c_noti")["attrs"]["power"], True)
        frame = codec.encode(codec.Control(b"\1\2\3"))
        self.app.say("c2s_raw", {"did": did, "raw": list(frame)})
        self.assertEqual(device.heard(), (topic, frame))

    def counted(self, device: Device) -> None:
        """One more at its own process, one less there."""
        second = self.socket(self.there)
        self.assertEqual(device.heard()[1], codec.encode(codec.Apps(2)))
        second.close()
        self.assertEqual(device.heard()[1], codec.encode(codec.Apps(1)))

    def another_protocol(self) -> None:
        status, station = self.call(self.here.broker, "POST", "/devices", {"protocol": "novacloud"})
        self.assertEqual(status, 201, station)
        did = station["id"]
        self.bound(did, station["secret"])
        nova = Nova(self.there.broker, station)
        self.addCleanup(nova.close)
        self.assertIs(self.app.heard("s2c_online_status")["online"], True)
        nova.say("data", temperature=25.5)
        self.assertEqual(self.app.heard("s2c_noti"), {"did": did, "attrs": {"temperature": 25.5}})
        write = {"did": did, "attrs": {"light": "ON"}}
        self.app.say("c2s_write", {**write, "req_sn": 7})
        command = nova.hear()
        self.assertEqual(command["payload"], {"light": "ON"})
        nova.answer(command)
        self.assertEqual(self.app.heard("s2c_ack"), {"did": did, "req_sn": 7})
        self.app.say("c2s_write", {**write, "req_sn": 8})
        nova.answer(nova.hear(), "error")
        refused = self.app.heard("s2c_invalid_msg")
        self.assertEqual((refused["did"], refused["req_sn"], refused["error_code"]), (did, 8, 9021))

    def unbound(self, device: Device) -> None:
        """At the other process, and at once: what the device says from then on is not this app's."""
        did = device.did
        self.user.call("DELETE", "/app/bindings", {"devices": [{"did": did}]})
        self.assertEqual(self.app.heard("s2c_binding_changed"), {"did": did, "bind": False})
        self.assertEqual(device.heard()[1], codec.encode(codec.Apps(0)))
        device.publish(f"dev2app/{did}", codec.encode(codec.Report(b"\4\0\1")))
        device.ping()
        self.app.say("c2s_read", {"did": did})
        refused = self.app.next(lambda message: True)
        self.assertEqual((refused["cmd"], refused["data"]["error_code"]), ("s2c_invalid_msg", 9017))
        device.close()
