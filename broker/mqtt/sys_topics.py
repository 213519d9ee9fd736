"""The broker's figures under `$SYS/broker/`, with the names that Mosquitto made usual.

::

    every interval ──> publish() ──> those that changed since they were last published, through one callable
    a subscription ──> match(filter) ──> the present figures, as if they were retained; nothing is stored

A payload is the number, or the text, in ASCII. What the figures count begins with the process. Who may see them is
decided as for every other topic; the interval, and the LoopingCall that keeps it, are the server's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final, TypeAlias

from broker.listening.stats import ListenerStats
from broker.mqtt.topics import matches
from broker.routing.topic_index import TopicIndex

PREFIX: Final = "$SYS/broker/"

#: What is asked for a figure, in the reactor's thread; it costs next to nothing.
Figure: TypeAlias = Callable[[], int | str]


@cache
def broker_version() -> str:
    """The version of the installed distribution; "unknown" from a plain checkout. Looking costs a millisecond."""
    try:
        return version("broker")
    except PackageNotFoundError:
        return "unknown"


def usual_figures(
    stats: ListenerStats,
    index: TopicIndex[Any, Any],
    counts: Mapping[str, Figure],
    uptime: Callable[[], float],
) -> dict[str, Figure]:
    """Topic below `PREFIX` -> figure. ``counts`` has what only the server knows, by topic; ``uptime`` in seconds."""
    text = f"broker version {broker_version()}"
    return {
        "version": lambda: text,
        "uptime": lambda: f"{int(uptime())} seconds",
        "clients/total_logins": lambda: stats.authenticated,
        "messages/received": lambda: stats.messages_in,
        "messages/sent": lambda: stats.messages_out,
        "publish/messages/dropped": lambda: sum(stats.dropped.values()),
        "bytes/received": lambda: stats.bytes_in,
        "bytes/sent": lambda: stats.bytes_out,
        "subscriptions/count": lambda: index.subscriptions,
        **counts,
    }


class SysTopics:
    """``figures``: topic below `PREFIX` -> figure; ``send(topic, payload)`` gives a message to whoever subscribed."""

    def __init__(self, figures: Mapping[str, Figure], send: Callable[[str, bytes], object]) -> None:
        self._figures = {PREFIX + name: figure for name, figure in figures.items()}
        self._send = send
        self._last: dict[str, bytes] = {}

    def publish(self) -> None:
        """Send every figure that is not what it was when it was last sent."""
        last = self._last
        for topic, figure in self._figures.items():
            payload = _payload(figure)
            if last.get(topic) != payload:
                last[topic] = payload
                self._send(topic, payload)

    def get(self, topic: str) -> bytes | None:
        """The figure of a topic now; None if there is none of this name."""
        figure = self._figures.get(topic)
        return None if figure is None else _payload(figure)

    def match(self, topic_filter: str) -> list[tuple[str, bytes]]:
        """(topic, payload) of every figure that a valid filter selects, now."""
        # Most filters are somebody else's: no look at each figure for them.
        if not topic_filter.startswith("$SYS/"):
            return []
        return [(topic, _payload(figure)) for topic, figure in self._figures.items() if matches(topic_filter, topic)]


def _payload(figure: Figure) -> bytes:
    return str(figure()).encode()
