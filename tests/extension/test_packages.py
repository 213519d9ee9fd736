"""The examples as their users have them: built, installed beside broker, found by `twistd broker`."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from broker.simulate.process import broker_arguments, broker_environment
from tests.matrix.plugin import install

PACKAGES = {"modbus": "broker_modbus", "nats": "broker_nats"}


class PackageTests(SynchronousTestCase):
    def test_they_are_found_together(self) -> None:
        scratch = Path(self.mktemp()).absolute()
        scratch.mkdir()
        folders = [install(name, scratch) for name in PACKAGES]
        for folder, (name, package) in zip(folders, PACKAGES.items(), strict=True):
            self.assertTrue((folder / package / "__init__.py").is_file())
            self.assertTrue((folder / "twisted" / "plugins" / f"{package}_plugin.py").is_file())
            # Either of these would stand before Twisted's own.
            self.assertFalse((folder / "twisted" / "__init__.py").exists())
            self.assertFalse((folder / "twisted" / "plugins" / "__init__.py").exists())
            self.assertEqual(len(list(folder.glob(f"broker_{name}-*.dist-info"))), 1)
        environment = broker_environment({}, {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))})
        done = subprocess.run(
            broker_arguments("--help"), cwd=scratch, env=environment, capture_output=True, text=True, check=True
        )
        self.assertIn("  modbus       Modbus/TCP devices: polled registers, written by commands\n", done.stdout)
        self.assertIn("  nats         Publishes messages, presence and commands to NATS\n", done.stdout)
        self.assertIn("  novacloud    ", done.stdout)
