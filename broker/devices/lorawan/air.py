"""What one gateway has sent in the last hour and is going to send, by band.

An emission counts in every band that its frequency lies in: those of the gateway's own region, and where that has none
there, those of the mote's. What was sent before a band is first asked about (the gateway was given another region) is
counted in it then, if it was sent in a band that the new one overlaps.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from broker.devices.lorawan.ledger import HOUR, Ledger
from broker.devices.lorawan.regions import Band

#: Seconds of an hour.
_SECONDS: Final = HOUR / 1e6


class Emission(NamedTuple):
    """One that is ``length`` microseconds long, somewhere from ``start`` to ``end`` of the gateway's clock."""

    start: int
    end: int
    length: int
    #: Hz.
    frequency: int
    band: Band | None


class AirTime:
    """Of one gateway."""

    __slots__ = ("_ledgers",)

    def __init__(self) -> None:
        self._ledgers: dict[Band, Ledger] = {}

    def wait(self, emission: Emission, share: float) -> int | None:
        """Microseconds until it may be added to its band; None: never.

        ``share``: what part of the band's air time is open to it. One that is longer than that may have the hour for
        itself.
        """
        band = emission.band
        if band is None:
            return 0
        length = emission.length
        allowed = round(band.duty * HOUR)
        part = min(allowed, max(int(allowed * share), length))
        return self._ledger(band).wait(emission.start, emission.end, length, part)

    def add(self, emission: Emission) -> None:
        """It is booked."""
        if emission.band is not None:
            self._ledger(emission.band)
            for ledger in self._of(emission.frequency):
                ledger.add(emission.start, emission.end, emission.length)

    def remove(self, emission: Emission) -> None:
        """It was not sent after all."""
        if emission.band is not None:
            for ledger in self._of(emission.frequency):
                ledger.remove(emission.start, emission.end, emission.length)

    def _of(self, frequency: int) -> list[Ledger]:
        return [ledger for band, ledger in self._ledgers.items() if band.low <= frequency < band.high]

    def _ledger(self, band: Band) -> Ledger:
        ledger = self._ledgers.get(band)
        if ledger is None:
            sent = {
                entry
                for other, known in self._ledgers.items()
                if other.low < band.high and band.low < other.high
                for entry in known
            }
            ledger = self._ledgers[band] = Ledger()
            for entry in sorted(sent):
                ledger.add(*entry)
        return ledger

    # -- for people, and for the disk ------------------------------------------------------------------------------

    def used(self, band: Band, local: int) -> float:
        """Seconds on air in the hour that ends now."""
        ledger = self._ledgers.get(band)
        return 0.0 if ledger is None else ledger.used(local) / 1e6

    def filled(self, band: Band | None, local: int) -> float:
        """The same as a share of what is allowed."""
        return 0.0 if band is None else self.used(band, local) / (band.duty * _SECONDS)

    def bands(self, more: Iterable[Band]) -> list[Band]:
        """Those of a region, and others in which something was sent, by frequency."""
        return sorted({*more, *(band for band, ledger in self._ledgers.items() if len(ledger))})

    def forget(self, local: int) -> bool:
        """Throw away what is out of date; whether there is anything left."""
        for band, ledger in list(self._ledgers.items()):
            ledger.forget(local - HOUR, 0)
            if not len(ledger):
                del self._ledgers[band]
        return bool(self._ledgers)
