"""``demo``: a whole broker with devices and applications."""

from __future__ import annotations

import argparse
import io
import os
import sys
from typing import Any

from broker.simulate.demo import run
from broker.simulate.demo.cast import SUBJECTS
from broker.simulate.running import say


def add(several: Any) -> None:
    parser = several.add_parser(
        "demo",
        help="the broker with devices of every protocol and applications of every kind",
        description="Starts `twistd -n broker` with its defaults, and lets devices of every protocol and applications "
        "of every kind talk through it until Ctrl-C. On a terminal, a table shows what each application has last heard "
        "of each protocol, and its last command with the answer; elsewhere it is lines, a few a second. The address of "
        "the console comes first. Settings come from BROKER__<TABLE>__<KEY> variables.",
    )
    parser.add_argument(
        "--devices",
        type=_count,
        default=len(SUBJECTS),
        metavar="N",
        help="how many devices (default, and at least: %(default)s); further ones are in the console only",
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="values, faults and commands follow from it (default: %(default)s)"
    )
    parser.add_argument("--no-faults", action="store_true", help="nothing goes wrong on purpose")
    parser.add_argument("--plain", action="store_true", help="lines also on a terminal")
    parser.set_defaults(run=_run)


def _count(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 50_000:
        raise argparse.ArgumentTypeError("0 to 50000")
    return value


def _run(reactor: Any, arguments: argparse.Namespace) -> int:
    out = sys.stdout
    can_draw = out.isatty() and os.environ.get("TERM", "dumb") != "dumb" and out.encoding.lower().startswith("utf")
    if isinstance(out, io.TextIOWrapper):
        out.reconfigure(errors="backslashreplace")  # whatever a terminal cannot show
    wishes = run.Wishes(
        devices=arguments.devices,
        seed=arguments.seed,
        faults=not arguments.no_faults,
        table=can_draw and not arguments.plain,
    )
    return run.main(reactor, wishes, say)
