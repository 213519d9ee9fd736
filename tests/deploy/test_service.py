"""deploy/broker.service does what it says: its commands are run here, without systemd."""

import os
import shlex
import signal
import tempfile
from configparser import RawConfigParser
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from broker.simulate.process import broker_arguments
from tests.real import RealBroker, eventually

ROOT = Path(__file__).resolve().parent.parent.parent


class UnitParser(RawConfigParser):
    def optionxform(self, optionstr: str) -> str:
        return optionstr


class ServiceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.unit = UnitParser(strict=False)
        self.unit.read(ROOT / "deploy" / "broker.service")
        self.service = self.unit["Service"]
        self.folder = Path(tempfile.mkdtemp(dir=Path.cwd()))

    def test_its_documents_are_there(self) -> None:
        (document,) = self.unit["Unit"]["Documentation"].split()
        self.assertTrue((ROOT / document.removeprefix("file:/opt/broker/")).is_file(), document)

    def test_it_is_started_reloaded_and_stopped(self) -> None:
        program, *options = shlex.split(self.service["ExecStart"])
        self.assertEqual(program, "/opt/broker/.venv/bin/twistd")
        configuration = self.folder / "broker.toml"
        configuration.write_text("")
        options = [str(configuration) if one == "/etc/broker/broker.toml" else one for one in options]
        self.assertIn(str(configuration), options)
        variable, _, value = self.service["Environment"].partition("=")
        self.assertEqual(variable, "BROKER__BROKER__DATA_DIR")
        self.assertEqual(value, f"/var/lib/{self.service['StateDirectory']}", "ProtectSystem=strict leaves only that")
        broker = RealBroker(self.folder, arguments=[*broker_arguments()[:3], *options])
        broker.start()
        try:
            self.assertEqual(broker.call("GET", "/overview")[0], 200)
            kill, number, process = shlex.split(self.service["ExecReload"])
            self.assertEqual((kill, process), ("/bin/kill", "$MAINPID"))
            configuration.write_text("[commands]\nmax_queued = 7\n[storage]\nmax_quarantined = 7\n")
            os.kill(broker.pid, getattr(signal, "SIG" + number.removeprefix("-")))
            eventually(lambda: any("needs a restart: storage" in line for line in broker.output), "it is read again")
        finally:
            status = broker.stop()  # SIGTERM, as systemd does
        self.assertEqual(status, 0)
