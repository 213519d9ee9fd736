"""Semtech UDP: bytes of real forwarders, lies about sizes, and what no datagram may do."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from broker.devices.lorawan import codec
from broker.devices.lorawan.codec import DatagramError, packet_bytes, parse, push_body, tx_error

EUI = bytes.fromhex("4247010099999998")
RXPK: dict[str, Any] = {
    "tmst": 3512348611,
    "chan": 2,
    "rfch": 0,
    "freq": 866.349812,
    "stat": 1,
    "modu": "LORA",
    "datr": "SF7BW125",
    "codr": "4/6",
    "rssi": -35,
    "lsnr": 5.1,
    "size": 4,
    "data": "qJMPDA==",
}


def body(*packets: Any, **more: Any) -> bytes:
    return json.dumps({"rxpk": list(packets), **more}).encode()


class DatagramTests(SynchronousTestCase):
    def test_push_data(self) -> None:
        got = parse(bytes.fromhex("0251FF004247010099999998") + b"{}")
        self.assertEqual((got.version, got.kind, got.eui, got.body), (2, codec.PUSH_DATA, EUI, b"{}"))
        self.assertEqual(codec.push_ack(got).hex(), "0251ff01")

    def test_pull_data(self) -> None:
        got = parse(bytes.fromhex("011234024247010099999998"))
        self.assertEqual((got.version, got.kind, got.body), (1, codec.PULL_DATA, b""))
        self.assertEqual(codec.pull_ack(got).hex(), "01123404")

    def test_tx_ack_without_json(self) -> None:
        got = parse(bytes.fromhex("020001054247010099999998"))
        self.assertEqual((got.kind, got.token, tx_error(got.body)), (codec.TX_ACK, b"\0\1", None))

    def test_no_datagrams_of_ours(self) -> None:
        for text in ("", "02", "0251FF0042470100999999", "0351FF004247010099999998", "0251FF014247010099999998"):
            self.assertRaises(DatagramError, parse, bytes.fromhex(text))

    @given(st.binary(max_size=40))
    def test_any_bytes(self, data: bytes) -> None:
        try:
            got = parse(data)
        except DatagramError:
            return
        self.assertEqual((len(got.eui), len(got.token)), (8, 2))


class TxAckTests(SynchronousTestCase):
    def test_rows(self) -> None:
        for text, error in (
            (b"", None),
            (b" \n\0", None),
            (b"{}", None),
            (b'{"txpk_ack":{}}', None),
            (b'{"txpk_ack":{"error":"NONE"}}', None),
            (b'{"txpk_ack":{"error":"none"}}', None),
            (b'{"txpk_ack":{"error":"SUCCESS"}}', None),
            (b'{"txpk_ack":{"warn":"TX_POWER","value":14}}', None),
            (b'{"txpk_ack":{"error":"TOO_LATE"}}', "TOO_LATE"),
            (b'{"txpk_ack":{"error":" COLLISION_PACKET "}}', "COLLISION_PACKET"),
            (b'{"txpk_ack":{"error":"' + b"x" * 99 + b'"}}', "X" * 32),
        ):
            self.assertEqual(tx_error(text), error, text)

    def test_faults(self) -> None:
        for text in (b"{", b"\xff", b'{"txpk_ack":{"error":7}}', b"[" * 5000):
            self.assertRaises(DatagramError, tx_error, text)


class PushTests(SynchronousTestCase):
    def test_packet_and_stat(self) -> None:
        stat = {"time": "2014-01-12 08:59:28 GMT", "lati": 46.24, "long": 3.2523, "alti": 145, "rxnb": 2, "ackr": 100.0}
        got = push_body(body(RXPK, stat=stat))
        (packet,) = got.rxpk
        self.assertEqual((packet.tmst, packet.datr, packet.rssi, packet.lsnr), (3512348611, "SF7BW125", -35.0, 5.1))
        self.assertEqual(packet_bytes(packet).hex(), "a8930f0c")
        assert got.stat is not None
        self.assertEqual((got.stat.rxnb, got.stat.ackr, got.stat.alti, got.stat.txnb), (2, 100.0, 145.0, 0))
        self.assertEqual(got.faulty, 0)

    def test_nothing_in_it(self) -> None:
        for text in (b"{}", b'{"rxpk":[]}', b'{"rxpk":null,"stat":null}', b'{"other":1,"faulty":9}'):
            got = push_body(text)
            self.assertEqual((got.rxpk, got.stat, got.faulty), ([], None, 0), text)

    def test_one_fault_costs_one_packet(self) -> None:
        got = push_body(body({**RXPK, "freq": "x"}, RXPK, 7, {**RXPK, "data": None}, RXPK, stat={"rxnb": []}))
        self.assertEqual((len(got.rxpk), got.faulty, got.stat), (2, 4, None))

    def test_figures_that_nothing_can_have(self) -> None:
        """Infinite once they are multiplied, or too large for a number of 64 bits where they are shown."""
        huge = 10**30
        wrong = ("freq", 1e308), ("lsnr", 1e308), ("lsnr", -1e308), ("rssi", 1e308), ("datr", huge), ("datr", "S" * 17)
        for name, value in (*wrong, ("tmst", huge), ("tmst", -1), ("tmms", huge), ("tmms", 10**400), ("freq", -1.0)):
            got = push_body(body({**RXPK, name: value}, RXPK, stat={"rxnb": 1}))
            self.assertEqual((len(got.rxpk), got.faulty), (1, 1), (name, value))
        for value in (huge, -huge, 1e308):
            got = push_body(body(RXPK, stat={"rxnb": value}))
            self.assertEqual((len(got.rxpk), got.faulty, got.stat), (1, 1, None), value)

    def test_no_json(self) -> None:
        for text in (b"", b"[]", b"{", b"\xff", b'{"rxpk":7}', b'{"rxpk":' + b"[" * 5000):
            self.assertRaises(DatagramError, push_body, text)

    def packet(self, **changes: Any) -> codec.Rxpk:
        (packet,) = push_body(body({**RXPK, **changes})).rxpk
        return packet

    def test_base64_of_all_kinds(self) -> None:
        self.assertEqual(packet_bytes(self.packet(data="qJMPDA")), bytes.fromhex("a8930f0c"))
        self.assertEqual(packet_bytes(self.packet(data="-DS4_w", size=4)).hex(), "f834b8ff")
        self.assertEqual(packet_bytes(self.packet(data="+DS4/w==", size=4)).hex(), "f834b8ff")
        for data in ("qJMP*A==", "q", "日本", "qJ=MPDA"):
            self.assertRaises(DatagramError, packet_bytes, self.packet(data=data))

    def test_lies_about_the_size(self) -> None:
        for changes in ({"size": 3}, {"size": 4000}, {"size": 0, "data": ""}, {"data": "A" * 400, "size": 300}):
            self.assertRaises(DatagramError, packet_bytes, self.packet(**changes))
        self.assertEqual(len(packet_bytes(self.packet(size=None))), 4)

    @settings(max_examples=200, deadline=None)
    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
            lambda inner: (
                st.lists(inner, max_size=4)
                | st.dictionaries(st.sampled_from(["rxpk", "stat", *RXPK, "lati"]), inner, max_size=5)
            ),
            max_leaves=20,
        )
    )
    def test_any_json(self, value: Any) -> None:
        try:
            got = push_body(json.dumps(value).encode())
            for packet in got.rxpk:
                packet_bytes(packet)
        except DatagramError:
            return


class PullRespTests(SynchronousTestCase):
    def sent(self, data: bytes, version: int = 2) -> dict[str, Any]:
        self.assertEqual(data[:4], bytes((version,)) + b"ab\x03")
        packet: dict[str, Any] = json.loads(data[4:])["txpk"]
        return packet

    def test_lora(self) -> None:
        packet = codec.txpk(bytes(range(5)), 869_525_000, "SF12BW125", 16, 4_000_000_000)
        self.assertEqual(
            self.sent(codec.pull_resp(2, b"ab", packet)),
            {
                "tmst": 4_000_000_000,
                "freq": 869.525,
                "rfch": 0,
                "powe": 16,
                "modu": "LORA",
                "datr": "SF12BW125",
                "codr": "4/5",
                "ipol": True,
                "ncrc": True,
                "size": 5,
                "data": b64encode(bytes(range(5))).decode(),
            },
        )

    def test_at_once(self) -> None:
        packet = self.sent(codec.pull_resp(1, b"ab", codec.txpk(b"x", 505_300_000, "SF12BW125", 16, None)), 1)
        self.assertIs(packet["imme"], True)
        self.assertNotIn("tmst", packet)

    def test_fsk(self) -> None:
        packet = self.sent(codec.pull_resp(2, b"ab", codec.txpk(b"x", 868_800_000, 50_000, 14, 1)))
        self.assertEqual((packet["modu"], packet["datr"], packet["fdev"]), ("FSK", 50_000, 25_000))
        self.assertFalse({"codr", "ipol", "imme"} & set(packet))
