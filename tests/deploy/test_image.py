"""deploy/Dockerfile makes an image that works: its steps are done here in an empty folder, without an engine."""

import json
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from broker.simulate.process import broker_arguments
from tests.real import PATIENCE, RealBroker
from tests.test_packaging import BUILT_FROM, LEFTOVERS, Environment, make_environment, run

ROOT = Path(__file__).resolve().parent.parent.parent


def instructions() -> list[tuple[str, str]]:
    """(instruction, what follows) of the Dockerfile, continued lines joined."""
    text = (ROOT / "deploy" / "Dockerfile").read_text().replace("\\\n", " ")
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


class ImageTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.steps = instructions()

    def only(self, word: str) -> str:
        return next(rest for name, rest in self.steps if name == word)

    def build(self) -> Environment:
        """The copies and the installation."""
        environment = make_environment("setuptools")
        sources = environment.home / "opt"
        sources.mkdir()
        copied = []
        for rest in (rest for name, rest in self.steps if name == "COPY"):
            *names, target = rest.split()
            for name in names:
                copied.append(name)
                source = ROOT / name
                if source.is_dir():
                    shutil.copytree(source, sources / target, ignore=LEFTOVERS)
                else:
                    shutil.copy(source, sources / target)
        self.assertEqual(sorted(copied), sorted(BUILT_FROM), "all that the package is built from, and nothing else")
        self.assertIn(("RUN", "pip install --no-cache-dir ."), self.steps)
        environment.pip_install(sources)
        shutil.rmtree(sources)
        return environment

    def test_what_it_starts_answers_its_health_check(self) -> None:
        environment = self.build()
        self.assertTrue(any("twistd --help" in rest for name, rest in self.steps if name == "RUN"))
        run(environment.python, "-c", broker_arguments()[2], "--help", cwd=environment.home)
        program, *options = json.loads(self.only("CMD"))
        self.assertEqual(program, "twistd")
        folder = Path(tempfile.mkdtemp(dir=Path.cwd()))
        configuration = folder / "broker.toml"
        configuration.write_text("")
        options = [str(configuration) if one == "/etc/broker/broker.toml" else one for one in options]
        broker = RealBroker(folder, arguments=[str(environment.python), "-c", broker_arguments()[2], *options])
        broker.start()
        try:
            check = self.only("HEALTHCHECK").partition("CMD ")[2]
            python, *arguments = shlex.split(check)
            self.assertEqual(python, "python")
            here = [text.replace(":8080/", f":{broker.ports['http']}/") for text in arguments]
            self.assertNotEqual(here, arguments)
            healthy = subprocess.run([sys.executable, *here], timeout=PATIENCE, check=False)
            self.assertEqual(healthy.returncode, 0)
        finally:
            status = broker.stop()
        self.assertEqual(status, 0)
        gone = subprocess.run([sys.executable, *here], timeout=PATIENCE, check=False, stderr=subprocess.DEVNULL)
        self.assertNotEqual(gone.returncode, 0)
