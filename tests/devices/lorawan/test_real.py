"""The real broker, real sockets, and motes of another make: join, uplink, command, and what kill -9 leaves."""

from __future__ import annotations

import json
import socket
import time
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

import openapi_spec_validator
from pamoja import lorawan as pamoja
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from broker.devices.lorawan.windows import RX2_AFTER_RX1
from tests.devices.lorawan.bed import APP_KEY, APP_S_KEY, GATEWAY, JOIN_EUI, NWK_S_KEY
from tests.real import PATIENCE, RealBroker, eventually

EUI = "AA00000000000001"


class UdpForwarder:
    """A gateway with two sockets and the clock of this machine. It answers each PULL_RESP as the real one does."""

    #: MHz, and the data rate, that it hears motes on.
    frequency = 868.1
    datr = "SF7BW125"

    def __init__(self, port: int, eui: str = GATEWAY) -> None:
        self.eui = bytes.fromhex(eui)
        self.up, self.down = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        for one in (self.up, self.down):
            one.connect(("127.0.0.1", port))
            one.settimeout(PATIENCE)
        self._token = 0

    def close(self) -> None:
        self.up.close()
        self.down.close()

    def _head(self, kind: int) -> bytes:
        self._token += 1
        return b"\x02" + self._token.to_bytes(2, "big") + bytes((kind,)) + self.eui

    @property
    def tmst(self) -> int:
        return int(time.monotonic() * 1e6) % (1 << 32)

    def pull(self) -> None:
        head = self._head(2)
        self.down.send(head)
        assert self.down.recv(100) == head[:3] + b"\x04"

    def hears(self, phy: bytes) -> int:
        """It received a packet; its own time when it did."""
        now = self.tmst
        packet = {
            "tmst": now,
            "freq": self.frequency,
            "stat": 1,
            "modu": "LORA",
            "datr": self.datr,
            "codr": "4/5",
            "rssi": -35,
            "lsnr": 9.0,
            "size": len(phy),
            "data": b64encode(phy).decode(),
        }
        head = self._head(0)
        self.up.send(head + json.dumps({"rxpk": [packet]}).encode())
        assert self.up.recv(100) == head[:3] + b"\x01"
        return now

    def told(self) -> tuple[dict[str, Any], bytes]:
        """The next thing to send: txpk and frame."""
        data = self.down.recv(2000)
        assert data[3] == 3, data
        self.down.send(b"\x02" + data[1:3] + b"\x05" + self.eui)
        packet: dict[str, Any] = json.loads(data[4:])["txpk"]
        return packet, b64decode(packet["data"])


def memory_of(pid: int) -> int:
    """Resident bytes of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


class RealTests(TestCase):
    timeout = 120

    def setUp(self) -> None:
        settings = {"listeners.lorawan.region": "eu868", "listeners.lorawan.unknown": "accept"}
        self.broker = RealBroker(Path(self.mktemp()).resolve(), settings)
        self.broker.folder.mkdir()

    async def blocking(self, work: Any) -> None:
        def run() -> None:
            self.broker.start()
            try:
                work()
            finally:
                self.broker.kill()

        await deferToThread(run)

    def call(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        got, answer = self.broker.call(method, path, body)
        self.assertEqual(got, status, answer)
        return answer

    def messages(self, device: str, kind: str) -> list[Any]:
        items: list[Any] = self.call("GET", f"/devices/{device}/messages?kind={kind}")["items"]
        return items

    async def test_from_join_to_command(self) -> None:
        await self.blocking(self.join_to_command)

    def join_to_command(self) -> None:
        fields = {"protocol": "lorawan", "id": EUI.lower(), "join_eui": JOIN_EUI, "app_key": APP_KEY, "name": "meter"}
        self.assertEqual(self.call("POST", "/devices", fields, 201)["id"], EUI)
        forwarder = UdpForwarder(self.broker.ports["lorawan"])
        self.addCleanup(forwarder.close)
        forwarder.pull()
        self.assertIs(self.call("GET", f"/lorawan/gateways/{GATEWAY}")["online"], True)
        document = self.call("GET", "/openapi.json")
        openapi_spec_validator.validate(document)
        self.assertIn("/api/v1/lorawan/gateways/{eui}", document["paths"])
        device = pamoja.device(bytes.fromhex(EUI), bytes.fromhex(JOIN_EUI), bytes.fromhex(APP_KEY))
        at = forwarder.hears(device.join_request(1))
        packet, accept = forwarder.told()
        self.assertEqual((packet["tmst"] - at) % (1 << 32), 5_000_000)
        session = device.accept_join(accept, 1).session()
        self.assertEqual(eventually(lambda: self.messages(EUI, "event"), "the join")[0]["payload"]["event"], "join")
        forwarder.hears(session.encode_uplink(0, 7, b"\x01\x02"))
        (message,) = eventually(lambda: self.messages(EUI, "raw"), "the uplink")
        self.assertEqual((message["payload_base64"], message["meta"]["port"]), ("AQI=", 7))
        shown = self.call("GET", f"/devices/{EUI}")
        self.assertIs(shown["online"], True)
        self.assertNotIn(APP_KEY, json.dumps(shown))
        order = {"payload_base64": "/w==", "port": 231, "confirm": True, "priority": 64}
        command = self.call("POST", f"/devices/{EUI}/commands", order, 202)["id"]
        at = forwarder.hears(session.encode_uplink(1, 7, b"\x03"))
        packet, frame = forwarder.told()
        self.assertEqual((packet["tmst"] - at) % (1 << 32), 1_000_000)
        self.assertGreater((packet["tmst"] - forwarder.tmst) % (1 << 32), 300_000)
        down = session.decode(frame, 0)
        self.assertEqual((down.fport, down.payload, down.confirmed), (231, b"\xff", True))
        time.sleep(RX2_AFTER_RX1)  # a mote listens to the end before it acknowledges
        forwarder.hears(session.encode_uplink(2, 7, b"\x04", False, False, True))
        eventually(lambda: self.call("GET", f"/commands/{command}")["status"] == "succeeded", "the acknowledgement")

    async def test_a_flood_of_lies(self) -> None:
        await self.blocking(self.flood_of_lies)

    def flood_of_lies(self) -> None:
        """Forgeries, replays, strangers and noise, and the mote next to them is heard as if nothing was."""
        abp = {"dev_addr": "26011BDA", "nwk_s_key": NWK_S_KEY, "app_s_key": APP_S_KEY}
        self.call("POST", "/devices", {"protocol": "lorawan", "id": EUI, **abp}, 201)
        session = pamoja.session(0x26011BDA, bytes.fromhex(NWK_S_KEY), bytes.fromhex(APP_S_KEY))
        forwarder = UdpForwarder(self.broker.ports["lorawan"])
        self.addCleanup(forwarder.close)
        forwarder.pull()
        old = session.encode_uplink(0, 5, b"first")
        forwarder.hears(old)
        eventually(lambda: self.messages(EUI, "raw"), "the first uplink")
        before = memory_of(self.broker.pid)
        thief = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(thief.close)
        thief.bind(("127.0.0.2", 0))
        thief.connect(("127.0.0.1", self.broker.ports["lorawan"]))
        for number in range(10_000):
            stranger = b"\x40" + number.to_bytes(4, "little") + bytes(12)
            forged = old[:6] + (number & 0xFFFF).to_bytes(2, "little") + old[8:-1] + b"!"
            thief.send(b"\x02ab\x02" + bytes.fromhex(GATEWAY))
            thief.send(b"\x02ab\x00" + bytes(8) + b'{"rxpk":[{' + b"[" * 900)
            if number % 10 == 0:
                forwarder.hears(stranger)
                forwarder.hears(forged)
                forwarder.hears(old)
        forwarder.pull()
        forwarder.hears(session.encode_uplink(1, 5, b"second"))
        eventually(lambda: len(self.messages(EUI, "raw")) == 2, "the second uplink")
        self.assertLess(memory_of(self.broker.pid) - before, 64 << 20)
        self.assertEqual([line for line in self.broker.output if "Traceback" in line], [])

    def settled(self, eui: str) -> bool:
        """Nothing is on its way to this mote."""
        items = self.call("GET", f"/devices/{eui}/commands")["items"]
        return all(one["status"] in ("queued", "succeeded") for one in items)

    async def test_kill_with_a_full_queue(self) -> None:
        await self.blocking(self.kill_with_a_full_queue)

    def kill_with_a_full_queue(self) -> None:
        """10 commands for each of 10 motes; killed twice on the way: each arrives once, in order, each counter once."""
        sessions: dict[str, Any] = {}
        for number in range(10):
            eui = f"AA000000000000{number:02X}"
            abp = {"dev_addr": f"260100{number:02X}", "nwk_s_key": NWK_S_KEY, "app_s_key": APP_S_KEY}
            self.call("POST", "/devices", {"protocol": "lorawan", "id": eui, **abp}, 201)
            sessions[eui] = pamoja.session(int(abp["dev_addr"], 16), bytes.fromhex(NWK_S_KEY), bytes.fromhex(APP_S_KEY))
            for payload in range(10):
                order = {"payload_base64": b64encode(bytes((payload,))).decode()}
                self.call("POST", f"/devices/{eui}/commands", order, 202)
        got: dict[str, list[int]] = {eui: [] for eui in sessions}
        counters: dict[str, list[int]] = {eui: [] for eui in sessions}
        for turn in range(10):
            if turn in (3, 6):
                self.broker.kill()
                self.broker.start()
            forwarder = UdpForwarder(self.broker.ports["lorawan"])
            forwarder.pull()
            for session in sessions.values():
                forwarder.hears(session.encode_uplink(turn, 5, b"x"))
                time.sleep(0.08)  # the air is free for one mote at a time
            for _ in sessions:
                frame = forwarder.told()[1]
                eui = f"AA000000000000{frame[1]:02X}"
                fcnt = int.from_bytes(frame[6:8], "little")
                got[eui].append(sessions[eui].decode(frame, fcnt).payload[0])
                counters[eui].append(fcnt)
            eventually(lambda: all(self.settled(eui) for eui in sessions), "what was sent is known to have been")
            forwarder.close()
        self.assertEqual({tuple(payloads) for payloads in got.values()}, {tuple(range(10))})
        for used in counters.values():
            self.assertEqual(len(set(used)), 10)
            self.assertEqual(used, sorted(used))
