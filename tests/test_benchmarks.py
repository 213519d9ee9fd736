"""The benchmarks run, check what they pass, and say what they measured. How fast it was is not judged here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

import broker

ROOT = Path(broker.__file__).resolve().parent.parent


def benchmarks(*arguments: str) -> Deferred[subprocess.CompletedProcess[str]]:
    """`python -m benchmarks` with these arguments."""
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return deferToThread(subprocess.run, command, cwd=ROOT, capture_output=True, text=True, timeout=170, check=False)


class BenchmarkTests(TestCase):
    timeout = 180

    async def test_a_quick_run(self) -> None:
        file = Path(self.mktemp()).absolute()
        names = ["stream", "loracenter", "gateway-idle", "tls-resume", "gizwits-command", "pairs-qos2", "http-device"]
        only = [word for name in (*names, "growth-subscriptions") for word in ("--only", name)]
        run = await benchmarks("--quick", "--peers", "--json", str(file), *only)
        self.assertEqual((run.returncode, run.stderr), (0, ""))
        written = json.loads(file.read_text())
        results = written["rows"]
        storages = [result.pop("storage") for result in results]
        self.assertEqual([result["name"] for result in results], [*names, names[-1]])
        self.assertEqual(storages, ["sqlite"] * len(names) + ["redis"])
        self.assertGreater(results[-1]["storage_us"], 0)
        for result in results:
            self.assertEqual(result["server"], "broker")
            self.assertGreater(result["min"], 0)
            self.assertLessEqual(result["min"], result["median"])
            self.assertIn(result["title"], run.stdout)
        self.assertRegex(run.stdout, r"<= 5 ms p50 \(#4\) (met|MISSED by \d+ %)")
        [growth] = written["growth"]
        self.assertEqual(list(growth["sizes"]), ["100", "10000"])
        for figures in growth["sizes"].values():
            self.assertGreater(figures["MQTT publish, QoS 0, one in flight, us"], 0)
        self.assertRegex(run.stdout, r"memory a subscription, KB( +-?\d+\.\d+){2}")

    async def test_from_one_process_to_another(self) -> None:
        file = Path(self.mktemp()).absolute()
        options = ("--quick", "--repetitions", "1", "--only", "across-qos1", "--peers")
        run = await benchmarks(*options, "--json", str(file))
        self.assertEqual((run.returncode, run.stderr), (0, ""))
        [two] = json.loads(file.read_text())["rows"]
        self.assertEqual((two["server"], two["storage"]), ("broker", "redis"))
        self.assertGreater(two["min"], 0)
        self.assertGreater(two["storage_us"], 0)
        self.assertRegex(run.stdout, r"<= 15 us \(#10\) (met|MISSED by \d+ %)")

    async def test_a_profile(self) -> None:
        run = await benchmarks("profile", "novacloud", "--seconds", "0.3", "--lines", "3")
        self.assertEqual((run.returncode, run.stderr), (0, ""))
        self.assertRegex(run.stdout, r"novacloud: NovaCloud, .* us a message, \d+ samples\n")
        self.assertRegex(run.stdout, r" \d+\.\d%  broker/\S+\.py:\d+ ")

    async def test_an_unknown_name_is_one_line(self) -> None:
        run = await benchmarks("--only", "nothing")
        self.assertEqual(run.returncode, 1)
        self.assertEqual(run.stderr, "benchmarks: there is no shape nothing; see --help\n")

    async def test_help_lists_every_shape(self) -> None:
        run = await benchmarks("--help")
        self.assertEqual(run.returncode, 0)
        for name in ("novacloud-history", "pairs-qos0-single", "fan-out", "benchmarks.mqtt_codec"):
            self.assertIn(name, run.stdout)

    async def test_gizwits(self) -> None:
        command = [sys.executable, "-m", "benchmarks.gizwits", "--quick", "--devices", "20"]
        run = await deferToThread(
            subprocess.run, command, cwd=ROOT, capture_output=True, text=True, timeout=170, check=False
        )
        self.assertEqual((run.returncode, run.stderr), (0, ""))
        self.assertRegex(run.stdout, r"a report costs [0-9.]+ x a plain publish")
