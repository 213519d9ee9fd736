"""The table ``[listeners.nats]``. Nobody connects to us, so there is nothing to bind."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from broker.extension import ListenerSettings, Seconds, Size

Kind = Literal["data", "status", "event", "log", "raw"]


class Settings(ListenerSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What can be configured."""

    #: ``nats://HOST:4222`` or ``tls://HOST:4222``, one or several of a cluster. None: nothing is published.
    servers: tuple[str, ...] = ()
    #: What all subjects begin with.
    subject: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$")] = "broker"
    #: Who we are there: a user with a password, a token, or a file that `nsc` made. Empty: nobody.
    user: str = ""
    password: str = ""
    token: str = ""
    credentials_file: str = ""
    #: Which uplinks are published, and whether the other two are.
    kinds: tuple[Kind, ...] = ("data", "status", "event", "log", "raw")
    presence: bool = True
    commands: bool = True
    #: Only devices of these protocols; none: of all.
    protocols: tuple[str, ...] = ()
    #: Messages that wait while the servers are away or slow. Past this the oldest are dropped, counted.
    max_waiting: Size = 10_000
    #: Messages that are handed over at once and kept until the server has said that it has them.
    batch: Size = 500
    #: Seconds for a server to say so, and for a connection.
    timeout: Seconds = 5.0
    #: Seconds between two attempts to connect.
    reconnect_wait: Seconds = 2.0
    #: Seconds that the broker waits at its stop for what is not yet published.
    drain_timeout: Seconds = 5.0

    def __post_init__(self) -> None:
        if bool(self.user) != bool(self.password):
            raise ValueError("user and password need one another")
        if sum(map(bool, (self.user, self.token, self.credentials_file))) > 1:
            raise ValueError("one of user, token and credentials_file is enough")
        for server in self.servers:
            if not server.startswith(("nats://", "tls://")):
                raise ValueError("servers begin with nats:// or tls://")
            if "@" in server:
                raise ValueError("who we are is said by user and password, not within servers")

    def __repr__(self) -> str:
        """Without secrets."""
        return f"<Settings of {self.subject} at {', '.join(self.servers) or 'no server'}>"
