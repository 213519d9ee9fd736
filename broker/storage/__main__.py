"""``python -m broker.storage``: what an administrator does with a storage beside the broker."""

from __future__ import annotations

import argparse
import os
import sys
import tomllib
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from broker.config import DATABASE
from broker.model.errors import BrokerError
from broker.settings.reading import ConfigError, fill, overlay
from broker.settings.tables import GENERAL
from broker.storage.backup import back_up
from broker.storage.copying.redis_side import RedisSide, RedisTarget
from broker.storage.copying.shown import Bar
from broker.storage.copying.sqlite_side import SqliteSide, SqliteTarget
from broker.storage.copying.work import Outcome, copy
from broker.storage.redis.address import FORMS, is_redis, parse_address

COPY = """Copy everything that a storage keeps into another one: registry, bindings, records, commands, MQTT sessions
and what is owed to them, retained messages, history, last values. Then both are read again and compared. No broker may
use either of them. Uploaded files lie in the broker's data_dir and are not touched."""
BACKUP = """Copy the broker's data folder into a new one, from which a broker can be started: the SQLite database as of
one moment, uploaded files, certificates, the token. The broker may run. With a Redis as the storage its database is
not in it."""
EXAMPLES = """examples:
  python -m broker.storage copy sqlite:var/broker.sqlite redis://127.0.0.1:6379/0
  python -m broker.storage copy --config broker.toml redis+sentinel://s1,s2,s3/main sqlite:

After an interruption, the same with --resume goes on where it was."""


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m broker.storage",
        description="What an administrator does with a storage beside the broker.",
        epilog="python -m broker.storage COMMAND --help says more.",
    )
    several = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    one = several.add_parser(
        "copy",
        help="copy everything into another storage, and verify it",
        description=COPY,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    one.add_argument("source", metavar="SOURCE", help=f"sqlite:PATH, sqlite: for the default, or {FORMS}")
    one.add_argument("target", metavar="TARGET", help="likewise; it has to be empty")
    one.add_argument("--config", metavar="FILE", help="the broker's configuration: [redis], and where sqlite: is")
    how = one.add_mutually_exclusive_group()
    how.add_argument("--resume", action="store_true", help="go on with a copy that was interrupted")
    how.add_argument("--force", action="store_true", help="begin anew: what is in the target goes")
    one.add_argument("--quiet", action="store_true", help="show no progress")
    one.set_defaults(run=_copy)
    another = several.add_parser("backup", help="copy the data folder while the broker runs", description=BACKUP)
    another.add_argument("target", metavar="FOLDER", type=Path, help="is made; must not be there")
    another.add_argument("--config", metavar="FILE", help="the broker's configuration: where its data is")
    another.add_argument("--quiet", action="store_true", help="show no progress")
    another.set_defaults(run=_back_up)
    return made


class Tables:
    """What the configuration says: the tables that are needed here, and no more of it. Raises ConfigError."""

    def __init__(self, file: str | None) -> None:
        source = file or "defaults"
        try:
            given = tomllib.loads(Path(file).read_text("utf-8")) if file else {}
        except (OSError, ValueError) as error:
            raise ConfigError(f"{file}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
        given = overlay(given, os.environ)
        for name in ("broker", "storage", "redis"):
            setattr(self, name, fill(GENERAL[name](), given.get(name, {}), name, source))

    broker: Any
    storage: Any
    redis: Any


def side_of(url: str, tables: Tables, reactor: Any, is_target: bool) -> Any:
    """Raises ConfigError."""
    if is_redis(url):
        try:
            address = parse_address(url)
        except ValueError as error:
            raise ConfigError(f"the URL of a Redis {error}") from None
        kind = RedisTarget if is_target else RedisSide
        return kind(address, tables.redis, reactor, tables.storage.allow_volatile)
    if not url.startswith("sqlite:"):
        raise ConfigError(f"a storage is sqlite:PATH, sqlite: for the default, or {FORMS}")
    path = database_path(url, tables)
    return SqliteTarget(path) if is_target else SqliteSide(path)


def main() -> int:
    arguments = parser().parse_args()
    status: int = arguments.run(arguments)
    return status


def _back_up(arguments: argparse.Namespace) -> int:
    bar = Bar(sys.stderr, arguments.quiet)
    try:
        tables = Tables(arguments.config)
        data_dir = Path(tables.broker.data_dir)
        url = tables.storage.url
        database = None if is_redis(url) else database_path(url, tables)
        size = back_up(data_dir, database, arguments.target, bar.progress)
    except (ConfigError, BrokerError) as error:
        bar.end()
        print(f"broker: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        bar.end()
        print(f"broker: interrupted; {arguments.target} is not whole", file=sys.stderr)
        return 130
    bar.end()
    without = "" if database is not None else "; the database is Redis's and not in it"
    print(f"{size:,} bytes of {data_dir} copied to {arguments.target}{without}")
    return 0


def database_path(url: str, tables: Tables) -> Path:
    """The file that a ``sqlite:`` URL names."""
    name = url.removeprefix("sqlite:")
    return Path(name) if name else Path(tables.broker.data_dir) / DATABASE


def _copy(arguments: argparse.Namespace) -> int:
    from twisted.internet import reactor as reactor_module

    reactor: Any = reactor_module
    try:
        tables = Tables(arguments.config)
        source = side_of(arguments.source, tables, reactor, False)
        target = side_of(arguments.target, tables, reactor, True)
        if source.name == target.name:
            raise ConfigError("source and target are the same")
    except (ConfigError, BrokerError) as error:
        print(f"broker: {error}", file=sys.stderr)
        return 1
    bar = Bar(sys.stderr, arguments.quiet)
    status = 1

    def done(result: Outcome | Failure) -> None:
        nonlocal status
        bar.end()
        if isinstance(result, Failure):
            if not result.check(BrokerError):
                result.printTraceback()
            print(f"broker: {result.getErrorMessage()}", file=sys.stderr)
        else:
            print(report(result, target.name))
            status = 0
        reactor.callLater(0, reactor.stop)

    def begin() -> None:
        copying = copy(source, target, bar, resume=arguments.resume, force=arguments.force)
        running = Deferred.fromCoroutine(copying)
        running.addBoth(done)
        # SIGINT and SIGTERM: what was written stays, and --resume goes on.
        reactor.addSystemEventTrigger("before", "shutdown", interrupted, running)

    def interrupted(running: Deferred[Any]) -> None:
        if not running.called:
            bar.end()
            print("broker: interrupted; the same with --resume goes on", file=sys.stderr)

    reactor.callWhenRunning(begin)
    reactor.run()
    return status


def report(outcome: Outcome, target: str) -> str:
    """A line for each table."""
    lines = [f"{name:<14} {digest.rows:>12,}  {digest.value[:16]}" for name, digest in outcome.tables.items()]
    return "\n".join([*lines, f"{outcome.rows:,} rows copied to {target} and verified in {outcome.seconds:.1f} s"])


if __name__ == "__main__":
    sys.exit(main())
