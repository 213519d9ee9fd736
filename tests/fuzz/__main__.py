"""`python -m tests.fuzz --minutes 10`: all targets in turn; the input that fails, and the command that repeats it."""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from random import Random

from tests.fuzz import forget_logs, guided
from tests.fuzz.corpus import inputs
from tests.fuzz.mutation import mutated
from tests.fuzz.targets import TARGETS, Target

#: Inputs of one target before the next has its turn.
ROUND = 200


def failure(target: Target, data: bytes) -> str | None:
    """What is wrong when the target is given this, or None."""
    try:
        target.run(data)
    except Exception:
        return traceback.format_exc()
    return None


def smallest(target: Target, data: bytes) -> bytes:
    """An input that fails as well, with as much left out as a second of trying could find."""
    until = time.monotonic() + 1.0
    size = max(1, len(data) // 2)
    while size and time.monotonic() < until:
        for begin in range(0, len(data), size):
            shorter = data[:begin] + data[begin + size :]
            if failure(target, shorter) is not None:
                data = shorter
                break
        else:
            size //= 2
    return data


def told(target: Target, data: bytes, folder: Path) -> str:
    """The lines about a finding; its input is kept in ``folder``."""
    data = smallest(target, data)
    path = folder / f"fuzz-{target.name}-{sha256(data).hexdigest()[:12]}"
    path.write_bytes(data)
    return (
        f"{failure(target, data)}\n{target.name} fails with these {len(data)} bytes: {data[:200]!r}\n"
        f"again: python -m tests.fuzz --target {target.name} --input {path}\n"
        f"when it is mended: mv {path} tests/corpus/{target.name}/"
    )


def fuzz(targets: Sequence[Target], seconds: float, seed: int, folder: Path) -> int:
    """The exit status: 1 with the first finding."""
    until = time.monotonic() + seconds
    count = 0
    randoms = {target.name: Random(f"{seed} {target.name}") for target in targets}
    known = {target.name: [data for _, data in inputs(target.name)] for target in targets}
    while True:
        for target in targets:
            for _ in range(ROUND):
                data = mutated(randoms[target.name], known[target.name])
                count += 1
                if failure(target, data) is not None:
                    print(told(target, data, folder))
                    return 1
                if time.monotonic() > until:
                    print(f"{count:,} inputs for {len(targets)} targets, seed {seed}: nothing found")
                    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz",
        description="Gives every decoder and every listener inputs that are nearly right. The corpus, from which they "
        "are made, is in tests/corpus. With atheris (pip install atheris) coverage guides a half of the time.",
    )
    parser.add_argument("--minutes", type=float, default=10.0, metavar="N", help="for all targets together (10)")
    parser.add_argument("--seed", type=int, default=int(time.time()), metavar="N", help="what is tried follows from it")
    parser.add_argument(
        "--target", action="append", metavar="NAME", choices=list(TARGETS), help="only this one; repeat"
    )
    parser.add_argument("--input", type=Path, metavar="FILE", help="give this to the target, once")
    parser.add_argument("--plain", action="store_true", help="without atheris, though it is installed")
    parser.add_argument("--list", action="store_true", help="show the targets")
    given = parser.parse_args(arguments)
    if given.list:
        print("\n".join(TARGETS))
        return 0
    targets = [TARGETS[name] for name in given.target or TARGETS]
    if given.input is not None:
        if len(targets) != 1:
            parser.error("--input needs one --target")
        wrong = failure(targets[0], given.input.read_bytes())
        print(wrong or f"{targets[0].name}: nothing is wrong with {given.input}")
        return 1 if wrong else 0
    seconds = 60 * given.minutes
    folder = Path.cwd()
    if given.plain or guided.missing():
        print("inputs are mutated without looking at coverage" if given.plain else guided.missing())
    else:
        seconds /= 2
        status = guided.fuzz([target.name for target in targets], seconds, folder)
        if status:
            return status
    return fuzz(targets, seconds, given.seed, folder)


if __name__ == "__main__":
    forget_logs()
    sys.exit(main())
