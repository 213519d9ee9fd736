"""What motes know of their region beside what the network knows: two tables that were written apart."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from broker.devices.lorawan.regions import REGIONS, Region
from broker.simulate.lorawan.plans import PLANS, Plan
from broker.simulate.lorawan.town import heard_channels, join_block, preset

PAIRS = [(REGIONS[name], plan) for name, plan in PLANS.items()]


class BothTablesTests(SynchronousTestCase):
    def test_every_region(self) -> None:
        self.assertEqual(set(PLANS), set(REGIONS))

    def test_data_rates(self) -> None:
        for region, plan in PAIRS:
            for number, modulation in plan.rates.items():
                self.assertEqual(region.rate(number).datr, modulation.datr, (region.name, number))
                self.assertEqual(region.rate(number).required_snr, modulation.required_snr, (region.name, number))

    def test_channels(self) -> None:
        for region, plan in PAIRS:
            theirs = [(channel.frequency, channel.min_rate, channel.max_rate) for channel in region.channels_up]
            self.assertEqual(theirs, [channel[:3] for channel in plan.channels], region.name)

    def test_rx1(self) -> None:
        """Frequency and data rate after each uplink that there can be, with each offset and dwell time."""
        for region, plan in PAIRS:
            for channel in plan.channels:
                self.assertEqual(region.rx1_frequency(channel.frequency), channel.down or channel.frequency)
            dwells = (False,) if plan.payloads_dwell is None else (False, True)
            for rate in plan.uplink_rates:
                for offset in range(plan.offsets):
                    for dwell in dwells:
                        ours = plan.rx1_rate(rate, offset, dwell)
                        theirs = region.rx1_rate(rate, offset, dwell=dwell)
                        self.assertEqual(theirs, ours, (region.name, rate, offset, dwell))

    def test_rx2(self) -> None:
        for region, plan in PAIRS:
            self.assertEqual((region.rx2_frequency, region.rx2_rate), (plan.rx2_frequency, plan.rx2_rate), region.name)

    def test_joins(self) -> None:
        for region, plan in PAIRS:
            self.assertEqual(len(region.join_channels), len(plan.join_channels))
            for join in plan.join_channels:
                self.assertEqual(region.rx1_frequency(join.frequency, join=True), join.down, region.name)
                self.assertEqual(region.rx2_for(region.join_channel(join.frequency)), join.rx2, region.name)

    def test_sizes(self) -> None:
        for region, plan in PAIRS:
            for rate in plan.uplink_rates:
                self.assertEqual(region.uplink_limit(rate), plan.payload(rate, False), (region.name, rate))
                if plan.payloads_dwell is not None:
                    self.assertEqual(region.uplink_limit(rate, dwell=True), plan.payload(rate, True), region.name)

    def test_masks(self) -> None:
        """What each ChMaskCntl makes of channels; the network may forbid itself what a mote would take."""
        compared = 0
        for region, plan in PAIRS:
            every = frozenset(range(len(plan.channels)))
            for control in range(8):
                for mask in (0x0000, 0x0001, 0x00FF, 0x0007, 0xFFFF, 0x5A5A):
                    theirs = region.apply_mask(every, control, mask)
                    ours = plan.mask(plan, every, control, mask)
                    if theirs is None or ours is None or -1 in ours or not plan.dynamic or not ours <= every:
                        continue
                    compared += 1
                    self.assertEqual(theirs, ours, (region.name, control, mask))
            for block in range(region.blocks):
                wanted = region.block(block)
                on = every
                for control, mask in region.masks(wanted):
                    changed = plan.mask(plan, on, control, mask)
                    assert changed is not None
                    on = changed
                self.assertEqual(on, wanted, (region.name, block))
        self.assertGreater(compared, 5)

    def test_power(self) -> None:
        for region, plan in PAIRS:
            self.assertEqual(region.max_eirp, plan.eirp, region.name)
            self.assertLessEqual(len(region.powers), plan.powers, region.name)
            for number, power in enumerate(region.powers):
                self.assertAlmostEqual(power, plan.eirp - 2 * number, 6, region.name)

    def test_duty_cycles(self) -> None:
        for region, plan in PAIRS:
            self.assertEqual([band[:3] for band in region.bands], [band[:3] for band in plan.bands], region.name)


class TownTests(SynchronousTestCase):
    def test_motes_can_join(self) -> None:
        """The channels that gateways hear have one on which motes join, and all have their RX1."""
        for region, plan in PAIRS:
            heard = heard_channels(region.name, join_block(region.name))
            self.assertTrue(heard & self._joins(plan), region.name)
            self.assertLessEqual(len(heard), 9)
            self.assertEqual(bool(preset(region.name, join_block(region.name))), region.fixed)

    def _joins(self, plan: Plan) -> set[int]:
        places = plan.join_channels or plan.channels
        return {place.frequency for place in places}

    def test_blocks(self) -> None:
        region: Region = REGIONS["us915"]
        self.assertEqual(len(heard_channels("us915", 7)), 9)
        self.assertRaises(ValueError, heard_channels, "us915", region.blocks)
