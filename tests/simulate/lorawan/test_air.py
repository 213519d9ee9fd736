"""The air by itself: a station and motes that only note what they hear."""

from __future__ import annotations

import random

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from broker.simulate.lorawan.air import TOLERANCE, Air, Window
from broker.simulate.lorawan.ledger import Ledger
from broker.simulate.lorawan.radio import Modulation

SLOW = Modulation(12, 125_000)
FAST = Modulation(7, 125_000)
F1, F2 = 868_100_000, 868_300_000
#: dB that leave -100 dBm of 14 dBm: loud enough for any data rate.
NEAR = 114.0


class Station:
    """A gateway's radio."""

    def __init__(self, air: Air, number: int) -> None:
        self.number = number
        self.name = f"gateway {number}"
        self.ledger = Ledger()
        self.heard = frozenset((F1, F2))
        self.demodulators = 8
        self.busy = 0
        self.sends: list[tuple[float, float]] = []
        self.got: list[bytes] = []
        self.snr = 0.0
        air.stations.append(self)

    def sending(self, start: float, end: float) -> bool:
        return any(start < until and begin < end for begin, until in self.sends)

    def received(
        self, frame: bytes, frequency: int, modulation: Modulation, rssi: float, snr: float, end: float
    ) -> None:
        self.got.append(frame)
        self.snr = snr


class Listener:
    """A mote's radio."""

    def __init__(self, air: Air, *paths: float, address: int | None = None) -> None:
        self.name = "mote"
        self.ledger = Ledger()
        self.windows: list[Window] = []
        self.got: list[tuple[bytes, int]] = []
        self.sends = False
        air.place(self, list(paths))
        air.named(self, None, address)

    def listens(self, start: float, frequency: int, modulation: Modulation) -> Window | None:
        for window in self.windows:
            if window[1:3] == (frequency, modulation) and (not window.number or abs(window.start - start) <= TOLERANCE):
                return window
        return None

    def deaf(self, start: float) -> bool:
        return self.sends

    def windows_text(self) -> str:
        return "its windows"

    def hears(self, frame: bytes, window: Window, start: float, end: float, snr: float) -> None:
        self.got.append((frame, window.number))


class AirTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.air = Air(self.clock, random.Random(1), fading=0.0)
        self.one, self.two = Station(self.air, 0), Station(self.air, 1)

    def up(self, mote: Listener, frame: bytes, modulation: Modulation = FAST, frequency: int = F1) -> float:
        return self.air.up(mote, frame, frequency, modulation, 14.0, self.clock.seconds())

    def end(self) -> None:
        self.clock.advance(10.0)


class UplinkTests(AirTests):
    def test_sensitivity(self) -> None:
        """SF7 needs -124.5 dBm or so, SF12 12.5 dB less."""
        mote = Listener(self.air, 14.0 + 124.0, 14.0 + 126.0)
        self.up(mote, b"fast")
        self.end()
        self.up(mote, b"slow", SLOW)
        self.end()
        self.assertEqual((self.one.got, self.two.got), ([b"fast", b"slow"], [b"slow"]))
        self.assertAlmostEqual(self.two.snr, 14.0 - 140.0 - (-117.0), 0)
        self.assertEqual((self.air.counted.heard, self.air.counted.weak), (3, 1))
        self.assertEqual(len(mote.ledger), 2)

    def test_another_channel(self) -> None:
        self.up(Listener(self.air, NEAR, NEAR), b"x", frequency=F1 + 1_000_000)
        self.end()
        self.assertEqual(self.one.got, [])

    def test_nothing_before_its_end(self) -> None:
        end = self.up(Listener(self.air, NEAR, NEAR), b"x" * 20)
        self.clock.advance(end - 0.001)
        self.assertEqual(self.one.got, [])
        self.clock.advance(0.002)
        self.assertEqual(self.one.got, [b"x" * 20])

    def test_capture(self) -> None:
        """Of two that overlap the one that is 6 dB stronger survives, gateway by gateway; of equals none."""
        a, b = Listener(self.air, NEAR, NEAR + 3.0), Listener(self.air, NEAR + 7.0, NEAR)
        self.up(a, b"a" * 20)
        self.clock.advance(0.02)
        self.up(b, b"b" * 20)
        self.end()
        self.assertEqual((self.one.got, self.two.got), ([b"a" * 20], []))
        self.assertEqual(self.air.counted.collided, 3)

    def test_preamble(self) -> None:
        """A packet that another leaves five symbols of preamble survives it; one that it leaves four does not."""
        mote, other = Listener(self.air, NEAR, NEAR), Listener(self.air, NEAR, NEAR)
        for symbols, survives in ((2.5, True), (3.5, False)):
            first = self.up(mote, b"a" * 20)
            self.clock.advance(first - self.clock.seconds() - symbols * FAST.symbol)
            self.one.got.clear()
            self.up(other, b"b" * 20)
            self.end()
            self.assertEqual(b"b" * 20 in self.one.got, survives, symbols)
            self.assertNotIn(b"a" * 20, self.one.got)

    def test_channels_are_apart(self) -> None:
        for frequency in (F1, F2):
            self.up(Listener(self.air, NEAR, NEAR), b"x" * 20, frequency=frequency)
        self.end()
        self.assertEqual(len(self.one.got), 2)

    def test_other_spreading_factors(self) -> None:
        """They are noise: a far mote drowns in a near one of another data rate, two alike do not."""
        near, far = Listener(self.air, NEAR - 40.0, NEAR), Listener(self.air, NEAR, NEAR)
        self.up(far, b"far" * 8, SLOW)
        self.clock.advance(0.2)
        self.up(near, b"near" * 6)
        self.end()
        self.assertEqual((self.one.got, self.two.got), ([b"near" * 6], [b"near" * 6, b"far" * 8]))
        self.air.orthogonal = True
        self.up(far, b"far" * 8, SLOW)
        self.clock.advance(0.2)
        self.up(near, b"near" * 6)
        self.end()
        self.assertEqual(self.one.got[1:], [b"near" * 6, b"far" * 8])

    def test_demodulators(self) -> None:
        """Eight at once, on any channels and data rates; the ninth is lost."""
        self.air.orthogonal = True
        for number in range(9):
            self.one.heard |= {F1 + number}
            self.up(Listener(self.air, NEAR, 200.0), bytes((number,)), frequency=F1 + number)
        self.end()
        self.assertEqual(sorted(self.one.got), [bytes((number,)) for number in range(8)])
        self.assertEqual((self.air.counted.no_demodulator, self.one.busy), (1, 0))

    def test_half_duplex(self) -> None:
        """A gateway that sends while a packet comes in hears nothing of it."""
        self.one.sends.append((0.03, 0.05))
        self.up(Listener(self.air, NEAR, NEAR), b"x" * 20)
        self.end()
        self.assertEqual((self.one.got, self.two.got), ([], [b"x" * 20]))
        self.assertEqual(self.air.counted.half_duplex, 1)

    def test_loss(self) -> None:
        self.air.loss = 1.0
        self.up(Listener(self.air, NEAR, NEAR), b"x")
        self.end()
        self.assertEqual(self.one.got + self.two.got, [])


class DownlinkTests(AirTests):
    #: An unconfirmed downlink to 01020304.
    FRAME = bytes.fromhex("60040302010000000000000000")

    def down(self, frame: bytes = FRAME, frequency: int = F1, modulation: Modulation = FAST) -> None:
        self.air.down(self.one, frame, frequency, modulation, 14.0, self.clock.seconds())
        self.end()

    def mote(self, start: float, number: int = 1, path: float = NEAR) -> Listener:
        mote = Listener(self.air, path, path, address=0x01020304)
        window = Window(start, F1, FAST, number)
        mote.windows.append(window)
        if number:
            self.air.opens(mote, window)
        else:
            self.air.tuned(mote, None, window)
        return mote

    def test_in_its_window(self) -> None:
        mote = self.mote(1.0)
        self.clock.advance(1.0 + TOLERANCE / 2)
        self.down()
        self.assertEqual((mote.got, self.air.violations), ([(self.FRAME, 1)], []))
        self.assertEqual([one[2:] for one in self.one.ledger.emissions()], [(F1, 14.0)])

    def test_beside_its_window(self) -> None:
        """Too late by 30 us, on another frequency, at another data rate: unheard, and noted."""
        mote = self.mote(1.0)
        self.clock.advance(1.0)
        self.down(frequency=F2)
        self.clock.advance(-10.0)
        self.down(modulation=SLOW)
        self.clock.advance(-10.0 + 1.5 * TOLERANCE)
        self.down()
        self.assertEqual((mote.got, self.air.violated), ([], 3))
        self.assertEqual({one.mote for one in self.air.violations}, {"mote"})
        self.assertIn("868.3000 MHz SF7BW125: its windows", self.air.violations[0].why)

    def test_nobody_is_there(self) -> None:
        self.down()
        self.down(bytes.fromhex("20") + bytes(16))
        self.assertEqual([one.mote for one in self.air.violations], ["01020304", "?"])

    def test_a_join_accept_is_for_whoever_waits(self) -> None:
        mote = self.mote(1.0)
        self.clock.advance(1.0)
        self.down(bytes.fromhex("20") + bytes(16))
        self.assertEqual((len(mote.got), self.air.violated), (1, 0))

    def test_one_that_sends_does_not_hear(self) -> None:
        """That is nobody's fault but the moment's."""
        mote = self.mote(1.0)
        mote.windows.clear()
        mote.sends = True
        self.clock.advance(1.0)
        self.down()
        self.assertEqual((mote.got, self.air.violated, self.air.counted.down_deaf), ([], 0, 1))

    def test_class_c_listens_always(self) -> None:
        mote = self.mote(0.0, number=0)
        self.clock.advance(123.4567)
        self.down()
        self.assertEqual(mote.got, [(self.FRAME, 0)])
        self.air.tuned(mote, mote.windows.pop(), None)
        self.down()
        self.assertEqual(self.air.violated, 1)

    def test_weak(self) -> None:
        mote = self.mote(1.0, path=NEAR + 40.0)
        self.clock.advance(1.0)
        self.down()
        self.assertEqual((mote.got, self.air.violated, self.air.counted.down_weak), ([], 0, 1))

    def test_two_gateways_at_once(self) -> None:
        """Equally loud: neither is heard. What motes send does not disturb: its polarity is another."""
        mote = self.mote(1.0)
        self.clock.advance(1.0)
        self.up(Listener(self.air, NEAR, NEAR), b"x" * 20)
        self.air.down(self.two, self.FRAME, F1, FAST, 14.0, self.clock.seconds())
        self.down()
        self.assertEqual((mote.got, self.air.counted.down_drowned), ([], 2))
        self.assertEqual(self.two.got, [b"x" * 20])
