"""`python -m tests.faults --minutes 5`: see `tests.faults.storm` for what must hold."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from tests.faults.storm import storm


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults",
        description="Several broker processes on one Redis under load, and faults at random: nothing acknowledged "
        "may be lost, nothing at QoS 2 may come twice, no session may be owned twice.",
    )
    parser.add_argument("--minutes", type=float, default=4.0, metavar="N", help="of faults (4)")
    parser.add_argument(
        "--seed", type=int, default=int(time.time()), metavar="N", help="of the faults and their moments"
    )
    parser.add_argument("--processes", type=int, default=3, metavar="N", help="of the broker (3)")
    parser.add_argument("--lease", type=float, default=10.0, metavar="SECONDS", help="cluster.lease (10)")
    parser.add_argument("--pairs", type=int, default=1, metavar="N", help="of each QoS and each version of MQTT (1)")
    parser.add_argument("--devices", type=int, default=8, metavar="N", help="NovaCloud devices (8)")
    parser.add_argument("--only", action="append", metavar="KIND", help="this fault once; may be given several times")
    parser.add_argument("--ordered", action="store_true", help="messages out of their order are a failure, too")
    parser.add_argument("--folder", type=Path, help="keep data and output there (a new folder)")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        try:
            print(
                storm(
                    folder.absolute(),
                    60 * arguments.minutes,
                    arguments.seed,
                    arguments.only,
                    processes=arguments.processes,
                    lease=arguments.lease,
                    pairs=arguments.pairs,
                    devices=arguments.devices,
                    ordered=arguments.ordered,
                    say=partial(print, flush=True),
                )
            )
        except AssertionError as error:
            print("\n".join((str(error), *getattr(error, "__notes__", ()))), file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
