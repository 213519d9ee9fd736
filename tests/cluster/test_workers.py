"""``workers = 2``: one parent, two brokers on the same ports."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from broker.simulate.process import broker_arguments, broker_environment, nothing_else
from tests.cluster.bed import SERVER
from tests.real import RealBroker, eventually


class Workers(TestCase):
    timeout = 120

    def setUp(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir(parents=True)
        self.broker = RealBroker(
            folder.absolute(),
            {
                "broker.workers": "2",
                "storage.url": json.dumps(SERVER.get().url),
                "storage.allow_volatile": "true",
                "redis.prefix": json.dumps(SERVER.prefix()),
                "cluster.enabled": "true",
                "cluster.lease": "3",
            },
        )

    def pids(self) -> dict[str, int]:
        """The workers that were started, the last ones."""
        found = (re.search(r"worker (\d+): process (\d+)", line) for line in self.broker.output)
        return {match[1]: int(match[2]) for match in found if match}

    def started(self) -> int:
        return sum("started: version" in line for line in self.broker.output)

    def born(self) -> str:
        """When the worker started that answers."""
        request = Request(
            f"http://127.0.0.1:{self.broker.ports['http']}/metrics",
            headers={"Authorization": f"Bearer {self.broker.admin_token}"},
        )
        with urlopen(request, timeout=20) as answer:
            text: str = answer.read().decode()
        return next(line for line in text.splitlines() if line.startswith("broker_start_time_seconds"))

    def test_they_share_and_are_kept(self) -> Any:
        return deferToThread(self._share)

    def _share(self) -> None:
        broker = self.broker
        broker.start()
        try:
            eventually(lambda: self.started() == 2, "both")
            self.assertEqual(len({self.born() for _ in range(40)}), 2)
            device = broker.made("/devices", {"protocol": "novacloud"})
            for _ in range(10):
                self.assertEqual(broker.call("GET", f"/devices/{device['id']}")[0], 200)
            first = self.pids()["1"]
            os.kill(first, signal.SIGKILL)
            eventually(lambda: self.started() == 3, "another one")
            self.assertNotEqual(self.pids()["1"], first)
            os.kill(broker.pid, signal.SIGHUP)
            eventually(lambda: sum("reloaded:" in line for line in broker.output) == 2, "both to have reloaded")
        finally:
            status = broker.stop()
            Path("workers.log").write_text("\n".join(broker.output))
        self.assertEqual(status, 0)
        self.assertEqual(sum("stopped" in line.rpartition(": ")[2] for line in broker.output), 2)
        for pid in self.pids().values():
            with self.assertRaises(ProcessLookupError):
                os.kill(pid, 0)

    def test_one_that_cannot_start(self) -> Any:
        return deferToThread(self._cannot_start)

    def _cannot_start(self) -> None:
        settings = {
            **self.broker.settings,
            "storage.url": '"redis://127.0.0.1:1/0"',
            "redis.connect_timeout": "1",
        }
        ended = subprocess.run(
            broker_arguments(),
            env=broker_environment(nothing_else(settings)),
            cwd=self.broker.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        self.assertEqual(ended.returncode, 1, ended.stdout)
        self.assertIn("cannot use the Redis at 127.0.0.1:1", ended.stdout)

    def test_without_redis(self) -> None:
        settings = nothing_else({"broker.workers": "2"})
        ended = subprocess.run(
            broker_arguments(),
            env=broker_environment(settings),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        self.assertEqual(ended.returncode, 1)
        self.assertIn(
            "broker.workers = 2: more than one process needs a Redis as storage.url", ended.stdout + ended.stderr
        )
