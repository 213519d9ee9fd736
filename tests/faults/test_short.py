"""Two short storms of faults on three processes; `tests.faults.storm` has what must hold, `make faults` the long form.

One has the same faults every time, the other one begins where its seed says, which the log and a failure tell:
``python -m tests.faults --minutes 0.1 --lease 1.5 --with mqtt --ordered --seed N`` repeats it.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from pathlib import Path
from typing import Any, ClassVar

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.logger import Logger
from twisted.trial.unittest import TestCase

from tests.faults.storm import Plan, storm

#: Seconds in which no further fault begins.
LONGEST = 6.0
LEASE = 1.5


class FaultStormTests(TestCase):
    timeout = 600
    log: ClassVar[Logger] = Logger(namespace="tests.faults")

    def storm(self, seed: int, faults: Collection[str] = ()) -> Deferred[None]:
        folder = Path(self.mktemp()).absolute()
        folder.mkdir(parents=True)
        plan = Plan(seed=seed, seconds=LONGEST, lease=LEASE, kinds=("mqtt",), ordered=True)

        def say(line: str) -> None:
            self.log.info("{line}", line=line)

        def told(figures: str) -> None:
            self.log.info("seed {seed}: {figures}", seed=seed, figures=figures)

        any_reactor: Any = reactor
        return deferToThread(storm, folder, plan, any_reactor, say, faults).addCallback(told)

    def test_a_process_dies_another_stops_and_redis_dies(self) -> Deferred[None]:
        return self.storm(1, ("Redis kill", "kill", "stop"))

    def test_faults_at_random(self) -> Deferred[None]:
        return self.storm(int(time.time()))
