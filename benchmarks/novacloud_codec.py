"""What a NovaCloud data line costs, without sockets: `python -m benchmarks.novacloud_codec`. Best of several rounds.

The chunks are those that a busy connection gets from TCP: 64 KiB, so a line is cut at most ends.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from broker.devices.novacloud.codec import LineDecoder
from broker.model.messages import Uplink
from tests.devices.novacloud.bed import Bed

LINE = (
    b'{"type": "data", "timestamp": 1678886400, "payload": {"temperature": 25.5, "humidity": 65, '
    b'"pressure": 101.3, "light": 312, "is_window_open": false}}\n'
)
LINES = 20_000
CHUNK = 65_536
ROUNDS = 7


def chunks() -> list[bytes]:
    data = LINE * LINES
    return [data[at : at + CHUNK] for at in range(0, len(data), CHUNK)]


def best(run: Callable[[], object]) -> float:
    """Microseconds a line."""
    times = []
    for _ in range(ROUNDS):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return min(times) / LINES * 1e6


def codec() -> float:
    pieces = chunks()

    def run() -> None:
        decoder = LineDecoder(131_072)
        for piece in pieces:
            deque(decoder.feed(piece), maxlen=0)

    return best(run)


class Counting:
    """A consumer that does what an MQTT bridge has to do at least: nothing, or the JSON text."""

    def __init__(self, encode: bool) -> None:
        self._encode = encode
        self.count = 0

    def uplink(self, message: Uplink) -> None:
        self.count += 1
        if self._encode:
            message.as_json()

    def presence(self, change: object) -> None:
        """Of no interest."""

    def command(self, change: object) -> None:
        """Of no interest."""


def connection(encode: bool) -> float:
    """From the chunk to the consumer: codec, protocol, mapping, last values, router."""
    bed = Bed()
    bed.core.router.ignore(bed.heard)
    consumer = Counting(encode)
    device = bed.login()
    bed.core.router.listen(consumer)  # type: ignore[arg-type]  # its callers care for less than the interface
    pieces = chunks()

    def run() -> None:
        for piece in pieces:
            device.connection.dataReceived(piece)
            bed.clock.advance(10)

    cost = best(run)
    assert consumer.count == ROUNDS * LINES, consumer.count
    return cost


def main() -> None:
    print(f"codec alone:                          {codec():.2f} us a line of 5 values")
    print(f"chunk to consumer:                    {connection(False):.2f}")
    print(f"chunk to consumer, with its JSON:     {connection(True):.2f}")


if __name__ == "__main__":
    main()
