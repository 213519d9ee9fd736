"""What is asked of the directory, and by whom."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import TestCase

from broker.cluster import scripts
from broker.cluster.directory import Directory
from broker.model.errors import Unavailable


class DirectoryTests(TestCase):
    def setUp(self) -> None:
        self.node = "us.1"
        self.ran: list[tuple[str, tuple[Any, ...]]] = []
        self.turns: list[Callable[[], None]] = []
        self.directory = Directory(self.run_script, self.turns.append, lambda: self.node, lambda: None)

    def run_script(self, script: str, *arguments: Any) -> Deferred[Any]:
        self.ran.append((script, arguments))
        return succeed([1, b""] if script == scripts.TAKE else [b"", b""])

    def turn(self) -> None:
        while self.turns:
            self.turns.pop(0)()

    def test_a_process_that_has_not_joined_takes_nothing(self) -> None:
        """An entry of no node is anybody's: it would have it, and so would the next who asks."""
        asked = self.directory.take("dev", "d", "")
        self.node = ""  # fenced, before the turn is over
        found = self.directory.find("dev", "d")
        self.turn()
        self.failureResultOf(asked, Unavailable)
        self.assertEqual(self.successResultOf(found).node, "")
        self.assertEqual([script for script, _ in self.ran], [scripts.FIND])
        self.node = "us.2"
        again = self.directory.take("dev", "d", "")
        self.turn()
        self.assertTrue(self.successResultOf(again).mine)
