"""``demo``: a whole broker with devices and applications."""

from __future__ import annotations

from typing import Any

from broker.simulate import demo
from broker.simulate.running import say


def add(several: Any) -> None:
    parser = several.add_parser(
        "demo",
        help="the broker with a small fleet and three applications, a line for each message",
        description="Starts `twistd -n broker` with its defaults, and lets five NovaCloud devices and three "
        "applications talk through it until Ctrl-C. Settings come from BROKER__<TABLE>__<KEY> variables.",
    )
    parser.set_defaults(run=lambda reactor, arguments: demo.main(reactor, say))
