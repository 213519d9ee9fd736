"""Run the suite against a server on this machine: `python -m tests.conformance --port N [WORD...]`.

Words choose the cases whose titles have all of them. Failures are printed, and written to --report FILE.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from tests.conformance import (
    scenarios_5,
    scenarios_5_flow,
    scenarios_crowd,
    scenarios_edges,
    scenarios_interop,
    scenarios_messages,
    scenarios_sessions,
)
from tests.conformance.rows import play
from tests.conformance.runs import Outcome, run
from tests.conformance.tables import ROWS

SCENARIOS = (
    scenarios_messages.scenarios,
    scenarios_sessions.scenarios,
    scenarios_5.scenarios,
    scenarios_5_flow.scenarios,
    scenarios_edges.scenarios,
    scenarios_interop.scenarios,
    scenarios_crowd.scenarios,
)


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    options.add_argument("--port", type=int, required=True)
    options.add_argument("--report", type=Path)
    options.add_argument("--patience", type=float, default=3.0, help="seconds for each answer to a row")
    options.add_argument("--only", choices=("rows", "scenarios"))
    options.add_argument("words", nargs="*")
    given = options.parse_args()

    def wanted(title: str) -> bool:
        return all(word in title for word in given.words)

    outcomes: list[tuple[str, Outcome]] = []
    if given.only != "scenarios":
        rows = [(row.title, partial(play, given.port, row, given.patience)) for row in ROWS if wanted(row.title)]
        outcomes.append(("rows", run(rows)))
    if given.only != "rows":
        cases = [case for listed in SCENARIOS for case in listed.cases(given.port) if wanted(case[0])]
        outcomes.append(("scenarios", run(cases, len(cases) or 1)))
    lines = []
    for kind, outcome in outcomes:
        lines += [f"# {kind}: {outcome}", *outcome.failures]
    print("\n".join(lines))
    if given.report:
        given.report.write_text("\n".join(lines) + "\n")
    return 1 if any(outcome.failures for _, outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
