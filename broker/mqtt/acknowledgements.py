"""The acknowledgements of one connection, in the order of the publishes that they answer [MQTT-4.6.0-2..3].

::

    add(packet)              out at once, or behind those that wait
    reserve(packet, size)    a place that is kept until the returned call is made: what was published is being stored

A publish at QoS 0 that is being stored takes a place too, with no packet: what waits for storage is bounded by counting
these places (``len``) and the bytes that they stand for (``held``). Who reads no further because of them is the
connection.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable


class _Place:
    __slots__ = ("packet", "ready", "size")

    def __init__(self, packet: bytes, size: int, ready: bool) -> None:
        self.packet = packet
        self.size = size
        self.ready = ready


class Acknowledgements:
    """``put`` sends a packet."""

    __slots__ = ("_places", "_put", "held")

    def __init__(self, put: Callable[[bytes], object]) -> None:
        self._put = put
        self._places: deque[_Place] = deque()
        #: Bytes of the publishes that wait.
        self.held = 0

    def __len__(self) -> int:
        return len(self._places)

    def add(self, packet: bytes) -> None:
        """Send ``packet`` once everything before it is sent."""
        if self._places:
            self._places.append(_Place(packet, 0, True))
        else:
            self._put(packet)

    def reserve(self, packet: bytes, size: int) -> Callable[[], None]:
        """Keep the place of ``packet`` (which may be empty); the returned call, made once, lets it go."""
        place = _Place(packet, size, False)
        self._places.append(place)
        self.held += size

        def ready() -> None:
            place.ready = True
            self.held -= size
            places = self._places
            while places and places[0].ready:
                first = places.popleft()
                if first.packet:
                    self._put(first.packet)

        return ready
