"""What `make audit` runs: bandit over the code, and pip-audit over what is installed.

    audit.py code        bandit alone; also a part of `make lint`
    audit.py             this, and known faults of the packages in the environment

The advisories are asked for over the network. Where nobody answers that is one line and no failure; what can be said
without them is then said: which versions are installed, and that they fit together (pip check).
"""

import importlib.metadata
import json
import re
import subprocess  # nosec B404 # our own tools
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: Assertions say what we believe, and decide nothing about clients (B101). Simulated devices need no real chance (B311)
#: and connect to this machine (B104).
CODE = (
    ("bandit", "-q", "-r", "broker", "twisted/plugins", "broker.tac", "tools", "-s", "B101", "-x", "broker/simulate"),
    ("bandit", "-q", "-r", "broker/simulate", "-s", "B101,B104,B311"),
)
PATIENCE = 120.0


def run(command: Sequence[str]) -> bool:
    """Whether a module of Python's succeeds; what it says is shown where it does not."""
    done = subprocess.run(  # nosec B603 # our own arguments
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        print(done.stdout + done.stderr)
    print(f"{' '.join(command[:2])} ... {'[FAIL]' if done.returncode else '[OK]'}")
    return done.returncode == 0


def advisories() -> bool:
    """Whether no package that is installed has a known fault, so far as anybody answers."""
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off"]
    try:
        done = subprocess.run(  # nosec B603 # our own arguments
            command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        packages = json.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        packages = []
    known = [one for one in packages if "vulns" in one]
    if not known:
        print(f"pip-audit: the advisory service cannot be reached, so nothing is known of {len(packages)} packages")
        versions()
        return run(("pip", "check"))
    for one in known:
        for fault in one["vulns"]:
            mended = ", ".join(fault["fix_versions"]) or "no version yet"
            print(f"{one['name']} {one['version']}: {fault['id']}, mended in {mended}")
    unknown = len(packages) - len(known)
    print(f"pip-audit: {len(known)} packages looked up, {unknown} unknown there")
    return not any(one["vulns"] for one in known)


def versions() -> None:
    """Say what is installed of what the broker needs, for whoever looks it up himself."""
    for text in importlib.metadata.requires("broker") or ():
        if "extra ==" not in text:
            name = re.split(r"[\[<>=; ]", text)[0]
            print(f"  {name} {importlib.metadata.version(name)}, of {text.removeprefix(name)}")


def main(arguments: Sequence[str]) -> int:
    done = [run(command) for command in CODE]
    sound = all(done)
    if list(arguments) != ["code"]:
        sound = advisories() and sound
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
