"""Air time on disk, so that an hour is an hour when the broker is started again meanwhile.

Table ``lorawan_air``: EUI + when this life of the broker began + minute of it -> emissions that were booked in that
minute, 36 bytes each::

    start      8  UNIX microseconds          length   4  microseconds of the emission
    span       4  microseconds in which it   frequency 4  Hz
                  lies somewhere             band     16  from, to, share (`regions.Band`)

Pages are written by the tick: every `SAVE` seconds, every second when a band is more than half full, and at the end. So
after a crash the bookings of the last 10 s may be missing, or those of the last second where it matters; what had been
booked before is there, even if it was yet to be sent. Times on disk are of the wall clock; if that was set back while
the broker was down, what was sent is taken to have been sent just now.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heappop, heappush
from struct import Struct
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from broker.core import Core
from broker.devices.lorawan.air import Emission
from broker.devices.lorawan.counters import LorawanCounters
from broker.devices.lorawan.gateway import Gateway
from broker.devices.lorawan.gateways import Gateways
from broker.devices.lorawan.ledger import HOUR
from broker.devices.lorawan.regions import Band
from broker.storage.deferred import deferred
from broker.storage.records import Change

TABLE: Final = "lorawan_air"
#: Seconds between two commits of bookings.
SAVE: Final = 10.0
#: The part of a band's air time from which on they are not put off.
HALF: Final = 0.5
#: Seconds of a page.
PAGE: Final = 60.0
#: Microseconds that something may be booked ahead.
AHEAD: Final = 600_000_000
#: Rows that are read or removed at a time.
SLICE: Final = 1_000
#: Hexadecimal digits of a key: EUI, milliseconds at which the broker was started, page.
_EUI: Final = 16

_emission: Final = Struct(">QIIIIId")


class AirLog:
    """Read once, at the start; written as transmitters are booked."""

    log = Logger(namespace="broker.lorawan")

    def __init__(self, core: Core, gateways: Gateways, counted: LorawanCounters) -> None:
        self._core = core
        self._gateways = gateways
        self._counted = counted
        self._begin()
        #: By key: the emissions of a page, by their start on the gateway's clock. This minute's and the one before.
        self._pages: dict[str, dict[int, bytes]] = {}
        #: Keys of pages that are to be written.
        self._changed: dict[str, None] = {}
        #: When they are, in monotonic seconds.
        self._due = 0.0
        self._writing = False
        #: (monotonic seconds, key): when a row is of no account any more.
        self._rows: list[tuple[float, str]] = []
        self._removing = False
        self._stopped = False

    def _begin(self) -> None:
        """Pages that are told from those of before."""
        self._started_at = self._core.monotonic()
        self._life = f"{int(self._core.clock() * 1000):012X}"
        self._page = 0

    def clear(self) -> None:
        """What has not been written will not be; `load` reads the rest anew."""
        self._begin()
        for known in (self._pages, self._changed, self._rows):
            known.clear()

    @property
    def writing(self) -> bool:
        """Whether something is on its way to the disk."""
        return self._writing

    # -- what is booked --------------------------------------------------------------------------------------------

    def add(self, gateway: Gateway, emission: Emission) -> None:
        """A gateway was booked."""
        band = emission.band
        if band is None:
            return
        now = self._core.monotonic()
        page = int((now - self._started_at) / PAGE)
        if page != self._page:
            self._turn(page)
        key = f"{gateway.eui}{self._life}{page:08X}"
        entries = self._pages.get(key)
        if entries is None:
            entries = self._pages[key] = {}
            heappush(self._rows, (now + PAGE + (HOUR + AHEAD) / 1e6, key))
        start = int(self._core.clock() * 1e6) + emission.start - gateway.clock.reading(now)
        entries[emission.start] = _emission.pack(
            max(0, start),
            emission.end - emission.start,
            emission.length,
            emission.frequency,
            band.low,
            band.high,
            band.duty,
        )
        self._changed[key] = None
        if gateway.air.filled(band, emission.end) > HALF:
            self._due = now

    def remove(self, gateway: Gateway, emission: Emission) -> None:
        """It was not sent after all."""
        for page in (self._page, self._page - 1):
            key = f"{gateway.eui}{self._life}{page:08X}"
            if self._pages.get(key, {}).pop(emission.start, None) is not None:
                self._changed[key] = None
                return

    def _turn(self, page: int) -> None:
        """A new minute; of the pages before the last one nothing changes any more."""
        self._page = page
        kept = (f"{page - 1:08X}", f"{page:08X}")
        self._pages = {
            key: entries for key, entries in self._pages.items() if key.endswith(kept) or key in self._changed
        }

    def flush(self) -> None:
        """Write the pages that changed, in one commit, unless a commit is under way: then after it, if it is due."""
        if self._writing or not self._changed:
            return
        self._due = self._core.monotonic() + SAVE
        keys, self._changed = list(self._changed), {}
        changes = [Change(TABLE, key, b"".join(self._pages[key].values()) or None) for key in keys]
        self._writing = True
        writing: Deferred[None] = self._core.storage.write_records(changes)
        writing.addCallbacks(self._written, self._not_written, errbackArgs=(keys,))

    def _written(self, _: None) -> None:
        self._writing = False
        if self._stopped:
            self.flush()

    def _not_written(self, failure: Any, keys: Iterable[str]) -> None:
        """Tried again after a while."""
        self._writing = False
        self._counted.air_unsaved += 1
        for key in keys:
            if key in self._pages:
                self._changed[key] = None
        self.log.warn("lorawan: air time not written: {why}", why=failure.getErrorMessage())

    def stop(self) -> None:
        """Write what has not been written."""
        self._stopped = True
        self.flush()

    def tick(self, now: float) -> None:
        """About once a second: write what is due, throw away what is of no account."""
        if now >= self._due:
            self.flush()
        if self._removing or not self._rows or self._rows[0][0] > now:
            return
        keys: list[str] = []
        while self._rows and self._rows[0][0] <= now and len(keys) < SLICE:
            keys.append(heappop(self._rows)[1])
        self._removing = True
        removing: Deferred[None] = self._core.storage.write_records([Change(TABLE, key, None) for key in keys])
        removing.addCallbacks(self._removed, self._not_removed, errbackArgs=(keys, now + PAGE))

    def _removed(self, _: None) -> None:
        self._removing = False

    def _not_removed(self, _: Any, keys: Iterable[str], again: float) -> None:
        self._removing = False
        for key in keys:
            heappush(self._rows, (again, key))

    # -- start -----------------------------------------------------------------------------------------------------

    @deferred
    async def load(self) -> None:
        """What was sent in the last hour, and what had been booked. Raises Unavailable."""
        now, wall = self._core.monotonic(), int(self._core.clock() * 1e6)
        sent: dict[str, list[tuple[Any, ...]]] = {}
        after: str | None = None
        while True:
            rows = await self._core.storage.list_records(TABLE, "", SLICE, after)
            for key, raw in rows:
                entries = [] if len(raw) % _emission.size else list(_emission.iter_unpack(raw))
                latest = max((start + span for start, span, *_ in entries), default=0)
                heappush(self._rows, (now + min(latest - wall + HOUR, HOUR + AHEAD) / 1e6, key))
                if latest > wall - HOUR:
                    sent.setdefault(key[:_EUI], []).extend(entries)
            if len(rows) < SLICE:
                break
            after = rows[-1][0]
        for eui, entries in sent.items():
            restore(self._gateways.of(eui), entries, now, wall)


def restore(gateway: Gateway, entries: list[tuple[Any, ...]], now: float, wall: int) -> None:
    """Give a gateway back what it had sent, as it stands on disk. ``wall``: UNIX microseconds."""
    last = max(start + span for start, span, *_ in entries)
    to_local = gateway.clock.reading(now) - (last if last > wall + AHEAD else wall)
    earliest = latest = -(1 << 62)
    for start, span, length, frequency, low, high, duty in sorted(entries):
        band = gateway.region.band_of(frequency)
        if band is None or (band.low, band.high, band.duty) != (low, high, duty):
            band = Band(low, high, duty)
        # Where the wall clock was adjusted in between, one may seem to begin before the other's end.
        start = max(start + to_local, earliest)
        end = max(start + span, latest + length)
        earliest, latest = start + length, end
        gateway.reserve(Emission(start, end, length, frequency, band))
