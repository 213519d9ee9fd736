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
    """Devices of the campaign's protocol; what is left out does not matter. ``q`` is looked for in id and name.

    ``online`` counts when the campaign is started.
    """

    product: Text | None = None
    q: Text | None = None
    application: Text | None = None
    tag: Text | None = None
    online: bool | None = None


class Targets(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A list of devices, or a filter; of these so many percent: always the same of a version, and more as it grows."""

    devices: Annotated[tuple[Id, ...], Meta(min_length=1, max_length=100_000)] | None = None
    filter: Filter | None = None
    percentage: Percent = 100.0

    def __post_init__(self) -> None:
        if (self.devices is None) == (self.filter is None):
            raise ValueError("targets: either devices or filter")


class FromVersions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which versions are updated: one of these, and lower than that. Versions are compared as the protocol does."""

    any_of: Annotated[tuple[Version, ...], Meta(max_length=100)] = ()
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
    """Stop when so many percent of those that have ended have failed.

    Fewer than ``minimum`` count as so many: the campaign stops as soon as no success of the others could help it.
    """

    percent: Percent
    minimum: Annotated[int, Meta(ge=1, le=100_000)] = 20

    def reached(self, failed: int, ended: int) -> bool:
        return failed > 0 and failed * 100.0 >= self.percent * max(ended, self.minimum)


class Retries(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often a device is tried again that failed or did not answer, and after how many seconds."""

    count: Annotated[int, Meta(ge=0, le=100)] = 0
    after: Duration = 3_600.0


class Pace(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may be changed while a campaign runs.

    ``concurrency``: devices at work at once. ``rate``: begun in any minute. ``spread``: each device begins at a random
    moment of so many seconds from the start, or from the opening of a window. ``ends_at``: devices that have not had
    their turn by then, as they were offline, are left out.
    """

    concurrency: Annotated[int, Meta(ge=1)] = 10
    rate: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    spread: Duration = 0.0
    windows: Annotated[tuple[Window, ...], Meta(max_length=50)] = ()
    stop: Stop | None = None
    ends_at: Time | None = None
    retries: Retries = Retries()


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a campaign is to do. ``image``: the name or id of a file, or the number of a firmware image.

    ``version``: what a device reports that runs it; needed where the image does not say. ``backup``: one of each device
    before. ``require_fetch``: a device that reports the version counts only if it has fetched the image from here.
    """

    protocol: Annotated[str, Meta(min_length=1, max_length=64)]
    image: Annotated[str, Meta(min_length=1, max_length=255)]
    targets: Targets
    name: Text = ""
    version: Version | None = None
    from_versions: FromVersions = FromVersions()
    pace: Pace = Pace()
    backup: bool = False
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
