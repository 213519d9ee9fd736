"""Simulated days with the broker's own network: judged by motes and by arithmetic that are not its own.

The long one is the acceptance test of the whole: 500 motes, EU868, 24 hours, with ADR and without; some 40 CPU seconds.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from broker.devices.lorawan.regions import REGIONS
from broker.simulate.lorawan.day import Day, Scenario
from broker.simulate.lorawan.plans import PLANS
from broker.simulate.lorawan.report import Report, report_of
from broker.simulate.lorawan.tables import rates, shares, table, wrong

ROOT: Final = Path(__file__).resolve().parents[2]


def simulated(scenario: Scenario, **settings: Any) -> Report:
    day = Day(scenario, **settings)
    begun = time.process_time()
    day.run()
    return report_of(day, time.process_time() - begun)


class DayTests(SynchronousTestCase):
    def nothing_wrong(self, report: Report) -> None:
        """No downlink outside its window, no hour over its limit, nothing twice, no fault."""
        self.assertEqual(wrong(report), [])
        self.assertEqual((report.violations, report.delivered_twice, report.overlaps), (0, 0, 0))
        self.assertTrue(report.lawful)

    def test_500_motes_in_eu868(self) -> None:
        """ADR takes two thirds of the airtime away at least, and no message with it; gateways keep the law."""
        scenario = Scenario(motes=500, hours=24.0, region="eu868")
        adr = simulated(scenario)
        without = simulated(msgspec.structs.replace(scenario, adr=False))
        for report in (adr, without):
            self.nothing_wrong(report)
            self.assertEqual(report.joined, 500)
            self.assertGreater(report.messages, 70_000)
            self.assertEqual(len(report.shares), 15)
            self.assertEqual(report.acknowledged, report.confirmed)
            succeeded = report.commands["succeeded"] / sum(report.commands.values())
            self.assertGreater(succeeded, 0.95, report.commands)
        self.assertGreater(adr.delivery, without.delivery - 0.01)
        self.assertGreater(adr.delivery, 0.98)
        self.assertGreater(without.uplink_airtime, 3.0 * adr.uplink_airtime)
        self.assertGreater(adr.battery_frames, 3.0 * without.battery_frames)
        # It is ADR that did it, and every mote that it was asked of agreed.
        self.assertGreater(adr.mac_asked, 500)
        self.assertEqual((adr.mac_answered, adr.mac_refused), (adr.mac_asked, 0))
        self.assertEqual((without.mac_asked, without.final_rates), (0, {0: 500}))

    def test_more_is_asked_for_than_the_law_allows(self) -> None:
        """Every message confirmed, at the slowest data rate: gateways go to the limit and not a millisecond over."""
        scenario = Scenario(motes=200, gateways=2, hours=3.0, adr=False, confirmed=1.0, commands=200.0, every=300.0)
        report = simulated(scenario)
        self.assertEqual(wrong(report), [])
        self.assertTrue(report.lawful)
        fullest = max(share.used / share.allowed for share in report.shares)
        self.assertGreater(fullest, 0.9)
        self.assertLess(report.acknowledged, report.confirmed)

    def test_other_regions(self) -> None:
        """Forty motes for some hours in each: all join, nearly all is delivered, and nothing is as it should not be."""
        for region in sorted(set(REGIONS) - {"eu868"}):
            scenario = Scenario(region=region, motes=40, gateways=3, hours=4.0, radius=1.0, every=300.0, commands=60.0)
            report = simulated(scenario)
            self.nothing_wrong(report)
            self.assertEqual(report.joined, 40, region)
            # Motes of the old plan of CN470 use 96 channels, of which gateways hear eight, until they are told better.
            self.assertGreater(report.delivery, 0.75 if region == "cn470" else 0.98, region)
            self.assertGreater(report.commands.get("succeeded", 0), 0.9 * sum(report.commands.values()), region)
            self.assertGreater(report.mac_answered, 40, region)
            self.assertEqual(report.mac_refused, 0, region)
            fastest = max(rate for rate in PLANS[region].uplink_rates if PLANS[region].rates[rate].bandwidth == 125_000)
            self.assertGreater(report.final_rates.get(fastest, 0), 20, (region, report.final_rates))

    def test_the_same_seed_is_the_same_day(self) -> None:
        scenario = Scenario(motes=20, hours=1.0, gateways=2)
        one, two = (msgspec.to_builtins(simulated(scenario)) for _ in range(2))
        other = msgspec.to_builtins(simulated(msgspec.structs.replace(scenario, seed=2)))
        for report in (one, two, other):
            del report["cpu"]
        self.assertEqual(one, two)
        self.assertNotEqual(one["uplink_airtime"], other["uplink_airtime"])

    def test_tables(self) -> None:
        report = simulated(Scenario(motes=5, hours=1.5, gateways=1))
        self.assertIn("delivery rate", "\n".join(table([report, report], ["one", "two"])))
        self.assertEqual(len({len(line) for line in table([report], ["one"])[:1]}), 1)
        self.assertTrue(rates(report)[0].startswith("hour"))
        self.assertIn("5EED0001FFFE0000", "\n".join(shares(report)))
        report.shares[0] = msgspec.structs.replace(report.shares[0], lawful=False)
        self.assertIn("OVER", "\n".join(shares(report)))
        self.assertEqual(len(wrong(report)), 1)


class CommandLineTests(SynchronousTestCase):
    def run_it(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "broker.simulate", "lorawan-day", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)

    def test_json_and_text(self) -> None:
        small = ("--motes", "5", "--hours", "1", "--gateways", "1")
        done = self.run_it(*small, "--json", "--quiet")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        whole = msgspec.json.decode(done.stdout)
        self.assertEqual(set(whole), {"adr", "without"})
        self.assertEqual(whole["adr"]["joined"], 5)
        done = self.run_it(*small, "--only", "adr", "--region", "us915")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("all as it should be", done.stdout)
        self.assertIn("5 motes, 1 hours", done.stderr)

    def test_what_cannot_be(self) -> None:
        for arguments in (("--motes", "0"), ("--region", "us915", "--block", "99"), ("--rate", "9"), ("--days", "100")):
            done = self.run_it(*arguments)
            self.assertEqual(done.returncode, 2, arguments)
            self.assertNotIn("Traceback", done.stderr)
            self.assertEqual(len(done.stderr.strip().splitlines()), 1, done.stderr)
