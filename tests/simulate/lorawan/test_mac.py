"""What a simulated mote does with MAC commands, command by command."""

from __future__ import annotations

import random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from broker.simulate.lorawan.mac import ADR_ACK_DELAY, ADR_ACK_LIMIT, Mac
from broker.simulate.lorawan.plans import PLANS
from broker.simulate.lorawan.session import Accepted
from broker.simulate.lorawan.traits import Misbehaviour, Traits

#: 867.1 MHz as it stands in commands.
F_867_1 = (8_671_000).to_bytes(3, "little")


def adr(rate: int, power: int, mask: int, control: int = 0, repeats: int = 1) -> bytes:
    """A LinkADRReq."""
    return bytes((0x03, rate << 4 | power)) + mask.to_bytes(2, "little") + bytes((control << 4 | repeats,))


class MacTests(SynchronousTestCase):
    def mac(self, region: str = "eu868", **traits: Any) -> Mac:
        return Mac(PLANS[region], Traits(**traits), random.Random(1))

    def says(self, mac: Mac, command: bytes) -> bytes:
        mac.take(command, 7.0)
        return mac.answers()


class LinkAdrTests(MacTests):
    def test_taken(self) -> None:
        mac = self.mac()
        self.assertEqual(self.says(mac, adr(5, 3, 0b101, repeats=2)), b"\x03\x07")
        self.assertEqual((mac.rate, mac.power, mac.enabled, mac.repeats), (5, 3, {0, 2}, 2))
        self.assertEqual(mac.dbm, 10.0)

    def test_refused_as_a_whole(self) -> None:
        """A channel that it does not have, a data rate and a power that the region does not have: bits say which."""
        mac = self.mac()
        before = (mac.rate, mac.power, mac.enabled)
        for command, bits in (
            (adr(5, 1, 0b1000_0001), 6),
            (adr(5, 1, 0), 4),  # no channel for that data rate either
            (adr(14, 1, 1), 5),
            (adr(6, 1, 1), 5),  # SF7/250: no channel is for it
            (adr(5, 9, 1), 3),
            (adr(5, 1, 1, control=3), 6),
            (adr(14, 9, 0xFF00), 0),
        ):
            self.assertEqual(self.says(mac, command), bytes((3, bits)), command.hex())
            self.assertEqual((mac.rate, mac.power, mac.enabled), before)

    def test_keep(self) -> None:
        """15 leaves data rate and power as they are; NbTrans 0 is one."""
        mac = self.mac()
        mac.take(adr(4, 2, 7), 0.0)
        self.assertEqual(self.says(mac, adr(15, 15, 1, repeats=0))[-2:], b"\x03\x07")
        self.assertEqual((mac.rate, mac.power, mac.enabled, mac.repeats), (4, 2, {0}, 1))

    def test_all_channels(self) -> None:
        mac = self.mac()
        mac.take(b"\x07\x04" + F_867_1 + b"\x50" + adr(5, 0, 0, control=6), 0.0)
        self.assertEqual(mac.enabled, {0, 1, 2, 4})

    def test_a_block_is_atomic(self) -> None:
        """Six commands that leave CN470 eight channels, each answered; one of them wrong, and nothing happens."""
        block = b"".join(adr(5, 0, 0xFF00 if part == 2 else 0, control=part) for part in range(6))
        mac = self.mac("cn470")
        self.assertEqual(self.says(mac, block), b"\x03\x07" * 6)
        self.assertEqual(mac.enabled, set(range(40, 48)))
        mac = self.mac("cn470")
        self.assertEqual(self.says(mac, block + adr(5, 9, 0, control=5)), b"\x03\x03" * 7)
        self.assertEqual(len(mac.enabled), 96)

    def test_blocks_are_parted_by_other_commands(self) -> None:
        mac = self.mac()
        self.assertEqual(self.says(mac, adr(5, 0, 0) + b"\x06" + adr(5, 0, 1)), b"\x03\x04\x06\xc8\x07\x03\x07")

    def test_us915(self) -> None:
        """All of 125 kHz off, then eight and the one of 500 kHz; the same by banks."""
        mac = self.mac("us915")
        self.assertEqual(self.says(mac, adr(3, 0, 2, control=7) + adr(3, 0, 0xFF00, control=0)), b"\x03\x07" * 2)
        self.assertEqual(mac.enabled, {*range(8, 16), 65})
        self.says(mac, adr(3, 0, 0b100, control=5))
        self.assertEqual(mac.enabled, {*range(16, 24), 66})


class OtherCommandTests(MacTests):
    def test_windows(self) -> None:
        """What is answered about them is said again and again until a downlink comes."""
        mac = self.mac()
        self.assertEqual(self.says(mac, b"\x05\x23" + F_867_1 + b"\x08\x05"), b"\x05\x07\x08")
        self.assertEqual((mac.rx1_offset, mac.rx2_rate, mac.rx2_frequency, mac.rx_delay), (2, 3, 867_100_000, 5))
        self.assertEqual(mac.answers(), b"\x05\x07\x08")
        mac.heard()
        self.assertEqual(mac.answers(), b"")

    def test_windows_refused(self) -> None:
        mac = self.mac()
        self.assertEqual(self.says(mac, b"\x05\x6f\x01\x00\x00"), b"\x05\x00")
        self.assertEqual((mac.rx1_offset, mac.rx2_rate, mac.rx2_frequency), (0, 0, 869_525_000))

    def test_channels(self) -> None:
        mac = self.mac()
        self.assertEqual(self.says(mac, b"\x07\x03" + F_867_1 + b"\x50"), b"\x07\x03")
        self.assertEqual(mac.channels[3].frequency, 867_100_000)
        self.assertIn(3, mac.enabled)
        self.assertEqual(self.says(mac, b"\x07\x03\x00\x00\x00\x00"), b"\x07\x03")
        self.assertNotIn(3, mac.channels)
        self.assertEqual(self.says(mac, b"\x07\x00" + F_867_1 + b"\x50"), b"\x07\x00")
        self.assertEqual(self.says(mac, b"\x07\x03\x01\x00\x00\x05"), b"\x07\x00")
        self.assertEqual(self.says(mac, b"\x0a\x01" + F_867_1), b"\x0a\x03")
        self.assertEqual(mac.rx1(mac.channels[1], 5)[0], 867_100_000)
        self.assertEqual(self.mac("us915").answers(), b"")
        self.assertEqual(self.says(self.mac("us915"), b"\x07\x03" + F_867_1 + b"\x50"), b"")

    def test_limits(self) -> None:
        mac = self.mac()
        self.assertEqual(self.says(mac, b"\x04\x07"), b"\x04")
        self.assertEqual(mac.duty, 1 / 128)
        self.assertEqual(self.says(mac, b"\x09\x35"), b"", "EU868 knows no TxParamSetupReq")
        asian = self.mac("as923")
        self.assertEqual((asian.dwell_up, asian.rate), (True, 2))
        self.assertEqual(self.says(asian, b"\x09\x03"), b"\x09")
        self.assertEqual((asian.dwell_up, asian.dwell_down, asian.eirp), (False, False, 13.0))

    def test_status_and_time(self) -> None:
        mac = self.mac(battery=99)
        mac.take(b"\x06", -5.4)
        self.assertEqual(mac.answers(), bytes((6, 99, 0x3B)))
        mac.take(b"\x02\x14\x03\x0d\x01\x00\x00\x00\x80", 0.0)
        self.assertEqual((mac.link_check, mac.network_time, mac.answers()), ((20, 3), 1.5, b""))

    def test_what_follows_the_unknown_is_left(self) -> None:
        mac = self.mac()
        self.assertEqual(self.says(mac, b"\x06\x80\x06\x06"), bytes((6, 200, 7)))
        self.assertEqual(self.says(mac, b"\x05\x00\x00"), b"")

    def test_cf_lists(self) -> None:
        mac = self.mac()
        mac.joined(Accepted(1, 3, 2, F_867_1 + bytes(12) + b"\0"))
        self.assertEqual((mac.rx1_offset, mac.rx2_rate, mac.rx_delay), (1, 3, 2))
        self.assertEqual((mac.channels[3].frequency, mac.enabled), (867_100_000, {0, 1, 2, 3}))
        mac = self.mac("us915")
        mac.joined(Accepted(0, 8, 1, b"\0\xff" + bytes(6) + b"\2" + bytes(6) + b"\1"))
        self.assertEqual(mac.enabled, {*range(8, 16), 65})


class BackOffTests(MacTests):
    def asked(self, mac: Mac, frames: int) -> int:
        return sum(mac.adr_ask() for _ in range(frames))

    def test_it_finds_back(self) -> None:
        """Full power first, then a slower data rate each `ADR_ACK_DELAY`, in the end all channels."""
        mac = self.mac()
        mac.take(adr(2, 4, 1, repeats=3), 0.0)
        self.assertEqual(self.asked(mac, ADR_ACK_LIMIT - 1), 0)
        self.assertTrue(mac.adr_ask())
        steps = [(2, 0, {0}, 3), (1, 0, {0}, 3), (0, 0, {0}, 3), (0, 0, {0, 1, 2}, 1)]
        for step in steps:
            self.asked(mac, ADR_ACK_DELAY)
            self.assertEqual((mac.rate, mac.power, mac.enabled, mac.repeats), step)
        self.assertFalse(mac.adr_ask(), "there is nothing more to gain")

    def test_a_downlink_ends_it(self) -> None:
        mac = self.mac(rate=5)
        self.assertEqual(self.asked(mac, ADR_ACK_LIMIT + 5), 6)
        mac.heard()
        self.assertEqual(self.asked(mac, ADR_ACK_LIMIT - 1), 0)
        self.assertEqual(mac.rate, 5)

    def test_without_adr(self) -> None:
        self.assertEqual(self.asked(self.mac(adr=False, rate=5), 500), 0)


class MisbehaviourTests(MacTests):
    def test_each_is_wrong_in_its_way(self) -> None:
        block = adr(5, 0, 3) + adr(5, 0, 7)
        wanted = {
            Misbehaviour.REFUSES: b"\x03\x00\x03\x00",
            Misbehaviour.REFUSES_MASKS: b"\x03\x06\x03\x06",
            Misbehaviour.REFUSES_RATES: b"\x03\x01\x03\x01",
            Misbehaviour.LIES: b"\x03\xff\x03\xff",
            Misbehaviour.WRONG_CHANNELS: b"\x03\x07\x03\x07",
            Misbehaviour.BAD_STATUS: b"\x03\x07\x03\x07",
            Misbehaviour.SILENT: b"",
            Misbehaviour.MISCOUNTS: b"\x03\x07",
            Misbehaviour.REPEATS: b"\x03\x07\x03\x07",
        }
        obeys = (Misbehaviour.BAD_STATUS, Misbehaviour.SILENT, Misbehaviour.MISCOUNTS, Misbehaviour.REPEATS)
        for misbehaviour, answer in wanted.items():
            mac = self.mac(misbehaviour=misbehaviour)
            self.assertEqual(self.says(mac, block), answer, misbehaviour)
            self.assertEqual(mac.rate == 5 and mac.enabled == {0, 1, 2}, misbehaviour in obeys, misbehaviour)
            self.assertEqual(mac.answers(), answer if misbehaviour is Misbehaviour.REPEATS else b"", misbehaviour)

    def test_the_random_ones(self) -> None:
        garbage = self.mac(misbehaviour=Misbehaviour.GARBAGE)
        self.assertTrue(all(1 <= len(garbage.answers()) <= 15 for _ in range(50)))
        self.assertTrue(self.mac(misbehaviour=Misbehaviour.UNASKED).answers())
        status = self.says(self.mac(misbehaviour=Misbehaviour.BAD_STATUS), b"\x06")
        self.assertEqual((status[:2], status[2] & 0xC0), (b"\x06\xff", 0xC0))
