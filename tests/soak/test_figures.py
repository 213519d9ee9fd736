"""What the soak calls flat: steps and peaks are, what grows is not."""

from __future__ import annotations

import os
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from tests.soak.figures import FIGURES, LEAST, Verdict, sample, verdicts

STILL = {"memory": 110.0, "files": 80.0, "threads": 7.0, "connections": 60.0, "sessions": 50.0, "commands": 5.0}


def samples(count: int = 200, /, **growth: float) -> list[tuple[float, dict[str, float]]]:
    """Noisy ones, one in six seconds; ``growth``: of a figure over the whole run."""
    random = Random(1)
    found = []
    for number in range(count):
        figures = {**STILL, "waiting": 3.0}
        for name in figures:
            figures[name] += random.uniform(-1, 1) + growth.get(name, 0.0) * number / count
        found.append((6.0 * number, figures))
    return found


class VerdictTests(SynchronousTestCase):
    def bad(self, **growth: float) -> list[str]:
        return [one.figure.name for one in verdicts(samples(**growth)) if not one.flat]

    def test_still(self) -> None:
        self.assertEqual(self.bad(), [])
        self.assertEqual(len(verdicts(samples(LEAST))), len(FIGURES))

    def test_what_grows(self) -> None:
        for name, growth in (("memory", 20.0), ("files", 100.0), ("threads", 10.0), ("connections", 100.0)):
            self.assertEqual(self.bad(**{name: growth}), [name])
        self.assertEqual(self.bad(memory=2.0, connections=5.0), [])

    def test_the_warm_up_and_single_peaks_do_not_count(self) -> None:
        found = samples()
        for number, (_, figures) in enumerate(found):
            if number < 80:
                figures["memory"] = 60.0 + number / 2
            if number % 25 == 0:
                figures["connections"] += 500.0
        self.assertTrue(all(one.flat for one in verdicts(found)), [str(one) for one in verdicts(found)])

    def test_what_it_says(self) -> None:
        line = str(Verdict(FIGURES[0], 100.0, 130.0, 131.0))
        self.assertIn("100.0 to     130.0 MiB", line)
        self.assertIn("NOT FLAT", line)

    def test_of_this_process(self) -> None:
        metrics = (
            'broker_connections{listener="a"} 2.0\nbroker_connections{listener="b"} 3.0\nbroker_commands_open 1.0\n'
            'broker_devices_online{protocol="x"} 4.0\nbroker_storage_waiting 5.0\n'
            "broker_storage_session_operations_waiting 6.0\n"
        )
        found = sample(os.getpid(), metrics)
        self.assertEqual(set(found), {one.name for one in FIGURES})
        self.assertEqual([found[name] for name in ("connections", "sessions", "commands", "waiting")], [5, 4, 1, 11])
        self.assertGreater(found["memory"], 10)
