"""Gateways: who may speak, from where, presence, their clocks, bookings and duty cycles, the API."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from broker.devices.lorawan.api import GatewayCalls, GatewayChanges, GatewayFilter, NewGateway
from broker.devices.lorawan.gateway import GUARD, Gateway
from broker.devices.lorawan.regions import EU868, Band
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


class ClockTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.gateway = Gateway(GATEWAY, EU868, None)

    def test_wrapping(self) -> None:
        start = self.gateway.local(4_294_000_000, 100.0)
        self.assertEqual(self.gateway.local(32_704, 101.0), start + 1_000_000)
        self.assertEqual(self.gateway.estimate(101.5), start + 1_500_000)
        self.assertIsNone(self.gateway.estimate(800.0))

    def test_a_packet_out_of_order(self) -> None:
        now = self.gateway.local(5_000_000, 100.0)
        self.assertEqual(self.gateway.local(4_900_000, 100.01), now - 100_000)
        self.assertEqual(self.gateway.local(5_010_000, 100.02), now + 10_000)

    def test_started_again(self) -> None:
        now = self.gateway.local(500_000_000, 100.0)
        self.gateway.book(now + 1_000_000, now + 2_000_000)
        again = self.gateway.local(1_000, 101.0)
        self.assertEqual(self.gateway.load, 0)
        self.assertEqual(self.gateway.local(2_001_000, 103.0), again + 2_000_000)

    def test_bookings(self) -> None:
        self.gateway.book(1_000_000, 2_000_000)
        for start, end, free in (
            (0, 1_000_000 - GUARD, True),
            (0, 1_000_001 - GUARD, False),
            (1_500_000, 1_600_000, False),
            (0, 9_000_000, False),
            (2_000_000 + GUARD, 3_000_000, True),
            (1_999_999 + GUARD, 3_000_000, False),
        ):
            self.assertEqual(self.gateway.conflict(start, end) is None, free, (start, end))
        self.gateway.unbook(1_000_000, 2_000_000)
        self.gateway.unbook(1_000_000, 2_000_000)
        self.assertIsNone(self.gateway.conflict(1_500_000, 1_600_000))
        self.gateway.book(0, 1)
        self.gateway.book(20_000_000, 20_000_001)
        self.assertEqual(self.gateway.load, 1)

    def test_duty_cycle(self) -> None:
        band = Band(868_000_000, 868_600_000, 0.01)
        for second in range(36):
            self.assertEqual(self.gateway.duty_wait(band, 1.0, 100.0 + second), 0.0)
            self.gateway.use(band, 1.0, 100.0 + second)
        self.assertEqual(self.gateway.duty_wait(band, 1.0, 200.0), 3500.0)
        self.assertEqual(self.gateway.duty_wait(band, 2.0, 200.0), 3501.0)
        self.assertEqual(self.gateway.duty_wait(band, 37.0, 200.0), 3600.0)
        self.gateway.unuse(band, 1.0)
        self.assertEqual(self.gateway.duty_wait(band, 1.0, 200.0), 0.0)
        self.assertEqual(self.gateway.duty_wait(band, 36.0, 4000.0), 0.0)


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
