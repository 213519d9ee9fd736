"""Real sockets: BROADCAST one by one and over a group, what both cost in the air, and kill -9 in between."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import openapi_spec_validator
from pamoja import lorawan as pamoja
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from broker.devices.lorawan.airtime import airtime
from broker.devices.lorawan.regions import REGIONS
from tests.applications.loracenter.bed import CS_EUI
from tests.applications.loracenter.socket_customer import SocketCustomer, add_customer
from tests.devices.lorawan.bed import APP_S_KEY, NWK_S_KEY
from tests.devices.lorawan.crowd import KEYS, MC_APP_S_KEY, MC_NWK_S_KEY, Ear
from tests.devices.lorawan.independent import lora_packet
from tests.devices.lorawan.test_real import UdpForwarder
from tests.real import PATIENCE, RealBroker, eventually

#: Its RX2 is a quarter as slow as that of EU868.
REGION = REGIONS["as923"]
GATEWAYS = ["AA555A0000000001", "AA555A0000000002"]
MOTES = [f"CC0000000000000{number}" for number in range(4)]
#: Which gateways hear which mote.
NEAR = [(0,), (0, 1), (1,), (1,)]
TRIES = 3


class Forwarder(UdpForwarder):
    """Takes what it is told in a thread of its own."""

    frequency = 923.2
    #: That of RX2, so it makes no difference whether a mote's first command catches its RX1.
    datr = "SF10BW125"

    def __init__(self, port: int, eui: str) -> None:
        super().__init__(port, eui)
        self.pull()
        #: (start, end, frame) in seconds of its clock.
        self.sent: list[tuple[float, float, bytes]] = []
        self.down.settimeout(0.1)
        self._closed = False
        self._thread = threading.Thread(target=self._take, daemon=True)
        self._thread.start()

    def _take(self) -> None:
        while not self._closed:
            try:
                packet, frame = self.told()
            except OSError:  # nothing in that time, or the broker is dead
                continue
            rate = REGION.downlink_rate_of(packet["datr"])
            assert rate is not None and packet["freq"] == REGION.rx2_frequency / 1e6, packet
            start = packet.get("tmst", self.tmst) / 1e6
            self.sent.append((start, start + airtime(REGION.rate(rate), len(frame)), frame))

    def close(self) -> None:
        self._closed = True
        self._thread.join(PATIENCE)
        super().close()


class RealGroupTests(TestCase):
    timeout = 120

    def setUp(self) -> None:
        folder = Path(self.mktemp()).resolve()
        folder.mkdir()
        settings = {
            "listeners.lorawan.region": "as923",
            "listeners.lorawan.gateway_offline_after": "120",
            "listeners.lorawan.class_c_gap": "0.1",
            "listeners.lorawan.multicast_spacing": "0.3",
            "listeners.loracenter.broadcast_interval": "0",
        }
        self.broker = RealBroker(folder, settings)
        self.forwarders: list[Forwarder] = []

    def blocking(self, work: Callable[[], None]) -> Deferred[None]:
        def run() -> None:
            self.broker.start()
            try:
                work()
            finally:
                for forwarder in self.forwarders:
                    forwarder.close()
                self.broker.kill()

        return deferToThread(run)

    def call(self, method: str, path: str, body: Any = None, status: int = 200, token: str | None = None) -> Any:
        got, answer = self.broker.call(method, path, body, token)
        self.assertEqual(got, status, answer)
        return answer

    def connect(self) -> None:
        for forwarder in self.forwarders:
            forwarder.close()
        self.forwarders = [Forwarder(self.broker.ports["lorawan"], eui) for eui in GATEWAYS]

    def sent(self) -> list[tuple[float, float, bytes]]:
        """All emissions so far, by time: both have the clock of this machine."""
        return sorted(one for forwarder in self.forwarders for one in forwarder.sent)

    def test_broadcasts(self) -> Deferred[None]:
        return self.blocking(self.broadcasts)

    def broadcasts(self) -> None:
        for eui in GATEWAYS:
            self.call("POST", "/lorawan/gateways", {"eui": eui}, 201)
        for number, eui in enumerate(MOTES):
            abp = {"dev_addr": f"2601010{number}", "nwk_s_key": NWK_S_KEY, "app_s_key": APP_S_KEY, "class": "C"}
            self.call("POST", "/devices", {"protocol": "lorawan", "id": eui, **abp}, 201)
        add_customer(self.broker, *MOTES)
        self.connect()
        for number, near in enumerate(NEAR):
            address = 0x26010100 + number
            mote = pamoja.session(address, bytes.fromhex(NWK_S_KEY), bytes.fromhex(APP_S_KEY))
            for gateway in near:
                self.forwarders[gateway].hears(mote.encode_uplink(0, 5, b"here"))
        eventually(lambda: all(self.call("GET", f"/devices/{eui}")["online"] for eui in MOTES), "the motes")
        customer = SocketCustomer(self.broker.ports["loracenter"])
        self.addCleanup(customer.close)
        alone = self.broadcast(customer, len(MOTES) * TRIES)
        group = {"id": "all", "application": "customer", "devices": MOTES, **KEYS}
        self.call("POST", "/lorawan/groups", {**group, "application": "nobody"}, 404)
        self.call("POST", "/lorawan/groups", group, 201)
        together = self.broadcast(customer, len(GATEWAYS) * TRIES)
        # The same bytes to the same motes as often: half the frames, and half the time in the air.
        self.assertEqual((len(alone), len(together)), (12, 6))
        self.assertAlmostEqual(air_time(alone), 2 * air_time(together))
        for before, after in pairwise(together):
            self.assertLess(before[1], after[0])
        told = lora_packet(read=together[0][2], nwk_s_key=MC_NWK_S_KEY, app_s_key=MC_APP_S_KEY)
        self.assertEqual((told["genuine"], told["port"], told["payload"]), (True, 21, b"all".hex()))
        ears = [Ear() for _ in MOTES]
        self.hear(ears)
        for ear, near in zip(ears, NEAR, strict=True):
            self.assertEqual((ear.heard, ear.dropped), ([(21, b"all", 0)], len(near) * TRIES - 1))
        (message,) = self.ended(1)
        self.assertEqual((message["status"], message["turn"], message["missed"]), ("sent", TRIES, []))
        self.assertAlmostEqual(message["air_time"], air_time(together), places=3)
        self.killed(customer, ears)
        self.seen_by_others()

    def broadcast(self, customer: SocketCustomer, emissions: int) -> list[tuple[float, float, bytes]]:
        before = len(self.sent())
        customer.ask("BROADCAST", CsEUI=CS_EUI, payload="YWxs", Port=21, TryCnt=TRIES)
        self.assertEqual(customer.until("BROADCAST")["MSG"], "BROADCAST OK")
        eventually(lambda: len(self.sent()) >= before + emissions, "all of it is in the air")
        return self.sent()[before:]

    def hear(self, ears: list[Ear]) -> None:
        """Each mote hears what the gateways near it have sent to the group."""
        for number, near in enumerate(NEAR):
            for _, _, frame in sorted(one for gateway in near for one in self.forwarders[gateway].sent):
                if frame[1:5] == bytes.fromhex(KEYS["dev_addr"])[::-1]:
                    ears[number].hears(frame)

    def ended(self, count: int) -> list[Any]:
        """The group's messages, the newest first, when so many of them have ended."""

        def look() -> list[Any]:
            items = self.call("GET", "/lorawan/groups/all/messages")["items"]
            return items if len([one for one in items if one["status"] not in ("queued", "sending")]) == count else []

        found: list[Any] = eventually(look, "the end")
        return found

    def killed(self, customer: SocketCustomer, ears: list[Ear]) -> None:
        """kill -9 in the middle: what was begun counts as made, the rest follows under the same counter."""
        before = len(self.sent())
        customer.ask("BROADCAST", CsEUI=CS_EUI, payload="bW9yZQ==", Port=22, TryCnt=TRIES)
        customer.until("BROADCAST")
        eventually(lambda: len(self.sent()) >= before + 3, "half of it is in the air")
        self.broker.kill()
        early = {frame for _, _, frame in self.sent()[before:]}
        by_gateway = [[one[2] for one in forwarder.sent if one[2] in early] for forwarder in self.forwarders]
        self.broker.start()
        self.connect()
        message = self.ended(2)[0]
        for frames, forwarder in zip(by_gateway, self.forwarders, strict=True):
            frames += [frame for _, _, frame in forwarder.sent]
            self.assertTrue(2 <= len(frames) <= TRIES, len(frames))
        everything = [frame for frames in by_gateway for frame in frames]
        self.assertEqual((len(set(everything)), message["fcnt"], message["status"]), (1, 1, "sent"))
        self.hear(ears)
        self.assertEqual({tuple(ear.payloads()) for ear in ears}, {(b"all", b"more")})

    def seen_by_others(self) -> None:
        document = self.call("GET", "/openapi.json")
        openapi_spec_validator.validate(document)
        self.assertIn("/api/v1/lorawan/groups/{id}/messages/{message}", document["paths"])
        made = self.call("POST", "/applications", {"kind": "http"}, 201)
        token = f"{made['id']}:{made['secret']}"
        self.call("PATCH", "/lorawan/groups/all", {"application": None})
        self.call("GET", "/lorawan/groups/all", status=404, token=token)
        for eui in MOTES:
            self.call("PUT", f"/applications/{made['id']}/devices/{eui}", status=204)
        self.assertEqual(self.call("GET", "/lorawan/groups/all", token=token)["members"], len(MOTES))
        self.call("GET", "/lorawan/groups/all/keys", status=403, token=token)
        body = {"payload_base64": "AQ==", "port": 1}
        taken = self.call("POST", "/lorawan/groups/all/messages", body, 202, token)
        path = f"/lorawan/groups/all/messages/{taken['id']}"
        eventually(lambda: self.call("GET", path, token=token)["status"] == "sent", "the message")
        self.call("DELETE", path, status=409, token=token)
        self.call("PUT", "/lorawan/groups/all/devices/CC000000000000FF", status=404)
        self.call("DELETE", f"/devices/{MOTES[0]}", status=204)
        eventually(lambda: self.call("GET", "/lorawan/groups/all")["members"] == len(MOTES) - 1, "it has left")
        self.assertEqual([line for line in self.broker.output if "Traceback" in line], [])
        self.assertFalse([line for line in self.broker.output for key in (MC_NWK_S_KEY, MC_APP_S_KEY) if key in line])


def air_time(emissions: list[tuple[float, float, bytes]]) -> float:
    return sum(end - start for start, end, _ in emissions)
