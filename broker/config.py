"""The broker's configuration: one TOML file, every key optional, and environment variables over it (DESIGN §7).

`load` reads the file, lays ``BROKER__<TABLE>__<KEY>`` variables over it and checks everything: each table here, each
``[listeners.<name>]`` table with the settings of the protocol of that name. A limit of a listener is, in this order,
what ``[listeners.<name>.limits]`` says, what ``[limits]`` says, and the protocol's own default.

Nothing is opened here but the configuration file itself.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec import structs

from broker.events.settings import EventsTable, MailTable
from broker.fleet.settings import CampaignSettings
from broker.listening.binding import parse_bind
from broker.listening.proxy import networks_of
from broker.listening.settings import ListenerSettings
from broker.model.interfaces import IListenerSide
from broker.settings.reading import ConfigError, complaint, fill, listed, overlay
from broker.settings.tables import (
    GENERAL,
    BrokerTable,
    ClusterTable,
    CommandsTable,
    HistoryTable,
    LogTable,
    StorageTable,
    TlsTable,
)
from broker.storage.redis.address import FORMS, is_redis, parse_address
from broker.storage.redis.settings import RedisTable

__all__ = ["Config", "ConfigError", "load", "sqlite_path"]

DATABASE = "broker.sqlite"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that was configured, with the defaults filled in."""

    broker: BrokerTable
    storage: StorageTable
    redis: RedisTable
    cluster: ClusterTable
    tls: TlsTable
    history: HistoryTable
    commands: CommandsTable
    campaigns: CampaignSettings
    events: EventsTable
    mail: MailTable
    log: LogTable
    #: By name, one for each protocol that was found.
    listeners: dict[str, ListenerSettings]
    #: Where it came from, for log lines.
    source: str

    @property
    def data_dir(self) -> Path:
        return Path(self.broker.data_dir)


def load(path: str | None, environment: Mapping[str, str], sides: Mapping[str, Any]) -> Config:
    """The configuration from the file at ``path`` (None: the defaults) and the environment.

    ``sides``: what each protocol's plugin loads (`IListenerSide`), by name. Raises ConfigError.
    """
    source = path or "defaults"
    tables = overlay(_read(path) if path is not None else {}, environment)
    for name, table in tables.items():
        if name not in GENERAL and name != "listeners":
            raise complaint(name, table, f"there is no such table; {listed('tables', [*GENERAL, 'listeners'])}", source)
    general = {name: fill(table(), tables.get(name, {}), name, source) for name, table in GENERAL.items()}
    _check_storage(general["storage"].url, tables, source)
    _check_pair("redis", general["redis"], source)
    _check_tls(general["tls"], source)
    _check_workers(general["broker"], general["storage"].url, general["cluster"].enabled, source)
    listeners = _listeners(tables, sides, general["tls"], source)
    del general["limits"]
    return Config(
        **general,
        listeners=listeners,
        source=source,
    )


def sqlite_path(config: Config) -> Path:
    """The file that ``storage.url`` names."""
    name = config.storage.url.removeprefix("sqlite:")
    return Path(name) if name else config.data_dir / DATABASE


def _read(path: str) -> dict[str, Any]:
    try:
        text = Path(path).read_bytes().decode("utf-8")
        return tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None
    except RecursionError:
        raise ConfigError(f"{path}: not TOML: nested too deeply") from None


def _check_storage(url: str, tables: dict[str, Any], source: str) -> None:
    if url.startswith("sqlite:"):
        return
    allowed = f"must be sqlite:PATH, sqlite: for the default, or {FORMS}"
    if is_redis(url):
        try:
            parse_address(url)
        except ValueError as error:
            allowed = str(error)
        else:
            return
    raise complaint("storage.url", tables["storage"]["url"], allowed, source)


def _check_workers(table: BrokerTable, url: str, enabled: bool, source: str) -> None:
    if table.workers > 1 and not is_redis(url):
        needed = "more than one process needs a Redis as storage.url"
        raise ConfigError(f"{source}: broker.workers = {table.workers}: {needed}, and it is {url!r}")
    if table.workers > 1 and not enabled:
        needed = "more than one process needs cluster.enabled = true; docs/cluster.md says what it may lose"
        raise ConfigError(f"{source}: broker.workers = {table.workers}: {needed}")


def _check_pair(name: str, table: TlsTable | RedisTable, source: str) -> None:
    if bool(table.certificate) != bool(table.private_key):
        given, missing = ("certificate", "private_key") if table.certificate else ("private_key", "certificate")
        raise ConfigError(f'{source}: {name}.{given} = "{getattr(table, given)}": needs {name}.{missing} beside it')


def _check_tls(tls: TlsTable, source: str) -> None:
    _check_pair("tls", tls, source)
    if tls.chain and not tls.certificate:
        raise ConfigError(f'{source}: tls.chain = "{tls.chain}": needs tls.certificate and tls.private_key beside it')


def _listeners(
    tables: dict[str, Any], sides: Mapping[str, Any], tls: TlsTable, source: str
) -> dict[str, ListenerSettings]:
    given = tables.get("listeners", {})
    if not isinstance(given, dict):
        raise complaint("listeners", given, "must be a table", source)
    for name, table in given.items():
        if name not in sides:
            known = listed("protocols", sides)
            raise complaint(f"listeners.{name}", table, f"there is no such protocol; {known}", source)
    settings = {name: _settings(name, side, tables, source) for name, side in sides.items()}
    for name, one in settings.items():
        _check_peers(one, bool(tls.client_ca), f"listeners.{name}", source)
    return settings


def _settings(name: str, side: IListenerSide, tables: dict[str, Any], source: str) -> ListenerSettings:
    where = f"listeners.{name}"
    default: ListenerSettings = side.Settings()
    limits = fill(default.limits, tables.get("limits", {}), "limits", source)
    default = structs.replace(default, limits=limits)
    settings = fill(default, tables.get("listeners", {}).get(name, {}), where, source)
    for text in settings.bind:
        try:
            parse_bind(text)
        except ValueError as error:
            raise ConfigError(f'{source}: {where}.bind = "{text}": {error}') from None
    return settings


def _check_peers(settings: ListenerSettings, has_ca: bool, where: str, source: str) -> None:
    """What is said of clients' certificates and of proxies."""
    mode = settings.client_certificates
    if mode != "off" and not has_ca:
        raise ConfigError(f'{source}: {where}.client_certificates = "{mode}": needs tls.client_ca')
    try:
        networks_of(settings.proxy_from)
    except ValueError as error:
        raise complaint(f"{where}.proxy_from", settings.proxy_from, str(error), source) from None
    if settings.proxy_protocol and not settings.proxy_from:
        raise complaint(f"{where}.proxy_from", (), "must name those that may speak for others", source)
