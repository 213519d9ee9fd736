"""Imports run one way, and what must stay free of Twisted does: read from the source, ``TYPE_CHECKING`` included."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

from twisted.trial.unittest import SynchronousTestCase

from tests.imports import Import, Sources, cycles

ROOT: Final = Path(__file__).resolve().parent.parent

#: The layers, lowest first: a module may import what stands in its own line or above it, never below.
#: A name stands for itself and all below it, unless a longer name says otherwise; ``=`` stands for itself alone.
LAYERS: Final[tuple[tuple[str, ...], ...]] = (
    ("=broker", "broker.model"),
    ("broker.admin",),
    ("broker.routing", "broker.reactor"),
    ("broker.listening", "broker.storage", "broker.cluster"),
    ("broker.events",),
    ("broker.core",),
    ("broker.mqtt", "broker.web"),
    # Campaigns know protocols by `broker.model.interfaces.IUpdater` alone. Their settings are a table of the broker's.
    ("broker.fleet",),
    ("=broker.applications", "broker.applications.ordering", "=broker.devices"),
    ("broker.applications", "broker.devices"),
    # What other packages may use; what they test with is a whole broker.
    ("=broker.extension",),
    ("broker.settings",),
    (
        "broker.config",
        "broker.data_dir",
        "broker.faults",
        "broker.logs",
        "broker.metrics",
        "broker.ticks",
        "broker.tls",
        "broker.simulate",
    ),
    ("broker.storing", "broker.clustering", "broker.process"),
    ("broker.building", "broker.pulse"),
    ("broker.service",),
    ("broker.workers",),
    ("broker.tap",),
    ("broker.extension.testing",),
    # The demo starts a whole broker as its user would, and asks the same configuration where that will listen.
    ("twisted.plugins", "broker.simulate.demo", "broker.simulate.commands", "broker.simulate.__main__"),
    # It reads the broker's configuration.
    ("broker.storage.__main__",),
)

#: Packages whose members know nothing of one another.
APART: Final = ("broker.applications", "broker.devices")
#: The exceptions: both sides of Gizwits speak one wire, so the application side may use the device side's codec, topics
#: and devices. Never the other way.
ALLOWED: Final = (("broker.applications.gizwits", "broker.devices.gizwits"),)
#: Neighbours in one layer that know nothing of one another either.
STRANGERS: Final = (
    ("broker.listening", "broker.storage"),
    ("broker.mqtt", "broker.web"),
    ("broker.devices", "broker.applications"),
    ("broker.fleet", "broker.devices"),
    ("broker.fleet", "broker.applications"),
    ("broker.service", "broker.simulate"),
)

#: A client of the API like any other: this and itself is all of the broker that it may import, and nothing imports it.
CLIENT: Final = "broker.admin"
CLIENT_MAY_USE: Final = "broker.model.jsontext"

#: Modules that decide and translate but do nothing: they, and all that they import, stay free of `IMPURE`.
PURE: Final = ("broker.model", "broker.routing")
PURE_FILES: Final = ("codec.py",)
IMPURE: Final = ("twisted", "txredisapi", "asyncio", "logging", "selectors", "socket", "threading", "time")

#: Importing these installs a reactor: never while a module of ours is imported.
INSTALLERS: Final = ("twisted.internet.reactor", "twisted.mail.smtp", "txredisapi")


def is_below(module: str, name: str) -> bool:
    return module == name or module.startswith(name + ".")


def layer_of(module: str) -> int | None:
    """The number of the layer whose name fits the module best."""
    best: tuple[int, int] | None = None
    for number, names in enumerate(LAYERS):
        for name in names:
            fits = module == name[1:] if name[0] == "=" else is_below(module, name)
            length = len(module) + 1 if name[0] == "=" else len(name)
            if fits and (best is None or length > best[0]):
                best = (length, number)
    return best[1] if best is not None else None


def member_of(module: str, package: str) -> str | None:
    """The folder or file of ``package`` that the module belongs to."""
    return module[len(package) + 1 :].partition(".")[0] if module.startswith(package + ".") else None


def upward(sources: Sources) -> list[str]:
    found = [f"{file}:1: {module} has no layer" for module, file in sources.files.items() if layer_of(module) is None]
    for one, target in sources.inside():
        here, there = layer_of(one.module), layer_of(target)
        if here is not None and there is not None and there > here:
            found.append(f"{one.place}: {one.module} imports {target}, which stands above it")
    return found


def allowed(module: str, target: str) -> bool:
    return any(is_below(module, mine) and is_below(target, other) for mine, other in ALLOWED)


def mixing(sources: Sources) -> list[str]:
    found = []
    for one, target in sources.inside():
        for package in APART:
            here, there = member_of(one.module, package), member_of(target, package)
            # What a package's members share is a lower layer of its own.
            if None not in (here, there) and here != there and layer_of(one.module) == layer_of(target):
                found.append(f"{one.place}: {one.module} imports {target}, another of {package}")
        for pair in STRANGERS:
            for mine, other in (pair, pair[::-1]):
                if is_below(one.module, mine) and is_below(target, other) and not allowed(one.module, target):
                    found.append(f"{one.place}: {one.module} imports {target}; {mine} does not know {other}")
    return found


def impure(sources: Sources) -> list[str]:
    pure = [
        module
        for module, file in sources.files.items()
        if any(is_below(module, name) for name in PURE) or file.name in PURE_FILES
    ]
    outside: dict[str, list[Import]] = {}
    for one in sources.outside():
        outside.setdefault(one.module, []).append(one)
    found: list[str] = []
    for module in pure:
        for reached in sorted(sources.reachable([module], running_only=False)):
            found.extend(
                f"{one.place}: {one.name} is not for {module}"
                for one in outside.get(reached, ())
                if any(is_below(one.name, name) for name in IMPURE)
            )
    return found


def installing(sources: Sources) -> list[str]:
    return [
        f"{one.place}: importing {one.module} imports {one.name}"
        for one in sources.outside()
        if one.running and any(is_below(one.name, name) for name in INSTALLERS)
    ]


def circular(sources: Sources) -> list[str]:
    edges: dict[str, set[str]] = {}
    lines: dict[tuple[str, str], str] = {}
    for one, target in sources.inside():
        if one.at_import and one.module != target:
            edges.setdefault(one.module, set()).add(target)
            lines.setdefault((one.module, target), one.place)
    return [
        "; ".join(place for (here, there), place in lines.items() if here in ring and there in ring)
        + f": {', '.join(ring)} import one another"
        for ring in cycles(edges)
    ]


def client(sources: Sources) -> list[str]:
    found = []
    for one, target in sources.inside():
        inside, to_inside = is_below(one.module, CLIENT), is_below(target, CLIENT)
        if inside and not to_inside and target != CLIENT_MAY_USE:
            found.append(f"{one.place}: {one.module} imports {target}; it knows the broker by its API alone")
        if to_inside and not inside:
            found.append(f"{one.place}: {one.module} imports {target}, which is for the command line")
    found.extend(
        f"{one.place}: {one.name} is not for {CLIENT}"
        for one in sources.outside()
        if is_below(one.module, CLIENT) and is_below(one.name, "twisted")
    )
    return found


def packages_of_twisted(root: Path) -> list[str]:
    return [f"{file}:1: breaks Twisted's own package" for file in (root / "twisted").rglob("__init__.py")]


class LayerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.sources = Sources(ROOT, "broker", "twisted")

    def none_of(self, found: list[str]) -> None:
        self.assertEqual(found, [], "\n" + "\n".join(found))

    def test_there_is_something_to_read(self) -> None:
        self.assertGreater(len(self.sources.files), 40)
        self.assertIn("broker.routing.router", self.sources.files)
        self.assertIn("twisted.plugins.broker_plugin", self.sources.files)

    def test_imports_run_one_way(self) -> None:
        self.none_of(upward(self.sources))

    def test_protocols_do_not_know_one_another(self) -> None:
        self.none_of(mixing(self.sources))

    def test_model_routing_and_codecs_are_pure(self) -> None:
        self.none_of(impure(self.sources))

    def test_no_import_installs_a_reactor(self) -> None:
        self.none_of(installing(self.sources))

    def test_nothing_goes_round_in_circles(self) -> None:
        self.none_of(circular(self.sources))

    def test_the_command_line_is_a_client_like_any_other(self) -> None:
        self.none_of(client(self.sources))

    def test_the_twisted_folder_is_no_package(self) -> None:
        self.none_of(packages_of_twisted(ROOT))

    def test_importing_everything_installs_no_reactor(self) -> None:
        """The same for what is imported by what we import."""
        modules = [name for name in self.sources.files if is_below(name, "broker") and not name.endswith("__main__")]
        plugins = [str(file) for name, file in self.sources.files.items() if is_below(name, "twisted")]
        program = (
            "import importlib, runpy, sys\n"
            f"for name in {modules!r}: importlib.import_module(name)\n"
            f"for path in {plugins!r}: runpy.run_path(path)\n"
            "print('twisted.internet.reactor' in sys.modules)"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
        )
        self.assertEqual((done.stdout.strip(), done.returncode), ("False", 0), done.stderr)


#: A rule, the files of a made-up tree, and the line that is to be found in it (None: nothing is).
MADE_UP: Final[tuple[tuple[str, dict[str, str], str | None], ...]] = (
    ("upward", {"broker/model/a.py": "import os\nfrom broker.routing.b import C", "broker/routing/b.py": ""}, "a.py:2"),
    ("upward", {"broker/routing/b.py": "import broker.model.a", "broker/model/a.py": ""}, None),
    ("upward", {"broker/routing/b.py": "from broker.service import X", "broker/service.py": ""}, "b.py:1"),
    ("upward", {"broker/routing/b.py": "def f():\n    import broker.tap", "broker/tap.py": ""}, "b.py:2"),
    (
        "upward",
        {"broker/model/a.py": "if TYPE_CHECKING:\n    from broker import tap", "broker/tap.py": ""},
        "a.py:2",
    ),
    ("upward", {"broker/model/a.py": "from ..routing import b", "broker/routing/b.py": ""}, "a.py:1"),
    ("upward", {"broker/model/__init__.py": "from ..routing import b", "broker/routing/b.py": ""}, "__init__.py:1"),
    ("upward", {"broker/nowhere.py": ""}, "nowhere.py:1"),
    ("upward", {"broker/devices/x/p.py": "import broker.config", "broker/config.py": ""}, "p.py:1"),
    (
        "upward",
        {"broker/applications/ordering.py": "import broker.applications.x", "broker/applications/x/__init__.py": ""},
        "ordering.py:1",
    ),
    ("mixing", {"broker/devices/x/p.py": "import broker.devices.y.q", "broker/devices/y/q.py": ""}, "p.py:1"),
    ("mixing", {"broker/devices/x/p.py": "import broker.devices.x.q", "broker/devices/x/q.py": ""}, None),
    (
        "mixing",
        {"broker/devices/x/p.py": "import broker.applications.y", "broker/applications/y/__init__.py": ""},
        "p.py:1",
    ),
    (
        "mixing",
        {"broker/applications/gizwits/p.py": "import broker.devices.gizwits", "broker/devices/gizwits/__init__.py": ""},
        None,
    ),
    (
        "mixing",
        {
            "broker/devices/gizwits/p.py": "import broker.applications.gizwits",
            "broker/applications/gizwits/__init__.py": "",
        },
        "p.py:1",
    ),
    (
        "mixing",
        {"broker/applications/gizwits/p.py": "import broker.devices.x", "broker/devices/x/__init__.py": ""},
        "p.py:1",
    ),
    (
        "mixing",
        {"broker/applications/x/p.py": "import broker.applications.ordering", "broker/applications/ordering.py": ""},
        None,
    ),
    ("mixing", {"broker/listening/x.py": "import broker.storage.y", "broker/storage/y.py": ""}, "x.py:1"),
    ("impure", {"broker/model/a.py": "from twisted.internet import defer"}, "a.py:1"),
    ("impure", {"broker/model/a.py": "import zope.interface, twisted_like, heapq"}, None),
    ("impure", {"broker/routing/b.py": "def f():\n    import time"}, "b.py:2"),
    ("impure", {"broker/devices/x/codec.py": "from time import time"}, "codec.py:1"),
    ("impure", {"broker/devices/x/protocol.py": "from twisted.internet import defer"}, None),
    (
        "impure",
        {"broker/mqtt/codec.py": "from broker.mqtt import words", "broker/mqtt/words.py": "\nimport twisted"},
        "words.py:2",
    ),
    ("installing", {"broker/a.py": "from twisted.internet import reactor"}, "a.py:1"),
    ("installing", {"broker/a.py": "class A:\n    import twisted.internet.reactor"}, "a.py:2"),
    ("installing", {"broker/a.py": "try:\n    import txredisapi\nexcept ImportError: pass"}, "a.py:2"),
    ("installing", {"broker/a.py": "def f():\n    from twisted.internet import reactor"}, None),
    ("installing", {"broker/a.py": "if TYPE_CHECKING:\n    import txredisapi\nfrom broker import reactor"}, None),
    ("circular", {"broker/a.py": "import broker.b", "broker/b.py": "\nfrom broker.a import x"}, "b.py:2"),
    ("circular", {"broker/a.py": "import broker.b", "broker/b.py": "def f():\n    import broker.a"}, None),
    (
        "circular",
        {
            "broker/a.py": "import broker.b",
            "broker/b.py": "from broker import c",
            "broker/c.py": "if TYPE_CHECKING:\n    import broker.a",
        },
        "c.py:2",
    ),
    (
        "circular",
        {"broker/a.py": "import broker.b, broker.c", "broker/b.py": "import broker.c", "broker/c.py": ""},
        None,
    ),
    ("client", {"broker/admin/a.py": "from broker.model.jsontext import encode", "broker/model/jsontext.py": ""}, None),
    ("client", {"broker/admin/a.py": "import broker.model.names", "broker/model/names.py": ""}, "a.py:1"),
    ("client", {"broker/admin/a.py": "def f():\n    from twisted.internet import defer"}, "a.py:2"),
    ("client", {"broker/web/a.py": "import broker.admin.b", "broker/admin/b.py": ""}, "a.py:1"),
    ("twisted", {"twisted/plugins/x.py": ""}, None),
    ("twisted", {"twisted/plugins/__init__.py": ""}, "__init__.py:1"),
    ("twisted", {"twisted/__init__.py": ""}, "__init__.py:1"),
)


class RuleTests(SynchronousTestCase):
    """The rules themselves, on trees made up for them: each can fail, and only where it should."""

    def test_made_up_trees(self) -> None:
        rules = {
            "upward": upward,
            "mixing": mixing,
            "impure": impure,
            "installing": installing,
            "circular": circular,
            "client": client,
        }
        for name, files, wanted in MADE_UP:
            root = Path(mkdtemp(dir=Path.cwd()))
            for path, text in files.items():
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_text(text)
            found = packages_of_twisted(root) if name == "twisted" else rules[name](Sources(root, "broker", "twisted"))
            if wanted is None:
                self.assertEqual(found, [], files)
            else:
                self.assertEqual(len(found), 1, (files, found))
                self.assertIn(f"/{wanted}", found[0])

    def test_every_layer_name_is_its_own(self) -> None:
        names = [name for names in LAYERS for name in names]
        self.assertEqual(len(names), len(set(names)))

    def test_circles(self) -> None:
        self.assertEqual(
            cycles({"a": "b", "b": "ca", "c": "d", "d": "e", "e": "c", "f": "a"}), [["a", "b"], ["c", "d", "e"]]
        )
        self.assertEqual(cycles({"a": "bc", "b": "c", "c": ""}), [])
        self.assertEqual(cycles({"a": "a"}), [["a"]])
