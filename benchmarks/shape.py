"""What a row of the table is: a load, what is asked of it, and beside whom it is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from benchmarks.pairs import Load

Kind = Literal["figure", "ratio", "p50", "longest", "rate"]
Storage = Literal["sqlite", "redis", "processes"]


class Work(Protocol):
    """A load that is set up against one server."""

    def run(self, messages: int) -> Load: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Target:
    """What an issue asks for: at most ``value`` (a ``rate``: at least).

    ``of``: the least figure, in the unit of its row; its ``ratio`` to that of the peer ``beside``; the middle or
    longest latency in ms; messages a second.
    """

    value: float
    issue: int
    of: Kind = "figure"
    beside: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One row of the table. ``make`` gets the server (`benchmarks.children`)."""

    name: str
    protocol: str
    title: str
    make: Callable[[Any], Work]
    messages: int
    #: us: server CPU a message; s: of the whole run; KB: of the server's memory a message.
    unit: Literal["us", "s", "KB"] = "us"
    targets: tuple[Target, ...] = ()
    #: What a server has to speak to be measured beside ours (`benchmarks.children.Child.speaks`); empty: nobody can.
    peers: Literal["", "mqtt", "tls", "tls-idle", "publish", "processes"] = ""
    history: bool = False
    #: Where our broker keeps what it has to: a row for each. Where nothing is kept it makes no difference. "processes":
    #: two on one Redis.
    storages: tuple[Storage, ...] = ("sqlite",)
    #: Repetitions at most, where each takes its time; 0: as many as are asked for.
    most: int = 0
    #: Of the broker's own (dotted keys and TOML).
    settings: Mapping[str, str] | None = None
