"""What the broker of the demo is configured with, and where it can be reached from here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from broker.config import Config, ConfigError, load
from broker.listening.binding import Bind, BindError, parse_bind, reserve
from broker.tap import found_protocols, load_sides

#: Settings that are not the broker's defaults, because a demo is short: seconds between two backups of a gateway.
DEMO_SETTINGS: Final = {"BROKER__LISTENERS__GATEWAY88__BACKUP_EVERY": "600"}


class DemoError(Exception):
    """The demo cannot run; the text is one line."""


def surroundings() -> dict[str, str]:
    """The environment in which the broker runs: ours, which goes before what the demo would like."""
    return {**DEMO_SETTINGS, **os.environ}


def configuration(environment: Mapping[str, str]) -> Config:
    """What the broker will be configured with. Raises DemoError."""
    try:
        return load(None, dict(environment), load_sides(found_protocols()))
    except ConfigError as error:
        raise DemoError(str(error)) from None


def check_ports(config: Config) -> None:
    """Raises DemoError when somebody else listens where the broker wants to."""
    for name, settings in config.listeners.items():
        for bind in settings.bind:
            try:
                reserve(name, parse_bind(bind), None, None).release()
            except BindError as error:
                raise DemoError(str(error)) from None


def place_of(config: Config, listener: str, kind: str = "tcp") -> tuple[str, int]:
    """Host and port of a listener's first binding of this kind, to connect to from here. Raises DemoError."""
    for bind in map(parse_bind, config.listeners[listener].bind):
        if bind.kind == kind and bind.port:
            return reachable(bind), bind.port
    raise DemoError(f"the demo needs listeners.{listener}.bind to have a {kind}:PORT")


def reachable(bind: Bind) -> str:
    """An address of this machine that such a binding listens on."""
    return "127.0.0.1" if bind.interface in ("", "0.0.0.0", "::") else bind.interface


def url_of(place: tuple[str, int]) -> str:
    host, port = place
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
