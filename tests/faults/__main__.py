"""`python -m tests.faults --minutes 5`: see `tests.faults.storm` for what must hold."""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

from tests.faults.storm import KINDS, Plan, storm
from tests.faults.weather import FAULTS

EPILOG = """\
The account at the end has a line for each kind of what was acknowledged: how much of it was delivered, still waits, has
expired or failed as it is stated, was lost, came twice. If anything is wrong the exit status is 1, what is wrong is
said, and the folder with the processes' output and the Redis is kept. The faults and their moments follow from the
seed, but not what falls between them: it may take several runs until one fails in the same way.
"""


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m tests.faults",
        description="Several broker processes on one Redis under load from devices and applications of every protocol, "
        "and faults at random: nothing acknowledged may be lost, nothing at QoS 2 may come twice, no session may be "
        "owned twice for longer than its lease.",
        epilog=EPILOG,
    )
    plan = Plan(seed=0)
    made.add_argument("--minutes", type=float, default=4.0, metavar="N", help="of faults (default: %(default)s)")
    made.add_argument(
        "--seed",
        type=int,
        default=int(time.time()),
        metavar="N",
        help="of the faults and their moments (default: the time)",
    )
    made.add_argument(
        "--processes", type=int, default=plan.processes, metavar="N", help="of the broker (default: %(default)s)"
    )
    made.add_argument(
        "--lease", type=float, default=plan.lease, metavar="SECONDS", help="cluster.lease (default: %(default)s)"
    )
    made.add_argument(
        "--with",
        dest="kinds",
        action="append",
        choices=KINDS,
        metavar="KIND",
        help=f"devices and applications of this kind alone; may be given several times: {', '.join(KINDS)} "
        "(default: all)",
    )
    made.add_argument(
        "--pairs",
        type=int,
        default=plan.pairs,
        metavar="N",
        help="of publisher and subscriber, of each QoS and each version of MQTT (default: %(default)s)",
    )
    made.add_argument(
        "--devices", type=int, default=plan.devices, metavar="N", help="of each protocol (default: %(default)s)"
    )
    made.add_argument(
        "--only",
        action="append",
        default=[],
        choices=FAULTS,
        metavar="FAULT",
        help=f"this fault once, in place of random ones; may be given several times: {', '.join(FAULTS)}",
    )
    made.add_argument("--ordered", action="store_true", help="messages out of their order are a failure, too")
    made.add_argument("--folder", type=Path, help="keep data and output there (a new folder), whatever comes of it")
    return made


def again(arguments: argparse.Namespace) -> str:
    """The command that does the same once more."""
    said = sys.argv[1:]
    if "--seed" not in said and not any(one.startswith("--seed=") for one in said):
        said += ["--seed", str(arguments.seed)]
    at = said.index("--folder") if "--folder" in said else None
    if at is not None:
        del said[at : at + 2]
    return shlex.join([".venv/bin/python", "-m", "tests.faults", *said])


def main() -> int:
    arguments = parser().parse_args()
    plan = Plan(
        seed=arguments.seed,
        seconds=60 * arguments.minutes,
        processes=arguments.processes,
        lease=arguments.lease,
        kinds=arguments.kinds or KINDS,
        pairs=arguments.pairs,
        devices=arguments.devices,
        ordered=arguments.ordered,
    )
    print(f"seed {arguments.seed}", flush=True)
    folder = Path(arguments.folder or tempfile.mkdtemp(prefix="faults-")).absolute()
    from twisted.internet import reactor

    turning: Any = reactor
    threading.Thread(target=turning.run, kwargs={"installSignalHandlers": False}, daemon=True).start()
    try:
        print(storm(folder, plan, turning, partial(print, flush=True), arguments.only))
    except AssertionError as error:
        print("\n".join((str(error), *getattr(error, "__notes__", ()))), file=sys.stderr)
        print(f"\nkept: {folder}\nonce more: {again(arguments)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\nstopped; kept: {folder}", file=sys.stderr)
        return 130
    if arguments.folder is None:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
