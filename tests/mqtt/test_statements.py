"""The numbered statements of MQTT 5.0 (its Appendix B): each that binds a server is cited where it is kept.

Numbers of 3.1.1 look the same and are cited as well, so this is a list of what was gone through, and not a proof.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

BROKER = Path(__file__).resolve().parents[2] / "broker"
CITATION = re.compile(r"\[MQTT-(\d+\.\d+\.\d+)-(\d+)(?:\.\.(\d+))?\]")

#: Section -> its highest number.
STATEMENTS = {
    "1.5.4": 3, "1.5.5": 1, "1.5.7": 1, "2.1.3": 1, "2.2.1": 6, "2.2.2": 1, "3.1.0": 2, "3.1.2": 30, "3.1.3": 12,
    "3.1.4": 6, "3.2.0": 2, "3.2.2": 22, "3.3.1": 13, "3.3.2": 20, "3.3.4": 10, "3.4.2": 3, "3.5.2": 3, "3.6.1": 1,
    "3.6.2": 3, "3.7.2": 3, "3.8.1": 1, "3.8.3": 5, "3.8.4": 8, "3.9.2": 2, "3.9.3": 2, "3.10.1": 1, "3.10.3": 2,
    "3.10.4": 6, "3.11.2": 2, "3.11.3": 2, "3.12.4": 1, "3.14.0": 1, "3.14.1": 1, "3.14.2": 4, "3.14.4": 3,
    "3.15.1": 1, "3.15.2": 3, "4.1.0": 2, "4.2.0": 1, "4.3.1": 1, "4.3.2": 5, "4.3.3": 13, "4.4.0": 2, "4.5.0": 2,
    "4.6.0": 6, "4.7.0": 1, "4.7.1": 2, "4.7.2": 1, "4.7.3": 4, "4.8.2": 6, "4.9.0": 3, "4.12.0": 7, "4.12.1": 2,
    "4.13.1": 1, "4.13.2": 1, "6.0.0": 4,
}  # fmt: skip
#: What binds clients alone, is no number of the standard's, or (3.3.4-5) is about several copies where we send one.
NOT_OURS = {
    ("2.2.1", 1), ("2.2.1", 3), ("3.1.2", 20), ("3.1.2", 30), ("3.1.3", 10), ("3.2.2", 4), ("3.2.2", 5),
    ("3.2.2", 11), ("3.2.2", 14), ("3.2.2", 15), ("3.2.2", 17), ("3.2.2", 18), ("3.3.2", 10), ("3.3.4", 5),
    ("3.3.4", 8), ("4.6.0", 1), ("4.6.0", 4), ("4.12.0", 3),
}  # fmt: skip


def cited() -> Iterator[tuple[str, int]]:
    for file in BROKER.rglob("*.py"):
        for section, first, last in CITATION.findall(file.read_text(encoding="utf-8")):
            for number in range(int(first), int(last or first) + 1):
                yield section, number


class StatementTests(SynchronousTestCase):
    def test_each_is_cited(self) -> None:
        all_of_them = {(section, number) for section, last in STATEMENTS.items() for number in range(1, last + 1)}
        self.assertEqual(sorted(all_of_them - NOT_OURS - set(cited())), [])
        self.assertLessEqual(NOT_OURS, all_of_them)
