"""The airtime of packets."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from broker.devices.lorawan.airtime import airtime
from broker.devices.lorawan.regions import DataRate


class AirtimeTests(SynchronousTestCase):
    def test_rows(self) -> None:
        for spreading, size, crc, milliseconds in (
            (7, 23, True, 61.696),
            (8, 23, True, 113.152),
            (9, 23, True, 205.824),
            (10, 23, True, 370.688),
            (11, 23, True, 823.296),
            (12, 23, True, 1482.752),
            (7, 12, True, 41.216),
            (12, 12, True, 1155.072),
            (12, 12, False, 991.232),
        ):
            seconds = airtime(DataRate(spreading, 125_000), size, crc)
            self.assertAlmostEqual(seconds * 1000, milliseconds, places=3, msg=str((spreading, size)))

    def test_fsk(self) -> None:
        self.assertAlmostEqual(airtime(DataRate(0, 50_000), 39), 0.008)
