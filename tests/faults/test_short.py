"""A short storm of faults on three processes; `tests.faults.storm` has what must hold, `make faults` the long form."""

from __future__ import annotations

import time
from pathlib import Path
from typing import ClassVar

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.logger import Logger
from twisted.trial.unittest import TestCase

from tests.faults.storm import storm

#: Seconds in which no further fault begins.
LONGEST = 20.0
LEASE = 1.5


class FaultStormTests(TestCase):
    timeout = 150
    log: ClassVar[Logger] = Logger(namespace="tests.faults")

    def test_nothing_acknowledged_is_lost(self) -> Deferred[None]:
        folder = Path(self.mktemp()).absolute()
        folder.mkdir(parents=True)
        seed = int(time.time())

        def say(line: str) -> None:
            self.log.info("{line}", line=line)

        def told(figures: str) -> None:
            self.log.info("seed {seed}: {figures}", seed=seed, figures=figures)

        kinds = ["kill", "stop", "Redis kill"]
        return deferToThread(storm, folder, LONGEST, seed, kinds, lease=LEASE, devices=4, say=say).addCallback(told)
