"""The numbers of the physical layer, against those that were measured or calculated by others."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from broker.devices.lorawan import airtime
from broker.devices.lorawan.regions import REGIONS
from broker.simulate.lorawan import radio
from broker.simulate.lorawan.forwarder import modulation_of
from broker.simulate.lorawan.radio import Modulation

#: ms of 23 bytes at coding rate 4/5 with CRC, by spreading factor at 125 kHz (Semtech's lgw_time_on_air).
UPLINKS = {7: 61.696, 8: 113.152, 9: 205.824, 10: 370.688, 11: 823.296, 12: 1482.752}


class AirtimeTests(SynchronousTestCase):
    def test_known(self) -> None:
        for spreading, milliseconds in UPLINKS.items():
            self.assertAlmostEqual(Modulation(spreading, 125_000).airtime(23, crc=True) * 1000, milliseconds)
        slow = Modulation(12, 125_000)
        self.assertAlmostEqual(slow.airtime(12, crc=True) * 1000, 1155.072)
        self.assertAlmostEqual(slow.airtime(12, crc=False) * 1000, 991.232)

    def test_the_broker_counts_alike(self) -> None:
        """Every data rate of every region and every size: two calculations that share nothing."""
        seen = set()
        for region in REGIONS.values():
            for rate in region.rates:
                if rate is None or rate in seen:
                    continue
                seen.add(rate)
                ours = modulation_of(rate.datr)
                for size in range(12, 256):
                    for crc in (False, True):
                        self.assertAlmostEqual(
                            ours.airtime(size, crc=crc), airtime.airtime(rate, size, crc=crc), 9, (rate, size, crc)
                        )
        self.assertGreater(len(seen), 8)


class LossTests(SynchronousTestCase):
    def test_path(self) -> None:
        """The measurements of Oulu: 128.95 dB at one kilometre, 23.2 dB more at ten."""
        self.assertAlmostEqual(radio.path_loss(1.0), 128.95)
        self.assertAlmostEqual(radio.path_loss(10.0), 152.15)
        self.assertEqual(radio.path_loss(0.0), radio.path_loss(radio.NEAREST))

    def test_sensitivity(self) -> None:
        """The data sheet has -123 dBm for SF7 and -136 dBm for SF12, at 125 kHz."""
        self.assertAlmostEqual(Modulation(7, 125_000).sensitivity, -124.5, 0)
        self.assertAlmostEqual(Modulation(12, 125_000).sensitivity, -137.0, 0)

    def test_capture(self) -> None:
        for wanted in range(7, 13):
            for other in range(7, 13):
                needed = radio.rejection(wanted, other)
                if wanted == other:
                    self.assertEqual(needed, 6.0)
                else:
                    self.assertLess(needed, -7.0)

    def test_current(self) -> None:
        self.assertEqual([radio.sending_current(dbm) for dbm in (2, 7, 13, 17, 20, 30)], [20, 20, 29, 87, 120, 120])
        self.assertAlmostEqual(radio.sending_current(15), 58.0)

    def test_data_rates(self) -> None:
        self.assertEqual(modulation_of("SF10BW125"), Modulation(10, 125_000))
        self.assertEqual(modulation_of(50_000), Modulation(0, 50_000))
        self.assertRaises(ValueError, modulation_of, "SFxBW")
