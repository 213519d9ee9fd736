"""Frame counters."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from broker.devices.lorawan.counter import MAX_COUNTER, reconstruct, repeated


class CounterTests(SynchronousTestCase):
    def test_rows(self) -> None:
        for expected, bits, full in (
            (0, 0, 0),
            (0, 65535, 65535),
            (1, 0, 65536),
            (5, 5, 5),
            (5, 9, 9),
            (65535, 65535, 65535),
            (65536, 0, 65536),
            (65536, 65535, 131071),
            (70000, 4464, 70000),
            (MAX_COUNTER, 65535, MAX_COUNTER),
            (MAX_COUNTER, 0, None),
            (MAX_COUNTER + 1, 0, None),
        ):
            self.assertEqual(reconstruct(expected, bits), full, (expected, bits))

    @given(st.integers(0, MAX_COUNTER), st.integers(0, 65535))
    def test_forward_and_true_to_the_bits(self, expected: int, ahead: int) -> None:
        meant = expected + ahead
        full = reconstruct(expected, meant & 0xFFFF)
        self.assertEqual(full, meant if meant <= MAX_COUNTER else None)

    def test_the_frame_before(self) -> None:
        self.assertFalse(repeated(0, 65535))
        self.assertTrue(repeated(1, 0))
        self.assertTrue(repeated(65536, 65535))
        self.assertFalse(repeated(5, 5))
        self.assertFalse(repeated(5, 3))
