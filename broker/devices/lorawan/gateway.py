"""One packet forwarder as it is now: where it is reached, its clock, and what its transmitter is booked for.

Bookings are in the gateway's own microseconds. Those are `tmst` without its wrapping every 71 minutes, counted from the
packets that the gateway received; between packets the gateway's clock is taken to run like ours.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

import msgspec

from broker.devices.lorawan.codec import Stat
from broker.devices.lorawan.regions import Band, Region

#: Host, port, and whatever the listener needs to send there.
Address = tuple[str, int, Any]

_WRAP: Final = 1 << 32
#: Seconds after a packet in which the gateway's clock is taken as known: crystals are off by 20 us a second at worst.
KNOWN_FOR: Final = 600.0
#: A clock that is this far (us) from where it should be was set anew: the forwarder has been started again.
_RESTARTED: Final = 5_000_000
#: Microseconds between two transmissions: the radio has to be set up in between.
GUARD: Final = 20_000
#: Seconds over which duty cycles are counted.
DUTY_WINDOW: Final = 3600.0


class Radio(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Centre frequencies of the two radios, Hz: nothing on the wire tells them."""

    A: int | None = None
    B: int | None = None


class Position(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where it stands, degrees and metres."""

    long: float | None = None
    lati: float | None = None
    alti: float | None = None


class GatewayRecord(msgspec.Struct, kw_only=True, frozen=True):
    """What is registered of a gateway."""

    eui: str
    name: str = ""
    region: str | None = None
    radio: Radio | None = None
    position: Position | None = None
    created_at: float = 0.0


class Gateway:
    """``eui``: 16 upper-case hexadecimal digits. Times without a unit in their name are monotonic seconds."""

    __slots__ = (
        "_bookings",
        "_local",
        "_synced_at",
        "_tmst",
        "_usage",
        "_used",
        "address",
        "eui",
        "forwarded",
        "heard_at",
        "host",
        "last_pull",
        "last_seen",
        "online",
        "online_since",
        "pulled_at",
        "record",
        "region",
        "sent",
        "stat",
        "stat_at",
        "version",
    )

    def __init__(self, eui: str, region: Region, record: GatewayRecord | None) -> None:
        self.eui = eui
        self.region = region
        self.record = record
        self.version = 2
        #: The host that the EUI is bound to while it is heard from there.
        self.host: str | None = None
        #: Where its last PULL_DATA came from: PULL_RESP goes there.
        self.address: Address | None = None
        self.heard_at = float("-inf")
        self.pulled_at = float("-inf")
        self.online = False
        #: UNIX seconds.
        self.last_seen: float | None = None
        #: Its last PULL_DATA, and since when it is on-line, or is not.
        self.last_pull: float | None = None
        self.online_since: float | None = None
        self.stat: Stat | None = None
        self.stat_at: float | None = None
        #: Packets it gave us, and took from us.
        self.forwarded = 0
        self.sent = 0
        self._tmst: int | None = None
        self._local = 0
        self._synced_at = float("-inf")
        #: (start, end) in its microseconds, unordered; few at any time.
        self._bookings: list[tuple[int, int]] = []
        #: (when, seconds, lower edge of the band), oldest first, and the sums by band.
        self._usage: deque[tuple[float, float, int]] = deque()
        self._used: dict[int, float] = {}

    def __repr__(self) -> str:
        return f"<Gateway {self.eui}>"

    # -- its clock -------------------------------------------------------------------------------------------------

    def local(self, tmst: int, now: float) -> int:
        """The gateway's time in microseconds that do not wrap, from the ``tmst`` of a packet that came now."""
        if self._tmst is None:
            local = tmst
        else:
            ahead = (tmst - self._tmst) % _WRAP
            local = self._local + (ahead if ahead < _WRAP // 2 else ahead - _WRAP)
            expected = self._local + int((now - self._synced_at) * 1e6)
            if abs(local - expected) > _RESTARTED:
                self._bookings.clear()
        if local >= self._local or self._tmst is None or abs(local - self._local) > _RESTARTED:
            self._tmst, self._local, self._synced_at = tmst & (_WRAP - 1), local, now
        return local

    def estimate(self, now: float) -> int | None:
        """The same for no packet at all; None when too much time has gone by."""
        if now - self._synced_at > KNOWN_FOR:
            return None
        return self._local + int((now - self._synced_at) * 1e6)

    # -- its transmitter -------------------------------------------------------------------------------------------

    @property
    def load(self) -> int:
        """How many transmissions are booked."""
        return len(self._bookings)

    def conflict(self, start: int, end: int) -> int | None:
        """When it would be free again, if it is not from ``start`` to ``end``."""
        for begin, until in self._bookings:
            if start < until + GUARD and begin - GUARD < end:
                return until + GUARD
        return None

    def book(self, start: int, end: int) -> None:
        """It transmits then; what is over by far is forgotten."""
        before = start - 10_000_000
        if any(until < before for _, until in self._bookings):
            self._bookings = [(begin, until) for begin, until in self._bookings if until >= before]
        self._bookings.append((start, end))

    def unbook(self, start: int, end: int) -> None:
        """It does not; harmless twice."""
        if (start, end) in self._bookings:
            self._bookings.remove((start, end))

    # -- duty cycle ------------------------------------------------------------------------------------------------

    def duty_wait(self, band: Band, seconds: float, now: float) -> float:
        """Seconds until so much airtime is allowed in the band; 0 when it is now."""
        self._forget_usage(now)
        over = self._used.get(band.low, 0.0) + seconds - band.duty * DUTY_WINDOW
        if over <= 1e-9:
            return 0.0
        for at, used, low in self._usage:
            if low == band.low:
                over -= used
                if over <= 1e-9:
                    return at + DUTY_WINDOW - now
        return DUTY_WINDOW

    def use(self, band: Band, seconds: float, now: float) -> None:
        """So much airtime is spent."""
        self._usage.append((now, seconds, band.low))
        self._used[band.low] = self._used.get(band.low, 0.0) + seconds

    def unuse(self, band: Band, seconds: float) -> None:
        """The last of that was not sent after all."""
        for entry in reversed(self._usage):
            if entry[1:] == (seconds, band.low):
                self._usage.remove(entry)
                self._used[band.low] -= seconds
                return

    def _forget_usage(self, now: float) -> None:
        usage = self._usage
        while usage and usage[0][0] <= now - DUTY_WINDOW:
            _, seconds, low = usage.popleft()
            self._used[low] = max(0.0, self._used[low] - seconds)

    # -- for people ------------------------------------------------------------------------------------------------

    def as_dict(self) -> dict[str, Any]:
        """The ``gateway`` shape of the API."""
        record = self.record
        return {
            "eui": self.eui,
            "name": "" if record is None else record.name,
            "region": None if record is None else record.region,
            "radio": None if record is None or record.radio is None else msgspec.to_builtins(record.radio),
            "position": None if record is None or record.position is None else msgspec.to_builtins(record.position),
            "registered": record is not None,
            "online": self.online,
            "last_seen": self.last_seen,
            "last_pull": self.last_pull,
            "online_since": self.online_since if self.online else None,
            "address": "" if self.address is None else f"{self.address[0]}:{self.address[1]}",
            "version": self.version,
            "stat": None if self.stat is None else msgspec.to_builtins(self.stat),
            "stat_at": self.stat_at,
        }
