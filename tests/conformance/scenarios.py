"""What a scenario is: a function that takes a `Room`, for each version that it names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from tests.conformance.client import Room
from tests.conformance.runs import Case

Play = Callable[[Room], None]
EVERY: Final = (3, 4, 5)
_VERSIONS: Final = {3: "3.1", 4: "3.1.1", 5: "5.0"}


@dataclass(slots=True)
class Scenarios:
    """The scenarios of one file, in its order; `@scenarios(...)` adds one."""

    listed: list[tuple[Play, tuple[int, ...]]] = field(default_factory=list)

    def __call__(self, *versions: int) -> Callable[[Play], Play]:
        def add(play: Play) -> Play:
            self.listed.append((play, versions or EVERY))
            return play

        return add

    def cases(self, port: int) -> Iterator[Case]:
        """Each with each of its versions, against the server on this port."""
        for play, versions in self.listed:
            for version in versions:
                yield f"{_VERSIONS[version]} {play.__name__}", partial(_play, play, port, version)


def _play(play: Play, port: int, version: int) -> None:
    room = Room(port, version)
    try:
        play(room)
    finally:
        room.close()
