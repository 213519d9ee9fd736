"""What is in the wheel, that Twisted finds the `broker` command once the project is installed, and that it all runs.

Installs for real, into empty virtual environments and without a network: they borrow from this interpreter's packages
those that the wheel asks for, and what these ask for; neither the project nor what only tests, builds or checks.
Twisted itself is copied into them, so that our `twisted/plugins` and Twisted's own meet in one folder as they do in any
environment. Each of these is made once, in trial's own folder, which trial empties.
"""

import email
import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import Distribution, distribution
from pathlib import Path
from zipfile import ZipFile

import twisted
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from twisted.trial.unittest import SynchronousTestCase

import broker
from tests.simulate.processes import free_ports

ROOT = Path(__file__).resolve().parent.parent
BUILT_FROM = ("setup.py", "pyproject.toml", "LICENSE", "broker", "twisted")
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input")
OFFLINE = ("--quiet", "--no-index", "--no-deps", "--no-build-isolation")
LEFTOVERS = shutil.ignore_patterns("__pycache__", "dropin.cache")


def run(*command: str | Path, cwd: Path) -> str:
    """The output of a command that sees none of our own import paths; its failure is the test's failure."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"{command} exited with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def copy_sources(to: Path) -> None:
    """Building in the checkout would leave a build folder there, whose old files end up in the next wheel."""
    to.mkdir()
    for name in BUILT_FROM:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, to / name, ignore=LEFTOVERS)
        else:
            shutil.copy(source, to)


def new_folder() -> Path:
    return Path(tempfile.mkdtemp(dir=Path.cwd()))


@cache
def build_wheel() -> Path:
    scratch = new_folder()
    copy_sources(scratch / "sources")
    run(*PIP, "wheel", *OFFLINE, "--wheel-dir", scratch, scratch / "sources", cwd=scratch)
    (wheel,) = scratch.glob("*.whl")
    return wheel


@dataclass(frozen=True, slots=True)
class Environment:
    """Has everything but the project until `pip_install`."""

    home: Path
    python: Path
    packages: Path

    def ask(self, program: str, *arguments: str) -> list[str]:
        return run(self.python, "-c", program, *arguments, cwd=self.home).splitlines()

    def pip_install(self, *what: str | Path) -> None:
        """With our pip, as the environment has none; --ignore-installed as pip sees the borrowed folders, too."""
        run(*PIP, "--python", self.python, "install", *OFFLINE, "--ignore-installed", *what, cwd=self.home)


def needed(requirements: Iterable[str], extras: frozenset[str] = frozenset()) -> dict[str, Distribution]:
    """Name -> what an installation of these brings along, as it is installed here."""
    found: dict[str, Distribution] = {}
    waiting = [(Requirement(text), extras) for text in requirements]
    seen: set[tuple[str, str]] = set()
    while waiting:
        requirement, wanted = waiting.pop()
        marker = requirement.marker
        if marker is not None and not any(marker.evaluate({"extra": extra}) for extra in wanted or {""}):
            continue
        name = canonicalize_name(requirement.name)
        found[name] = distribution(name)
        of_it = frozenset(requirement.extras) | {""}
        for text in found[name].requires or ():
            key = (text, ",".join(sorted(of_it)))
            if key not in seen:
                seen.add(key)
                waiting.append((Requirement(text), of_it))
    return found


def borrow(packages: Path, *others: str) -> None:
    """Have everything that the wheel needs in the folder, as links, and nothing else but these others."""
    with ZipFile(build_wheel()) as wheel:
        (name,) = [one for one in wheel.namelist() if one.endswith(".dist-info/METADATA")]
        requires = email.message_from_bytes(wheel.read(name)).get_all("Requires-Dist") or []
    for name, one in needed([*requires, *others]).items():
        if name != "twisted":
            tops = {Path(str(file)).parts[0] for file in one.files or ()}
            for top in tops - {"..", "__pycache__", "twisted"}:
                link = packages / top
                if not link.exists():
                    link.symlink_to(Path(str(one.locate_file(top))).resolve())


def make_environment(*others: str) -> Environment:
    home = new_folder() / "environment"
    venv.create(home, symlinks=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = home / "lib" / version / "site-packages"
    borrow(packages, *others)
    ignore = shutil.ignore_patterns("__pycache__", "dropin.cache", "test", "broker*.py")
    shutil.copytree(Path(twisted.__file__).parent, packages / "twisted", ignore=ignore)
    return Environment(home, home / "bin" / "python", packages)


def files_below(folder: Path) -> set[str]:
    """Paths as the wheel has them, relative to the parent of `folder`; what Python and Twisted leave does not count."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder.parent).as_posix()
        for path in found
        if "__pycache__" not in path.parts and path.name != "dropin.cache"
    }


class WheelContentTests(SynchronousTestCase):
    """A folder without `__init__.py` or a data file that setup.py does not name would be missing only for users."""

    def setUp(self) -> None:
        with ZipFile(build_wheel()) as wheel:
            self.names = set(wheel.namelist())

    def test_every_file_of_the_package(self) -> None:
        expected = files_below(ROOT / "broker")
        self.assertIn("broker/__init__.py", expected)
        self.assertIn("broker/py.typed", expected)
        missing = sorted(expected - self.names)
        self.assertEqual(missing, [], "give folders an __init__.py, and name data files in setup.py's package_data")

    def test_only_plugin_files_under_twisted(self) -> None:
        plugins = {name for name in self.names if name.startswith("twisted/")}
        self.assertIn("twisted/plugins/broker_plugin.py", plugins)
        self.assertEqual(plugins, files_below(ROOT / "twisted"))
        # Either of these would stand before Twisted's own.
        self.assertNotIn("twisted/__init__.py", plugins)
        self.assertNotIn("twisted/plugins/__init__.py", plugins)

    def test_nothing_else(self) -> None:
        tops = {name.split("/", 1)[0] for name in self.names}
        self.assertEqual({top for top in tops if not top.endswith(".dist-info")}, {"broker", "twisted"})
        self.assertEqual([name for name in self.names if {"test", "tests"} & set(name.split("/"))], [])


@cache
def wheel_install() -> tuple[Environment, Path]:
    environment = make_environment()
    environment.pip_install(build_wheel())
    return environment, environment.packages


@cache
def editable_install() -> tuple[Environment, Path]:
    # The build is not isolated, as that would need a network.
    environment = make_environment("setuptools")
    sources = environment.home / "sources"
    copy_sources(sources)
    environment.pip_install("--config-settings", "editable_mode=compat", "--editable", sources)
    return environment, sources


class WheelInstallTests(SynchronousTestCase):
    """What holds however the project was installed; here from the wheel."""

    def setUp(self) -> None:
        self.environment, self.code = wheel_install()

    def test_twistd_lists_the_command(self) -> None:
        output = self.environment.ask("from twisted.scripts.twistd import run; run()", "--help")
        self.assertEqual(len([line for line in output if line.split()[:1] == ["broker"]]), 1, output)

    def test_the_installed_code_is_the_one_that_counts(self) -> None:
        """Otherwise the other tests would speak of the checkout."""
        places = self.environment.ask(
            "import broker, twisted.plugins.broker_plugin as p; print(broker.__file__, p.__file__, sep='\\n')"
        )
        expected = [self.code / "broker" / "__init__.py", self.code / "twisted" / "plugins" / "broker_plugin.py"]
        self.assertEqual(places, [str(path) for path in expected])

    def test_twisted_is_not_shadowed(self) -> None:
        places = self.environment.ask(
            "import twisted, twisted.plugins as p; print(twisted.__file__, p.__file__, sep='\\n')"
        )
        twisted_folder = self.environment.packages / "twisted"
        expected = [twisted_folder / "__init__.py", twisted_folder / "plugins" / "__init__.py"]
        self.assertEqual(places, [str(path) for path in expected])

    def test_scanning_plugins_installs_no_reactor(self) -> None:
        """If it did, `twistd --reactor=...` would fail whenever the plugin cache is not there yet."""
        for plugin_cache in self.environment.home.rglob("dropin.cache"):
            plugin_cache.unlink()
        (answer,) = self.environment.ask(
            "import sys; from twisted.plugin import IPlugin, getPlugins; found = list(getPlugins(IPlugin)); "
            "print('twisted.plugins.broker_plugin' in sys.modules, 'twisted.internet.reactor' in sys.modules)"
        )
        self.assertEqual(answer, "True False")


class ProgramTests(SynchronousTestCase):
    """What a user runs, from the wheel alone: whatever only development brings along is not there."""

    def setUp(self) -> None:
        self.environment, _ = wheel_install()

    def module(self, *arguments: str) -> str:
        return run(self.environment.python, "-m", *arguments, cwd=self.environment.home)

    def twistd(self, *arguments: str) -> str:
        program = "from twisted.scripts.twistd import run; run()"
        return run(self.environment.python, "-c", program, *arguments, cwd=self.environment.home)

    def test_what_only_development_needs_is_missing(self) -> None:
        """Otherwise the other tests would prove nothing."""
        names = ("hypothesis", "mypy", "paho", "playwright", "ruff", "setuptools", "sphinx", "yaml")
        found = self.environment.ask(
            "import sys; from importlib.util import find_spec; print(*filter(find_spec, sys.argv[1:]))", *names
        )
        self.assertEqual(found, [""])

    def test_twistd_broker(self) -> None:
        text = self.twistd("broker", "--help")
        self.assertIn("twistd [options] broker [--config FILE]", " ".join(text.split()))
        for protocol in ("gateway88", "gservice", "http", "loracenter", "lorawan", "mqtt", "novacloud"):
            self.assertRegex(text, rf"(?m)^  {protocol} +\S")
        self.assertIn(f"broker {broker.__version__}, Twisted ", self.twistd("broker", "--version"))

    def test_every_module_can_be_imported(self) -> None:
        """One that needs what the wheel does not ask for would fail only where it is used."""
        program = (
            "import importlib, pkgutil, broker\n"
            "for one in pkgutil.walk_packages(broker.__path__, 'broker.'):\n"
            "    if not one.name.endswith('__main__'): importlib.import_module(one.name)\n"
            "print('all')"
        )
        self.assertEqual(self.environment.ask(program), ["all"])

    def test_the_api_describes_itself(self) -> None:
        """From the comments of the source, which comes along."""
        program = (
            "from broker.applications.http.openapi import openapi_document\n"
            "from broker.applications.http.side import ROUTES\n"
            "shapes = openapi_document(ROUTES)['components']['schemas'].values()\n"
            "print(all(field.get('description') for shape in shapes for field in shape['properties'].values()))"
        )
        self.assertEqual(self.environment.ask(program), ["True"])

    def test_command_lines(self) -> None:
        admin = run(self.environment.home / "bin" / "broker-admin", "--help", cwd=self.environment.home)
        self.assertEqual(admin, self.module("broker.admin", "--help"))
        self.assertIn("devices", admin)
        self.assertIn("lorawan-day", self.module("broker.simulate", "--help"))
        self.assertIn("backup", self.module("broker.storage", "--help"))

    def test_the_demo(self) -> None:
        """It brings a message from a device to an application, and ends when it is told to."""
        kinds = {"gateway88": "tls", "files": "tls", "lorawan": "udp"}
        names = ("http", "mqtt", "novacloud", "gateway88", "files", "gservice", "lorawan", "loracenter")
        binds = {
            f"BROKER__LISTENERS__{name.upper()}__BIND": f'["{kinds.get(name, "tcp")}:{port}:interface=127.0.0.1"]'
            for name, port in zip(names, free_ports(len(names)), strict=True)
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "BROKER_"))}
        with subprocess.Popen(
            [self.environment.python, "-m", "broker.simulate", "demo", "--plain", "--no-faults"],
            cwd=new_folder(),
            env={**kept, **binds},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as demo:
            assert demo.stdout is not None
            lines = []
            for line in demo.stdout:
                lines.append(line)
                if re.search(r"cell +\w+ x \S+ +\S+ .+: succeeded", line):
                    demo.terminate()
                    break
            lines += demo.stdout
        self.assertEqual(demo.returncode, 0, "".join(lines))
        self.assertNotIn("Traceback", "".join(lines))


class EditableInstallTests(WheelInstallTests):
    """The same, as the Makefile installs it; without `editable_mode=compat` Twisted would not find the plugins."""

    def setUp(self) -> None:
        self.environment, self.code = editable_install()
