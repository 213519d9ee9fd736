"""`python -m tests.soak --minutes 60`: see `tests.soak.run`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from functools import partial
from pathlib import Path

from tests.soak.run import Soak


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak",
        description="The demo's devices and applications of every kind, and clients that come and go all the time, for "
        "an hour. Afterwards the broker's memory, descriptors, threads, connections and sessions have to be flat.",
    )
    parser.add_argument("--minutes", type=float, default=60.0, metavar="N", help="how long (60); 2 is the least")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of what the clients do (1)")
    parser.add_argument("--devices", type=int, default=60, metavar="N", help="of the demo (60)")
    parser.add_argument("--every", type=float, default=None, metavar="SECONDS", help="between two samples")
    parser.add_argument("--folder", type=Path, help="keep data, output and samples there (a new folder)")
    arguments = parser.parse_args()
    if arguments.minutes < 2:
        parser.error("less than two minutes say nothing")
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.folder or Path(temporary)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            parser.error(f"{folder} is not empty")
        seconds = 60 * arguments.minutes
        soak = Soak(folder, seconds, arguments.seed, arguments.devices, partial(print, flush=True))
        return soak.run(arguments.every or max(1.0, seconds / 400))


if __name__ == "__main__":
    sys.exit(main())
