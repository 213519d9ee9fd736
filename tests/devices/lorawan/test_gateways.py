"""Gateways: who may speak, from where, presence, the API."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from broker.devices.lorawan.api import GatewayCalls, GatewayChanges, GatewayFilter, NewGateway
from broker.model.errors import Conflict, Invalid, LimitExceeded, NotFound
from broker.web.routes import Call
from tests.devices.lorawan.bed import GATEWAY, OTHER, Bed, Forwarder

STAT = {"time": "2026-11-21 10:00:00 GMT", "rxnb": 9, "rxok": 8, "rxfw": 7, "ackr": 100.0, "dwnb": 2, "txnb": 1}


class AdmissionTests(SynchronousTestCase):
    def test_acknowledged_at_its_own_sockets(self) -> None:
        bed = Bed()
        gateway = Forwarder(bed, GATEWAY, "192.0.2.1", 2)
        gateway.pull()
        gateway.push(stat=STAT)
        self.assertEqual([ack.hex() for ack in gateway.acks], ["02000104", "02000201"])
        info = bed.network.gateway(GATEWAY.lower())
        assert info is not None
        self.assertEqual((info["online"], info["address"], info["registered"]), (True, "192.0.2.1:50001", False))
        self.assertEqual((info["stat"]["rxfw"], info["stat"]["ackr"]), (7, 100.0))
        since = info["online_since"]
        bed.advance(5)
        gateway.push(stat=STAT)
        later = bed.network.gateway(GATEWAY)
        assert later is not None
        # A datagram is no sign of life of the gateway's own; PULL_DATA is.
        self.assertEqual((later["online_since"], later["last_pull"]), (since, since))
        self.assertEqual(round(later["last_seen"] - since), 5)

    def test_version_1(self) -> None:
        bed = Bed()
        gateway = Forwarder(bed, GATEWAY, "192.0.2.1", 1)
        gateway.pull()
        self.assertEqual(gateway.acks[0].hex(), "01000104")

    def test_quarantine(self) -> None:
        bed = Bed(unknown="quarantine")
        gateway = Forwarder(bed, GATEWAY, "192.0.2.1", 2)
        mote = bed.abp()
        for _ in range(3):
            gateway.pull()
        mote.says(b"x", gateway)
        bed.advance(1)
        self.assertEqual((gateway.acks, bed.heard.uplinks, bed.counted.unknown_gateways), ([], [], 4))
        (entry,) = self.successResultOf(bed.core.quarantine.list("lorawan"))
        self.assertEqual((entry.id, entry.peer, entry.count), (GATEWAY, "192.0.2.1", 4))
        answer = self.successResultOf(bed.core.quarantine.approve(GATEWAY, {"name": "roof", "region": "as923"}))
        self.assertEqual((answer["eui"], answer["name"], answer["registered"]), (GATEWAY, "roof", True))
        gateway.pull()
        self.assertEqual(len(gateway.acks), 1)
        self.assertEqual(self.successResultOf(bed.core.quarantine.list("lorawan")), [])

    def test_refused(self) -> None:
        bed = Bed(unknown="refuse")
        gateway = Forwarder(bed, GATEWAY, "192.0.2.1", 2)
        gateway.pull()
        self.assertEqual((gateway.acks, bed.counted.unknown_gateways), ([], 1))
        self.assertEqual(self.successResultOf(bed.core.quarantine.list("lorawan")), [])

    def test_strangers_are_bounded(self) -> None:
        bed = Bed(max_gateways=10)
        for number in range(30):
            Forwarder(bed, f"AA555A00000001{number:02X}", "192.0.2.1", 2).pull()
        self.assertEqual((len(bed.network.gateways), bed.counted.unknown_gateways), (10, 20))

    def test_an_eui_from_another_address(self) -> None:
        bed = Bed()
        real = bed.forwarder()
        thief = Forwarder(bed, GATEWAY, "198.51.100.9", 2)
        mote = bed.abp()
        thief.pull()
        mote.says(b"x", thief)
        bed.advance(1)
        self.assertEqual((thief.acks, bed.counted.wrong_address, bed.heard.uplinks), ([], 2, []))
        bed.command(b"y", mote)
        mote.says(b"x", real)
        bed.advance(1)
        self.assertEqual((len(real.sent()), thief.sent()), (1, []))
        # After silence it may come from elsewhere: gateways move.
        bed.advance(40)
        thief.pull()
        self.assertEqual(len(thief.acks), 1)
        real.pull()
        self.assertEqual(bed.counted.wrong_address, 3)

    def test_presence(self) -> None:
        bed = Bed()
        seen: list[tuple[str, bool]] = []
        bed.network.watch_gateways(lambda eui, online: seen.append((eui, online)))
        gateway = bed.forwarder()
        for _ in range(3):
            bed.advance(20)
            gateway.pull()
        self.assertEqual(seen, [(GATEWAY, True)])
        bed.advance(20)
        gateway.push(stat=STAT)  # does not open the way back
        bed.advance(12)
        self.assertEqual(seen, [(GATEWAY, True), (GATEWAY, False)])
        gateway.pull()
        self.assertEqual(seen[2:], [(GATEWAY, True)])

    def test_a_watcher_that_fails_harms_nobody(self) -> None:
        bed = Bed()

        def fault(eui: str, online: bool) -> None:
            raise ValueError("no")

        bed.network.watch_gateways(fault)
        bed.forwarder()
        self.assertEqual([str(error) for _, error in bed.faults], ["no"])

    def test_nobodys_datagrams(self) -> None:
        bed = Bed()
        for data in (b"", b"\x02", b"GET / HTTP/1.1\r\n\r\n", b"\x02ab\x01" + bytes(8), b"\x07ab\x00" + bytes(8)):
            bed.listener.received(bed.socket, data, ("192.0.2.9", 9))
        self.assertEqual((bed.counted.bad_datagrams, bed.wire.lost), (5, []))

    @given(st.binary(max_size=80), st.sampled_from([0, 2, 5]))
    def test_any_bytes_after_a_head(self, data: bytes, kind: int) -> None:
        bed = Bed()
        gateway = bed.forwarder()
        gateway.send(kind, data)
        bed.clock.advance(1)
        self.assertEqual(bed.faults, [])
        self.assertEqual(self.flushLoggedErrors(), [])


class ApiTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.bed = Bed(unknown="quarantine", max_gateways=3)
        self.calls = GatewayCalls(self.bed.network)

    def call(self, name: str, eui: str = "", body: Any = None, query: Any = None) -> Any:
        unused: Any = SimpleNamespace()
        call = Call(self.bed.core, unused, {"eui": eui}, query, body, None)
        return self.successResultOf(Deferred.fromCoroutine(getattr(self.calls, name)(call)))

    def refused(self, error: type[Exception], name: str, eui: str = "", body: Any = None) -> None:
        unused: Any = SimpleNamespace()
        call = Call(self.bed.core, unused, {"eui": eui}, None, body, None)
        self.failureResultOf(Deferred.fromCoroutine(getattr(self.calls, name)(call)), error)

    def info(self, bed: Bed) -> dict[str, Any]:
        found = bed.network.gateway(GATEWAY)
        assert found is not None
        return found

    def new(self, **fields: Any) -> NewGateway:
        return msgspec.convert(fields, NewGateway)

    def test_there_and_back(self) -> None:
        made = self.call(
            "add_gateway", body=self.new(eui="aa:55:5a:00:00:00:00:01", name="roof", radio={"A": 867500000})
        )
        self.assertEqual((made.eui, made.name, made.online, made.stat), (GATEWAY, "roof", False, None))
        gateway = self.bed.forwarder()
        gateway.push(stat=STAT)
        got = self.call("get_gateway", GATEWAY)
        self.assertEqual((got.online, got.stat.rxfw, got.radio.A, got.radio.B), (True, 7, 867500000, None))
        changed = self.call(
            "change_gateway", GATEWAY, msgspec.convert({"region": "cn470", "radio": None}, GatewayChanges)
        )
        self.assertEqual((changed.name, changed.region, changed.radio), ("roof", "cn470", None))
        self.assertEqual(self.info(self.bed)["family"], "cn470")
        self.call("delete_gateway", GATEWAY)
        self.refused(NotFound, "get_gateway", GATEWAY)
        gateway.acks.clear()
        gateway.pull()
        self.assertEqual(gateway.acks, [])

    def test_air_time_and_antenna(self) -> None:
        made = self.call("add_gateway", body=self.new(eui=GATEWAY, region="eu868", antenna_gain=2.5))
        self.assertEqual(made.antenna_gain, 2.5)
        self.assertEqual(
            {(duty.band, duty.limit, duty.used) for duty in made.duty} >= {("869.4-869.65", 360.0, 0)}, True
        )
        self.assertEqual([family.values for family in self.bed.listener.gauges()], [[], []])
        gateway = self.bed.forwarder()
        mote = self.bed.abp()
        self.bed.command(b"x", mote)
        mote.says(b"x", gateway)
        self.bed.advance(2)
        got = self.call("get_gateway", GATEWAY)
        self.assertEqual(
            [(duty.band, duty.limit, duty.used) for duty in got.duty if duty.used], [("868.0-868.6", 36.0, 0.041216)]
        )
        used, limit = self.bed.listener.gauges()
        self.assertEqual(used.values, [((GATEWAY, "868.0-868.6"), 0.041216)])
        self.assertEqual(limit.values, [((GATEWAY, "868.0-868.6"), 36.0)])
        gone = self.call("change_gateway", GATEWAY, msgspec.convert({"antenna_gain": None}, GatewayChanges))
        self.assertIsNone(gone.antenna_gain)
        for wrong in (41, -21, "much"):
            with self.assertRaises(msgspec.ValidationError):
                self.new(eui=GATEWAY, antenna_gain=wrong)

    def test_a_restart_keeps_it(self) -> None:
        self.call("add_gateway", body=self.new(eui=GATEWAY, region="as923"))
        second = self.bed.again()
        self.assertEqual(self.info(second)["family"], "as923")

    def test_refusals(self) -> None:
        self.call("add_gateway", body=self.new(eui=GATEWAY))
        self.refused(Conflict, "add_gateway", body=self.new(eui=GATEWAY))
        self.refused(Invalid, "add_gateway", body=self.new(eui="roof"))
        self.refused(NotFound, "get_gateway", "roof")
        self.refused(NotFound, "change_gateway", OTHER, msgspec.convert({}, GatewayChanges))
        self.refused(NotFound, "delete_gateway", OTHER)
        for number in (2, 3):
            self.call("add_gateway", body=self.new(eui=f"AA555A000000000{number}"))
        self.refused(LimitExceeded, "add_gateway", body=self.new(eui="AA555A0000000004"))

    def test_pages(self) -> None:
        for number in (3, 1, 2):
            self.call("add_gateway", body=self.new(eui=f"AA555A000000000{number}"))
        page = self.call("list_gateways", query=GatewayFilter(limit=2))
        self.assertEqual([one.eui[-1] for one in page.items], ["1", "2"])
        page = self.call("list_gateways", query=GatewayFilter(limit=2, cursor=page.next))
        self.assertEqual(([one.eui[-1] for one in page.items], page.next), (["3"], None))
        self.bed.forwarder()
        page = self.call("list_gateways", query=GatewayFilter(online=True))
        self.assertEqual([one.eui for one in page.items], [GATEWAY])
