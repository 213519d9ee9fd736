"""What `make test` and `make lint` run: the style and type checks, then the tests.

    check.py lint              ruff and mypy only
    check.py test [NAME...]    these, then trial on the named modules (default: everything under tests/)

Trial prints its usual tree, the reasons of skipped tests and its summary. The last line is `N passed, N failed`,
followed by `, N skipped` if any were; each check counts as one test. A test marked "todo" counts as failed. The exit
status is 0 only if something passed and nothing failed.
"""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from twisted.trial.reporter import TreeReporter
from twisted.trial.runner import TestLoader, TrialRunner

ROOT = Path(__file__).resolve().parent.parent
CHECKS = (
    ("ruff", "check", "--quiet", "."),
    ("ruff", "format", "--check", "--quiet", "."),
    ("mypy", "--no-error-summary"),
)


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
        wrong = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, check=False).returncode != 0
        print(f"{' '.join(command)} ... {'[FAIL]' if wrong else '[OK]'}", flush=True)
        failed += wrong
    return Counts(len(CHECKS) - failed, failed)


class CountingReporter(TreeReporter):
    """Trial's usual output; `counts` has each test once, also one that fails and then cannot clean up."""

    def counts(self) -> Counts:
        bad = (*self.failures, *self.errors, *self.expectedFailures, *self.unexpectedSuccesses)
        failed = {entry[0] for entry in bad}
        skipped = {entry[0] for entry in self.skips} - failed
        return Counts(self.successes, len(failed), len(skipped))


def run_tests(names: Sequence[str]) -> Counts:
    runner = TrialRunner(CountingReporter, workingDirectory=str(ROOT / "_trial_temp"))
    result = runner.run(TestLoader().loadByNames([*names], recurse=True))
    assert isinstance(result, CountingReporter)
    return result.counts()


def main(arguments: Sequence[str]) -> int:
    sys.path[0] = str(ROOT)
    match arguments:
        case ["lint"]:
            counts = run_checks()
        case ["test", *names]:
            counts = run_checks() + run_tests(names or ["tests"])
        case _:
            raise SystemExit(__doc__)
    print(counts, flush=True)
    return 1 if counts.failed or not counts.passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
