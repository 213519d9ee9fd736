"""The table ``[redis]``: how the broker speaks to the Redis that ``storage.url`` names."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from broker.model.discreet import Discreet

Seconds = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]
#: It stands in front of every key, and before a colon.
Prefix = Annotated[str, Meta(pattern="^[A-Za-z0-9._-]{1,64}$")]


class RedisTable(Discreet, msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Only read where ``storage.url`` names a Redis."""

    #: What all keys begin with: brokers that have nothing to do with one another may share a Redis.
    prefix: Prefix = "broker"
    #: Where the URL has none. Empty: Redis's user ``default``.
    username: str = ""
    password: str = ""
    #: PEM file of the authorities behind the server's certificate; empty: the system's.
    ca: str = ""
    #: PEM files of the certificate that the server is shown, and its key.
    certificate: str = ""
    private_key: str = ""
    #: Of the Sentinels, where they want a log-in. The user name may stay empty.
    sentinel_username: str = ""
    sentinel_password: str = ""
    #: Seconds for one attempt to connect, and for the first connection at the start.
    connect_timeout: Seconds = 10.0
    #: Seconds in which Redis has to answer; after that the connection counts as dead.
    reply_timeout: Seconds = 10.0
    #: Seconds of silence after which Redis is asked whether it is there.
    keep_alive: Seconds = 5.0
    #: Seconds before the second attempt to reconnect; more with each, at random, up to the longest.
    retry_first: Seconds = 0.2
    retry_longest: Seconds = 5.0
    #: Seconds that a change may wait for the connection to come back when it broke before Redis had answered.
    doubt_timeout: Annotated[float, Meta(ge=0)] = 5.0
    #: Commands that one connection may have under way.
    max_outstanding: Count = 10_000
