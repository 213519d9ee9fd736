"""Settings that every listener has, and the limits that all of them share.

A limit's value is found in this order: ``[listeners.<name>.limits]``, then ``[limits]``, then the protocol's own
default. Every limit is listed in `Limits` with the reason why it exists.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Count = Annotated[int, Meta(ge=0)]
Size = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0)]
#: Whether a client is asked for a certificate: not at all; it may have none; it must have one.
ClientCertificates = Literal["off", "optional", "required"]


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of one listener. Counts of 0 mean "no limit" where the text says so."""

    #: Open connections of this listener: file descriptors and memory are finite.
    max_connections: Size = 20_000
    #: Open connections from one address: one faulty site must not take all places.
    max_connections_per_address: Size = 500
    #: Loopback is the operator's own side: tests, proxies and demos come from there.
    exempt_loopback: bool = True
    #: Seconds until a connection must have proven who it is: the silent ones hold descriptors.
    auth_timeout: Seconds = 30.0
    #: Bytes of one message (line, packet, frame), checked before it is buffered.
    max_message_size: Size = 131_072
    #: Messages a second that one connection may send on average; 0 for no limit. Over it, reading is paused.
    max_message_rate: Count = 5_000
    #: Messages that may come at once before the rate counts.
    message_burst: Size = 10_000
    #: Bytes that may wait for a peer before best-effort messages are dropped.
    max_outbox: Size = 1_048_576
    #: Seconds that a peer may read nothing while something waits for it: then it is closed as a slow reader.
    slow_reader_timeout: Seconds = 60.0
    #: Failed logins of one address in `failed_login_window` before its next failures are answered later and later:
    #: guessing must not be cheap. An IPv6 address counts as its /64.
    max_failed_logins: Size = 10
    #: Seconds in which so many failed logins of an address are forgotten.
    failed_login_window: Seconds = 60.0
    #: The longest that the answer to a failed login is held back.
    max_login_delay: Seconds = 15.0
    #: Failed logins of one address, not forgotten yet, at which nobody from there is heard until some are: this stops
    #: those who do not wait for their answers. 0: never. It must be more than `max_failed_logins`.
    lockout_failed_logins: Count = 100
    #: Seconds that a closing peer has to take our last words before the connection is cut.
    close_timeout: Seconds = 5.0

    def __post_init__(self) -> None:
        if 0 < self.lockout_failed_logins <= self.max_failed_logins:
            raise ValueError(
                f"lockout_failed_logins must be 0, or more than max_failed_logins ({self.max_failed_logins})"
            )


class ListenerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The part of a ``[listeners.<name>]`` table that every protocol has. Protocols derive their own from it.

    A protocol with other defaults for limits redefines ``limits`` in its own settings; the configuration loader lays
    ``[limits]`` and then the listener's own ``limits`` table over that default.
    """

    #: Where to listen: ``tcp:PORT``, ``tls:PORT``, ``ws:PORT``, ``wss:PORT``, ``udp:PORT``, each with
    #: ``:interface=ADDRESS``, or any Twisted server endpoint string. Empty: switched off.
    bind: tuple[str, ...] = ()
    #: On ``tls:`` and ``wss:`` bindings: off, optional or required. They are checked against ``tls.client_ca``.
    client_certificates: ClientCertificates = "off"
    #: Every connection has to begin with a PROXY header (HAProxy's, version 1 or 2), which says where it comes from.
    proxy_protocol: bool = False
    #: With `proxy_protocol`: the addresses and networks that may say so. Connections from elsewhere are refused.
    proxy_from: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    limits: Limits = Limits()


class WebSocketSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table ``[listeners.<name>.websocket]`` of protocols that can be spoken over WebSocket."""

    #: Paths that are served; others are answered with 404.
    paths: tuple[str, ...] = ("/mqtt", "/")
    #: Pages that may connect, as browsers name them (``https://console.example``); empty: all. Programs that are not
    #: browsers name none and are let in, so this protects users of a browser and not the broker.
    origins: tuple[str, ...] = ()
    #: Bytes of the request that opens a WebSocket: browsers send all their cookies with it.
    max_handshake_size: Size = 16_384
