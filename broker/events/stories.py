"""What is known of a device that is away, or was a moment ago: `broker.events.presence` decides by it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from math import inf
from typing import Final

import msgspec

from broker.events.rules import Terms

#: Times of going away that are kept of a device: more than any rule counts.
FLAPS_KEPT: Final = 200


class Track:
    """How a device stands by the terms of one kind of rule."""

    __slots__ = ("flapping", "folded", "gateway", "not_before", "since", "told")

    def __init__(self, told: bool = False, flapping: bool = False, since: float = 0.0, gateway: bool = False) -> None:
        #: Its being away was told; ``since`` is when it went (UNIX seconds), ``gateway`` how it was told.
        self.told = told
        self.since = since
        self.gateway = gateway
        self.flapping = flapping
        #: Whose being away stands for its own, and when that no longer counts (monotonic).
        self.folded = ""
        self.not_before = -inf


class SavedTrack(msgspec.Struct, frozen=True):
    """A `Track` on disk."""

    terms: Terms
    told: bool
    flapping: bool
    since: float
    gateway: bool


class Saved(msgspec.Struct, kw_only=True):
    """What was told of a device and is not over."""

    protocol: str
    went_at: float
    reason: str
    told: tuple[SavedTrack, ...]

    def tracks(self) -> dict[Terms, Track]:
        return {one.terms: Track(one.told, one.flapping, one.since, one.gateway) for one in self.told}


class Story:
    """``changed_at`` and what else decides is monotonic; ``went_at`` is UNIX seconds, for people.

    After a start of the broker ``changed_at`` lies in the future, as nobody counts as away before that.
    """

    __slots__ = (
        "changed_at",
        "due",
        "flaps",
        "id",
        "online",
        "protocol",
        "reason",
        "saved",
        "tracks",
        "went_at",
    )

    def __init__(self, id: str, protocol: str, now: float, went_at: float, reason: str) -> None:
        self.id = id
        self.protocol = protocol
        self.online = False
        self.changed_at = now
        self.went_at = went_at
        self.reason = reason
        #: When it went away.
        self.flaps: deque[float] = deque(maxlen=FLAPS_KEPT)
        self.tracks: dict[Terms, Track] = {}
        #: When it is looked at next.
        self.due = inf
        #: Something is on disk.
        self.saved = False

    def flaps_since(self, since: float) -> int:
        return sum(1 for at in self.flaps if at > since)

    def next_flap_leaves(self, window: float, now: float) -> float:
        """When there will be one less in the window; inf without any."""
        return next((at + window for at in self.flaps if at + window > now), inf)

    def trim(self, since: float) -> None:
        """Forget those that are in no window any more."""
        while self.flaps and self.flaps[0] <= since:
            self.flaps.popleft()

    def settled(self, since: float) -> bool:
        """Whether there is nothing left to say: it is there, and has been."""
        self.trim(since)
        open_tracks = any(track.told or track.flapping for track in self.tracks.values())
        return self.online and not self.flaps and not open_tracks

    def take_terms(self, wanted: Iterable[Terms]) -> None:
        """Rules have changed: what was told by terms that are gone counts for new ones, else it is dropped."""
        wanted = list(wanted)
        fresh = [terms for terms in wanted if terms not in self.tracks]
        for terms in [one for one in self.tracks if one not in wanted]:
            track = self.tracks.pop(terms)
            if fresh:
                self.tracks[fresh.pop(0)] = track


def saved_of(story: Story) -> Saved | None:
    """None when nothing is told that is not over."""
    told = tuple(
        SavedTrack(terms, track.told, track.flapping, track.since, track.gateway)
        for terms, track in story.tracks.items()
        if track.told or track.flapping
    )
    if not told:
        return None
    return Saved(protocol=story.protocol, went_at=story.went_at, reason=story.reason, told=told)
