"""One device, judged by the terms of some rules: see `broker.events.presence`. Synchronous, and without a clock."""

from __future__ import annotations

from math import inf
from typing import Any, Final, Protocol

from broker.events.facts import Facts
from broker.events.rules import Terms
from broker.events.stories import Story, Track

#: Seconds until a device is looked at again whose parent is away, or has not been heard.
FOLD_LOOK: Final = 10.0
#: Seconds that a parent's word is waited for.
PARENT_PATIENCE: Final = 180.0
#: Children that an event names.
NAMED: Final = 100


class Surroundings(Protocol):
    """What a verdict asks of the others. Times are UNIX seconds, but ``since`` is monotonic."""

    def clock(self) -> float: ...

    def away(self, id: str) -> bool:
        """Whether somebody is known to be away now."""

    def is_offline(self, id: str) -> bool:
        """Whether nobody with this id is connected."""

    def heard_at(self, id: str) -> float:
        """When somebody who is there was last heard."""

    def flaps_of(self, id: str, since: float) -> int:
        """How often somebody went away."""

    def tell(self, kind: str, story: Story, rules: tuple[str, ...], details: dict[str, Any]) -> None:
        """Emit the event, together with what is kept of the story."""


class Verdict:
    """A device, judged by the terms of some rules."""

    def __init__(
        self,
        watch: Surroundings,
        story: Story,
        facts: Facts,
        terms: Terms,
        rules: tuple[str, ...],
        parents: list[str],
        children: list[str],
        now: float,
    ) -> None:
        self._watch = watch
        self._story = story
        self._facts = facts
        self._terms = terms
        self._rules = rules
        self._parents = parents
        self._children = children
        self._now = now
        self._track = story.tracks.setdefault(terms, Track())

    def reach(self) -> float:
        """Tell what there is to tell; when to look again (monotonic)."""
        story, track, terms, now = self._story, self._track, self._terms, self._now
        since = now - terms.flap_window
        flaps = story.flaps_since(since)
        if not track.flapping and flaps >= terms.flap_count and not self._family_flaps(flaps, since):
            track.flapping = True
            self._tell("device_flapping", flaps=flaps, window=terms.flap_window, online=story.online)
        elif track.flapping and flaps <= terms.flap_count // 2:
            track.flapping = False
            self._tell("device_steady", flaps=flaps, window=terms.flap_window, online=story.online)
        leaves = story.next_flap_leaves(terms.flap_window, now)
        if track.flapping:
            return leaves
        if story.online:
            return min(leaves, self._back())
        return min(leaves, self._gone())

    def _family_flaps(self, flaps: int, since: float) -> bool:
        """Whether those through whom it is reached come and go just so."""
        counts = [self._watch.flaps_of(parent, since) for parent in self._parents]
        return bool(counts) and all(count * 2 >= flaps for count in counts)

    def _back(self) -> float:
        track, story = self._track, self._story
        track.folded = ""
        track.not_before = -inf
        if not track.told:
            return inf
        due = story.changed_at + self._terms.debounce
        if due > self._now:
            return due
        track.told = False
        since = track.since
        kind = "gateway_online" if track.gateway else "device_online"
        away = max(0.0, round(self._watch.clock() - since, 3))
        self._tell(kind, offline_since=since, offline_for=away, **self._family(track.gateway))
        return inf

    def _gone(self) -> float:
        track, story, now = self._track, self._story, self._now
        if track.told:
            return inf
        due = max(story.changed_at + self._terms.patience, track.not_before)
        if due > now:
            return due
        away = [parent for parent in self._parents if self._watch.away(parent)]
        if self._parents and len(away) == len(self._parents):
            track.folded = away[0]
            return now + FOLD_LOOK
        if track.folded:  # the gateway is back: once more the time of the rule
            track.folded = ""
            track.not_before = now + self._terms.patience
            return track.not_before
        if self._parents and now < due + PARENT_PATIENCE and not self._parent_was_heard(away):
            return now + FOLD_LOOK
        track.told = True
        track.since = story.went_at
        track.gateway = self._facts.gateway or bool(self._children)
        seconds = max(0.0, round(self._watch.clock() - story.went_at, 3))
        kind = "gateway_offline" if track.gateway else "device_offline"
        self._tell(kind, since=story.went_at, reason=story.reason, offline_for=seconds, **self._family(track.gateway))
        return inf

    def _parent_was_heard(self, away: list[str]) -> bool:
        went_at = self._story.went_at
        return any(self._watch.heard_at(one) > went_at for one in self._parents if one not in away)

    def _family(self, gateway: bool) -> dict[str, Any]:
        if not gateway or self._story.online:
            return {}
        offline = [child for child in self._children if self._watch.is_offline(child)]
        return {
            "children": {"known": len(self._children), "offline": len(offline), "offline_ids": offline[:NAMED]},
        }

    def _tell(self, kind: str, **details: Any) -> None:
        named = {"name": self._facts.name} if self._facts.name else {}
        self._watch.tell(kind, self._story, self._rules, {**named, **details})
