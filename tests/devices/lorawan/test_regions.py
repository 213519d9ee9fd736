"""Regional parameters, row by row as the documents print them, and the airtime."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from broker.devices.lorawan.airtime import airtime
from broker.devices.lorawan.regions import CN470, EU868, REGIONS, DataRate

AS923 = REGIONS["as923"]


class RegionTests(SynchronousTestCase):
    def test_every_row_is_whole(self) -> None:
        for name, region in REGIONS.items():
            self.assertEqual(region.name, name)
            self.assertEqual(len(region.rates), len(region.max_payload))
            self.assertLess(region.rx2_rate, len(region.rates))
            self.assertIn(len(region.cf_list_bytes()), (0, 16))
            for number in region.rates_up:
                self.assertEqual(region.rate_of(region.rate(number).datr), number)

    def test_data_rates(self) -> None:
        self.assertEqual([rate.datr for rate in CN470.rates if rate], [f"SF{n}BW125" for n in (12, 11, 10, 9, 8, 7)])
        self.assertEqual(EU868.rate(6).datr, "SF7BW250")
        self.assertEqual(EU868.rate(7).datr, 50_000)
        self.assertIsNone(CN470.rate_of("SF7BW250"))
        self.assertIsNone(EU868.rate_of("SF7BW500"))

    def test_rx1_rate(self) -> None:
        for uplink in range(6):
            for offset in range(6):
                slower = max(0, uplink - offset)
                self.assertEqual(EU868.rx1_rate(uplink, offset), slower)
                self.assertEqual(CN470.rx1_rate(uplink, offset), slower)
                self.assertEqual(AS923.rx1_rate(uplink, offset), slower)
            self.assertEqual(AS923.rx1_rate(uplink, 6), min(5, uplink + 1))
            self.assertEqual(AS923.rx1_rate(uplink, 7), min(5, uplink + 2))
        self.assertEqual(EU868.rx1_rate(7, 0), 7)
        self.assertEqual(AS923.rx1_rate(7, 0), 5)

    def test_rx1_frequency(self) -> None:
        self.assertEqual(EU868.rx1_frequency(868_300_000), 868_300_000)
        self.assertEqual(AS923.rx1_frequency(923_400_000), 923_400_000)
        for uplink, downlink in (
            (470_300_000, 500_300_000),
            (479_700_000, 509_700_000),  # channel 47
            (479_900_000, 500_300_000),  # 48 begins again
            (489_300_000, 509_700_000),  # 95
            (486_300_000, 506_700_000),  # 80 of what gateways call cn470_10
            (486_300_400, 506_700_000),
        ):
            self.assertEqual(CN470.rx1_frequency(uplink), downlink, uplink)
        for stranger in (470_100_000, 489_500_000, 470_400_000, 868_100_000, 0):
            self.assertIsNone(CN470.rx1_frequency(stranger), stranger)

    def test_rx2(self) -> None:
        self.assertEqual((EU868.rx2_frequency, EU868.rx2_rate), (869_525_000, 0))
        self.assertEqual((CN470.rx2_frequency, CN470.rx2_rate), (505_300_000, 0))
        self.assertEqual((AS923.rx2_frequency, AS923.rx2_rate), (923_200_000, 2))
        self.assertEqual(REGIONS["as923-2"].rx2_frequency, 921_400_000)
        self.assertEqual(REGIONS["as923-3"].rx2_frequency, 916_600_000)
        self.assertEqual(REGIONS["as923-4"].rx2_frequency, 917_300_000)

    def test_sizes(self) -> None:
        self.assertEqual(EU868.max_payload, (59, 59, 59, 123, 250, 250, 250, 250))
        self.assertEqual(CN470.max_payload, (59, 59, 59, 123, 250, 250))

    def test_bands(self) -> None:
        for frequency, duty in (
            (868_100_000, 0.01),
            (867_100_000, 0.01),
            (869_525_000, 0.1),
            (869_000_000, 0.001),
            (863_500_000, 0.001),
        ):
            band = EU868.band_of(frequency)
            assert band is not None
            self.assertEqual(band.duty, duty, frequency)
        self.assertIsNone(EU868.band_of(868_650_000))
        self.assertIsNone(CN470.band_of(500_300_000))

    def test_channels_told_at_a_join(self) -> None:
        self.assertEqual(EU868.cf_list_bytes().hex(), "184f84e85684b85e84886684586e8400")
        self.assertEqual(CN470.cf_list_bytes(), b"")


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
