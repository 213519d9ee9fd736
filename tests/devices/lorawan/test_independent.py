"""The real broker between peers that are not ours: a forwarder in Node.js, motes of lora-packet and of pamoja."""

from __future__ import annotations

import json
import queue
import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from pamoja import lorawan as pamoja
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from broker.devices.lorawan.windows import RX2_AFTER_RX1
from tests.devices.lorawan.bed import APP_KEY, APP_S_KEY, GATEWAY, JOIN_EUI, NWK_S_KEY, OTHER
from tests.devices.lorawan.independent import HERE, lora_packet
from tests.real import PATIENCE, RealBroker, eventually

FIRST, SECOND = "AA00000000000001", "AA00000000000002"
WRAP = 1 << 32


class NodeForwarder:
    """forwarder.mjs: what it says comes out of `next`."""

    def __init__(self, port: int, eui: str, first_tmst: int, padding: str = "full") -> None:
        node = shutil.which("node")
        assert node is not None, "Node.js is missing: sh tools/environment.sh test"
        arguments = [node, str(HERE / "forwarder.mjs"), str(port), eui, str(first_tmst), padding]
        self._child = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._events: queue.Queue[dict[str, Any]] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            self._events.put(json.loads(line))

    def close(self) -> None:
        self._child.kill()
        self._child.wait()

    def next(self, kind: str) -> Any:
        """What it says next, which has to be of this kind."""
        event = self._events.get(timeout=PATIENCE)
        assert list(event) == [kind], event
        return event[kind]

    def tell(self, **order: Any) -> None:
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps(order) + "\n")
        self._child.stdin.flush()

    def pull(self) -> None:
        self.tell(pull=True)
        assert self.next("ack") == 4

    def hears(self, *frames: bytes, **fields: Any) -> int:
        """Its time when it received them, all in one datagram."""
        self.tell(hears=[frame.hex() for frame in frames], **fields)
        at: int = self.next("heard")
        assert self.next("ack") == 1
        return at

    def quiet(self) -> bool:
        return self._events.empty()


class LoraPacketMote:
    """A mote that lora-packet makes the frames of."""

    def __init__(self, eui: str) -> None:
        self.eui = eui
        self.keys: dict[str, str] = {}
        self.addr = ""
        self.fcnt = 0

    def join_request(self, nonce: str) -> bytes:
        fields = {"MType": "Join Request", "AppEUI": JOIN_EUI, "DevEUI": self.eui, "DevNonce": nonce}
        return bytes.fromhex(lora_packet(write=fields, app_key=APP_KEY)["frame"])

    def accept(self, frame: str, nonce: str) -> dict[str, Any]:
        told = lora_packet(read=frame, app_key=APP_KEY)
        assert told["genuine"], told
        of = {"net_id": told["net_id"], "app_nonce": told["app_nonce"], "dev_nonce": nonce}
        self.keys = lora_packet(session=of, app_key=APP_KEY)
        self.addr = told["dev_addr"]
        return told

    def says(
        self,
        payload: bytes,
        port: int = 9,
        confirmed: bool = False,
        ack: bool = False,
        adr: bool = False,
        fopts: bytes = b"",
    ) -> bytes:
        fields = {
            "MType": "Confirmed Data Up" if confirmed else "Unconfirmed Data Up",
            "DevAddr": self.addr,
            "FCnt": self.fcnt,
            "FPort": port,
            "payload": payload,
            "FCtrl": {"ACK": ack, "ADR": adr},
            "FOpts": fopts,
        }
        self.fcnt += 1
        return bytes.fromhex(lora_packet(write=fields, **self.keys)["frame"])

    def reads(self, frame: str) -> dict[str, Any]:
        told = lora_packet(read=frame, **self.keys)
        assert told["genuine"] and told["dev_addr"] == self.addr, told
        return told


class IndependentTests(TestCase):
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

    def forwarder(self, eui: str, first_tmst: int, padding: str = "full") -> NodeForwarder:
        made = NodeForwarder(self.broker.ports["lorawan"], eui, first_tmst, padding)
        self.addCleanup(made.close)
        made.pull()
        return made

    def call(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        got, answer = self.broker.call(method, path, body)
        self.assertEqual(got, status, answer)
        return answer

    def payloads(self, eui: str) -> list[str]:
        return [item["payload_base64"] for item in self.call("GET", f"/devices/{eui}/messages?kind=raw")["items"]]

    def ended(self, command: str) -> str:
        status: str = self.call("GET", f"/commands/{command}")["status"]
        return status if status not in ("queued", "sent", "pending") else ""

    def order(self, eui: str, **fields: Any) -> str:
        made: str = self.call("POST", f"/devices/{eui}/commands", fields, 202)["id"]
        return made

    def after(self, at: int, seconds: int) -> int:
        return (at + seconds * 1_000_000) % WRAP

    async def test_class_a_over_the_end_of_the_gateways_clock(self) -> None:
        await self.blocking(self.class_a)

    def class_a(self) -> None:
        otaa = {"protocol": "lorawan", "id": FIRST, "join_eui": JOIN_EUI, "app_key": APP_KEY}
        self.call("POST", "/devices", otaa, 201)
        # Its microseconds begin anew between the join-request and the windows.
        near = self.forwarder(GATEWAY, WRAP - 4_000_000)
        far = self.forwarder(OTHER, 77, padding="none")
        mote = LoraPacketMote(FIRST)
        request = mote.join_request("1A2B")
        at = near.hears(request)
        far.hears(request, lsnr=-3.0)
        air = near.next("air")
        self.assertEqual((air["tmst"], air["freq"], air["datr"]), (self.after(at, 5), 868.3, "SF7BW125"))
        self.assertLess(air["tmst"], at)
        self.assertEqual(mote.accept(air["frame"], "1A2B")["rx_delay"], 1)
        said = mote.says(b"one", confirmed=True)
        at = near.hears(said)
        far.hears(said, lsnr=-3.0)
        air = near.next("air")
        self.assertEqual((air["tmst"], mote.reads(air["frame"])["ack"]), (self.after(at, 1), True))
        # It did not hear that, so it says it again, when its second window is over, too, as motes do (an earlier copy
        # would be a gateway's with a slow line); this time the other gateway alone hears it.
        time.sleep(RX2_AFTER_RX1)
        at = far.hears(said)
        air = far.next("air")
        self.assertEqual((air["tmst"], mote.reads(air["frame"])["ack"]), (self.after(at, 1), True))
        eventually(lambda: self.payloads(FIRST) == ["b25l"], "the message, once")
        confirmed = self.order(FIRST, payload_base64="Z28=", port=42, confirm=True)
        for tries in range(2):
            at = near.hears(mote.says(b"two"))
            air = near.next("air")
            down = mote.reads(air["frame"])
            self.assertEqual((air["tmst"], down["fcnt"]), (self.after(at, 1), 2), tries)
            self.assertEqual((down["type"], down["port"], down["payload"]), ("Confirmed Data Down", 42, b"go".hex()))
        time.sleep(RX2_AFTER_RX1)  # a mote listens to the end before it acknowledges
        near.hears(mote.says(b"three", ack=True))
        self.assertEqual(eventually(lambda: self.ended(confirmed), "the acknowledgement"), "succeeded")
        self.assertTrue(near.quiet() and far.quiet())

    async def test_two_at_once_and_class_c(self) -> None:
        await self.blocking(self.two_at_once)

    def two_at_once(self) -> None:
        sessions = {}
        for eui, addr, kind in ((FIRST, 0x26010001, "A"), (SECOND, 0x26010002, "C")):
            abp = {"dev_addr": f"{addr:08X}", "nwk_s_key": NWK_S_KEY, "app_s_key": APP_S_KEY, "class": kind}
            self.call("POST", "/devices", {"protocol": "lorawan", "id": eui, **abp}, 201)
            sessions[addr] = pamoja.session(addr, bytes.fromhex(NWK_S_KEY), bytes.fromhex(APP_S_KEY))
        gateway = self.forwarder(GATEWAY, 5_000_000)
        # Both want their acknowledgement in the same moment: the gateway's queue would refuse one of them.
        at = gateway.hears(*(session.encode_uplink(0, 5, b"x", True) for session in sessions.values()))
        heard = []
        for seconds, frequency, datr in ((1, 868.3, "SF7BW125"), (2, 869.525, "SF12BW125")):
            air = gateway.next("air")
            self.assertEqual((air["tmst"], air["freq"], air["datr"]), (self.after(at, seconds), frequency, datr))
            frame = bytes.fromhex(air["frame"])
            session = sessions[int.from_bytes(frame[1:5], "little")]
            down = session.decode(frame, 0)
            heard.append((session.dev_addr, down.ack))
        self.assertEqual(sorted(heard), [(0x26010001, True), (0x26010002, True)])
        command = self.order(SECOND, payload_base64="AQ==", port=3)
        air = gateway.next("air")
        self.assertEqual((air["freq"], air["datr"], "imme" in air), (869.525, "SF12BW125", False))
        down = sessions[0x26010002].decode(bytes.fromhex(air["frame"]), 1)
        self.assertEqual((down.fport, down.payload), (3, b"\x01"))
        self.assertEqual(eventually(lambda: self.ended(command), "the TX_ACK"), "succeeded")
        gateway.tell(stat={"time": "2026-01-01 00:00:00 GMT", "rxnb": 2, "rxok": 2, "rxfw": 2, "ackr": 100.0})
        self.assertEqual(gateway.next("ack"), 1)
        shown = self.call("GET", f"/lorawan/gateways/{GATEWAY}")
        self.assertEqual((shown["online"], shown["stat"]["rxok"]), (True, 2))
        self.assertTrue(gateway.quiet())

    async def test_mac_commands_through_a_kill(self) -> None:
        self.broker.settings |= {"listeners.lorawan.rx1_delay": "2", "listeners.lorawan.adr_history": "4"}
        await self.blocking(self.mac_commands)

    def mac_commands(self) -> None:
        """A slow mote is made fast, and told another RX1; the broker dies between the questions and the answers."""
        abp = {"dev_addr": "26010001", "nwk_s_key": NWK_S_KEY, "app_s_key": APP_S_KEY}
        self.call("POST", "/devices", {"protocol": "lorawan", "id": FIRST, **abp}, 201)
        mote = LoraPacketMote(FIRST)
        mote.keys, mote.addr = {"nwk_s_key": NWK_S_KEY, "app_s_key": APP_S_KEY}, "26010001"
        gateway = self.forwarder(GATEWAY, 5_000_000)
        slow = {"datr": "SF12BW125", "lsnr": 12.0}
        at = gateway.hears(mote.says(b"one", adr=True), **slow)
        air = gateway.next("air")
        # RXTimingSetupReq 2 and LinkADRReq: data rate 5, TXPower 4, all channels that it has, each frame once.
        self.assertEqual(mote.reads(air["frame"])["fopts"], "0354070061" + "0802")
        # At SF12 both windows are equally slow, and RX2 has more air time.
        self.assertEqual((air["tmst"], air["freq"]), (self.after(at, 2), 869.525))
        self.assertEqual(
            self.call("GET", f"/lorawan/motes/{FIRST}")["mac"]["pending"], ["LinkADRReq", "RXTimingSetupReq"]
        )
        self.broker.kill()
        self.broker.start()
        gateway = self.forwarder(GATEWAY, 5_000_000)
        at = gateway.hears(mote.says(b"two", confirmed=True, adr=True, fopts=bytes.fromhex("030708")), lsnr=4.0)
        air = gateway.next("air")
        down = mote.reads(air["frame"])
        self.assertEqual((air["tmst"], air["datr"]), (self.after(at, 2), "SF7BW125"))
        self.assertEqual((down["ack"], down["fopts"]), (True, ""))
        shown = self.call("GET", f"/lorawan/motes/{FIRST}")["mac"]
        self.assertEqual((shown["data_rate"], shown["power"], shown["rx1_delay"], shown["pending"]), (5, 4, 2, []))
        info = self.call("GET", f"/devices/{FIRST}")["info"]["mac"]
        self.assertEqual(info, {"data_rate": 5, "power": 4, "nb_trans": 1, "pending": []})
        self.assertTrue(gateway.quiet())
