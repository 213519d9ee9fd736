"""Every row of the regional parameters against what the documents print (`region_tables`)."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from itertools import pairwise

from twisted.trial.unittest import SynchronousTestCase

from broker.devices.lorawan.regions import REGIONS, Region, data_rate
from tests.devices.lorawan.region_tables import JOINS, ROWS, Row


def hertz(megahertz: str) -> int:
    return int(Decimal(megahertz) * 1_000_000)


def spread(first: str, last: str, step: int, count: int) -> list[int]:
    """Frequencies of a line of a channel table."""
    found = [hertz(first) + step * 1000 * number for number in range(count)]
    assert found[-1] == hertz(last), (first, last)
    return found


def numbers(line: str) -> list[int]:
    return [int(word) for word in line.split()]


class TableTests(SynchronousTestCase):
    def rows(self) -> Iterator[tuple[Row, Region]]:
        for row in ROWS:
            yield row, REGIONS[row.name]

    def test_all_rows_are_here(self) -> None:
        self.assertEqual({row.name for row in ROWS}, set(REGIONS))
        self.assertEqual(len(ROWS), 14)
        for row, region in self.rows():
            self.assertEqual((region.name, region.family), (row.name, row.family))

    def test_data_rates(self) -> None:
        for row, region in self.rows():
            self.assertEqual([rate and rate.datr for rate in region.rates], row.rates, row.name)
            up, down = (numbers(line) for line in row.directions)
            self.assertEqual((list(region.rates_up), list(region.rates_down)), (up, down))
            unknown: list[str | int] = ["SF6BW125", "SF13BW125", "SF12BW250", "", "LORA", 0, 38_400]
            known = [datr for datr in row.rates if datr is not None]
            for datr in known + unknown:
                wanted = [number for number in up if row.rates[number] == datr]
                self.assertEqual(region.rate_of(datr), wanted[0] if wanted else None, (row.name, datr))
                wanted = [number for number in down if row.rates[number] == datr]
                self.assertEqual(region.downlink_rate_of(datr), wanted[0] if wanted else None, (row.name, datr))
            for number, name in enumerate(row.rates):
                if name is None:
                    self.assertRaises(ValueError, region.rate, number)
                else:
                    self.assertEqual(region.rate(number).datr, name)
                    self.assertEqual(data_rate(name), region.rate(number))
            for number in (-1, len(row.rates)):
                self.assertRaises(ValueError, region.rate, number)

    def test_rates_of_adr(self) -> None:
        for row, region in self.rows():
            for number in region.uplink_rates:
                self.assertTrue(str(row.rates[number]).endswith("BW125"), row.name)
                self.assertGreater(row.sizes[number], 0)
            fast = region.uplink_rates[-1] + 1
            self.assertFalse(fast < len(row.rates) and str(row.rates[fast]).endswith("BW125"))

    def test_channels_up(self) -> None:
        for row, region in self.rows():
            wanted = [
                (number, frequency, least, most)
                for start, first, last, step, count, least, most in row.up
                for number, frequency in enumerate(spread(first, last, step, count), start)
            ]
            found = [
                (channel.index, channel.frequency, channel.min_rate, channel.max_rate) for channel in region.channels_up
            ]
            self.assertEqual(found, wanted, row.name)
            self.assertEqual(region.fixed, bool(row.down))
            self.assertEqual(list(region.extra), [hertz(text) for text in row.extra])

    def test_rx1_frequencies(self) -> None:
        for row, region in self.rows():
            down = [frequency for line in row.down for frequency in spread(*line)]
            self.assertEqual(list(region.channels_down), down)
            for channel in region.channels_up:
                wanted = down[channel.index % len(down)] if down else channel.frequency
                self.assertEqual(region.rx1_frequency(channel.frequency), wanted, (row.name, channel))
                # Gateways round; a channel between two is none.
                for beside in (-400, 400):
                    heard = region.rx1_frequency(channel.frequency + beside)
                    self.assertEqual(heard, wanted if down else channel.frequency + beside)
                if down:
                    self.assertIs(region.channel_of(channel.frequency), channel)
                    self.assertIsNone(region.rx1_frequency(channel.frequency + 50_000))
                    self.assertIsNone(region.rx1_frequency(channel.frequency - 20_000))
            if down:
                for stranger in (0, 433_175_000, 868_100_000, region.channels_up[0].frequency - 200_000):
                    self.assertIsNone(region.rx1_frequency(stranger), (row.name, stranger))

    def test_no_two_channels_are_taken_for_one(self) -> None:
        for row, region in self.rows():
            if region.fixed:
                frequencies = sorted(channel.frequency for channel in region.channels_up)
                self.assertTrue(all(frequency % 100_000 == 0 for frequency in frequencies), row.name)
                self.assertTrue(all(one < other for one, other in pairwise(frequencies)), row.name)

    def test_rx1_rates(self) -> None:
        for row, region in self.rows():
            for table, dwell in ((row.rx1, False), (row.rx1_dwell, True)):
                self.assertEqual(len(table), max(region.rates_up) + 1)
                for uplink in region.rates_up:
                    line = numbers(table[uplink])
                    for offset, wanted in enumerate(line):
                        found = region.rx1_rate(uplink, offset, dwell=dwell)
                        self.assertEqual(found, wanted, (row.name, uplink, offset, dwell))
                        self.assertIn(found, region.rates_down)
                    for offset in range(len(line), 8):
                        self.assertEqual(region.rx1_rate(uplink, offset, dwell=dwell), line[-1])

    def test_rx2(self) -> None:
        for row, region in self.rows():
            frequency, rate = row.rx2
            self.assertEqual((region.rx2_frequency, region.rx2_rate), (hertz(frequency), rate), row.name)
            self.assertIn(region.rx2_rate, region.rates_down)
            self.assertEqual(region.rx2_for(None), hertz(frequency))

    def test_sizes(self) -> None:
        for row, region in self.rows():
            self.assertEqual(list(region.max_payload), row.sizes, row.name)
            for rate in range(len(row.rates)):
                plain, repeater, dwell = row.sizes[rate], row.repeater[rate], row.dwell[rate]
                self.assertEqual(region.payload_limit(rate), plain)
                self.assertEqual(region.uplink_limit(rate), plain)
                self.assertEqual(region.payload_limit(rate, repeater=True), repeater)
                self.assertEqual(region.payload_limit(rate, dwell=True), dwell)
                self.assertEqual(region.uplink_limit(rate, dwell=True), dwell)
                self.assertEqual(region.payload_limit(rate, dwell=True, repeater=True), min(dwell, repeater))

    def test_powers(self) -> None:
        for row, region in self.rows():
            self.assertEqual(region.max_eirp, row.max_eirp, row.name)
            self.assertEqual(len(region.powers), row.powers + 1)
            for index, power in enumerate(region.powers):
                self.assertAlmostEqual(power, row.max_eirp - 2 * index)
            self.assertEqual(region.power, row.power)

    def test_bands(self) -> None:
        for row, region in self.rows():
            self.assertEqual(len(region.bands), len(row.bands), row.name)
            for low, high, percent in row.bands:
                for frequency in (hertz(low), hertz(high) - 1):
                    band = region.band_of(frequency)
                    assert band is not None
                    self.assertAlmostEqual(band.duty * 100, percent)
                    self.assertEqual((band.low, band.high), (hertz(low), hertz(high)))
            frequencies = {channel.frequency for channel in region.channels_up} | {*region.channels_down, *region.extra}
            for frequency in frequencies | {region.rx2_frequency}:
                self.assertEqual(region.band_of(frequency) is not None, bool(row.bands), (row.name, frequency))
        self.assertIsNone(REGIONS["eu868"].band_of(868_650_000))
        self.assertIsNone(REGIONS["eu868"].band_of(870_000_000))

    def test_dwell_times(self) -> None:
        for row, region in self.rows():
            self.assertEqual((region.dwell_time_up, region.dwell_time_down), (row.dwell_up, False), row.name)
            self.assertEqual(region.tx_param_setup, row.dwell_up)
            self.assertEqual(region.dwell_payload is not None, row.dwell_up)

    def test_join_channels(self) -> None:
        for number, (name, up, rx1, rx2) in enumerate(JOINS):
            for plan in ("cn470-a20", "cn470-b20", "cn470-a26", "cn470-b26"):
                region = REGIONS[plan]
                if plan == name:
                    self.assertEqual(region.join_channel(hertz(up)), number)
                    self.assertEqual(region.join_channel(hertz(up) - 300), number)
                    self.assertEqual(region.rx1_frequency(hertz(up), join=True), hertz(rx1))
                    self.assertEqual(region.rx2_for(number), hertz(rx2))
                    self.assertIsNone(region.join_channel(hertz(up) + 100_000))
                else:
                    self.assertIsNone(region.join_channel(hertz(up)), (plan, up))
                    self.assertIsNone(region.rx1_frequency(hertz(up), join=True))
        for row, region in self.rows():
            wanted = [number for number, (name, *_) in enumerate(JOINS) if name == row.name]
            self.assertEqual([channel.index for channel in region.join_channels], wanted)
            if not wanted:
                channel = region.channels_up[0].frequency
                self.assertIsNone(region.join_channel(channel))
                self.assertEqual(region.rx1_frequency(channel, join=True), region.rx1_frequency(channel))

    def test_channel_lists(self) -> None:
        for row, region in self.rows():
            self.assertEqual(region.cf_list_type, row.cf_list, row.name)
            rules = region.mask_rules
            self.assertEqual((rules.all_on, rules.all_off, rules.blocks), row.controls)
            self.assertEqual(rules.channels, max(16, len(region.channels_up)) if row.down else 16)


class DataRateTests(SynchronousTestCase):
    def test_read(self) -> None:
        self.assertEqual(data_rate("SF8BW500"), (8, 500_000))
        self.assertEqual(data_rate(50_000), (0, 50_000))

    def test_what_is_none(self) -> None:
        for text in ("", "SF8", "SF8BW", "sf8bw500", "SF8BW500 ", " SF8BW500", "SF8BW5000000", "SFxBW125", "50000"):
            self.assertRaises(ValueError, data_rate, text)
