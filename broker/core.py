"""What a protocol is given to work with: one object of plain references, built in `broker.building` alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred

from broker import __version__
from broker.cluster.duty import Duties
from broker.cluster.lives import LivesAcross
from broker.cluster.local import LocalBackplane
from broker.cluster.presence import Whereabouts
from broker.events.events import Events
from broker.events.side import EventSide
from broker.model.interfaces import IBackplane, IMqttIdentities, IMqttSpace, IUpdater
from broker.model.secrets import same_text
from broker.routing.commands import Commands
from broker.routing.live import LiveDevices
from broker.routing.outbox import Turn
from broker.routing.router import Router
from broker.routing.topic_index import TopicIndex
from broker.routing.traces import Traces
from broker.storage.files import FileStore
from broker.storage.interface import IStorage
from broker.storage.quarantine import Quarantine
from broker.storage.registry import Registry


@dataclass(slots=True, kw_only=True)
class Core:
    """The parts of the broker that listeners share.

    ``clock`` gives UNIX seconds, ``monotonic`` seconds that never jump; tests give both from one `task.Clock`.
    """

    reactor: Any
    clock: Callable[[], float]
    monotonic: Callable[[], float]
    turn: Turn
    router: Router
    devices: LiveDevices
    commands: Commands
    storage: IStorage
    registry: Registry
    topics: TopicIndex[Any, Any]
    #: Firmware, backups, uploads.
    files: FileStore
    #: Who was seen and is not registered; each protocol's ``build`` adds its approver.
    quarantine: Quarantine
    #: What somebody should know of: `Events.emit`. What is emitted reaches the disk once `Events.open` was called.
    events: Events = field(default_factory=Events)
    #: What belongs to events: rules, sinks, the watch over presence.
    event_side: EventSide | None = None
    #: Of devices (id, whether connected): ``online``, ``away``, ``offline``, ``flapping``, and how often they went. A
    #: Deferred; None where no events are kept.
    states_of: Callable[[list[tuple[str, bool]]], Deferred[list[tuple[str, int]]]] | None = None
    #: The other processes of the broker.
    backplane: IBackplane = field(default_factory=LocalBackplane)
    #: What one process does for all of them.
    duties: Duties = field(default_factory=Duties)
    #: Which devices are connected to other processes.
    whereabouts: Whereabouts = field(default_factory=Whereabouts)
    #: Of devices that are connected to other processes, what those know of them (`broker.cluster.lives`).
    lives: LivesAcross = field(init=False)
    #: Seconds that a command waits for its device when the caller does not say ([commands] default_expires).
    default_expires: float = 3600.0
    #: Ways of logging in over MQTT; application and device sides append theirs while they are built.
    mqtt_identities: list[IMqttIdentities] = field(default_factory=list)
    #: The LoRaWAN network, an ILoraNetwork; None when that listener is not built.
    lora: Any = None
    #: The first levels of topics that are a protocol's own -> who says what applications may do there.
    mqtt_spaces: dict[str, IMqttSpace] = field(default_factory=dict)

    #: How devices get firmware, by protocol; device sides append theirs while they are built.
    updaters: dict[str, IUpdater] = field(default_factory=dict)
    #: Told what only administrators' streams show, ``(kind, object)``: campaigns that have changed.
    announcements: list[Callable[[str, dict[str, Any]], None]] = field(default_factory=list)

    #: Calls of the API (`broker.web.routes.Route`) besides its own; sides append theirs while they are built.
    api_routes: list[Any] = field(default_factory=list)

    #: Where a listener can be reached: (kind of binding, port number) of each, by the listener's name.
    ports: Callable[[str], Sequence[tuple[str, int]]] = field(default=lambda name: ())

    # -- what the broker tells about itself

    version: str = __version__
    #: ``[broker] name``.
    name: str = ""
    #: UNIX seconds.
    started_at: float = 0.0
    #: What `is_admin` compares with; empty: nobody is the administrator.
    admin_token: str = field(default="", repr=False)
    #: What each protocol's ``build`` returned, by the protocol's name; filled while they are built.
    listeners: dict[str, Any] = field(default_factory=dict)
    #: What is configured, without secrets: ``{"storage", "data_dir", "history", "listeners": {name: {"bind"}}}``.
    summary: dict[str, Any] = field(default_factory=dict)
    #: The text of ``GET /metrics``.
    exposition: Callable[[], bytes] = bytes
    #: Why the broker does not take work now, a sentence each; empty when it does.
    ready: Callable[[], list[str]] = list
    #: What does not work and does not keep the broker from its work (a network that it cannot reach); likewise.
    troubles: Callable[[], list[str]] = list

    #: Which devices are traced.
    traces: Traces = field(init=False)

    def __post_init__(self) -> None:
        self.traces = Traces(self.devices, self.clock)
        self.lives = LivesAcross(self.backplane, self.devices, self.whereabouts)

    def is_admin(self, token: str) -> bool:
        """Whether this is the administrator's token; takes as long for a wrong one."""
        return same_text(token, self.admin_token) and bool(self.admin_token)
