"""``lorawan-day``: a town of motes for a simulated day, with ADR and without."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any, Final

import msgspec

from broker.simulate.lorawan.day import Day, Scenario
from broker.simulate.lorawan.plans import PLANS
from broker.simulate.lorawan.report import Comparison, Report, report_of
from broker.simulate.lorawan.tables import rates, shares, table, wrong
from broker.simulate.running import say

#: Characters of the bar.
BAR: Final = 40

_DESCRIPTION: Final = """\
Runs the broker's own LoRaWAN network, without sockets and disk, on a clock that jumps from event to event: gateways
and motes around it, with path loss, shadowing, fading, collisions, capture, demodulators, half-duplex radios and the
windows of each mote to the microsecond. The same day is run with ADR and without; what differs is what ADR does. The
same --seed gives the same town. A day of 500 motes takes some 20 CPU seconds, twice.

The exit status is 1 when something was not as it should be: a downlink outside its window, a sub-band over its limit in
any hour, a message delivered twice, a fault in the broker."""


def add(several: Any) -> None:
    parser = several.add_parser(
        "lorawan-day",
        help="a simulated day of LoRaWAN: delivery, airtime, duty cycles and batteries, with ADR and without",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    default = Scenario()
    parser.add_argument("--region", choices=sorted(PLANS), default=default.region, help="(default: %(default)s)")
    parser.add_argument("--motes", type=int, default=default.motes, help="how many motes (default: %(default)s)")
    parser.add_argument("--gateways", type=int, default=default.gateways, help="how many (default: %(default)s)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--days", type=float, default=1.0, help="how long, at most 31 (default: %(default)s)")
    length.add_argument("--hours", type=float, help="the same in hours")
    parser.add_argument("--radius", type=float, default=default.radius, help="of the town, km (default: %(default)s)")
    parser.add_argument("--every", type=float, default=default.every, help="seconds between messages of a mote")
    parser.add_argument(
        "--payload", type=int, default=default.payload, help="bytes of a message (default: %(default)s)"
    )
    parser.add_argument("--confirmed", type=float, default=default.confirmed, help="share of confirmed messages")
    parser.add_argument("--class-c", type=float, default=default.class_c, help="share of motes of class C")
    parser.add_argument("--commands", type=float, default=default.commands, help="commands an hour, for all motes")
    parser.add_argument("--rate", type=int, help="data rate that motes begin with (default: the slowest)")
    parser.add_argument("--block", type=int, help="which eight channels, of a plan with more (default: the first)")
    parser.add_argument("--orthogonal", action="store_true", help="spreading factors do not disturb one another")
    parser.add_argument("--seed", type=int, default=default.seed, help="(default: %(default)s)")
    parser.add_argument("--only", choices=("adr", "without"), help="one of the two runs")
    parser.add_argument("--json", action="store_true", help="the whole report as JSON, and nothing else, on stdout")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")
    parser.set_defaults(run=_run)


def _run(reactor: Any, arguments: argparse.Namespace) -> int:
    try:
        scenario = _scenario(arguments)
        runs = {
            name: _simulate(msgspec.structs.replace(scenario, adr=name == "adr"), name, arguments.quiet)
            for name in ("adr", "without")
            if arguments.only in (None, name)
        }
    except ValueError as error:
        print(f"broker.simulate: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nbroker.simulate: interrupted", file=sys.stderr)
        return 130
    if arguments.json:
        say(msgspec.json.format(msgspec.json.encode(_whole(runs)), indent=1).decode())
    else:
        for line in _text(runs):
            say(line)
    return int(any(wrong(run) for run in runs.values()))


def _scenario(arguments: argparse.Namespace) -> Scenario:
    """Raises ValueError with one line."""
    names = {field.name for field in msgspec.structs.fields(Scenario)}
    given = {name: value for name, value in vars(arguments).items() if name in names and value is not None}
    given["hours"] = arguments.hours if arguments.hours is not None else 24.0 * arguments.days
    return msgspec.convert(given, Scenario)


def _whole(runs: dict[str, Report]) -> Comparison | Report:
    if len(runs) == 2:
        return Comparison(adr=runs["adr"], without=runs["without"])
    return next(iter(runs.values()))


def _simulate(scenario: Scenario, name: str, quiet: bool) -> Report:
    bar = sys.stderr.isatty() and not quiet
    begun = time.process_time()
    label = "ADR    " if name == "adr" else "without"

    def progress(share: float, figures: str) -> None:
        done = round(share * BAR)
        sys.stderr.write(f"\r{label} [{'#' * done}{'.' * (BAR - done)}] {100 * share:3.0f} %  {figures} ")
        sys.stderr.flush()

    day = Day(scenario)
    if not quiet and not bar:
        print(f"{label} {scenario.motes} motes, {scenario.hours:g} hours ...", file=sys.stderr, flush=True)
    day.run(progress if bar else None)
    if bar:
        sys.stderr.write("\n")
    return report_of(day, time.process_time() - begun)


def _text(runs: dict[str, Report]) -> list[str]:
    first = next(iter(runs.values()))
    scenario = first.scenario
    lines = [
        f"{scenario.region}: {scenario.motes} motes, {scenario.gateways} gateways, {scenario.hours:g} hours, "
        f"a message every {scenario.every:g} s, radius {scenario.radius:g} km, seed {scenario.seed}",
        "",
        *table(list(runs.values()), ["with ADR" if name == "adr" else "without ADR" for name in runs]),
    ]
    whole = _whole(runs)
    if isinstance(whole, Comparison):
        lines += ["", f"without ADR there is {whole.airtime_ratio:.2f} times as much in the air"]
    for name, run in runs.items():
        title = "With ADR" if name == "adr" else "Without ADR"
        lines += ["", f"{title}: data rates", *rates(run), "", f"{title}: duty cycles", *shares(run)]
        problems = wrong(run)
        lines += ["", f"{title}: " + ("all as it should be" if not problems else "NOT AS IT SHOULD BE"), *problems]
    return lines
