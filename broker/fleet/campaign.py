"""What a campaign is told to do, and how it stands. Pure.

::

    draft ──start──> running ──> finished (every line has ended) ──retry──> running
                      │   ▲
        pause, or too │   │ resume
         many failed  ▼   │
              paused, stopped            all of them, and drafts ──cancel──> cancelled
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from broker.model.updates import Release
from broker.model.windows import Window

DRAFT: Final = "draft"
RUNNING: Final = "running"
PAUSED: Final = "paused"
STOPPED: Final = "stopped"
FINISHED: Final = "finished"
CANCELLED: Final = "cancelled"
STATES: Final = (DRAFT, RUNNING, PAUSED, STOPPED, FINISHED, CANCELLED)
#: Those in which nothing is begun any more.
ENDED: Final = frozenset({FINISHED, CANCELLED})

Text = Annotated[str, Meta(max_length=128)]
Id = Annotated[str, Meta(min_length=1, max_length=128)]
Version = Annotated[str, Meta(min_length=1, max_length=64)]
#: UNIX seconds; the bound keeps infinity out.
Time = Annotated[float, Meta(ge=0, le=1e11)]
Duration = Annotated[float, Meta(ge=0, le=365 * 86_400)]
Percent = Annotated[float, Meta(gt=0, le=100)]


class Filter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Devices of the campaign's protocol that fit every field; what is left out or null does not matter."""

    #: Only devices of the product with this key.
    product: Text | None = None
    #: Only devices that have this in id or name, in any case.
    q: Text | None = None
    #: Only devices that are bound to the application with this id.
    application: Text | None = None
    #: Only devices that have this tag.
    tag: Text | None = None
    #: Only devices that are online when the campaign is started, or only those that are not.
    online: bool | None = None


class Targets(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Either ``devices`` or ``filter``."""

    #: The ids of the devices; null: there is a filter.
    devices: Annotated[tuple[Id, ...], Meta(min_length=1, max_length=100_000)] | None = None
    #: Which devices; null: they are listed.
    filter: Filter | None = None
    #: So many percent of these: always the same ones of a version, and more as it grows.
    percentage: Percent = 100.0

    def __post_init__(self) -> None:
        if (self.devices is None) == (self.filter is None):
            raise ValueError("targets: either devices or filter")


class FromVersions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which versions are updated: those that fit every field."""

    #: One of these; empty: any.
    any_of: Annotated[tuple[Version, ...], Meta(max_length=100)] = ()
    #: Only lower ones than this, compared as the protocol does; null: any.
    lower_than: Version | None = None

    def refusal(self, version: str | None, lower: Callable[[str, str], bool]) -> str | None:
        """Why a device of this version is not for the campaign; None if it is."""
        if not self.any_of and self.lower_than is None:
            return None
        if version is None:
            return UNKNOWN_VERSION
        if self.any_of and version not in self.any_of:
            return f"its version {version} is none of {', '.join(self.any_of)}"
        if self.lower_than is not None and not lower(version, self.lower_than):
            return f"its version {version} is not lower than {self.lower_than}"
        return None


#: Not a refusal for ever: it may still be told.
UNKNOWN_VERSION: Final = "its version is not known"


class Stop(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a campaign stops by itself."""

    #: When so many percent of the devices that have ended have failed.
    percent: Percent
    #: Fewer devices than this count as so many.
    minimum: Annotated[int, Meta(ge=1, le=100_000)] = 20

    def reached(self, failed: int, ended: int) -> bool:
        return failed > 0 and failed * 100.0 >= self.percent * max(ended, self.minimum)


class Retries(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether a device that failed, or did not answer, is tried again."""

    #: How often; 0: not.
    count: Annotated[int, Meta(ge=0, le=100)] = 0
    #: After how many seconds.
    after: Duration = 3_600.0


class Pace(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How fast, and when; may be changed while a campaign runs."""

    #: Devices that are at work at once.
    concurrency: Annotated[int, Meta(ge=1)] = 10
    #: Devices that are begun in any minute at most; null: no limit.
    rate: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    #: Seconds over which devices are begun, each at a moment of its own, from the start or the opening of a window.
    spread: Duration = 0.0
    #: When devices may be begun; empty: always.
    windows: Annotated[tuple[Window, ...], Meta(max_length=50)] = ()
    #: When it stops by itself; null: never.
    stop: Stop | None = None
    #: Devices that have not had their turn by then are left out (UNIX seconds); null: they are waited for.
    ends_at: Time | None = None
    #: Whether devices that failed are tried again.
    retries: Retries = Retries()


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a campaign is to do."""

    #: The protocol of its devices: gateway88, gizwits, or that of a plugin.
    protocol: Annotated[str, Meta(min_length=1, max_length=64)]
    #: What is brought. gateway88: the name or id of a file; gizwits: the number of a firmware image.
    image: Annotated[str, Meta(min_length=1, max_length=255)]
    #: Which devices it is aimed at.
    targets: Targets
    #: Its name for people.
    name: Text = ""
    #: What a device reports that runs the image; null: as the image says, which of gateway88 it does not.
    version: Version | None = None
    #: Which versions are updated.
    from_versions: FromVersions = FromVersions()
    #: How fast, and when.
    pace: Pace = Pace()
    #: Whether a backup of each device is made before; gizwits has none.
    backup: bool = False
    #: Whether a device that reports the version counts only if it has fetched the image from here.
    require_fetch: bool = True


class Campaign(msgspec.Struct, kw_only=True):
    """A campaign as it is kept. ``prepared``: every target has its line. Times are UNIX seconds."""

    id: str
    plan: Plan
    release: Release
    state: str = DRAFT
    #: Why it is in this state, where nobody asked for it.
    reason: str = ""
    prepared: bool = False
    created_at: float = 0.0
    started_at: float | None = None
    ended_at: float | None = None
    #: Nothing of it will change by itself any more.
    closed: bool = False
    #: How many had failed, and ended, when it was resumed after it had stopped: they do not count for the next stop.
    forgiven: tuple[int, int] = (0, 0)
    #: Lines by state, once it is closed.
    counts: dict[str, int] = {}


def in_sample(device: str, salt: str, percentage: float) -> bool:
    """Whether a device belongs to so many percent. With the same salt, a larger percentage keeps those of a smaller."""
    place = int.from_bytes(sha256(f"{salt} {device}".encode()).digest()[:8], "big")
    return place * 100.0 < percentage * 2.0**64


def sample_salt(release: Release) -> str:
    """Of one version always the same devices come first, of another version others do."""
    return f"{release.protocol} {release.version}"


State = Literal["draft", "running", "paused", "stopped", "finished", "cancelled"]
Summary = dict[str, Any]
