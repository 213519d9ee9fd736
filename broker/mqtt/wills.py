"""The wills of connections (§3.1.2.5): from CONNECT, where they are put on disk, until they are published or void.

::

    leave ──> DISCONNECT ──> withdraw                                             [MQTT-3.1.2-10] [MQTT-3.14.4-3]
        └───> connection lost ──> delay 0, or the session is over ──> published
                             └──> waits ──> the client is back in time: void      5.0 [MQTT-3.1.3-9]
                                        └── delay or session over: published      5.0 §3.1.3.2.2
    crash ──> all that were left wait, as if the connections had been lost at the start

A will is on disk before CONNACK, whatever its session is, and goes from there in the batch that has what its
publication owes to others: a crash publishes it neither never nor twice to a session that is on disk.

After a crash nobody who would want to hear of it is connected yet, so wills that are due wait for ``grace`` seconds.
Who comes back meanwhile has its will published first, as at a takeover.

5.0: it belongs to the connection's session [MQTT-3.1.2-7] and is published when the time has come [MQTT-3.1.2-8], with
RETAIN as it was left [MQTT-3.1.2-14] [MQTT-3.1.2-15].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from heapq import heappop, heappush
from typing import Any, TypeAlias

from broker.mqtt import packets as p
from broker.mqtt import properties as props
from broker.mqtt.journal import UNWILL, WILL, SessionJournal, WillRecord

Key: TypeAlias = tuple[str, str]


class LastWill:
    """A will that was left. ``principal``: who left it; None: it is only known by name (``key``'s first).

    ``position``: of the journal, that CONNACK has to wait for. ``due``: when its delay is over, once it waits.
    """

    __slots__ = ("delay", "due", "key", "number", "position", "principal", "will")

    def __init__(self, number: int, key: Key, principal: Any, will: p.Will, delay: int) -> None:
        self.number = number
        self.key = key
        self.principal = principal
        self.will = will
        self.delay = delay
        self.position = 0
        self.due = 0.0


class Wills:
    """``clock``: UNIX seconds. ``publish(last_will)`` sends one, and calls `done` in the same turn as it does."""

    def __init__(
        self, journal: SessionJournal, clock: Callable[[], float], publish: Callable[[LastWill], object]
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._publish = publish
        self._next_number = 1
        self._numbered = False
        #: Those that wait: by client, and by when to look (the number makes them different).
        self._waiting: dict[Key, list[LastWill]] = {}
        self._looks: list[tuple[float, int, LastWill]] = []

    def __len__(self) -> int:
        return sum(len(each) for each in self._waiting.values())

    def number_from(self, first: int) -> None:
        """Numbers from there on are ours to give, whatever is restored."""
        self._next_number, self._numbered = first, True

    def clear(self) -> None:
        """Forget those that wait: they are another process's."""
        self._waiting.clear()
        self._looks.clear()

    def restore(self, records: Sequence[WillRecord], grace: float, lasts: Callable[[Key], bool]) -> None:
        """Take up what was on disk at the start. ``lasts``: whether the client has a session that outlived it."""
        now = self._clock()
        for record in records:
            if not self._numbered:
                self._next_number = max(self._next_number, record.number + 1)
            block = props.property_block(record.properties)
            properties = props.decode_properties(block, 0, len(block), p.PUBLISH)[0]
            will = p.Will(record.topic, record.payload, record.qos, record.retain, properties)
            last = LastWill(record.number, (record.owner, record.client_id), None, will, record.delay)
            if lasts(last.key):
                last.due = (now if record.lost_at is None else record.lost_at) + record.delay
            self._wait(last, max(last.due, now + grace))

    def leave(self, key: Key, principal: Any, will: p.Will) -> LastWill:
        """A client connects with this will."""
        delay = props.number(will.properties, props.WILL_DELAY_INTERVAL, 0)
        properties = {one: value for one, value in (will.properties or {}).items() if one != props.WILL_DELAY_INTERVAL}
        last = LastWill(self._next_number, key, principal, replace(will, properties=properties or None), delay)
        self._next_number += 1
        self._keep(last, None)
        return last

    def withdraw(self, last: LastWill) -> None:
        """It is void."""
        self.done(last)

    def done(self, last: LastWill) -> None:
        """It was published, or never will be."""
        self._journal.append((UNWILL, last.number))

    def now(self, last: LastWill) -> None:
        """The connection was lost, and nothing can bring it back."""
        self._publish(last)

    def later(self, last: LastWill) -> None:
        """The connection was lost, its session lasts: publish when the delay is over, if nothing happens before."""
        now = self._clock()
        last.due = now + last.delay
        self._keep(last, now)
        self._wait(last, last.due)

    def again(self, last: LastWill, seconds: float) -> None:
        """It could not be published: try again."""
        self._wait(last, self._clock() + seconds)

    def back(self, key: Key, principal: Any) -> None:
        """The client is connected to its session again."""
        now = self._clock()
        for last in self._waiting.pop(key, ()):
            if last.due > now:
                self.withdraw(last)
            else:
                last.principal = principal
                self._publish(last)

    def over(self, key: Key) -> None:
        """The client's session has ended, or there is none."""
        for last in self._waiting.pop(key, ()):
            self._publish(last)

    def tick(self) -> None:
        """Publish those whose time has come."""
        now = self._clock()
        while self._looks and self._looks[0][0] <= now:
            last = heappop(self._looks)[2]
            waiting = self._waiting.get(last.key, [])
            if last in waiting:
                waiting.remove(last)
                if not waiting:
                    del self._waiting[last.key]
                self._publish(last)

    def _wait(self, last: LastWill, when: float) -> None:
        self._waiting.setdefault(last.key, []).append(last)
        heappush(self._looks, (when, last.number, last))

    def _keep(self, last: LastWill, lost_at: float | None) -> None:
        will = last.will
        properties = props.shared_bytes(will.properties)
        fields = (last.number, *last.key, will.topic, will.payload, will.qos, will.retain, properties, last.delay)
        self._journal.append((WILL, WillRecord(*fields, lost_at)))
        last.position = self._journal.position
