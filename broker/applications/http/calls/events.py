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
    """Something that happened; ``at`` is UNIX seconds, ``device`` null where it concerns none."""

    id: str
    kind: str
    severity: str
    at: float
    device: str | None
    protocol: str | None
    details: dict[str, Any]


class EventPage(msgspec.Struct):
    """One page, the newest first. It may be short though ``next``, the cursor of the following one, is not null."""

    items: list[EventShape]
    next: str | None


class EventFilter(msgspec.Struct, kw_only=True):
    """``kind`` may be given more than once; ``since``: UNIX seconds."""

    kind: list[str] = []
    device: Text | None = None
    since: Time | None = None
    limit: Limit = 100
    cursor: Cursor | None = None


class KindShape(msgspec.Struct):
    """A kind of event. ``clears``: the kind that is over with this one."""

    kind: str
    severity: str
    text: str
    clears: str | None


class KindPage(msgspec.Struct):
    """All kinds; ``next`` is always null."""

    items: list[KindShape]
    next: str | None


class FilterShape(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Which devices; an empty field stands for all. ``q`` is looked for in id and name, ``parents`` are gateways."""

    ids: Ids = ()
    protocols: Ids = ()
    products: Ids = ()
    applications: Ids = ()
    parents: Ids = ()
    q: Text = ""


class NewRule(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A rule. Without ``kinds`` it is about all kinds but command_failed; what is null is as the settings have it.

    ``offline_after``, ``debounce`` and ``flap_window`` are seconds.
    """

    name: Text = ""
    kinds: Ids = ()
    devices: FilterShape = msgspec.field(default_factory=FilterShape)
    offline_after: Seconds | None = None
    debounce: Pause | None = None
    flap_count: FlapCount | None = None
    flap_window: Seconds | None = None
    sinks: Ids = ()
    rate_limit: RateLimit | None = None
    enabled: bool = True


class RuleChanges(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What is to change; what is left out stays. ``devices`` is replaced as a whole."""

    name: Text | UnsetType = UNSET
    kinds: Ids | UnsetType = UNSET
    devices: FilterShape | UnsetType = UNSET
    offline_after: Seconds | UnsetType | None = UNSET
    debounce: Pause | UnsetType | None = UNSET
    flap_count: FlapCount | UnsetType | None = UNSET
    flap_window: Seconds | UnsetType | None = UNSET
    sinks: Ids | UnsetType = UNSET
    rate_limit: RateLimit | UnsetType | None = UNSET
    enabled: bool | UnsetType = UNSET


class RuleShape(msgspec.Struct, kw_only=True):
    """A rule as it is."""

    id: str
    name: str
    kinds: tuple[str, ...]
    devices: FilterShape
    offline_after: float | None
    debounce: float | None
    flap_count: int | None
    flap_window: float | None
    sinks: tuple[str, ...]
    rate_limit: RateLimit | None
    enabled: bool
    created_at: float


class RulePage(msgspec.Struct):
    """All rules, the oldest first; ``next`` is always null."""

    items: list[RuleShape]
    next: str | None


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
    Route("GET", _RULE, get_rule, ADMIN, answers=RuleShape, duty=DUTY),
    Route("PATCH", _RULE, change_rule, ADMIN, body=RuleChanges, answers=RuleShape, duty=DUTY),
    Route("DELETE", _RULE, delete_rule, ADMIN, status=204, duty=DUTY),
)
