"""Rules: which events of which devices go to which sinks, and from when on a device counts as away.

A rule without ``kinds`` is about all of them, but those that are only emitted when a rule asks for them
(`ON_REQUEST`). A rule without a filter is about all devices, and about what concerns no device.

What a rule says of presence (`Terms`) holds for the devices that it is about. Where several rules differ, a device is
judged by each of them, and each has its own events; where no rule says anything, the settings do.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from broker.events.book import Book, Kept
from broker.events.buckets import RateLimit
from broker.events.facts import Facts
from broker.events.settings import EventsTable
from broker.storage.interface import IStorage

#: Kinds that come of a device's coming and going.
PRESENCE_KINDS: Final = frozenset(
    {"device_offline", "device_online", "gateway_offline", "gateway_online", "device_flapping", "device_steady"}
)
#: Kinds of which there may be many, and that are no news to most.
ON_REQUEST: Final = frozenset({"command_failed"})


class DeviceFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which devices; an empty field stands for all. ``q`` is looked for in id and name, in any case."""

    ids: tuple[str, ...] = ()
    protocols: tuple[str, ...] = ()
    products: tuple[str, ...] = ()
    applications: tuple[str, ...] = ()
    parents: tuple[str, ...] = ()
    q: str = ""

    @property
    def empty(self) -> bool:
        return self == _EVERYTHING

    def fits(self, facts: Facts) -> bool:
        q = self.q.casefold()
        return (
            (not self.ids or facts.id in self.ids)
            and (not self.protocols or facts.protocol in self.protocols)
            and (not self.products or facts.product in self.products)
            and (not self.applications or not set(self.applications).isdisjoint(facts.applications))
            and (not self.parents or not set(self.parents).isdisjoint(facts.parents))
            and (not q or q in facts.id.casefold() or q in facts.name.casefold())
        )


_EVERYTHING: Final = DeviceFilter()


class Terms(msgspec.Struct, frozen=True):
    """When a device is away, back, and neither. Seconds; see `EventsTable`."""

    offline_after: float
    debounce: float
    flap_count: int
    flap_window: float

    @property
    def patience(self) -> float:
        """How long it may be away."""
        return max(self.offline_after, self.debounce)


class Rule(Kept, frozen=True, kw_only=True):
    """``sinks``: their ids. What is None is as the settings have it."""

    name: str = ""
    kinds: tuple[str, ...] = ()
    devices: DeviceFilter = _EVERYTHING
    offline_after: float | None = None
    debounce: float | None = None
    flap_count: int | None = None
    flap_window: float | None = None
    sinks: tuple[str, ...] = ()
    rate_limit: RateLimit | None = None
    enabled: bool = True

    def about(self, kind: str) -> bool:
        return kind in self.kinds or (not self.kinds and kind not in ON_REQUEST)

    def wants(self, kind: str, facts: Facts | None) -> bool:
        """``facts``: of the device that the event is about; None: of none."""
        if not self.enabled or not self.about(kind):
            return False
        return self.devices.empty if facts is None else self.devices.fits(facts)

    @property
    def watches(self) -> bool:
        """Whether it says anything of presence."""
        return self.enabled and (not self.kinds or not PRESENCE_KINDS.isdisjoint(self.kinds))


class RuleBook(Book[Rule]):
    """All rules."""

    def __init__(self, storage: IStorage, settings: EventsTable) -> None:
        super().__init__(storage, "event_rules", Rule, "rule", settings.max_rules, "events.max_rules")
        self._settings = settings
        self._least: dict[str, Terms] = {}
        self.on_change.append(lambda id: self._least.clear())

    def wanting(self, kind: str, facts: Facts | None, only: Iterable[str] | None = None) -> list[Rule]:
        """The rules that an event is for; ``only``: of these."""
        return [rule for rule in self if (only is None or rule.id in only) and rule.wants(kind, facts)]

    def asks_for(self, kind: str) -> bool:
        """Whether any rule is about a kind of `ON_REQUEST`."""
        return any(rule.enabled and kind in rule.kinds for rule in self)

    def default_terms(self, protocol: str) -> Terms:
        table = self._settings
        return Terms(
            table.offline_after_of.get(protocol, table.offline_after),
            table.debounce,
            table.flap_count,
            table.flap_window,
        )

    def terms_for(self, facts: Facts) -> dict[Terms, tuple[str, ...]]:
        """By what a device is judged, and for which rules; never empty."""
        default = self.default_terms(facts.protocol)
        found: dict[Terms, tuple[str, ...]] = {}
        for rule in self:
            if rule.watches and rule.devices.fits(facts):
                terms = _laid_over(default, rule)
                found[terms] = (*found.get(terms, ()), rule.id)
        return found or {default: ()}

    def least(self, protocol: str) -> Terms:
        """Before this no rule has anything to say of a device of the protocol; ``flap_window`` is the longest."""
        known = self._least.get(protocol)
        if known is None:
            default = self.default_terms(protocol)
            every = [default, *(_laid_over(default, rule) for rule in self if rule.watches)]
            known = self._least[protocol] = Terms(
                min(terms.patience for terms in every),
                min(terms.debounce for terms in every),
                min(terms.flap_count for terms in every),
                max(terms.flap_window for terms in every),
            )
        return known

    @property
    def longest_patience(self) -> float:
        """Of any rule and any protocol."""
        table = self._settings
        given = [rule.offline_after or 0.0 for rule in self] + [rule.debounce or 0.0 for rule in self]
        return max(table.offline_after, table.debounce, *table.offline_after_of.values(), *given)


def _laid_over(default: Terms, rule: Rule) -> Terms:
    return Terms(
        default.offline_after if rule.offline_after is None else rule.offline_after,
        default.debounce if rule.debounce is None else rule.debounce,
        default.flap_count if rule.flap_count is None else rule.flap_count,
        default.flap_window if rule.flap_window is None else rule.flap_window,
    )
