"""Where a Redis is: the URL of ``storage.url`` and the table ``[redis]``, checked and put together. Pure.

::

    redis://[user[:password]@]host[:6379][/db]                          TCP
    rediss://...                                                        TLS, the server's name is verified
    redis+unix://[user[:password]@]/path/to/socket[?db=N]               a socket of this machine
    redis+sentinel://[user[:password]@]host[:26379],host,.../service[/db]     the master that Sentinel knows of
    rediss+sentinel://...                                               likewise, TLS to Sentinel and to the master

User and password may be percent-encoded. ``redis://:password@host`` has no user name: that is Redis's ``default``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

PORT: Final = 6379
SENTINEL_PORT: Final = 26379
SCHEMES: Final = ("redis", "rediss", "redis+unix", "redis+sentinel", "rediss+sentinel")
FORMS: Final = (
    "redis://[USER:PASSWORD@]HOST[:PORT][/DB], rediss:// (TLS), redis+unix:///PATH[?db=DB] or"
    " redis+sentinel://HOST[:PORT],HOST.../SERVICE[/DB]"
)

_HOST: Final = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\[\]:@/,\s]+)(:(?P<port>[0-9]{1,5}))?")
_MAX_DB: Final = 9_999


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisAddress:
    """``hosts``: the server, or the Sentinels where ``service`` names what they look after. ``path``: of the socket."""

    hosts: tuple[tuple[str, int], ...] = ()
    path: str = ""
    service: str = ""
    tls: bool = False
    db: int = 0
    username: str = ""
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        """For people: without user and password."""
        if self.path:
            return f"{self.path} (database {self.db})"
        hosts = ", ".join(f"{host}:{port}" for host, port in self.hosts)
        if self.service:
            return f"{self.service} of the Sentinels {hosts} (database {self.db})"
        return f"{hosts} (database {self.db})"


def is_redis(url: str) -> bool:
    """Whether the URL means Redis, be it a right one or not."""
    return url.partition(":")[0] in SCHEMES


def parse_address(url: str) -> RedisAddress:
    """Raises ValueError; its text says what is allowed and holds nothing of the URL."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError(f"must be {FORMS}") from None
    if parts.scheme not in SCHEMES or not url.startswith(f"{parts.scheme}://") or parts.fragment:
        raise ValueError(f"must be {FORMS}")
    user_info, _, hosts = parts.netloc.rpartition("@")
    username, _, password = user_info.partition(":")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if options.keys() - {"db"} or (parts.query and not options):
        raise ValueError("has options that are not known: db is the only one")
    tail = [unquote(step) for step in parts.path.split("/")[1:] if step]
    path = service = ""
    if parts.scheme == "redis+unix":
        path, tail = unquote(parts.path), []
        if hosts or len(path) < 2 or path.endswith("/"):
            raise ValueError("must name the socket by its whole path: redis+unix:///PATH")
    elif parts.scheme.endswith("sentinel"):
        if not tail:
            raise ValueError("must name the service that the Sentinels look after: redis+sentinel://HOST:PORT/SERVICE")
        service, *tail = tail
    if len(tail) > 1 or (tail and "db" in options):
        raise ValueError(f"must be {FORMS}")
    return RedisAddress(
        hosts=() if path else _hosts(hosts, bool(service)),
        path=path,
        service=service,
        tls=parts.scheme.startswith("rediss"),
        db=_database((tail or [options.get("db", "0")])[0]),
        username=unquote(username),
        password=unquote(password),
    )


def _hosts(text: str, several: bool) -> tuple[tuple[str, int], ...]:
    found = []
    for one in text.split(",") if several else [text]:
        match = _HOST.fullmatch(one)
        if match is None:
            raise ValueError(f"must name a host: {FORMS}")
        port = int(match["port"] or (SENTINEL_PORT if several else PORT))
        if not 0 < port < 65536:
            raise ValueError("must have a port from 1 to 65535")
        found.append((match["host"].strip("[]"), port))
    return tuple(found)


def _database(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 6 and int(text) <= _MAX_DB):
        raise ValueError("must have the number of a database behind the last slash")
    return int(text)
