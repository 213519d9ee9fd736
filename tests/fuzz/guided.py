"""Fuzzing that is guided by coverage, by atheris where that is installed. Each target is a process of its own.

`python -m tests.fuzz.guided TARGET ARGUMENTS...`: the arguments are libFuzzer's; the broker is instrumented.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.fuzz import CORPUS, forget_logs

#: Seconds that the broker takes to be loaded and instrumented, anew for each target.
START: Final = 5.0


def missing() -> str:
    """A line when there is no atheris, else nothing."""
    if importlib.util.find_spec("atheris") is None:
        return "atheris is not installed: inputs are mutated without looking at coverage (pip install atheris)"
    return ""


def fuzz(targets: Sequence[str], seconds: float, folder: Path) -> int:
    """Each target for its share of the time; the exit status of the first that fails, else 0."""
    share = max(1, int(seconds / len(targets) - START))
    for target in targets:
        command = [sys.executable, "-m", "tests.fuzz.guided", target, f"-max_total_time={share}", "-max_len=4096"]
        with tempfile.TemporaryDirectory() as found:  # what is new goes into the first folder; the corpus stays
            places = [f"-artifact_prefix={folder}/fuzz-{target}-", "-verbosity=0", found, str(CORPUS / target)]
            done = subprocess.run([*command, *places], capture_output=True, text=True, errors="replace", check=False)
        if done.returncode:
            print(done.stdout[-4_000:] + done.stderr[-4_000:])
            print(f"again: python -m tests.fuzz --target {target} --input FILE, which is named above")
            return 1
    print(f"atheris: {len(targets)} targets, {share} s each: nothing found")
    return 0


def main(target: str, *options: str) -> None:
    import atheris

    with atheris.instrument_imports(include=["broker"]):
        from tests.fuzz.targets import TARGETS
    forget_logs()
    atheris.Setup([sys.argv[0], *options], TARGETS[target].run)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
