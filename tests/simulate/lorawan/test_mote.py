"""A simulated mote and a gateway that does as the test says: when it speaks, when it listens, what it repeats.

What it says is read by pamoja, an implementation of its own; so is what it is sent made.
"""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

from pamoja import lorawan as pamoja
from twisted.trial.unittest import SynchronousTestCase

from broker.devices.lorawan import frames, keys
from broker.simulate.lorawan.air import Air
from broker.simulate.lorawan.clock import SimulatedClock
from broker.simulate.lorawan.ledger import Ledger
from broker.simulate.lorawan.mote import SimulatedMote
from broker.simulate.lorawan.plans import PLANS
from broker.simulate.lorawan.radio import Modulation
from broker.simulate.lorawan.session import mote_identity
from broker.simulate.lorawan.traits import Traits

IDENTITY = mote_identity(1, 1)
ADDRESS = 0x01020304
APP_NONCE, NET_ID = bytes.fromhex("010203"), bytes.fromhex("000013")
NEAR = 100.0


class Ear:
    """A gateway on all frequencies."""

    demodulators = 8

    def __init__(self, air: Air) -> None:
        self.number, self.name, self.busy = 0, "gateway", 0
        self.ledger = Ledger()
        self.heard: Any = self
        #: (end, frame, frequency, modulation) of what came.
        self.got: list[tuple[float, bytes, int, Modulation]] = []
        air.stations.append(self)

    def __contains__(self, frequency: int) -> bool:
        return True

    def sending(self, start: float, end: float) -> bool:
        return False

    def received(
        self, frame: bytes, frequency: int, modulation: Modulation, rssi: float, snr: float, end: float
    ) -> None:
        self.got.append((end, frame, frequency, modulation))


class MoteTests(SynchronousTestCase):
    region = "eu868"

    def setUp(self) -> None:
        self.clock = SimulatedClock()
        self.air = Air(self.clock, random.Random(1), fading=0.0)
        self.ear = Ear(self.air)
        self.told: list[str] = []

    def mote(self, **traits: Any) -> SimulatedMote:
        given = {"every": 100.0, "rate": 5, **traits}
        mote = SimulatedMote(
            self.air,
            PLANS[self.region],
            IDENTITY,
            Traits(**given),
            [NEAR],
            random.Random(2),
            nonce=7,
            told=lambda mote, what: self.told.append(what),
        )
        mote.start()
        return mote

    def until(self, count: int, limit: float = 10_000.0) -> list[tuple[float, bytes, int, Modulation]]:
        """Wait for as many packets."""
        end = self.clock.seconds() + limit
        while len(self.ear.got) < count and self.clock.seconds() < end:
            self.clock.advance(0.01)
        got, self.ear.got = self.ear.got, []
        self.assertEqual(len(got), count)
        return got

    def joined(self, settings: int = 0, delay: int = 1, **traits: Any) -> SimulatedMote:
        """A mote that has joined."""
        mote = self.mote(**traits)
        ((end, request, frequency, modulation),) = self.until(1)
        self.accept = pamoja.device(
            bytes.fromhex(IDENTITY.dev_eui), bytes.fromhex(IDENTITY.join_eui), bytes.fromhex(IDENTITY.app_key)
        )
        self.assertEqual(request, self.accept.join_request(8))
        accept = self.join_accept(settings, delay)
        self.session = self.accept.accept_join(accept, 8).session()
        plan = mote.plan
        (channel,) = [one for one in plan.channels if one.frequency == frequency]
        (rate,) = [number for number in range(8) if plan.rates.get(number) == modulation]
        self.down(accept, end + 5.0, channel.down or frequency, plan.rates[plan.rx1_rate(rate, 0, False)])
        self.assertTrue(mote.joined)
        return mote

    def join_accept(self, settings: int, delay: int) -> bytes:
        return frames.join_accept(
            bytes.fromhex(IDENTITY.app_key), 0x010203, 0x13, ADDRESS, rx1_offset=settings >> 4, rx_delay=delay
        )

    def down(self, frame: bytes, start: float, frequency: int, modulation: Modulation) -> None:
        """A gateway sends at a time."""
        self.clock.run_until(start)
        end = self.air.down(self.ear, frame, frequency, modulation, 14.0, start)
        self.clock.run_until(end + 1e-6)

    def answer(self, uplink: tuple[float, bytes, int, Modulation], fcnt: int, **fields: Any) -> None:
        """In RX1."""
        end, _, frequency, modulation = uplink
        self.down(self.frame(fcnt, **fields), end + 1.0, frequency, modulation)

    def frame(self, fcnt: int, port: int | None = None, payload: bytes = b"", **fields: Any) -> bytes:
        network, application = keys.session_keys(bytes.fromhex(IDENTITY.app_key), 0x010203, 0x13, 8)
        return frames.data_down(network, application, ADDRESS, fcnt, port=port, payload=payload, **fields)

    def reads(self, uplink: tuple[float, bytes, int, Modulation]) -> Any:
        """An uplink as pamoja reads it."""
        frame = uplink[1]
        return self.session.decode(frame, int.from_bytes(frame[6:8], "little"))


class JoinTests(MoteTests):
    def test_it_joins(self) -> None:
        mote = self.joined(settings=0x20, delay=3)
        self.assertEqual((mote.mac.rx1_offset, mote.mac.rx_delay, mote.session.address), (2, 3, ADDRESS))
        self.assertEqual(self.told, ["joined as 01020304"])
        self.assertEqual(self.air.violations, [])

    def test_it_listens_in_both_windows_and_nowhere_else(self) -> None:
        for ahead, frequency, heard in ((5.0, None, True), (6.0, 869_525_000, True), (5.0001, None, False)):
            self.setUp()
            mote = self.mote()
            ((end, _, used, modulation),) = self.until(1)
            rate = modulation if frequency is None else Modulation(12, 125_000)
            self.down(self.join_accept(0, 1), end + ahead, frequency or used, rate)
            self.assertEqual((mote.joined, self.air.violated), (heard, 0 if heard else 1), ahead)

    def test_it_goes_on_asking_ever_more_slowly(self) -> None:
        """1 % of the first hour, 0.1 % of the next ten, then 0.01 %; data rates from the fastest to the slowest."""
        mote = self.mote()
        self.clock.run_until(24 * 3600.0)
        emissions = mote.ledger.emissions()
        for begin, end, share in ((0, 3_600, 36.0), (3_600, 39_600, 36.0), (39_600, 86_400, 5.0)):
            seconds = sum(long for start, long, _, _ in emissions if begin <= start < end)
            self.assertLessEqual(seconds, share + 2.0, begin)
        self.assertEqual({modulation.spreading for _, _, _, modulation in self.ear.got}, set(range(7, 13)))
        nonces = [frame[17:19] for _, frame, _, _ in self.ear.got]
        self.assertEqual(len(set(nonces)), len(nonces))

    def test_it_joins_anew(self) -> None:
        mote = self.joined(rate=None)
        mote.mac.take(b"\x03\x51\x07\x00\x01", 0.0)
        mote.rejoin()
        self.assertFalse(mote.joined)
        self.assertEqual((mote.mac.rate, mote.mac.power), (0, 0))
        ((_, request, _, _),) = self.until(1)
        self.assertEqual(request, self.accept.join_request(9))


class UplinkTests(MoteTests):
    def test_messages(self) -> None:
        mote = self.joined(payload=10)
        first, second, third = self.until(3)
        heard = [self.reads(one) for one in (first, second, third)]
        self.assertEqual([int.from_bytes(one.payload[:4], "big") for one in heard], [0, 1, 2])
        self.assertEqual([len(one.payload) for one in heard], [10, 10, 10])
        self.assertEqual([one[1][5] for one in (first, second, third)], [0x80] * 3)
        self.assertTrue(85 < second[0] - first[0] < 115)
        self.assertEqual(mote.tally.messages, 3)

    def test_a_command_and_its_acknowledgement(self) -> None:
        mote = self.joined()
        (uplink,) = self.until(1)
        self.answer(uplink, 0, port=9, payload=b"go", confirmed=True)
        self.assertEqual(list(mote.tally.commands), [(9, b"go")])
        (after,) = self.until(1)
        self.assertEqual(after[1][5] & 0x20, 0x20)
        (later,) = self.until(1)
        self.assertEqual(later[1][5] & 0x20, 0)

    def test_what_is_old_or_forged_is_nothing(self) -> None:
        mote = self.joined()
        (uplink,) = self.until(1)
        self.answer(uplink, 5, port=9, payload=b"new")
        for fcnt, damage in ((5, b""), (4, b""), (6, b"\0\0\0\0")):
            (uplink,) = self.until(1)
            frame = self.frame(fcnt, port=9, payload=b"old")
            frame = frame[:-4] + damage if damage else frame
            self.down(frame, uplink[0] + 1.0, *uplink[2:])
        self.assertEqual((list(mote.tally.commands), mote.tally.unread), ([(9, b"new")], 3))

    def test_more_is_waiting(self) -> None:
        """FPending: it speaks again as soon as its windows are over."""
        self.joined()
        (uplink,) = self.until(1)
        self.answer(uplink, 0, port=9, payload=b"go", pending=True)
        (after,) = self.until(1)
        self.assertLess(after[0] - uplink[0], 8.0)

    def test_repetitions(self) -> None:
        """NbTrans copies of the same frame, unless something came."""
        mote = self.joined()
        mote.mac.repeats = 3
        copies = self.until(3)
        self.assertEqual(len({frame for _, frame, _, _ in copies}), 1)
        self.assertTrue(all(3.0 < two[0] - one[0] < 20.0 for one, two in pairwise(copies)))
        (uplink,) = self.until(1)
        self.answer(uplink, 0)
        (after,) = self.until(1)
        self.assertNotEqual(after[1], uplink[1])

    def test_confirmed(self) -> None:
        """Up to eight times, slower after each second one; an ACK ends it, another downlink does not."""
        mote = self.joined(confirmed=1.0, every=2_000.0)
        copies = self.until(8)
        self.assertEqual(len({frame for _, frame, _, _ in copies}), 1)
        self.assertEqual([modulation.spreading for _, _, _, modulation in copies], [7, 7, 8, 8, 9, 9, 10, 10])
        (uplink,) = self.until(1)
        self.assertNotEqual(uplink[1], copies[0][1])
        self.answer(uplink, 0)
        (again,) = self.until(1)
        self.assertEqual(again[1], uplink[1])
        self.answer(again, 1, ack=True)
        (after,) = self.until(1)
        self.assertNotEqual(after[1], uplink[1])
        self.assertEqual(mote.tally.acknowledged, 1)

    def test_no_second_window_after_the_first(self) -> None:
        """What was heard in RX1 closes RX2: a second downlink there is outside its window."""
        self.joined()
        (uplink,) = self.until(1)
        self.answer(uplink, 0)
        self.down(self.frame(1), uplink[0] + 2.0, 869_525_000, Modulation(12, 125_000))
        self.assertEqual(self.air.violated, 1)
        self.assertIn(f"served; RX1 at {uplink[0] + 1.0:.6f} s", self.air.violations[0].why)

    def test_answers_that_do_not_fit_go_alone(self) -> None:
        """DR0 of US915 has eleven bytes: the answers first, the message after them."""
        self.region = "us915"
        mote = self.joined(rate=0, payload=11)
        mote.mac.take(b"\x06", 0.0)
        alone, message = self.until(2)
        self.assertEqual((alone[1][5] & 15, len(alone[1])), (3, 15))
        self.assertEqual(len(self.reads(message).payload), 11)
        self.assertLess(message[0] - alone[0], 10.0)

    def test_many_answers_go_on_port_0(self) -> None:
        mote = self.joined()
        mote.mac.take(b"\x06" * 6, 0.0)
        alone, _ = self.until(2)
        self.assertEqual((alone[1][5] & 15, alone[1][8]), (0, 0))
        self.assertEqual(self.reads(alone).payload, bytes((6, 200, 0)) * 6)

    def test_its_duty_cycles(self) -> None:
        """1 % of each band, and less if the network says so."""
        mote = self.joined(rate=0, every=12.0)
        mote.mac.channels = {0: mote.mac.channels[0]}
        mote.mac.enabled = frozenset({0})
        self.clock.advance(7_200.0)
        (share,) = mote.ledger.shares(mote.plan)
        self.assertLess(share.used, 36.0 + 2.0)
        self.assertGreater(share.used, 30.0)
        mote.mac.take(b"\x04\x0a", 0.0)
        before = mote.tally.sent_seconds
        self.clock.advance(4 * 3_600.0)
        self.assertLess(mote.tally.sent_seconds - before, 4 * 3_600 / 1024 + 2.0)


class ClassCTests(MoteTests):
    def test_it_listens_always_and_acknowledges_at_once(self) -> None:
        mote = self.joined(class_c=True)
        (uplink,) = self.until(1)
        when = uplink[0] + 12.345
        self.down(self.frame(0, port=9, payload=b"go", confirmed=True), when, 869_525_000, Modulation(12, 125_000))
        self.assertEqual((list(mote.tally.commands), self.air.violations), ([(9, b"go")], []))
        (after,) = self.until(1)
        self.assertEqual(after[1][5] & 0x20, 0x20)
        self.assertLess(after[0] - when, 4.0)

    def test_where_it_listens_follows_its_parameters(self) -> None:
        mote = self.joined(class_c=True)
        (uplink,) = self.until(1)
        self.answer(uplink, 0, fopts=b"\x05\x03" + (8_695_250).to_bytes(3, "little"))
        at = self.clock.seconds() + 5.0
        self.down(self.frame(1, port=9, payload=b"x"), at, 869_525_000, Modulation(12, 125_000))
        self.assertEqual((mote.tally.commanded, self.air.violated), (0, 1))
        self.down(self.frame(1, port=9, payload=b"x"), at + 5.0, 869_525_000, Modulation(9, 125_000))
        self.assertEqual((mote.tally.commanded, self.air.violated), (1, 1))

    def test_switched_off(self) -> None:
        mote = self.joined(class_c=True)
        mote.stop()
        self.clock.advance(1_000.0)
        self.assertEqual(self.ear.got, [])
        self.assertEqual([call for call in self.clock.getDelayedCalls() if call.active()], [])
