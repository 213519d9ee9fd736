"""``examples/plugins/modbus``, built and installed into a folder of its own, as its user would."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
LEFTOVERS: Final = shutil.ignore_patterns("__pycache__", "dropin.cache", "build", "*.egg-info")
PIP: Final = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input")


def install(name: str, scratch: Path) -> Path:
    """Install ``examples/plugins/<name>`` below ``scratch``; the folder that its user has on the path.

    Its sources are copied, as building leaves files beside them. Nothing is fetched: what it needs is there.
    """
    sources, target = scratch / f"{name}-sources", scratch / f"{name}-installed"
    shutil.copytree(ROOT / "examples" / "plugins" / name, sources, ignore=LEFTOVERS)
    offline = ("--quiet", "--no-index", "--no-deps", "--no-build-isolation")
    done = subprocess.run(
        [*PIP, "install", *offline, "--target", str(target), str(sources)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return target


def module_of(folder: Path, name: str) -> ModuleType:
    """A module of what is installed there. The path is as it was afterwards, so that no other test finds the plugin."""
    sys.path.append(str(folder))
    try:
        return import_module(name)
    finally:
        sys.path.remove(str(folder))
