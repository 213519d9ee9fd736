"""A short storm of kills; `tests.kill_storm` has what must hold, and the long form."""

from __future__ import annotations

import time
from pathlib import Path
from typing import ClassVar

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.logger import Logger
from twisted.trial.unittest import TestCase

from tests.kill_storm import storm

KILLS = 8


class KillStormTests(TestCase):
    timeout = 120
    log: ClassVar[Logger] = Logger(namespace="tests.kill_storm")

    def test_nothing_acknowledged_is_lost(self) -> Deferred[None]:
        folder = Path(self.mktemp()).absolute()
        folder.mkdir(parents=True)
        seed = int(time.time())

        def told(figures: str) -> None:
            self.log.info("seed {seed}: {figures}", seed=seed, figures=figures)

        return deferToThread(storm, folder, KILLS, seed).addCallback(told)
