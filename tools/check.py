"""What `make test` and `make lint` run: the style and type checks, then the tests.

    check.py lint              ruff and mypy only
    check.py test              these and all tests, several parts of them at a time, then those that need quiet
    check.py test NAME...      these and trial on the named modules, in this process

Trial prints its usual tree, the reasons of skipped tests and its summary, for each part. At the end there is a line
for each test that failed, and the last line is `N passed, N failed`, followed by `, N skipped` if any were; each check
counts as one test. A test marked "todo" counts as failed.
The exit status is 0 only if something passed and nothing failed.
"""

import os
import re
import resource
import subprocess  # nosec B404 # our own tools
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.trial.reporter import TreeReporter
from twisted.trial.runner import TestLoader, TrialRunner

ROOT = Path(__file__).resolve().parent.parent
CHECKS = (
    ("ruff", "check", "--quiet", "."),
    ("ruff", "format", "--check", "--quiet", "."),
    ("mypy", "--no-error-summary"),
    ("tools.audit", "code"),
)
#: Tests that measure time: one after another, when nothing else runs.
QUIET = ("tests.hostile.test_everything", "tests.hostile.test_stalled_reader", "tests.test_main_job")
#: Parts that wait more than they compute, and so take longer than their size says: begun first.
LONG = (
    "tests.admin",
    "tests.applications.loracenter",
    "tests.clients",
    "tests.cluster",
    "tests.conformance",
    "tests.console",
    "tests.devices.gateway88",
    "tests.devices.lorawan",
    "tests.extension",
    "tests.faults",
    "tests.fleet",
    "tests.gizwits",
    "tests.hostile",
    "tests.manual",
    "tests.matrix",
    "tests.simulate",
    "tests.storage.redis",
    "tests.test_benchmarks",
    "tests.test_kill_storm",
    "tests.test_layers",
    "tests.test_on_redis",
    "tests.test_packaging",
    "tests.test_scale",
    "tests.test_secrets",
    "tests.test_twistd",
)
#: Packages of their own, each with its tests beside it; only they are to have it on their path.
EXAMPLES = ROOT / "examples" / "plugins"
#: Folders of which each module is a part of its own, as all together would be the last to end.
SPLIT = ("console", "simulate")
#: Parts at a time: most wait for processes and clocks half of their time.
JOBS = min(8, 5 * (os.cpu_count() or 1) // 2)
#: Modules whose time is told at the end of a part.
SLOWEST = 5

#: Begins a line about a test or check that failed; trial has no such lines.
FAILED = "failed: "
_COUNTS = re.compile(r"^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$")


@dataclass(frozen=True, slots=True)
class Counts:
    passed: int
    failed: int
    skipped: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped)

    def __str__(self) -> str:
        line = f"{self.passed} passed, {self.failed} failed"
        return f"{line}, {self.skipped} skipped" if self.skipped else line


def run_checks() -> Counts:
    failed = 0
    for command in CHECKS:
        wrong = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, check=False).returncode != 0  # nosec B603
        print(f"{' '.join(command)} ... {'[FAIL]' if wrong else '[OK]'}", flush=True)
        if wrong:
            print(f"{FAILED}{' '.join(command)}", flush=True)
        failed += wrong
    return Counts(len(CHECKS) - failed, failed)


class CountingReporter(TreeReporter):
    """Trial's usual output; `counts` has each test once, also one that fails and then cannot clean up."""

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **options)  # type: ignore[no-untyped-call]  # as is all of Twisted's reporter
        #: module -> seconds that its tests took
        self.seconds: dict[str, float] = {}
        self._began = 0.0

    def startTest(self, test: Any) -> None:
        self._began = time.monotonic()
        super().startTest(test)  # type: ignore[no-untyped-call]

    def stopTest(self, test: Any) -> None:
        super().stopTest(test)  # type: ignore[no-untyped-call]
        module = test.id().rsplit(".", 2)[0]
        self.seconds[module] = self.seconds.get(module, 0.0) + time.monotonic() - self._began

    def failed(self) -> set[Any]:
        bad = (*self.failures, *self.errors, *self.expectedFailures, *self.unexpectedSuccesses)
        return {entry[0] for entry in bad}

    def counts(self) -> Counts:
        failed = self.failed()
        skipped = {entry[0] for entry in self.skips} - failed
        return Counts(self.successes, len(failed), len(skipped))


def run_tests(names: Sequence[str], folder: str = "_trial_temp") -> Counts:
    """Run them in this process; trial works in ``folder``."""
    sys.path.extend(examples_of(names))
    runner = TrialRunner(CountingReporter, workingDirectory=str(ROOT / folder))
    result = runner.run(TestLoader().loadByNames([*names], recurse=True))
    assert isinstance(result, CountingReporter)
    longest = sorted(((took, name) for name, took in result.seconds.items()), reverse=True)[:SLOWEST]
    print("slowest: " + ", ".join(f"{name} {took:.0f} s" for took, name in longest))
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(f"CPU time: {sum(one.ru_utime + one.ru_stime for one in used):.0f} s, processes it started counted in")
    for test in result.failed():
        print(f"{FAILED}{test.id()}")
    return result.counts()


def parts() -> list[list[str]]:
    """The modules of each folder of tests that needs no quiet, and each module of the top one; the largest first."""
    found: list[tuple[int, list[str]]] = []
    top = ROOT / "tests"
    for folder in (path for path in top.rglob("*") if path.is_dir() and path.name not in SPLIT):
        add_part(found, sorted(folder.glob("test_*.py")))
    for folder in (top, *(top / name for name in SPLIT)):
        for path in sorted(folder.glob("test_*.py")):
            add_part(found, [path])
    for folder in sorted(EXAMPLES.glob("*/*/test")):
        add_part(found, sorted(folder.glob("test_*.py")), folder.parents[1])
    return [names for _, names in sorted(found, reverse=True)]


def add_part(found: list[tuple[int, list[str]]], paths: Sequence[Path], top: Path = ROOT) -> None:
    names = [".".join(path.relative_to(top).with_suffix("").parts) for path in paths]
    names = [name for name in names if not any(name == quiet or name.startswith(f"{quiet}.") for quiet in QUIET)]
    if names:
        long = names[0].startswith(LONG)
        found.append((sum(path.stat().st_size for path in paths) + (1 << 30 if long else 0), names))


def examples_of(names: Sequence[str]) -> list[str]:
    """The folders of the examples that these modules belong to."""
    packages = {name.partition(".")[0] for name in names}
    return [str(folder.parent) for folder in sorted(EXAMPLES.glob("*/*")) if folder.name in packages]


def run_apart(number: int, arguments: Sequence[str]) -> tuple[Counts, str]:
    """Run this file again with these arguments; what it counted and printed."""
    began = time.monotonic()
    child = subprocess.run(  # nosec B603 # our own arguments
        [sys.executable, __file__, *arguments, f"_trial_temp-{number}"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    *lines, last = child.stdout.splitlines() or [""]
    found = _COUNTS.fullmatch(last)
    if found is None:
        return Counts(0, 1), f"{child.stdout}\n{FAILED}{' '.join(arguments)} ended with status {child.returncode}"
    took = f"this part took {time.monotonic() - began:.0f} s"
    return Counts(*(int(count or 0) for count in found.groups())), "\n".join((*lines, took, last))


def run_everything() -> Counts:
    """The checks and all parts, then what needs quiet."""
    counts = Counts(0, 0)
    failed: list[str] = []
    with ThreadPoolExecutor(JOBS) as pool:
        jobs = [["lint"], *(["part", *names] for names in parts())]
        for done in as_completed(pool.submit(run_apart, number, job) for number, job in enumerate(jobs)):
            some, output = done.result()
            print(output, flush=True)
            counts += some
            failed += [line for line in output.splitlines() if line.startswith(FAILED)]
    counts += run_tests(QUIET)
    for line in failed:
        print(line)
    return counts


def main(arguments: Sequence[str]) -> int:
    sys.path[0] = str(ROOT)
    match arguments:
        case ["lint", *_]:
            counts = run_checks()
        case ["test"]:
            counts = run_everything()
        case ["test", *names]:
            counts = run_checks() + run_tests(names)
        case ["part", *names, folder]:
            counts = run_tests(names, folder)
        case _:
            raise SystemExit(__doc__)
    print(counts, flush=True)
    return 1 if counts.failed or not counts.passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
