"""The answers of one connection that have to keep their order [MQTT-4.6.0-2..3], or to wait for the disk.

::

    add(packet)                   out at once, or behind those that wait
    add_at(position, packet)      once the journal has committed that far
    reserve(packet, size)         a place kept until the returned call is made: what was published is being stored

The PUBACKs of one chunk, which wait for the same commit, may share a place: ``count`` says how many answers it stands
for. A publish at QoS 0 that is being stored takes a place too, with no packet: what waits for storage is bounded by
counting the answers (``count``) and the bytes of what they answer (``held``). Who reads no further for them is the
connection.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable


class _Place:
    """``position``: what the journal has to have committed; 0: nothing, but for ``ready``."""

    __slots__ = ("count", "packet", "position", "ready", "size", "then")

    def __init__(
        self,
        packet: bytes,
        size: int,
        ready: bool,
        position: int = 0,
        then: Callable[[], object] | None = None,
        count: int = 1,
    ) -> None:
        self.count = count
        self.packet = packet
        self.size = size
        self.ready = ready
        self.position = position
        self.then = then


class Acknowledgements:
    """``put`` sends a packet."""

    __slots__ = ("_places", "_put", "_upto", "count", "held", "positions")

    def __init__(self, put: Callable[[bytes], object]) -> None:
        self._put = put
        #: Made when something waits: most connections have nothing for the disk.
        self._places: deque[_Place] | None = None
        #: Answers that wait.
        self.count = 0
        self._upto = 0
        #: Bytes of the publishes that wait.
        self.held = 0
        #: How many places wait for the journal.
        self.positions = 0

    def add(self, packet: bytes, count: int = 1) -> None:
        """Send ``packet``, which is so many answers, once everything before it is sent."""
        if self.count:
            self._append(_Place(packet, 0, True, count=count))
        else:
            self._put(packet)

    def add_at(
        self, position: int, packet: bytes, size: int = 0, then: Callable[[], object] | None = None, count: int = 1
    ) -> None:
        """Send ``packet`` in its turn, once `settled` has come to ``position``; then call ``then``."""
        self._append(_Place(packet, size, False, position, then, count))
        self.positions += 1

    def reserve(self, packet: bytes, size: int) -> Callable[[], None]:
        """Keep the place of ``packet`` (which may be empty); the returned call, made once, lets it go."""
        place = _Place(packet, size, False)
        self._append(place)

        def ready() -> None:
            place.ready = True
            self._leave()

        return ready

    def settled(self, upto: int) -> None:
        """The journal has committed up to there."""
        self._upto = upto
        self._leave()

    def _append(self, place: _Place) -> None:
        if self._places is None:
            self._places = deque()
        self._places.append(place)
        self.count += place.count
        self.held += place.size

    def _leave(self) -> None:
        places = self._places
        upto = self._upto
        while places:
            first = places[0]
            if first.position:
                if first.position > upto:
                    return
                self.positions -= 1
            elif not first.ready:
                return
            places.popleft()
            self.count -= first.count
            self.held -= first.size
            if first.packet:
                self._put(first.packet)
            if first.then is not None:
                first.then()
