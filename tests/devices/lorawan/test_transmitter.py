"""Which gateway and window a downlink goes out in, what the gateway says to it, and with what power."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from broker.devices.lorawan.air import Emission
from broker.devices.lorawan.gateway import Gateway, GatewayRecord
from broker.devices.lorawan.regions import EU868
from broker.devices.lorawan.transmitter import POWERS
from tests.devices.lorawan.bed import GATEWAY, OTHER, THIRD, Bed, Forwarder

RX1, RX2 = 868.1, 869.525
FAR: dict[str, Any] = {"datr": "SF12BW125", "lsnr": -14.0}


class Case(SynchronousTestCase):
    settings: dict[str, Any] = {}

    def setUp(self) -> None:
        self.begin(**self.settings)

    def begin(self, **settings: Any) -> None:
        self.bed = Bed(**settings)
        self.gateway = self.bed.forwarder()
        self.other = self.bed.forwarder(OTHER, "192.0.2.2")

    def tearDown(self) -> None:
        self.assertEqual(self.bed.faults, [])

    def known(self, forwarder: Forwarder) -> Gateway:
        gateway = self.bed.network.gateways.get(forwarder.eui.hex().upper())
        assert gateway is not None
        return gateway

    def used(self, forwarder: Forwarder) -> dict[str, float]:
        """Milliseconds of air time that are booked, by band."""
        ledgers = self.known(forwarder).air._ledgers
        return {band.name: sum(length for *_, length in ledger) / 1000 for band, ledger in ledgers.items()}

    def fill(self, forwarder: Forwarder, frequency: int, share: float, ago: float = 0.0) -> None:
        """So much of a band's air time is used up; it ended some seconds ago."""
        gateway = self.known(forwarder)
        band = EU868.band_of(frequency)
        assert band is not None
        end = gateway.clock.reading(self.bed.clock.seconds()) - int(ago * 1e6)
        length = int(band.duty * 3_600_000_000 * share)
        gateway.air.add(Emission(end - length, end, length, frequency, band))

    def answer(self, **uplink: Any) -> list[tuple[str, float, str, int]]:
        """Send a command to a mote that both hear: gateway, frequency, data rate, power of each attempt."""
        number = len(self.bed.network.motes)
        self.mote = self.bed.abp(f"AA000000000000{number:02X}", f"260100{number:02X}")
        self.command = self.bed.command(b"x", self.mote)
        self.mote.says(b"x", self.gateway, self.other, **uplink)
        self.bed.advance(3)
        return self.asked()

    def asked(self) -> list[tuple[str, float, str, int]]:
        tries = [
            (at, name, packet)
            for name, forwarder in (("one", self.gateway), ("other", self.other))
            for at, packet in forwarder.asked
        ]
        self.gateway.asked, self.other.asked = [], []
        return [(name, one["freq"], one["datr"], one["powe"]) for _, name, one in sorted(tries, key=lambda a: a[0])]


class WindowTests(Case):
    def test_near_in_rx1(self) -> None:
        self.assertEqual(self.answer(), [("one", RX1, "SF7BW125", 16)])

    def test_far_in_rx2_which_has_more_power_and_time(self) -> None:
        self.assertEqual(self.answer(**FAR), [("one", RX2, "SF12BW125", 20)])

    def test_at_the_edge_slower_than_the_uplink(self) -> None:
        """SF7 needs -7.5 dB: 2 dB more are too little for RX1, and RX2 reaches much further."""
        self.assertEqual(self.answer(lsnr=-5.5)[0][1:3], (RX2, "SF12BW125"))
        self.assertEqual(self.answer(lsnr=-4.0)[0][1:3], (RX1, "SF7BW125"))

    def test_out_of_reach_the_best_there_is(self) -> None:
        self.assertEqual(self.answer(datr="SF12BW125", lsnr=-30.0)[0][1:3], (RX2, "SF12BW125"))

    def test_what_has_used_up_its_air_time_is_passed_over(self) -> None:
        for forwarder in (self.gateway, self.other):
            self.fill(forwarder, 868_100_000, 0.8)
        self.assertEqual(self.answer()[0][1], RX2)
        self.fill(self.gateway, 869_525_000, 0.8)
        self.assertEqual(self.answer()[0][:2], ("other", RX2))

    def test_the_gateway_that_used_less(self) -> None:
        self.fill(self.gateway, 868_100_000, 0.3)
        self.assertEqual(self.answer(), [("other", RX1, "SF7BW125", 16)])

    def test_settings(self) -> None:
        self.begin(rx_window="rx2")
        self.assertEqual(self.answer()[0][1], RX2)
        self.begin(rx_window="rx1")
        self.assertEqual(self.answer(**FAR)[0][1], RX1)
        self.gateway.answers = self.other.answers = ["TX_FREQ"] * 4
        self.assertEqual([one[1] for one in self.answer()], [RX1, RX1])
        self.assertEqual((self.command.status, self.command.result["code"]), ("failed", 5))


class CollisionTests(Case):
    def pair(self, **settings: Any) -> list[tuple[str, float, int]]:
        """Two motes that both gateways hear, at one moment on one channel."""
        self.begin(**settings)
        motes = [self.bed.abp(f"AA000000000000{n:02X}", f"260100{n:02X}") for n in range(2)]
        for mote in motes:
            self.bed.command(b"x", mote)
            mote.says(b"x", self.gateway, self.other)
        began = self.gateway.tmst
        self.bed.advance(3)
        return sorted(
            (name, packet["freq"], packet["tmst"] - began)
            for name, forwarder in (("one", self.gateway), ("other", self.other))
            for packet in forwarder.sent()
        )

    def test_not_over_each_other_when_there_is_a_choice(self) -> None:
        self.assertEqual(self.pair(), [("one", RX1, 1_000_000), ("other", RX2, 2_000_000)])
        self.assertEqual(self.bed.counted.clashes, 0)

    def test_without_a_choice(self) -> None:
        self.assertEqual(self.pair(rx_window="rx1"), [("one", RX1, 1_000_000), ("other", RX1, 1_000_000)])
        self.assertEqual(self.bed.counted.clashes, 1)

    def test_class_c_waits_until_the_channel_is_free(self) -> None:
        motes = [self.bed.abp(f"AA000000000000{n:02X}", f"260100{n:02X}", **{"class": "C"}) for n in range(2)]
        motes[0].says(b"x", self.gateway, self.other)
        frame = motes[1].says(b"x", self.other)
        self.gateway.hears(frame, lsnr=-1.0)
        self.bed.advance(5)
        for mote in motes:
            self.bed.command(b"x" * 20, mote)
        self.bed.advance(0.3)
        spans = sorted(
            (packet["tmst"], name)
            for name, forwarder in (("one", self.gateway), ("other", self.other))
            for packet in forwarder.sent()
        )
        self.assertEqual(len(spans), 2)
        # 33 bytes at SF12 without a CRC: 1.810 s.
        self.assertGreaterEqual(spans[1][0] - spans[0][0], 1_810_000)

    def test_at_once_one_after_the_other(self) -> None:
        """A gateway whose clock is not known is not told to send the second before the first is over."""
        motes = [self.bed.abp(f"AA000000000000{n:02X}", f"260100{n:02X}", **{"class": "C"}) for n in range(3)]
        for mote in motes:
            mote.says(b"x", self.gateway)
        for _ in range(130):
            self.gateway.pull()
            self.bed.advance(5)
        for mote in motes:
            self.bed.command(b"x", mote)
        self.bed.advance(10)
        times = [at for at, packet in self.gateway.asked if packet.get("imme")]
        self.assertEqual(len(times), 3)
        self.assertTrue(all(after - before >= 1.155 for before, after in pairwise(times)), times)

    def test_class_c_leaves_a_gateway_that_is_busy_for_long(self) -> None:
        mote = self.bed.abp(**{"class": "C"})
        mote.says(b"x", self.gateway, self.other)
        self.bed.advance(5)
        local = self.known(self.gateway).clock.reading(self.bed.clock.seconds())
        self.known(self.gateway).bookings.add(local, local + 5_000_000, 868_100_000)
        self.bed.command(b"x", mote)
        self.bed.advance(0.3)
        self.assertEqual([one[0] for one in self.asked()], ["other"])


class AnswerTests(Case):
    def tokens(self) -> list[bytes]:
        """Those of all that the gateway is told from now on."""
        found: list[bytes] = []
        write = self.bed.wire.ends[self.gateway.down]

        def told(data: bytes) -> None:
            found.append(data[1:3])
            write(data)

        self.bed.wire.ends[self.gateway.down] = told
        return found

    def test_another_gateway_or_window_and_the_air_time_is_given_back(self) -> None:
        for error in (
            "TOO_LATE",
            "TOO_EARLY",
            "COLLISION_PACKET",
            "COLLISION_BEACON",
            "TX_FREQ",
            "GPS_UNLOCKED",
            "ODD",
        ):
            self.begin()
            self.gateway.answers = [error]
            self.assertEqual([one[:2] for one in self.answer()], [("one", RX1), ("other", RX1)], error)
            self.assertEqual(self.command.result, {"gateway": OTHER, "fcnt": 0})
            self.assertEqual(set(self.used(self.gateway).values()), {0}, error)
            self.assertEqual(self.used(self.other), {"868.0-868.6": 41.216})
            self.assertEqual((self.bed.counted.retried, self.bed.counted.tx_errors), (1, 1))

    def test_refused_by_all_in_every_window(self) -> None:
        self.gateway.answers, self.other.answers = ["TOO_LATE", "TX_FREQ"], ["COLLISION_PACKET", "TOO_EARLY"]
        self.assertEqual(
            [one[:2] for one in self.answer()], [("one", RX1), ("other", RX1), ("one", RX2), ("other", RX2)]
        )
        self.assertEqual((self.command.status, self.command.result["code"]), ("failed", 3))
        for forwarder in (self.gateway, self.other):
            self.assertEqual(set(self.used(forwarder).values()), {0})

    def test_not_when_the_window_is_over(self) -> None:
        """A gateway that takes its time to refuse: RX1 of the other has gone by, RX2 has not."""
        self.gateway.answers = [None]
        self.mote = self.bed.abp()
        command = self.bed.command(b"x", self.mote)
        tokens = self.tokens()
        self.mote.says(b"x", self.gateway, self.other)
        self.bed.advance(0.95)
        self.gateway.send(5, b'{"txpk_ack":{"error":"TOO_LATE"}}', tokens[0])
        self.bed.advance(1)
        self.assertEqual([one[:2] for one in self.asked()], [("one", RX1), ("one", RX2)])
        self.assertEqual(command.status, "succeeded")

    def test_silence_may_have_been_an_emission(self) -> None:
        self.gateway.answers = [None]
        self.assertEqual(len(self.answer()), 1)
        self.bed.advance(1)
        self.assertEqual((self.command.status, self.command.result["error"]), ("failed", "SILENT"))
        self.assertEqual(self.used(self.gateway), {"868.0-868.6": 41.216})

    def test_less_power_step_by_step(self) -> None:
        self.gateway.answers = ["TX_POWER", "TX_POWER"]
        self.assertEqual([one[3] for one in self.answer(**FAR)], [20, 14, 10])
        self.assertEqual(self.command.status, "succeeded")
        self.assertEqual(self.used(self.gateway)["869.4-869.65"], 1_155.072)  # once
        # It is remembered, for as long as the gateway stays.
        self.other.asked = []
        self.assertEqual(self.answer(**FAR)[0][0], "other")
        self.bed.advance(40)
        self.gateway.pull()
        self.other.pull()
        self.assertIsNone(self.known(self.gateway).max_power)

    def test_no_power_is_little_enough(self) -> None:
        self.gateway.answers = ["TX_POWER"] * 2
        self.assertEqual(
            [(one[0], one[3]) for one in self.answer()],
            [
                ("one", 16),
                ("one", 14),
                ("one", 10),
            ][:3],
        )
        self.begin()
        self.gateway.answers = ["TX_POWER"] * 3
        self.assertEqual([(one[0], one[3]) for one in self.answer()][-1], ("other", 16))

    def test_a_warning_is_an_acceptance(self) -> None:
        self.gateway.answers = [None]
        mote = self.bed.abp()
        command = self.bed.command(b"x", mote)
        tokens = self.tokens()
        mote.says(b"x", self.gateway)
        self.bed.advance(0.5)
        self.gateway.send(5, json.dumps({"txpk_ack": {"warn": "TX_POWER", "value": 14}}).encode(), tokens[0])
        self.assertEqual((command.status, len(self.gateway.asked)), ("succeeded", 1))
        self.assertEqual(self.used(self.gateway), {"868.0-868.6": 41.216})

    def test_class_c_of_a_busy_gateway_later(self) -> None:
        mote = self.bed.abp(**{"class": "C"})
        mote.says(b"x", self.gateway)
        self.bed.advance(5)
        self.gateway.answers = ["COLLISION_PACKET", "COLLISION_BEACON"]
        command = self.bed.command(b"x", mote)
        self.bed.advance(0.5)
        times = [packet["tmst"] for packet in self.gateway.sent()]
        self.assertEqual(len(times), 3)
        self.assertTrue(all(b - a >= 1_155_072 for a, b in pairwise(times)), times)
        self.assertEqual(command.status, "succeeded")
        self.assertEqual(self.used(self.gateway), {"869.4-869.65": 1_155.072})

    def test_class_c_at_another_gateway_before_that(self) -> None:
        mote = self.bed.abp(**{"class": "C"})
        mote.says(b"x", self.gateway, self.other)
        self.bed.advance(5)
        self.gateway.answers = ["COLLISION_PACKET"]
        self.bed.command(b"x", mote)
        self.bed.advance(0.5)
        self.assertEqual([one[0] for one in self.asked()], ["one", "other"])

    def test_the_disk_is_slower_than_class_c(self) -> None:
        """The time that was booked has gone by when the command is on disk: then a later one."""
        mote = self.bed.abp(**{"class": "C"})
        mote.says(b"x", self.gateway)
        self.bed.advance(5)
        command = self.bed.command(b"x", mote)
        self.bed.storage.held = True
        self.bed.clock.advance(0.001)
        self.bed.advance(0.5)
        now = self.gateway.tmst
        self.bed.storage.held = False
        self.bed.storage.go_on()
        self.bed.advance(0.2)
        (packet,) = self.gateway.sent()
        self.assertGreater(packet["tmst"], now + 300_000)
        self.assertEqual(command.status, "succeeded")
        self.assertEqual(self.used(self.gateway), {"869.4-869.65": 1_155.072})

    def test_a_gateway_that_is_removed_between(self) -> None:
        self.begin(unknown="quarantine")
        self.successResultOf(self.bed.network.store.gateways.add(GATEWAY, GatewayRecord(eui=GATEWAY)))
        self.bed.network.gateways.register(GatewayRecord(eui=GATEWAY))
        self.gateway.pull()
        mote = self.bed.abp()
        command = self.bed.command(b"x", mote)
        mote.says(b"x", self.gateway)
        for _ in range(28):
            self.bed.clock.advance(0.01)
        self.bed.storage.held = True  # the counters are written, and the window is about to open
        self.bed.advance(0.1)
        self.assertEqual(self.used(self.gateway), {"868.0-868.6": 41.216})
        self.bed.network.gateways.remove(GATEWAY)
        self.bed.storage.held = False
        self.bed.storage.go_on()
        self.bed.advance(3)
        self.assertEqual(self.gateway.sent(), [])
        self.assertEqual((command.status, command.result["code"]), ("failed", 1))


class PowerTests(Case):
    def power(self, record: GatewayRecord | None = None, **settings: Any) -> tuple[int, int]:
        """What is asked of a gateway in RX1 and RX2."""
        self.begin(**settings)
        if record is not None:
            self.bed.network.gateways.register(record)
        self.gateway.answers = ["TOO_LATE"]
        mote = self.bed.abp()
        self.bed.command(b"x", mote)
        mote.says(b"x", self.gateway)
        self.bed.advance(3)
        first, second = self.gateway.sent()
        self.assertEqual((first["freq"], second["freq"]), (RX1, RX2))
        return first["powe"], second["powe"]

    def test_as_the_region_has_it(self) -> None:
        self.assertEqual(self.power(), (16, 20))

    def test_what_the_antenna_adds_is_left_out(self) -> None:
        """16 dBm less 2.15 are 13.85, and 20 less 2.15 are 17.85: what gain tables have below."""
        self.assertEqual(self.power(GatewayRecord(eui=GATEWAY, antenna_gain=2.15)), (13, 16))
        self.assertEqual(self.power(GatewayRecord(eui=GATEWAY, antenna_gain=-3.0)), (16, 23))
        self.assertEqual(self.power(GatewayRecord(eui=GATEWAY, antenna_gain=40.0)), (POWERS[-1], POWERS[-1]))

    def test_more_only_where_the_law_has_more(self) -> None:
        self.assertEqual(self.power(power=27), (16, 27))
        self.assertEqual(self.power(power=36), (16, 27))
        self.assertEqual(self.power(power=10), (10, 10))


class ThirdTests(Case):
    def test_an_unusable_gateway_is_none_of_the_choices(self) -> None:
        third = self.bed.forwarder(THIRD, "192.0.2.3")
        mote = self.bed.abp()
        self.bed.command(b"x", mote)
        frame = mote.says(b"x", third, lsnr=9.0)
        packet = self.gateway.rxpk(frame, lsnr=8.0)
        del packet["tmst"]
        self.gateway.push(rxpk=[packet])  # does not say when
        self.other.hears(frame, lsnr=-3.0)
        third.answers = ["TOO_LATE", "TOO_LATE"]
        self.bed.advance(3)
        self.assertEqual((len(third.sent()), [one[0] for one in self.asked()]), (1, ["other"]))
