"""The conformance suite against our own server: the real process, configured as `examples/open.toml` says."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

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
from tests.conformance.runs import SIDE_BY_SIDE, Case, Outcome, run
from tests.conformance.scenarios import Scenarios
from tests.conformance.scenarios_restart import Halves
from tests.conformance.tables import ROWS
from tests.real import LOOPBACK, RealBroker

OPEN: Final = Path(__file__).resolve().parents[2] / "examples" / "open.toml"
#: Failures that a report shows of as many as there are.
SHOWN: Final = 50


def settings_of(table: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """The keys of a TOML table as `RealBroker` takes them: dotted names, values as TOML."""
    for name, value in table.items():
        if isinstance(value, dict):
            yield from settings_of(value, f"{path}{name}.")
        else:
            yield path + name, json.dumps(value)


class ConformanceTests(TestCase):
    timeout = 120

    def server(self) -> RealBroker:
        folder = Path(self.mktemp()).absolute()
        folder.mkdir(parents=True)
        settings = {**dict(settings_of(tomllib.loads(OPEN.read_text()))), "listeners.mqtt.bind": LOOPBACK}
        broker = RealBroker(folder, settings)
        self.addCleanup(broker.kill)
        return broker

    def judge(self, outcome: Outcome, broker: RealBroker) -> None:
        self.assertEqual([], [line for line in broker.output if "Traceback" in line or " critical " in line])
        self.assertTrue(outcome.cases)
        self.assertEqual([], outcome.failures[:SHOWN], str(outcome))

    def passes(self, cases: Callable[[int], Sequence[Case]], threads: int = 0) -> Deferred[None]:
        """`cases` makes them for a port; `threads`: 0 is as many as there are."""
        broker = self.server()

        def play_all() -> Outcome:
            broker.start()
            listed = cases(broker.ports["mqtt"])
            return run(listed, threads or len(listed))

        return deferToThread(play_all).addCallback(self.judge, broker)

    def rows(self, *versions: int, at_once: bool = False) -> Deferred[None]:
        rows = [row for row in ROWS if row.version in versions]

        def cases(port: int) -> list[Case]:
            return [(row.title, partial(play, port, row, at_once=at_once)) for row in rows]

        return self.passes(cases, SIDE_BY_SIDE)

    def scenarios(self, scenarios: Scenarios) -> Deferred[None]:
        return self.passes(lambda port: list(scenarios.cases(port)))  # most of what they do is waiting

    def test_rows_of_3_1(self) -> Deferred[None]:
        return self.rows(3)

    def test_rows_of_3_1_1(self) -> Deferred[None]:
        return self.rows(4)

    def test_rows_of_5_0(self) -> Deferred[None]:
        return self.rows(5)

    def test_rows_in_one_write(self) -> Deferred[None]:
        return self.rows(3, 4, 5, at_once=True)

    def test_messages(self) -> Deferred[None]:
        return self.scenarios(scenarios_messages.scenarios)

    def test_sessions(self) -> Deferred[None]:
        return self.scenarios(scenarios_sessions.scenarios)

    def test_what_only_5_0_has(self) -> Deferred[None]:
        return self.scenarios(scenarios_5.scenarios)

    def test_subscriptions_and_flow_of_5_0(self) -> Deferred[None]:
        return self.scenarios(scenarios_5_flow.scenarios)

    def test_edges(self) -> Deferred[None]:
        return self.scenarios(scenarios_edges.scenarios)

    def test_stories(self) -> Deferred[None]:
        return self.scenarios(scenarios_interop.scenarios)

    def test_a_crowd(self) -> Deferred[None]:
        return self.scenarios(scenarios_crowd.scenarios)

    def test_what_outlives_the_server(self) -> Deferred[None]:
        broker = self.server()

        def both_halves() -> Outcome:
            broker.start()
            halves = Halves(broker.ports["mqtt"])
            try:
                first = run(halves.cases(broker.ports["mqtt"]))
                if first.failures:
                    return first
                broker.kill()
                broker.start()
                return run(halves.cases(broker.ports["mqtt"]))
            finally:
                halves.close()

        return deferToThread(both_halves).addCallback(self.judge, broker)
