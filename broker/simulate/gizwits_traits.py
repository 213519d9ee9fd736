"""What a simulated Gizwits device is: what is printed on it, what it remembers, how it behaves, what it has done."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import Literal

from broker.devices.gizwits.codec import MCU, WIFI

#: ``does``: takes it; ``breaks``: fetches it, cannot install it, and says nothing; ``keeps`` its version though it
#: fetches and reboots; ``claims`` the new version without fetching; ``dumb``: does not heed notices.
Update = Literal["does", "breaks", "keeps", "claims", "dumb"]


@dataclass(frozen=True, slots=True)
class GizwitsIdentity:
    """What is printed on a device."""

    product: str
    mac: str


def gizwits_identity(product: str, seed: int, number: int) -> GizwitsIdentity:
    """The same for the same numbers."""
    return GizwitsIdentity(product, sha256(f"gizwits {seed}/{number}".encode()).hexdigest()[:12].upper())


@dataclass(slots=True)
class Flash:
    """What a device remembers without power. ``old``: did and passcode before the last reset."""

    passcode: str = field(repr=False)
    did: str = ""
    old: tuple[str, str] | None = field(default=None, repr=False)
    #: Kind -> hardware and software version.
    versions: dict[int, tuple[str, str]] = field(
        default_factory=lambda: {WIFI: ("000LINUX", "04020006"), MCU: ("00000001", "00000001")}
    )
    fid: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class GizwitsBehaviour:
    """How a device behaves; times are in seconds."""

    #: Between reports; 0 for none.
    report_every: float = 10.0
    ping_every: float = 60.0
    keep_alive: int = 120
    #: Understand no more than a real one.
    strict: bool = False
    #: Answers to log settings as the documents say; real ones send an empty report.
    sets_log: bool = True
    #: Lost connections, a probability for each report.
    disconnect_rate: float = 0.0
    #: How many times faster than a real one it retries, logs in and reboots.
    tempo: float = 1.0
    #: What it makes of an image that it is offered.
    update: Update = "does"


@dataclass(slots=True)
class GizwitsCounts:
    """What a device has done."""

    registrations: int = 0
    provisions: int = 0
    #: Questions for firmware, images that were fetched, and those that were taken.
    checks: int = 0
    downloads: int = 0
    upgrades: int = 0
    connections: int = 0
    logins: int = 0
    refused: int = 0
    reports: int = 0
    #: Messages that ask it to do something.
    commands: int = 0
    acks: int = 0
    resets: int = 0
    #: What it could not do, and what it did not understand.
    failures: int = 0
    malformed: int = 0
    lost_packets: int = 0
    crashes: int = 0
