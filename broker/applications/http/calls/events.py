"""What has happened to the fleet, and the rules that say what is an event and who hears of it."""

from __future__ import annotations

from secrets import token_hex
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from broker.applications.http.calls.devices import Cursor, Limit, Text, Time
from broker.events.across import DUTY
from broker.events.buckets import RateLimit
from broker.events.catalogue import KINDS
from broker.events.event import Event, seen_by
from broker.events.rules import DeviceFilter, Rule
from broker.events.side import EventSide, opened
from broker.model.errors import Invalid
from broker.web.problems import Problem
from broker.web.routes import ADMIN, API, APPLICATION, Call, Route

Seconds = Annotated[float, Meta(gt=0, le=1e9)]
Pause = Annotated[float, Meta(ge=0, le=1e9)]
FlapCount = Annotated[int, Meta(ge=2, le=100)]
Ids = Annotated[tuple[Text, ...], Meta(max_length=1000)]


class EventShape(msgspec.Struct, kw_only=True):
    """Something that happened."""

    #: The same wherever and however often it is told.
    id: str
    #: What happened, a word of ``GET /event-kinds``.
    kind: str
    #: info, warning or critical.
    severity: str
    #: When it happened (UNIX seconds).
    at: float
    #: The id of the device or gateway that it concerns; null: none.
    device: str | None
    #: The protocol of that device; null: it concerns none.
    protocol: str | None
    #: What else there is to say; depends on the kind.
    details: dict[str, Any]


class EventPage(msgspec.Struct):
    """One page, the newest first. It may be short, or empty, though there are more."""

    #: The events of this page.
    items: list[EventShape]
    #: The ``cursor`` of the following page; null on the last one.
    next: str | None


class EventFilter(msgspec.Struct, kw_only=True):
    """Which events, and which page."""

    #: Only events of this kind; may be given more than once.
    kind: list[str] = []
    #: Only events about the device with this id.
    device: Text | None = None
    #: Only events of this time or later (UNIX seconds).
    since: Time | None = None
    #: Entries of one page at most.
    limit: Limit = 100
    #: The ``next`` of the page before; left out, the first page.
    cursor: Cursor | None = None


class KindShape(msgspec.Struct):
    """A kind of event."""

    #: Its name.
    kind: str
    #: info, warning or critical.
    severity: str
    #: What it means, for people.
    text: str
    #: The kind that is over with this one; null: none.
    clears: str | None


class KindPage(msgspec.Struct):
    """All kinds."""

    #: The kinds.
    items: list[KindShape]
    #: Always null: this is the whole list.
    next: str | None


class FilterShape(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Which devices: those that fit every field. An empty field fits all."""

    #: Any of these devices.
    ids: Ids = ()
    #: Devices of any of these protocols.
    protocols: Ids = ()
    #: Devices of any of these products, by key.
    products: Ids = ()
    #: Devices that are bound to any of these applications.
    applications: Ids = ()
    #: Devices that are reached through any of these devices or gateways.
    parents: Ids = ()
    #: Devices that have this in id or name, in any case.
    q: Text = ""


class NewRule(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A rule to make."""

    #: Its name for people.
    name: Text = ""
    #: The kinds of events that it is about; empty: all but command_failed.
    kinds: Ids = ()
    #: The devices that it is about; without a filter it is also about what concerns no device.
    devices: FilterShape = msgspec.field(default_factory=FilterShape)
    #: Seconds that a device may be away before that is an event; null: as the settings have it.
    offline_after: Seconds | None = None
    #: Seconds for which a device has to be away, or back, before that counts; null: as the settings have it.
    debounce: Pause | None = None
    #: A device that went away so often within ``flap_window`` flaps; null: as the settings have it.
    flap_count: FlapCount | None = None
    #: Seconds within which ``flap_count`` counts; null: as the settings have it.
    flap_window: Seconds | None = None
    #: The ids of the sinks that its events are delivered to.
    sinks: Ids = ()
    #: How many of its events are told singly, the others being told as one; null: all.
    rate_limit: RateLimit | None = None
    #: Whether it counts.
    enabled: bool = True


class RuleChanges(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What is to change; what is left out stays."""

    #: Its name for people.
    name: Text | UnsetType = UNSET
    #: The kinds of events that it is about; empty: all but command_failed.
    kinds: Ids | UnsetType = UNSET
    #: The devices that it is about, the whole filter anew.
    devices: FilterShape | UnsetType = UNSET
    #: Seconds that a device may be away before that is an event; null: as the settings have it.
    offline_after: Seconds | UnsetType | None = UNSET
    #: Seconds for which a device has to be away, or back, before that counts; null: as the settings have it.
    debounce: Pause | UnsetType | None = UNSET
    #: A device that went away so often within ``flap_window`` flaps; null: as the settings have it.
    flap_count: FlapCount | UnsetType | None = UNSET
    #: Seconds within which ``flap_count`` counts; null: as the settings have it.
    flap_window: Seconds | UnsetType | None = UNSET
    #: The ids of the sinks that its events are delivered to.
    sinks: Ids | UnsetType = UNSET
    #: How many of its events are told singly, the others being told as one; null: all.
    rate_limit: RateLimit | UnsetType | None = UNSET
    #: Whether it counts.
    enabled: bool | UnsetType = UNSET


class RuleShape(msgspec.Struct, kw_only=True):
    """A rule as it is."""

    #: The id that the broker gave it.
    id: str
    #: Its name for people; may be empty.
    name: str
    #: The kinds of events that it is about; empty: all but command_failed.
    kinds: tuple[str, ...]
    #: The devices that it is about.
    devices: FilterShape
    #: Seconds that a device may be away before that is an event; null: as the settings have it.
    offline_after: float | None
    #: Seconds for which a device has to be away, or back, before that counts; null: as the settings have it.
    debounce: float | None
    #: A device that went away so often within ``flap_window`` flaps; null: as the settings have it.
    flap_count: int | None
    #: Seconds within which ``flap_count`` counts; null: as the settings have it.
    flap_window: float | None
    #: The ids of the sinks that its events are delivered to.
    sinks: tuple[str, ...]
    #: How many of its events are told singly, the others being told as one; null: all.
    rate_limit: RateLimit | None
    #: Whether it counts.
    enabled: bool
    #: When it was made (UNIX seconds).
    created_at: float


class RulePage(msgspec.Struct):
    """All rules, the oldest first."""

    #: The rules.
    items: list[RuleShape]
    #: Always null: this is the whole list.
    next: str | None


class RulePath(msgspec.Struct):
    """Which rule."""

    #: The id that the broker gave the rule.
    id: str


async def list_events(call: Call) -> Any:
    """What has happened, the newest first. An application sees what concerns its devices."""
    journal = opened(call.core.event_side).events.journal
    wish: EventFilter = call.query
    _check_kinds(wish.kind)
    if wish.device is not None:
        call.caller.check_device(wish.device)
    assert journal is not None
    kinds, caller = set(wish.kind), call.caller

    def shown(event: Event) -> Event | None:
        return event if caller.is_admin else seen_by(event, caller.may_see)

    def wanted(event: Event) -> bool:
        return (
            (not kinds or event.kind in kinds)
            and (wish.device is None or event.device == wish.device)
            and shown(event) is not None
        )

    found, cursor = await journal.page(wish.limit, wanted, wish.since, wish.cursor)
    return EventPage([event_shape(one) for event in found if (one := shown(event)) is not None], cursor)


async def list_kinds(call: Call) -> Any:
    """Which kinds of events there are."""
    return KindPage([KindShape(name, kind.severity, kind.text, kind.clears) for name, kind in KINDS.items()], None)


async def list_rules(call: Call) -> Any:
    """All rules."""
    return RulePage([rule_shape(rule) for rule in opened(call.core.event_side).rules], None)


async def add_rule(call: Call) -> Any:
    """Make a rule. It counts at once, also for devices that are away already."""
    side, wish = opened(call.core.event_side), call.body
    values = {name: getattr(wish, name) for name in wish.__struct_fields__}
    rule = Rule(id=f"rule-{token_hex(6)}", created_at=call.core.clock(), **_checked(side, values))
    await side.rules.add(rule.id, rule)
    return rule_shape(rule)


async def get_rule(call: Call) -> Any:
    """One rule."""
    return rule_shape(opened(call.core.event_side).rules.get(call.path["id"]))


async def change_rule(call: Call) -> Any:
    """Change a rule."""
    side, wish = opened(call.core.event_side), call.body
    values = {name: value for name in wish.__struct_fields__ if (value := getattr(wish, name)) is not UNSET}
    values = _checked(side, values)
    return rule_shape(await side.rules.change(call.path["id"], lambda rule: msgspec.structs.replace(rule, **values)))


async def delete_rule(call: Call) -> Any:
    """Forget a rule. What it has put into queues of sinks is still delivered."""
    await opened(call.core.event_side).rules.remove(call.path["id"])


def _checked(side: EventSide, values: dict[str, Any]) -> dict[str, Any]:
    """Raises Invalid."""
    _check_kinds(values.get("kinds", ()))
    for id in values.get("sinks", ()):
        if side.sinks.find(id) is None:
            raise Invalid(f"there is no sink {id!r}")
    if "devices" in values:
        values["devices"] = msgspec.convert(msgspec.to_builtins(values["devices"]), DeviceFilter)
    return values


def _check_kinds(kinds: Any) -> None:
    unknown = sorted(set(kinds) - set(KINDS))
    if unknown:
        raise Invalid(f"{unknown[0][:40]!r} is no kind of event; there are: {', '.join(KINDS)}")


def event_shape(event: Event) -> EventShape:
    return EventShape(**event.as_dict())


def rule_shape(rule: Rule) -> RuleShape:
    return msgspec.convert(msgspec.to_builtins(rule), RuleShape)


_RULES = f"{API}/event-rules"
_RULE = f"{_RULES}/{{id}}"
_FULL = {429: (Problem, "There are as many as events.max_rules allows")}

ROUTES = (
    Route("GET", f"{API}/events", list_events, APPLICATION, query=EventFilter, answers=EventPage, duty=DUTY),
    Route("GET", f"{API}/event-kinds", list_kinds, APPLICATION, answers=KindPage),
    Route("GET", _RULES, list_rules, ADMIN, answers=RulePage, duty=DUTY),
    Route("POST", _RULES, add_rule, ADMIN, body=NewRule, answers=RuleShape, status=201, also=_FULL, duty=DUTY),
    Route("GET", _RULE, get_rule, ADMIN, answers=RuleShape, duty=DUTY, path_shape=RulePath),
    Route("PATCH", _RULE, change_rule, ADMIN, body=RuleChanges, answers=RuleShape, duty=DUTY, path_shape=RulePath),
    Route("DELETE", _RULE, delete_rule, ADMIN, status=204, duty=DUTY, path_shape=RulePath),
)
