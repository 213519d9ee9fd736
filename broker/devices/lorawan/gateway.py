"""One packet forwarder as it is now: where it is reached, its clock, what it has sent and is booked for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from broker.devices.lorawan.air import AirTime, Emission
from broker.devices.lorawan.bookings import Bookings
from broker.devices.lorawan.clock import GatewayClock
from broker.devices.lorawan.codec import Stat
from broker.devices.lorawan.ledger import HOUR
from broker.devices.lorawan.regions import Band, Region

#: Host, port, and whatever the listener needs to send there.
Address = tuple[str, int, Any]
#: dBi of an antenna, less what its cable loses.
Gain = Annotated[float, Meta(ge=-20, le=40)]


class Radio(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Centre frequencies of the two radios: nothing on the wire tells them."""

    #: Hz of the first radio; null: not known.
    A: int | None = None
    #: Hz of the second radio; null: not known.
    B: int | None = None


class Position(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where it stands."""

    #: Degrees east of the prime meridian, negative in the west; null: not known.
    long: float | None = None
    #: Degrees north of the equator, negative in the south; null: not known.
    lati: float | None = None
    #: Metres above the sea; null: not known.
    alti: float | None = None


class Duty(msgspec.Struct, kw_only=True, frozen=True):
    """Air time in a range of frequencies."""

    #: The range, in MHz.
    band: str
    #: Seconds that the law allows in any hour.
    limit: float
    #: Seconds of the last hour that were used, with what is booked.
    used: float


class GatewayRecord(msgspec.Struct, kw_only=True, frozen=True):
    """What is registered of a gateway."""

    eui: str
    name: str = ""
    region: str | None = None
    radio: Radio | None = None
    position: Position | None = None
    #: None: not known, and taken to be 0.
    antenna_gain: Gain | None = None
    created_at: float = 0.0


class Gateway:
    """``eui``: 16 upper-case hexadecimal digits. Times without a unit in their name are monotonic seconds."""

    __slots__ = (
        "address",
        "air",
        "bookings",
        "clock",
        "eui",
        "forwarded",
        "heard_at",
        "host",
        "last_pull",
        "last_seen",
        "max_power",
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
        #: dBm that it takes at most, after it has refused more.
        self.max_power: int | None = None
        self.clock = GatewayClock()
        self.bookings = Bookings()
        self.air = AirTime()

    def __repr__(self) -> str:
        return f"<Gateway {self.eui}>"

    @property
    def antenna_gain(self) -> float:
        """dBi."""
        return 0.0 if self.record is None else self.record.antenna_gain or 0.0

    # -- its transmitter -------------------------------------------------------------------------------------------

    def reserve(self, emission: Emission) -> None:
        """It is going to send that."""
        self.bookings.add(emission.start, emission.end, emission.frequency, emission.length)
        self.air.add(emission)

    def give_back(self, emission: Emission) -> None:
        """It is not."""
        self.bookings.remove(emission.start, emission.end)
        self.air.remove(emission)

    def duty(self, now: float, bands: Iterable[Band]) -> list[Duty]:
        """Air time of the hour that ends now, in these bands and where it has sent something."""
        local = self.clock.reading(now)
        return [
            Duty(
                band=band.name,
                limit=round(band.duty * HOUR / 1e6, 3),
                used=round(self.air.used(band, local), 6),
            )
            for band in self.air.bands(bands)
        ]

    # -- for people ------------------------------------------------------------------------------------------------

    def as_dict(self, now: float) -> dict[str, Any]:
        """The ``gateway`` shape of the API. ``now``: monotonic seconds."""
        record = self.record
        return {
            "eui": self.eui,
            "name": "" if record is None else record.name,
            "region": None if record is None else record.region,
            "radio": None if record is None or record.radio is None else msgspec.to_builtins(record.radio),
            "position": None if record is None or record.position is None else msgspec.to_builtins(record.position),
            "antenna_gain": None if record is None else record.antenna_gain,
            "registered": record is not None,
            "online": self.online,
            "last_seen": self.last_seen,
            "last_pull": self.last_pull,
            "online_since": self.online_since if self.online else None,
            "address": "" if self.address is None else f"{self.address[0]}:{self.address[1]}",
            "version": self.version,
            "stat": None if self.stat is None else msgspec.to_builtins(self.stat),
            "stat_at": self.stat_at,
            "duty": msgspec.to_builtins(self.duty(now, self.region.bands)),
        }
