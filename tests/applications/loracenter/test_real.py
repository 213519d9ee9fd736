"""Real processes and sockets: customer servers, motes, and devices of another protocol across the bridge."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pamoja import lorawan as pamoja
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from broker.simulate.gateway88.behaviour import mac_of, mac_text, registration
from tests.applications.loracenter.bed import CS_EUI, KEY
from tests.applications.loracenter.socket_customer import SocketCustomer, add_customer
from tests.applications.loracenter.test_registration import RIGHT, WRONG
from tests.devices.lorawan.bed import APP_S_KEY, GATEWAY, NWK_S_KEY
from tests.devices.lorawan.test_real import UdpForwarder
from tests.real import LOOPBACK, PATIENCE, RealBroker, eventually

MOTE = "AA00000000000001"
FOREIGN = "FF00000000000001"


class RealTests(TestCase):
    timeout = 120

    def setUp(self) -> None:
        folder = Path(self.mktemp()).resolve()
        folder.mkdir()
        settings = {
            "listeners.lorawan.region": "eu868",
            "listeners.lorawan.unknown": "accept",
            "listeners.loracenter.refused_grace": "0.05",
            "listeners.loracenter.limits.max_failed_logins": "100",
            "listeners.loracenter.limits.lockout_failed_logins": "0",
        }
        self.broker = RealBroker(folder, settings)

    def blocking(self, work: Callable[[], None]) -> Deferred[None]:
        def run() -> None:
            self.broker.start()
            try:
                work()
            finally:
                self.broker.kill()

        return deferToThread(run)

    def customer(self, **named: Any) -> SocketCustomer:
        made = SocketCustomer(self.broker.ports["loracenter"], **named)
        self.addCleanup(made.close)
        return made

    def add_mote(self, eui: str = MOTE, address: str = "26011BDA") -> Any:
        abp = {"dev_addr": address, "nwk_s_key": NWK_S_KEY, "app_s_key": APP_S_KEY}
        self.broker.made("/devices", {"protocol": "lorawan", "id": eui, **abp})
        return pamoja.session(int(address, 16), bytes.fromhex(NWK_S_KEY), bytes.fromhex(APP_S_KEY))

    def forwarder(self) -> UdpForwarder:
        made = UdpForwarder(self.broker.ports["lorawan"])
        self.addCleanup(made.close)
        made.pull()
        return made

    def test_challenges(self) -> Deferred[None]:
        return self.blocking(self.challenges)

    def challenges(self) -> None:
        add_customer(self.broker)
        for vectors, code in ((RIGHT, 1), (WRONG, 0)):
            for eui, nonce, challenge in vectors:
                customer = self.customer(register=False)
                fields = {"CsEUI": eui, "AppNonce": nonce, "Challenge": challenge}
                customer.ask("CSREG", **{name: value for name, value in fields.items() if value is not None})
                self.assertEqual(customer.next()["CODE"], code, fields)
                if not code:
                    self.assertTrue(customer.closed())
                customer.close()

    def test_a_novacloud_device_is_a_mote(self) -> Deferred[None]:
        return self.blocking(self.novacloud)

    def novacloud(self) -> None:
        made = self.broker.made("/devices", {"protocol": "novacloud", "dev_eui": FOREIGN})
        add_customer(self.broker, made["id"])
        customer = self.customer()
        device = socket.create_connection(("127.0.0.1", self.broker.ports["novacloud"]), timeout=PATIENCE)
        self.addCleanup(device.close)
        lines = device.makefile("rwb")
        self.addCleanup(lines.close)

        def say(message: dict[str, Any]) -> None:
            lines.write(json.dumps(message).encode() + b"\n")
            lines.flush()

        say({"type": "auth", "payload": {"device_id": made["id"], "device_key": made["secret"]}})
        self.assertIn(b'"success"', lines.readline())
        say({"type": "data", "payload": {"temperature": 21.5}})
        upload = customer.until("UPLOAD")
        self.assertEqual((upload["DevEUI"], upload["Port"]), (FOREIGN, 1))
        self.assertEqual(json.loads(b64decode(upload["payload"])), {"temperature": 21.5})
        order = b64encode(b'{"power":"on"}').decode()
        token = customer.ask("SENDTO", DevEUI=FOREIGN, payload=order, Port=1)
        self.assertEqual(customer.until("SENDTO")["CODE"], 1)
        command = json.loads(lines.readline())
        self.assertEqual((command["type"], command["payload"]), ("command", {"power": "on"}))
        answer = {"type": "command_response", "command_id": command["command_id"], "status": "success", "payload": {}}
        say(answer)
        done = customer.until("SENDTO")
        self.assertEqual((done["CODE"], done["Token"], done["MSG"]), (2, token, "SENDED TO GW"))
        self.assertNotIn("TXGW", done)
        # What NovaCloud cannot carry fails at once.
        customer.ask("SENDTO", DevEUI=FOREIGN, payload="AQI=", Port=1)
        answers = [customer.until("SENDTO")["MSG"] for _ in range(2)]
        self.assertEqual(answers, ["READY SEND", "SEND FAIL 11"])

    def test_the_example(self) -> Deferred[None]:
        return self.blocking(self.example)

    def example(self) -> None:
        session = self.add_mote()
        add_customer(self.broker, MOTE)
        arguments = ["127.0.0.1", str(self.broker.ports["loracenter"]), CS_EUI, KEY]
        script = Path(__file__).parents[3] / "examples" / "customer_server.py"
        customer = subprocess.Popen([sys.executable, str(script), *arguments], stdout=subprocess.PIPE, text=True)
        try:
            assert customer.stdout is not None
            self.assertIn("CSREG ACCEPT", customer.stdout.readline())
            forwarder = self.forwarder()
            forwarder.hears(session.encode_uplink(0, 5, b"hello"))
            self.assertEqual(session.decode(forwarder.told()[1], 0).payload, b'{"heard":true}')
            told = [customer.stdout.readline() for _ in range(5)]
            self.assertEqual(told[2], f"{MOTE} b'hello'\n")
            self.assertIn("SENDED TO GW", told[4])
        finally:
            customer.kill()
            customer.communicate()

    def test_a_0x88_gateway(self) -> Deferred[None]:
        self.broker.settings["listeners.gateway88.bind"] = LOOPBACK
        return self.blocking(self.gateway88)

    def gateway88(self) -> None:
        """Its presence, its heartbeat, and what is passed through it."""
        mac = mac_text(mac_of(1, 0))
        eui = f"{mac[:6]}FFFE{mac[6:]}"
        self.broker.made("/devices", {**registration(mac_of(1, 0)), "dev_eui": FOREIGN})
        self.broker.made("/devices", registration(mac_of(1, 1)))
        add_customer(self.broker, mac, mac_text(mac_of(1, 1)))
        customer = self.customer()
        port = str(self.broker.ports["gateway88"])
        arguments = ["-m", "broker.simulate", "gateway88", "--plain", "--every", "1", "--count", "2", "--port", port]
        gateways = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
        try:
            states = {customer.until("GWSTATEUPLOAD")["GWEUI"] for _ in range(2)}
            other = mac_text(mac_of(1, 1))
            self.assertEqual(states, {FOREIGN, f"{other[:6]}FFFE{other[6:]}"})
            said: dict[str, Any] = {}
            while "hb" not in said:  # which may come behind what it says of itself
                upload = customer.until("UPLOAD")
                self.assertEqual((upload["DevEUI"], upload["Port"]), (FOREIGN, 1))
                said = json.loads(b64decode(upload["payload"]))
            self.assertIn("totalram", said["hb"])
            for asked in (FOREIGN, eui):
                token = customer.ask("GWCOMSEND", DevEUI=asked, payload="AQI=", BrandRate=9600, ParityCheck=0)
                answer = customer.until("GWCOMSEND")
                self.assertEqual((answer["CODE"], answer["Token"], answer["MSG"]), (1, token, "GWCOMUPLOAD"))
                cmd = {"rs485": {"payload": "AQI=", "baud_rate": 9600, "parity": 0}}
                self.assertEqual(json.loads(b64decode(answer["payload"]))["cmd"], cmd)
        finally:
            gateways.kill()
            gateways.wait()
        self.assertEqual({customer.until("GWSTATEUPLOAD")["STATE"] for _ in range(2)}, {"OFFLIN"})

    def test_kill_with_sendtos_waiting(self) -> Deferred[None]:
        return self.blocking(self.kill)

    def kill(self) -> None:
        session = self.add_mote()
        add_customer(self.broker, MOTE)
        customer = self.customer(service=3)
        tokens = [customer.ask("SENDTO", DevEUI=MOTE, payload="AQ==", Port=21) for _ in range(3)]
        self.assertEqual([customer.until("SENDTO")["Qlen"] for _ in tokens], [1, 2, 3])
        customer.ask("CANCELCMD", DevEUI=MOTE, CancelToken=tokens[1])
        self.assertEqual(customer.next()["MSG"], "Canceled CMD ,OK")
        self.broker.kill()
        self.broker.start()
        customer = self.customer(service=3)
        forwarder = self.forwarder()
        self.assertEqual(customer.until("GWSTATEUPLOAD")["GWEUI"], GATEWAY)
        for turn, token in enumerate((tokens[0], tokens[2])):
            forwarder.hears(session.encode_uplink(turn, 5, b"x"))
            self.assertEqual(customer.next()["CMD"], "UPLOAD")
            forwarder.told()
            answer = customer.next()
            self.assertEqual((answer["CODE"], answer["Token"], answer["TXGW"]), (2, token, GATEWAY))
        customer.ask("QUERYQLEN", DevEUI=MOTE)
        self.assertEqual(customer.next()["Qlen"], 0)

    def test_a_mote_is_a_device_like_any_other(self) -> Deferred[None]:
        return self.blocking(self.every_side)

    def every_side(self) -> None:
        """Commands by HTTP and by SENDTO share a queue; uplinks reach history and customer server."""
        session = self.add_mote()
        add_customer(self.broker, MOTE)
        customer, forwarder = self.customer(), self.forwarder()
        status, answer = self.broker.call("POST", f"/devices/{MOTE}/commands", {"payload_base64": "AA=="})
        self.assertEqual(status, 202)
        customer.ask("SENDTO", DevEUI=MOTE, payload="AQ==", Port=9, PRIOR=64)
        self.assertEqual(customer.until("SENDTO")["Qlen"], 2)
        got = []
        for turn in range(2):
            forwarder.hears(session.encode_uplink(turn, 7, b"up%d" % turn))
            got.append(session.decode(forwarder.told()[1], turn).payload)
        self.assertEqual(got, [b"\x01", b"\x00"])

        def history() -> list[Any]:
            found: list[Any] = self.broker.call("GET", f"/devices/{MOTE}/messages?kind=raw")[1]["items"]
            return found if len(found) == 2 else []

        kept = [b64decode(one["payload_base64"]) for one in eventually(history, "both uplinks")]
        told = [b64decode(customer.until("UPLOAD")["payload"]) for _ in range(2)]
        self.assertEqual((kept[::-1], told), ([b"up0", b"up1"], [b"up0", b"up1"]))
        commands = self.broker.call("GET", f"/devices/{MOTE}/commands")[1]["items"]
        self.assertEqual(sorted(one["ref"] or "" for one in commands), ["", "2"])
        self.assertEqual({one["status"] for one in commands}, {"succeeded"})
        self.assertEqual(answer["id"] in {one["id"] for one in commands}, True)
