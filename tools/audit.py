"""What `make audit` runs: bandit over the code, and pip-audit over what is installed.

    audit.py code        bandit alone; also a part of `make lint`
    audit.py             this, and known faults of the packages in the environment

The advisories are asked for over the network. Where nobody answers that is one line and no failure; what can be said
without them is then said: that what is installed fits together (pip check), and how old it is at the most.
"""

import importlib.metadata
import json
import os
import subprocess  # nosec B404 # our own tools
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: Assertions say what we believe, and decide nothing about clients (B101). Simulated devices need no real chance (B311).
CODE = (
    ("bandit", "-q", "-r", "broker", "twisted/plugins", "broker.tac", "tools", "-s", "B101", "-x", "broker/simulate"),
    ("bandit", "-q", "-r", "broker/simulate", "-s", "B101,B311"),
)
PATIENCE = 120.0


def run(command: Sequence[str]) -> bool:
    """Whether a module of Python's succeeds."""
    return subprocess.run([sys.executable, "-m", *command], cwd=ROOT, check=False).returncode == 0  # nosec B603


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
        return run(("pip", "check")) and ages()
    for one in known:
        for fault in one["vulns"]:
            mended = ", ".join(fault["fix_versions"]) or "no version yet"
            print(f"{one['name']} {one['version']}: {fault['id']}, mended in {mended}")
    unknown = len(packages) - len(known)
    print(f"pip-audit: {len(known)} packages looked up, {unknown} unknown there")
    return not any(one["vulns"] for one in known)


def ages() -> bool:
    """Say which of our own dependencies are how old here; nothing that could fail."""
    for text in importlib.metadata.requires("broker") or ():
        if "extra ==" in text:
            continue
        name = text.split(";")[0].split("[")[0].split(">")[0].split("=")[0].split("<")[0].strip()
        found = importlib.metadata.distribution(name)
        files = found.files or ()
        newest = max(
            (os.stat(str(file.locate())).st_mtime for file in files if str(file).endswith("METADATA")), default=0
        )
        print(f"  {name} {found.version}, installed {time.strftime('%Y-%m-%d', time.localtime(newest))}, within {text}")
    return True


def main(arguments: Sequence[str]) -> int:
    sound = all([run(command) for command in CODE])
    if list(arguments) != ["code"]:
        sound = advisories() and sound
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
