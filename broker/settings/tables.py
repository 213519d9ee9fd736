"""The tables of the configuration file, their keys and their defaults (DESIGN §7).

Every key is optional. The tables of the listeners belong to the protocols, each of which brings its own
(`broker.listening.settings.ListenerSettings`); here are those that concern the whole broker.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from broker.events.settings import EventsTable, MailTable
from broker.fleet.settings import CampaignSettings
from broker.listening.settings import Limits
from broker.model.discreet import Discreet
from broker.storage.redis.settings import RedisTable

Count = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0)]
LevelName = Literal["debug", "info", "warn", "error", "critical"]
#: Applications send ``<id>:<secret>`` where the administrator sends the token, so it has no colon.
Token = Annotated[str, Meta(pattern="^[!-9;-~]*$")]
NodeName = Annotated[str, Meta(pattern="^[A-Za-z0-9._-]{1,64}$")]


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table whose keys are all optional."""


class BrokerTable(Discreet, Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The process."""

    name: NodeName = "node-1"
    #: The database, certificates, the token, uploaded files; relative to the folder that the broker runs in.
    data_dir: Annotated[str, Meta(min_length=1)] = "var"
    #: Empty: made at the first start and kept in <data_dir>/admin.token.
    admin_token: Token = ""
    #: Processes that share the listening ports and the work; more than one needs a Redis as storage, and
    #: ``cluster.enabled``. docs/cluster.md
    workers: Annotated[int, Meta(ge=1, le=64)] = 1


class StorageTable(Discreet, Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where everything is kept that has to outlive the process."""

    #: ``sqlite:`` for <data_dir>/broker.sqlite, ``sqlite:PATH`` for another file, or a Redis
    #: (`broker.storage.redis.address` has the forms; the table ``[redis]`` is about that).
    url: str = "sqlite:"
    #: Whether a Redis will do that throws keys away when it is full, or keeps nothing on disk.
    allow_volatile: bool = False
    #: Bytes of the disk that uploaded files leave free, so that they do not take the database's room.
    reserve: Annotated[int, Meta(ge=0)] = 67_108_864
    #: Devices and gateways that were seen and not registered, of each protocol; those not seen for the longest time go.
    max_quarantined: Count = 1_000


class ClusterTable(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Several broker processes on one Redis; without one, without effect. docs/cluster.md"""

    #: Whether this process is one of several. What that promises, and how it is proven: docs/cluster.md.
    enabled: bool = False
    #: Seconds without a sign of life after which a process counts as dead, and others take over what it had.
    lease: Annotated[float, Meta(ge=1, le=300)] = 10.0


class TlsTable(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The certificate of every ``tls:`` and ``wss:`` binding: PEM files. All empty: a self-signed one is made."""

    certificate: str = ""
    private_key: str = ""
    #: Certificates between ours and the root, where `certificate` does not have them behind its first.
    chain: str = ""
    #: For listeners with ``client_certificates``: whose signature makes a client's certificate good. Each certificate
    #: in the file is enough by itself, be it a root, one below it, or a client's own.
    client_ca: str = ""


class HistoryTable(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The uplinks that are kept for `GET /devices/{id}/messages`."""

    enabled: bool = True
    #: Seconds.
    max_age: Seconds = 604_800.0
    #: The newest messages of each device.
    per_device: Count = 1_000


class CommandsTable(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds on the commands that are under way."""

    #: Waiting for one device.
    max_queued: Count = 100
    #: Not answered yet, of all devices together.
    max_open: Count = 100_000
    #: Seconds that a command waits for its device when its sender does not say.
    default_expires: Annotated[float, Meta(ge=0)] = 3_600.0


class LogTable(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is logged and how."""

    format: Literal["text", "json"] = "text"
    level: LevelName = "info"
    #: Levels of namespaces ("broker.applications.http") and what is below them.
    levels: dict[str, LevelName] = {}
    #: Devices whose packets may be looked at at once, and seconds that one may be.
    max_traced: Count = 20
    max_trace_time: Seconds = 3_600.0


class LimitsTable(Limits, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits for all listeners; a key that is not given leaves each protocol its own default."""


#: The tables beside [listeners.*], in the order in which they are checked.
GENERAL: dict[str, Any] = {
    "broker": BrokerTable,
    "storage": StorageTable,
    "redis": RedisTable,
    "cluster": ClusterTable,
    "tls": TlsTable,
    "history": HistoryTable,
    "commands": CommandsTable,
    "campaigns": CampaignSettings,
    "events": EventsTable,
    "mail": MailTable,
    "limits": LimitsTable,
    "log": LogTable,
}
